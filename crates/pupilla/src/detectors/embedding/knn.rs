//! 1-NN: distance to the nearest embedding of good images, after a PCA (a baseline of Bergmann et al., CVPR 2020).

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::dictionary::{Dictionary, DictionarySizes};
use super::features::{Features, choose};
use super::method::{EmbeddingMethod, count, share};
use crate::error::{TrainError, check_rules};

/// Distance to the nearest of many embeddings of good images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearestNeighbour {
    /// Embeddings that the PCA is found from (50 000).
    pub sample: usize,
    /// Share of their variance that the PCA keeps (0.95).
    pub variance: f64,
    /// How many of them are kept to compare with (5 000).
    pub dictionary: usize,
}

impl Default for NearestNeighbour {
    fn default() -> Self {
        Self {
            sample: 50_000,
            variance: 0.95,
            dictionary: 5_000,
        }
    }
}

impl EmbeddingMethod for NearestNeighbour {
    type Kept = Dictionary;
    const ON_BACKBONE: bool = false;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        check_rules([
            count("sample", self.sample),
            share("variance", self.variance),
            count("dictionary", self.dictionary),
        ])
    }

    fn check_features(&self, features: &Features<'_>) -> Result<(), TrainError> {
        features.check_entries(self.dictionary, self.sample)
    }

    fn fit(
        &self,
        features: &Features<'_>,
        _: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Dictionary, TrainError> {
        let (components, rows) = features.reduced(self.sample, self.variance, observer)?;
        let chosen = choose(rows.rows(), self.dictionary, features.seed("dictionary"));
        Ok(Dictionary {
            components: Some(components),
            words: rows.select(&chosen),
            neighbours: 1,
        })
    }

    fn fits(&self, sizes: &DictionarySizes, channels: usize) -> bool {
        sizes.is_reduced(self.dictionary, channels)
    }

    fn describe(&self, sizes: &DictionarySizes) -> String {
        sizes.describe()
    }
}
