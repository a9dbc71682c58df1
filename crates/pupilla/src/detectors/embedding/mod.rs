//! Embedding detectors: they train no network, and compare an image's features with the features of good images.
//!
//! | detector | features | what it keeps | score of a position |
//! |---|---|---|---|
//! | `1-nn` | teacher's descriptors, PCA | random descriptors | distance to the nearest |
//! | `oc-svm` | teacher's descriptors, PCA | support vectors | negative decision value |
//! | `k-means` | teacher's descriptors, PCA | a few centres | distance to the nearest |
//! | `cnn-dictionary` | pretrained network's, PCA | K-means' words | mean distance to the nearest few |
//! | `memory-bank` | pretrained network's | a coreset of each output, and of all | mean of the normalised distances to the nearest, smoothed |
//! | `padim` | some of a pretrained network's | a Gaussian a position | Mahalanobis distance, smoothed |
//! | `mahalanobis` | pretrained network's | one Gaussian of all positions | Mahalanobis distance, smoothed |
//!
//! [`config`] (settings) → `features` (of the training images) → one file a method ([`knn`], [`one_class_svm`], [`k_means`],
//! [`dictionary`], [`memory_bank`], [`padim`], [`mahalanobis`]), each with the traits of `method`, over [`matrix`], `covariance`, `edges`, [`nearest`],
//! [`principal_components`], [`coreset`], [`support_vectors`] → `fit` → [`inspect`], with [`smoothing`] → [`model_file`].

pub mod config;
pub mod coreset;
mod covariance;
pub mod dictionary;
mod edges;
mod features;
mod fit;
mod in_turn;
pub mod inspect;
pub mod k_means;
pub mod knn;
pub mod mahalanobis;
pub mod matrix;
pub mod memory_bank;
mod method;
pub mod model_file;
pub mod nearest;
pub mod one_class_svm;
pub mod padim;
pub mod principal_components;
pub mod smoothing;
pub mod support_vectors;

use serde::{Deserialize, Serialize};

use method::AnyMethod;

use crate::detectors::kind::{DetectorKind, all_detectors};

pub use config::{EmbeddingConfig, Settings};
pub use inspect::EmbeddingDetector;
pub use model_file::EmbeddingManifest;

/// The reason why a file is refused that holds what another detector has learned.
const OTHER_FORM: &str = "what it has learned is not of its detector's form";

/// Defines [`FittedManifest`]: the forms of what a method keeps, and their sizes.
macro_rules! forms {
    ($($(#[doc = $doc:literal])* $form:ident($sizes:path),)*) => {
        /// Sizes and single numbers of what a detector keeps of the features of good images.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum FittedManifest {
            $($(#[doc = $doc])* $form($sizes),)*
        }

        $(
            impl From<$sizes> for FittedManifest {
                fn from(sizes: $sizes) -> Self {
                    Self::$form(sizes)
                }
            }

            impl TryFrom<&FittedManifest> for $sizes {
                type Error = &'static str;

                fn try_from(manifest: &FittedManifest) -> Result<Self, Self::Error> {
                    match manifest {
                        FittedManifest::$form(sizes) => Ok(sizes.clone()),
                        _ => Err(OTHER_FORM),
                    }
                }
            }
        )*
    };
}

forms! {
    /// Words.
    Dictionary(dictionary::DictionarySizes),
    /// Several memory banks.
    Banks(memory_bank::BankSizes),
    /// A one-class support vector machine after a PCA.
    SupportVectors(one_class_svm::SupportVectorSizes),
    /// A Gaussian a position.
    Gaussians(padim::GaussianSizes),
    /// One Gaussian of all positions.
    GlobalGaussian(mahalanobis::GlobalGaussianSizes),
}

/// Defines [`Method`] from the list of all detectors: each method is the type of its name in its module.
macro_rules! embedding_methods {
    (
        student_teacher: $student_teacher:tt
        embedding: { $($variant:ident, $name:literal, $module:ident, $doc:literal;)* }
        reconstruction: $reconstruction:tt
    ) => {
        /// The settings of each method.
        pub mod settings {
            $(pub use super::$module::$variant;)*
        }

        /// The methods, each with its own settings.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "detector")]
        #[non_exhaustive]
        pub enum Method {
            $(
                #[doc = $doc]
                #[serde(rename = $name)]
                $variant($module::$variant),
            )*
        }

        impl Method {
            /// A method with its default settings; `None` for a detector that does not compare features.
            pub fn of(kind: DetectorKind) -> Option<Self> {
                match kind {
                    $(DetectorKind::$variant => Some(Self::$variant(Default::default())),)*
                    _ => None,
                }
            }

            /// Which detector it is.
            pub fn kind(&self) -> DetectorKind {
                match self {
                    $(Self::$variant(_) => DetectorKind::$variant,)*
                }
            }

            /// Whether its publication compares a pretrained network's features, and not a teacher's descriptors.
            pub fn on_backbone(&self) -> bool {
                self.any().on_backbone()
            }

            /// Deviation of the Gaussian that smooths its maps unless another is asked for, in pixels of the resized image.
            pub fn usual_smoothing(&self) -> f64 {
                self.any().smoothing()
            }

            fn any(&self) -> &dyn AnyMethod {
                match self {
                    $(Self::$variant(method) => method,)*
                }
            }
        }
    };
}

all_detectors!(embedding_methods);
