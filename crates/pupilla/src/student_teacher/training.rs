//! Training the ensemble of one scale: whitening statistics, then the students.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use pupilla_core::observer::Observer;
use pupilla_nn::{Optimizer, Tensor};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Current, Finished, Progress, Snapshot};
use super::config::{Length, Paper, Quick, Settings, Training};
use super::scale::{Grid, patches_window, window_tensor};
use super::scale_teacher::ScaleTeacher;
use super::seen_images::SeenImages;
use super::step::{Learning, StudentsInTraining};
use super::tiles::{TileOfGrid, Tiling};
use super::watch::{self, Ending, Schedule, Watch};
use crate::detector_kind::DetectorKind;
use crate::device;
use crate::error::{ScoreError, TrainError};
use crate::input::{Border, Window};
use crate::patch_network::PatchNetworkConfig;
use crate::random::derive_seed;
use crate::receptive_field::ReceptiveField;
use crate::score::Whitening;
use crate::statistics::Moments;

/// Reads images and resizes them as the networks will see them.
pub(super) struct Resized<'a> {
    pub images: &'a dyn ImageSource,
    pub settings: &'a Settings,
}

impl Resized<'_> {
    pub fn image(&self, index: usize) -> Result<Image, ReadError> {
        Ok(self.settings.resize.apply_owned(self.images.image(index)?))
    }

    /// Some images, read in parallel, in the order asked for.
    fn several(&self, indices: &[usize]) -> Result<Vec<Image>, ReadError> {
        indices.par_iter().map(|&index| self.image(index)).collect()
    }

    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// What is wrong with an image.
    pub fn wrong(&self, index: usize, source: ScoreError) -> TrainError {
        TrainError::Image {
            name: self.images.name(index),
            source,
        }
    }
}

/// Optimiser steps that were run, and the loss at their end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub steps: usize,
    /// Mean loss of all students over the last tenth of the steps.
    pub final_loss: f64,
}

impl Run {
    /// From the loss of each step.
    fn of(losses: &[f64]) -> Self {
        let last = &losses[losses.len() - losses.len().div_ceil(10)..];
        Self {
            steps: losses.len(),
            final_loss: last.iter().sum::<f64>() / last.len() as f64,
        }
    }
}

/// Side of the tiles that statistics are taken in, by one network alone.
const STATISTICS_TILE: usize = 256;

/// Mean and deviation of the teacher's descriptors over at most `most` of the training images, one
/// pass, in `f64`.
pub(super) fn whitening(
    teacher: &ScaleTeacher,
    images: &Resized<'_>,
    most: usize,
    observer: &mut dyn Observer,
) -> Result<Whitening, TrainError> {
    let settings = images.settings;
    let field = teacher.receptive_field();
    let sampling = settings.training.sampling();
    let mut chosen: Vec<usize> = (0..images.len()).collect();
    let seed = derive_seed(settings.seed, "statistics images", field.side() as u64);
    chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    chosen.truncate(most);

    let mut channels = Vec::new();
    observer.start(
        &format!("teacher statistics p={field}"),
        chosen.len() as u64,
    );
    for (done, &index) in chosen.iter().enumerate() {
        if observer.stop_requested() {
            return Err(TrainError::Stopped);
        }
        let image = images.image(index)?;
        let wrong = |source| images.wrong(index, source);
        let grid = Grid::of(&image, teacher, sampling).map_err(wrong)?;
        let view = teacher.look_at(&image, settings.border).map_err(wrong)?;
        for TileOfGrid { part, window } in Tiling::new(field, sampling, STATISTICS_TILE).tiles(grid)
        {
            let [_, _, rows, columns] = part;
            let input = || Cow::Owned(window_tensor(&image, &window, settings.border));
            let described = view.describe(&window, grid.stride, [rows, columns], input);
            let positions = rows * columns;
            channels.resize(described.len() / positions, Moments::default());
            channels
                .par_iter_mut()
                .zip(described.par_chunks(positions))
                .for_each(|(moments, values)| *moments = moments.merge(Moments::of(values)));
        }
        observer.advance(done as u64 + 1, None);
    }
    observer.finish();
    Ok(Whitening::new(&channels))
}

