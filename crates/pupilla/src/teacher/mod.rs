//! The teacher: a patch network whose descriptors tell patches of natural images apart. It is
//! trained once and serves every product.
//!
//! Here it learns by metric learning ([`loss`]) on triplets cut from any images ([`triplets`]);
//! [`training`] is the loop.

mod loss;
mod training;
mod triplets;

use burn::tensor::Device;
use pupilla_core::atomic_file::WriteError;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub use loss::Compactness;
pub use training::train;

use crate::device;
use crate::error::TrainError;
use crate::network_weights;
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetwork, PatchNetworkConfig};
use crate::receptive_field::ReceptiveField;
use crate::weight_file::{self, FileHeader, Precision, WeightFile, WeightFileError};

/// `kind` of a teacher's file.
pub(crate) const KIND: &str = "teacher";

/// How to train a teacher. The defaults are the paper's where they are known, and otherwise said
/// to be ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherConfig {
    /// The network.
    pub network: PatchNetworkConfig,
    /// λm, weight of the triplet loss. Ours: 1 (the paper: 0 beside distillation).
    pub triplet_weight: f64,
    /// λc, weight of the compactness loss. Ours: 0.001, because the loss is a sum over 16 256 pairs:
    /// with 0.1 it drowns the triplets, fewer of which hold the longer it trains (`docs/teacher.md`).
    pub compactness_weight: f64,
    /// How the compactness loss counts a correlation.
    pub compactness: Compactness,
    /// δ, the margin of the triplet loss (recalled, not verified: 1).
    pub margin: f64,
    /// Number of optimiser steps. Ours: 200; more make it blind to faint spots (`docs/teacher.md`).
    pub steps: usize,
    /// Images in a step, at least 2: the next image of the batch gives the negatives.
    pub images_per_step: usize,
    /// Side of the windows in pixels, at least p; p is one patch an image, as published.
    pub window: usize,
    /// Largest learning rate of the one-cycle schedule. Ours: 1e-3.
    pub learning_rate: f64,
    /// Weight decay of Adam (1e-5).
    pub weight_decay: f64,
    /// Largest shift of the positive in pixels; (p − 1)/4 (recalled, not verified).
    pub translation: usize,
    /// The positive's brightness is multiplied by a factor from 1 ± this. Ours: 0.2.
    pub brightness: f32,
    /// Standard deviation of the Gaussian noise on the positive, of pixels in `[0, 1]` (recalled: 0.1).
    pub noise: f32,
    /// Probability that a whole triplet is grey (recalled: 0.1).
    pub grey_probability: f32,
    /// Share of the images that is held out to measure the teacher on.
    pub held_out: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl TeacherConfig {
    /// The defaults for a patch size.
    pub fn new(field: ReceptiveField) -> Self {
        Self {
            network: PatchNetworkConfig::new(field),
            triplet_weight: 1.0,
            compactness_weight: 0.001,
            compactness: Compactness::Squared,
            margin: 1.0,
            steps: 200,
            images_per_step: 12,
            window: field.side() + 8 * field.pooling_stride().max(4),
            learning_rate: 1e-3,
            weight_decay: 1e-5,
            translation: (field.side() - 1) / 4,
            brightness: 0.2,
            noise: 0.1,
            grey_probability: 0.1,
            held_out: 0.05,
            seed: 0,
        }
    }

    /// Images are resized to equal sides between these two, 4p and 16p, and never below the window.
    pub(crate) fn resized_sides(&self) -> [usize; 2] {
        let side = self.network.receptive_field.side();
        [(4 * side).max(self.window), (16 * side).max(self.window)]
    }

    /// Checks every setting before any work.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        let side = self.network.receptive_field.side();
        check_rules([(
            "descriptor",
            self.network.output_channels == DESCRIPTOR_CHANNELS,
            format!("of {DESCRIPTOR_CHANNELS} numbers"),
        )])?;
        let rules: [(&'static str, bool, String); 11] = [
            (
                "steps",
                (1..=100_000_000).contains(&self.steps),
                "1 to 100 000 000".into(),
            ),
            (
                "images per step",
                (2..=1024).contains(&self.images_per_step),
                "2 to 1024: the negatives come from another image".into(),
            ),
            (
                "window",
                (side..=1024).contains(&self.window),
                format!("{side} (one patch) to 1024 pixels"),
            ),
            (
                "learning rate",
                self.learning_rate > 0.0 && self.learning_rate <= 1.0,
                "above 0, at most 1".into(),
            ),
            (
                "weight decay",
                (0.0..=1.0).contains(&self.weight_decay),
                "0 to 1".into(),
            ),
            (
                "loss weights",
                self.triplet_weight >= 0.0
                    && self.compactness_weight >= 0.0
                    && self.triplet_weight + self.compactness_weight > 0.0,
                "not negative, and not all 0".into(),
            ),
            (
                "margin",
                self.margin > 0.0 && self.margin.is_finite(),
                "above 0".into(),
            ),
            (
                "translation",
                self.translation < side,
                format!("below {side}, or the two patches share nothing"),
            ),
            (
                "brightness and noise",
                (0.0..=1.0).contains(&self.brightness) && (0.0..=1.0).contains(&self.noise),
                "0 to 1 each".into(),
            ),
            (
                "grey probability",
                (0.0..=1.0).contains(&self.grey_probability),
                "0 to 1".into(),
            ),
            (
                "held-out share",
                (0.0..=0.5).contains(&self.held_out),
                "0 to 0.5".into(),
            ),
        ];
        check_rules(rules)
    }
}

