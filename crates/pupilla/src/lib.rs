//! Finds defects in images of manufactured parts after it has seen good parts only: "Uninformed Students" (Bergmann et al., CVPR 2020)
//! and other detectors: embedding (among them PatchCore and PaDiM) and reconstruction.
//!
//! ```no_run
//! use pupilla::{Dataset, Detector, Image, Model, Silent, Trainer, write_png};
//!
//! // Learn from a folder of good images, and keep the model.
//! let good = Dataset::open("good_images")?;
//! let model = Trainer::new().train(&good, &mut Silent)?;
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
//! A [`Dataset`] of images → an [`Extractor`] turns an image into features: a [`Teacher`]'s patch network, or a pretrained network
//! ([`backbone`]) → a detector of one of three families learns from the features of good images → its [`AnomalyMap`] of a new image →
//! a [`Verdict`] by a [`Rule`].
//!
//! | family | configuration | trained detector | settings |
//! |---|---|---|---|
//! | student–teacher: the method of the paper | [`StudentTeacherConfig`] | [`StudentTeacher`] | [`student_teacher`] |
//! | embedding: features, compared with the features of good images | [`EmbeddingConfig`] | [`EmbeddingDetector`] | [`embedding`] |
//! | reconstruction: images, compared with their reconstructions | [`ReconstructionConfig`] | [`ReconstructionDetector`] | [`reconstruction`] |
//!
//! There are three ways to train:
//!
//! | way | when |
//! |---|---|
//! | [`Trainer::train`] | any detector, named by its [`DetectorKind`], with its usual settings, on a folder of images |
//! | [`PreparedImages::fit`] | a configuration of your own, on a folder of images |
//! | [`Config::fit`] | a configuration of your own, on images that are not files |
//!
//! A configuration is [checked](Config::check) before it can be [fitted](Fit). A checked configuration can have
//! [checkpoints](Checked::with_checkpoints). A [`Model`] is a trained detector of any family: save it, load it, inspect with it. [`teacher`] trains teachers. The [`manifest`]
//! describes a file.
//!
//! Networks are graphs of [`nn`], which also chooses the [`device`] that computes them. Every detector is a [`Detector`]: it speaks in
//! images and maps.
#![forbid(unsafe_code)]

pub mod backbone;
mod detectors;
mod error;
mod features;
pub mod manifest;
mod model;
mod patch_network;
mod random;
mod statistics;
pub mod teacher;
mod trainer;
mod training;
mod whitening;

pub use pupilla_nn as nn;
pub use pupilla_nn::Optimizer;
pub use pupilla_nn::device;

pub use detectors::DetectorConfig;
pub use detectors::embedding::{EmbeddingConfig, EmbeddingDetector};
pub use detectors::kind::{DetectorKind, Family};
pub use detectors::reconstruction::{ReconstructionConfig, ReconstructionDetector};
pub use detectors::student_teacher::scoring::Scoring;
pub use detectors::student_teacher::{ScaleTeacher, StudentTeacher, StudentTeacherConfig};
pub use error::{ScoreError, TrainError};
pub use features::input::Border;
pub use features::{BackboneExtractor, Extractor, ExtractorError, Sampling, Teacher};
pub use manifest::{Manifest, Trained};
pub use model::{About, DoesNotApply, FileManifest, Model};
pub use patch_network::{PatchNetworkConfig, ReceptiveField};
pub use trainer::Trainer;
pub use training::prepared_images::{FitError, LIST, PreparedImages};
pub use training::{Checked, Checkpoints, Config, Length, TrainedInSteps, UnfinishedRun};

pub use pupilla_core::data::image_source::FileSettings;
pub use pupilla_core::data::{Dataset, OpenSettings};
pub use pupilla_core::detector::{Detector, Fit};
pub use pupilla_core::image::resize::Resize;
pub use pupilla_core::image::{Image, Size};
pub use pupilla_core::map::anomaly_map::AnomalyMap;
pub use pupilla_core::map::heatmap::{Heatmap, write_png};
pub use pupilla_core::observer::{Observer, Silent, StopFlag};
pub use pupilla_core::verdict::{Rule, Verdict};

/// Settings of the student–teacher detector, the plan of its training, and its manifest.
pub mod student_teacher {
    pub use crate::detectors::student_teacher::{
        Paper, Plan, QUICK_STEPS, Quick, ScaleManifest, ScalePlan, Settings,
        StudentTeacherManifest, StudentTeacherTraining, Training, bytes_beside,
    };
}

/// Settings and manifests of the embedding detectors.
pub mod embedding {
    pub use crate::detectors::embedding::one_class_svm::Gamma;
    pub use crate::detectors::embedding::settings::*;
    pub use crate::detectors::embedding::{EmbeddingManifest, FittedManifest, Method, Settings};
}

/// Settings, plans and manifests of the reconstruction detectors.
pub mod reconstruction {
    pub use crate::detectors::reconstruction::settings::*;
    pub use crate::detectors::reconstruction::{
        Method, ReconstructionManifest, ReconstructionPlan, Settings, Training, fits,
    };
}

/// Items for the tests and benchmarks of this repository; not a part of the library's interface.
#[doc(hidden)]
pub mod internals {
    pub use crate::detectors::embedding::coreset::greedy;
    pub use crate::detectors::embedding::k_means::{MOST_PASSES, settle};
    pub use crate::detectors::embedding::mahalanobis::GlobalGaussian;
    pub use crate::detectors::embedding::matrix::Matrix;
    pub use crate::detectors::embedding::nearest::nearest;
    pub use crate::detectors::embedding::padim::GaussiansInTraining;
    pub use crate::detectors::embedding::principal_components::PrincipalComponents;
    pub use crate::detectors::embedding::smoothing::smooth;
    pub use crate::detectors::embedding::support_vectors::{Machine, MachineTraining, scale_gamma};
    pub use crate::detectors::student_teacher::scoring::residual_metric::{
        NoMetric, ResidualMetric, ResidualProducts,
    };
    pub use crate::detectors::student_teacher::scoring::{Normalisation, Terms, Whitening};
    pub use crate::detectors::student_teacher::students::{Learning, StudentsInTraining};
    pub use crate::features::ExtractorManifest;
    pub use crate::patch_network::{DESCRIPTOR_CHANNELS, LEAKY_SLOPE, PatchNetwork};
    pub use crate::statistics::Moments;
}

/// The programs of both READMEs are compiled too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../../../README.md")]
struct Readme;
