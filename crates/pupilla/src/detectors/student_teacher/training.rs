//! The students of one scale in training: their steps, from the first to the trained networks.

use std::ops::Range;
use std::time::{Duration, Instant};

use pupilla_core::observer::{Observer, StopFlag};
use pupilla_nn::{Optimizer, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::batch::{Batch, random_window};
use super::budget::{affordable, steps_within};
use super::checkpoint::{CurrentScale, RunState, Snapshot};
use super::config::{Paper, Quick, Training};
use super::early_stop::EarlyStop;
use super::resized_images::ResizedImages;
use super::scale_teacher::ScaleTeacher;
use super::scoring::Whitening;
use super::seen_images::SeenImages;
use super::students::{Learning, StudentsInTraining};
use crate::error::TrainError;
use crate::patch_network::{PatchNetwork, PatchNetworkConfig, ReceptiveField};
use crate::random::derive_seed;
use crate::training::budget::Share;
use crate::training::schedule::Schedule;
use crate::training::{Checkpoints, Length, Trainee, mean_of_last_tenth, stopped, train};

/// Batches that give the statistics with which batch norm is folded.
pub(super) const NORM_BATCHES: usize = 32;

/// Optimiser steps that were taken, and the loss at their end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StepsTaken {
    pub steps: usize,
    /// Mean loss of all students over the last tenth of the steps.
    pub final_loss: f64,
}

/// How the students of these settings learn.
pub(super) fn learning(training: &Training) -> Learning {
    match training {
        Training::Quick(quick) => Learning {
            optimizer: quick.optimizer,
            weight_decay: quick.weight_decay,
            batch_norm: quick.batch_norm,
            focus: quick.focus,
        },
        Training::Paper(paper) => Learning {
            optimizer: Optimizer::Adam,
            weight_decay: paper.weight_decay,
            batch_norm: false,
            focus: 0.0,
        },
    }
}

/// The students of one scale in training. Implements [`Trainee`].
pub(super) struct ScaleTraining<'a> {
    teacher: &'a ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: &'a Whitening,
    images: &'a ResizedImages<'a>,
    students: StudentsInTraining,
    seen: SeenImages,
    /// Stops the work inside of a step.
    stop: StopFlag,
    /// Stride of the positions in a window.
    stride: usize,
    schedule: Schedule,
    /// The mean loss of all students in each step.
    losses: Vec<f64>,
    /// `None` if no image is watched, and after the run has begun to end early.
    early_stop: Option<EarlyStop>,
    /// `None` for a trial.
    run: Option<&'a RunState<'a>>,
}

impl<'a> ScaleTraining<'a> {
    /// Untrained students, for a trial.
    pub fn new(
        teacher: &'a ScaleTeacher,
        config: PatchNetworkConfig,
        whitening: &'a Whitening,
        images: &'a ResizedImages<'a>,
        stop: StopFlag,
    ) -> Self {
        let settings = images.settings;
        let field = teacher.receptive_field();
        let purpose = format!("student weights p={field}");
        let seeds = (0..settings.students)
            .map(|student| derive_seed(settings.seed, &purpose, student as u64));
        Self {
            teacher,
            config,
            whitening,
            images,
            students: StudentsInTraining::new(config, seeds, learning(&settings.training)),
            seen: SeenImages::default(),
            stop,
            stride: match settings.training {
                Training::Quick(_) => field.pooling_stride(),
                Training::Paper(_) => 1,
            },
            schedule: Schedule::constant(0, 0.0),
            losses: Vec::new(),
            early_stop: None,
            run: None,
        }
    }

