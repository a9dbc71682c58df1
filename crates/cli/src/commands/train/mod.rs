//! `pupilla train`: good images in, a model file out.

mod features;
mod networks;
mod student_teacher;

use std::path::{Path, PathBuf};

use anyhow::Context;
use pupilla::{
    BackboneExtractor, Checkpoints, DetectorKind, EmbeddingConfig, ExtractorError, FileManifest,
    Length, Model, PreparedFiles, ReconstructionConfig, StudentTeacherConfig, TrainError,
};
use pupilla_core::data::Dataset;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::options::Train;
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
    let config = config(train)?;
    let json = train.json.file();
    output::check_json(json)?;
    output::distinct("--json and --out", json, train.out.as_deref())?;
    let dataset = Dataset::open_good(&train.data)?;
    if let Some(out) = train.out.as_ref().filter(|_| !train.run.dry_run) {
        output::check_weights(out, Weights::Model)?;
    }
    let files = PreparedFiles::open(&dataset, train.seed.value, train.unreadable.skip, progress)?;
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
        | DetectorKind::Padim
        | DetectorKind::Mahalanobis => Ok(Config::Features(Box::new(features::config(train)?))),
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
pub fn checkpoint_of(model: &Path) -> PathBuf {
    let mut path = model.as_os_str().to_owned();
    path.push(".checkpoint");
    path.into()
}

fn checkpoints(train: &Train, out: &Path) -> Checkpoints {
    Checkpoints {
        path: checkpoint_of(out),
        every: train.run.checkpoint_every.get(),
        resume: train.run.resume,
    }
}

/// Says what training will take, unless it goes on from a checkpoint; `false` if that was all that was asked for.
fn begins<P: Serialize>(
    train: &Train,
    checkpoints: Option<&Checkpoints>,
    plan: impl FnOnce() -> Result<P, TrainError>,
    print: impl FnOnce(&P, Option<&Path>) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let json = train.json.file();
    let goes_on = checkpoints.is_some_and(|kept| kept.resume && kept.path.exists());
    if goes_on && !train.run.dry_run {
        return Ok(true);
    }
    let plan = plan()?;
    print(&plan, json)?;
    if let Some(target) = json.filter(|_| train.run.dry_run) {
        output::json(target, &plan)?;
    }
    Ok(!train.run.dry_run)
}

/// How long to train, if that was given.
fn length(train: &Train) -> Option<Length> {
    let given = &train.run.length;
    let steps = given.steps.map(|steps| Length::Steps(steps.get()));
    steps.or(given.budget.map(|budget| Length::Budget(budget.0)))
}

/// The pretrained network of a file, with the maps that were asked for.
fn pretrained(weights: &Path, train: &Train) -> Result<BackboneExtractor, ExtractorError> {
    let given = &train.patches;
    BackboneExtractor::load(
        weights,
        given.backbone_outputs.clone(),
        given.backbone_zoom.into(),
    )
}

/// A setting that was given replaces its default.
fn take<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// Settings of the library, those that were given on the command line in place of their defaults: both have the same names.
fn replaced<S: Serialize + DeserializeOwned>(
    settings: &S,
    given: &impl Serialize,
) -> anyhow::Result<S> {
    let mut settings = serde_json::to_value(settings)?;
    if let Value::Object(given) = serde_json::to_value(given)? {
        for (name, given) in given.into_iter().filter(|(_, given)| !given.is_null()) {
            if let Some(setting) = settings.get_mut(&name) {
                *setting = given;
            }
        }
    }
    Ok(serde_json::from_value(settings)?)
}
