//! The model file: one self-describing safetensors file, see `docs/reference/model-file.md`.

use std::path::Path;

use pupilla_files::atomic_file::WriteError;
use pupilla_files::weight_file::{self, NamedTensor, Precision, WeightFile, WeightFileError};
use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::inspect::StudentTeacher;
use super::scale::{Ensemble, Scale};
use super::scale_teacher::ScaleTeacher;
use super::scoring::residual_metric::ResidualMetric;
use super::scoring::{Normalisation, Scoring, Whitening};
use crate::backbone::BackboneError;
use crate::detectors::kind::DetectorKind;
use crate::features::input::{CHANNEL_DEVIATION, CHANNEL_MEAN};
use crate::features::{Extractor, ExtractorManifest};
use crate::manifest::Manifest;
use crate::patch_network::PatchNetworkConfig;
use crate::patch_network::arrays::{export, import, layout};

/// `kind` of a model file.
pub(crate) const KIND: &str = DetectorKind::StudentTeacher.name();

/// The fields that the manifest of a student–teacher detector adds about its method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentTeacherManifest {
    /// The settings it was trained with.
    pub settings: Settings,
    /// Subtracted from red, green and blue in `[0, 1]` …
    pub channel_mean: [f32; 3],
    /// … which are then divided by this.
    pub channel_deviation: [f32; 3],
}

/// The fields that the manifest of a student–teacher detector adds about its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentTeacherTraining {
    /// Number of images on which the loss was watched, to end a run early.
    #[serde(default)]
    pub watched_images: usize,
    /// One a scale.
    pub scales: Vec<ScaleManifest>,
}

/// Everything about one scale but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleManifest {
    /// The network of the students, and of the teacher if it is a patch network.
    pub network: PatchNetworkConfig,
    /// Where the teacher came from.
    pub teacher: ExtractorManifest,
    /// Number of images that gave the whitening statistics.
    pub statistics_images: usize,
    /// Optimiser steps that were run.
    pub steps: usize,
    /// Mean loss of a student over the last tenth of the steps; 1 is the loss of a student that knows only the mean.
    pub training_loss: f64,
    /// Mean loss of a student on the validation images.
    pub validation_loss: f64,
    /// e_μ, e_σ, v_μ, v_σ.
    pub normalisation: Normalisation,
}

