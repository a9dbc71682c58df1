//! The memory bank: distance to the nearest of a coreset of features (PatchCore, Roth et al., CVPR 2022), without the publication's
//! reweighting of the image's score. Here an image's score is the maximum of its map, whatever the detector.

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::coreset;
use super::covariance::{mean, noise, variances};
use super::dictionary::{Dictionary, DictionarySizes};
use super::features::Features;
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, at_most, count, fits_a_file, share};
use crate::error::{TrainError, check_rules};

/// Distance to the nearest of a coreset of features, smoothed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryBank {
    /// Features that the coreset is chosen from (200 000).
    pub sample: usize,
    /// Share of them that is kept (0.05).
    pub coreset: f64,
    /// Dimensions of the random projection in which it is chosen (128).
    pub projection: usize,
    /// Whether the outputs of a pretrained network count alike (yes): each is divided by the root of its total variance. The publication
    /// compares them as they are, so that the output with the largest numbers decides.
    #[serde(default)]
    pub balance: bool,
}

impl Default for MemoryBank {
    fn default() -> Self {
        Self {
            sample: 200_000,
            coreset: 0.05,
            projection: 128,
            balance: true,
        }
    }
}

impl EmbeddingMethod for MemoryBank {
    type Kept = Dictionary;
    const SMOOTHING: f64 = 4.0;
    const EDGE_WEIGHTS: bool = true;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        check_rules([
            count("sample", self.sample),
            share("coreset", self.coreset),
            at_most("projection", self.projection, 4096),
        ])
    }

    fn fit(
        &self,
        features: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Dictionary, TrainError> {
        let mut rows = features.sample(self.sample, observer)?;
        let weights = self.balance.then(|| balancing(&rows, &features.groups()));
        if let Some(weights) = &weights {
            rows = rows.weighted(weights);
        }
        let count = (self.coreset * rows.rows() as f64).ceil() as usize;
        let count = count.clamp(1, rows.rows());
        fits_a_file("coreset", count as u64 * rows.columns() as u64)?;
        let seed = features.seed("first of the coreset");
        let first = ChaCha8Rng::seed_from_u64(seed).random_range(0..rows.rows());
        let projected = coreset::projected(&rows, self.projection, features.seed("projection"));
        observer.start("coreset", count as u64);
        let chosen = coreset::greedy(projected.as_ref(), first, count, |chosen| {
            observer.advance(chosen as u64, None);
            !observer.stop_requested()
        });
        observer.finish();
        Ok(Dictionary {
            weights,
            components: None,
            words: rows.select(&chosen.ok_or(TrainError::Stopped)?),
            neighbours: 1,
        })
    }

    fn fits(&self, sizes: &DictionarySizes, _: usize) -> bool {
        sizes.components.is_none() && sizes.words > 0 && sizes.weighted == self.balance
    }

    fn describe(&self, sizes: &DictionarySizes) -> String {
        sizes.describe()
    }
}

/// A weight for each feature: the same for all features of a group, so that the variances of a group's features sum to 1. Variances
/// below the noise of rounding count as that noise. A group of zeros keeps them.
///
/// # Panics
/// If there is no row: a programming error.
fn balancing(rows: &Matrix, groups: &[usize]) -> Vec<f32> {
    let mean = mean(rows);
    let variances = variances(rows, &mean);
    let mut weights = Vec::with_capacity(mean.len());
    for &group in groups {
        let group = weights.len()..weights.len() + group;
        let total: f64 = variances[group.clone()].iter().sum();
        let deviation = total.max(noise(&mean[group.clone()])).sqrt();
        let weight = if deviation > 0.0 {
            1.0 / deviation
        } else {
            1.0
        };
        weights.extend(group.map(|_| weight as f32));
    }
    weights
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn after_balancing_the_variances_of_each_group_sum_to_one(
            groups in proptest::collection::vec(1usize..4, 1..4),
            values in proptest::collection::vec(-100.0f32..100.0, 60..400),
        ) {
            let columns: usize = groups.iter().sum();
            let whole = values.len() / columns * columns;
            let rows = Matrix::new(columns, values[..whole].to_vec());
            let weights = balancing(&rows, &groups);
            prop_assert_eq!(weights.len(), columns);
            let rows = rows.weighted(&weights);
            let count = rows.rows() as f64;
            let mut at = 0;
            for group in groups {
                let mut total = 0.0;
                for column in at..at + group {
                    prop_assert_eq!(weights[column], weights[at]);
                    let values: Vec<f64> = rows.iter().map(|row| f64::from(row[column])).collect();
                    let mean = values.iter().sum::<f64>() / count;
                    total += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                }
                prop_assert!((total - 1.0).abs() < 1e-4, "{}", total);
                at += group;
            }
        }
    }

    #[test]
    fn groups_that_do_not_vary_get_finite_weights() {
        let rows = Matrix::new(3, vec![0.0, 7.0, 1.0, 0.0, 7.0, 2.0]);
        let weights = balancing(&rows, &[1, 1, 1]);
        assert_eq!(weights[0], 1.0);
        // As if the features varied by a hundred thousandth of their mean.
        assert!((weights[1] * 7e-5 - 1.0).abs() < 1e-4, "{weights:?}");
        assert_eq!(weights[2], 2.0);
    }
}
