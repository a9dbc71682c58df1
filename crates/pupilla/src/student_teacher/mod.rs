//! The method of the paper: an ensemble of students regresses a teacher's descriptors on good
//! images; where it fails, or disagrees, there is a defect. The teacher is a patch network, or a pretrained
//! network whose own features take the place of descriptors ([`ScaleTeacher`]).
//!
//! [`config`] → training (scale by scale, [`step`] by step) → [`detector`] → [`model_file`].

mod calibration;
mod checkpoint;
pub mod config;
pub mod detector;
mod from_files;
mod memory;
pub mod model_file;
pub mod plan;
pub(crate) mod scale;
pub(crate) mod scale_teacher;
mod seen_images;
pub mod step;
pub(crate) mod tiles;
mod training;
mod watch;

pub use config::{Length, Paper, QUICK_STEPS, Quick, Settings, StudentTeacherConfig, Training};
pub use detector::StudentTeacher;
pub use from_files::fit_files;
pub use memory::bytes_beside;
pub use model_file::{ModelManifest, ScaleManifest};
pub use plan::{Plan, ScalePlan};
pub use scale_teacher::{
    BACKBONE_MARGIN, BackboneManifest, BackboneTeacher, BackboneTeacherError, ScaleTeacher,
    ScaleTeacherManifest,
};
