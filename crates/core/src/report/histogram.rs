//! Scores counted in bins, good images against those of one defect.

use serde::Serialize;

/// An axis for scores: linear, or logarithmic on both sides of 0 where they spread far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct ScoreAxis {
    pub logarithmic: bool,
    /// The ends, as places on the axis.
    pub low: f64,
    pub high: f64,
}

impl ScoreAxis {
    /// An axis that holds all scores and the threshold. `None` without any score.
    pub fn new(scores: &[f32], threshold: f32) -> Option<Self> {
        let mut sorted: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
        if sorted.is_empty() || sorted.iter().any(|score| !score.is_finite()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let threshold = f64::from(threshold);
        let (lowest, highest) = (sorted[0], sorted[sorted.len() - 1]);
        let middle = sorted[sorted.len() / 2].abs().max(1.0);
        let mut axis = Self {
            logarithmic: highest > 8.0 * middle,
            low: 0.0,
            high: 0.0,
        };
        // A threshold that was given far from every score is shown at the edge.
        let reach = (highest - lowest).max(1e-6);
        let threshold = threshold.clamp(lowest - reach, highest + reach);
        let ends = [lowest.min(threshold), highest.max(threshold)].map(|score| axis.place(score));
        let margin = ((ends[1] - ends[0]) * 0.03).max(1e-6);
        axis.low = ends[0] - margin;
        axis.high = ends[1] + margin;
        Some(axis)
    }

    /// Where a score lies.
    pub fn place(&self, score: f64) -> f64 {
        if self.logarithmic {
            score.signum() * score.abs().ln_1p()
        } else {
            score
        }
    }

    /// Where a score lies between the ends: 0 to 1; beyond an end, the end.
    pub fn share(&self, score: f32) -> f64 {
        let place = self.place(f64::from(score)).clamp(self.low, self.high);
        (place - self.low) / (self.high - self.low)
    }

    fn score(&self, place: f64) -> f64 {
        if self.logarithmic {
            place.signum() * place.abs().exp_m1()
        } else {
            place
        }
    }

    /// Where a logarithmic axis has its marks: at most eight places of round scores. `None` for a linear axis, whose marks a plotting
    /// library chooses well.
    pub fn marks(&self) -> Option<Vec<f64>> {
        if !self.logarithmic {
            return None;
        }
        let powers =
            (0..12).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let positive: Vec<f64> = powers.collect();
        let negative = positive.iter().rev().map(|score| -score);
        let all = negative.chain([0.0]).chain(positive.iter().copied());
        let marks: Vec<f64> = all
            .map(|score| self.place(score))
            .filter(|place| (self.low..=self.high).contains(place))
            .collect();
        let every = marks.len().div_ceil(8).max(1);
        Some(marks.into_iter().rev().step_by(every).collect())
    }

    /// The score at a place, for people.
    pub fn label(&self, place: f64) -> String {
        let score = self.score(place);
        let digits = usize::from(self.high - self.low < 8.0 && !self.logarithmic);
        let text = format!("{score:.digits$}");
        if text == "-0" { "0".to_owned() } else { text }
    }

    /// The share of the scores in each of `bins` equal parts of the axis.
    pub fn shares(&self, scores: &[f32], bins: usize) -> Vec<f64> {
        let mut shares = vec![0.0; bins];
        let width = (self.high - self.low) / bins as f64;
        for &score in scores {
            let bin = (self.place(f64::from(score)) - self.low) / width;
            shares[(bin.max(0.0) as usize).min(bins - 1)] += 1.0 / scores.len() as f64;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_counted_once() {
        for scores in [
            &[1.0f32, 2.0, 3.0, 3.5][..],
            &[-3.0, 1.0, 2.0, 900.0, 1e6],
            &[5.0],
        ] {
            let axis = ScoreAxis::new(scores, 2.5).unwrap();
            let shares = axis.shares(scores, 12);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(axis.low < axis.high);
            for &score in scores {
                let place = axis.place(f64::from(score));
                assert!((axis.low..=axis.high).contains(&place));
                assert!(
                    (axis.score(place) - f64::from(score)).abs() < 1e-6 * f64::from(score).abs()
                );
            }
        }
        assert!(ScoreAxis::new(&[], 1.0).is_none());
        assert!(ScoreAxis::new(&[f32::NAN], 1.0).is_none());
    }

    #[test]
    fn far_scores_get_round_marks() {
        let axis = ScoreAxis::new(&[2.0, 3.0, 4.0, 300.0], 5.0).unwrap();
        let labels: Vec<String> = axis
            .marks()
            .unwrap()
            .iter()
            .map(|&at| axis.label(at))
            .collect();
        assert!(
            labels.contains(&"200".to_owned()) && labels.contains(&"5".to_owned()),
            "{labels:?}"
        );
        assert!(
            ScoreAxis::new(&[2.0, 3.0, 4.0], 5.0)
                .unwrap()
                .marks()
                .is_none()
        );
    }
}
