//! The manifest of a model's file: everything about a model but its arrays.

use pupilla_core::data::{Acquisitions, picture_digits};
use pupilla_core::image::Image;
use pupilla_core::verdict::calibration::Thresholds;
use pupilla_files::weight_file::FileHeader;
use serde::{Deserialize, Serialize};

use crate::features::Sampling;

/// Everything about a trained detector but its arrays: the fields of every family, the fields that one family adds about its method,
/// `M`, and about its training, `R`. A file has all fields side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest<M, R = Nothing> {
    /// Kind (the detector's name), format version, program.
    #[serde(flatten)]
    pub header: FileHeader,
    /// What this family adds about its method: its settings, and more.
    #[serde(flatten)]
    pub method: M,
    /// Number of threads of the training run: with the same, it repeats to the byte.
    pub threads: usize,
    /// The positions at which the validation images were scored; `None` for a detector that has no choice of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// Where the images came from, if they were files.
    pub data: Option<DataManifest>,
    /// Number of training images (without the validation images, and those that were watched to end a run early).
    pub training_images: usize,
    /// What this family adds about its training.
    #[serde(flatten)]
    pub training: R,
    /// The scores of good images that the detector has not learned from.
    pub validation: ValidationManifest,
    /// The thresholds where they are not the highest score of a validation image; see
    /// [`calibration()`](Self::calibration()).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationManifest>,
}

/// The addition of a family that adds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

impl<M, R> Manifest<M, R> {
    /// The manifest of a detector of this kind that has learned from `training_images` images, and is not validated yet.
    pub(crate) fn new(kind: &'static str, method: M, training_images: usize, training: R) -> Self {
        Self {
            header: FileHeader::new(kind),
            method,
            threads: rayon::current_num_threads(),
            sampling: None,
            data: None,
            training_images,
            training,
            validation: ValidationManifest::new(Vec::new()),
            calibration: None,
        }
    }

    /// The thresholds: those stored, or the highest score of a validation image for both.
    pub fn calibration(&self) -> CalibrationManifest {
        let highest = || CalibrationManifest {
            thresholds: Thresholds::highest(&self.validation.scores),
            sampling: self.sampling,
            data: None,
        };
        self.calibration.clone().unwrap_or_else(highest)
    }

    /// What the scores and thresholds of an untrusted file must satisfy.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        self.validation.check()?;
        if let Some(images) = self.data.as_ref().and_then(|data| data.images.as_ref()) {
            images.check()?;
        }
        self.calibration
            .as_ref()
            .map_or(Ok(()), CalibrationManifest::check)
    }
}

/// A trained detector, which keeps where its images and its thresholds came from.
pub trait Trained: Sized {
    /// What its family adds to the manifest about its method.
    type Method;

    /// What its family adds to the manifest about its training.
    type Training;

    /// Everything about it but its numbers.
    fn manifest(&self) -> &Manifest<Self::Method, Self::Training>;

    /// The same, to be changed.
    #[doc(hidden)]
    fn manifest_mut(&mut self) -> &mut Manifest<Self::Method, Self::Training>;

    /// Records where the training images came from.
    #[must_use]
    fn with_data(mut self, data: DataManifest) -> Self {
        self.manifest_mut().data = Some(data);
        self
    }

    /// The same detector with other thresholds.
    #[must_use]
    fn with_calibration(mut self, calibration: CalibrationManifest) -> Self {
        self.manifest_mut().calibration = Some(calibration);
        self
    }
}

/// Where a model's images came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataManifest {
    /// Name of the data set or folder.
    pub name: String,
    /// SHA-256 over names and contents of the good images.
    pub fingerprint: String,
    /// The images that were kept back for validation, by name.
    pub validation: Vec<String>,
    /// What identifies each picture that was learned or watched ([`picture_digits`]), sorted:
    /// whatever their names, places and encodings, calibration leaves these pictures out. Older files have the first 16 digits of the
    /// SHA-256 of each file instead, or nothing.
    #[serde(default)]
    pub learned: Vec<String>,
    /// How the images were taken; older files do not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Acquisitions>,
}

impl DataManifest {
    /// Whether the model has learned from this picture, as far as its file tells.
    pub fn has_learned(&self, image: &Image) -> bool {
        let digits = picture_digits(image);
        let known = |learned: &String| learned.as_str().cmp(digits.as_str());
        self.learned.binary_search_by(known).is_ok()
    }
}

/// The scores of the validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationManifest {
    /// The score of each validation image.
    pub scores: Vec<f32>,
    /// The largest of them: an image above it is more anomalous than any good image seen so far.
    pub threshold: f32,
}

/// Thresholds, and the images that gave them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationManifest {
    /// The thresholds with their wanted rates and bounds, and the number of good images that gave them.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// The positions at which those images were scored; `None` for a detector that has no choice of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The images; `None`: those of the training run, kept back or left out in turn.
    pub data: Option<CalibrationData>,
}

/// The good images that a model was calibrated on after its training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationData {
    /// Name of their folder.
    pub name: String,
    /// SHA-256 over their names and contents.
    pub fingerprint: String,
    /// SHA-256 of the mask image of the inspected pixels, if there was one.
    pub roi: Option<String>,
}

impl ValidationManifest {
    /// From the scores of the validation images.
    pub(crate) fn new(scores: Vec<f32>) -> Self {
        let threshold = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { scores, threshold }
    }

    /// Checks the fields of an untrusted file.
    fn check(&self) -> Result<(), &'static str> {
        let mut scores = self.scores.iter().chain([&self.threshold]);
        if self.scores.is_empty() || scores.any(|score| !score.is_finite()) {
            return Err("the validation scores are not usable");
        }
        Ok(())
    }
}

impl CalibrationManifest {
    /// Checks the thresholds of an untrusted file.
    fn check(&self) -> Result<(), &'static str> {
        let Thresholds {
            image,
            pixel,
            images,
            groups,
        } = &self.thresholds;
        let usable = [image, pixel]
            .into_iter()
            .all(|threshold| threshold.value.is_finite() && (0.0..=1.0).contains(&threshold.bound));
        if usable && *images > 0 && groups.is_none_or(|groups| groups > 1) {
            Ok(())
        } else {
            Err("the thresholds are not usable: calibrate the model again")
        }
    }
}
