//! What every trained detector's file says about its images and its thresholds, whatever the detector is.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Detector;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::{Calibrator, Thresholds, WantedRates};
use serde::{Deserialize, Serialize};

use crate::error::{ScoreError, TrainError};
use crate::sampling::Sampling;

/// Where a model's images came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataManifest {
    /// Name of the data set or folder.
    pub name: String,
    /// SHA-256 over names and contents of the good images.
    pub fingerprint: String,
    /// The images that were kept back for validation, by name.
    pub validation: Vec<String>,
    /// The first 16 digits of the SHA-256 of each image that was learned or watched, sorted: whatever they are called and wherever
    /// they lie, no threshold is taken from them. Empty in files that are older than this.
    #[serde(default)]
    pub learned: Vec<String>,
}

/// What a model says about the validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationManifest {
    /// The score of each validation image.
    pub scores: Vec<f32>,
    /// The largest of them: an image above it is more anomalous than any good image seen so far.
    pub threshold: f32,
}

/// Thresholds, and what they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationManifest {
    /// The thresholds with their wanted rates and bounds, and the number of good images behind them.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// The positions at which those images were scored; `None` for a detector that has no choice of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<Sampling>,
    /// The images; `None`: the validation images of the training run.
    pub data: Option<CalibrationData>,
}

/// The good images that a model was calibrated on after its training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalibrationData {
    /// Name of their folder.
    pub name: String,
    /// SHA-256 over their names and contents.
    pub fingerprint: String,
    /// SHA-256 of the mask image of the pixels to look at, if there was one.
    pub roi: Option<String>,
}

/// A trained detector that keeps where its images came from.
pub trait Recorded: Sized {
    /// Records where the training images came from.
    #[must_use]
    fn with_data(self, data: DataManifest) -> Self;
}

impl ValidationManifest {
    /// From the scores of the validation images.
    pub(crate) fn new(scores: Vec<f32>) -> Self {
        let threshold = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { scores, threshold }
    }

    /// What an untrusted file must satisfy.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut scores = self.scores.iter().chain([&self.threshold]);
        if self.scores.is_empty() || scores.any(|score| !score.is_finite()) {
            return Err("the validation scores are not usable");
        }
        Ok(())
    }
}

impl CalibrationManifest {
    /// The thresholds of a model that has none stored: the highest score of a validation image for both.
    pub(crate) fn highest(validation: &ValidationManifest, sampling: Option<Sampling>) -> Self {
        Self {
            thresholds: Thresholds::highest(&validation.scores),
            sampling,
            data: None,
        }
    }

    /// What the thresholds of an untrusted file must satisfy.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let Thresholds {
            image,
            pixel,
            images,
        } = &self.thresholds;
        let usable = [image, pixel]
            .into_iter()
            .all(|threshold| threshold.value.is_finite() && (0.0..=1.0).contains(&threshold.bound));
        if usable && *images > 0 {
            Ok(())
        } else {
            Err("the thresholds are not usable: calibrate the model again")
        }
    }
}

/// Scores the validation images with a detector that is otherwise complete, and finds its thresholds if a rate is wanted.
///
/// # Errors
/// If an image cannot be read or scored, or the observer asks to stop.
pub(crate) fn validate(
    detector: &impl Detector<Error = ScoreError>,
    images: &dyn ImageSource,
    wanted: WantedRates,
    observer: &mut dyn Observer,
) -> Result<(ValidationManifest, Option<CalibrationManifest>), TrainError> {
    let mut calibrator = Calibrator::new(wanted, images.len());
    observer.start("validation", images.len() as u64);
    for index in 0..images.len() {
        if observer.stop_requested() {
            return Err(TrainError::Stopped);
        }
        let map = detector.anomaly_map(&images.image(index)?);
        let map = map.map_err(|source| TrainError::Image {
            name: images.name(index),
            source,
        })?;
        calibrator.add(&map, None);
        observer.advance(index as u64 + 1, None);
    }
    observer.finish();
    let validation = ValidationManifest::new(calibrator.scores().to_vec());
    let thresholds = calibrator
        .finish()
        .filter(|_| wanted != WantedRates::default());
    for warning in thresholds.iter().flat_map(Thresholds::warnings) {
        observer.warn(&warning);
    }
    let calibration = thresholds.map(|thresholds| CalibrationManifest {
        thresholds,
        sampling: None,
        data: None,
    });
    Ok((validation, calibration))
}
