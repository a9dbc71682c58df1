//! Average precision and the best F1. Only thresholds at the scores of defective pixels can change them.

use super::key;
use super::ranking::{Ranking, Step};

/// The best F1 of all thresholds. What scores **at least** [`threshold`](Self::threshold) is called defective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestF1 {
    /// The harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`, in `(0, 1]`.
    pub f1: f64,
    /// Where it is reached: a score that occurs; of several, the highest, which has the fewest false alarms.
    pub threshold: f32,
    /// The share of defective ones among those that are called defective.
    pub precision: f64,
    /// The share of those called defective among the defective ones.
    pub recall: f64,
}

/// What a sweep gathers for precision and recall.
pub(super) struct Precision {
    defined: bool,
    /// Defective pixels in all.
    defect: u64,
    /// Defective pixels that score at least the step's score.
    found: u64,
    /// Sum of `gained * found / called` over the steps.
    sum: f64,
    /// What rounding took from `sum` (Neumaier's compensation): there are millions of terms.
    lost: f64,
    best: Candidate,
}

/// A threshold's F1 as the integers that it is a fraction of.
#[derive(Clone, Copy)]
struct Candidate {
    key: u32,
    found: u64,
    called: u64,
}

impl Precision {
    pub(super) fn new(ranking: &Ranking<'_>) -> Self {
        Self {
            defined: ranking.normal > 0 && ranking.defect > 0,
            defect: ranking.defect,
            found: 0,
            sum: 0.0,
            lost: 0.0,
            best: Candidate {
                key: u32::MAX,
                found: 0,
                called: 0,
            },
        }
    }

    pub(super) fn visit(&mut self, step: &Step<'_>) {
        let gained = step.pixels;
        self.found += gained;
        let called = self.found + step.normal_above + step.normal_tied;

        let term = gained as f64 * (self.found as f64 / called as f64);
        let sum = self.sum + term;
        self.lost += if self.sum >= term {
            (self.sum - sum) + term
        } else {
            (term - sum) + self.sum
        };
        self.sum = sum;

        // F1 = 2 found / (called + defect): compared as fractions, so that equal ones are equal.
        let denominator = |called: u64| u128::from(called + self.defect);
        let better = u128::from(self.found) * denominator(self.best.called)
            > u128::from(self.best.found) * denominator(called);
        if better {
            self.best = Candidate {
                key: step.key,
                found: self.found,
                called,
            };
        }
    }

    pub(super) fn average(&self) -> Option<f64> {
        self.defined
            .then(|| ((self.sum + self.lost) / self.defect as f64).min(1.0))
    }

    pub(super) fn best_f1(&self) -> Option<BestF1> {
        let Candidate { key, found, called } = self.best;
        self.defined.then(|| BestF1 {
            f1: (2 * found) as f64 / (called + self.defect) as f64,
            threshold: key::to_score(key),
            precision: found as f64 / called as f64,
            recall: found as f64 / self.defect as f64,
        })
    }
}
