//! The configuration of a reconstruction detector from the options, and the output of its plan and its result.

use std::path::Path;

use anyhow::Context;
use pupilla::reconstruction::{ReconstructionManifest, ReconstructionPlan};
use pupilla::{Config, Manifest, ReconstructionConfig};

use crate::options::Train;
use crate::output;

use super::{replaced, take};

/// The detector to be trained, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<ReconstructionConfig> {
    let config = ReconstructionConfig::new(train.detector);
    let mut config = config.context("a detector that does not reconstruct images")?;
    let settings = &mut config.settings;
    take(&mut settings.resize, train.resize);
    settings.seed = train.seed.value;
    settings.false_reject = train.rates.wanted();
    take(&mut settings.training.length, train.run.length.wanted());
    take(
        &mut settings.training.learning_rate,
        train.run.learning_rate,
    );
    settings.training = replaced(&settings.training, &train.reconstruction)?;
    settings.method = replaced(&settings.method, &train.reconstruction)?;
    config.check()?;
    Ok(config)
}

/// The plan: steps, images, time and memory.
pub fn print_plan(plan: &ReconstructionPlan, json: Option<&Path>) -> anyhow::Result<()> {
    let memory = plan.memory_bytes.map_or(String::new(), |bytes| {
        format!(" and {} MiB of memory", bytes.div_ceil(1 << 20))
    });
    output::line(
        json,
        format_args!(
            "{} steps of {:.3} s; {} images to learn, {} to calibrate on; about {}{memory}",
            plan.steps,
            plan.seconds_per_step,
            plan.training_images,
            plan.validation_images,
            output::duration(plan.seconds),
        ),
    )
}

/// What became of the networks.
pub fn print_losses(
    manifest: &Manifest<ReconstructionManifest>,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    let losses: Vec<_> = manifest
        .method
        .losses
        .iter()
        .map(|(name, loss)| format!("{name} {loss:.5}"))
        .collect();
    output::line(
        json,
        format_args!(
            "{}: {} steps, {} at the end",
            manifest.header.kind,
            manifest.method.steps,
            losses.join(", ")
        ),
    )
}
