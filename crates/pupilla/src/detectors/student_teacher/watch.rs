//! Early stopping: the loss is watched on some good images, which are neither learned nor used for calibration.
//!
//! If the loss has not fallen for a while, the run does not end at once, because a one-cycle run learns much while its rate falls. The
//! run goes back to the students with the lowest loss, and lets the rate fall from there in a few steps ([`Schedule::end_early`]).

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::read::ReadError;
use pupilla_core::image::{Image, Size};
use pupilla_nn::Tensor;
use serde::{Deserialize, Serialize};

use super::students::StudentsInTraining;
use crate::training::schedule::{cosine, one_cycle};

/// Fewer training images than this are all learned: a share of them would say too little.
const FEWEST_IMAGES: usize = 40;

/// How often a run looks, at the most.
const LOOKS: usize = 20;

/// Looks without a lower loss before a run is ended.
const PATIENCE: usize = 6;

/// A loss is lower if it is so by this share: less is noise.
const SHARE: f64 = 0.005;

/// Some of the images of a source.
pub(super) struct Part<'a> {
    pub images: &'a dyn ImageSource,
    pub indices: Vec<usize>,
}

impl ImageSource for Part<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn image(&self, index: usize) -> Result<Image, ReadError> {
        self.images.image(self.indices[index])
    }

    fn size(&self, index: usize) -> Result<Size, ReadError> {
        self.images.size(self.indices[index])
    }

    fn name(&self, index: usize) -> String {
        self.images.name(self.indices[index])
    }
}

/// Splits the training images into images to learn and images to watch, evenly spread. Without early stopping, or with few images, no
/// image is watched.
pub(super) fn split(images: &dyn ImageSource, early_stop: bool) -> [Part<'_>; 2] {
    let count = images.len();
    let watched = match count {
        _ if !early_stop => 0,
        0..FEWEST_IMAGES => 0,
        _ => (count / 20).clamp(4, 16),
    };
    let is_watched =
        |index: &usize| watched > 0 && (index * watched) / count != ((index + 1) * watched) / count;
    let (watched, learned) = (0..count).partition(is_watched);
    [learned, watched].map(|indices| Part { images, indices })
}

/// Steps from one look at `watched` images to the next. A look takes a third of a step an image; all looks take at most a twentieth of
/// the time.
pub(super) fn interval(steps: usize, watched: usize) -> usize {
    (steps / LOOKS).max(25).max(20 * watched / 3)
}

/// How a run ends before its planned steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ending {
    /// The step at which it was decided.
    from: usize,
    /// The rate there.
    rate: f64,
    /// Steps from there on.
    more: usize,
}

/// The learning rate of a run that may end early.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    peak: f64,
    planned: usize,
    /// Whether it is the peak in every step.
    constant: bool,
    /// Set once its end was decided.
    pub ending: Option<Ending>,
}

impl Schedule {
    /// One cycle.
    pub fn one_cycle(steps: usize, peak: f64) -> Self {
        Self {
            peak,
            planned: steps,
            constant: false,
            ending: None,
        }
    }

    /// The same rate in every step.
    pub fn constant(steps: usize, rate: f64) -> Self {
        Self {
            constant: true,
            ..Self::one_cycle(steps, rate)
        }
    }

    /// The steps that were planned when the run began.
    pub fn planned(&self) -> usize {
        self.planned
    }

    /// The highest rate.
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// All steps.
    pub fn steps(&self) -> usize {
        self.ending
            .map_or(self.planned, |ending| ending.from + ending.more)
    }

    /// The rate of a step.
    pub fn rate(&self, step: usize) -> f64 {
        match self.ending {
            Some(Ending { from, rate, more }) if step >= from => {
                cosine(rate, 0.0, (step - from) as f64 / more as f64)
            }
            _ if self.constant => self.peak,
            _ => one_cycle(step, self.planned, self.peak),
        }
    }

    /// From `step` on the rate falls to zero, in a tenth of the steps that were planned.
    pub fn end_early(&mut self, step: usize) {
        let more = self.planned.div_ceil(10).min(self.planned - step);
        self.ending = Some(Ending {
            from: step,
            rate: self.rate(step),
            more,
        });
    }
}

/// Windows of the watched images, and how the students did on them.
pub(super) struct Watch {
    /// Pixels and whitened descriptors of each window.
    windows: Vec<(Tensor, Tensor)>,
    stride: usize,
    watched: Watched,
}

/// How the students did on watched images so far.
#[derive(Default)]
pub(super) struct Watched {
    /// The lowest loss, and the students that had it.
    pub best: Option<(f64, StudentsInTraining)>,
    /// Looks since then.
    pub since: usize,
}

impl Watch {
    /// Watches these windows.
    pub fn new(windows: Vec<(Tensor, Tensor)>, stride: usize) -> Self {
        Self {
            windows,
            stride,
            watched: Watched::default(),
        }
    }

    /// Goes on from what was seen before.
    pub fn resume(&mut self, watched: Watched) {
        self.watched = watched;
    }

    /// Steps from one look to the next, in a run of `steps` steps.
    pub fn interval(&self, steps: usize) -> usize {
        interval(steps, self.windows.len())
    }

    /// Looks since the lowest loss; that loss and its students.
    pub fn state(&self) -> (usize, Option<(f64, &StudentsInTraining)>) {
        let best = self.watched.best.as_ref();
        (
            self.watched.since,
            best.map(|(loss, students)| (*loss, students)),
        )
    }

    /// Whether the loss has stopped falling.
    pub fn look(&mut self, students: &StudentsInTraining) -> bool {
        let losses = self
            .windows
            .iter()
            .map(|(input, target)| students.loss(input, target, self.stride));
        let loss = losses.sum::<f64>() / self.windows.len() as f64;
        if self
            .watched
            .best
            .as_ref()
            .is_none_or(|(best, _)| loss < best * (1.0 - SHARE))
        {
            self.watched.best = Some((loss, students.clone()));
            self.watched.since = 0;
        } else {
            self.watched.since += 1;
        }
        self.watched.since >= PATIENCE
    }

    /// The students as they were at the look with the lowest loss, if that was not the last.
    pub fn better(&mut self) -> Option<StudentsInTraining> {
        let (_, students) = self
            .watched
            .best
            .take()
            .filter(|_| self.watched.since > 0)?;
        Some(students)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_all_learned_and_of_many_some_are_watched() {
        for (count, expected) in [(1, 0), (39, 0), (40, 4), (198, 9), (5000, 16)] {
            let images = vec![Image::new(1, 1, vec![0.0; 3]); count];
            let [learned, watched] = split(&images, true);
            assert_eq!(watched.len(), expected, "{count}");
            let mut all = [learned.indices, watched.indices].concat();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert!(split(&images, false)[1].is_empty());
        }
    }

    #[test]
    fn a_run_that_ends_early_goes_down_from_where_it_was() {
        let mut schedule = Schedule::one_cycle(100, 1.0);
        assert_eq!(schedule.steps(), 100);
        let before = schedule.rate(60);
        schedule.end_early(60);
        assert_eq!(schedule.steps(), 70);
        assert_eq!(schedule.rate(60), before);
        assert!(schedule.rate(65) < 0.6 * before && schedule.rate(69) < 0.05 * before);
        assert_eq!(schedule.rate(10), one_cycle(10, 100, 1.0));
        let mut late = Schedule::one_cycle(100, 1.0);
        late.end_early(95);
        assert_eq!(late.steps(), 100);
    }
}
