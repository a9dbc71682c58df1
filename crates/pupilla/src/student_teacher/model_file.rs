//! The model file: one self-describing safetensors file, see `docs/reference/model-file.md`.

use std::path::Path;
use std::sync::Arc;

use pupilla_files::atomic_file::WriteError;
use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::detector::StudentTeacher;
use super::scale::{Ensemble, Scale};
use super::scale_teacher::{BackboneManifest, BackboneTeacher, ScaleTeacher, ScaleTeacherManifest};
use crate::backbone::Backbone;
use crate::detector_kind::DetectorKind;
use crate::network_weights::{export, import, layout};
use crate::patch_network::PatchNetworkConfig;
use crate::record::{CalibrationManifest, DataManifest, Recorded, ValidationManifest};
use crate::residual_metric::ResidualMetric;
use crate::sampling::Sampling;
use crate::score::{Normalisation, Scoring, Whitening};
use crate::teacher::{Teacher, check_width};
use pupilla_files::weight_file::{
    self, FileHeader, NamedTensor, Precision, WeightFile, WeightFileError,
};

/// `kind` of a model file.
pub(crate) const KIND: &str = DetectorKind::StudentTeacher.name();

/// Before the names of a pretrained network's arrays, which stand in the file once for all scales.
const BACKBONE: &str = "backbone";

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
    /// Number of training images (without those that were watched, and the validation images).
    pub training_images: usize,
    /// Number of images on which the loss was watched, to end a run early.
    #[serde(default)]
    pub watched_images: usize,
    /// One a scale.
    pub scales: Vec<ScaleManifest>,
    /// What the model says about good images that it was not trained on.
    pub validation: ValidationManifest,
    /// The thresholds where they are not the highest score of a validation image; see
    /// [`calibration()`](Self::calibration()).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationManifest>,
}

/// Everything about one scale but its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScaleManifest {
    /// The network of the students, and of the teacher if it is a patch network.
    pub network: PatchNetworkConfig,
    /// Where the teacher came from.
    pub teacher: ScaleTeacherManifest,
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

impl Recorded for StudentTeacher {
    fn with_data(mut self, data: DataManifest) -> Self {
        self.manifest.data = Some(data);
        self
    }
}

