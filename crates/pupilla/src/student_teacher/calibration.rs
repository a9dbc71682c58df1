//! A model's thresholds: those of its training, or of a later calibration.

use super::detector::StudentTeacher;
use super::model_file::ModelManifest;
use crate::record::CalibrationManifest;

impl ModelManifest {
    /// The model's thresholds. A file without any stored, as all were before `calibrate`, has the
    /// highest score of a validation image for both.
    pub fn calibration(&self) -> CalibrationManifest {
        let highest = || CalibrationManifest::highest(&self.validation, Some(self.sampling));
        self.calibration.clone().unwrap_or_else(highest)
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
