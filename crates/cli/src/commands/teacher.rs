//! `pupilla teacher`: natural images (and a pretrained network) in, a teacher file out; and the report of a teacher.

use std::path::{Path, PathBuf};

use anyhow::Context;
use pupilla::backbone::{Backbone, DenseFeatures, WeightSource};
use pupilla::teacher::{
    self, Compactness, Distillation, DistillationError, HeldOut, Provenance, TeacherConfig,
    TeacherManifest, TrainedTeacher,
};
use pupilla::{Checkpoints, Teacher};
use pupilla_core::data::image_source::{FileSettings, ImageSet, ImageSource};
use pupilla_core::data::{fingerprint, images_in};
use pupilla_core::map::heatmap::write_png;
use pupilla_core::observer::Observer;
use pupilla_core::report::patch_sheet::{self, PatchSheet};
use serde::Serialize;

use crate::commands::train::tell_of_checkpoint;
use crate::data_set;
use crate::options::{Form, TeacherReport, TeacherTrain};
use crate::output::{self, Usage, Weights};
use crate::progress::Progress;
use crate::training_log::TrainingLog;

/// What a PNG begins with.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Triplets take two images.
const FEWEST_HELD_OUT: usize = 2;

pub fn train(train: &TeacherTrain, progress: &mut Progress) -> anyhow::Result<()> {
    let source = source(train);
    let backbone = source.map(WeightSource::load).transpose()?;
    let configs = configs(train, backbone.as_deref())?;
    for config in &configs {
        config.check()?;
        if train.losses.signed_compactness && config.compactness_weight == 0.0 {
            let text = "--signed-compactness belongs to --compactness-weight above 0";
            return Err(Usage(text.to_string()).into());
        }
    }
    check_distinct(&train.distillation.temperature)?;
    let out = Some(train.out.as_path());
    output::distinct("--log and --out", train.log.as_deref(), out)?;
    output::distinct("--json and --out", train.json.file(), out)?;
    output::distinct("--json and --log", train.json.file(), train.log.as_deref())?;
    for config in &configs {
        let checkpoint = checkpoints(train, config, configs.len()).path;
        output::distinct(
            "--log and the checkpoint",
            train.log.as_deref(),
            Some(&checkpoint),
        )?;
    }
    output::check_json(train.json.file())?;
    let paths = photographs(&train.images, progress)?;
    let kept = configs
        .iter()
        .map(|config| checkpoints(train, config, configs.len()).path);
    let kept: Vec<_> = kept.collect();
    let goes_on = train.resume && kept.iter().any(|path| path.exists());
    output::check_weights(
        &train.out,
        Weights::Teacher,
        train.replacing.force || goes_on,
    )?;
    if !train.resume {
        kept.iter()
            .for_each(|path| tell_of_checkpoint(path, progress));
    }
    if let Some(log) = &train.log {
        output::check_alike("--log", log, b"step,", "table of losses")?;
    }
    let files = ImageSet::open(&paths, &file_settings(train.unreadable.skip), progress)?;
    if files.len() < paths.len() {
        progress.warn(&format!(
            "{} of {} images are left out",
            paths.len() - files.len(),
            paths.len()
        ));
    }
    check_held_out(&configs, files.len(), progress)?;
    let provenance = provenance(train, &files)?;
    let json = train.json.file();

    let mut log = TrainingLog::new(progress, train.log.as_deref());
    let mut best: Option<TrainedTeacher> = None;
    let mut finished = Vec::new();
    for config in &configs {
        let checkpoints = checkpoints(train, config, configs.len());
        let trained = teacher::train(
            config,
            &files,
            backbone.as_deref(),
            &provenance,
            Some(&checkpoints),
            &mut log,
        )?;
        log.restart();
        describe(&trained.teacher, json)?;
        finished.push(checkpoints);
        let best_so_far = best.as_ref().map(|best| &best.teacher);
        if best_so_far.is_none_or(|best| agrees_better(&trained.teacher, best)) {
            best = Some(trained);
        }
    }
    let Some(best) = best else {
        unreachable!("there is always a configuration")
    };
    best.teacher.save(&train.out)?;
    log.replace(&best.history)?;
    for checkpoints in finished {
        let path = checkpoints.path.display();
        checkpoints
            .remove()
            .with_context(|| format!("cannot remove {path}"))?;
    }
    output::line(json, format_args!("wrote {}", train.out.display()))?;
    if let Some(target) = json {
        output::json(target, best.teacher.manifest())?;
    }
    Ok(())
}

