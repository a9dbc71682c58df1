//! The verdicts on a test set against the labels.

use serde::{Deserialize, Serialize};

/// How many images of a test set were called good or defective, and how many of them are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Images that score above this were called defective.
    pub threshold: f32,
    /// Good images that were called good.
    pub good_accepted: usize,
    /// Good images that were called defective: false alarms.
    pub good_rejected: usize,
    /// Defective images that were called defective.
    pub defective_found: usize,
    /// Defective images that were called good.
    pub defective_missed: usize,
}

impl Confusion {
    /// The matrix of a threshold, without an image.
    pub fn new(threshold: f32) -> Self {
        Self {
            threshold,
            ..Self::default()
        }
    }

    /// Counts an image: whether it is defective, and whether it was called so.
    pub fn add(&mut self, defective: bool, called_defective: bool) {
        let count = match (defective, called_defective) {
            (false, false) => &mut self.good_accepted,
            (false, true) => &mut self.good_rejected,
            (true, true) => &mut self.defective_found,
            (true, false) => &mut self.defective_missed,
        };
        *count += 1;
    }

    /// The share of the good images that were called defective, in `[0, 1]`; `None` without a good image.
    pub fn false_reject_rate(&self) -> Option<f64> {
        share(self.good_rejected, self.good_accepted)
    }

    /// The share of the defective images that were called good, in `[0, 1]`; `None` without a defective image.
    pub fn miss_rate(&self) -> Option<f64> {
        share(self.defective_missed, self.defective_found)
    }
}

fn share(wrong: usize, right: usize) -> Option<f64> {
    let all = wrong + right;
    (all > 0).then(|| wrong as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_counted_by_label_and_verdict() {
        let mut found = Confusion::new(2.5);
        assert_eq!((found.false_reject_rate(), found.miss_rate()), (None, None));
        for (defective, called) in [
            (false, false),
            (false, true),
            (true, true),
            (true, false),
            (true, true),
        ] {
            found.add(defective, called);
        }
        let wanted = Confusion {
            threshold: 2.5,
            good_accepted: 1,
            good_rejected: 1,
            defective_found: 2,
            defective_missed: 1,
        };
        assert_eq!(found, wanted);
        assert_eq!(found.false_reject_rate(), Some(0.5));
        assert_eq!(found.miss_rate(), Some(1.0 / 3.0));
    }
}
