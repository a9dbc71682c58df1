//! The trained detector: from an image to its anomaly map.

use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_core::verdict::attribution::Explained;
use pupilla_nn::Tensor;

use super::model_file::ReconstructionManifest;
use super::network::Network;
use super::pictures::planes;
use crate::error::ScoreError;
use crate::manifest::{Manifest, Nothing, Trained};

/// A detector whose networks reconstruct the inspected image. Where the reconstruction fails, there is a defect.
#[derive(Clone, Debug)]
pub struct ReconstructionDetector {
    /// The network that reads images, and the network that makes images.
    networks: [Network; 2],
    manifest: Manifest<ReconstructionManifest>,
}

impl ReconstructionDetector {
    /// From trained networks without batch norm.
    pub(super) fn new(networks: [Network; 2], manifest: Manifest<ReconstructionManifest>) -> Self {
        Self { networks, manifest }
    }

    pub(super) fn networks(&self) -> &[Network; 2] {
        &self.networks
    }

    /// The difference between an image and its reconstruction at each pixel.
    fn residual(&self, image: &Tensor, stop: &StopFlag) -> Result<Tensor, Stopped> {
        let settings = &self.manifest.method.settings;
        let method = settings.method.any();
        let reconstruction = method.reconstruction(&self.networks, image, settings.seed, stop)?;
        Ok(method.residual(image, &reconstruction))
    }
}

impl Trained for ReconstructionDetector {
    type Method = ReconstructionManifest;
    type Training = Nothing;

    fn manifest(&self) -> &Manifest<ReconstructionManifest> {
        &self.manifest
    }

    fn manifest_mut(&mut self) -> &mut Manifest<ReconstructionManifest> {
        &mut self.manifest
    }
}

impl Detector for ReconstructionDetector {
    type Error = ScoreError;

    /// The residual of the resized image, a mean over its channels, brought to the size of the image.
    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        Ok(self.explain_until(image, &StopFlag::default())?.map)
    }

    /// Looks at `stop` before each network, and before each step of a search. There are no parts.
    fn explain_until(&self, image: &Image, stop: &StopFlag) -> Result<Explained, ScoreError> {
        let settings = &self.manifest.method.settings;
        let side = settings.side();
        let resized = settings.resize.apply(image);
        let image_planes = Tensor::new(planes(&resized), [1, 3, side, side]);
        let scores = self.residual(&image_planes, stop)?.into_values();
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ScoreError::NotFinite {
                row: at / side,
                column: at % side,
            });
        }
        let map = AnomalyMap::new(side, side, scores);
        Ok(Explained {
            map: resize_map(&map, image.size()),
            parts: Vec::new(),
        })
    }
}