/// A scale's part of a budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// The whole budget, in seconds.
    pub budget: u64,
    /// Seconds for this scale's steps; below 0 if what is beside them takes more than the share.
    pub left: f64,
    /// Scales that what is left of the budget is shared by: this one and those behind it.
    pub scales: usize,
}

impl Share {
    /// Of a whole budget that `gone` seconds have been taken from, for the first of so many `scales`, of which this one spends `beside`
    /// on other things than steps.
    pub fn new(budget: u64, gone: f64, scales: usize, beside: Duration) -> Self {
        Self {
            budget,
            left: (budget as f64 - gone) / scales as f64 - beside.as_secs_f64(),
            scales,
        }
    }
}

/// Trains the students of one scale. `share` is what a budget has left for it.
pub(super) fn train_students(
    teacher: &ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: Whitening,
    [images, watched]: [&Resized<'_>; 2],
    share: Option<Share>,
    (progress, resumed): (&Progress<'_>, Option<Current>),
    observer: &mut dyn Observer,
) -> Result<Finished, TrainError> {
    let mut class = Class::new(teacher, config, &whitening, images);
    let run = match &images.settings.training {
        Training::Quick(quick) => {
            class.run_quick(quick, watched, share, (progress, resumed), observer)?
        }
        Training::Paper(paper) => class.run_paper(paper, (progress, resumed), observer)?,
    };
    Ok(Finished {
        students: class.students.into_networks(),
        whitening,
        run,
    })
}

/// How long an optimiser step of all students takes, measured on copies that are thrown away.
pub(super) fn step_time(
    teacher: &ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: &Whitening,
    images: &Resized<'_>,
) -> Result<Duration, TrainError> {
    let mut class = Class::new(teacher, config, whitening, images);
    match &images.settings.training {
        Training::Quick(quick) => {
            let (side, stride) = class.windows(quick)?;
            let batch = |step| {
                class
                    .images
                    .random_windows(quick, class.field(), side, step)
            };
            class.median_step(&batch, stride, quick.learning_rate)
        }
        Training::Paper(paper) => {
            let start = Instant::now();
            let image = images.image(0)?;
            class.step(
                &whole_image(image, 0, class.field()),
                1,
                paper.learning_rate,
            )?;
            Ok(start.elapsed())
        }
    }
}

/// What a run of so many steps does beside them, counted in steps: looks at the watched images, and the statistics of batch norm. A
/// step is a forward pass, and a backward pass of about twice its work.
pub(super) fn steps_aside(quick: &Quick, watched: usize, steps: usize) -> f64 {
    let looks = steps / watch::interval(steps, watched) + 1;
    let norm = if quick.batch_norm { NORM_BATCHES } else { 0 };
    (norm * quick.windows + looks * watched) as f64 / (3 * quick.windows) as f64
}

impl Resized<'_> {
    /// The windows of a step: from images drawn at random, at random places. The same step has the same windows each time.
    fn random_windows(
        &self,
        quick: &Quick,
        field: ReceptiveField,
        side: usize,
        step: usize,
    ) -> Result<Batch, ReadError> {
        let seed = derive_seed(self.settings.seed, "windows", field.side() as u64);
        let mut random = ChaCha8Rng::seed_from_u64(derive_seed(seed, "step", step as u64));
        let chosen: Vec<usize> = (0..quick.windows)
            .map(|_| random.random_range(0..self.len()))
            .collect();
        let mut sources = chosen.clone();
        sources.sort_unstable();
        sources.dedup();
        let read = self.several(&sources)?;
        let mut windows = Vec::with_capacity(quick.windows);
        for index in chosen {
            let index = sources.partition_point(|&source| source < index);
            windows.push((index, random_window(&read[index], field, side, &mut random)));
        }
        Ok(Batch {
            images: read,
            sources,
            windows,
        })
    }
}

/// Any place whose patches are centred on pixels of the image; its first patch is centred on any pixel, so the grid has a
/// random offset.
fn random_window(
    image: &Image,
    field: ReceptiveField,
    side: usize,
    random: &mut ChaCha8Rng,
) -> Window {
    let radius = field.radius() as isize;
    let room = |size: usize| size + 2 * field.radius() - side;
    Window {
        top: random.random_range(0..=room(image.height())) as isize - radius,
        left: random.random_range(0..=room(image.width())) as isize - radius,
        height: side,
        width: side,
    }
}

/// Every pixel of an image.
fn whole_image(image: Image, source: usize, field: ReceptiveField) -> Batch {
    let everything = [0, 0, image.height(), image.width()];
    let window = patches_window(field, 1, everything);
    Batch {
        images: vec![image],
        sources: vec![source],
        windows: vec![(0, window)],
    }
}

impl Batch {
    /// The windows as the networks read them, `[windows, 3, height, width]`.
    fn pixels(&self, border: Border) -> Tensor {
        let mut values = Vec::new();
        for (index, window) in &self.windows {
            window.read(&self.images[*index], border, &mut values);
        }
        let first = self.windows[0].1;
        Tensor::new(values, [self.windows.len(), 3, first.height, first.width])
    }
}

/// Batches behind the statistics that batch norm is folded with.
const NORM_BATCHES: usize = 32;

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

/// A budget that does not reach for so many steps is refused: nothing is learned in fewer. A scale behind others takes them all the same.
const FEWEST_STEPS: usize = 20;

/// The students of one teacher.
struct Class<'a> {
    teacher: &'a ScaleTeacher,
    whitening: &'a Whitening,
    images: &'a Resized<'a>,
    students: StudentsInTraining,
    seen: SeenImages,
}

