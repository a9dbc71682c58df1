//! Reconstruction detectors: networks learn to reconstruct good images. Where an image differs from its reconstruction, there is a
//! defect.
//!
//! | detector | networks | trained on | score of a pixel |
//! |---|---|---|---|
//! | `l2-ae` | autoencoder | squared error | squared error |
//! | `ssim-ae` | autoencoder | 1 − SSIM | 1 − SSIM |
//! | `vae` | variational autoencoder | squared error, divergence from the prior | squared error of the mean's reconstruction |
//! | `anogan` | DCGAN | each other | absolute difference from the nearest image that a search finds |
//!
//! [`config`] (settings) → one file a method ([`autoencoder`], [`vae`], [`anogan`]), each with the trait of `method`, over `network`
//! (layers), `losses`, `window` → `pictures` (batches) → `learner` (a step) → `training`, `checkpoint`, [`plan`] → [`inspect`] →
//! [`model_file`].

pub mod anogan;
pub mod autoencoder;
mod checkpoint;
pub mod config;
pub mod inspect;
mod learner;
mod losses;
mod method;
pub mod model_file;
mod network;
mod pictures;
pub mod plan;
mod training;
pub mod vae;
mod window;

use serde::{Deserialize, Serialize};

use method::ReconstructionMethod;

use crate::detectors::kind::{DetectorKind, all_detectors};

pub use config::{ReconstructionConfig, Settings, Training, fits};
pub use inspect::ReconstructionDetector;
pub use model_file::ReconstructionManifest;
pub use plan::ReconstructionPlan;

/// Defines [`Method`] from the list of all detectors: each method is the type of its name in its module.
macro_rules! reconstruction_methods {
    (
        student_teacher: $student_teacher:tt
        embedding: $embedding:tt
        reconstruction: { $($variant:ident, $name:literal, $module:ident, $doc:literal;)* }
    ) => {
        /// The settings of each method.
        pub mod settings {
            $(pub use super::$module::$variant;)*
        }

        /// The methods, each with its own settings.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
            /// A method with its default settings; `None` for a detector that reconstructs nothing.
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

            fn any(&self) -> &dyn ReconstructionMethod {
                match self {
                    $(Self::$variant(method) => method,)*
                }
            }
        }
    };
}

all_detectors!(reconstruction_methods);
