//! The memory bank: distance to the nearest of a coreset of features (PatchCore, Roth et al., CVPR 2022).
//!
//! The publication joins the outputs of its network, and the output with the largest numbers decides. [`MemoryBank::joined`] asks for
//! this form. Otherwise all outputs are brought to the same variance, and each output has a memory bank of its own, beside the bank of
//! all outputs joined. The distances of each bank are normalised by those of validation images, and averaged, as the scales of
//! Uninformed Students are. So a defect that one output alone shows is not lost among the variation of the others.
//!
//! An image's score is the maximum of its map, whatever the detector. The publication's reweighting of this score made it worse
//! (`docs/notes/detectors.md`).

use std::ops::Range;

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::covariance::{mean, noise, variances};
use super::dictionary::{Dictionary, DictionarySizes};
use super::edges::{GoodScores, KINDS, Normalisation};
use super::features::Features;
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, Kept, at_most, count, fits_a_file, named, share};
use super::nearest::nearest;
use super::{FittedManifest, OTHER_FORM, coreset};
use crate::error::{TrainError, check_rules};
use crate::features::grid::Grid;

/// Distance to the nearest of a coreset of features, smoothed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryBank {
    /// Features that the coreset is chosen from (200 000).
    pub sample: usize,
    /// Share of them that is kept (0.02; 0.01 and 0.1 in the publication).
    pub coreset: f64,
    /// Dimensions of the random projection in which it is chosen (128).
    pub projection: usize,
    /// Whether there is one bank, of all outputs as they are, as published (no).
    #[serde(default = "as_published", skip_serializing_if = "is_as_published")]
    pub joined: bool,
}

/// The setting of files without it: files of the published form lack it, as files from before the setting do.
fn as_published() -> bool {
    true
}

fn is_as_published(joined: &bool) -> bool {
    *joined == as_published()
}

impl Default for MemoryBank {
    fn default() -> Self {
        Self {
            sample: 200_000,
            coreset: 0.02,
            projection: 128,
            joined: false,
        }
    }
}

impl EmbeddingMethod for MemoryBank {
    type Kept = MemoryBanks;
    const SMOOTHING: f64 = 4.0;

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
        validation: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<MemoryBanks, TrainError> {
        let rows = features.sample(self.sample, observer)?;
        if self.joined {
            return Ok(MemoryBanks::Joined(Dictionary {
                components: None,
                words: self.coreset(&rows, 0, features, observer)?,
                neighbours: 1,
            }));
        }
        let outputs = features.extractor.channels_of_outputs();
        let weights = balancing(&rows, &outputs);
        let rows = rows.weighted(&weights);
        let mut banks = Vec::new();
        for (index, channels) in ranges(&outputs).into_iter().enumerate() {
            let of_bank = rows.columns_in(channels.clone());
            let entries = self.coreset(&of_bank, index, features, observer)?;
            banks.push(Bank { channels, entries });
        }
        let stop = observer.stop_flag();
        let mut good = vec![GoodScores::default(); banks.len()];
        validation.for_each(observer, |_, grid, features| {
            let features = features.weighted(&weights);
            for (good, bank) in good.iter_mut().zip(&banks) {
                good.add(grid, &bank.distances(&features, &stop)?);
            }
            Ok(())
        })?;
        Ok(MemoryBanks::Normalised {
            weights,
            normalisations: good.iter().map(GoodScores::normalisation).collect(),
            banks,
        })
    }

    fn is_normalised(&self) -> bool {
        !self.joined
    }

    fn fits(&self, sizes: &MemoryBankSizes, channels: usize) -> bool {
        match sizes {
            MemoryBankSizes::Joined(sizes) => {
                self.joined && sizes.components.is_none() && sizes.words > 0
            }
            MemoryBankSizes::Normalised(sizes) => {
                let none_is_empty = sizes.banks.iter().all(|bank| bank.entries > 0);
                !self.joined && none_is_empty && are_of_outputs(&sizes.channels(), channels)
            }
        }
    }

    fn describe(&self, sizes: &MemoryBankSizes) -> String {
        match sizes {
            MemoryBankSizes::Joined(sizes) => sizes.describe(),
            MemoryBankSizes::Normalised(sizes) => {
                let of_bank = |bank: &BankSize| {
                    format!("{} entries of {} features", bank.entries, bank.channels)
                };
                let each: Vec<_> = sizes.banks.iter().map(of_bank).collect();
                each.join(", ")
            }
        }
    }
}