/// What a step looks at: windows of one size, each with the index of its image.
struct Batch {
    images: Vec<Image>,
    /// Where in the training images each of `images` stands.
    sources: Vec<usize>,
    windows: Vec<(usize, Window)>,
}

impl<'a> Class<'a> {
    fn new(
        teacher: &'a ScaleTeacher,
        config: PatchNetworkConfig,
        whitening: &'a Whitening,
        images: &'a Resized<'a>,
    ) -> Self {
        let settings = images.settings;
        let purpose = format!("student weights p={}", teacher.receptive_field());
        let seeds = (0..settings.students)
            .map(|student| derive_seed(settings.seed, &purpose, student as u64));
        Self {
            teacher,
            whitening,
            images,
            students: StudentsInTraining::new(config, seeds, learning(&settings.training)),
            seen: SeenImages::default(),
        }
    }

    fn field(&self) -> ReceptiveField {
        self.teacher.receptive_field()
    }

    /// Side of the windows, and stride of the positions in them.
    fn windows(&self, quick: &Quick) -> Result<(usize, usize), ReadError> {
        let side = self.fitting_side(quick.window_side(self.field()))?;
        Ok((side, self.field().pooling_stride()))
    }

    /// Random windows on the grid, one-cycle learning rate.
    fn run_quick(
        &mut self,
        quick: &Quick,
        watched: &Resized<'_>,
        share: Option<Share>,
        (progress, resumed): (&Progress<'_>, Option<Current>),
        observer: &mut dyn Observer,
    ) -> Result<Run, TrainError> {
        let (side, stride) = self.windows(quick)?;
        let (images, field) = (self.images, self.field());
        let batch = |step: usize| images.random_windows(quick, field, side, step);
        let steps = match (quick.length, &resumed) {
            (Length::Steps(steps), _) => steps,
            (Length::Budget(_), Some(resumed)) => resumed.planned,
            (Length::Budget(budget), None) => {
                let mut share = share.unwrap_or(Share::new(budget, 0.0, 1, Duration::ZERO));
                let trying = Instant::now();
                let each = self.median_step(&batch, stride, quick.learning_rate)?;
                share.left -= trying.elapsed().as_secs_f64();
                let within = steps_within(quick, watched.len(), &share, each);
                let earlier = progress.finished.len();
                affordable(within, earlier, self.field(), observer)?
            }
        };
        let mut watch = match watched.len() {
            0 => None,
            _ => Some(self.watch(watched, side, stride)?),
        };
        observer.start(&self.stage(), steps as u64);
        let mut schedule = Schedule::new(steps, quick.learning_rate);
        let mut losses = Vec::new();
        if let Some(resumed) = resumed {
            self.students = resumed.students;
            losses = resumed.losses;
            schedule.ending = resumed.ending;
            watch = watch.zip(resumed.watched).map(|(mut watch, watched)| {
                watch.resume(watched);
                watch
            });
        }
        let mut step = losses.len();
        let mut next = (step < schedule.steps()).then(|| batch(step));
        while let Some(this) = next.transpose()? {
            if observer.stop_requested() {
                return Err(progress.stopped(step, || {
                    self.snapshot(steps, &losses, schedule.ending, watch.as_ref())
                }));
            }
            let more = step + 1 < schedule.steps();
            let read = || more.then(|| batch(step + 1));
            let loss;
            (loss, next) = self.checked_step(
                (step, &this),
                stride,
                (schedule.rate(step), quick.learning_rate),
                read,
            )?;
            losses.push(loss);
            step += 1;
            observer.advance(step as u64, Some(loss));
            if let Some(watching) = &mut watch
                && step.is_multiple_of(watch::interval(steps, watched.len()))
                && watching.look(&self.students)
                && step < schedule.steps()
            {
                if let Some(better) = watching.better() {
                    self.students = better;
                }
                schedule.end_early(step);
                watch = None;
            }
            progress.after(step, || {
                self.snapshot(steps, &losses, schedule.ending, watch.as_ref())
            })?;
        }
        if let Some(mut watching) = watch {
            watching.look(&self.students);
            if let Some(better) = watching.better() {
                self.students = better;
            }
        }
        observer.finish();
        if quick.batch_norm {
            for index in 0..NORM_BATCHES {
                if observer.stop_requested() {
                    return Err(progress.stopped(step, || {
                        self.snapshot(steps, &losses, schedule.ending, None)
                    }));
                }
                // Windows that no step has seen.
                let input = batch(steps + index)?.pixels(images.settings.border);
                self.students.observe(&input, stride);
            }
        }
        Ok(Run::of(&losses))
    }

    /// One window of each watched image, at random places, with what the teacher says about them.
    fn watch(
        &self,
        watched: &Resized<'_>,
        side: usize,
        stride: usize,
    ) -> Result<Watch, TrainError> {
        let seed = derive_seed(watched.settings.seed, "watched windows", side as u64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = SeenImages::default();
        let mut windows = Vec::with_capacity(watched.len());
        for index in 0..watched.len() {
            let image = watched.image(index)?;
            let side = side.min(image.width().min(image.height()) + 2 * self.field().radius());
            let window = random_window(&image, self.field(), side, &mut random);
            let batch = Batch {
                images: vec![image],
                sources: vec![index],
                windows: vec![(0, window)],
            };
            windows.push(self.with_target(&batch, watched, stride, &mut seen)?);
        }
        Ok(Watch::new(windows, stride))
    }

    /// One whole image a step, every pixel, a constant learning rate.
    fn run_paper(
        &mut self,
        paper: &Paper,
        (progress, resumed): (&Progress<'_>, Option<Current>),
        observer: &mut dyn Observer,
    ) -> Result<Run, TrainError> {
        let (images, field) = (self.images, self.field());
        let seed = derive_seed(images.settings.seed, "epochs", field.side() as u64);
        let count = images.len();
        let mut epoch = usize::MAX;
        let mut order: Vec<usize> = Vec::new();
        let mut batch = |step: usize| -> Result<Batch, ReadError> {
            if step / count != epoch {
                epoch = step / count;
                order = (0..count).collect();
                let seed = derive_seed(seed, "epoch", epoch as u64);
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            }
            let index = order[step % count];
            Ok(whole_image(images.image(index)?, index, field))
        };
        let steps = paper.epochs * count;
        observer.start(&self.stage(), steps as u64);
        let mut losses = Vec::new();
        if let Some(resumed) = resumed {
            self.students = resumed.students;
            losses = resumed.losses;
        }
        let mut step = losses.len();
        let mut next = (step < steps).then(|| batch(step));
        while let Some(this) = next.transpose()? {
            if observer.stop_requested() {
                return Err(progress.stopped(step, || self.snapshot(steps, &losses, None, None)));
            }
            let read = || (step + 1 < steps).then(|| batch(step + 1));
            let rates = (paper.learning_rate, paper.learning_rate);
            let loss;
            (loss, next) = self.checked_step((step, &this), 1, rates, read)?;
            losses.push(loss);
            step += 1;
            observer.advance(step as u64, Some(loss));
            progress.after(step, || self.snapshot(steps, &losses, None, None))?;
        }
        observer.finish();
        Ok(Run::of(&losses))
    }

    /// Everything that the steps so far have changed, to be written.
    fn snapshot<'s>(
        &'s self,
        planned: usize,
        losses: &'s [f64],
        ending: Option<Ending>,
        watch: Option<&'s Watch>,
    ) -> Snapshot<'s> {
        Snapshot {
            whitening: self.whitening,
            planned,
            losses,
            ending,
            students: &self.students,
            watch,
        }
    }

    fn stage(&self) -> String {
        format!(
            "training {} students p={}",
            self.students.len(),
            self.field()
        )
    }

    /// A step, whose mean loss must be a number, while the next step's images are read; `rates` are its learning rate and the
    /// run's highest.
    fn checked_step<Read: Send>(
        &mut self,
        (step, batch): (usize, &Batch),
        stride: usize,
        (rate, peak): (f64, f64),
        read: impl FnOnce() -> Read + Send,
    ) -> Result<(f64, Read), TrainError> {
        let (losses, read) = device::work_beside(|| self.step(batch, stride, rate), read);
        let losses = losses?;
        if let Some(student) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(TrainError::Diverged {
                what: format!("student {} of p={}", student + 1, self.field()),
                step,
                loss: losses[student],
                learning_rate: peak,
            });
        }
        Ok((losses.iter().sum::<f64>() / losses.len() as f64, read))
    }

