//! Detectors that learn no network: they compare an image's features with those of good images.
//!
//! | detector | features | what it keeps | score of a position |
//! |---|---|---|---|
//! | `1-nn` | teacher's descriptors, PCA | random descriptors | distance to the nearest |
//! | `oc-svm` | teacher's descriptors, PCA | support vectors | negative decision value |
//! | `k-means` | teacher's descriptors, PCA | a few centres | distance to the nearest |
//! | `cnn-dictionary` | pretrained network's, PCA | K-means' words | mean distance to the nearest few |
//! | `memory-bank` | pretrained network's | a coreset | distance to the nearest, smoothed |
//! | `padim` | some of a pretrained network's | a Gaussian a position | Mahalanobis distance, smoothed |
//!
//! The rooms: [`config`] (settings) → [`describer`] (image → features), `sample` → [`principal_components`], [`k_means`], [`coreset`],
//! [`one_class_svm`], [`position_gaussians`], over [`matrix`] and [`nearest`] → [`fitted`] (what is kept) → `training` → [`detector`],
//! [`smoothing`] → [`model_file`].

pub mod config;
pub mod coreset;
pub mod describer;
pub mod detector;
pub mod fitted;
pub mod k_means;
pub mod matrix;
pub mod model_file;
pub mod nearest;
pub mod one_class_svm;
pub mod position_gaussians;
pub mod principal_components;
mod sample;
pub mod smoothing;
mod training;

pub use config::{FeatureDetectorConfig, Gamma, Method, Settings};
pub use describer::Describer;
pub use detector::FeatureDetector;
pub use model_file::{FeatureManifest, FittedManifest};
