//! Training: the steps of the networks, and the detector that the networks become.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::{Detector, Fit};
use pupilla_core::observer::{Observer, StopFlag};
use pupilla_nn::batch_norm::Statistics;

use super::checkpoint::State;
use super::config::ReconstructionConfig;
use super::inspect::ReconstructionDetector;
use super::learner::Learner;
use super::model_file::ReconstructionManifest;
use super::pictures::Pictures;
use crate::error::TrainError;
use crate::manifest::{Manifest, Nothing};
use crate::training::budget::{Length, Share};
use crate::training::calibrate::validate;
use crate::training::schedule::one_cycle;
use crate::training::{
    Checked, Checkpoints, TrainedInSteps, Trainee, check_counts, mean_of_last_tenth, stopped, train,
};

/// Batches of the statistics that a DCGAN's batch norm is folded with.
const NORM_BATCHES: usize = 16;

/// Fewer steps than these teach nothing: a budget that does not reach for them is refused. Two networks that learn from each other
/// take longer to begin.
const FEWEST_STEPS: usize = 20;
const FEWEST_ADVERSARIAL_STEPS: usize = 100;

/// At this many times the loss of the first step, a network has lost what it learned, and does not recover. If the first loss is nearly
/// 0, as on grey images, a tenth of a standardised pixel's variance counts instead.
const LOST: f64 = 100.0;
/// That tenth.
const LEAST_FIRST_LOSS: f64 = 0.1;

/// If the final loss is at least this share of the first steps' loss, the network has learned nothing: batches alone differ as much.
const UNLEARNED: f64 = 0.95;

/// A discriminator whose mean loss at the end is below this tells all images apart: the generator has nothing to learn from it.
const UNDECEIVED: f64 = 1e-3;

impl TrainedInSteps for ReconstructionConfig {}

impl Fit for Checked<'_, ReconstructionConfig> {
    type Detector = ReconstructionDetector;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<ReconstructionDetector, TrainError> {
        check_counts(training, validation)?;
        let config: &ReconstructionConfig = self;
        let (checkpoints, data) = self.checkpoints();
        let pictures = Pictures::new(training, &config.settings);
        let mut run = Run {
            config,
            state: State::begin(config, data, checkpoints, observer)?,
            data,
            checkpoints,
        };
        let steps = match run.state.planned {
            Some(planned) => planned,
            None => {
                let stop = observer.stop_flag();
                config.planned_steps(&run.state, &pictures, validation, &stop)?
            }
        };
        run.state.planned = Some(steps);
        train(&mut run, &|step| Ok(pictures.batch(step)?), observer)?;
        if let Some(warning) = config.doubts(&run.state.losses) {
            observer.warn(&warning);
        }
        let learner = &run.state.learner;
        let statistics = config.statistics(learner, steps, &pictures, observer);
        let statistics = statistics.map_err(|error| stopped(error, &run))?;
        let mut detector = config.detector(&run.state, &statistics, training.len());
        let validated = validate(
            &mut detector,
            validation,
            config.settings.false_reject,
            observer,
        );
        validated.map_err(|error| stopped(error, &run))?;
        Ok(detector)
    }
}

/// A run and where it is kept.
struct Run<'a> {
    config: &'a ReconstructionConfig,
    state: State,
    data: &'a str,
    checkpoints: Option<&'a Checkpoints>,
}

impl Trainee for Run<'_> {
    /// `[batch, 3, side, side]`
    type Batch = Vec<f32>;

    fn stage(&self) -> String {
        "training".to_string()
    }

    fn steps(&self) -> usize {
        self.state.planned.unwrap_or_default()
    }

    fn taken(&self) -> usize {
        self.state.steps(self.config)
    }

    fn step(&mut self, batch: &Vec<f32>) -> Result<Vec<f64>, TrainError> {
        let step = self.taken();
        let rate = self.config.rate(step, self.steps());
        Ok(self.state.learner.step(batch, step, rate))
    }

    fn record(&mut self, losses: Vec<f64>, observer: &mut dyn Observer) -> Result<f64, TrainError> {
        let names = self.config.settings.method.any().terms();
        let step = self.taken();
        let before = &self.state.losses;
        self.config.check_loss(losses[0], step, names[0], before)?;
        let named: Vec<_> = names.iter().copied().zip(losses.iter().copied()).collect();
        observer.losses(step as u64 + 1, &named);
        let shown = losses[0];
        self.state.losses.extend(losses);
        Ok(shown)
    }

    fn blame(&self, loss: usize) -> (String, f64) {
        let settings = &self.config.settings;
        let name = settings.method.any().terms()[loss];
        let what = format!("{} ({name})", settings.method.kind());
        (what, settings.training.learning_rate)
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints
    }

    fn save(&self, checkpoints: &Checkpoints) -> Result<(), TrainError> {
        self.state.write(self.config, self.data, checkpoints)
    }
}