    /// One optimiser step of every student towards the teacher's descriptors of the same windows; their
    /// losses before it.
    fn step(&mut self, batch: &Batch, stride: usize, rate: f64) -> Result<Vec<f64>, TrainError> {
        let mut seen = std::mem::take(&mut self.seen);
        let pair = self.with_target(batch, self.images, stride, &mut seen);
        self.seen = seen;
        let (input, target) = pair?;
        Ok(self.students.step(&input, &target, stride, rate))
    }

    /// The pixels of a batch of windows of `images`, and the teacher's whitened descriptors.
    fn with_target(
        &self,
        batch: &Batch,
        images: &Resized<'_>,
        stride: usize,
        seen: &mut SeenImages,
    ) -> Result<(Tensor, Tensor), TrainError> {
        let border = images.settings.border;
        let input = batch.pixels(border);
        let of_images = (&batch.images[..], &batch.sources[..]);
        let mut target = self
            .teacher
            .describe_windows(of_images, &batch.windows, border, &input, stride, seen)
            .map_err(|(index, source)| images.wrong(batch.sources[index], source))?;
        let each = target.values().len() / batch.windows.len();
        for window in target.values_mut().chunks_mut(each) {
            self.whitening.apply(window);
        }
        Ok((input, target))
    }

    /// The windows' side: at most `wanted`, cut down to the smallest image and its border.
    fn fitting_side(&self, wanted: usize) -> Result<usize, ReadError> {
        let images = self.images;
        let field = self.teacher.receptive_field();
        let mut side = wanted;
        for index in 0..images.len() {
            let [width, height] = images.images.size(index)?;
            let (width, height) = images.settings.resize.target_size(width, height);
            side = side.min(width.min(height) + 2 * field.radius());
        }
        Ok(side)
    }

