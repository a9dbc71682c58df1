//! `pupilla train`: good images in, a model file out.

mod embedding;
mod reconstruction;
mod student_teacher;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pupilla::Config as _;
use pupilla::backbone::WeightSource;
use pupilla::{
    BackboneExtractor, Checkpoints, DetectorConfig, DetectorKind, ExtractorError, Family,
    FileManifest, FileSettings, Model, PreparedImages, TrainError, UnfinishedRun,
};
use pupilla_core::data::Dataset;
use pupilla_core::data::image_source::Listed;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::RejectRate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::data_set;
use crate::options::Train;
use crate::output::{self, Usage, Weights};
use crate::progress::Progress;

pub fn run(train: &Train, progress: &mut Progress) -> anyhow::Result<()> {
    let json = train.json.file();
    output::check_json(json)?;
    output::distinct("--json and --out", json, train.out.as_deref())?;
    if train.out.is_none() && !train.run.dry_run {
        let text = "--out FILE is missing: the model file to write".to_owned();
        return Err(Usage(text).into());
    }
    match (trained(train, None, progress)?, &train.out) {
        (Outcome::Plan(plan), _) => json.map_or(Ok(()), |target| output::json(target, &plan)),
        (Outcome::Model(model), Some(out)) => print(&model, out, json),
        // Without --out, nothing is trained here.
        (Outcome::Model(_), None) => Ok(()),
    }
}

/// What comes of the command.
#[derive(Debug)]
pub enum Outcome {
    /// Steps, time and memory: nothing was trained.
    Plan(Value),
    /// The trained model, which is in the file of `--out`, if there is one.
    Model(Box<Model>),
}

/// Where the images come from.
enum Source {
    Listed(Listed),
    Dataset(Box<Dataset>),
}

/// Trains on a list of images, or else on the data set of the options.
pub fn trained(
    train: &Train,
    listed: Option<Listed>,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let config = config(train)?;
    let json = train.json.file();
    if train.run.resume && train.out.is_none() {
        let text = "--resume goes on with the checkpoint of --out: give --out too".to_owned();
        return Err(Usage(text).into());
    }
    if let Some(option) = &train.chosen_by {
        let (chosen, usual) = (train.detector, DetectorKind::default());
        output::line(
            json,
            format_args!("{chosen}, because of {option} (the default is {usual})"),
        )?;
    }
    let source = match listed {
        Some(listed) => Source::Listed(listed),
        None => {
            let dataset = data_set::open(&train.data, &train.layout, progress)?;
            Source::Dataset(Box::new(dataset))
        }
    };
    if let Some(out) = train.out.as_ref().filter(|_| !train.run.dry_run) {
        let checkpoint = checkpoint_of(out);
        let goes_on = train.run.resume && checkpoint.exists();
        output::check_weights(out, Weights::Model, train.replacing.force || goes_on)?;
        if !train.run.resume {
            tell_of_checkpoint(&checkpoint, progress);
        }
    }
    let settings = FileSettings {
        read: train.decoding.settings(),
        skip_unreadable: train.unreadable.skip,
    };
    let seed = train.seed.value;
    let images = match source {
        Source::Listed(listed) => PreparedImages::of_list(listed, seed, &settings, progress)?,
        Source::Dataset(dataset) => PreparedImages::open(&dataset, seed, &settings, progress)?,
    };
    let outcome = fit(&config, &images, train, progress)?;
    let (Outcome::Model(model), Some(out)) = (&outcome, &train.out) else {
        return Ok(outcome);
    };
    model.save(out)?;
    // Only these detectors write checkpoints: another file of that name is not ours.
    if let DetectorConfig::StudentTeacher(_) | DetectorConfig::Reconstruction(_) = config {
        let checkpoints = checkpoints(train, out);
        let path = checkpoints.path.display();
        checkpoints
            .remove()
            .with_context(|| format!("cannot remove {path}"))?;
    }
    Ok(outcome)
}

fn config(train: &Train) -> anyhow::Result<DetectorConfig> {
    match train.detector.family() {
        Family::StudentTeacher => {
            student_teacher::config(train).map(DetectorConfig::StudentTeacher)
        }
        Family::Embedding => Ok(DetectorConfig::Embedding(Box::new(embedding::config(
            train,
        )?))),
        Family::Reconstruction => reconstruction::config(train).map(DetectorConfig::Reconstruction),
    }
}