/// The first rule that does not hold, as an error.
pub(crate) fn check_rules<const N: usize>(
    rules: [(&'static str, bool, String); N],
) -> Result<(), TrainError> {
    for (setting, holds, reason) in rules {
        if !holds {
            return Err(TrainError::Setting {
                setting,
                reason: format!("must be {reason}"),
            });
        }
    }
    Ok(())
}

/// Figures on images that the teacher was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// How many images.
    pub images: usize,
    /// Share of triplets whose positive is nearer than the harder of the two negatives (`δ⁺ < δ⁻`);
    /// higher is better, 0.5 is chance.
    pub triplets_holding: f64,
    /// Mean absolute correlation of two descriptor dimensions; lower is better.
    pub mean_correlation: f64,
}

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
    /// Mean training loss over the last tenth of the steps.
    pub final_loss: f64,
    /// Figures on held-out images, if any were held out.
    pub held_out: Option<HeldOut>,
}

/// A trained teacher.
#[derive(Clone, Debug)]
pub struct Teacher {
    pub(crate) network: PatchNetwork,
    pub(crate) manifest: TeacherManifest,
}

impl Teacher {
    /// The teacher that comes with the program for a patch size, if there is one.
    ///
    /// # Errors
    /// If the built-in file is damaged, which a test of ours rules out.
    pub fn built_in(field: ReceptiveField) -> Result<Option<Self>, WeightFileError> {
        let bytes: &[u8] = match field {
            ReceptiveField::P33 => include_bytes!("../../weights/teacher-33.safetensors"),
            ReceptiveField::P17 | ReceptiveField::P65 => return Ok(None),
        };
        let name = format!("built-in teacher for p = {field}");
        let file = WeightFile::parse(Path::new(&name), bytes.to_vec())?;
        Self::from_file(&file, &device::cpu()).map(Some)
    }

    /// Reads a teacher's file.
    ///
    /// # Errors
    /// If the file is not a whole, valid teacher of this format version.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?, &device::cpu())
    }

    pub(crate) fn from_file(file: &WeightFile, device: &Device) -> Result<Self, WeightFileError> {
        let manifest: TeacherManifest = file.manifest(KIND)?;
        check_width(file, &manifest.config.network)?;
        let network = network_weights::read(file, KIND, &manifest.config.network, device)?;
        Ok(Self { network, manifest })
    }

    /// Writes the teacher, its weights rounded to 16 bits.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let tensors = network_weights::export(KIND, &self.network, Precision::Half);
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> &TeacherManifest {
        &self.manifest
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
