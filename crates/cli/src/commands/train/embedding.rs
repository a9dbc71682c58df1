//! The configuration of an embedding detector from the options, and the output of its result.

use std::path::Path;

use anyhow::{Context, bail};
use pupilla::backbone::WeightSource;
use pupilla::embedding::EmbeddingManifest;
use pupilla::{Config, EmbeddingConfig, Extractor, Manifest, Teacher};

use crate::options::{Train, on_backbones};
use crate::output::{self, Usage};

use super::{no_maps, pretrained, replaced, take};

/// The detector to be fitted, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<EmbeddingConfig> {
    let config = EmbeddingConfig::new(train.detector, extractor(train)?);
    let mut config = config.context("a detector that does not compare features")?;
    let settings = &mut config.settings;
    take(&mut settings.resize, train.resize);
    settings.border = train.patches.border;
    settings.seed = train.seed.value;
    settings.false_reject = train.rates.wanted();
    take(&mut settings.smoothing, train.embedding.smoothing);
    settings.method = replaced(&settings.method, &train.embedding)?;
    config.check()?;
    Ok(config)
}

/// A pretrained network, or a teacher.
fn extractor(train: &Train) -> anyhow::Result<Extractor> {
    let given = train.patches.scales.as_deref();
    let teacher_wanted = given.is_some() || !train.patches.teachers.is_empty();
    let weights = train.embedding.pretrained.backbone.as_ref();
    let built_in = Some(&WeightSource::BuiltIn);
    if let Some(weights) =
        weights.or(built_in.filter(|_| on_backbones(train.detector) && !teacher_wanted))
    {
        return Ok(pretrained(weights, train)?.into());
    }
    no_maps(train, "--backbone")?;
    let [field] = given.unwrap_or(&[EmbeddingConfig::SCALE])[..] else {
        let text = format!(
            "--detector {} looks at one patch size: give one of --scales",
            train.detector
        );
        return Err(Usage(text).into());
    };
    let teacher = match &train.patches.teachers[..] {
        [] => Teacher::built_in(field)?,
        [path] => {
            let teacher = Teacher::load(path)?;
            let own = teacher.receptive_field();
            if given.is_some() && own != field {
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
