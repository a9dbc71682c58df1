//! Training the ensemble of one scale: whitening statistics, then the students.

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
use super::config::{Quick, Settings, Training};
use super::scale_teacher::ScaleTeacher;
use super::scoring::Whitening;
use super::seen_images::SeenImages;
use super::students::{Learning, StudentsInTraining};
use super::watch::{self, Schedule, Watch};
use crate::detectors::kind::DetectorKind;
use crate::error::{ScoreError, TrainError};
use crate::features::grid::patches_window;
use crate::features::input::{Border, Window};
use crate::features::tiles::Tiling;
use crate::patch_network::{PatchNetworkConfig, ReceptiveField};
use crate::random::derive_seed;
use crate::statistics::Moments;
use crate::training::budget::Share;
use crate::training::{Checkpoints, Length, Trainee, mean_of_last_tenth, stopped, train};

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

    /// The error of an image.
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
        let grid = teacher.grid(&image, sampling).map_err(wrong)?;
        let view = teacher.look_at(&image, settings.border).map_err(wrong)?;
        let tiling = Tiling::new(field, sampling, STATISTICS_TILE);
        view.describe_tiles(
            &image,
            settings.border,
            tiling.tiles(grid),
            grid.stride,
            |part, described| {
                let [_, _, rows, columns] = part;
                let positions = rows * columns;
                channels.resize(described.len() / positions, Moments::default());
                channels
                    .par_iter_mut()
                    .zip(described.par_chunks(positions))
                    .for_each(|(moments, values)| *moments = moments.merge(Moments::of(values)));
            },
        );
        observer.advance(done as u64 + 1, None);
    }
    observer.finish();
    Ok(Whitening::new(&channels))
}

