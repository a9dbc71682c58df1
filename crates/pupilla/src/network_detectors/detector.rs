//! The trained detector: from an image to its anomaly map.

use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_nn::Tensor;

use super::config::Method;
use super::losses::{channel_means, code_means, structural_similarity, zipped};
use super::model_file::NetworkManifest;
use super::network::Network;
use super::pictures::planes;
use super::search::Search;
use crate::error::ScoreError;
use crate::record::{CalibrationManifest, DataManifest, Recorded};

/// A detector whose networks reconstruct the image at hand; where they cannot, there is a defect.
#[derive(Clone, Debug)]
pub struct NetworkDetector {
    /// What looks at images, and what makes them.
    networks: [Network; 2],
    pub(super) manifest: NetworkManifest,
}

impl NetworkDetector {
    /// From trained networks without batch norm.
    pub(super) fn new(networks: [Network; 2], manifest: NetworkManifest) -> Self {
        Self { networks, manifest }
    }

    /// Everything about it but its numbers.
    pub fn manifest(&self) -> &NetworkManifest {
        &self.manifest
    }

    pub(super) fn networks(&self) -> &[Network; 2] {
        &self.networks
    }

    /// The same detector with other thresholds.
    #[must_use]
    pub fn with_calibration(mut self, calibration: CalibrationManifest) -> Self {
        self.manifest.calibration = Some(calibration);
        self
    }

    /// What the networks reconstruct of an image, `[1, 3, side, side]` in and out.
    fn reconstruction(&self, image: &Tensor) -> Tensor {
        let settings = &self.manifest.settings;
        let [encoder, decoder] = &self.networks;
        if let Some(search) = Search::of(&settings.method, settings.seed) {
            return search.nearest(&self.networks, image);
        }
        let said = encoder.run(image);
        decoder.run(&match settings.method {
            Method::Variational { .. } => code_means(&said),
            _ => said,
        })
    }

    /// What tells an image from its reconstruction, of each pixel.
    fn residual(&self, image: &Tensor) -> Tensor {
        let made = self.reconstruction(image);
        match self.manifest.settings.method {
            Method::Similarity { .. } => {
                let similarity = structural_similarity(image, &made);
                zipped(&similarity, &similarity, |x, _| 1.0 - x)
            }
            Method::SquaredError { .. } | Method::Variational { .. } => {
                channel_means(&zipped(image, &made, |x, y| (x - y) * (x - y)))
            }
            Method::Adversarial { .. } => {
                channel_means(&zipped(image, &made, |x, y| (x - y).abs()))
            }
        }
    }
}

impl Recorded for NetworkDetector {
    fn with_data(mut self, data: DataManifest) -> Self {
        self.manifest.data = Some(data);
        self
    }
}

impl Detector for NetworkDetector {
    type Error = ScoreError;

    /// The residual of the resized image, a mean over its channels, brought to the size of the image.
    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        let settings = &self.manifest.settings;
        let side = settings.side();
        let resized = settings.resize.apply(image);
        let image_planes = Tensor::new(planes(&resized), [1, 3, side, side]);
        let scores = self.residual(&image_planes).into_values();
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ScoreError::NotFinite {
                row: at / side,
                column: at % side,
            });
        }
        let map = AnomalyMap::new(side, side, scores);
        Ok(resize_map(&map, image.width(), image.height()))
    }
}