    /// The median time of three real steps of copies that are then thrown away.
    fn median_step(
        &self,
        batch: &impl Fn(usize) -> Result<Batch, ReadError>,
        stride: usize,
        rate: f64,
    ) -> Result<Duration, TrainError> {
        let mut trial = Class {
            students: self.students.clone(),
            seen: SeenImages::default(),
            ..*self
        };
        let mut times = Vec::new();
        for step in 0..3 {
            let start = Instant::now();
            trial.step(&batch(step)?, stride, rate)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[1])
    }
}

/// How many steps of `each`, with what a run does beside them, fit into what a share has left; no more than are worth taking.
pub(super) fn steps_within(
    quick: &Quick,
    watched: usize,
    share: &Share,
    each: Duration,
) -> Result<usize, TrainError> {
    let each = each.as_secs_f64().max(1e-6);
    let all = share.left.max(0.0) / each;
    // What more steps need beside them is not less.
    let aside = steps_aside(quick, watched, all as usize);
    let steps = (all - aside).max(0.0) as usize;
    if steps < FEWEST_STEPS {
        let needed = FEWEST_STEPS as f64 + steps_aside(quick, watched, FEWEST_STEPS);
        // A second more of the budget is a part of one for each scale; a tenth is for other times of the same steps.
        let missing = 1.1 * share.scales as f64 * (each * needed - share.left);
        return Err(TrainError::BudgetBelowSmallest {
            what: DetectorKind::StudentTeacher,
            steps: FEWEST_STEPS,
            smallest_seconds: share.budget + (missing.ceil() as u64).max(1),
        });
    }
    Ok(steps.min(quick.most_budgeted_steps()))
}

