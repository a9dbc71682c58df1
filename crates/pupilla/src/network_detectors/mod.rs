//! Detectors that are networks trained to reconstruct good images: where an image differs from its reconstruction, there is a defect.
//!
//! | detector | networks | trained on | score of a pixel |
//! |---|---|---|---|
//! | `l2-ae` | autoencoder | squared error | squared error |
//! | `ssim-ae` | autoencoder | 1 − SSIM | 1 − SSIM |
//! | `vae` | variational autoencoder | squared error, divergence from the prior | squared error of the mean's reconstruction |
//! | `anogan` | DCGAN | each other | absolute difference from the nearest image that a search finds |
//!
//! The rooms: [`config`] (settings) → `architecture` (the published networks) over `network` (layers) → `pictures` (batches), `window`,
//! `losses` → `learner` (one step) → `training`, `checkpoint`, [`plan`] → [`detector`] (with AnoGAN's `search`) → [`model_file`].

mod architecture;
mod checkpoint;
pub mod config;
pub mod detector;
mod learner;
mod losses;
pub mod model_file;
mod network;
mod pictures;
pub mod plan;
mod search;
mod training;
mod window;

pub use config::{Method, NetworkDetectorConfig, Settings, Training};
pub use detector::NetworkDetector;
pub use model_file::NetworkManifest;
pub use plan::NetworkPlan;
