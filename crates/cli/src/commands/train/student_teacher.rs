//! What the options say about a student–teacher detector.

use std::path::Path;

use anyhow::bail;
use pupilla::PreparedFiles;
use pupilla::ReceptiveField;
use pupilla::Scoring;
use pupilla::Teacher;
use pupilla::Trained;
use pupilla::student_teacher::{
    Paper, Plan, Quick, Settings, StudentTeacherManifest, StudentTeacherTraining, Training,
};
use pupilla::{BackboneExtractor, Length, ScaleTeacher, StudentTeacher, StudentTeacherConfig};
use pupilla::{Config, Manifest};

use crate::arguments::{Budget, Preset, Train};
use crate::output::{self, Usage};
use crate::progress::Progress;

use super::{begins, checkpoints, wanted_rates};

/// The detector to be trained, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<StudentTeacherConfig> {
    let default = Settings::default();
    let config = StudentTeacherConfig {
        teachers: teachers(train)?,
        settings: Settings {
            students: train.students.unwrap_or(default.students),
            resize: train.resize.unwrap_or(default.resize),
            border: train.border.unwrap_or(default.border),
            training: training(train)?,
            seed: train.seed,
            false_reject: wanted_rates(train),
            scoring: train.scoring.unwrap_or(match train.preset {
                Some(Preset::Paper) => Scoring::Published,
                Some(Preset::Quick) | None => default.scoring,
            }),
        },
    };
    config.check()?;
    Ok(config)
}

