//! The fitted detector: from an image to its anomaly map.

use std::sync::Arc;

use pupilla_core::detector::Detector;
use pupilla_core::image::resize::resize_map;
use pupilla_core::image::{Image, Size};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::StopFlag;
use pupilla_core::verdict::attribution::Explained;

use super::config::Settings;
use super::features::describe;
use super::method::AnyKept;
use super::model_file::EmbeddingManifest;
use super::smoothing::smooth;
use crate::error::ScoreError;
use crate::features::Extractor;
use crate::features::grid::Grid;
use crate::manifest::{Manifest, Nothing, Trained};

/// A detector that compares an image's features with those of good images.
#[derive(Clone, Debug)]
pub struct EmbeddingDetector {
    pub(super) extractor: Extractor,
    pub(super) kept: Arc<dyn AnyKept>,
    pub(super) manifest: Manifest<EmbeddingManifest>,
}

impl Trained for EmbeddingDetector {
    type Method = EmbeddingManifest;
    type Training = Nothing;

    fn manifest(&self) -> &Manifest<EmbeddingManifest> {
        &self.manifest
    }

    fn manifest_mut(&mut self) -> &mut Manifest<EmbeddingManifest> {
        &mut self.manifest
    }
}

impl Detector for EmbeddingDetector {
    type Error = ScoreError;

    /// Scores at the positions of the features, interpolated in between, smoothed, and brought to the size of the image.
    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        Ok(self.explain_until(image, &StopFlag::default())?.map)
    }

    /// Looks at `stop` before each layer or tile of the features, and while it compares positions. There are no parts.
    fn explain_until(&self, image: &Image, stop: &StopFlag) -> Result<Explained, ScoreError> {
        let settings = &self.manifest.method.settings;
        let resized = settings.resize.apply(image);
        let size = resized.size();
        let grid = self.extractor.grid(size)?;
        let features = describe(&self.extractor, &resized, settings.border, grid, stop)?;
        let scores = finite(self.kept.scores(grid, &features, stop)?, grid)?;
        Ok(Explained {
            map: map_of(&scores, grid, settings, image.size()),
            parts: Vec::new(),
        })
    }
}

/// Scores at the positions of a grid, if all are finite.
pub(super) fn finite(scores: Vec<f32>, grid: Grid) -> Result<Vec<f32>, ScoreError> {
    match scores.iter().position(|score| !score.is_finite()) {
        None => Ok(scores),
        Some(at) => Err(ScoreError::NotFinite {
            row: at / grid.columns * grid.stride,
            column: at % grid.columns * grid.stride,
        }),
    }
}

/// The map of an image of this size, from its finite scores at the positions of the resized image.
pub(super) fn map_of(scores: &[f32], grid: Grid, settings: &Settings, size: Size) -> AnomalyMap {
    let resized = settings.resize.target_size(size);
    let map = AnomalyMap::new(resized.width, resized.height, grid.spread(scores, resized));
    resize_map(&smooth(map, settings.smoothing), size)
}
