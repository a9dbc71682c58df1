//! The fitted detector: from an image to its anomaly map.

use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::map::anomaly_map::AnomalyMap;

use super::describer::Describer;
use super::fitted::Fitted;
use super::model_file::FeatureManifest;
use super::smoothing::smooth;
use crate::error::ScoreError;
use crate::record::{CalibrationManifest, DataManifest, Recorded};

/// A detector that compares an image's features with those of good images.
#[derive(Clone, Debug)]
pub struct FeatureDetector {
    pub(super) describer: Describer,
    pub(super) fitted: Fitted,
    pub(super) manifest: FeatureManifest,
}

impl FeatureDetector {
    /// Everything about it but its numbers.
    pub fn manifest(&self) -> &FeatureManifest {
        &self.manifest
    }

    /// What it has learned.
    pub fn fitted(&self) -> &Fitted {
        &self.fitted
    }

    /// The same detector with other thresholds.
    #[must_use]
    pub fn with_calibration(mut self, calibration: CalibrationManifest) -> Self {
        self.manifest.calibration = Some(calibration);
        self
    }
}

impl Recorded for FeatureDetector {
    fn with_data(mut self, data: DataManifest) -> Self {
        self.manifest.data = Some(data);
        self
    }
}

impl Detector for FeatureDetector {
    type Error = ScoreError;

    /// Scores at the positions of the features, interpolated in between, smoothed, and brought to the size of the image.
    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        let settings = &self.manifest.settings;
        let resized = settings.resize.apply(image);
        let (width, height) = (resized.width(), resized.height());
        let grid = self.describer.grid([width, height])?;
        let features = self.describer.describe(&resized, settings.border)?;
        let scores = self.fitted.scores(&features);
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ScoreError::NotFinite {
                row: at / grid.columns * grid.stride,
                column: at % grid.columns * grid.stride,
            });
        }
        let map = AnomalyMap::new(width, height, grid.spread(&scores, width, height));
        let map = smooth(map, settings.smoothing);
        Ok(resize_map(&map, image.width(), image.height()))
    }
}
