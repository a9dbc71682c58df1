//! The learning rate over the steps of a run.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How a run ends before its planned steps: the rate falls to zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// The step at which the fall begins.
    from: usize,
    /// The rate at that step.
    rate: f64,
    /// Steps of the fall.
    more: usize,
}

/// The learning rate of a run that may end early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    peak: f64,
    planned: usize,
    /// Whether the rate is the peak in every step.
    constant: bool,
    /// Set once the run is to end early.
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

/// One cycle (Smith and Topin 2018, with the constants of PyTorch's `OneCycleLR`): a cosine from
/// 1/25 of `peak` up to it over the first 30 % of the steps, and down to 1/10 000 of the start.
pub(crate) fn one_cycle(step: usize, steps: usize, peak: f64) -> f64 {
    let (start, end) = (peak / 25.0, peak / 25.0 / 1e4);
    let top = (0.3 * steps as f64 - 1.0).max(0.0);
    let last = steps.saturating_sub(1) as f64;
    let step = step as f64;
    if step < top {
        cosine(start, peak, step / top)
    } else if last > top {
        cosine(peak, end, (step - top) / (last - top))
    } else {
        peak
    }
}

/// Half a cosine from `from` to `to`, of which `share` (0 to 1) is over.
pub(crate) fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_pytorch() {
        // PyTorch's formula for max_lr 1e-3 and 20 steps, worked out in Python.
        for (step, expected) in [
            (0, 4e-5),
            (3, 6.683_281_572_999_747e-4),
            (5, 1e-3),
            (10, 7.169_430_017_913_008e-4),
            (19, 4e-9),
        ] {
            let rate = one_cycle(step, 20, 1e-3);
            assert!((rate - expected).abs() < 1e-9, "{step}: {rate}");
        }
    }

    #[test]
    fn a_run_of_one_step_has_a_rate() {
        assert_eq!(one_cycle(0, 1, 1e-3), 1e-3);
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
