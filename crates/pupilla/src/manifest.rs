//! What a file says about itself, whatever it holds.

use std::path::Path;

use serde::Serialize;

use crate::student_teacher::{ModelManifest, StudentTeacher};
use crate::teacher::{self, Teacher, TeacherManifest};
use crate::weight_file::{WeightFile, WeightFileError};

/// The manifest of a teacher or of a trained model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// Of a teacher.
    Teacher(Box<TeacherManifest>),
    /// Of a student–teacher model.
    StudentTeacher(Box<ModelManifest>),
}

/// Reads the manifest of a file, after checking all of the file.
///
/// # Errors
/// If it is not a whole, valid teacher or model of this format version.
pub fn read(path: &Path) -> Result<Manifest, WeightFileError> {
    let file = WeightFile::open(path)?;
    if file.kind() == teacher::KIND {
        let teacher = Teacher::from_file(&file, &crate::device::cpu())?;
        Ok(Manifest::Teacher(Box::new(teacher.manifest)))
    } else {
        let model = StudentTeacher::from_file(&file)?;
        Ok(Manifest::StudentTeacher(Box::new(model.manifest().clone())))
    }
}
