//! A model's thresholds: those of its training, or of a later calibration.

use pupilla_core::calibration::Thresholds;
use serde::{Deserialize, Serialize};

use super::detector::{Sampling, StudentTeacher};
use super::model_file::ModelManifest;

/// Thresholds, and what they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationManifest {
    /// The thresholds with their wanted rates and bounds, and the number of good images behind them.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// The positions at which those images were scored.
    pub sampling: Sampling,
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

impl ModelManifest {
    /// The model's thresholds. A file without any stored, as all were before `calibrate`, has the
    /// highest score of a validation image for both.
    pub fn calibration(&self) -> CalibrationManifest {
        self.calibration
            .clone()
            .unwrap_or_else(|| CalibrationManifest {
                thresholds: Thresholds::highest(&self.validation.scores),
                sampling: self.sampling,
                data: None,
            })
    }
}

impl StudentTeacher {
    /// The same detector with other thresholds.
    #[must_use]
    pub fn with_calibration(mut self, calibration: CalibrationManifest) -> Self {
        self.manifest.calibration = Some(calibration);
        self
    }
}

/// What the thresholds of an untrusted file must satisfy.
pub(super) fn check(calibration: &CalibrationManifest) -> Result<(), &'static str> {
    let Thresholds {
        image,
        pixel,
        images,
    } = &calibration.thresholds;
    let usable = [image, pixel]
        .into_iter()
        .all(|threshold| threshold.value.is_finite() && (0.0..=1.0).contains(&threshold.bound));
    if usable && *images > 0 {
        Ok(())
    } else {
        Err("the thresholds are not usable: calibrate the model again")
    }
}
