//! The detectors, a folder a family, a file a method.

pub mod embedding;
pub mod kind;
pub mod reconstruction;
pub mod student_teacher;
