//! The method of the paper: an ensemble of students regresses a teacher's descriptors on good
//! images; where it fails, or disagrees, there is a defect.
//!
//! [`config`] → [`training`] (of one [`scale`]) → [`detector`] → [`model_file`].

pub mod config;
pub mod detector;
pub mod model_file;
mod scale;
mod training;

pub use config::{Length, Paper, Quick, StudentTeacherConfig, Training};
pub use detector::{Sampling, StudentTeacher};
pub use model_file::{DataManifest, ModelManifest, ScaleManifest, ValidationManifest};
