//! The configuration of a student–teacher detector from the options, and the output of its plan and its result.

use std::path::Path;

use anyhow::bail;
use pupilla::student_teacher::{
    Paper, Plan, Quick, Settings, StudentTeacherManifest, StudentTeacherTraining, Training,
};
use pupilla::{Config, Length, Manifest, ScaleTeacher, Scoring, StudentTeacherConfig, Teacher};

use crate::options::{Preset, Train};
use crate::output;

use super::{no_maps, pretrained};

/// The detector to be trained, its settings checked.
pub fn config(train: &Train) -> anyhow::Result<StudentTeacherConfig> {
    let default = Settings::default();
    let config = StudentTeacherConfig {
        teachers: teachers(train)?,
        settings: Settings {
            students: train.students.students,
            resize: train.resize.unwrap_or(default.resize),
            border: train.patches.border,
            training: training(train),
            seed: train.seed.value,
            false_reject: train.rates.wanted(),
            scoring: train
                .students
                .scoring
                .unwrap_or(match train.students.preset {
                    Preset::Paper => Scoring::Published,
                    Preset::Quick => default.scoring,
                }),
        },
    };
    config.check()?;
    Ok(config)
}

/// Steps and losses of each scale.
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

/// The plan: steps, images, time and memory.
pub fn print_plan(plan: &Plan, json: Option<&Path>) -> anyhow::Result<()> {
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

fn training(train: &Train) -> Training {
    let given = &train.students;
    let rate = train.run.learning_rate;
    match given.preset {
        Preset::Quick => {
            let default = match given.batch_norm {
                false => Quick::without_batch_norm(),
                true => Quick::default(),
            };
            let length = train.run.length.wanted().unwrap_or(default.length);
            let budgeted = matches!(length, Length::Budget(_));
            Training::Quick(Quick {
                length,
                windows: given.windows,
                window: given.window,
                optimizer: given.optimizer,
                focus: given.focus,
                early_stop: given.early_stop.unwrap_or(budgeted),
                learning_rate: rate.unwrap_or(default.learning_rate),
                ..default
            })
        }
        Preset::Paper => {
            let default = Paper::default();
            Training::Paper(Paper {
                epochs: given.epochs,
                learning_rate: rate.unwrap_or(default.learning_rate),
                ..default
            })
        }
    }
}

/// The teacher of each scale: the pretrained network, or from the files given, else built in.
fn teachers(train: &Train) -> anyhow::Result<Vec<ScaleTeacher>> {
    let scales = train.patches.scales.as_deref();
    if let Some(weights) = &train.students.teacher_backbone {
        let teacher = pretrained(weights, train)?;
        let of_scale = |&field| ScaleTeacher::backbone(field, teacher.clone());
        let scales = scales.unwrap_or(&StudentTeacherConfig::BACKBONE_SCALES);
        return Ok(scales.iter().map(of_scale).collect());
    }
    no_maps(train, "--teacher-backbone")?;
    let mut given = Vec::new();
    for path in &train.patches.teachers {
        let teacher = Teacher::load(path)?;
        let field = teacher.receptive_field();
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
    let scales = match scales {
        Some(scales) => scales.to_vec(),
        None if given.is_empty() => StudentTeacherConfig::usual_scales(train.run.length.wanted()),
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
