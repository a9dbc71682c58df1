//! The kinds of detectors, by the names that the command line and model files have for them.

use std::fmt;
use std::str::FromStr;

use pupilla_core::map::heatmap::Heatmap;

/// A kind of detector. Its name is `kind` in a model file.
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

    /// Colours that mean the same in every picture: none up to a quarter of the image threshold, strongest from one and a half of the
    /// threshold on.
    ///
    /// Scores of a student–teacher are deviations of good parts' scores, and its threshold counts as 1 if it is below 1. Scores of other
    /// detectors have units of their own, and 0.2 may be a large threshold. A threshold of 0 has no size, and counts as 1.
    pub fn heatmap(self, threshold: f32) -> Heatmap {
        let unit = match self {
            Self::StudentTeacher => threshold.abs().max(1.0),
            _ if threshold == 0.0 => 1.0,
            _ => threshold.abs(),
        };
        Heatmap {
            low: threshold - 0.75 * unit,
            high: threshold + 0.5 * unit,
        }
    }

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

    #[test]
    fn good_pixels_of_any_detector_have_no_colour() {
        // An autoencoder's squared errors: of good pixels a thousandth, the threshold 0.2.
        let errors = DetectorKind::SquaredErrorAutoencoder.heatmap(0.2);
        assert_eq!(errors.level(0.04), 0.0);
        assert!((errors.level(0.2) - 0.6).abs() < 1e-5);
        assert_eq!(errors.level(0.31), 1.0);
        // Deviations: what flat images leave is far below one.
        let deviations = DetectorKind::StudentTeacher.heatmap(0.01);
        assert_eq!(deviations.level(-0.8), 0.0);
        assert!(deviations.level(0.5) < 1.0);
        // A one-class SVM's decision values may all be negative, or 0.
        let svm = DetectorKind::OneClassSvm;
        let decisions = svm.heatmap(-4.0);
        assert_eq!((decisions.level(-7.5), decisions.level(-1.5)), (0.0, 1.0));
        assert!(svm.heatmap(0.0).level(0.25) < 1.0);
    }
}
