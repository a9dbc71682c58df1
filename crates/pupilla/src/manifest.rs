//! What a file says about itself, whatever it holds.

use std::path::Path;

use serde::Serialize;

use crate::feature_detectors::FeatureManifest;
use crate::model::Model;
use crate::network_detectors::NetworkManifest;
use crate::student_teacher::ModelManifest;
use crate::teacher::{self, Teacher, TeacherManifest};
use pupilla_files::weight_file::{WeightFile, WeightFileError};

/// The manifest of a teacher or of a trained model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// Of a teacher.
    Teacher(Box<TeacherManifest>),
    /// Of a student–teacher model.
    StudentTeacher(Box<ModelManifest>),
    /// Of a detector that compares features.
    Features(Box<FeatureManifest>),
    /// Of a detector that is a network trained to make images again.
    Network(Box<NetworkManifest>),
}

impl Manifest {
    /// The teachers that it holds, or was trained with.
    pub fn teachers(&self) -> Vec<&TeacherManifest> {
        match self {
            Self::Teacher(teacher) => vec![teacher],
            Self::StudentTeacher(model) => {
                let scales = model.scales.iter();
                scales
                    .filter_map(|scale| scale.teacher.patch_network())
                    .collect()
            }
            Self::Features(model) => model.features.patch_network().into_iter().collect(),
            Self::Network(_) => Vec::new(),
        }
    }
}

/// Reads the manifest of a file, after checking all of the file.
///
/// # Errors
/// If it is not a whole, valid teacher or model of this format version.
pub fn read(path: &Path) -> Result<Manifest, WeightFileError> {
    let file = WeightFile::open(path)?;
    if file.kind() == teacher::KIND {
        let teacher = Teacher::from_file(&file)?;
        Ok(Manifest::Teacher(Box::new(teacher.manifest)))
    } else {
        Ok(Model::from_file(&file)?.manifest())
    }
}