fn file_settings(skip_unreadable: bool) -> FileSettings {
    FileSettings {
        skip_unreadable,
        ..FileSettings::default()
    }
}

/// The photographs in a folder; says what was passed over.
fn photographs(folder: &Path, progress: &Progress) -> anyhow::Result<Vec<PathBuf>> {
    let found = images_in(folder)?;
    data_set::tell_passed_over(&found.passed_over, None, progress);
    Ok(found.images)
}

pub fn report(report: &TeacherReport, progress: &mut Progress) -> anyhow::Result<()> {
    let teacher = Some(report.teacher.as_path());
    output::distinct("the teacher and --out", teacher, report.out.as_deref())?;
    output::distinct("the teacher and --json", teacher, report.json.file())?;
    output::distinct(
        "--json and --out",
        report.json.file(),
        report.out.as_deref(),
    )?;
    output::check_json(report.json.file())?;
    let teacher = Teacher::load(&report.teacher)?;
    let source = match &report.backbone {
        Some(given) => Some(given.clone()),
        None => built_in_tutor(teacher.manifest()),
    };
    let backbone = source.as_ref().map(WeightSource::load).transpose()?;
    let paths = photographs(&report.images, progress)?;
    if let Some(out) = &report.out {
        output::check_no_image("--out", report.out.as_deref(), &paths)?;
        output::check_alike("--out", out, PNG, "PNG")?;
    }
    let files = ImageSet::open(&paths, &file_settings(report.unreadable.skip), progress)?;
    let manifest = teacher.manifest();
    let same = manifest.fingerprint.is_some()
        && manifest.fingerprint == Some(fingerprint(&files.paths(), &report.images)?);
    let held_out = if same {
        teacher::held_out_images(&manifest.config, files.len()).0
    } else {
        Vec::new()
    };
    let all = || (0..files.len()).collect();
    let (chosen, which) = match (same, held_out.len() >= FEWEST_HELD_OUT) {
        (true, true) => (held_out, "the held-out images of the training folder"),
        (true, false) => (
            all(),
            "the images that it was trained on (too few are held out)",
        ),
        (false, _) => (all(), "all images of the folder"),
    };
    warn_of_another_backbone(report, manifest, progress)?;
    let found = teacher::report(
        &teacher,
        &files,
        &chosen,
        backbone.as_deref(),
        [usize::from(report.patches), 7],
        progress,
    )?;
    let json = report.json.file();
    let title = format!(
        "{} (p = {})",
        report.teacher.display(),
        teacher.receptive_field()
    );
    let mut figures = vec![format!("measured on {which}: {}", chosen.len())];
    figures.push(match &found.held_out {
        Some(held_out) => held_out_line(held_out),
        None => format!("no figures: they need {FEWEST_HELD_OUT} images, of which one gives the other's negatives"),
    });
    output::line(json, &title)?;
    for figure in &figures {
        output::line(json, figure)?;
    }
    if let Some(out) = &report.out {
        let picture = patch_sheet::draw(&PatchSheet {
            title: &title,
            figures: &figures,
            correlation: &found.correlation,
            dimensions: found.correlation.len().isqrt(),
            neighbours: &found.neighbours,
        });
        write_png(out, &picture)?;
        output::line(json, format_args!("wrote {}", out.display()))?;
    }
    if let Some(target) = json {
        let measured = Measured {
            measured_on: which,
            images: chosen.len(),
            report: &found,
        };
        output::json(target, &measured)?;
    }
    Ok(())
}

/// What `teacher report --json` gives.
#[derive(Debug, Serialize)]
struct Measured<'a> {
    /// Which images, in words.
    measured_on: &'a str,
    images: usize,
    #[serde(flatten)]
    report: &'a teacher::TeacherReport,
}

