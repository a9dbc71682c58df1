//! The method of the paper: an ensemble of students learns to predict a teacher's descriptors on good images. Where the students fail
//! or disagree, there is a defect.
//!
//! [`config`] (settings) → `fit` (scale by scale), over `training` (the run of one scale), [`students`] (a step), `watch` (early end),
//! `checkpoint`; [`plan`] estimates time and memory → `scale` (runs teacher and students over an image), [`scoring`] → [`inspect`] (the
//! trained detector), with `memory` → [`model_file`].

mod checkpoint;
pub mod config;
mod fit;
pub mod inspect;
mod memory;
pub mod model_file;
pub mod plan;
pub(crate) mod scale;
pub(crate) mod scale_teacher;
pub mod scoring;
mod seen_images;
pub mod students;
mod training;
mod watch;

pub use config::{Paper, QUICK_STEPS, Quick, Settings, StudentTeacherConfig, Training};
pub use inspect::StudentTeacher;
pub use memory::bytes_beside;
pub use model_file::{ScaleManifest, StudentTeacherManifest, StudentTeacherTraining};
pub use plan::{Plan, ScalePlan};
pub use scale_teacher::ScaleTeacher;
