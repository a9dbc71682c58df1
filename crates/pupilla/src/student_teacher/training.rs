//! Training the ensemble of one scale: whitening statistics, then the students.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use pupilla_core::image_source::ImageSource;
use pupilla_core::observer::Observer;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::config::{Length, Paper, Quick, Settings, Training};
use super::detector::Sampling;
use super::scale::{Ensemble, Grid, patches_window, window_tensor};
use super::scale_teacher::ScaleTeacher;
use super::step::{Learning, Planes, StudentsInTraining};
use crate::device;
use crate::error::{ScoreError, TrainError};
use crate::input::{Border, Window};
use crate::optimizer::Optimizer;
use crate::patch_network::PatchNetworkConfig;
use crate::random::derive_seed;
use crate::schedule::one_cycle;
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    pub steps: usize,
    /// Mean loss of all students over the last tenth of the steps.
    pub final_loss: f64,
}

/// Mean and deviation of the teacher's descriptors over (a sample of) the training images, one
/// pass, in `f64`; and the number of images that were looked at.
pub(super) fn whitening(
    teacher: &ScaleTeacher,
    images: &Resized<'_>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<(Whitening, usize), TrainError> {
    let settings = images.settings;
    let field = teacher.receptive_field();
    let (sampling, most) = match &settings.training {
        Training::Quick(quick) => (Sampling::Grid, quick.statistics_images),
        Training::Paper(_) => (Sampling::Dense, usize::MAX),
    };
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
        // In strips, so that memory does not grow with the image.
        let strip = (320 / grid.stride).max(1);
        for top in (0..grid.rows).step_by(strip) {
            for left in (0..grid.columns).step_by(strip) {
                let part = [
                    top,
                    left,
                    strip.min(grid.rows - top),
                    strip.min(grid.columns - left),
                ];
                let window = patches_window(field, grid.stride, part);
                let input = || window_tensor(&image, &window, settings.border, device);
                let described = view.describe(&window, grid.stride, input);
                let positions = part[2] * part[3];
                channels.resize(described.len() / positions, Moments::default());
                channels
                    .par_iter_mut()
                    .zip(described.par_chunks(positions))
                    .for_each(|(moments, values)| *moments = moments.merge(Moments::of(values)));
            }
        }
        observer.advance(done as u64 + 1, None);
    }
    observer.finish();
    Ok((Whitening::new(&channels), chosen.len()))
}

/// Trains the students of one scale. `deadline` ends a budget's time for this scale.
pub(super) fn train_students(
    teacher: &ScaleTeacher,
    config: PatchNetworkConfig,
    whitening: Whitening,
    images: &Resized<'_>,
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
) -> Result<(Ensemble, Run), TrainError> {
    let field = teacher.receptive_field();
    let settings = images.settings;
    let purpose = format!("student weights p={field}");
    let seeds =
        (0..settings.students).map(|student| derive_seed(settings.seed, &purpose, student as u64));
    let mut class = Class {
        teacher,
        whitening: &whitening,
        images,
        students: StudentsInTraining::new(config, seeds, learning(&settings.training)),
    };
    let run = match &settings.training {
        Training::Quick(quick) => class.run_quick(quick, deadline, observer)?,
        Training::Paper(paper) => class.run_paper(paper, observer)?,
    };
    let ensemble = Ensemble {
        students: class.students.into_networks(),
        teacher: teacher.clone(),
        whitening,
    };
    Ok((ensemble, run))
}

impl Batch {
    /// The windows as the networks read them, `[windows, 3, height, width]`.
    fn planes(&self, border: Border) -> Planes {
        let mut values = Vec::new();
        for (index, window) in &self.windows {
            window.read(&self.images[*index], border, &mut values);
        }
        let first = self.windows[0].1;
        Planes {
            values,
            shape: [self.windows.len(), 3, first.height, first.width],
        }
    }
}

/// Batches behind the statistics that batch norm is folded with.
const NORM_BATCHES: usize = 32;

