//! The time and memory of a training, estimated from trials on copies: a few real steps, and one image of each pass.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Observer;
use pupilla_core::process_memory::peak_bytes;
use serde::Serialize;

use super::budget::{steps_aside, steps_within};
use super::config::{StudentTeacherConfig, Training};
use super::fit::{images_after_training, prepared};
use super::memory::{Networks, student_bytes};
use super::resized_images::RunImages;
use super::scale::Ensemble;
use super::seen_images;
use super::teacher_statistics::whitening;
use super::training::ScaleTraining;
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
    /// The most bytes that the process will hold: the bytes that it held in the trial, and the bytes that grow with the number of
    /// images. `None` (JSON `null`) if the system does not report the memory of a process.
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
    /// The errors of `fit` that show at once: settings, images that no network can describe, a budget that is too small. Also
    /// if the observer asks to stop; it is told nothing.
    pub fn plan(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<Plan, TrainError> {
        // The trial is short: it has no progress, but it may be asked to stop.
        let stop = observer.stop_flag();
        let settings = &self.settings;
        let images = RunImages::new(self, training, validation)?;
        let (learned, watched) = (&images.learned, images.watched.len());
        let mut scales = Vec::new();
        let (mut growth, mut trained, mut largest, mut while_training) = (0, 0, 0, 0);
        for (teacher, network) in self.teachers.iter().zip(self.student_networks()?) {
            // The first image of each kind pays for what the next ones find ready.
            let statistics = || whitening(teacher, learned, 1, &mut stop.clone());
            let whitening = statistics()?;
            let of_images = self.statistics_images(learned.len()) as f64;
            let statistics = timed(statistics)?.mul_f64(of_images);
            let trial = ScaleTraining::new(teacher, network, &whitening, learned, stop.clone());
            let step = trial.step_time()?;
            let untrained = Ensemble::untrained(teacher, network, settings.students, whitening);
            let describe = || {
                let (image, scan) = prepared(&untrained, &images.validation, 0)?;
                let terms = untrained.terms(&image, scan, &stop);
                terms.map_err(|source| images.validation.wrong(0, source))?;
                Ok(scan.grid)
            };
            let grid = describe()?;
            let validating = timed(describe)?.mul_f64(images_after_training(&images) as f64);
            let beside = statistics + validating;
            let steps = self.planned_steps(learned.len(), watched, step, beside)?;
            let aside = match &settings.training {
                Training::Quick(quick) => steps_aside(quick, watched, steps),
                Training::Paper(_) => 0.0,
            };
            // Both terms of every validation image.
            growth += 8 * grid.rows * grid.columns * (images.validation.len() - 1);
            let networks = Networks::from(&untrained);
            let students = settings.students * student_bytes(network);
            // The best students so far are kept with their optimisers. In many steps, the maps of more students are in memory at the same
            // time than in the few steps of the trial.
            let kept = if watched == 0 { 0 } else { 2 * students };
            while_training = while_training.max(kept + students);
            trained += networks.weight_bytes();
            largest = largest.max(networks.weight_bytes());
            // A pretrained network's maps of the training images.
            if let Extractor::Backbone(backbone) = teacher.extractor() {
                let image = learned.image(0)?;
                let maps = backbone.maps(&image, settings.border, &stop);
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
        // The trial holds the networks of one scale: the networks of the other scales come on top. A file that is written, such as a
        // checkpoint with its optimisers, is in memory once more. With p = 17, whose maps have no pooling, the file fits into memory that
        // the maps have freed (`docs/notes/performance.md`: the process took 512 MiB, and the estimate with the file was 653 MiB).
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
            watched_images: watched,
            validation_images: images.validation.len(),
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
    /// How many of `images` training images give the teacher's statistics.
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