impl ReconstructionConfig {
    fn adversarial(&self) -> bool {
        self.settings.method.any().is_adversarial()
    }

    /// The learning rate of a step.
    fn rate(&self, step: usize, steps: usize) -> f64 {
        let peak = self.settings.training.learning_rate;
        if self.adversarial() {
            peak
        } else {
            one_cycle(step, steps, peak)
        }
    }

    /// Fails if an autoencoder reconstructs images far worse than at the beginning: its numbers may grow for long before one of them
    /// is infinite.
    fn check_loss(
        &self,
        loss: f64,
        step: usize,
        name: &str,
        before: &[f64],
    ) -> Result<(), TrainError> {
        let Some(&first) = before.first().filter(|_| !self.adversarial()) else {
            return Ok(());
        };
        if loss <= LOST * first.max(LEAST_FIRST_LOSS) {
            return Ok(());
        }
        Err(TrainError::Lost {
            what: format!("{} ({name})", self.settings.method.kind()),
            step,
            loss,
            first,
            learning_rate: self.settings.training.learning_rate,
        })
    }

    /// What makes it likely that nothing was learned, in words.
    fn doubts(&self, losses: &[f64]) -> Option<String> {
        let names = self.settings.method.any().terms();
        let steps = losses.len() / names.len();
        let last = (steps / 10).max(1);
        let mean = |term: usize, from: usize, count: usize| {
            let of_term = losses.iter().skip(term).step_by(names.len());
            of_term.skip(from).take(count).sum::<f64>() / count as f64
        };
        let rate = self.settings.training.learning_rate;
        if self.adversarial() {
            let discriminator = mean(1, steps - last, last);
            return (steps >= FEWEST_ADVERSARIAL_STEPS && discriminator < UNDECEIVED).then(|| {
                format!(
                    "the discriminator tells all images apart at the end (loss {discriminator:.5}): the generator learned nothing any more, and scores may mean little; try another learning rate (now {rate}) or another seed"
                )
            });
        }
        let (first, end) = (mean(0, 0, last), mean(0, steps - last, last));
        (steps >= FEWEST_STEPS && end >= UNLEARNED * first).then(|| {
            format!(
                "the loss at the end ({end:.5}) is hardly below that at the beginning ({first:.5}): nothing was learned, and scores mean little; try a lower learning rate (now {rate})"
            )
        })
    }

    /// The statistics that batch norm is folded with, on images that no step has drawn.
    fn statistics(
        &self,
        learner: &Learner,
        steps: usize,
        pictures: &Pictures<'_>,
        observer: &mut dyn Observer,
    ) -> Result<[Statistics; 2], TrainError> {
        let mut statistics = Default::default();
        if self.adversarial() {
            for index in 0..NORM_BATCHES {
                if observer.stop_requested() {
                    return Err(TrainError::Stopped);
                }
                learner.observe(&pictures.batch(steps + index)?, index, &mut statistics);
            }
        }
        Ok(statistics)
    }

    /// The detector, not validated yet.
    fn detector(
        &self,
        state: &State,
        statistics: &[Statistics; 2],
        training_images: usize,
    ) -> ReconstructionDetector {
        let names = self.settings.method.any().terms();
        let steps = state.steps(self);
        let losses = names.iter().enumerate().map(|(term, name)| {
            let of_term = (0..steps).map(|step| state.losses[step * names.len() + term]);
            (name.to_string(), mean_of_last_tenth(of_term))
        });
        let method = ReconstructionManifest {
            settings: self.settings.clone(),
            steps,
            losses: losses.collect(),
        };
        let manifest = Manifest::new(
            self.settings.method.kind().name(),
            method,
            training_images,
            Nothing {},
        );
        ReconstructionDetector::new(state.learner.folded(statistics), manifest)
    }

