//! The trained detector: from an image to its anomaly map.

use burn::tensor::{Tensor, TensorData};
use pupilla_core::anomaly_map::AnomalyMap;
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;

use super::config::Method;
use super::learner::code_moments;
use super::losses::structural_similarity;
use super::model_file::NetworkManifest;
use super::network::Network;
use super::pictures::planes;
use super::search::{Search, for_search};
use crate::device;
use crate::error::ScoreError;
use crate::patch_network::values;
use crate::record::{CalibrationManifest, DataManifest, Recorded};

/// A detector whose networks make an image like the one at hand; where they cannot, there is a defect.
#[derive(Clone, Debug)]
pub struct NetworkDetector {
    /// What looks at images, and what makes them; as [`for_search`] has them if there is one.
    networks: [Network; 2],
    pub(super) manifest: NetworkManifest,
}

impl NetworkDetector {
    /// From trained networks without batch norm.
    pub(super) fn new(networks: [Network; 2], manifest: NetworkManifest) -> Self {
        let networks = match manifest.settings.method {
            Method::Adversarial { .. } => for_search(networks),
            _ => networks,
        };
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

    /// The image that the networks make of one, `[1, 3, side, side]` in and out.
    fn reconstruction(&self, image: Tensor<4>) -> Tensor<4> {
        let settings = &self.manifest.settings;
        let [encoder, decoder] = &self.networks;
        match Search::of(&settings.method, settings.seed) {
            Some(search) => search.nearest(&self.networks, image),
            None => {
                let said = encoder.forward(image);
                let code = match settings.method {
                    Method::Variational { .. } => {
                        let [mean, _] = code_moments(said);
                        mean
                    }
                    _ => said,
                };
                decoder.forward(code)
            }
        }
    }

    /// What tells an image from its reconstruction, of each pixel.
    fn residual(&self, image: Tensor<4>) -> Tensor<4> {
        let made = self.reconstruction(image.clone());
        match self.manifest.settings.method {
            Method::Similarity { .. } => structural_similarity(image, made).neg() + 1.0,
            Method::SquaredError { .. } | Method::Variational { .. } => {
                let error = image - made;
                (error.clone() * error).mean_dim(1)
            }
            Method::Adversarial { .. } => (image - made).abs().mean_dim(1),
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
        let data = TensorData::new(planes(&resized), [1, 3, side, side]);
        let scores = values(self.residual(Tensor::from_data(data, &device::chosen())));
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
