//! The method of the paper: an ensemble of students learns to predict a teacher's descriptors on good images. Where the students fail
//! or disagree, there is a defect.
//!
//! [`config`] (settings) → [`plan`] (estimates time and memory) → `fit` (scale by scale) → [`model_file`].
//! `fit` takes `resized_images`, `teacher_statistics`, and `training` (the students of one scale): `batch`, [`students`] (a step),
//! `budget`, `early_stop`, `checkpoint`.
//! [`inspect`] is the trained detector: `scale` (runs teacher and students over an image), [`scoring`], `memory`.

mod batch;
mod budget;
mod checkpoint;
pub mod config;
mod early_stop;
mod fit;
pub mod inspect;
mod memory;
pub mod model_file;
pub mod plan;
mod resized_images;
pub(crate) mod scale;
pub(crate) mod scale_teacher;
pub mod scoring;
mod seen_images;
pub mod students;
mod teacher_statistics;
mod training;

pub use config::{Paper, QUICK_STEPS, Quick, Settings, StudentTeacherConfig, Training};
pub use inspect::StudentTeacher;
pub use memory::bytes_beside;
pub use model_file::{ScaleManifest, StudentTeacherManifest, StudentTeacherTraining};
pub use plan::{Plan, ScalePlan};
pub use scale_teacher::ScaleTeacher;