/// Says what training will take, and trains unless that was all; `None` then.
pub fn fit(
    config: &StudentTeacherConfig,
    files: &PreparedFiles,
    train: &Train,
    progress: &mut Progress,
) -> anyhow::Result<Option<StudentTeacher>> {
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

/// What became of each scale.
pub fn print_scales(
    manifest: &Manifest<StudentTeacherManifest, StudentTeacherTraining>,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    for scale in &manifest.training.scales {
        output::line(
            json,
            format_args!(
                "p = {}: {} steps, training loss {:.4}, validation loss {:.4}",
                scale.network.receptive_field,
                scale.steps,
                scale.training_loss,
                scale.validation_loss
            ),
        )?;
    }
    Ok(())
}

/// What is about to be done, and what it will take.
fn print_plan(plan: &Plan, json: Option<&Path>) -> anyhow::Result<()> {
    for scale in &plan.scales {
        output::line(
            json,
            format_args!(
                "p = {}: {} steps of {:.2} s",
                scale.receptive_field, scale.steps, scale.seconds_per_step
            ),
        )?;
    }
    let memory = plan.memory_bytes.map_or(String::new(), |bytes| {
        format!(" and {} MiB of memory", bytes.div_ceil(1 << 20))
    });
    output::line(
        json,
        format_args!(
            "{} images to learn, {} to watch, {} to calibrate on; about {}{memory}",
            plan.training_images,
            plan.watched_images,
            plan.validation_images,
            output::duration(plan.seconds),
        ),
    )?;
    if plan.budget_suffices {
        let enough = "the budget reaches for all steps that are worth taking: more come closer to the teacher on defects too \
                      (--steps N takes them)";
        output::line(json, format_args!("{enough}"))?;
    }
    Ok(())
}

fn training(train: &Train) -> anyhow::Result<Training> {
    match train.preset.unwrap_or(Preset::Quick) {
        Preset::Quick => {
            if train.epochs.is_some() {
                return Err(Usage(
                    "--epochs belongs to --preset paper; the quick preset has --steps and --budget"
                        .to_string(),
                )
                .into());
            }
            let default = match train.batch_norm {
                Some(false) => Quick::without_batch_norm(),
                _ => Quick::default(),
            };
            let length = match (train.steps, train.budget) {
                (Some(steps), _) => Length::Steps(steps.get()),
                (None, Some(budget)) => Length::Budget(budget.0),
                (None, None) => default.length,
            };
            Ok(Training::Quick(Quick {
                length,
                windows: train.windows.unwrap_or(default.windows),
                window: train.window.or(default.window),
                optimizer: train.optimizer.unwrap_or(default.optimizer),
                focus: train.focus.unwrap_or(default.focus),
                early_stop: train
                    .early_stop
                    .unwrap_or(matches!(length, Length::Budget(_))),
                learning_rate: train.learning_rate.unwrap_or(default.learning_rate),
                ..default
            }))
        }
        Preset::Paper => {
            let quick_only = [
                ("--steps", train.steps.is_some()),
                ("--budget", train.budget.is_some()),
                ("--window", train.window.is_some()),
                ("--windows", train.windows.is_some()),
                ("--optimizer", train.optimizer.is_some()),
                ("--focus", train.focus.is_some()),
                ("--early-stop", train.early_stop.is_some()),
                ("--batch-norm", train.batch_norm.is_some()),
            ];
            if let Some((name, _)) = quick_only.iter().find(|(_, given)| *given) {
                let text =
                    format!("{name} belongs to --preset quick; the paper preset has --epochs");
                return Err(Usage(text).into());
            }
            let default = Paper::default();
            Ok(Training::Paper(Paper {
                epochs: train.epochs.map_or(default.epochs, |epochs| epochs.get()),
                learning_rate: train.learning_rate.unwrap_or(default.learning_rate),
                ..default
            }))
        }
    }
}

/// With a budget of fewer seconds the usual patch size is one: scales share a budget, and each looks at many images before and behind
/// its steps. Two minutes do not suffice for two scales on two cores (`docs/notes/performance.md`).
const LEAST_FOR_TWO_SCALES: u64 = 300;

/// Patch sizes of built-in teachers unless others are asked for.
pub fn usual_scales(budget: Option<Budget>) -> Vec<ReceptiveField> {
    match budget {
        Some(Budget(seconds)) if seconds < LEAST_FOR_TWO_SCALES => vec![ReceptiveField::P33],
        _ => StudentTeacherConfig::SCALES.to_vec(),
    }
}

/// The teacher of each scale: the pretrained network, or from the files given, else built in.
fn teachers(train: &Train) -> anyhow::Result<Vec<ScaleTeacher>> {
    if let Some(weights) = &train.teacher_backbone {
        let zoom = usize::from(train.backbone_zoom.unwrap_or(1));
        let teacher = BackboneExtractor::load(weights, train.backbone_outputs.clone(), zoom)?;
        let of_scale = |&field| ScaleTeacher::backbone(field, teacher.clone());
        // More were not measured with a pretrained network's features (`docs/notes/results.md`).
        let scales = train.scales.as_deref();
        let scales = scales.unwrap_or(&[ReceptiveField::P33]);
        return Ok(scales.iter().map(of_scale).collect());
    }
    let mut given = Vec::new();
    for path in &train.teachers {
        let teacher = Teacher::load(path)?;
        let field = teacher.receptive_field();
        let scales = train.scales.as_ref();
        if scales.is_some_and(|scales| !scales.contains(&field)) {
            bail!(
                "{} is a teacher for p = {field}, which is not among the scales: add it to --scales",
                path.display()
            );
        }
        if given
            .iter()
            .any(|other: &Teacher| other.receptive_field() == field)
        {
            bail!("two teachers for p = {field}: give one");
        }
        given.push(teacher);
    }
    let scales = match &train.scales {
        Some(scales) => scales.clone(),
        None if given.is_empty() => usual_scales(train.budget),
        None => given.iter().map(Teacher::receptive_field).collect(),
    };
    scales
        .iter()
        .map(|&field| {
            match given
                .iter()
                .find(|teacher| teacher.receptive_field() == field)
            {
                Some(teacher) => Ok(teacher.clone().into()),
                None => Ok(Teacher::built_in(field)?.into()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_budget_goes_to_one_scale() {
        let of = |seconds: Option<u64>| usual_scales(seconds.map(Budget)).len();
        assert_eq!([of(Some(120)), of(Some(299))], [1, 1]);
        assert_eq!([of(Some(300)), of(Some(3600)), of(None)], [2, 2, 2]);
    }
}
