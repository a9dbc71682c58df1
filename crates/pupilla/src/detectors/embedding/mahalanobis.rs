//! The global Gaussian: Mahalanobis distance from the one Gaussian of all features of good images (Rippel, Mertens and Merhof, ICPR
//! 2020, who describe a whole image by pooled features; here each position is a vector).

use nalgebra::DMatrix;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use serde::{Deserialize, Serialize};

use super::covariance::{covariance, mean, noise, projected};
use super::features::Features;
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, Kept, count, named, share};
use crate::error::{TrainError, check_rules};
use crate::features::grid::Grid;
use crate::whitening::inverse_factor;

/// Mahalanobis distance from one Gaussian of all positions, smoothed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mahalanobis {
    /// Embeddings that mean and covariance are found from (200 000, as for the memory bank).
    pub sample: usize,
    /// Added to each variance, as a share of the mean variance: above 0, at most 1 (0.001, our choice). The publication instead shrinks
    /// the covariance towards the mean variance by the share that Ledoit and Wolf (2004) estimate.
    pub regularisation: f64,
}

impl Default for Mahalanobis {
    fn default() -> Self {
        Self {
            sample: 200_000,
            regularisation: 0.001,
        }
    }
}

impl EmbeddingMethod for Mahalanobis {
    type Kept = GlobalGaussian;
    const SMOOTHING: f64 = 4.0;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        check_rules([
            count("sample", self.sample),
            share("regularisation", self.regularisation),
        ])
    }

    fn fit(
        &self,
        features: &Features<'_>,
        _: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<GlobalGaussian, TrainError> {
        let rows = features.sample(self.sample, observer)?;
        let regularisation = self.regularisation;
        GlobalGaussian::fit(&rows, regularisation).ok_or_else(|| TrainError::Setting {
            setting: "regularisation",
            reason: format!(
                "{regularisation} is too little for these images: the covariance cannot be inverted, raise it"
            ),
        })
    }

    fn fits(&self, sizes: &GlobalGaussianSizes, channels: usize) -> bool {
        sizes.channels == channels
    }

    fn describe(&self, sizes: &GlobalGaussianSizes) -> String {
        format!("one Gaussian of {} features", sizes.channels)
    }
}

/// Sizes of the Gaussian.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalGaussianSizes {
    /// Number of features.
    pub channels: usize,
}

/// One Gaussian of the features at every position.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalGaussian {
    /// `[channels]`
    mean: Vec<f32>,
    /// `L⁻¹` with `Σ = L Lᵀ`, lower triangular, `[channels, channels]`.
    whitening: Matrix,
}

impl GlobalGaussian {
    /// The Gaussian of rows of features. A share of the mean variance, `regularisation`, is added to each variance, but never less than
    /// the noise of rounding. `None` if the covariance cannot be inverted all the same.
    ///
    /// # Panics
    /// If there is no row: a programming error.
    pub fn fit(rows: &Matrix, regularisation: f64) -> Option<Self> {
        let channels = rows.columns();
        let mean = mean(rows);
        let mut covariance = covariance(rows, &mean);
        let added = added(&covariance, &mean, regularisation);
        for at in 0..channels {
            covariance[(at, at)] += added;
        }
        let inverse = inverse_factor(covariance)?;
        // nalgebra's order is column by column.
        let lines = inverse.transpose();
        Some(Self {
            mean: mean.iter().map(|&value| value as f32).collect(),
            whitening: Matrix::new(channels, lines.iter().map(|&value| value as f32).collect()),
        })
    }

    /// The Mahalanobis distance of each row; higher is more anomalous.
    ///
    /// # Errors
    /// If `stop` is raised.
    pub fn distances(&self, rows: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let white = projected(rows, &self.mean, &self.whitening, stop)?;
        let squares = white.iter().map(|row| row.iter().map(|x| x * x).sum());
        Ok(squares.map(f32::sqrt).collect())
    }
}