impl StudentTeacher {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let method = &self.manifest.method;
        let extractors = self
            .scales
            .iter()
            .map(|scale| scale.ensemble.teacher.extractor());
        // All scales share one pretrained network, and the file has it once.
        let backbone = extractors
            .clone()
            .find(|extractor| extractor.backbone().is_some());
        let mut tensors = backbone.map_or(Vec::new(), |backbone| backbone.export(""));
        for (scale, manifest) in self.scales.iter().zip(&self.manifest.training.scales) {
            let ensemble = &scale.ensemble;
            let names = Names::of(manifest, &method.settings);
            let extractor = ensemble.teacher.extractor();
            if extractor.backbone().is_none() {
                tensors.extend(extractor.export(&names.teacher));
            }
            for (prefix, student) in names.students.iter().zip(&ensemble.students) {
                tensors.extend(export(prefix, student, Precision::Full));
            }
            let whitening = [&ensemble.whitening.mean, &ensemble.whitening.deviation];
            for (name, values) in names.whitening.into_iter().zip(whitening) {
                tensors.push(NamedTensor {
                    name,
                    shape: vec![values.len()],
                    values: values.clone(),
                    precision: Precision::Full,
                });
            }
            if let (Some(name), Some(metric)) = (names.metric, &ensemble.metric) {
                let channels = ensemble.whitening.mean.len();
                tensors.push(NamedTensor {
                    name,
                    shape: vec![channels, channels],
                    values: metric.whitening().to_vec(),
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
        let manifest: Manifest<StudentTeacherManifest, StudentTeacherTraining> =
            file.manifest(KIND)?;
        let (method, training) = (&manifest.method, &manifest.training);
        check(&manifest).map_err(|reason| file.invalid(reason))?;
        let Some(sampling) = manifest.sampling else {
            return Err(file.invalid("it does not say which positions it was validated at"));
        };
        let invalid = |error: BackboneError| file.invalid(error.to_string());
        let names: Vec<_> = training
            .scales
            .iter()
            .map(|scale| Names::of(scale, &method.settings))
            .collect();
        // All scales share one pretrained network, as `check` has seen.
        let mut teachers = training.scales.iter().map(|scale| &scale.teacher);
        let backbone = teachers.find(|teacher| teacher.backbone().is_some());
        let mut wanted = Vec::new();
        if let Some(backbone) = backbone {
            wanted.extend(backbone.layout("").map_err(invalid)?);
        }
        for (names, scale) in names.iter().zip(&training.scales) {
            if scale.teacher.backbone().is_none() {
                wanted.extend(scale.teacher.layout(&names.teacher).map_err(invalid)?);
            }
            wanted.extend(names.layout(&scale.network));
        }
        let mut values = file.tensors(&wanted)?.into_iter();
        let backbone = backbone.map(|backbone| backbone.build(&mut values));
        let backbone = backbone.transpose().map_err(invalid)?;
        let mut scales = Vec::new();
        for (names, scale) in names.iter().zip(&training.scales) {
            let shared = backbone.as_ref().and_then(Extractor::backbone);
            let extractor = match (scale.teacher.backbone(), shared) {
                (Some(manifest), Some(shared)) => shared.with_manifest(manifest.clone()).into(),
                _ => scale.teacher.build(&mut values).map_err(invalid)?,
            };
            let teacher = ScaleTeacher::from_file(scale.network.receptive_field, extractor);
            let students = names.students.iter();
            let students = students
                .map(|_| import(&scale.network, &mut values))
                .collect();
            let mut next = || values.next().unwrap_or_default();
            let whitening = Whitening {
                mean: next(),
                deviation: next(),
            };
            let metric = names.metric.as_ref();
            let metric = metric.map(|_| ResidualMetric::new(scale.network.output_channels, next()));
            scales.push(Scale {
                ensemble: Ensemble {
                    teacher,
                    students,
                    whitening,
                    metric,
                },
                normalisation: scale.normalisation,
            });
        }
        Ok(Self {
            scales,
            sampling,
            memory: None,
            manifest,
        })
    }
}

/// Checks the manifest of an untrusted file, before its numbers decide over memory.
fn check(
    manifest: &Manifest<StudentTeacherManifest, StudentTeacherTraining>,
) -> Result<(), String> {
    manifest.check()?;
    let (method, scales) = (&manifest.method, &manifest.training.scales);
    if !(1..=3).contains(&scales.len()) {
        return Err(format!("{} scales, not 1 to 3", scales.len()));
    }
    if !(1..=16).contains(&method.settings.students) {
        return Err(format!(
            "{} students, not 1 to 16",
            method.settings.students
        ));
    }
    if method.channel_mean != CHANNEL_MEAN || method.channel_deviation != CHANNEL_DEVIATION {
        return Err("an unknown normalisation of the channels".to_string());
    }
    for (index, scale) in scales.iter().enumerate() {
        check_scale(scale, &scales[..index])?;
    }
    Ok(())
}

/// Checks a scale against the scales before it: its networks exist, teacher and students give equally many numbers, and all pretrained
/// networks are the same.
fn check_scale(scale: &ScaleManifest, before: &[ScaleManifest]) -> Result<(), String> {
    let (students, field) = (&scale.network, scale.network.receptive_field);
    students.check()?;
    scale.teacher.check()?;
    let channels = scale.teacher.channels();
    let channels = channels.map_err(|error| error.to_string())?;
    if channels != students.output_channels {
        return Err(format!(
            "the students of scale {field} give {} numbers, their teacher {channels}",
            students.output_channels
        ));
    }
    let teacher = scale.teacher.patch_network();
    if teacher.is_some_and(|teacher| teacher.config.network != *students) {
        return Err(format!(
            "the teacher of scale {field} is another network than its students"
        ));
    }
    let mut other = before.iter().filter_map(|scale| scale.teacher.backbone());
    if let Some(backbone) = scale.teacher.backbone()
        && other.any(|other| !backbone.same_weights(other))
    {
        return Err("two pretrained networks in one model".to_string());
    }
    if before
        .iter()
        .any(|other| other.network.receptive_field == field)
    {
        return Err(format!("scale {field} stands there twice"));
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
        return Err(format!("the normalisation of scale {field} is not usable"));
    }
    Ok(())
}

/// Names of a scale's arrays in the file.
struct Names {
    /// Before those of the teacher, if it is a patch network.
    teacher: String,
    /// Before those of each student.
    students: Vec<String>,
    /// Mean and deviation.
    whitening: [String; 2],
    /// The metric of residuals, if there is one.
    metric: Option<String>,
}

impl Names {
    fn of(manifest: &ScaleManifest, settings: &Settings) -> Self {
        let scale = format!("scale{}", manifest.network.receptive_field);
        let students = 1..=settings.students;
        Self {
            students: students
                .map(|student| format!("{scale}.student{student}"))
                .collect(),
            whitening: ["mean", "deviation"].map(|what| format!("{scale}.whitening.{what}")),
            metric: match settings.scoring {
                Scoring::Published => None,
                Scoring::Mahalanobis => Some(format!("{scale}.metric")),
            },
            teacher: format!("{scale}.teacher"),
        }
    }

    /// Names and shapes of all but the teacher's.
    fn layout(&self, config: &PatchNetworkConfig) -> Vec<(String, Vec<usize>)> {
        let channels = config.output_channels;
        let students = self
            .students
            .iter()
            .flat_map(|prefix| layout(prefix, config));
        let whitening = self
            .whitening
            .iter()
            .map(|name| (name.clone(), vec![channels]));
        let metric = self.metric.iter();
        let metric = metric.map(|name| (name.clone(), vec![channels, channels]));
        students.chain(whitening).chain(metric).collect()
    }
}