    /// The same students as a part of a run, which keeps checkpoints.
    pub fn in_run(self, run: &'a RunState<'a>) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }

    /// Trains the students, from the first step or from the state of a checkpoint. `share` is the scale's share of the rest of a budget.
    pub fn train(
        mut self,
        watched: &ResizedImages<'_>,
        share: Option<Share>,
        resumed: Option<CurrentScale>,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<PatchNetwork>, StepsTaken), TrainError> {
        let images = self.images;
        match &images.settings.training {
            Training::Quick(quick) => {
                self.train_on_windows(quick, watched, share, resumed, observer)?;
            }
            Training::Paper(paper) => self.train_on_whole_images(paper, resumed, observer)?,
        }
        let taken = StepsTaken {
            steps: self.losses.len(),
            final_loss: mean_of_last_tenth(self.losses.iter().copied()),
        };
        Ok((self.students.into_networks(), taken))
    }

    fn train_on_windows(
        &mut self,
        quick: &Quick,
        watched: &ResizedImages<'_>,
        share: Option<Share>,
        resumed: Option<CurrentScale>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (images, field) = (self.images, self.field());
        let side = self.window_side(quick)?;
        let steps = match (quick.length, &resumed) {
            (Length::Steps(steps), _) => steps,
            (Length::Budget(_), Some(resumed)) => resumed.planned,
            (Length::Budget(budget), None) => {
                let share = share.unwrap_or(Share::new(budget, 0.0, 1, Duration::ZERO));
                self.steps_of_budget(quick, side, watched.len(), share, observer)?
            }
        };
        if watched.len() > 0 {
            self.early_stop = Some(self.watch(watched, side)?);
        }
        self.schedule = Schedule::one_cycle(steps, quick.learning_rate);
        self.resume(resumed);
        let read = |step| Ok(Batch::random_windows(images, quick, field, side, step)?);
        train(self, &read, observer)?;
        self.return_to_lowest_loss();
        if quick.batch_norm {
            // Windows that no step has seen.
            self.gather_norm_statistics(steps..steps + NORM_BATCHES, &read, observer)?;
        }
        Ok(())
    }

    fn train_on_whole_images(
        &mut self,
        paper: &Paper,
        resumed: Option<CurrentScale>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (images, field) = (self.images, self.field());
        self.schedule = Schedule::constant(paper.epochs * images.len(), paper.learning_rate);
        self.resume(resumed);
        let read = |step| Ok(Batch::whole_image(images, field, step)?);
        train(self, &read, observer)
    }

    /// The steps that fit into a share of a budget, from the time of some trial steps.
    fn steps_of_budget(
        &self,
        quick: &Quick,
        side: usize,
        watched: usize,
        mut share: Share,
        observer: &mut dyn Observer,
    ) -> Result<usize, TrainError> {
        let start = Instant::now();
        let each = self.median_step_time(quick, side)?;
        share.left -= start.elapsed().as_secs_f64();
        let within = steps_within(quick, watched, &share, each);
        let finished = self.run.map_or(0, |run| run.finished.len());
        affordable(within, finished, self.field(), observer)
    }

    /// Continues from a checkpoint.
    fn resume(&mut self, resumed: Option<CurrentScale>) {
        let Some(resumed) = resumed else {
            return;
        };
        self.students = resumed.students;
        self.losses = resumed.losses;
        self.schedule.ending = resumed.ending;
        // Without a lowest loss, the run has begun to end early.
        self.early_stop =
            self.early_stop
                .take()
                .zip(resumed.lowest)
                .map(|(mut early_stop, lowest)| {
                    early_stop.resume(lowest);
                    early_stop
                });
    }

    /// At the end of a run, takes the students with the lowest watched loss.
    fn return_to_lowest_loss(&mut self) {
        if let Some(mut early_stop) = self.early_stop.take() {
            early_stop.measure(&self.students);
            if let Some(better) = early_stop.better() {
                self.students = better;
            }
        }
    }

    /// Gathers the statistics that batch norm is folded with.
    fn gather_norm_statistics(
        &mut self,
        batches: Range<usize>,
        read: &impl Fn(usize) -> Result<Batch, TrainError>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        for index in batches {
            if observer.stop_requested() {
                return Err(stopped(TrainError::Stopped, self));
            }
            let input = read(index)?.pixels(self.images.settings.border);
            self.students.observe(&input, self.stride);
        }
        Ok(())
    }

    fn field(&self) -> ReceptiveField {
        self.teacher.receptive_field()
    }

    /// Side of the windows: the side of the settings, or of the smallest image and its border if that is smaller.
    fn window_side(&self, quick: &Quick) -> Result<usize, TrainError> {
        let mut side = quick.window_side(self.field());
        for index in 0..self.images.len() {
            let size = self.images.size(index)?;
            side = side.min(size.shorter() + 2 * self.field().radius());
        }
        Ok(side)
    }

    /// One window of each watched image, at random places, with the teacher's descriptors of the window.
    fn watch(&self, watched: &ResizedImages<'_>, side: usize) -> Result<EarlyStop, TrainError> {
        let seed = derive_seed(watched.settings.seed, "watched windows", side as u64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = SeenImages::default();
        let mut windows = Vec::with_capacity(watched.len());
        for index in 0..watched.len() {
            let image = watched.image(index)?;
            let side = side.min(image.size().shorter() + 2 * self.field().radius());
            let window = random_window(&image, self.field(), side, &mut random);
            let batch = Batch::of_image(image, index, window);
            windows.push(self.with_target(&batch, watched, &mut seen)?);
        }
        Ok(EarlyStop::new(windows, self.stride))
    }

    /// One optimiser step of every student towards the teacher's descriptors of the same windows; their
    /// losses before it.
    fn learn(&mut self, batch: &Batch, rate: f64) -> Result<Vec<f64>, TrainError> {
        let mut seen = std::mem::take(&mut self.seen);
        let pair = self.with_target(batch, self.images, &mut seen);
        self.seen = seen;
        let (input, target) = pair?;
        Ok(self.students.step(&input, &target, self.stride, rate))
    }

    /// The pixels of a batch of windows of `images`, and the teacher's whitened descriptors.
    fn with_target(
        &self,
        batch: &Batch,
        images: &ResizedImages<'_>,
        seen: &mut SeenImages,
    ) -> Result<(Tensor, Tensor), TrainError> {
        let (border, stride) = (images.settings.border, self.stride);
        let input = batch.pixels(border);
        let of_images = (&batch.images[..], &batch.sources[..]);
        let mut target = self
            .teacher
            .describe_windows(
                of_images,
                &batch.windows,
                border,
                &input,
                stride,
                (seen, &self.stop),
            )
            .map_err(|(index, source)| images.wrong(batch.sources[index], source))?;
        let each = target.values().len() / batch.windows.len();
        for window in target.values_mut().chunks_mut(each) {
            self.whitening.apply(window);
        }
        Ok((input, target))
    }

    /// The time of an optimiser step of all students, measured on trial steps.
    pub fn step_time(mut self) -> Result<Duration, TrainError> {
        let images = self.images;
        match &images.settings.training {
            Training::Quick(quick) => self.median_step_time(quick, self.window_side(quick)?),
            Training::Paper(paper) => {
                let start = Instant::now();
                let batch = Batch::whole_image(images, self.field(), 0)?;
                self.learn(&batch, paper.learning_rate)?;
                Ok(start.elapsed())
            }
        }
    }

    /// The median time of three steps on windows, of students that are then thrown away.
    fn median_step_time(&self, quick: &Quick, side: usize) -> Result<Duration, TrainError> {
        let stop = self.stop.clone();
        let mut trial = Self::new(self.teacher, self.config, self.whitening, self.images, stop);
        let mut times = Vec::new();
        for step in 0..3 {
            self.stop.check()?;
            let start = Instant::now();
            let batch = Batch::random_windows(self.images, quick, self.field(), side, step)?;
            trial.learn(&batch, quick.learning_rate)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[1])
    }
}

