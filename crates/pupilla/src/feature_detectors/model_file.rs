//! The model file of these detectors, see `docs/reference/model-file.md`.

use std::path::Path;
use std::sync::Arc;

use pupilla_core::image::resize::Resize;
use pupilla_files::atomic_file::WriteError;
use serde::{Deserialize, Serialize};

use super::config::{MOST_CHANNELS, Method, Settings};
use super::describer::{Describer, stride};
use super::detector::FeatureDetector;
use super::fitted::Fitted;
use super::matrix::Matrix;
use super::one_class_svm::OneClassSvm;
use super::position_gaussians::{PositionGaussians, triangle};
use super::principal_components::PrincipalComponents;
use crate::detector_kind::DetectorKind;
use crate::network_weights::{export, import, layout};
use crate::record::{CalibrationManifest, DataManifest, ValidationManifest};
use crate::student_teacher::scale::Grid;
use crate::student_teacher::{BackboneTeacher, ScaleTeacherManifest};
use crate::teacher::{Teacher, check_width};
use pupilla_files::weight_file::{
    self, FileHeader, NamedTensor, Precision, WeightFile, WeightFileError,
};

/// Everything about such a detector but its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureManifest {
    /// Kind (the detector's name), format version, program.
    #[serde(flatten)]
    pub header: FileHeader,
    /// The settings it was fitted with.
    pub settings: Settings,
    /// What gives the features.
    pub features: ScaleTeacherManifest,
    /// What it keeps of the features of good images.
    pub fitted: FittedManifest,
    /// Number of threads of the training run: with the same, it repeats to the byte.
    pub threads: usize,
    /// Where the images came from, if they were files.
    pub data: Option<DataManifest>,
    /// Number of training images (without the validation images).
    pub training_images: usize,
    /// What it says about good images that it was not fitted on.
    pub validation: ValidationManifest,
    /// The thresholds where they are not the highest score of a validation image; see
    /// [`calibration()`](Self::calibration()).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationManifest>,
}

/// Sizes and single numbers of what a detector keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedManifest {
    /// Words.
    Dictionary {
        /// Components of the PCA, if there is one.
        components: Option<usize>,
        /// Number of words.
        words: usize,
    },
    /// A one-class support vector machine.
    SupportVectors {
        /// Components of the PCA.
        components: usize,
        /// Number of support vectors.
        vectors: usize,
        /// The kernel's γ.
        gamma: f64,
        /// The offset ρ.
        offset: f64,
    },
    /// A Gaussian a position.
    Gaussians {
        /// The features that are looked at, ascending.
        channels: Vec<usize>,
    },
}

impl From<&Fitted> for FittedManifest {
    fn from(fitted: &Fitted) -> Self {
        match fitted {
            Fitted::Dictionary {
                components, words, ..
            } => Self::Dictionary {
                components: components.as_ref().map(PrincipalComponents::components),
                words: words.rows(),
            },
            Fitted::SupportVectors {
                components,
                machine,
            } => Self::SupportVectors {
                components: components.components(),
                vectors: machine.vectors.rows(),
                gamma: machine.gamma,
                offset: machine.offset,
            },
            Fitted::Gaussians(gaussians) => Self::Gaussians {
                channels: gaussians.channels.clone(),
            },
        }
    }
}

impl FeatureManifest {
    /// The detector's thresholds: those stored, or the highest score of a validation image for both.
    pub fn calibration(&self) -> CalibrationManifest {
        let highest = || CalibrationManifest::highest(&self.validation, None);
        self.calibration.clone().unwrap_or_else(highest)
    }

    /// Features at a position.
    fn channels(&self) -> Result<usize, String> {
        match &self.features {
            ScaleTeacherManifest::PatchNetwork(teacher) => {
                Ok(teacher.config.network.output_channels)
            }
            ScaleTeacherManifest::Backbone(backbone) => {
                let outputs = backbone.features.check(&backbone.network);
                let outputs = outputs.map_err(|error| error.to_string())?;
                Ok(outputs.iter().map(|output| output.channels).sum())
            }
        }
    }
}

/// Before the names of the arrays of what gives the features.
const BACKBONE: &str = "backbone";
const TEACHER: &str = "teacher";