/// A temperature twice would be the same training twice.
fn check_distinct(temperatures: &[f64]) -> Result<(), Usage> {
    for (index, temperature) in temperatures.iter().enumerate() {
        if temperatures[..index].contains(temperature) {
            return Err(Usage(format!("--temperature names {temperature} twice")));
        }
    }
    Ok(())
}

/// Figures come from held-out images: without any, several temperatures cannot be compared, and one teacher remains unmeasured.
fn check_held_out(
    configs: &[TeacherConfig],
    images: usize,
    progress: &mut Progress,
) -> Result<(), Usage> {
    let held_out = |config| teacher::held_out_images(config, images).0.len();
    let fewest = configs.iter().map(held_out).min().unwrap_or(0);
    if fewest >= FEWEST_HELD_OUT {
        return Ok(());
    }
    let text = format!(
        "{fewest} of {images} images are held out, and figures need {FEWEST_HELD_OUT}: set --held-out higher"
    );
    if configs.len() > 1 {
        return Err(Usage(format!(
            "several temperatures are compared on held-out images: {text}"
        )));
    }
    progress.warn(&text);
    Ok(())
}

/// The built-in network, if the teacher learned from it.
fn built_in_tutor(manifest: &TeacherManifest) -> Option<WeightSource> {
    let built_in = WeightSource::BuiltIn;
    let learned = manifest.tutor.as_ref()?.fingerprint.as_ref()?;
    let is_built_in = built_in.fingerprint().is_ok_and(|own| own == *learned);
    is_built_in.then_some(built_in)
}

/// The figures mean little if the network is not the one that was learned from.
fn warn_of_another_backbone(
    report: &TeacherReport,
    manifest: &TeacherManifest,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let of_teacher = manifest.tutor.as_ref();
    let of_teacher = of_teacher.and_then(|tutor| tutor.fingerprint.as_ref());
    if let (Some(weights), Some(learned)) = (&report.backbone, of_teacher)
        && *learned != weights.fingerprint()?
    {
        progress.warn(&format!(
            "{} is not the file that the teacher has learned from, or has another name now: what is unexplained may not be the teacher's fault",
            weights
        ));
    }
    Ok(())
}

/// One configuration, or one for each temperature.
fn configs(
    train: &TeacherTrain,
    backbone: Option<&dyn Backbone>,
) -> anyhow::Result<Vec<TeacherConfig>> {
    let Some(backbone) = backbone else {
        return Ok(vec![settings(train, TeacherConfig::new(train.scale))]);
    };
    let side = train
        .distillation
        .patch_side
        .unwrap_or_else(|| Distillation::usual_patch_side(train.scale));
    let distillations = match train.distillation.distill {
        Form::Features => vec![Distillation::Features { side }],
        Form::Logits => train
            .distillation
            .temperature
            .iter()
            .map(|&temperature| Distillation::Logits { side, temperature })
            .collect(),
        Form::Dense => {
            let usual = Distillation::usual_zoom(train.scale);
            let zoom = train.distillation.zoom.unwrap_or(usual);
            let features = if train.distillation.targets.is_empty() {
                DenseFeatures::usual(backbone, zoom)?
            } else {
                DenseFeatures {
                    outputs: train.distillation.targets.clone(),
                    zoom,
                    smooth: true,
                }
            };
            vec![Distillation::Dense {
                features,
                context: train.distillation.context,
            }]
        }
    };
    Ok(distillations
        .into_iter()
        .map(|distillation| settings(train, TeacherConfig::distilled(train.scale, distillation)))
        .collect())
}

