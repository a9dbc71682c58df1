//! What the options say about a detector that compares features.

use std::path::Path;

use anyhow::{Context, bail};
use pupilla::BackboneExtractor;
use pupilla::ReceptiveField;
use pupilla::Teacher;
use pupilla::embedding::{EmbeddingManifest, Method};
use pupilla::{Config, Manifest};
use pupilla::{EmbeddingConfig, Extractor};

use crate::arguments::{FeatureOptions, Train};
use crate::output::{self, Usage};

use super::{take, wanted_rates};

/// The detector to be fitted, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<EmbeddingConfig> {
    let config = EmbeddingConfig::new(train.detector, describer(train)?);
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
        Method::NearestNeighbour(of) => {
            take(&mut of.sample, given.sample);
            take(&mut of.variance, given.variance);
            take(&mut of.dictionary, given.dictionary);
        }
        Method::KMeans(of) => {
            take(&mut of.sample, given.sample);
            take(&mut of.variance, given.variance);
            take(&mut of.dictionary, given.dictionary);
        }
        Method::OneClassSvm(of) => {
            take(&mut of.sample, given.sample);
            take(&mut of.variance, given.variance);
            take(&mut of.nu, given.nu);
            take(&mut of.gamma, given.gamma);
        }
        Method::CnnDictionary(of) => {
            take(&mut of.sample, given.sample);
            take(&mut of.variance, given.variance);
            take(&mut of.dictionary, given.dictionary);
            take(&mut of.neighbours, given.neighbours);
        }
        Method::MemoryBank(of) => {
            take(&mut of.sample, given.sample);
            take(&mut of.coreset, given.coreset);
            take(&mut of.projection, given.projection);
        }
        Method::Padim(of) => {
            take(&mut of.channels, given.channels);
            take(&mut of.regularisation, given.regularisation);
        }
    }
}

/// The pretrained network, the teacher of a file, or the built-in one.
fn describer(train: &Train) -> anyhow::Result<Extractor> {
    if let Some(weights) = &train.features.backbone {
        let zoom = usize::from(train.backbone_zoom.unwrap_or(1));
        let teacher = BackboneExtractor::load(weights, train.backbone_outputs.clone(), zoom)?;
        return Ok(teacher.into());
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
    Ok(teacher.into())
}

/// What the detector keeps.
pub fn print_fitted(
    manifest: &Manifest<EmbeddingManifest>,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    let name = &manifest.header.kind;
    let kept = manifest.method.kept_in_words().unwrap_or_default();
    output::line(json, format_args!("{name}: {kept}"))
}