impl FeatureDetector {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let mut tensors = match &self.describer {
            Describer::PatchNetwork(teacher) => export(TEACHER, &teacher.network, Precision::Full),
            Describer::Backbone(teacher) => {
                let arrays = teacher.network().arrays().into_iter();
                let named = arrays.map(|array| NamedTensor {
                    name: format!("{BACKBONE}.{}", array.name),
                    shape: array.shape,
                    values: array.values,
                    precision: Precision::Full,
                });
                named.collect()
            }
        };
        let layout = fitted_layout(
            &self.manifest.fitted,
            self.describer.channels(),
            self.positions(),
        );
        let values = fitted_values(&self.fitted);
        tensors.extend(
            layout
                .into_iter()
                .zip(values)
                .map(|((name, shape), values)| NamedTensor {
                    name,
                    shape,
                    values: values.to_vec(),
                    precision: Precision::Full,
                }),
        );
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Positions of a Gaussian; 0 for others.
    fn positions(&self) -> usize {
        match &self.fitted {
            Fitted::Gaussians(gaussians) => gaussians.mean.rows(),
            _ => 0,
        }
    }

    /// Reads a model and checks all of it.
    ///
    /// # Errors
    /// If the file is not a whole, valid model of this format version, of one of these detectors.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        let kind = file.kind().parse::<DetectorKind>().ok();
        let kind = kind.filter(|kind| Method::of(*kind).is_some());
        let expected = kind.map_or("detector on features", DetectorKind::name);
        let manifest: FeatureManifest = file.manifest(expected)?;
        let invalid = |reason: String| file.invalid(reason);
        check(&manifest, expected).map_err(invalid)?;
        if let ScaleTeacherManifest::PatchNetwork(teacher) = &manifest.features {
            check_width(file, &teacher.config.network)?;
        }
        let channels = manifest.channels().map_err(invalid)?;
        check_fitted(&manifest, channels).map_err(invalid)?;

        let mut wanted = match &manifest.features {
            ScaleTeacherManifest::PatchNetwork(teacher) => layout(TEACHER, &teacher.config.network),
            ScaleTeacherManifest::Backbone(backbone) => {
                let layout = backbone.network.layout();
                let layout = layout.map_err(|error| invalid(error.to_string()))?;
                let named = |(name, shape)| (format!("{BACKBONE}.{name}"), shape);
                layout.into_iter().map(named).collect()
            }
        };
        let of_describer = wanted.len();
        let positions = match manifest.fitted {
            FittedManifest::Gaussians { .. } => positions(&manifest).map_err(invalid)?,
            _ => 0,
        };
        wanted.extend(fitted_layout(&manifest.fitted, channels, positions));
        let mut values = file.tensors(&wanted)?.into_iter();
        let describer = match &manifest.features {
            ScaleTeacherManifest::PatchNetwork(teacher) => {
                let network = import(&teacher.config.network, &mut values);
                let teacher = Teacher::within_model(network, (**teacher).clone());
                Describer::PatchNetwork(Box::new(teacher))
            }
            ScaleTeacherManifest::Backbone(backbone) => {
                let arrays = values.by_ref().take(of_describer).collect();
                let network = backbone.network.build(arrays);
                Describer::Backbone(BackboneTeacher {
                    network: Arc::from(network.map_err(|error| invalid(error.to_string()))?),
                    manifest: backbone.clone(),
                })
            }
        };
        let fitted = rebuilt(&manifest, channels, &mut values);
        Ok(Self {
            describer,
            fitted,
            manifest,
        })
    }
}

/// Positions of the square that a Gaussian's images are resized to.
fn positions(manifest: &FeatureManifest) -> Result<usize, String> {
    let Resize::Square(side) = manifest.settings.resize else {
        return Err("Gaussians a position, but images of several sizes".to_string());
    };
    let stride = stride(&manifest.features);
    let Grid { rows, columns, .. } = Grid::with_stride([side, side], stride);
    Ok(rows * columns)
}

