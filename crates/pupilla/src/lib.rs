//! Student–teacher anomaly detection: learns what good parts look like from good images alone, then
//! shows where a new part differs ("Uninformed Students", Bergmann et al., CVPR 2020).
//!
//! The rooms in the order of the data path: [`input`] (image → numbers) → [`patch_network`] (patch →
//! descriptor, dense or on a grid) → [`teacher`] → [`student_teacher`] (students, detector, model
//! file) → [`score`]; [`feature_detectors`] compare features with those of good images instead, [`network_detectors`]
//! images with what a network makes of them; [`model`] is a trained detector of any kind. Beside the path: [`tensor_file`](pupilla_files::tensor_file) (other programs' weights) → [`backbone`]
//! (pretrained networks). Networks are graphs of [`nn`], which also chooses the [`device`] that computes them. What this crate gives
//! is a [`pupilla_core::detector::Detector`], which speaks in images and maps.
#![forbid(unsafe_code)]

pub mod backbone;
pub mod checkpoints;
pub mod detector_kind;
pub mod error;
pub mod feature_detectors;
pub mod input;
pub mod manifest;
pub mod model;
pub mod network_detectors;
mod network_weights;
pub mod patch_network;
pub mod prepared_files;
mod random;
pub mod receptive_field;
pub mod record;
pub mod residual_metric;
pub mod sampling;
mod schedule;
pub mod score;
pub mod statistics;
pub mod student_teacher;
pub mod teacher;

pub use pupilla_nn as nn;
pub use pupilla_nn::device;
pub use pupilla_nn::{Optimizer, UnknownOptimizer};
