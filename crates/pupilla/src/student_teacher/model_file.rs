//! The model file: one self-describing safetensors file, see `docs/model-file.md`.

use std::path::Path;

use pupilla_core::atomic_file::WriteError;
use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::detector::{Sampling, StudentTeacher};
use super::scale::{Ensemble, Scale};
use crate::device;
use crate::network_weights::{export, import, layout};
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetworkConfig};
use crate::score::{Normalisation, Whitening};
use crate::teacher::{TeacherManifest, check_width};
use crate::weight_file::{self, FileHeader, NamedTensor, Precision, WeightFile, WeightFileError};

/// `kind` of a model file.
pub(crate) const KIND: &str = "student-teacher";

/// Everything about a trained detector but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    /// Kind, format version, program.
    #[serde(flatten)]
    pub header: FileHeader,
    /// The settings it was trained with.
    pub settings: Settings,
    /// Subtracted from red, green and blue in `[0, 1]` …
    pub channel_mean: [f32; 3],
    /// … which are then divided by this.
    pub channel_deviation: [f32; 3],
    /// Number of threads of the training run: with the same, it repeats to the byte.
    pub threads: usize,
    /// The positions at which the validation images were scored.
    pub sampling: Sampling,
    /// Where the images came from, if they were files.
    pub data: Option<DataManifest>,
    /// Number of training images (without the validation images).
    pub training_images: usize,
    /// One a scale.
    pub scales: Vec<ScaleManifest>,
    /// What the model says about good images that it was not trained on.
    pub validation: ValidationManifest,
}

/// Where a model's images came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataManifest {
    /// Name of the data set or folder.
    pub name: String,
    /// SHA-256 over names and contents of the good images.
    pub fingerprint: String,
    /// The images that were kept back for validation, by name.
    pub validation: Vec<String>,
}

/// Everything about one scale but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleManifest {
    /// The network of teacher and students.
    pub network: PatchNetworkConfig,
    /// Where the teacher came from.
    pub teacher: TeacherManifest,
    /// Number of images behind the whitening statistics.
    pub statistics_images: usize,
    /// Optimiser steps that were run.
    pub steps: usize,
    /// Mean loss of a student over the last tenth of the steps; 1 is knowing only the mean.
    pub training_loss: f64,
    /// Mean loss of a student on the validation images.
    pub validation_loss: f64,
    /// e_μ, e_σ, v_μ, v_σ.
    pub normalisation: Normalisation,
}

/// What a model says about the validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationManifest {
    /// The score of each validation image.
    pub scores: Vec<f32>,
    /// The largest of them: an image above it is more anomalous than any good image seen so far.
    pub threshold: f32,
}

impl ValidationManifest {
    /// From the scores of the validation images.
    pub(super) fn new(scores: Vec<f32>) -> Self {
        let threshold = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { scores, threshold }
    }
}