/// What the manifest of an untrusted file must satisfy before its numbers decide over memory.
fn check(manifest: &FeatureManifest, kind: &str) -> Result<(), String> {
    manifest
        .settings
        .check()
        .map_err(|error| error.to_string())?;
    let found = manifest.settings.method.kind().name();
    if found != kind {
        return Err(format!("a {kind} with the settings of {found}"));
    }
    manifest.validation.check()?;
    if let Some(calibration) = &manifest.calibration {
        calibration.check()?;
    }
    if let ScaleTeacherManifest::Backbone(backbone) = &manifest.features {
        backbone.check().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether what was kept fits the detector and its features.
fn check_fitted(manifest: &FeatureManifest, channels: usize) -> Result<(), String> {
    let components_fit = |components: usize| (1..=channels).contains(&components);
    let fits = match (&manifest.settings.method, &manifest.fitted) {
        (Method::MemoryBank { .. }, FittedManifest::Dictionary { components, words }) => {
            components.is_none() && *words > 0
        }
        (
            Method::NearestNeighbour { dictionary, .. } | Method::KMeans { dictionary, .. },
            FittedManifest::Dictionary { components, words },
        ) => components.is_some_and(components_fit) && words == dictionary,
        (
            Method::CnnDictionary {
                dictionary,
                neighbours,
                ..
            },
            FittedManifest::Dictionary { components, words },
        ) => components.is_some_and(components_fit) && words == dictionary && neighbours <= words,
        (
            Method::OneClassSvm { .. },
            FittedManifest::SupportVectors {
                components,
                vectors,
                gamma,
                offset,
            },
        ) => {
            components_fit(*components)
                && *vectors > 0
                && *gamma > 0.0
                && gamma.is_finite()
                && offset.is_finite()
        }
        (
            Method::Padim {
                channels: count, ..
            },
            FittedManifest::Gaussians { channels: chosen },
        ) => {
            chosen.len() == *count
                && (1..=MOST_CHANNELS).contains(count)
                && chosen.is_sorted_by(|one, next| one < next)
                && chosen.iter().all(|channel| *channel < channels)
        }
        _ => false,
    };
    if fits {
        Ok(())
    } else {
        Err("what it has learned fits neither its settings nor its features".to_string())
    }
}

/// Names and shapes of the arrays of what was kept.
fn fitted_layout(
    fitted: &FittedManifest,
    channels: usize,
    positions: usize,
) -> Vec<(String, Vec<usize>)> {
    let named = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
    let of_pca = |components: usize| {
        [
            named("pca.mean", &[channels]),
            named("pca.directions", &[components, channels]),
        ]
    };
    let mut layout = Vec::new();
    match fitted {
        FittedManifest::Dictionary { components, words } => {
            layout.extend(components.iter().flat_map(|count| of_pca(*count)));
            layout.push(named("words", &[*words, components.unwrap_or(channels)]));
        }
        FittedManifest::SupportVectors {
            components,
            vectors,
            ..
        } => {
            layout.extend(of_pca(*components));
            layout.push(named("support.vectors", &[*vectors, *components]));
            layout.push(named("support.weights", &[*vectors]));
        }
        FittedManifest::Gaussians { channels } => {
            let count = channels.len();
            layout.push(named("gaussians.mean", &[positions, count]));
            layout.push(named("gaussians.whitening", &[positions, triangle(count)]));
        }
    }
    layout
}

/// The arrays in the order of [`fitted_layout`].
fn fitted_values(fitted: &Fitted) -> Vec<&[f32]> {
    match fitted {
        Fitted::Dictionary {
            components, words, ..
        } => {
            let mut values = Vec::new();
            if let Some(components) = components {
                values.extend([components.mean.as_slice(), components.directions.values()]);
            }
            values.push(words.values());
            values
        }
        Fitted::SupportVectors {
            components,
            machine,
        } => vec![
            &components.mean,
            components.directions.values(),
            machine.vectors.values(),
            &machine.weights,
        ],
        Fitted::Gaussians(gaussians) => {
            vec![gaussians.mean.values(), gaussians.whitening.values()]
        }
    }
}

/// What was kept, from the arrays in the order of [`fitted_layout`]; their sizes have been checked.
fn rebuilt(
    manifest: &FeatureManifest,
    channels: usize,
    values: &mut impl Iterator<Item = Vec<f32>>,
) -> Fitted {
    let mut next = || values.next().unwrap_or_default();
    let of_pca = |next: &mut dyn FnMut() -> Vec<f32>| PrincipalComponents {
        mean: next(),
        directions: Matrix::new(channels, next()),
    };
    match &manifest.fitted {
        FittedManifest::Dictionary { components, .. } => Fitted::Dictionary {
            components: components.map(|_| of_pca(&mut next)),
            words: Matrix::new(components.unwrap_or(channels), next()),
            neighbours: match manifest.settings.method {
                Method::CnnDictionary { neighbours, .. } => neighbours,
                _ => 1,
            },
        },
        FittedManifest::SupportVectors {
            components,
            gamma,
            offset,
            ..
        } => Fitted::SupportVectors {
            components: of_pca(&mut next),
            machine: OneClassSvm {
                vectors: Matrix::new(*components, next()),
                weights: next(),
                offset: *offset,
                gamma: *gamma,
            },
        },
        FittedManifest::Gaussians { channels: chosen } => {
            let count = chosen.len();
            Fitted::Gaussians(PositionGaussians {
                channels: chosen.clone(),
                mean: Matrix::new(count, next()),
                whitening: Matrix::new(triangle(count), next()),
            })
        }
    }
}
