//! What a detector keeps of the features of good images, and how it compares others with that.

use super::matrix::Matrix;
use super::nearest::nearest;
use super::one_class_svm::OneClassSvm;
use super::position_gaussians::PositionGaussians;
use super::principal_components::PrincipalComponents;

/// The fitted part of a detector. Six detectors are made of three parts: 1-NN, K-means, the CNN feature dictionary and the memory bank
/// are dictionaries that differ in how their words are chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Fitted {
    /// Words; the score is the mean distance to the nearest.
    Dictionary {
        /// Before anything is compared, if there is one.
        components: Option<PrincipalComponents>,
        /// `[words, components or channels]`
        words: Matrix,
        /// How many of the nearest the mean is taken over.
        neighbours: usize,
    },
    /// A one-class support vector machine; the score is its negative decision value.
    SupportVectors {
        /// Before anything is compared.
        components: PrincipalComponents,
        /// The machine.
        machine: OneClassSvm,
    },
    /// A Gaussian a position; the score is the Mahalanobis distance.
    Gaussians(PositionGaussians),
}

impl Fitted {
    /// The score of each row of features, `[positions, channels]`; higher is more anomalous.
    pub fn scores(&self, features: &Matrix) -> Vec<f32> {
        match self {
            Self::Dictionary {
                components,
                words,
                neighbours,
            } => {
                let reduced = components
                    .as_ref()
                    .map(|components| components.apply(features));
                let found = nearest(reduced.as_ref().unwrap_or(features), words, *neighbours);
                let share = 1.0 / *neighbours as f32;
                let of_query = found.chunks_exact(*neighbours);
                of_query
                    .map(|found| found.iter().map(|one| one.distance).sum::<f32>() * share)
                    .collect()
            }
            Self::SupportVectors {
                components,
                machine,
            } => machine.scores(&components.apply(features)),
            Self::Gaussians(gaussians) => gaussians.scores(features),
        }
    }
}