impl StudentTeacher {
    /// Records where the training images came from.
    #[must_use]
    pub fn with_data(mut self, data: DataManifest) -> Self {
        self.manifest.data = Some(data);
        self
    }

    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let mut tensors = Vec::new();
        for scale in &self.scales {
            let ensemble = &scale.ensemble;
            let names = Names::of(ensemble.teacher.config(), ensemble.students.len());
            let networks = std::iter::once(&ensemble.teacher).chain(&ensemble.students);
            for (prefix, network) in names.networks.iter().zip(networks) {
                tensors.extend(export(prefix, network, Precision::Full));
            }
            let whitening = [&ensemble.whitening.mean, &ensemble.whitening.deviation];
            for (name, values) in names.whitening.into_iter().zip(whitening) {
                tensors.push(NamedTensor {
                    name,
                    shape: vec![DESCRIPTOR_CHANNELS],
                    values: values.clone(),
                    precision: Precision::Full,
                });
            }
        }
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Reads a model and checks all of it.
    ///
    /// # Errors
    /// If the file is not a whole, valid model of this format version.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        let manifest: ModelManifest = file.manifest(KIND)?;
        check(file, &manifest)?;
        let students = manifest.settings.students;
        let names: Vec<_> = manifest
            .scales
            .iter()
            .map(|scale| (scale.network, Names::of(scale.network, students)))
            .collect();
        let wanted: Vec<_> = names
            .iter()
            .flat_map(|(config, names)| names.layout(config))
            .collect();
        let mut values = file.tensors(&wanted)?.into_iter();
        let device = device::cpu();
        let mut scales = Vec::new();
        for ((config, names), scale) in names.iter().zip(&manifest.scales) {
            let mut networks: Vec<_> = names
                .networks
                .iter()
                .map(|_| import(config, &mut values, &device))
                .collect();
            let teacher = networks.remove(0);
            let mut next = || values.next().unwrap_or_default();
            let whitening = Whitening {
                mean: next(),
                deviation: next(),
            };
            scales.push(Scale {
                ensemble: Ensemble {
                    teacher,
                    students: networks,
                    whitening,
                },
                normalisation: scale.normalisation,
            });
        }
        Ok(Self {
            scales,
            sampling: manifest.sampling,
            manifest,
            device,
        })
    }
}

/// What the manifest of an untrusted file must satisfy before its numbers decide over memory.
fn check(file: &WeightFile, manifest: &ModelManifest) -> Result<(), WeightFileError> {
    if !(1..=3).contains(&manifest.scales.len()) {
        return Err(file.invalid(format!("{} scales, not 1 to 3", manifest.scales.len())));
    }
    if !(1..=16).contains(&manifest.settings.students) {
        return Err(file.invalid(format!(
            "{} students, not 1 to 16",
            manifest.settings.students
        )));
    }
    if manifest.channel_mean != crate::input::CHANNEL_MEAN
        || manifest.channel_deviation != crate::input::CHANNEL_DEVIATION
    {
        return Err(file.invalid("an unknown normalisation of the channels"));
    }
    let validation = &manifest.validation;
    let mut scores = validation.scores.iter().chain([&validation.threshold]);
    if validation.scores.is_empty() || scores.any(|score| !score.is_finite()) {
        return Err(file.invalid("the validation scores are not usable"));
    }
    for (index, scale) in manifest.scales.iter().enumerate() {
        check_width(file, &scale.network)?;
        let field = scale.network.receptive_field;
        if manifest.scales[..index]
            .iter()
            .any(|other| other.network.receptive_field == field)
        {
            return Err(file.invalid(format!("scale {field} stands there twice")));
        }
        let normalisation = &scale.normalisation;
        let numbers = [
            normalisation.error_mean,
            normalisation.error_deviation,
            normalisation.variance_mean,
            normalisation.variance_deviation,
        ];
        if numbers
            .iter()
            .any(|number| !number.is_finite() || *number < 0.0)
        {
            return Err(file.invalid(format!("the normalisation of scale {field} is not usable")));
        }
    }
    Ok(())
}

/// Names of a scale's arrays in the file.
struct Names {
    /// The teacher's prefix, then the students'.
    networks: Vec<String>,
    /// Mean and deviation.
    whitening: [String; 2],
}

impl Names {
    fn of(config: PatchNetworkConfig, students: usize) -> Self {
        let scale = format!("scale{}", config.receptive_field);
        Self {
            networks: std::iter::once(format!("{scale}.teacher"))
                .chain((1..=students).map(|student| format!("{scale}.student{student}")))
                .collect(),
            whitening: ["mean", "deviation"].map(|what| format!("{scale}.whitening.{what}")),
        }
    }

    fn layout(&self, config: &PatchNetworkConfig) -> Vec<(String, Vec<usize>)> {
        let networks = self
            .networks
            .iter()
            .flat_map(|prefix| layout(prefix, config));
        let whitening = self
            .whitening
            .iter()
            .map(|name| (name.clone(), vec![DESCRIPTOR_CHANNELS]));
        networks.chain(whitening).collect()
    }
}