impl Trainee for ScaleTraining<'_> {
    type Batch = Batch;

    fn stage(&self) -> String {
        format!(
            "training {} students p={}",
            self.students.len(),
            self.field()
        )
    }

    fn steps(&self) -> usize {
        self.schedule.steps()
    }

    fn taken(&self) -> usize {
        self.losses.len()
    }

    fn step(&mut self, batch: &Batch) -> Result<Vec<f64>, TrainError> {
        self.learn(batch, self.schedule.rate(self.losses.len()))
    }

    fn record(&mut self, losses: Vec<f64>, _: &mut dyn Observer) -> Result<f64, TrainError> {
        let loss = losses.iter().sum::<f64>() / losses.len() as f64;
        self.losses.push(loss);
        let step = self.losses.len();
        if let Some(early_stop) = &mut self.early_stop
            && step.is_multiple_of(early_stop.interval(self.schedule.planned()))
            && early_stop.measure(&self.students)
            && step < self.schedule.steps()
        {
            if let Some(better) = early_stop.better() {
                self.students = better;
            }
            self.schedule.end_early(step);
            self.early_stop = None;
        }
        Ok(loss)
    }

    fn blame(&self, loss: usize) -> (String, f64) {
        let what = format!("student {} of p={}", loss + 1, self.field());
        (what, self.schedule.peak())
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.run.and_then(|run| run.checkpoints)
    }

    fn save(&self, _: &Checkpoints) -> Result<(), TrainError> {
        let Some(run) = self.run else {
            return Ok(());
        };
        run.write(Some(Snapshot {
            whitening: self.whitening,
            planned: self.schedule.planned(),
            losses: &self.losses,
            ending: self.schedule.ending,
            students: &self.students,
            early_stop: self.early_stop.as_ref(),
        }))
    }

    fn taken_in_all(&self) -> usize {
        self.run.map_or(0, RunState::steps) + self.taken()
    }
}
