//! The memory bank: distance to the nearest of a coreset of features (PatchCore, Roth et al., CVPR 2022), without the publication's
//! reweighting of the image's score. Here an image's score is the maximum of its map, whatever the detector.

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::coreset;
use super::dictionary::{Dictionary, DictionarySizes};
use super::features::Features;
use super::method::{EmbeddingMethod, at_most, count, fits_a_file, share};
use crate::error::{TrainError, check_rules};

/// Distance to the nearest of a coreset of features, smoothed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryBank {
    /// Features that the coreset is chosen from (200 000).
    pub sample: usize,
    /// Share of them that is kept (0.01).
    pub coreset: f64,
    /// Dimensions of the random projection in which it is chosen (128).
    pub projection: usize,
}

impl Default for MemoryBank {
    fn default() -> Self {
        Self {
            sample: 200_000,
            coreset: 0.01,
            projection: 128,
        }
    }
}

impl EmbeddingMethod for MemoryBank {
    type Kept = Dictionary;
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
        observer: &mut dyn Observer,
    ) -> Result<Dictionary, TrainError> {
        let rows = features.sample(self.sample, observer)?;
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
            components: None,
            words: rows.select(&chosen.ok_or(TrainError::Stopped)?),
            neighbours: 1,
        })
    }

    fn fits(&self, sizes: &DictionarySizes, _: usize) -> bool {
        sizes.components.is_none() && sizes.words > 0
    }

    fn describe(&self, sizes: &DictionarySizes) -> String {
        sizes.describe()
    }
}