/// Trains the students of one scale. `share` is the scale's share of the rest of a budget.
pub(super) fn train_students(
    teacher: &ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: Whitening,
    [images, watched]: [&Resized<'_>; 2],
    share: Option<Share>,
    (progress, resumed): (&Progress<'_>, Option<Current>),
    observer: &mut dyn Observer,
) -> Result<Finished, TrainError> {
    let mut class = Class {
        progress: Some(progress),
        ..Class::new(teacher, config, &whitening, images)
    };
    let field = class.field();
    match &images.settings.training {
        Training::Quick(quick) => {
            let side = class.windows(quick)?;
            let steps = match (quick.length, &resumed) {
                (Length::Steps(steps), _) => steps,
                (Length::Budget(_), Some(resumed)) => resumed.planned,
                (Length::Budget(budget), None) => {
                    let mut share = share.unwrap_or(Share::new(budget, 0.0, 1, Duration::ZERO));
                    let trying = Instant::now();
                    let each = class.median_step(quick, side)?;
                    share.left -= trying.elapsed().as_secs_f64();
                    let within = steps_within(quick, watched.len(), &share, each);
                    affordable(within, progress.finished.len(), field, observer)?
                }
            };
            if watched.len() > 0 {
                class.watch = Some(class.watch(watched, side)?);
            }
            class.schedule = Schedule::one_cycle(steps, quick.learning_rate);
            class.resume(resumed);
            let read = |step| Ok(images.random_windows(quick, field, side, step)?);
            train(&mut class, &read, observer)?;
            class.go_back();
            if quick.batch_norm {
                for index in 0..NORM_BATCHES {
                    if observer.stop_requested() {
                        return Err(stopped(TrainError::Stopped, &class));
                    }
                    // Windows that no step has seen.
                    let input = read(steps + index)?.pixels(images.settings.border);
                    class.students.observe(&input, class.stride);
                }
            }
        }
        Training::Paper(paper) => {
            class.schedule = Schedule::constant(paper.epochs * images.len(), paper.learning_rate);
            class.resume(resumed);
            let read = |step| Ok(images.whole_image(field, step)?);
            train(&mut class, &read, observer)?;
        }
    }
    let run = Run {
        steps: class.losses.len(),
        final_loss: mean_of_last_tenth(class.losses.iter().copied()),
    };
    Ok(Finished {
        students: class.students.into_networks(),
        whitening,
        run,
    })
}

/// The time of an optimiser step of all students, measured on copies.
pub(super) fn step_time(
    teacher: &ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: &Whitening,
    images: &Resized<'_>,
) -> Result<Duration, TrainError> {
    let mut class = Class::new(teacher, config, whitening, images);
    match &images.settings.training {
        Training::Quick(quick) => {
            let side = class.windows(quick)?;
            class.median_step(quick, side)
        }
        Training::Paper(paper) => {
            let start = Instant::now();
            class.learn(&images.whole_image(class.field(), 0)?, paper.learning_rate)?;
            Ok(start.elapsed())
        }
    }
}

/// The work of a run beside its `steps` steps, counted in steps: looks at the watched images, and the statistics of batch norm. A step
/// is a forward pass, and a backward pass of about twice its work.
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

    /// The image of a step, with every pixel. Each epoch has all images, in another order.
    fn whole_image(&self, field: ReceptiveField, step: usize) -> Result<Batch, ReadError> {
        let seed = derive_seed(self.settings.seed, "epochs", field.side() as u64);
        let epoch = derive_seed(seed, "epoch", (step / self.len()) as u64);
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(epoch));
        let source = order[step % self.len()];
        let image = self.image(source)?;
        let window = patches_window(field, 1, [0, 0, image.height(), image.width()]);
        Ok(Batch {
            images: vec![image],
            sources: vec![source],
            windows: vec![(0, window)],
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

/// Batches that give the statistics with which batch norm is folded.
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

/// A budget for fewer steps than this is refused, because students learn nothing in fewer. A later scale takes this number in any case.
const FEWEST_STEPS: usize = 20;

/// The students of one scale in training: implements [`Trainee`].
struct Class<'a> {
    teacher: &'a ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: &'a Whitening,
    images: &'a Resized<'a>,
    students: StudentsInTraining,
    seen: SeenImages,
    /// Stride of the positions in a window.
    stride: usize,
    schedule: Schedule,
    /// The mean loss of all students in each step.
    losses: Vec<f64>,
    /// `None` if nothing is watched, or not any more.
    watch: Option<Watch>,
    /// `None` for a trial.
    progress: Option<&'a Progress<'a>>,
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
            stride: match settings.training {
                Training::Quick(_) => field.pooling_stride(),
                Training::Paper(_) => 1,
            },
            schedule: Schedule::constant(0, 0.0),
            losses: Vec::new(),
            watch: None,
            progress: None,
        }
    }

    /// Goes on where a checkpoint ends.
    fn resume(&mut self, resumed: Option<Current>) {
        if let Some(resumed) = resumed {
            self.students = resumed.students;
            self.losses = resumed.losses;
            self.schedule.ending = resumed.ending;
            self.watch = self
                .watch
                .take()
                .zip(resumed.watched)
                .map(|(mut watch, watched)| {
                    watch.resume(watched);
                    watch
                });
        }
    }

    fn field(&self) -> ReceptiveField {
        self.teacher.receptive_field()
    }

    /// Side of the windows: that of the settings, cut down to the smallest image and its border.
    fn windows(&self, quick: &Quick) -> Result<usize, ReadError> {
        let images = self.images;
        let mut side = quick.window_side(self.field());
        for index in 0..images.len() {
            let size = images.images.size(index)?;
            let size = images.settings.resize.target_size(size);
            side = side.min(size.shorter() + 2 * self.field().radius());
        }
        Ok(side)
    }

    /// At the end of a run, goes back to the students with the lowest watched loss.
    fn go_back(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            watch.look(&self.students);
            if let Some(better) = watch.better() {
                self.students = better;
            }
        }
    }

    /// One window of each watched image, at random places, with the teacher's descriptors of them.
    fn watch(&self, watched: &Resized<'_>, side: usize) -> Result<Watch, TrainError> {
        let seed = derive_seed(watched.settings.seed, "watched windows", side as u64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = SeenImages::default();
        let mut windows = Vec::with_capacity(watched.len());
        for index in 0..watched.len() {
            let image = watched.image(index)?;
            let side = side.min(image.size().shorter() + 2 * self.field().radius());
            let window = random_window(&image, self.field(), side, &mut random);
            let batch = Batch {
                images: vec![image],
                sources: vec![index],
                windows: vec![(0, window)],
            };
            windows.push(self.with_target(&batch, watched, &mut seen)?);
        }
        Ok(Watch::new(windows, self.stride))
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
        images: &Resized<'_>,
        seen: &mut SeenImages,
    ) -> Result<(Tensor, Tensor), TrainError> {
        let (border, stride) = (images.settings.border, self.stride);
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

    /// The median time of three real steps of copies that are then thrown away.
    fn median_step(&self, quick: &Quick, side: usize) -> Result<Duration, TrainError> {
        let mut trial = Class::new(self.teacher, self.config, self.whitening, self.images);
        let mut times = Vec::new();
        for step in 0..3 {
            let start = Instant::now();
            let batch = self
                .images
                .random_windows(quick, self.field(), side, step)?;
            trial.learn(&batch, quick.learning_rate)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[1])
    }
}

impl Trainee for Class<'_> {
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
        if let Some(watch) = &mut self.watch
            && step.is_multiple_of(watch.interval(self.schedule.planned()))
            && watch.look(&self.students)
            && step < self.schedule.steps()
        {
            if let Some(better) = watch.better() {
                self.students = better;
            }
            self.schedule.end_early(step);
            self.watch = None;
        }
        Ok(loss)
    }

    fn blame(&self, loss: usize) -> (String, f64) {
        let what = format!("student {} of p={}", loss + 1, self.field());
        (what, self.schedule.peak())
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.progress.and_then(|progress| progress.checkpoints)
    }

    fn save(&self, _: &Checkpoints) -> Result<(), TrainError> {
        let Some(progress) = self.progress else {
            return Ok(());
        };
        progress.write(Some(Snapshot {
            whitening: self.whitening,
            planned: self.schedule.planned(),
            losses: &self.losses,
            ending: self.schedule.ending,
            students: &self.students,
            watch: self.watch.as_ref(),
        }))
    }

    fn taken_in_all(&self) -> usize {
        let earlier = self.progress.map_or(0, Progress::steps);
        earlier + self.taken()
    }
}

/// How many steps of `each`, with the other work of a run, fit into the rest of a share; no more than are worth taking.
pub(super) fn steps_within(
    quick: &Quick,
    watched: usize,
    share: &Share,
    each: Duration,
) -> Result<usize, TrainError> {
    let fewest = (DetectorKind::StudentTeacher, FEWEST_STEPS);
    let steps = share.steps(each, fewest, |steps| steps_aside(quick, watched, steps))?;
    Ok(steps.min(quick.most_budgeted_steps()))
}

/// The steps of a scale after `earlier` scales. If the budget is not enough for a later scale, it takes the fewest steps, with a
/// warning: the finished scales are not thrown away because the machine has become slower.
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
