//! What the options say about a detector that compares features.

use std::path::Path;

use anyhow::{Context, bail};
use pupilla::feature_detectors::{
    Describer, FeatureDetectorConfig, FeatureManifest, FittedManifest, Method,
};
use pupilla::receptive_field::ReceptiveField;
use pupilla::student_teacher::BackboneTeacher;
use pupilla::teacher::Teacher;

use crate::arguments::{FeatureOptions, Train};
use crate::output::{self, Usage};

use super::{take, wanted_rates};

/// The detector to be fitted, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<FeatureDetectorConfig> {
    let config = FeatureDetectorConfig::new(train.detector, describer(train)?);
    let mut config = config.context("a detector that does not compare features")?;
    let settings = &mut config.settings;
    take(&mut settings.resize, train.resize);
    take(&mut settings.border, train.border);
    settings.seed = train.seed;
    settings.false_reject = wanted_rates(train);
    take(&mut settings.smoothing, train.features.smoothing);
    take_all(&mut settings.method, &train.features);
    config.check()?;
    Ok(config)
}

fn take_all(method: &mut Method, given: &FeatureOptions) {
    match method {
        Method::NearestNeighbour {
            sample,
            variance,
            dictionary,
        }
        | Method::KMeans {
            sample,
            variance,
            dictionary,
        } => {
            take(sample, given.sample);
            take(variance, given.variance);
            take(dictionary, given.dictionary);
        }
        Method::OneClassSvm {
            sample,
            variance,
            nu,
            gamma,
        } => {
            take(sample, given.sample);
            take(variance, given.variance);
            take(nu, given.nu);
            take(gamma, given.gamma);
        }
        Method::CnnDictionary {
            sample,
            variance,
            dictionary,
            neighbours,
        } => {
            take(sample, given.sample);
            take(variance, given.variance);
            take(dictionary, given.dictionary);
            take(neighbours, given.neighbours);
        }
        Method::MemoryBank {
            sample,
            coreset,
            projection,
        } => {
            take(sample, given.sample);
            take(coreset, given.coreset);
            take(projection, given.projection);
        }
        Method::Padim {
            channels,
            regularisation,
        } => {
            take(channels, given.channels);
            take(regularisation, given.regularisation);
        }
    }
}

/// The pretrained network, the teacher of a file, or the built-in one.
fn describer(train: &Train) -> anyhow::Result<Describer> {
    if let Some(weights) = &train.features.backbone {
        let zoom = usize::from(train.backbone_zoom.unwrap_or(1));
        let teacher = BackboneTeacher::load(weights, train.backbone_outputs.clone(), zoom)?;
        return Ok(Describer::Backbone(teacher));
    }
    let given = train.scales.as_deref();
    let [field] = given.unwrap_or(&[ReceptiveField::P33])[..] else {
        let text = format!(
            "--detector {} looks at one patch size: give one of --scales",
            train.detector
        );
        return Err(Usage(text).into());
    };
    let teacher = match &train.teachers[..] {
        [] => Teacher::built_in(field)?,
        [path] => {
            let teacher = Teacher::load(path)?;
            let own = teacher.receptive_field();
            if train.scales.is_some() && own != field {
                bail!(
                    "{} is a teacher for p = {own}, not {field}: give --scales {own}, or leave it out",
                    path.display()
                );
            }
            teacher
        }
        _ => {
            let text = format!("--detector {} has one teacher: give one", train.detector);
            return Err(Usage(text).into());
        }
    };
    Ok(Describer::PatchNetwork(Box::new(teacher)))
}

/// What the detector keeps.
pub fn print_fitted(manifest: &FeatureManifest, json: Option<&Path>) -> anyhow::Result<()> {
    let name = &manifest.header.kind;
    let text = match &manifest.fitted {
        FittedManifest::Dictionary {
            components: Some(components),
            words,
        } => {
            format!("{words} entries of {components} components")
        }
        FittedManifest::Dictionary {
            components: None,
            words,
        } => format!("{words} entries"),
        FittedManifest::SupportVectors {
            components,
            vectors,
            ..
        } => {
            format!("{vectors} support vectors of {components} components")
        }
        FittedManifest::Gaussians { channels } => {
            format!("Gaussians of {} features", channels.len())
        }
    };
    output::line(json, format_args!("{name}: {text}"))
}