/// What is added to each variance. Features that are all 0 have no scale: then 1, so that distances are Euclidean.
fn added(covariance: &DMatrix<f64>, mean: &[f64], regularisation: f64) -> f64 {
    let wanted = regularisation * covariance.trace();
    let added = wanted.max(noise(mean)) / mean.len() as f64;
    if added > f64::from(f32::MIN_POSITIVE) {
        added
    } else {
        1.0
    }
}

impl Kept for GlobalGaussian {
    type Sizes = GlobalGaussianSizes;

    fn sizes(&self) -> GlobalGaussianSizes {
        GlobalGaussianSizes {
            channels: self.mean.len(),
        }
    }

    fn layout(_: &GlobalGaussianSizes, channels: usize, _: usize) -> Vec<(String, Vec<usize>)> {
        vec![
            named("gaussian.mean", &[channels]),
            named("gaussian.whitening", &[channels, channels]),
        ]
    }

    fn arrays(&self) -> Vec<&[f32]> {
        vec![&self.mean, self.whitening.values()]
    }

    fn read(
        _: &GlobalGaussianSizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self {
        let mut next = || arrays.next().unwrap_or_default();
        Self {
            mean: next(),
            whitening: Matrix::new(channels, next()),
        }
    }

    fn scores(&self, _: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        self.distances(features, stop)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The distance by its definition: sums over all rows, and the whole inverse of the covariance.
    fn slow(rows: &Matrix, regularisation: f64, query: &[f32]) -> f64 {
        let (channels, count) = (rows.columns(), rows.rows() as f64);
        let number = |row: usize, column: usize| f64::from(rows.row(row)[column]);
        let sum = |of: &dyn Fn(usize) -> f64| (0..rows.rows()).map(of).sum::<f64>();
        let mean: Vec<f64> = (0..channels)
            .map(|column| sum(&|row| number(row, column)) / count)
            .collect();
        let mut covariance = DMatrix::from_fn(channels, channels, |left, right| {
            let product =
                |row| (number(row, left) - mean[left]) * (number(row, right) - mean[right]);
            sum(&product) / (count - 1.0)
        });
        let usual = covariance.trace() / channels as f64;
        for at in 0..channels {
            covariance[(at, at)] += regularisation * usual;
        }
        let inverse = covariance.try_inverse().unwrap();
        let centred = DMatrix::from_fn(channels, 1, |row, _| f64::from(query[row]) - mean[row]);
        (centred.transpose() * inverse * centred)[(0, 0)].sqrt()
    }

    proptest! {
        #[test]
        fn distances_are_those_of_the_definition(
            channels in 1usize..9,
            values in proptest::collection::vec(-3.0f32..3.0, 32..400),
            regularisation in 0.001f64..1.0,
        ) {
            let whole = values.len() / channels * channels;
            let rows = Matrix::new(channels, values[..whole].to_vec());
            let found = GlobalGaussian::fit(&rows, regularisation).unwrap();
            let found = found.distances(&rows, &StopFlag::default()).unwrap();
            for (row, found) in rows.iter().zip(found) {
                let expected = slow(&rows, regularisation, row);
                prop_assert!((f64::from(found) - expected).abs() < 1e-4 * expected.max(1.0));
            }
        }
    }

    #[test]
    fn features_that_do_not_vary_give_finite_distances() {
        for value in [0.0, 7.0] {
            let gaussian = GlobalGaussian::fit(&Matrix::new(2, vec![value; 20]), 0.001).unwrap();
            let query = Matrix::new(2, vec![value, value, value + 1.0, value]);
            let [same, other] = gaussian.distances(&query, &StopFlag::default()).unwrap()[..]
            else {
                panic!("a distance a row");
            };
            assert_eq!(same, 0.0);
            assert!(other.is_finite() && other >= 1.0, "{other}");
        }
    }
}
