//! PaDiM: Mahalanobis distance from the Gaussian of each position (Defard et al., ICPR 2020 workshops). A Gaussian says what the
//! features of good images are at its position, and how they vary together.

use nalgebra::DMatrix;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::features::{Features, choose};
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, Kept, at_most, fits_a_file, named};
use crate::error::{TrainError, check_rules};
use crate::features::grid::Grid;
use crate::whitening::inverse_factor;

/// Mahalanobis distance from the Gaussian of each position, smoothed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Padim {
    /// Features that are used, drawn at random (100).
    pub channels: usize,
    /// Added to each variance (0.01).
    pub regularisation: f64,
}

/// The most features of a Gaussian: its triangle then has half a million numbers.
const MOST_CHANNELS: usize = 1024;

impl Default for Padim {
    fn default() -> Self {
        Self {
            channels: 100,
            regularisation: 0.01,
        }
    }
}

impl EmbeddingMethod for Padim {
    type Kept = PositionGaussians;
    const SMOOTHING: f64 = 4.0;

    fn check(&self, resize: Resize, available: usize) -> Result<(), TrainError> {
        let wanted = self.channels;
        check_rules([
            at_most("channels", wanted, MOST_CHANNELS),
            (
                "channels",
                wanted <= available,
                format!("at most the {available} that the features have, not {wanted}"),
            ),
            (
                "regularisation",
                self.regularisation > 0.0 && self.regularisation <= 1e6,
                "above 0, at most a million".to_string(),
            ),
            (
                "resize",
                matches!(resize, Resize::Square(_)),
                "a square (as 256): there is a Gaussian for each position, so all images must have the same".to_string(),
            ),
        ])
    }

    fn fit(
        &self,
        features: &Features<'_>,
        _: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<PositionGaussians, TrainError> {
        let grid = features.grid(0)?;
        let positions = grid.rows * grid.columns;
        fits_a_file(
            "channels",
            positions as u64 * triangle(self.channels) as u64,
        )?;
        let chosen = choose(
            features.channels(),
            self.channels,
            features.seed("channels"),
        );
        let mut learning = GaussiansInTraining::new(chosen, positions);
        features.for_each(observer, |_, _, features| {
            learning.add(&features);
            Ok(())
        })?;
        let regularisation = self.regularisation;
        let gaussians = learning.finish(regularisation, &observer.stop_flag())?;
        gaussians.ok_or_else(|| TrainError::Setting {
            setting: "regularisation",
            reason: format!(
                "{regularisation} is too little for these images: a covariance cannot be inverted, raise it"
            ),
        })
    }

    fn fits(&self, sizes: &GaussianSizes, channels: usize) -> bool {
        let chosen = &sizes.channels;
        chosen.len() == self.channels
            && (1..=MOST_CHANNELS).contains(&chosen.len())
            && chosen.is_sorted_by(|one, next| one < next)
            && chosen.iter().all(|channel| *channel < channels)
    }

    fn describe(&self, sizes: &GaussianSizes) -> String {
        format!("Gaussians of {} features", sizes.channels.len())
    }
}

/// Sizes of the Gaussians.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaussianSizes {
    /// The features that are used, ascending.
    pub channels: Vec<usize>,
}

impl Kept for PositionGaussians {
    type Sizes = GaussianSizes;

    fn sizes(&self) -> GaussianSizes {
        GaussianSizes {
            channels: self.channels.clone(),
        }
    }

    fn layout(sizes: &GaussianSizes, _: usize, positions: usize) -> Vec<(String, Vec<usize>)> {
        let count = sizes.channels.len();
        vec![
            named("gaussians.mean", &[positions, count]),
            named("gaussians.whitening", &[positions, triangle(count)]),
        ]
    }

    fn arrays(&self) -> Vec<&[f32]> {
        vec![self.mean.values(), self.whitening.values()]
    }

    fn read(sizes: &GaussianSizes, _: usize, arrays: &mut dyn Iterator<Item = Vec<f32>>) -> Self {
        let count = sizes.channels.len();
        let mut next = || arrays.next().unwrap_or_default();
        Self {
            channels: sizes.channels.clone(),
            mean: Matrix::new(count, next()),
            whitening: Matrix::new(triangle(count), next()),
        }
    }

    fn scores(&self, _: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        self.distances(features, stop)
    }
}

impl PositionGaussians {
    /// The Mahalanobis distance of the features at each position, `[positions, all channels]`.
    ///
    /// # Errors
    /// If `stop` is raised.
    ///
    /// # Panics
    /// If there are other positions than learned, or fewer channels: callers check.
    pub fn distances(&self, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        assert_eq!(features.rows(), self.mean.rows(), "the positions learned");
        (0..features.rows())
            .into_par_iter()
            .map(|position| {
                stop.check()?;
                let (row, mean) = (features.row(position), self.mean.row(position));
                let chosen = self.channels.iter().zip(mean);
                let centred: Vec<f32> =
                    chosen.map(|(&channel, mean)| row[channel] - mean).collect();
                Ok(length_of_product(self.whitening.row(position), &centred))
            })
            .collect()
    }
}

/// The length of `L x`, with the lower triangle of `L` row by row.
fn length_of_product(mut triangle: &[f32], x: &[f32]) -> f32 {
    let mut squares = 0.0;
    for at in 1..=x.len() {
        let (line, rest) = triangle.split_at(at);
        let value: f32 = line
            .iter()
            .zip(x)
            .map(|(weight, value)| weight * value)
            .sum();
        squares += value * value;
        triangle = rest;
    }
    squares.sqrt()
}

