//! Training: step by step to networks, and to the detector that they make.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::{Detector, Fit};
use pupilla_core::observer::Observer;
use pupilla_nn::batch_norm::Statistics;

use super::checkpoint::State;
use super::config::{Method, NetworkDetectorConfig};
use super::detector::NetworkDetector;
use super::learner::{Learner, terms};
use super::model_file::NetworkManifest;
use super::pictures::Pictures;
use crate::checkpoints::Checkpoints;
use crate::device::work_beside;
use crate::error::TrainError;
use crate::record::{ValidationManifest, validate};
use crate::schedule::one_cycle;
use crate::student_teacher::Length;
use pupilla_files::weight_file::FileHeader;

/// Batches of the statistics that a DCGAN's batch norm is folded with.
const NORM_BATCHES: usize = 16;

/// Fewer steps than these teach nothing: a budget that does not reach for them is refused. Two networks that learn from each other
/// take longer to begin.
const FEWEST_STEPS: usize = 20;
const FEWEST_ADVERSARIAL_STEPS: usize = 100;

/// A loss that is so many times that of the first step has lost what was learned, and does not come back. A step that happens to have
/// hardly any, as on grey images, counts as one with a tenth of a standardised pixel's variance.
const LOST: f64 = 100.0;
/// That tenth.
const LEAST_FIRST_LOSS: f64 = 0.1;

/// A loss at the end that is at least this share of the first steps' has learned nothing: batches alone differ by as much.
const UNLEARNED: f64 = 0.95;

/// A discriminator whose mean loss at the end is below this tells all images apart: the generator has nothing to learn from it.
const UNDECEIVED: f64 = 1e-3;

impl Fit for NetworkDetectorConfig {
    type Detector = NetworkDetector;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<NetworkDetector, TrainError> {
        self.fit_with_checkpoints(training, validation, "", None, observer)
    }
}