/// The steps of a scale behind `earlier` ones: whose training is not thrown away because the machine was slower than at the start and has left too
/// little for the last one.
fn affordable(
    within: Result<usize, TrainError>,
    earlier: usize,
    field: ReceptiveField,
    observer: &mut dyn Observer,
) -> Result<usize, TrainError> {
    match within {
        Err(TrainError::BudgetBelowSmallest {
            smallest_seconds, ..
        }) if earlier > 0 => {
            observer.warn(&format!(
                "the budget does not reach for p={field}: it is trained for {FEWEST_STEPS} steps, the fewest, which overruns it; about {smallest_seconds} s would have been enough"
            ));
            Ok(FEWEST_STEPS)
        }
        within => within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_scale_is_trained_whatever_is_left() {
        #[derive(Default)]
        struct Warnings(Vec<String>);
        impl Observer for Warnings {
            fn warn(&mut self, text: &str) {
                self.0.push(text.to_string());
            }
        }
        let lacks = || {
            let share = Share::new(60, 60.0, 1, Duration::ZERO);
            steps_within(&Quick::default(), 0, &share, Duration::from_secs(2))
        };
        let field = ReceptiveField::P65;
        let mut seen = Warnings::default();
        assert!(matches!(
            affordable(lacks(), 0, field, &mut seen),
            Err(TrainError::BudgetBelowSmallest { .. })
        ));
        assert!(seen.0.is_empty());
        assert_eq!(
            affordable(lacks(), 1, field, &mut seen).unwrap(),
            FEWEST_STEPS
        );
        assert!(
            seen.0[0].contains("p=65") && seen.0[0].contains("20 steps"),
            "{:?}",
            seen.0
        );
        assert_eq!(affordable(Ok(70), 1, field, &mut seen).unwrap(), 70);
        assert_eq!(seen.0.len(), 1);
    }

    #[test]
    fn a_budget_becomes_whole_steps_or_says_the_smallest() {
        let seconds = Duration::from_secs;
        let plain = Quick {
            batch_norm: false,
            ..Quick::default()
        };
        let steps = |share| steps_within(&plain, 0, &share, seconds(2));
        let smallest = |share| match steps(share) {
            Err(
                error @ TrainError::BudgetBelowSmallest {
                    smallest_seconds, ..
                },
            ) => {
                let asked = format!("at least {smallest_seconds} s");
                assert!(error.to_string().contains(&asked), "{error}");
                smallest_seconds
            }
            other => panic!("{other:?}"),
        };
        let none = seconds(0);
        assert_eq!(steps(Share::new(61, 0.0, 1, none)).unwrap(), 30);
        assert_eq!(steps(Share::new(131, 9.0, 2, none)).unwrap(), 30);
        // 20 steps of 2 s; a tenth of the 30 s that are missing is added.
        assert_eq!(smallest(Share::new(10, 0.0, 1, none)), 43);
        // Both scales lack 30 s.
        assert_eq!(smallest(Share::new(20, 0.0, 2, none)), 86);
        // What is gone, and what is beside the steps, is missing too, though the share is over with it.
        assert_eq!(smallest(Share::new(10, 4.0, 1, seconds(26))), 76);
        // What is named suffices.
        assert_eq!(steps(Share::new(76, 4.0, 1, seconds(26))).unwrap(), 23);
    }

    #[test]
    fn what_a_run_does_beside_its_steps_is_within_the_budget() {
        // Muon's steps are limited.
        let quick = Quick {
            optimizer: Optimizer::Adam,
            ..Quick::default()
        };
        for (left, watched) in [(100, 0), (700, 4), (700, 16), (36_000, 16)] {
            let each = Duration::from_millis(500);
            let share = Share::new(left, 0.0, 1, Duration::ZERO);
            let steps = steps_within(&quick, watched, &share, each).unwrap();
            let all = steps as f64 + steps_aside(&quick, watched, steps);
            assert!(all <= 2.0 * left as f64, "{left}: {all}");
            assert!(
                all > 0.95 * 2.0 * left as f64,
                "{left}: only {all} of {}",
                2 * left
            );
        }
    }
}