impl StudentTeacher {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let backbone = self.scales.iter().find_map(|scale| backbone(scale));
        let mut tensors: Vec<_> = backbone
            .into_iter()
            .flat_map(Backbone::arrays)
            .map(|array| NamedTensor {
                name: format!("{BACKBONE}.{}", array.name),
                shape: array.shape,
                values: array.values,
                precision: Precision::Full,
            })
            .collect();
        for (scale, manifest) in self.scales.iter().zip(&self.manifest.scales) {
            let ensemble = &scale.ensemble;
            let names = Names::of(manifest, &self.manifest.settings);
            let teacher = match &ensemble.teacher {
                ScaleTeacher::PatchNetwork(teacher) => Some(&teacher.network),
                ScaleTeacher::Backbone { .. } => None,
            };
            let networks = teacher.into_iter().chain(&ensemble.students);
            for (prefix, network) in names.networks.iter().zip(networks) {
                tensors.extend(export(prefix, network, Precision::Full));
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
        let manifest: ModelManifest = file.manifest(KIND)?;
        check(file, &manifest)?;
        let names: Vec<_> = manifest
            .scales
            .iter()
            .map(|scale| Names::of(scale, &manifest.settings))
            .collect();
        // All pretrained networks are one, as `check` has seen.
        let config = manifest
            .scales
            .iter()
            .find_map(|scale| match &scale.teacher {
                ScaleTeacherManifest::PatchNetwork(_) => None,
                ScaleTeacherManifest::Backbone(teacher) => Some(teacher.network),
            });
        let mut wanted = Vec::new();
        if let Some(config) = config {
            let layout = config
                .layout()
                .map_err(|error| file.invalid(error.to_string()))?;
            let named = |(name, shape)| (format!("{BACKBONE}.{name}"), shape);
            wanted.extend(layout.into_iter().map(named));
        }
        let of_backbone = wanted.len();
        for (names, scale) in names.iter().zip(&manifest.scales) {
            wanted.extend(names.layout(&scale.network));
        }
        let mut values = file.tensors(&wanted)?.into_iter();
        let backbone: Option<Arc<dyn Backbone>> = match config {
            None => None,
            Some(config) => {
                let network = config.build(values.by_ref().take(of_backbone).collect());
                Some(Arc::from(
                    network.map_err(|error| file.invalid(error.to_string()))?,
                ))
            }
        };
        let mut scales = Vec::new();
        for (names, scale) in names.iter().zip(&manifest.scales) {
            let mut networks = names
                .networks
                .iter()
                .map(|_| import(&scale.network, &mut values))
                .collect::<Vec<_>>()
                .into_iter();
            let teacher = match (&scale.teacher, &backbone) {
                (ScaleTeacherManifest::Backbone(manifest), Some(network)) => {
                    ScaleTeacher::Backbone {
                        field: scale.network.receptive_field,
                        teacher: BackboneTeacher {
                            network: Arc::clone(network),
                            manifest: manifest.clone(),
                        },
                    }
                }
                (ScaleTeacherManifest::PatchNetwork(manifest), _) => match networks.next() {
                    Some(network) => {
                        ScaleTeacher::from(Teacher::within_model(network, (**manifest).clone()))
                    }
                    None => unreachable!("a patch network is the first of its scale's"),
                },
                (ScaleTeacherManifest::Backbone(_), None) => {
                    unreachable!("a scale with a pretrained network has been found above")
                }
            };
            let students = networks.collect();
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
            sampling: manifest.sampling,
            memory: None,
            manifest,
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
    let validation = manifest.validation.check();
    validation.map_err(|reason| file.invalid(reason))?;
    if let Some(calibration) = &manifest.calibration {
        calibration.check().map_err(|reason| file.invalid(reason))?;
    }
    let mut first = None;
    for (index, scale) in manifest.scales.iter().enumerate() {
        check_width(file, &scale.network)?;
        if let ScaleTeacherManifest::Backbone(teacher) = &scale.teacher {
            check_backbone(teacher, &scale.network, first.unwrap_or(teacher))
                .map_err(|reason| file.invalid(reason))?;
            first = Some(teacher);
        }
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

/// The pretrained network that is the teacher of a scale, if it has one.
fn backbone(scale: &Scale) -> Option<&dyn Backbone> {
    match &scale.ensemble.teacher {
        ScaleTeacher::PatchNetwork(_) => None,
        ScaleTeacher::Backbone { teacher, .. } => Some(teacher.network()),
    }
}

/// What a scale with a pretrained network for a teacher must satisfy: it exists, its features do, and
/// they are as many as the students give; `first` is that of a scale before.
fn check_backbone(
    teacher: &BackboneManifest,
    students: &PatchNetworkConfig,
    first: &BackboneManifest,
) -> Result<(), String> {
    teacher
        .network
        .layout()
        .map_err(|error| error.to_string())?;
    let expected = teacher
        .students(students.receptive_field)
        .map_err(|error| error.to_string())?;
    if expected.output_channels != students.output_channels {
        return Err(format!(
            "the students of scale {} give {} numbers, their teacher {}",
            students.receptive_field, students.output_channels, expected.output_channels
        ));
    }
    if !teacher.same_weights(first) {
        return Err("two pretrained networks in one model".to_string());
    }
    Ok(())
}

/// Names of a scale's arrays in the file.
struct Names {
    /// The teacher's prefix if it is a patch network, then the students'.
    networks: Vec<String>,
    /// Mean and deviation.
    whitening: [String; 2],
    /// The metric of residuals, if there is one.
    metric: Option<String>,
}

impl Names {
    fn of(manifest: &ScaleManifest, settings: &Settings) -> Self {
        let scale = format!("scale{}", manifest.network.receptive_field);
        let teacher = match manifest.teacher {
            ScaleTeacherManifest::PatchNetwork(_) => Some(format!("{scale}.teacher")),
            ScaleTeacherManifest::Backbone(_) => None,
        };
        Self {
            networks: teacher
                .into_iter()
                .chain((1..=settings.students).map(|student| format!("{scale}.student{student}")))
                .collect(),
            whitening: ["mean", "deviation"].map(|what| format!("{scale}.whitening.{what}")),
            metric: match settings.scoring {
                Scoring::Published => None,
                Scoring::Mahalanobis => Some(format!("{scale}.metric")),
            },
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
            .map(|name| (name.clone(), vec![config.output_channels]));
        let channels = config.output_channels;
        let metric = self.metric.iter();
        let metric = metric.map(|name| (name.clone(), vec![channels, channels]));
        networks.chain(whitening).chain(metric).collect()
    }
}
