//! Finds defects in images of manufactured parts after it has seen good parts only: "Uninformed Students" (Bergmann et al., CVPR
//! 2020) and the detectors that the paper compares.
//!
//! ```no_run
//! use pupilla::{Dataset, Detector, Image, Model, Silent, StudentTeacherConfig, fit_files, write_png};
//!
//! // Learn from a folder of good images, and keep the model.
//! let good = Dataset::open("good_images")?;
//! let model = Model::from(fit_files(&StudentTeacherConfig::built_in()?, &good, false, &mut Silent)?);
//! model.save("part.pupilla")?;
//!
//! // Judge a new image: score, verdict, regions, heatmap.
//! let image = Image::open("new_part.png")?;
//! let explained = model.explain(&image)?;
//! let verdict = model.rule().judge(&explained)?;
//! println!("{:.3} {}", verdict.score, if verdict.defective { "DEFECTIVE" } else { "good" });
//! write_png("heatmap.png", &model.heatmap().overlay(&image, &explained.map)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The data path
//!
//! [`input`] (image → numbers) → [`patch_network`] (patch → descriptor, dense or on a grid) → [`teacher`] → [`student_teacher`]
//! (students, detector, model file) → [`score`]. [`feature_detectors`] compare features with those of good images,
//! [`network_detectors`] compare images with their reconstructions. [`model`] is a trained detector of any kind.
//!
//! [`tensor_file`](pupilla_files::tensor_file) (other programs' weights) → [`backbone`] (pretrained networks). Networks are graphs of
//! [`nn`], which also chooses the [`device`] that computes them. Every detector is a [`Detector`]: it speaks in images and maps.
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

pub use detector_kind::DetectorKind;
pub use error::{ScoreError, TrainError};
pub use model::Model;
pub use prepared_files::FitFilesError;
pub use receptive_field::ReceptiveField;
pub use sampling::Sampling;
pub use student_teacher::{StudentTeacher, StudentTeacherConfig, fit_files};
pub use teacher::Teacher;

pub use pupilla_core::data::Dataset;
pub use pupilla_core::detector::{Detector, Fit};
pub use pupilla_core::image::Image;
pub use pupilla_core::map::anomaly_map::AnomalyMap;
pub use pupilla_core::map::heatmap::{Heatmap, write_png};
pub use pupilla_core::observer::{Observer, Silent};
pub use pupilla_core::verdict::{Rule, Verdict};

/// The README's program is compiled too.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
