//! What the options say about a network that is trained to make good images again.

use std::path::Path;

use anyhow::Context;
use pupilla::Length;
use pupilla::PreparedFiles;
use pupilla::Trained;
use pupilla::reconstruction::{Method, ReconstructionManifest, ReconstructionPlan};
use pupilla::{Config, Manifest};
use pupilla::{ReconstructionConfig, ReconstructionDetector};

use crate::arguments::Train;
use crate::output;
use crate::progress::Progress;

use super::{begins, checkpoints, take, wanted_rates};

/// The detector to be trained, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<ReconstructionConfig> {
    let config = ReconstructionConfig::new(train.detector);
    let mut config = config.context("a detector that is no network of this kind")?;
    let settings = &mut config.settings;
    take(&mut settings.resize, train.resize);
    settings.seed = train.seed;
    settings.false_reject = wanted_rates(train);
    match (train.steps, train.budget) {
        (Some(steps), _) => settings.training.length = Length::Steps(steps.get()),
        (None, Some(budget)) => settings.training.length = Length::Budget(budget.0),
        (None, None) => {}
    }
    let given = &train.networks;
    take(&mut settings.training.batch, given.batch);
    take(&mut settings.training.learning_rate, train.learning_rate);
    match &mut settings.method {
        Method::SquaredErrorAutoencoder(of) => take(&mut of.latent, given.latent),
        Method::SimilarityAutoencoder(of) => take(&mut of.latent, given.latent),
        Method::VariationalAutoencoder(of) => {
            take(&mut of.latent, given.latent);
            take(&mut of.kl_weight, given.kl_weight);
        }
        Method::AnoGan(of) => {
            take(&mut of.latent, given.latent);
            take(&mut of.search_steps, given.search_steps);
            take(&mut of.search_rate, given.search_rate);
            take(&mut of.feature_weight, given.feature_weight);
        }
    }
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
