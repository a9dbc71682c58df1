//! The losses of every step of a run.

use serde::{Deserialize, Serialize};

/// The terms of the loss at one step, not weighted; `None` for a term that was not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLosses {
    /// Lk.
    pub distillation: Option<f64>,
    /// Lm.
    pub triplet: Option<f64>,
    /// Lc.
    pub compactness: Option<f64>,
    /// Their weighted sum.
    pub total: f64,
}

/// Bytes of a step in a checkpoint.
const STEP_BYTES: usize = 4 * 8;

impl StepLosses {
    /// The terms that were computed, by name.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        let named = [
            ("distillation", self.distillation),
            ("triplet", self.triplet),
            ("compactness", self.compactness),
            ("total", Some(self.total)),
        ];
        named
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl StepLosses {
    /// The inverse of [`named`](Self::named); other names are left aside.
    pub fn from_named(terms: &[(&str, f64)]) -> Self {
        let of = |wanted: &str| {
            terms
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|term| term.1)
        };
        Self {
            distillation: of("distillation"),
            triplet: of("triplet"),
            compactness: of("compactness"),
            total: of("total").unwrap_or_default(),
        }
    }

    /// The line of a step, counted from 1, in the table of [`to_csv`].
    pub fn csv_line(&self, step: u64) -> String {
        let cell = |term: Option<f64>| term.map_or(String::new(), |value| value.to_string());
        format!(
            "{step},{},{},{},{}\n",
            cell(self.distillation),
            cell(self.triplet),
            cell(self.compactness),
            self.total
        )
    }
}

/// A history as bytes; a missing term is NaN, which no finished step has.
pub(super) fn to_bytes(history: &[StepLosses]) -> Vec<u8> {
    history
        .iter()
        .flat_map(|losses| {
            let number = |term: Option<f64>| term.unwrap_or(f64::NAN);
            [
                number(losses.distillation),
                number(losses.triplet),
                number(losses.compactness),
                losses.total,
            ]
        })
        .flat_map(f64::to_le_bytes)
        .collect()
}

/// The inverse of [`to_bytes`]; `None` if the length is not that of whole steps.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Vec<StepLosses>> {
    if !bytes.len().is_multiple_of(STEP_BYTES) {
        return None;
    }
    let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let steps = bytes.chunks_exact(STEP_BYTES).map(|step| {
        let term = |index: usize| Some(number(&step[8 * index..][..8])).filter(|x| !x.is_nan());
        StepLosses {
            distillation: term(0),
            triplet: term(1),
            compactness: term(2),
            total: number(&step[24..]),
        }
    });
    Some(steps.collect())
}

/// A history as a table of comma-separated values, a line a step.
pub fn to_csv(history: &[StepLosses]) -> String {
    let mut text = String::from("step,distillation,triplet,compactness,total\n");
    for (step, losses) in (1..).zip(history) {
        text.push_str(&losses.csv_line(step));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_survives_its_bytes() {
        let history = vec![
            StepLosses {
                distillation: Some(0.1 + 0.2),
                triplet: None,
                compactness: Some(1e-3),
                total: -0.0,
            },
            StepLosses::default(),
        ];
        let bytes = to_bytes(&history);
        assert_eq!(from_bytes(&bytes).as_ref(), Some(&history));
        assert_eq!(from_bytes(&bytes[1..]), None);
        for losses in history.clone() {
            assert_eq!(StepLosses::from_named(&losses.named()), losses);
        }
        assert_eq!(
            to_csv(&history).lines().nth(1),
            Some("1,0.30000000000000004,,0.001,-0")
        );
    }
}
