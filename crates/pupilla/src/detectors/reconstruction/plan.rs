//! The time and memory of a training, estimated from a few trial steps on copies.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Observer;
use pupilla_core::process_memory::peak_bytes;
use serde::Serialize;

use super::checkpoint::State;
use super::config::ReconstructionConfig;
use super::pictures::Pictures;
use crate::error::TrainError;
use crate::training::{Checked, check_counts};

/// The estimated time and memory of a training run on this machine, under its present load.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReconstructionPlan {
    /// Images that are learned.
    pub training_images: usize,
    /// Images on which scores are calibrated.
    pub validation_images: usize,
    /// Optimiser steps.
    pub steps: usize,
    /// Seconds of a step.
    pub seconds_per_step: f64,
    /// Seconds in all.
    pub seconds: f64,
    /// The most bytes that the process will hold: what it held in the trial, and what grows with the images. `None` (JSON `null`)
    /// where the system does not tell.
    pub memory_bytes: Option<u64>,
}

impl Checked<'_, ReconstructionConfig> {
    /// Estimates the time and memory of [`fit`](pupilla_core::detector::Fit::fit) from trial steps. The trial changes nothing for a
    /// later `fit`.
    ///
    /// # Errors
    /// The errors of `fit` that show at once: settings, a budget that is too small. Also if the observer
    /// asks to stop; it is told nothing.
    pub fn plan(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<ReconstructionPlan, TrainError> {
        check_counts(training, validation)?;
        let pictures = Pictures::new(training, &self.settings);
        let state = State::begin(self, "", None, &mut observer.stop_flag())?;
        let trial = self.trial(&state, &pictures, validation, &observer.stop_flag())?;
        let steps = self.steps_of(&trial, state.seconds())?;
        let networks = state.learner.networks().iter();
        let arrays = networks.flat_map(|network| network.parameters.arrays());
        let weights: usize = arrays.map(|array| array.len()).sum();
        // A model's weights are twice in memory, besides those of the networks, when it is written.
        let growth = pictures.kept_bytes() + 2 * weights * size_of::<f32>();
        Ok(ReconstructionPlan {
            training_images: training.len(),
            validation_images: validation.len(),
            steps,
            seconds_per_step: trial.step.as_secs_f64(),
            seconds: (trial.step.mul_f64(steps as f64) + trial.beside).as_secs_f64(),
            memory_bytes: peak_bytes(None).map(|peak| peak + growth as u64),
        })
    }
}