impl MemoryBank {
    /// The entries of the `index`-th bank, from its features.
    fn coreset(
        &self,
        rows: &Matrix,
        index: usize,
        features: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Matrix, TrainError> {
        let count = (self.coreset * rows.rows() as f64).ceil() as usize;
        let count = count.clamp(1, rows.rows());
        fits_a_file("coreset", count as u64 * rows.columns() as u64)?;
        let seed = features.seed_of("first of the coreset", index);
        let first = ChaCha8Rng::seed_from_u64(seed).random_range(0..rows.rows());
        let seed = features.seed_of("projection", index);
        let projected = coreset::projected(rows, self.projection, seed);
        observer.start("coreset", count as u64);
        let chosen = coreset::greedy(projected.as_ref(), first, count, |chosen| {
            observer.advance(chosen as u64, None);
            !observer.stop_requested()
        });
        observer.finish();
        Ok(rows.select(&chosen.ok_or(TrainError::Stopped)?))
    }
}

/// The features of each bank: those of each output, and those of all outputs if there are several.
fn ranges(outputs: &[usize]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut first = 0;
    for channels in outputs {
        ranges.push(first..first + channels);
        first += channels;
    }
    if outputs.len() > 1 {
        ranges.push(0..first);
    }
    ranges
}

/// Of the numbers of features of [`ranges`], those of the outputs.
fn outputs_of(banks: &[usize]) -> &[usize] {
    match banks {
        [outputs @ .., _] if !outputs.is_empty() => outputs,
        only => only,
    }
}

/// Whether banks of these numbers of features are those of [`ranges`], for this number of features in all.
fn are_of_outputs(banks: &[usize], channels: usize) -> bool {
    let outputs = outputs_of(banks);
    let sum = outputs.iter().copied().try_fold(0, usize::checked_add);
    let none_is_empty = outputs.iter().all(|&output| output > 0);
    none_is_empty && sum == Some(channels) && banks.last() == Some(&channels)
}

/// A weight for each feature: the same for all features of an output, so that the variances of an output's features sum to 1. Variances
/// below the noise of rounding count as that noise. Features that are all 0 keep their numbers.
///
/// # Panics
/// If there is no row: a programming error.
fn balancing(rows: &Matrix, outputs: &[usize]) -> Vec<f32> {
    let mean = mean(rows);
    let variances = variances(rows, &mean);
    let mut weights = Vec::with_capacity(mean.len());
    for channels in outputs {
        let output = weights.len()..weights.len() + channels;
        let total: f64 = variances[output.clone()].iter().sum();
        let deviation = total.max(noise(&mean[output.clone()])).sqrt();
        let weight = if deviation > 0.0 {
            1.0 / deviation
        } else {
            1.0
        };
        weights.extend(output.map(|_| weight as f32));
    }
    weights
}

/// What a memory bank keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum MemoryBanks {
    /// Entries of all outputs as one vector. A score is a distance.
    Joined(Dictionary),
    /// Several banks. A score is the mean over the banks, in deviations from the mean of good images.
    Normalised {
        /// What each feature is multiplied by.
        weights: Vec<f32>,
        /// The banks.
        banks: Vec<Bank>,
        /// The distances of validation images, for each bank.
        normalisations: Vec<Normalisation>,
    },
}

/// Entries of some features that follow each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    /// Which of the features of a position they are.
    channels: Range<usize>,
    /// `[entries, channels]`
    entries: Matrix,
}

impl Bank {
    /// The distance to the nearest entry of each row of all features, `[positions, channels of all outputs]`.
    fn distances(&self, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let found = if self.channels.len() == features.columns() {
            nearest(features, &self.entries, 1, stop)?
        } else {
            nearest(
                &features.columns_in(self.channels.clone()),
                &self.entries,
                1,
                stop,
            )?
        };
        Ok(found.iter().map(|found| found.distance).collect())
    }
}

/// Sizes of what a memory bank keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum MemoryBankSizes {
    /// Of [`MemoryBanks::Joined`].
    Joined(DictionarySizes),
    /// Of [`MemoryBanks::Normalised`].
    Normalised(BankSizes),
}

/// Sizes of several banks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankSizes {
    /// Each bank.
    pub banks: Vec<BankSize>,
}

