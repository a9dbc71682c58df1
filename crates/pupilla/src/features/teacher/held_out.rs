//! How good a teacher is on images that it was not trained on.

use serde::{Deserialize, Serialize};

/// Figures on images that the teacher was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// How many images.
    pub images: usize,
    /// Share of triplets whose positive is nearer than the harder of the two negatives (`δ⁺ < δ⁻`);
    /// higher is better, 0.5 is chance.
    pub triplets_holding: f64,
    /// Mean absolute correlation of two descriptor dimensions; lower is better.
    pub mean_correlation: f64,
    /// How far the decoded descriptors are from the pretrained network's features, if there was a pretrained network.
    pub distillation: Option<DistillationError>,
}

/// How far decoded descriptors are from the pretrained network's features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "lowercase")]
pub enum DistillationError {
    /// Of features.
    Variance {
        /// Share of the features' variance that is not explained; 0 is perfect, 1 is a teacher that knows only the mean.
        unexplained: f64,
    },
    /// Of class probabilities, at temperature 1 whatever the one of training, so that temperatures can be compared.
    Classes {
        /// Mean Kullback–Leibler divergence in nats; 0 is perfect.
        divergence: f64,
        /// Share of patches with the same likeliest class.
        agreement: f64,
    },
}
