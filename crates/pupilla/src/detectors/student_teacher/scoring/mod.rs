//! The score of the paper's §5: whitening, regression error, predictive variance, normalisation.
//!
//! Plain slices, `[channels, positions]` in row-major order; `positions` are the pixels or grid points of one image. The tests compare
//! every function with a NumPy oracle.

pub mod residual_metric;

use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::features::grid::Grid;
use crate::statistics::{Moments, reciprocal};

/// Mean and standard deviation of each component of the teacher's descriptors over the training
/// images; whitened descriptors are what the students learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Whitening {
    /// μ, one a channel.
    pub mean: Vec<f32>,
    /// σ, one a channel; a component without deviation is whitened to 0.
    pub deviation: Vec<f32>,
}

impl Whitening {
    /// From the moments of each channel.
    pub fn new(channels: &[Moments]) -> Self {
        Self {
            mean: channels
                .iter()
                .map(|moments| moments.mean() as f32)
                .collect(),
            deviation: channels
                .iter()
                .map(|moments| moments.deviation() as f32)
                .collect(),
        }
    }

    /// `(y − μ) · diag(σ)⁻¹`, in place, `[channels, positions]`.
    ///
    /// # Panics
    /// If the length is not a multiple of the number of channels.
    pub fn apply(&self, descriptors: &mut [f32]) {
        assert!(descriptors.len().is_multiple_of(self.mean.len()));
        let positions = descriptors.len() / self.mean.len();
        if positions == 0 {
            return;
        }
        descriptors
            .par_chunks_mut(positions)
            .zip(self.mean.par_iter().zip(&self.deviation))
            .for_each(|(channel, (&mean, &deviation))| {
                let factor = reciprocal(f64::from(deviation), f64::from(mean)) as f32;
                for value in channel {
                    *value = (*value - mean) * factor;
                }
            });
    }
}

/// Regression error and predictive variance at every position; both at least 0, higher is more
/// anomalous.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// `e`, the squared distance of the students' mean from the whitened teacher.
    pub regression_error: Vec<f32>,
    /// `v`, the mean squared distance of the students from their mean.
    pub predictive_variance: Vec<f32>,
}

impl Terms {
    /// `e` and `v` of whitened teacher descriptors and of each student's predictions.
    ///
    /// The variance is computed as `1/M Σ ‖μᵢ − μ̄‖²`, which equals the paper's
    /// `1/M Σ ‖μᵢ‖² − ‖μ̄‖²` without its cancellation.
    ///
    /// # Shapes
    /// - `teacher`: `[channels, positions]`
    /// - `students`: each `[channels, positions]`
    ///
    /// # Panics
    /// If the lengths differ or there is no student.
    pub fn new(teacher: &[f32], students: &[&[f32]], positions: usize) -> Self {
        assert!(!students.is_empty(), "an ensemble has at least one student");
        assert!(
            students
                .iter()
                .all(|student| student.len() == teacher.len())
        );
        assert!(positions > 0 && teacher.len().is_multiple_of(positions));
        const PIECE: usize = 4096;
        let share = 1.0 / students.len() as f64;
        let mut regression_error = vec![0.0f32; positions];
        let mut predictive_variance = vec![0.0f32; positions];
        regression_error
            .par_chunks_mut(PIECE)
            .zip(predictive_variance.par_chunks_mut(PIECE))
            .enumerate()
            .for_each(|(piece, (errors, variances))| {
                let start = piece * PIECE;
                let count = errors.len();
                let mut error = vec![0.0f64; count];
                let mut variance = vec![0.0f64; count];
                for channel in 0..teacher.len() / positions {
                    let from = channel * positions + start;
                    for at in 0..count {
                        let predictions =
                            students.iter().map(|student| f64::from(student[from + at]));
                        let mean = predictions.clone().sum::<f64>() * share;
                        let distance = mean - f64::from(teacher[from + at]);
                        error[at] += distance * distance;
                        variance[at] +=
                            predictions.map(|value| (value - mean).powi(2)).sum::<f64>() * share;
                    }
                }
                for at in 0..count {
                    errors[at] = error[at] as f32;
                    variances[at] = variance[at] as f32;
                }
            });
        Self {
            regression_error,
            predictive_variance,
        }
    }