/// Means and inverse deviations of chosen features at the positions of a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionGaussians {
    /// The features that are used, ascending.
    pub channels: Vec<usize>,
    /// `[positions, channels]`
    pub mean: Matrix,
    /// The lower triangle, row by row, of `L⁻¹` with `Σ = L Lᵀ`: `[positions, channels · (channels + 1) / 2]`. The Mahalanobis
    /// distance is the length of `L⁻¹ (x − μ)`.
    pub whitening: Matrix,
}

/// Numbers of a lower triangle.
pub fn triangle(channels: usize) -> usize {
    channels * (channels + 1) / 2
}

/// Gaussians that are being learned, image by image (Welford 1962, in 64 bits).
pub struct GaussiansInTraining {
    channels: Vec<usize>,
    images: usize,
    /// One a position.
    positions: Vec<Sums>,
}

struct Sums {
    mean: Vec<f64>,
    /// The lower triangle of the sum of outer products of distances from the mean.
    products: Vec<f64>,
}

impl GaussiansInTraining {
    /// Nothing learned yet.
    pub fn new(channels: Vec<usize>, positions: usize) -> Self {
        let count = channels.len();
        let sums = || Sums {
            mean: vec![0.0; count],
            products: vec![0.0; triangle(count)],
        };
        Self {
            positions: (0..positions).map(|_| sums()).collect(),
            channels,
            images: 0,
        }
    }

    /// Learns an image's features, `[positions, all channels]`.
    ///
    /// # Panics
    /// If there are other positions than before: callers check.
    pub fn add(&mut self, features: &Matrix) {
        assert_eq!(features.rows(), self.positions.len(), "the same positions");
        self.images += 1;
        let (images, channels) = (self.images as f64, &self.channels);
        self.positions
            .par_iter_mut()
            .enumerate()
            .for_each(|(position, sums)| {
                let row = features.row(position);
                let mut before = Vec::with_capacity(channels.len());
                let mut after = Vec::with_capacity(channels.len());
                for (&channel, mean) in channels.iter().zip(&mut sums.mean) {
                    let value = f64::from(row[channel]);
                    before.push(value - *mean);
                    *mean += (value - *mean) / images;
                    after.push(value - *mean);
                }
                let mut products = &mut sums.products[..];
                for (at, before) in before.iter().enumerate() {
                    let (line, rest) = products.split_at_mut(at + 1);
                    for (product, after) in line.iter_mut().zip(&after) {
                        *product += before * after;
                    }
                    products = rest;
                }
            });
    }

    /// The Gaussians, with `regularisation` added to each variance: covariances of few images could not be inverted. `None` if a
    /// covariance still cannot be inverted, or a number overflows.
    ///
    /// # Errors
    /// If `stop` is raised.
    pub fn finish(
        self,
        regularisation: f64,
        stop: &StopFlag,
    ) -> Result<Option<PositionGaussians>, Stopped> {
        let count = self.channels.len();
        let divisor = self.images.saturating_sub(1).max(1) as f64;
        let whitening = self.positions.par_iter().map(|sums| {
            stop.check()?;
            let covariance = DMatrix::from_fn(count, count, |row, column| {
                let (row, column) = (row.max(column), row.min(column));
                let own = if row == column { regularisation } else { 0.0 };
                sums.products[triangle(row) + column] / divisor + own
            });
            let Some(inverse) = inverse_factor(covariance) else {
                return Ok(None);
            };
            let lines = (0..count).flat_map(|row| (0..=row).map(move |column| (row, column)));
            Ok(Some(lines.map(|at| inverse[at] as f32).collect()))
        });
        let whitening: Vec<Option<Vec<f32>>> = whitening.collect::<Result<_, _>>()?;
        let Some(whitening) = whitening.into_iter().collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let mean = self.positions.iter().flat_map(|sums| &sums.mean);
        Ok(Some(PositionGaussians {
            mean: Matrix::new(count, mean.map(|&value| value as f32).collect()),
            whitening: Matrix::new(triangle(count), whitening.concat()),
            channels: self.channels,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_channel_is_a_distance_in_deviations() {
        let never = StopFlag::default();
        let mut learning = GaussiansInTraining::new(vec![1], 2);
        for value in [1.0, 3.0] {
            learning.add(&Matrix::new(2, vec![9.0, value, 9.0, 10.0 * value]));
        }
        // Variances 2 and 200, means 2 and 20.
        let gaussians = learning.finish(0.0, &never).unwrap().unwrap();
        let scores = gaussians.distances(&Matrix::new(2, vec![0.0, 4.0, 0.0, 0.0]), &never);
        let scores = scores.unwrap();
        assert!((scores[0] - 2.0 / 2.0f32.sqrt()).abs() < 1e-6);
        assert!((scores[1] - 20.0 / 200.0f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn one_image_and_images_that_are_all_alike_have_the_regularisation_alone() {
        let never = StopFlag::default();
        for images in [1, 4] {
            let mut learning = GaussiansInTraining::new(vec![0, 1], 1);
            for _ in 0..images {
                learning.add(&Matrix::new(2, vec![5.0, -5.0]));
            }
            let gaussians = learning.finish(0.01, &never).unwrap().unwrap();
            let scores = gaussians.distances(&Matrix::new(2, vec![5.3, -5.4]), &never);
            let scores = scores.unwrap();
            assert!((scores[0] - 5.0).abs() < 1e-4, "{}", scores[0]);
        }
        let mut learning = GaussiansInTraining::new(vec![0], 1);
        learning.add(&Matrix::new(1, vec![1.0]));
        assert_eq!(learning.finish(0.0, &never), Ok(None));
    }
}
