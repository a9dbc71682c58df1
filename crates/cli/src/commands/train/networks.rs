//! What the options say about a network that is trained to reconstruct good images.

use std::path::Path;

use anyhow::Context;
use pupilla::reconstruction::{ReconstructionManifest, ReconstructionPlan};
use pupilla::{
    Config, Manifest, PreparedFiles, ReconstructionConfig, ReconstructionDetector, Trained,
};

use crate::options::Train;
use crate::output;
use crate::progress::Progress;

use super::{begins, checkpoints, length, replaced, take};

/// The detector to be trained, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<ReconstructionConfig> {
    let config = ReconstructionConfig::new(train.detector);
    let mut config = config.context("a detector that is no network of this kind")?;
    let settings = &mut config.settings;
    take(&mut settings.resize, train.resize);
    settings.seed = train.seed.value;
    settings.false_reject = train.rates.wanted();
    take(&mut settings.training.length, length(train));
    take(
        &mut settings.training.learning_rate,
        train.run.learning_rate,
    );
    settings.training = replaced(&settings.training, &train.reconstruction)?;
    settings.method = replaced(&settings.method, &train.reconstruction)?;
    config.check()?;
    Ok(config)
}

/// Says what training will take, and trains unless that was all; `None` then.
pub fn fit(
    config: &ReconstructionConfig,
    files: &PreparedFiles,
    train: &Train,
    progress: &mut Progress,
) -> anyhow::Result<Option<ReconstructionDetector>> {
    let checkpoints = train.out.as_ref().map(|out| checkpoints(train, out));
    let config = config.check()?;
    let plan = || config.plan(files.training(), files.validation());
    if !begins(train, checkpoints.as_ref(), plan, print_plan)? {
        return Ok(None);
    }
    let detector = config.fit_with_checkpoints(
        files.training(),
        files.validation(),
        &files.data().fingerprint,
        checkpoints.as_ref(),
        progress,
    )?;
    Ok(Some(detector.with_data(files.data().clone())))
}

/// What is about to be done, and what it will take.
fn print_plan(plan: &ReconstructionPlan, json: Option<&Path>) -> anyhow::Result<()> {
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
