//! The teacher: a patch network whose descriptors tell patches of natural images apart. It is
//! trained once and serves every product.
//!
//! The rooms: `config` (settings) → `triplets`, `batch` (windows of images) → `distillation` (what a pretrained
//! network says about them), `decoder` (descriptors → what it says), `loss` (all losses and their gradients), which shares
//! `correlation` with the figures → `training` (the loop), with `checkpoint` and `history` → `held_out` (figures on other
//! images) → `report` (those and pictures, for people).

mod batch;
mod built_in;
mod checkpoint;
mod config;
mod correlation;
mod decoder;
mod distillation;
mod held_out;
mod history;
mod loss;
mod report;
mod training;
mod triplets;

use pupilla_files::atomic_file::WriteError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

pub use crate::checkpoints::Checkpoints;
pub(crate) use config::check_rules;
pub use config::{Distillation, TeacherConfig};
pub use held_out::{DistillationError, HeldOut};
pub use history::{StepLosses, to_csv};
pub use loss::Compactness;
pub use report::{TeacherReport, report};
pub use training::{held_out_images, train};

use crate::backbone::BackboneConfig;
use crate::network_weights;
use crate::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::receptive_field::ReceptiveField;
use decoder::Decoding;
use pupilla_files::weight_file::{self, FileHeader, Precision, WeightFile, WeightFileError};

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
    /// What the images were and under which terms, in the words of the one who trained it.
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
    /// SHA-256 over the name and content of its file, if it came from one.
    pub fingerprint: Option<String>,
}

/// Where a teacher's training data came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// What the images are and under which terms, in words.
    pub data: String,
    /// SHA-256 over the images' names and contents, if they are files.
    pub fingerprint: Option<String>,
    /// SHA-256 over the name and content of the pretrained network's file, if there is one.
    pub backbone_fingerprint: Option<String>,
}

/// A trained teacher.
#[derive(Clone, Debug)]
pub struct Teacher {
    pub(crate) network: PatchNetwork,
    pub(crate) manifest: TeacherManifest,
    /// From descriptors to what the pretrained network says; `None` within a model.
    decoding: Option<Decoding>,
    /// The losses of its training; empty for one that was read from a file.
    history: Vec<StepLosses>,
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

    /// The teacher in a model file, which keeps what inspection needs: not the layer that decodes descriptors.
    pub(crate) fn within_model(network: PatchNetwork, manifest: TeacherManifest) -> Self {
        Self {
            network,
            manifest,
            decoding: None,
            history: Vec::new(),
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
        check_width(file, &manifest.config.network)?;
        let config = &manifest.config.network;
        let mut wanted = network_weights::layout(KIND, config);
        if manifest.targets > 0 {
            wanted.extend(Decoding::layout(file, manifest.targets)?);
        }
        let mut values = file.tensors(&wanted)?.into_iter();
        let network = network_weights::import(config, &mut values);
        let decoding = (manifest.targets > 0).then(|| Decoding::import(&mut values));
        Ok(Self {
            network,
            manifest,
            decoding,
            history: Vec::new(),
        })
    }

    /// Writes the teacher, its weights rounded to 16 bits.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let mut tensors = network_weights::export(KIND, &self.network, Precision::Half);
        if let Some(decoding) = &self.decoding {
            tensors.extend(decoding.export(Precision::Half));
        }
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> &TeacherManifest {
        &self.manifest
    }

    /// The losses of every step of its training; empty for one that was read from a file.
    pub fn history(&self) -> &[StepLosses] {
        &self.history
    }

    /// The patch size p.
    pub fn receptive_field(&self) -> ReceptiveField {
        self.network.receptive_field()
    }
}

/// A width from a file decides how much memory a network takes.
pub(crate) fn check_width(
    file: &WeightFile,
    network: &PatchNetworkConfig,
) -> Result<(), WeightFileError> {
    network.check().map_err(|reason| file.invalid(reason))
}