/// What the command line says, and the defaults for the rest.
fn settings(train: &TeacherTrain, default: TeacherConfig) -> TeacherConfig {
    let (losses, training) = (&train.losses, &train.training);
    let window = training.window.unwrap_or(default.window);
    let resized_sides = training
        .resized
        .unwrap_or_else(|| default.resized_sides.map(|side| side.max(window)));
    TeacherConfig {
        distillation_weight: losses.distillation_weight,
        triplet_weight: losses.triplet_weight.unwrap_or(default.triplet_weight),
        compactness_weight: losses
            .compactness_weight
            .unwrap_or(default.compactness_weight),
        compactness: match losses.signed_compactness {
            true => Compactness::Signed,
            false => Compactness::Squared,
        },
        margin: losses.margin,
        batch_norm: training.batch_norm.unwrap_or(default.batch_norm),
        steps: training.steps.map_or(default.steps, |steps| steps.get()),
        images_per_step: training.images_per_step.unwrap_or(default.images_per_step),
        window,
        resized_sides,
        learning_rate: training.learning_rate.unwrap_or(default.learning_rate),
        optimizer: training.optimizer.unwrap_or(default.optimizer),
        weight_decay: training.weight_decay,
        translation: training.translation.unwrap_or(default.translation),
        brightness: training.brightness,
        noise: training.noise,
        grey_probability: training.grey,
        held_out: training.held_out,
        seed: training.seed.value,
        ..default
    }
}

/// The pretrained network to learn from, if any.
fn source(train: &TeacherTrain) -> Option<&WeightSource> {
    let given = &train.distillation;
    (!given.without_backbone).then_some(&given.backbone)
}

fn provenance(train: &TeacherTrain, files: &ImageSet) -> anyhow::Result<Provenance> {
    let of_backbone = source(train).map(WeightSource::fingerprint).transpose()?;
    Ok(Provenance {
        data: train.data_terms.clone(),
        fingerprint: Some(fingerprint(&files.paths(), &train.images)?),
        backbone_fingerprint: of_backbone,
    })
}

/// `OUT.checkpoint`, or one for each temperature.
fn checkpoints(train: &TeacherTrain, config: &TeacherConfig, runs: usize) -> Checkpoints {
    let mut name = train.out.clone().into_os_string();
    match &config.distillation {
        Some(Distillation::Logits { temperature, .. }) if runs > 1 => {
            name.push(format!(".temperature-{temperature}.checkpoint"));
        }
        _ => name.push(".checkpoint"),
    }
    Checkpoints {
        path: PathBuf::from(name),
        every: train.checkpoint_every.get(),
        resume: train.resume,
    }
}

/// Whether a teacher's classes are nearer to the network's than another's, at temperature 1.
fn agrees_better(teacher: &Teacher, other: &Teacher) -> bool {
    let divergence = |teacher: &Teacher| match teacher.manifest().held_out?.distillation? {
        DistillationError::Classes { divergence, .. } => Some(divergence),
        DistillationError::Variance { .. } => None,
    };
    match (divergence(teacher), divergence(other)) {
        (Some(mine), Some(theirs)) => mine < theirs,
        _ => false,
    }
}

/// What a person wants to know of a trained teacher.
fn describe(teacher: &Teacher, json: Option<&Path>) -> anyhow::Result<()> {
    let manifest = teacher.manifest();
    let temperature = match &manifest.config.distillation {
        Some(Distillation::Logits { temperature, .. }) => {
            format!(", temperature {temperature}")
        }
        _ => String::new(),
    };
    output::line(
        json,
        format_args!(
            "p = {}{temperature}: {} steps on {} images, final loss {:.4}",
            manifest.config.network.receptive_field,
            manifest.config.steps,
            manifest.images,
            manifest.final_loss
        ),
    )?;
    if let Some(held_out) = &manifest.held_out {
        let line = held_out_line(held_out);
        output::line(
            json,
            format_args!("on {} other images: {line}", held_out.images),
        )?;
    }
    Ok(())
}

/// Figures on held-out images in a sentence.
fn held_out_line(held_out: &HeldOut) -> String {
    let distillation = match held_out.distillation {
        None => String::new(),
        Some(DistillationError::Variance { unexplained }) => {
            format!(
                ", {:.1} % of the features' variance unexplained",
                100.0 * unexplained
            )
        }
        Some(DistillationError::Classes {
            divergence,
            agreement,
        }) => format!(
            ", divergence of the classes {divergence:.3} nats, {:.1} % the same class",
            100.0 * agreement
        ),
    };
    format!(
        "{:.1} % of the triplets hold, mean correlation {:.3}{distillation}",
        100.0 * held_out.triplets_holding,
        held_out.mean_correlation
    )
}
