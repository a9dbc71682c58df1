//! The kinds of detectors, by the names that the command line and model files have for them.

use std::fmt;
use std::str::FromStr;

/// A kind of detector. Its name is `kind` in a model file and the value of `train --detector`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DetectorKind {
    /// Students that predict a teacher ([`crate::student_teacher`]).
    #[default]
    StudentTeacher,
    /// Distance to the nearest of many descriptors of good images.
    NearestNeighbour,
    /// A one-class support vector machine over descriptors.
    OneClassSvm,
    /// Distance to the nearest of a few centres of descriptors.
    KMeans,
    /// Squared error of an autoencoder's reconstruction.
    SquaredErrorAutoencoder,
    /// Structural dissimilarity of an autoencoder's reconstruction.
    SimilarityAutoencoder,
    /// Squared error of a variational autoencoder's reconstruction.
    VariationalAutoencoder,
    /// Residual of the nearest image that a generator makes.
    AnoGan,
    /// Mean distance to the nearest words of a dictionary of a pretrained network's features.
    CnnDictionary,
    /// Distance to the nearest of a coreset of features (PatchCore).
    MemoryBank,
    /// A Gaussian of features at each position (PaDiM).
    Padim,
}

/// A word that names no detector.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{name:?} is not a detector: choose {}", DetectorKind::ALL.map(DetectorKind::name).join(", "))]
pub struct UnknownDetector {
    name: String,
}

impl DetectorKind {
    /// All of them, the default first.
    pub const ALL: [Self; 11] = [
        Self::StudentTeacher,
        Self::NearestNeighbour,
        Self::OneClassSvm,
        Self::KMeans,
        Self::SquaredErrorAutoencoder,
        Self::SimilarityAutoencoder,
        Self::VariationalAutoencoder,
        Self::AnoGan,
        Self::CnnDictionary,
        Self::MemoryBank,
        Self::Padim,
    ];

    /// Whether it is a network that is trained step by step, and so for as many steps or as long as is wanted.
    pub const fn is_trained_in_steps(self) -> bool {
        match self {
            Self::StudentTeacher
            | Self::SquaredErrorAutoencoder
            | Self::SimilarityAutoencoder
            | Self::VariationalAutoencoder
            | Self::AnoGan => true,
            Self::NearestNeighbour
            | Self::OneClassSvm
            | Self::KMeans
            | Self::CnnDictionary
            | Self::MemoryBank
            | Self::Padim => false,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StudentTeacher => "student-teacher",
            Self::NearestNeighbour => "1-nn",
            Self::OneClassSvm => "oc-svm",
            Self::KMeans => "k-means",
            Self::SquaredErrorAutoencoder => "l2-ae",
            Self::SimilarityAutoencoder => "ssim-ae",
            Self::VariationalAutoencoder => "vae",
            Self::AnoGan => "anogan",
            Self::CnnDictionary => "cnn-dictionary",
            Self::MemoryBank => "memory-bank",
            Self::Padim => "padim",
        }
    }
}

impl fmt::Display for DetectorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for DetectorKind {
    type Err = UnknownDetector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownDetector {
                name: text.to_string(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_kinds() {
        for kind in DetectorKind::ALL {
            assert_eq!(kind.name().parse::<DetectorKind>().unwrap(), kind);
        }
        let error = "2-nn".parse::<DetectorKind>().unwrap_err().to_string();
        assert!(error.contains("2-nn") && error.contains("memory-bank"));
    }
}
