//! Early stopping: the loss is watched on some good images, which are neither learned nor used for calibration.
//!
//! If the loss has not fallen for a while, the run does not end at once, because a one-cycle run learns much while its rate falls. The
//! run goes back to the students with the lowest loss, and lets the rate fall from there in a few steps (`Schedule::end_early`).

use pupilla_nn::Tensor;

use super::students::StudentsInTraining;

/// Fewer training images than this are all learned: a share of them would say too little.
const FEWEST_IMAGES: usize = 40;

/// How often a run measures the watched loss, at the most.
const MEASUREMENTS: usize = 20;

/// Measurements without a lower loss before a run is ended.
const PATIENCE: usize = 6;

/// A loss is lower than another if it is smaller by this share: less is noise.
const LOWER_BY: f64 = 0.005;

/// Splits `count` training images into images to learn and images to watch, evenly spread. Without early stopping, or with few images,
/// no image is watched.
pub(super) fn split(count: usize, early_stop: bool) -> [Vec<usize>; 2] {
    let watched = match count {
        _ if !early_stop => 0,
        0..FEWEST_IMAGES => 0,
        _ => (count / 20).clamp(4, 16),
    };
    let is_watched =
        |index: &usize| watched > 0 && (index * watched) / count != ((index + 1) * watched) / count;
    let (watched, learned) = (0..count).partition(is_watched);
    [learned, watched]
}

/// Steps from one measurement on `watched` images to the next. A measurement takes a third of a step an image; all measurements take at
/// most a twentieth of the time.
pub(super) fn interval(steps: usize, watched: usize) -> usize {
    (steps / MEASUREMENTS).max(25).max(20 * watched / 3)
}

/// Windows of the watched images, and the losses of the students on these windows.
pub(super) struct EarlyStop {
    /// Pixels and whitened descriptors of each window.
    windows: Vec<(Tensor, Tensor)>,
    stride: usize,
    lowest: LowestLoss,
}

/// The lowest watched loss of a run so far.
#[derive(Default)]
pub(super) struct LowestLoss {
    /// The loss, and the students that had it.
    pub best: Option<(f64, StudentsInTraining)>,
    /// Measurements since then.
    pub since: usize,
}

impl EarlyStop {
    /// Watches these windows.
    pub fn new(windows: Vec<(Tensor, Tensor)>, stride: usize) -> Self {
        Self {
            windows,
            stride,
            lowest: LowestLoss::default(),
        }
    }

    /// Continues from the lowest loss of a checkpoint.
    pub fn resume(&mut self, lowest: LowestLoss) {
        self.lowest = lowest;
    }

    /// Steps from one measurement to the next, in a run of `steps` steps.
    pub fn interval(&self, steps: usize) -> usize {
        interval(steps, self.windows.len())
    }

    /// Measurements since the lowest loss; that loss and its students.
    pub fn state(&self) -> (usize, Option<(f64, &StudentsInTraining)>) {
        let best = self.lowest.best.as_ref();
        (
            self.lowest.since,
            best.map(|(loss, students)| (*loss, students)),
        )
    }

    /// Measures the watched loss. Returns whether the loss has stopped falling.
    pub fn measure(&mut self, students: &StudentsInTraining) -> bool {
        let losses = self
            .windows
            .iter()
            .map(|(input, target)| students.loss(input, target, self.stride));
        let loss = losses.sum::<f64>() / self.windows.len() as f64;
        let lowest = &mut self.lowest;
        let limit = lowest
            .best
            .as_ref()
            .map(|(best, _)| best * (1.0 - LOWER_BY));
        if limit.is_none_or(|limit| loss < limit) {
            lowest.best = Some((loss, students.clone()));
            lowest.since = 0;
        } else {
            lowest.since += 1;
        }
        lowest.since >= PATIENCE
    }

    /// The students that had the lowest loss, if the last measurement was higher.
    pub fn better(&mut self) -> Option<StudentsInTraining> {
        let lowest = &mut self.lowest;
        let (_, students) = lowest.best.take().filter(|_| lowest.since > 0)?;
        Some(students)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_images_are_all_learned_and_of_many_some_are_watched() {
        for (count, expected) in [(1, 0), (39, 0), (40, 4), (198, 9), (5000, 16)] {
            let [learned, watched] = split(count, true);
            assert_eq!(watched.len(), expected, "{count}");
            let mut all = [learned, watched].concat();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
            assert!(split(count, false)[1].is_empty());
        }
    }
}