impl BankSizes {
    /// Number of features of each bank.
    fn channels(&self) -> Vec<usize> {
        self.banks.iter().map(|bank| bank.channels).collect()
    }
}

/// Sizes of a bank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankSize {
    /// Number of its features.
    pub channels: usize,
    /// Number of entries.
    pub entries: usize,
}

impl From<MemoryBankSizes> for FittedManifest {
    fn from(sizes: MemoryBankSizes) -> Self {
        match sizes {
            MemoryBankSizes::Joined(sizes) => sizes.into(),
            MemoryBankSizes::Normalised(sizes) => sizes.into(),
        }
    }
}

impl TryFrom<&FittedManifest> for MemoryBankSizes {
    type Error = &'static str;

    fn try_from(manifest: &FittedManifest) -> Result<Self, Self::Error> {
        match manifest {
            FittedManifest::Dictionary(sizes) => Ok(Self::Joined(sizes.clone())),
            FittedManifest::Banks(sizes) => Ok(Self::Normalised(sizes.clone())),
            _ => Err(OTHER_FORM),
        }
    }
}

impl Kept for MemoryBanks {
    type Sizes = MemoryBankSizes;

    fn sizes(&self) -> MemoryBankSizes {
        match self {
            Self::Joined(dictionary) => MemoryBankSizes::Joined(dictionary.sizes()),
            Self::Normalised { banks, .. } => {
                let sizes = banks.iter().map(|bank| BankSize {
                    channels: bank.entries.columns(),
                    entries: bank.entries.rows(),
                });
                let banks = sizes.collect();
                MemoryBankSizes::Normalised(BankSizes { banks })
            }
        }
    }

    fn layout(
        sizes: &MemoryBankSizes,
        channels: usize,
        positions: usize,
    ) -> Vec<(String, Vec<usize>)> {
        match sizes {
            MemoryBankSizes::Joined(sizes) => Dictionary::layout(sizes, channels, positions),
            MemoryBankSizes::Normalised(sizes) => {
                let of_bank = |(index, bank): (usize, &BankSize)| {
                    let shape = [bank.entries, bank.channels];
                    [
                        named(&format!("bank.{index}.entries"), &shape),
                        named(&format!("bank.{index}.normalisation"), &[KINDS, 2]),
                    ]
                };
                let banks = sizes.banks.iter().enumerate().flat_map(of_bank);
                [named("weights", &[channels])]
                    .into_iter()
                    .chain(banks)
                    .collect()
            }
        }
    }

    fn arrays(&self) -> Vec<&[f32]> {
        match self {
            Self::Joined(dictionary) => dictionary.arrays(),
            Self::Normalised {
                weights,
                banks,
                normalisations,
            } => {
                let mut arrays = vec![&weights[..]];
                for (bank, normalisation) in banks.iter().zip(normalisations) {
                    arrays.extend([bank.entries.values(), normalisation.values()]);
                }
                arrays
            }
        }
    }

