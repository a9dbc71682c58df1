//! `pupilla train`: good images in, a model file out.

mod belonging;
mod features;
mod networks;
mod student_teacher;

use std::path::Path;

use anyhow::Context;
use pupilla::Checkpoints;
use pupilla::DetectorKind;
use pupilla::EmbeddingConfig;
use pupilla::FileManifest;
use pupilla::Model;
use pupilla::PreparedFiles;
use pupilla::ReconstructionConfig;
use pupilla::StudentTeacherConfig;
use pupilla::TrainError;
use pupilla_core::data::Dataset;
use pupilla_core::verdict::calibration::WantedRates;
use serde::Serialize;

use crate::arguments::Train;
use crate::output::{self, Weights};
use crate::progress::Progress;

pub use student_teacher::usual_scales;

/// A detector to be trained, its settings checked.
enum Config {
    StudentTeacher(StudentTeacherConfig),
    Features(Box<EmbeddingConfig>),
    Network(ReconstructionConfig),
}

pub fn run(train: &Train, progress: &mut Progress) -> anyhow::Result<()> {
    belonging::check(train)?;
    let config = config(train)?;
    let json = train.json.as_deref();
    output::check_json(json)?;
    output::distinct("--json and --out", json, train.out.as_deref())?;
    let dataset = Dataset::open_good(&train.data)?;
    if let Some(out) = train.out.as_ref().filter(|_| !train.dry_run) {
        output::check_weights(out, Weights::Model)?;
    }
    let files = PreparedFiles::open(&dataset, train.seed, train.skip_unreadable, progress)?;
    let Some(model) = fit(&config, &files, train, progress)? else {
        return Ok(());
    };
    // Without --out, which --dry-run alone allows, nothing has been trained.
    let Some(out) = &train.out else {
        return Ok(());
    };
    model.save(out)?;
    // Another detector's file of that name is not its own.
    if let Config::StudentTeacher(_) | Config::Network(_) = config {
        let checkpoints = checkpoints(train, out);
        let path = checkpoints.path.display();
        checkpoints
            .remove()
            .with_context(|| format!("cannot remove {path}"))?;
    }
    print(&model, out, json)
}

fn config(train: &Train) -> anyhow::Result<Config> {
    match train.detector {
        DetectorKind::StudentTeacher => student_teacher::config(train).map(Config::StudentTeacher),
        DetectorKind::NearestNeighbour
        | DetectorKind::OneClassSvm
        | DetectorKind::KMeans
        | DetectorKind::CnnDictionary
        | DetectorKind::MemoryBank
        | DetectorKind::Padim => Ok(Config::Features(Box::new(features::config(train)?))),
        DetectorKind::SquaredErrorAutoencoder
        | DetectorKind::SimilarityAutoencoder
        | DetectorKind::VariationalAutoencoder
        | DetectorKind::AnoGan => networks::config(train).map(Config::Network),
    }
}

/// The trained model; `None` if only a plan was wanted.
fn fit(
    config: &Config,
    files: &PreparedFiles,
    train: &Train,
    progress: &mut Progress,
) -> anyhow::Result<Option<Model>> {
    match config {
        Config::StudentTeacher(config) => {
            let detector = student_teacher::fit(config, files, train, progress)?;
            Ok(detector.map(Model::from))
        }
        Config::Features(config) => Ok(Some(files.fit(&**config, progress)?.into())),
        Config::Network(config) => {
            let detector = networks::fit(config, files, train, progress)?;
            Ok(detector.map(Model::from))
        }
    }
}

fn print(model: &Model, out: &Path, json: Option<&Path>) -> anyhow::Result<()> {
    let manifest = model.manifest();
    match &manifest {
        FileManifest::StudentTeacher(manifest) => student_teacher::print_scales(manifest, json)?,
        FileManifest::Embedding(manifest) => features::print_fitted(manifest, json)?,
        FileManifest::Reconstruction(manifest) => networks::print_losses(manifest, json)?,
        FileManifest::Teacher(_) => {}
    }
    let about = model.about();
    output::line(
        json,
        format_args!(
            "{} good images learned, {} kept back for validation (highest score {:.3}, threshold {:.3})",
            about.training_images,
            about.validation.scores.len(),
            about.validation.threshold,
            about.calibration.thresholds.image.value
        ),
    )?;
    output::line(json, format_args!("wrote {}", out.display()))?;
    if let Some(target) = json {
        output::json(target, &manifest)?;
    }
    Ok(())
}

/// Beside the model, so that they are on the same disk.
fn checkpoints(train: &Train, out: &Path) -> Checkpoints {
    let mut path = out.as_os_str().to_owned();
    path.push(".checkpoint");
    Checkpoints {
        path: path.into(),
        every: train.checkpoint_every.map_or(200, |every| every.get()),
        resume: train.resume,
    }
}

/// Says what training will take, unless it goes on from a checkpoint; `false` if that was all that was asked for.
fn begins<P: Serialize>(
    train: &Train,
    checkpoints: Option<&Checkpoints>,
    plan: impl FnOnce() -> Result<P, TrainError>,
    print: impl FnOnce(&P, Option<&Path>) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let json = train.json.as_deref();
    let goes_on = checkpoints.is_some_and(|kept| kept.resume && kept.path.exists());
    if goes_on && !train.dry_run {
        return Ok(true);
    }
    let plan = plan()?;
    print(&plan, json)?;
    if let Some(target) = json.filter(|_| train.dry_run) {
        output::json(target, &plan)?;
    }
    Ok(!train.dry_run)
}

/// A setting that was given replaces its default.
fn take<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

fn wanted_rates(train: &Train) -> WantedRates {
    WantedRates {
        images: train.rates.false_reject,
        pixels: train.rates.pixel_false_reject,
    }
}