fn fit(
    config: &DetectorConfig,
    images: &PreparedImages,
    train: &Train,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let (training, validation) = (images.training(), images.validation());
    let data = &images.data().fingerprint;
    match config {
        DetectorConfig::StudentTeacher(config) => {
            let config = config.check()?;
            in_steps(
                train,
                progress,
                |progress| config.plan(training, validation, progress),
                student_teacher::print_plan,
                |kept, progress| images.fit(&config.with_checkpoints(kept, data), progress),
            )
        }
        DetectorConfig::Embedding(config) => {
            let detector = images.fit(&config.check()?, progress)?;
            Ok(Outcome::Model(Box::new(detector.into())))
        }
        DetectorConfig::Reconstruction(config) => {
            let config = config.check()?;
            in_steps(
                train,
                progress,
                |progress| config.plan(training, validation, progress),
                reconstruction::print_plan,
                |kept, progress| images.fit(&config.with_checkpoints(kept, data), progress),
            )
        }
    }
}

/// The share of good parts that a person usually accepts as defective, for a hint.
const USUAL_RATE: f64 = 0.01;

fn print(model: &Model, out: &Path, json: Option<&Path>) -> anyhow::Result<()> {
    let manifest = model.manifest();
    match &manifest {
        FileManifest::StudentTeacher(manifest) => student_teacher::print_scales(manifest, json)?,
        FileManifest::Embedding(manifest) => embedding::print_fitted(manifest, json)?,
        FileManifest::Reconstruction(manifest) => reconstruction::print_losses(manifest, json)?,
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
    let thresholds = about.calibration.thresholds;
    output::line(json, thresholds.promise())?;
    let usual = RejectRate::new(USUAL_RATE)?;
    if thresholds.image.wanted.is_none() && thresholds.image.bound > USUAL_RATE {
        let needed = usual.images_needed();
        output::line(
            json,
            format_args!(
                "a promise of {usual} takes {needed} good images that are not learned: `pupilla calibrate`"
            ),
        )?;
    }
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

/// Says that a checkpoint lies where a run begins that does not continue from it.
pub fn tell_of_checkpoint(path: &Path, progress: &mut Progress) {
    let Some(run) = UnfinishedRun::find(path) else {
        return;
    };
    progress.warn(&format!(
        "{} holds a stopped run ({run}): the command of that run with --resume goes on with it; this run begins anew, and may replace it",
        path.display()
    ));
}

fn checkpoints(train: &Train, out: &Path) -> Checkpoints {
    Checkpoints {
        path: checkpoint_of(out),
        every: train.run.checkpoint_every.get(),
        resume: train.run.resume,
    }
}

/// Prints the plan, unless the run continues from a checkpoint; then trains, except with `--dry-run`.
fn in_steps<P: Serialize, D: Into<Model>>(
    train: &Train,
    progress: &mut Progress,
    plan: impl FnOnce(&mut Progress) -> Result<P, TrainError>,
    print: impl FnOnce(&P, Option<&Path>) -> anyhow::Result<()>,
    fit: impl FnOnce(Option<&Checkpoints>, &mut Progress) -> Result<D, TrainError>,
) -> anyhow::Result<Outcome> {
    let json = train.json.file();
    let checkpoints = train.out.as_ref().map(|out| checkpoints(train, out));
    let goes_on = |kept: &Checkpoints| kept.resume && kept.path.exists();
    if train.run.dry_run || !checkpoints.as_ref().is_some_and(goes_on) {
        let plan = plan(progress)?;
        print(&plan, json)?;
        if train.run.dry_run {
            return Ok(Outcome::Plan(serde_json::to_value(&plan)?));
        }
    }
    let detector = fit(checkpoints.as_ref(), progress)?;
    Ok(Outcome::Model(Box::new(detector.into())))
}

/// A pretrained network, with the maps that were asked for.
fn pretrained(weights: &WeightSource, train: &Train) -> Result<BackboneExtractor, ExtractorError> {
    let given = &train.patches;
    let outputs = given.backbone_outputs.clone();
    let zoom = given.backbone_zoom.unwrap_or(1).into();
    let network = BackboneExtractor::load(weights.clone(), outputs, zoom)?;
    let stride = given.backbone_stride.map(usize::from);
    Ok(match stride.and_then(NonZeroUsize::new) {
        Some(stride) => network.with_stride(stride),
        None => network,
    })
}

/// Refuses the options of a pretrained network where a teacher gives the features; `option` chooses a pretrained network.
fn no_maps(train: &Train, option: &str) -> Result<(), Usage> {
    let given = &train.patches;
    let names = [
        ("--backbone-outputs", given.backbone_outputs.is_some()),
        ("--backbone-zoom", given.backbone_zoom.is_some()),
        ("--backbone-stride", given.backbone_stride.is_some()),
    ];
    let Some((name, _)) = names.into_iter().find(|(_, given)| *given) else {
        return Ok(());
    };
    Err(Usage(format!(
        "{name} belongs to a pretrained network, not to a teacher: give {option} too, or leave it out"
    )))
}

/// A setting that was given replaces its default.
fn take<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

/// Settings of the library, with the values of the command line in place of their defaults. Both have the same names. Numbers are
/// finite, because JSON has no other numbers.
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
