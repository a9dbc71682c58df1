//! Training of teachers: a patch network learns to tell patches of natural images apart, or to predict a pretrained network's features
//! of them.
//!
//! [`TeacherConfig`] → `triplets`, `batch` (windows of images) → `distillation` (a pretrained
//! network's features of them) → `loss` (all losses and their gradients), which shares `correlation` with the figures → `training` (a
//! step, with `checkpoint` and `history`) → `measure` (figures on held-out images) → `report` (figures and pictures, for people).

mod batch;
mod checkpoint;
mod correlation;
mod distillation;
mod history;
mod loss;
mod measure;
mod report;
mod training;
mod triplets;

use serde::{Deserialize, Serialize};

pub use crate::features::teacher::{
    Compactness, Distillation, DistillationError, HeldOut, KIND, TeacherConfig, TeacherManifest,
    TutorManifest,
};
pub use history::{StepLosses, to_csv};
pub use report::{TeacherReport, report};
pub use training::{TrainedTeacher, held_out_images, train};

/// Where a teacher's training data came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The images and their terms, in words.
    pub data: String,
    /// SHA-256 over the images' names and contents, if they are files.
    pub fingerprint: Option<String>,
    /// SHA-256 over the name and content of the pretrained network's file, if there is one.
    pub backbone_fingerprint: Option<String>,
}
