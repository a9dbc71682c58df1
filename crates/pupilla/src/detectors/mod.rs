//! The detectors, a folder a family, a file a method.

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
    /// Features, compared with those of good images.
    Embedding(Box<EmbeddingConfig>),
    /// Images, compared with what networks make of them.
    Reconstruction(ReconstructionConfig),
}