    /// Zero at every position of a grid.
    pub(crate) fn zeros(grid: Grid) -> Self {
        let positions = grid.rows * grid.columns;
        Self {
            regression_error: vec![0.0; positions],
            predictive_variance: vec![0.0; positions],
        }
    }

    /// Copies the terms of a part of the grid (top, left, rows, columns) into the terms of the whole grid.
    pub(crate) fn fill(&mut self, grid: Grid, [top, left, rows, columns]: [usize; 4], part: &Self) {
        for row in 0..rows {
            let to = (top + row) * grid.columns + left;
            let from = row * columns;
            self.regression_error[to..to + columns]
                .copy_from_slice(&part.regression_error[from..from + columns]);
            self.predictive_variance[to..to + columns]
                .copy_from_slice(&part.predictive_variance[from..from + columns]);
        }
    }

    /// `e + v`, summed over all positions.
    pub(crate) fn sum(&self) -> f64 {
        let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum::<f64>();
        sum(&self.regression_error) + sum(&self.predictive_variance)
    }
}

/// How the students' errors are judged before they are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scoring {
    /// As published: `e` and `v` are plain squared lengths, and each is normalised by its own mean and deviation.
    Published,
    /// In the metric of good parts' residuals, see `docs/explanation/student-teacher.md`; `e` and `v` are normalised by the
    /// deviation of their sum.
    Mahalanobis,
}

impl Scoring {
    /// The scoring of model files without this field.
    pub(crate) fn published() -> Self {
        Self::Published
    }
}

impl FromStr for Scoring {
    type Err = UnknownScoring;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "published" => Ok(Self::Published),
            "mahalanobis" => Ok(Self::Mahalanobis),
            _ => Err(UnknownScoring(text.to_string())),
        }
    }
}

/// A word that names no scoring.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not a scoring: choose mahalanobis or published")]
pub struct UnknownScoring(String);

/// Means and standard deviations of `e` and `v` over the validation images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// Mean of the regression errors.
    pub error_mean: f64,
    /// Standard deviation of the regression errors; of the sum of both terms with [`Scoring::Mahalanobis`].
    pub error_deviation: f64,
    /// Mean of the predictive variances.
    pub variance_mean: f64,
    /// Standard deviation of the predictive variances, 0 with a single student; of the sum of both terms as above.
    pub variance_deviation: f64,
}

impl Normalisation {
    /// From the moments of all `e` and all `v`.
    pub fn new(errors: Moments, variances: Moments) -> Self {
        Self {
            error_mean: errors.mean(),
            error_deviation: errors.deviation(),
            variance_mean: variances.mean(),
            variance_deviation: variances.deviation(),
        }
    }

    /// From the same, and the moments of all `e + v`, whose deviation is that of both terms.
    pub fn of_sum(errors: Moments, variances: Moments, sums: Moments) -> Self {
        Self {
            error_deviation: sums.deviation(),
            variance_deviation: sums.deviation(),
            ..Self::new(errors, variances)
        }
    }

    /// `(e − e_μ)/e_σ` and `(v − v_μ)/v_σ` at every position, the summands of [`apply`](Self::apply).
    pub fn parts(&self, terms: &Terms) -> [Vec<f32>; 2] {
        let error_factor = reciprocal(self.error_deviation, self.error_mean);
        let variance_factor = reciprocal(self.variance_deviation, self.variance_mean);
        let part = |values: &[f32], mean: f64, factor: f64| {
            let values = values.iter();
            values
                .map(|&value| ((f64::from(value) - mean) * factor) as f32)
                .collect()
        };
        [
            part(&terms.regression_error, self.error_mean, error_factor),
            part(
                &terms.predictive_variance,
                self.variance_mean,
                variance_factor,
            ),
        ]
    }

    /// `(e − e_μ)/e_σ + (v − v_μ)/v_σ` at every position; a term without deviation counts 0.
    pub fn apply(&self, terms: &Terms) -> Vec<f32> {
        let error_factor = reciprocal(self.error_deviation, self.error_mean);
        let variance_factor = reciprocal(self.variance_deviation, self.variance_mean);
        terms
            .regression_error
            .iter()
            .zip(&terms.predictive_variance)
            .map(|(&error, &variance)| {
                ((f64::from(error) - self.error_mean) * error_factor
                    + (f64::from(variance) - self.variance_mean) * variance_factor)
                    as f32
            })
            .collect()
    }
}
