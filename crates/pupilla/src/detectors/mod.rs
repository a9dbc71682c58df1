//! The detectors: one folder for each family, one file for each method.

pub mod embedding;
pub mod kind;
pub mod reconstruction;
pub mod student_teacher;

use embedding::EmbeddingConfig;
use reconstruction::ReconstructionConfig;
use student_teacher::StudentTeacherConfig;

/// The configuration of a detector of any family.
#[derive(Clone, Debug)]
pub enum DetectorConfig {
    /// Students that predict a teacher.
    StudentTeacher(StudentTeacherConfig),
    /// Features, compared with the features of good images.
    Embedding(Box<EmbeddingConfig>),
    /// Images, compared with their reconstructions.
    Reconstruction(ReconstructionConfig),
}