impl NetworkDetectorConfig {
    /// [`fit`](Fit::fit) that can be killed at any time and goes on later: it ends with the same bytes. `data` tells the images from
    /// others, as a fingerprint. A run whose loss is no number any more ends with an error; its last checkpoint, which is good, stays.
    ///
    /// # Errors
    /// As `fit`; if a checkpoint cannot be written or read, or is another run's.
    pub fn fit_with_checkpoints(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        data: &str,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<NetworkDetector, TrainError> {
        self.check_images(training, validation)?;
        let pictures = Pictures::new(training, &self.settings);
        let mut state = State::begin(self, data, checkpoints, observer)?;
        let steps = match state.planned {
            Some(planned) => planned,
            None => self.planned_steps(&state, &pictures, validation)?,
        };
        state.planned = Some(steps);
        self.run(&mut state, steps, &pictures, (data, checkpoints), observer)?;
        let statistics = self.statistics(&state.learner, steps, &pictures, observer);
        let statistics = statistics.map_err(|error| match checkpoints {
            Some(checkpoints) => self.stopped(error, &state, data, checkpoints),
            None => error,
        })?;
        let mut detector = self.detector(&state, &statistics, training.len());
        let wanted = self.settings.false_reject;
        let validated = validate(&detector, validation, wanted, observer);
        let (validation, calibration) = validated.map_err(|error| match checkpoints {
            Some(checkpoints) => self.stopped(error, &state, data, checkpoints),
            None => error,
        })?;
        detector.manifest.validation = validation;
        detector.manifest.calibration = calibration;
        Ok(detector)
    }

    /// Settings and images: what is wrong with them is found before any work.
    pub(super) fn check_images(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
    ) -> Result<(), TrainError> {
        self.check()?;
        for (purpose, images) in [("training", training), ("validation", validation)] {
            if images.is_empty() {
                return Err(TrainError::TooFewImages {
                    purpose,
                    found: 0,
                    needed: 1,
                });
            }
        }
        Ok(())
    }

    fn adversarial(&self) -> bool {
        matches!(self.settings.method, Method::Adversarial { .. })
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

    fn run(
        &self,
        state: &mut State,
        steps: usize,
        pictures: &Pictures<'_>,
        (data, checkpoints): (&str, Option<&Checkpoints>),
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let names = terms(&self.settings.method);
        observer.start("training", steps as u64);
        let mut step = state.steps(self);
        let mut next = (step < steps).then(|| pictures.batch(step));
        while let Some(batch) = next.transpose()? {
            if observer.stop_requested() {
                return Err(match checkpoints {
                    Some(checkpoints) => {
                        self.stopped(TrainError::Stopped, state, data, checkpoints)
                    }
                    None => TrainError::Stopped,
                });
            }
            let rate = self.rate(step, steps);
            let learner = &mut state.learner;
            let read = || (step + 1 < steps).then(|| pictures.batch(step + 1));
            let losses;
            (losses, next) = work_beside(|| learner.step(batch, step, rate), read);
            for (name, loss) in names.iter().zip(&losses) {
                if !loss.is_finite() {
                    return Err(TrainError::Diverged {
                        what: format!("{} ({name})", self.settings.method.kind()),
                        step,
                        loss: *loss,
                        learning_rate: self.settings.training.learning_rate,
                    });
                }
            }
            self.check_loss(losses[0], step, names[0], &state.losses)?;
            let named: Vec<_> = names.iter().copied().zip(losses.iter().copied()).collect();
            observer.losses(step as u64, &named);
            step += 1;
            observer.advance(step as u64, losses.first().copied());
            state.losses.extend(losses);
            if let Some(checkpoints) = checkpoints
                && step.is_multiple_of(checkpoints.every)
            {
                state.write(self, data, checkpoints)?;
            }
        }
        observer.finish();
        if let Some(warning) = self.doubts(names, &state.losses) {
            observer.warn(&warning);
        }
        Ok(())
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
    fn doubts(&self, names: &[&str], losses: &[f64]) -> Option<String> {
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

    /// A request to stop, once what was done is safe; any other error as it is.
    fn stopped(
        &self,
        error: TrainError,
        state: &State,
        data: &str,
        checkpoints: &Checkpoints,
    ) -> TrainError {
        if !matches!(error, TrainError::Stopped) {
            return error;
        }
        match state.write(self, data, checkpoints) {
            Err(error) => error,
            Ok(()) => TrainError::StoppedWithCheckpoint {
                step: state.steps(self),
                path: checkpoints.path.clone(),
            },
        }
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
                learner.observe(pictures.batch(steps + index)?, index, &mut statistics);
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
    ) -> NetworkDetector {
        let names = terms(&self.settings.method);
        let steps = state.steps(self);
        let last = steps.div_ceil(10);
        let losses = names.iter().enumerate().map(|(term, name)| {
            let of_term = state.losses.iter().skip(term).step_by(names.len());
            let sum: f64 = of_term.skip(steps - last).sum();
            (name.to_string(), sum / last.max(1) as f64)
        });
        let manifest = NetworkManifest {
            header: FileHeader::new(self.settings.method.kind().name()),
            settings: self.settings.clone(),
            steps,
            losses: losses.collect(),
            threads: rayon::current_num_threads(),
            data: None,
            training_images,
            validation: ValidationManifest::new(Vec::new()),
            calibration: None,
        };
        NetworkDetector::new(state.learner.folded(statistics), manifest)
    }

    /// The steps of the settings, or those that their budget allows.
    pub(super) fn planned_steps(
        &self,
        state: &State,
        pictures: &Pictures<'_>,
        validation: &dyn ImageSource,
    ) -> Result<usize, TrainError> {
        match self.settings.training.length {
            Length::Steps(steps) => Ok(steps),
            Length::Budget(_) => {
                let trial = self.trial(state, pictures, validation)?;
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
        let beside = trial.beside.as_secs_f64();
        let each = trial.step.as_secs_f64().max(1e-6);
        let steps = ((budget as f64 - gone - beside).max(0.0) / each) as usize;
        if steps < fewest {
            // What is gone already is gone again the next time.
            let smallest = gone + beside + fewest as f64 * each;
            return Err(TrainError::BudgetBelowSmallest {
                what: self.settings.method.kind(),
                steps: fewest,
                smallest_seconds: (1.1 * smallest).ceil() as u64 + 1,
            });
        }
        Ok(steps)
    }

    /// What a step takes, and what everything beside the steps will, tried on copies that are thrown away.
    pub(super) fn trial(
        &self,
        state: &State,
        pictures: &Pictures<'_>,
        validation: &dyn ImageSource,
    ) -> Result<Trial, TrainError> {
        let mut learner = state.learner.clone();
        let mut times = Vec::new();
        for step in 0..4 {
            let start = Instant::now();
            learner.step(pictures.batch(step)?, step, self.rate(step, 4));
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
            learner.observe(pictures.batch(0)?, 0, &mut statistics);
            beside += start.elapsed() * NORM_BATCHES as u32;
        }
        let detector = self.detector(state, &statistics, 1);
        let start = Instant::now();
        let map = detector.anomaly_map(&validation.image(0)?);
        map.map_err(|source| TrainError::Image {
            name: validation.name(0),
            source,
        })?;
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
    use crate::detector_kind::DetectorKind;

    #[test]
    fn a_budget_becomes_whole_steps_or_says_the_smallest() {
        let trial = Trial {
            step: Duration::from_millis(500),
            beside: Duration::from_secs(10),
        };
        let config = NetworkDetectorConfig::new(DetectorKind::AnoGan).unwrap();
        assert_eq!(config.steps_within(70, 0.0, &trial).unwrap(), 120);
        match config.steps_within(70, 11.0, &trial) {
            Err(
                error @ TrainError::BudgetBelowSmallest {
                    smallest_seconds, ..
                },
            ) => {
                // 11 s are gone, 10 s are for validation, 100 steps take 50 s; and a tenth.
                assert_eq!(smallest_seconds, 80);
                assert!(error.to_string().contains("at least 80 s"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        let config = NetworkDetectorConfig::new(DetectorKind::SquaredErrorAutoencoder).unwrap();
        assert_eq!(config.steps_within(70, 11.0, &trial).unwrap(), 98);
    }
}
