//! The time and memory of a training, estimated from trials on copies: a few real steps, and one image of each pass.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Silent;
use pupilla_core::process_memory::peak_bytes;
use serde::Serialize;

use super::config::{StudentTeacherConfig, Training};
use super::fit::{look_at, looks};
use super::memory::{Networks, student_bytes};
use super::scale::Ensemble;
use super::training::{Resized, step_time, steps_aside, steps_within, whitening};
use super::{seen_images, watch};
use crate::error::TrainError;
use crate::features::Extractor;
use crate::patch_network::ReceptiveField;
use crate::training::budget::Share;
use crate::training::{Checked, Length};

/// The estimated time and memory of a training run on this machine, under its present load.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Images that are learned.
    pub training_images: usize,
    /// Images on which the loss is watched, to end a run early.
    pub watched_images: usize,
    /// Images on which scores are calibrated.
    pub validation_images: usize,
    /// One a scale.
    pub scales: Vec<ScalePlan>,
    /// Seconds in all, if no run ends early.
    pub seconds: f64,
    /// Whether there is a budget, and it is enough for all steps that are worth taking.
    pub budget_suffices: bool,
    /// The most bytes that the process will hold: what it held in the trial, and what grows with the images. `None` (JSON
    /// `null`) where the system does not tell.
    pub memory_bytes: Option<u64>,
}

/// One scale of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ScalePlan {
    /// The patch size p.
    pub receptive_field: ReceptiveField,
    /// Optimiser steps.
    pub steps: usize,
    /// Seconds of a step of all students.
    pub seconds_per_step: f64,
    /// Seconds of everything: statistics, steps, validation.
    pub seconds: f64,
}

impl Checked<'_, StudentTeacherConfig> {
    /// Estimates the time and memory of [`fit`](pupilla_core::detector::Fit::fit) from trial steps. The trial changes nothing for a
    /// later `fit`.
    ///
    /// # Errors
    /// The errors of `fit` that show at once: settings, images that no network can describe, a budget that is too small.
    pub fn plan(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
    ) -> Result<Plan, TrainError> {
        self.check_images(training, validation)?;
        let settings = &self.settings;
        let [learned, watched] = watch::split(training, settings.training.early_stop());
        let resized = |images| Resized { images, settings };
        let (learned, validation) = (resized(&learned), resized(validation));
        let mut scales = Vec::new();
        let (mut growth, mut trained, mut largest, mut while_training) = (0, 0, 0, 0);
        for teacher in &self.teachers {
            let network = teacher.students().map_err(|error| TrainError::Setting {
                setting: "teachers",
                reason: error.to_string(),
            })?;
            let sampling = settings.training.sampling();
            // The first image of each kind pays for what the next ones find ready.
            let look = || whitening(teacher, &learned, 1, &mut Silent);
            let whitening = look()?;
            let statistics = timed(look)?.mul_f64(self.statistics_images(learned.len()) as f64);
            let step = step_time(teacher, network, &whitening, &learned)?;
            let untrained = Ensemble {
                teacher: teacher.clone(),
                students: vec![network.init(0); settings.students],
                whitening,
                metric: None,
            };
            let describe = || {
                look_at(&untrained, &validation, 0, sampling, |image, look| {
                    untrained.terms(image, look).map(|_| look.grid)
                })
            };
            let grid = describe()?;
            let looks = looks(learned.len(), validation.len(), settings.scoring);
            let validating = timed(describe)?.mul_f64(looks as f64);
            let beside = statistics + validating;
            let steps = self.planned_steps(learned.len(), watched.len(), step, beside)?;
            let aside = match &settings.training {
                Training::Quick(quick) => steps_aside(quick, watched.len(), steps),
                Training::Paper(_) => 0.0,
            };
            // Both terms of every validation image; a pretrained network's maps of training images.
            growth += 8 * grid.rows * grid.columns * (validation.len() - 1);
            let networks = Networks::from(&untrained);
            let students = settings.students * student_bytes(network);
            // The best students so far are kept with their optimisers; and in many steps, more of several students' maps meet
            // than in the few of the trial.
            let kept = if watched.is_empty() { 0 } else { 2 * students };
            while_training = while_training.max(kept + students);
            trained += networks.weight_bytes();
            largest = largest.max(networks.weight_bytes());
            if let Extractor::Backbone(backbone) = teacher.extractor() {
                let image = learned.image(0)?;
                let maps = backbone.maps(&image, settings.border);
                let maps = maps.map_err(|source| learned.wrong(0, source))?;
                growth += (maps.bytes() * learned.len()).min(seen_images::MOST_BYTES);
            }
            scales.push(ScalePlan {
                receptive_field: teacher.receptive_field(),
                steps,
                seconds_per_step: step.as_secs_f64(),
                seconds: (step.mul_f64(steps as f64 + aside) + beside).as_secs_f64(),
            });
        }
        // Of several scales, the networks of all but one are there beside the trial's. What is written, a checkpoint's optimisers with it,
        // is in memory once more. With p = 17, whose maps have no pooling, it fits what they have freed (`docs/notes/performance.md`: 512 MiB
        // were taken where it made the sum 653).
        let written = if scales
            .iter()
            .any(|scale| scale.receptive_field == ReceptiveField::P17)
        {
            0
        } else {
            2 * largest
        };
        growth += while_training + written + trained * (scales.len() - 1) / scales.len();
        Ok(Plan {
            training_images: learned.len(),
            watched_images: watched.len(),
            validation_images: validation.len(),
            seconds: scales.iter().map(|scale| scale.seconds).sum(),
            budget_suffices: matches!(&settings.training, Training::Quick(quick)
                if matches!(quick.length, Length::Budget(_))
                    && scales.iter().all(|scale| scale.steps == quick.most_budgeted_steps())),
            scales,
            memory_bytes: peak_bytes(None).map(|peak| peak + growth as u64),
        })
    }
}

impl StudentTeacherConfig {
    /// Images behind the teacher's statistics, of so many.
    pub(super) fn statistics_images(&self, images: usize) -> usize {
        match &self.settings.training {
            Training::Quick(quick) => quick.statistics_images.min(images),
            Training::Paper(_) => images,
        }
    }

    fn planned_steps(
        &self,
        images: usize,
        watched: usize,
        step: Duration,
        beside: Duration,
    ) -> Result<usize, TrainError> {
        match &self.settings.training {
            Training::Paper(paper) => Ok(paper.epochs * images),
            Training::Quick(quick) => match quick.length {
                Length::Steps(steps) => Ok(steps),
                Length::Budget(seconds) => {
                    let share = Share::new(seconds, 0.0, self.teachers.len(), beside);
                    steps_within(quick, watched, &share, step)
                }
            },
        }
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, TrainError>) -> Result<Duration, TrainError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
