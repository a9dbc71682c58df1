//! A dictionary of features of good images; and the CNN feature dictionary (Napoletano, Piccoli and Schettini, Sensors 2018, who describe
//! patches by the pooled features of ResNet-18).

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::k_means;
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, Kept, count, named, share};
use super::nearest::nearest;
use super::principal_components::PrincipalComponents;
use crate::error::{TrainError, check_rules};
use crate::features::grid::Grid;

/// Words; the score is the mean distance to the nearest words. 1-NN, K-means, the CNN feature dictionary and the memory bank differ in
/// how their words are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Dictionary {
    /// The PCA before the comparison, if there is one.
    pub components: Option<PrincipalComponents>,
    /// `[words, components or channels]`
    pub words: Matrix,
    /// Number of nearest words in the mean.
    pub neighbours: usize,
}

/// Sizes of a dictionary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DictionarySizes {
    /// Components of the PCA, if there is one.
    pub components: Option<usize>,
    /// Number of words.
    pub words: usize,
}

impl DictionarySizes {
    /// Whether the dictionary has `words` words, after a PCA of at most `channels` components.
    pub(super) fn is_reduced(&self, words: usize, channels: usize) -> bool {
        let components = self.components.unwrap_or(0);
        (1..=channels).contains(&components) && self.words == words
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match self.components {
            Some(components) => format!("{} entries of {components} components", self.words),
            None => format!("{} entries", self.words),
        }
    }
}

impl Kept for Dictionary {
    type Sizes = DictionarySizes;

    fn sizes(&self) -> DictionarySizes {
        let components = self.components.as_ref();
        DictionarySizes {
            components: components.map(PrincipalComponents::components),
            words: self.words.rows(),
        }
    }

    fn layout(sizes: &DictionarySizes, channels: usize, _: usize) -> Vec<(String, Vec<usize>)> {
        let pca = sizes
            .components
            .map(|count| PrincipalComponents::layout(count, channels));
        let words = named(
            "words",
            &[sizes.words, sizes.components.unwrap_or(channels)],
        );
        pca.into_iter().flatten().chain([words]).collect()
    }

    fn arrays(&self) -> Vec<&[f32]> {
        let pca = self.components.iter().flat_map(PrincipalComponents::arrays);
        pca.chain([self.words.values()]).collect()
    }

    fn read(
        sizes: &DictionarySizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self {
        let components = sizes
            .components
            .map(|_| PrincipalComponents::read(channels, arrays));
        let words = arrays.next().unwrap_or_default();
        Self {
            components,
            words: Matrix::new(sizes.components.unwrap_or(channels), words),
            neighbours: 1,
        }
    }

    fn scores(&self, _: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let components = self.components.as_ref();
        let reduced = components.map(|components| components.apply(features, stop));
        let reduced = reduced.transpose()?;
        let queries = reduced.as_ref().unwrap_or(features);
        let found = nearest(queries, &self.words, self.neighbours, stop)?;
        let share = 1.0 / self.neighbours as f32;
        let of_query = found.chunks_exact(self.neighbours);
        let scores =
            of_query.map(|found| found.iter().map(|one| one.distance).sum::<f32>() * share);
        Ok(scores.collect())
    }
}

/// Mean distance to the nearest words of a dictionary, after a PCA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CnnDictionary {
    /// Embeddings that the words are found from (50 000).
    pub sample: usize,
    /// Share of their variance that the PCA keeps (0.95).
    pub variance: f64,
    /// Words, the centres of K-means (500; recalled, not verified).
    pub dictionary: usize,
    /// How many of the nearest words the mean is taken over (10; recalled, not verified).
    pub neighbours: usize,
}

impl Default for CnnDictionary {
    fn default() -> Self {
        Self {
            sample: 50_000,
            variance: 0.95,
            dictionary: 500,
            neighbours: 10,
        }
    }
}

impl EmbeddingMethod for CnnDictionary {
    type Kept = Dictionary;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        let (neighbours, words) = (self.neighbours, self.dictionary);
        check_rules([
            count("sample", self.sample),
            share("variance", self.variance),
            count("dictionary", words),
            (
                "neighbours",
                (1..=words).contains(&neighbours),
                format!("1 to the {words} words of the dictionary"),
            ),
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
        Ok(Dictionary {
            words: k_means::centres(
                &rows,
                self.dictionary,
                features.seed("first centres"),
                observer,
            )?,
            components: Some(components),
            neighbours: self.neighbours,
        })
    }

    fn fits(&self, sizes: &DictionarySizes, channels: usize) -> bool {
        sizes.is_reduced(self.dictionary, channels)
    }

    fn read(
        &self,
        sizes: &DictionarySizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Dictionary {
        Dictionary {
            neighbours: self.neighbours,
            ..Dictionary::read(sizes, channels, arrays)
        }
    }

    fn describe(&self, sizes: &DictionarySizes) -> String {
        sizes.describe()
    }
}