fn learning(training: &Training) -> Learning {
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

/// A budget that does not reach for so many steps is refused: nothing is learned in fewer.
const FEWEST_STEPS: usize = 20;

/// The students of one teacher.
struct Class<'a> {
    teacher: &'a ScaleTeacher,
    whitening: &'a Whitening,
    images: &'a Resized<'a>,
    students: StudentsInTraining,
}

/// What a step looks at: windows of one size, each with the index of its image.
struct Batch {
    images: Vec<Image>,
    /// Where in the training images each of `images` stands.
    sources: Vec<usize>,
    windows: Vec<(usize, Window)>,
}

impl Class<'_> {
    /// Random windows on the grid, one-cycle learning rate.
    fn run_quick(
        &mut self,
        quick: &Quick,
        deadline: Option<Instant>,
        observer: &mut dyn Observer,
    ) -> Result<Run, TrainError> {
        let field = self.teacher.receptive_field();
        let images = self.images;
        let seed = derive_seed(images.settings.seed, "windows", field.side() as u64);
        let stride = field.pooling_stride();
        let side = self.fitting_side(quick.window_side(field))?;
        let batch = |step: usize| -> Result<Batch, ReadError> {
            let mut random = ChaCha8Rng::seed_from_u64(derive_seed(seed, "step", step as u64));
            let chosen: Vec<usize> = (0..quick.windows)
                .map(|_| random.random_range(0..images.len()))
                .collect();
            let mut sources = chosen.clone();
            sources.sort_unstable();
            sources.dedup();
            let read = images.several(&sources)?;
            let mut windows = Vec::with_capacity(quick.windows);
            for index in chosen {
                let index = sources.partition_point(|&source| source < index);
                let image = &read[index];
                // Any place whose patches are centred on pixels of the image; its first patch is
                // centred on any pixel, so the grid has a random offset.
                let radius = field.radius() as isize;
                let room = |size: usize| size + 2 * field.radius() - side;
                let window = Window {
                    top: random.random_range(0..=room(image.height())) as isize - radius,
                    left: random.random_range(0..=room(image.width())) as isize - radius,
                    height: side,
                    width: side,
                };
                windows.push((index, window));
            }
            Ok(Batch {
                images: read,
                sources,
                windows,
            })
        };
        let steps = match quick.length {
            Length::Steps(steps) => steps,
            Length::Budget(seconds) => {
                let deadline =
                    deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(seconds));
                self.affordable_steps(&batch, stride, quick.learning_rate, deadline)?
            }
        };
        observer.start(&self.stage(), steps as u64);
        let rate = |step: usize| one_cycle(step, steps, quick.learning_rate);
        let run = self.run(steps, stride, rate, quick.learning_rate, batch, observer)?;
        observer.finish();
        if quick.batch_norm {
            for index in 0..NORM_BATCHES {
                if observer.stop_requested() {
                    return Err(TrainError::Stopped);
                }
                // Windows that no step has seen.
                let input = batch(steps + index)?.planes(images.settings.border);
                self.students.observe(input, stride);
            }
        }
        Ok(run)
    }

    /// One whole image a step, every pixel, a constant learning rate.
    fn run_paper(&mut self, paper: &Paper, observer: &mut dyn Observer) -> Result<Run, TrainError> {
        let field = self.teacher.receptive_field();
        let images = self.images;
        let seed = derive_seed(images.settings.seed, "epochs", field.side() as u64);
        let count = images.len();
        let mut epoch = usize::MAX;
        let mut order: Vec<usize> = Vec::new();
        let batch = |step: usize| -> Result<Batch, ReadError> {
            if step / count != epoch {
                epoch = step / count;
                order = (0..count).collect();
                let seed = derive_seed(seed, "epoch", epoch as u64);
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            }
            let index = order[step % count];
            let image = images.image(index)?;
            let everything = [0, 0, image.height(), image.width()];
            let window = patches_window(field, 1, everything);
            Ok(Batch {
                images: vec![image],
                sources: vec![index],
                windows: vec![(0, window)],
            })
        };
        let steps = paper.epochs * count;
        observer.start(&self.stage(), steps as u64);
        let rate = |_| paper.learning_rate;
        let run = self.run(steps, 1, rate, paper.learning_rate, batch, observer)?;
        observer.finish();
        Ok(run)
    }

    fn stage(&self) -> String {
        let field = self.teacher.receptive_field();
        format!("training {} students p={field}", self.students.len())
    }

    /// The loop both presets share; the next step's images are read during a step.
    fn run(
        &mut self,
        steps: usize,
        stride: usize,
        rate: impl Fn(usize) -> f64 + Sync,
        peak: f64,
        mut batch: impl FnMut(usize) -> Result<Batch, ReadError> + Send,
        observer: &mut dyn Observer,
    ) -> Result<Run, TrainError> {
        let last = steps - steps.div_ceil(10);
        let mut final_losses = Vec::new();
        let mut next = Some(batch(0));
        for step in 0..steps {
            if observer.stop_requested() {
                return Err(TrainError::Stopped);
            }
            let Some(this) = next.transpose()? else {
                break;
            };
            let losses;
            (losses, next) = rayon::join(
                || self.step(&this, stride, rate(step)),
                || (step + 1 < steps).then(|| batch(step + 1)),
            );
            let losses = losses?;
            if let Some(student) = losses.iter().position(|loss| !loss.is_finite()) {
                return Err(TrainError::Diverged {
                    what: format!(
                        "student {} of p={}",
                        student + 1,
                        self.teacher.receptive_field()
                    ),
                    step,
                    loss: losses[student],
                    learning_rate: peak,
                });
            }
            let loss = losses.iter().sum::<f64>() / losses.len() as f64;
            if step >= last {
                final_losses.push(loss);
            }
            observer.advance(step as u64 + 1, Some(loss));
        }
        Ok(Run {
            steps,
            final_loss: final_losses.iter().sum::<f64>() / final_losses.len() as f64,
        })
    }

    /// One optimiser step of every student towards the teacher's descriptors of the same windows; their
    /// losses before it.
    fn step(&mut self, batch: &Batch, stride: usize, rate: f64) -> Result<Vec<f64>, TrainError> {
        let border = self.images.settings.border;
        let input = batch.planes(border);
        let data = TensorData::new(input.values.clone(), input.shape);
        let tensor = Tensor::<4>::from_data(data, &device::cpu());
        let mut target = self
            .teacher
            .describe_windows(&batch.images, &batch.windows, border, tensor, stride)
            .map_err(|(index, source)| self.images.wrong(batch.sources[index], source))?;
        let each = target.values.len() / batch.windows.len();
        for window in target.values.chunks_mut(each) {
            self.whitening.apply(window);
        }
        Ok(self.students.step(input, target, stride, rate))
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

    /// How many steps fit until the deadline, from the median time of three real steps of copies
    /// that are then thrown away.
    fn affordable_steps(
        &self,
        batch: &impl Fn(usize) -> Result<Batch, ReadError>,
        stride: usize,
        rate: f64,
        deadline: Instant,
    ) -> Result<usize, TrainError> {
        let mut trial = Class {
            teacher: self.teacher,
            whitening: self.whitening,
            images: self.images,
            students: self.students.clone(),
        };
        let mut times = Vec::new();
        for step in 0..3 {
            let start = Instant::now();
            trial.step(&batch(step)?, stride, rate)?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        steps_within(deadline.saturating_duration_since(Instant::now()), times[1])
    }
}

/// How many steps of `each` fit into the time that is `left`.
fn steps_within(left: Duration, each: Duration) -> Result<usize, TrainError> {
    let steps = (left.as_secs_f64() / each.as_secs_f64().max(1e-6)) as usize;
    if steps < FEWEST_STEPS {
        let missing = each.mul_f64(FEWEST_STEPS as f64).saturating_sub(left);
        return Err(TrainError::BudgetTooSmall {
            missing_seconds: missing.as_secs_f64().ceil() as u64,
        });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_becomes_whole_steps_or_says_what_it_lacks() {
        let seconds = Duration::from_secs;
        assert_eq!(steps_within(seconds(61), seconds(2)).unwrap(), 30);
        match steps_within(seconds(10), seconds(2)) {
            Err(TrainError::BudgetTooSmall { missing_seconds }) => assert_eq!(missing_seconds, 30),
            other => panic!("{other:?}"),
        }
    }
}
