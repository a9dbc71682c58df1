//! A trained teacher: a patch network whose descriptors tell patches of natural images apart, with how it was trained. It is trained
//! once ([`crate::teacher`]) and serves every product.

mod built_in;
mod config;
mod decoder;
mod held_out;

use std::io;
use std::path::{Path, PathBuf};

use pupilla_files::atomic_file::WriteError;
use pupilla_files::weight_file::{self, FileHeader, Precision, WeightFile, WeightFileError};
use serde::{Deserialize, Serialize};

use crate::backbone::BackboneConfig;
use crate::patch_network::{PatchNetwork, ReceptiveField, arrays};

pub use config::{Compactness, Distillation, TeacherConfig};
pub(crate) use decoder::{Decoder, Decoding, TargetScale};
pub use held_out::{DistillationError, HeldOut};

/// `kind` of a teacher's file.
pub const KIND: &str = "teacher";

/// Everything about a teacher but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherManifest {
    /// Kind, format version, program.
    #[serde(flatten)]
    pub header: FileHeader,
    /// The settings it was trained with.
    pub config: TeacherConfig,
    /// Number of images it was trained on.
    pub images: usize,
    /// The images and their terms, in the words of the person who trained the teacher.
    pub data: String,
    /// SHA-256 over the training images' names and contents, if they were files.
    pub fingerprint: Option<String>,
    /// The pretrained network that it learned from, if there was one.
    pub tutor: Option<TutorManifest>,
    /// How many numbers of it were learned, 0 without: the file then holds the layer that decodes descriptors to them.
    pub targets: usize,
    /// Mean training loss over the last tenth of the steps.
    pub final_loss: f64,
    /// Figures on held-out images, if any were held out.
    pub held_out: Option<HeldOut>,
}

/// The pretrained network that a teacher learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TutorManifest {
    /// Which network, and how much of it.
    pub network: BackboneConfig,
    /// SHA-256 over the name and content of its file, if it came from a file.
    pub fingerprint: Option<String>,
}

/// A trained teacher.
#[derive(Clone, Debug)]
pub struct Teacher {
    network: PatchNetwork,
    manifest: TeacherManifest,
    /// From descriptors to the pretrained network's features; `None` within a model.
    decoding: Option<Decoding>,
}

impl Teacher {
    /// The teacher that comes with the program for a patch size.
    ///
    /// # Errors
    /// In a build without the feature `built-in-teachers`. If the built-in file is damaged, which a test of ours rules out.
    pub fn built_in(field: ReceptiveField) -> Result<Self, WeightFileError> {
        let name = PathBuf::from(format!("the built-in teacher for p = {field}"));
        let Some(bytes) = built_in::file(field) else {
            let reason = "this build has no built-in teachers (feature built-in-teachers): give the file of a teacher";
            let source = io::Error::new(io::ErrorKind::Unsupported, reason);
            return Err(WeightFileError::Read { path: name, source });
        };
        let file = WeightFile::parse(&name, bytes.to_vec())?;
        Self::from_file(&file)
    }

    /// A teacher from its parts.
    pub(crate) fn new(
        network: PatchNetwork,
        manifest: TeacherManifest,
        decoding: Option<Decoding>,
    ) -> Self {
        Self {
            network,
            manifest,
            decoding,
        }
    }

    /// The teacher in a model file, which keeps what inspection needs: not the layer that decodes descriptors.
    pub(crate) fn within_model(network: PatchNetwork, manifest: TeacherManifest) -> Self {
        Self {
            network,
            manifest,
            decoding: None,
        }
    }

    /// Reads a teacher's file.
    ///
    /// # Errors
    /// If the file is not a whole, valid teacher of this format version.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        let manifest: TeacherManifest = file.manifest(KIND)?;
        let config = &manifest.config.network;
        config.check().map_err(|reason| file.invalid(reason))?;
        let mut wanted = arrays::layout(KIND, config);
        if manifest.targets > 0 {
            wanted.extend(Decoding::layout(file, manifest.targets)?);
        }
        let mut values = file.tensors(&wanted)?.into_iter();
        let network = arrays::import(config, &mut values);
        let decoding = (manifest.targets > 0).then(|| Decoding::import(&mut values));
        Ok(Self {
            network,
            manifest,
            decoding,
        })
    }

    /// Writes the teacher, its weights rounded to 16 bits.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let mut tensors = arrays::export(KIND, &self.network, Precision::Half);
        if let Some(decoding) = &self.decoding {
            tensors.extend(decoding.export(Precision::Half));
        }
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> &TeacherManifest {
        &self.manifest
    }

    /// The patch network.
    pub(crate) fn network(&self) -> &PatchNetwork {
        &self.network
    }

    /// From descriptors to the pretrained network's features, if the teacher has this layer.
    pub(crate) fn decoding(&self) -> Option<&Decoding> {
        self.decoding.as_ref()
    }

    /// The patch size p.
    pub fn receptive_field(&self) -> ReceptiveField {
        self.network.receptive_field()
    }
}