    /// The steps of the settings, or those that their budget allows.
    pub(super) fn planned_steps(
        &self,
        state: &State,
        pictures: &Pictures<'_>,
        validation: &dyn ImageSource,
        stop: &StopFlag,
    ) -> Result<usize, TrainError> {
        match self.settings.training.length {
            Length::Steps(steps) => Ok(steps),
            Length::Budget(_) => {
                let trial = self.trial(state, pictures, validation, stop)?;
                self.steps_of(&trial, state.seconds())
            }
        }
    }

    /// The same once a trial has been made; `gone` are the seconds that the run has taken so far.
    pub(super) fn steps_of(&self, trial: &Trial, gone: f64) -> Result<usize, TrainError> {
        match self.settings.training.length {
            Length::Steps(steps) => Ok(steps),
            Length::Budget(seconds) => self.steps_within(seconds, gone, trial),
        }
    }

    fn steps_within(&self, budget: u64, gone: f64, trial: &Trial) -> Result<usize, TrainError> {
        let fewest = if self.adversarial() {
            FEWEST_ADVERSARIAL_STEPS
        } else {
            FEWEST_STEPS
        };
        let share = Share::new(budget, gone, 1, trial.beside);
        share.steps(trial.step, (self.settings.method.kind(), fewest), |_| 0.0)
    }

    /// The time of a step, and the time of everything beside the steps, measured on copies.
    pub(super) fn trial(
        &self,
        state: &State,
        pictures: &Pictures<'_>,
        validation: &dyn ImageSource,
        stop: &StopFlag,
    ) -> Result<Trial, TrainError> {
        let mut learner = state.learner.clone();
        let mut times = Vec::new();
        for step in 0..4 {
            stop.check()?;
            let start = Instant::now();
            learner.step(&pictures.batch(step)?, step, self.rate(step, 4));
            times.push(start.elapsed());
        }
        // The first pays for what the others find ready.
        let times = &mut times[1..];
        times.sort_unstable();
        let step = times[1];
        let mut beside = Duration::ZERO;
        let mut statistics = Default::default();
        if self.adversarial() {
            let start = Instant::now();
            learner.observe(&pictures.batch(0)?, 0, &mut statistics);
            beside += start.elapsed() * NORM_BATCHES as u32;
        }
        let detector = self.detector(state, &statistics, 1);
        let start = Instant::now();
        let explained = detector.explain_until(&validation.image(0)?, stop);
        explained.map_err(|source| TrainError::of_image(|| validation.name(0), source))?;
        beside += start.elapsed().mul_f64(validation.len() as f64);
        Ok(Trial { step, beside })
    }
}

/// What work takes.
pub(super) struct Trial {
    /// One step.
    pub step: Duration,
    /// Everything beside the steps: statistics, validation.
    pub beside: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::kind::DetectorKind;

    #[test]
    fn a_budget_becomes_whole_steps_or_says_the_smallest() {
        let trial = Trial {
            step: Duration::from_millis(500),
            beside: Duration::from_secs(10),
        };
        let config = ReconstructionConfig::new(DetectorKind::AnoGan).unwrap();
        assert_eq!(config.steps_within(70, 0.0, &trial).unwrap(), 120);
        match config.steps_within(70, 11.0, &trial) {
            Err(
                error @ TrainError::BudgetBelowSmallest {
                    smallest_seconds, ..
                },
            ) => {
                // 11 s are gone and 10 s are for validation: of the 50 s that 100 steps take, one is missing, and a tenth of it.
                assert_eq!(smallest_seconds, 72);
                assert!(error.to_string().contains("72 s"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let config = ReconstructionConfig::new(DetectorKind::SquaredErrorAutoencoder).unwrap();
        assert_eq!(config.steps_within(70, 11.0, &trial).unwrap(), 98);
    }
}