    fn read(
        sizes: &MemoryBankSizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self {
        let sizes = match sizes {
            MemoryBankSizes::Joined(sizes) => {
                return Self::Joined(Dictionary::read(sizes, channels, arrays));
            }
            MemoryBankSizes::Normalised(sizes) => sizes,
        };
        let mut next = || arrays.next().unwrap_or_default();
        let weights = next();
        let (mut banks, mut normalisations) = (Vec::new(), Vec::new());
        let of_banks = sizes.channels();
        for (bank, channels) in sizes.banks.iter().zip(ranges(outputs_of(&of_banks))) {
            banks.push(Bank {
                channels,
                entries: Matrix::new(bank.channels, next()),
            });
            normalisations.push(Normalisation::new(next()));
        }
        Self::Normalised {
            weights,
            banks,
            normalisations,
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            Self::Joined(_) => true,
            Self::Normalised { normalisations, .. } => {
                normalisations.iter().all(Normalisation::is_valid)
            }
        }
    }

    fn scores(&self, grid: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let (weights, banks, normalisations) = match self {
            Self::Joined(dictionary) => return dictionary.scores(grid, features, stop),
            Self::Normalised {
                weights,
                banks,
                normalisations,
            } => (weights, banks, normalisations),
        };
        let features = features.clone().weighted(weights);
        let mut scores = vec![0.0; features.rows()];
        let share = 1.0 / banks.len() as f32;
        for (bank, normalisation) in banks.iter().zip(normalisations) {
            let mut distances = bank.distances(&features, stop)?;
            normalisation.apply(grid, &mut distances);
            for (score, distance) in scores.iter_mut().zip(distances) {
                *score += share * distance;
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn banks_of_a_file_are_those_of_outputs_and_of_all() {
        for (banks, channels) in [(&[4][..], 4), (&[2, 3, 5], 5), (&[1, 1, 1, 3], 3)] {
            assert!(are_of_outputs(banks, channels), "{banks:?}");
            assert!(!are_of_outputs(banks, channels + 1), "{banks:?}");
        }
        for banks in [
            &[][..],
            &[0],
            &[2, 3],
            &[3, 5],
            &[0, 5, 5],
            &[usize::MAX, 2, 1],
        ] {
            assert!(!are_of_outputs(banks, 5), "{banks:?}");
        }
    }

    #[test]
    fn there_is_a_bank_for_each_output_and_one_for_all() {
        assert_eq!(ranges(&[2, 3]), [0..2, 2..5, 0..5]);
        assert_eq!(ranges(&[4]), vec![0..4]);
    }

    #[test]
    fn a_score_is_the_mean_of_the_normalised_distances_of_the_banks() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut matrix = |rows: usize, columns: usize| {
            let values = (0..rows * columns).map(|_| random.random_range(-1.0f32..1.0));
            Matrix::new(columns, values.collect())
        };
        let bank = |channels, entries| Bank { channels, entries };
        let banks = vec![bank(0..2, matrix(7, 2)), bank(2..5, matrix(5, 3))];
        let features = matrix(6, 5);
        let grid = Grid {
            stride: 8,
            rows: 2,
            columns: 3,
        };
        let kept = MemoryBanks::Normalised {
            weights: vec![2.0, 2.0, 0.5, 0.5, 0.5],
            banks: banks.clone(),
            normalisations: [[0.5, 0.25], [2.0, 4.0]]
                .map(|each| Normalisation::new(each.repeat(KINDS)))
                .to_vec(),
        };
        let nearest = |query: &[f32], weight: f32, bank: &Bank| {
            let distance = |entry: &[f32]| {
                let pairs = query.iter().zip(entry);
                let squares = pairs.map(|(query, entry)| (weight * query - entry).powi(2));
                squares.sum::<f32>().sqrt()
            };
            let entries = bank.entries.iter();
            entries.map(distance).fold(f32::INFINITY, f32::min)
        };
        for (row, found) in features
            .iter()
            .zip(kept.scores(grid, &features, &StopFlag::default()).unwrap())
        {
            let first = (nearest(&row[..2], 2.0, &banks[0]) - 0.5) / 0.25;
            let second = (nearest(&row[2..], 0.5, &banks[1]) - 2.0) / 4.0;
            let expected = f32::midpoint(first, second);
            assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        }
    }

    proptest! {
        #[test]
        fn after_balancing_the_variances_of_each_output_sum_to_one(
            outputs in proptest::collection::vec(1usize..4, 1..4),
            values in proptest::collection::vec(-100.0f32..100.0, 60..400),
        ) {
            let columns: usize = outputs.iter().sum();
            let whole = values.len() / columns * columns;
            let rows = Matrix::new(columns, values[..whole].to_vec());
            let weights = balancing(&rows, &outputs);
            prop_assert_eq!(weights.len(), columns);
            let rows = rows.weighted(&weights);
            let count = rows.rows() as f64;
            let mut at = 0;
            for channels in outputs {
                let mut total = 0.0;
                for column in at..at + channels {
                    prop_assert_eq!(weights[column], weights[at]);
                    let values: Vec<f64> = rows.iter().map(|row| f64::from(row[column])).collect();
                    let mean = values.iter().sum::<f64>() / count;
                    total += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                }
                prop_assert!((total - 1.0).abs() < 1e-4, "{}", total);
                at += channels;
            }
        }
    }

    #[test]
    fn outputs_that_do_not_vary_get_finite_weights() {
        let rows = Matrix::new(3, vec![0.0, 7.0, 1.0, 0.0, 7.0, 2.0]);
        let weights = balancing(&rows, &[1, 1, 1]);
        assert_eq!(weights[0], 1.0);
        // As if the features varied by a hundred thousandth of their mean.
        assert!((weights[1] * 7e-5 - 1.0).abs() < 1e-4, "{weights:?}");
        assert_eq!(weights[2], 2.0);
    }
}
