//! A pretrained network as an extractor: which of its maps are read, and how an image is continued for it.

use pupilla_core::image::Size;
use std::num::NonZeroUsize;
use std::sync::Arc;

use pupilla_core::data::FingerprintError;
use pupilla_core::image::Image;
use pupilla_core::observer::StopFlag;
use serde::{Deserialize, Serialize};

use super::input::{Border, CHANNEL_MEAN};
use crate::backbone::{
    Backbone, BackboneConfig, BackboneError, DenseFeatures, FeatureMaps, WeightSource,
};
use crate::error::ScoreError;

/// Pixels by which the image is continued on every side before a pretrained network sees it. Such networks put zeros around the image,
/// which changes their features near its edges. Students know nothing of the image's edges, so they cannot predict this change.
pub const BACKBONE_MARGIN: usize = 32;

/// Pixels of the network's input between positions, unless its finest map is coarser or other positions are asked for. A finer map is
/// averaged around them: half the distance takes four times the time.
const USUAL_STRIDE: usize = 8;

/// The largest stride that a file may have.
const MAX_STRIDE: usize = 256;

/// The largest margin that a file may have.
const MAX_MARGIN: usize = 256;

/// A pretrained network as an extractor of features. Clones share its weights.
#[derive(Clone, Debug)]
pub struct BackboneExtractor {
    network: Arc<dyn Backbone>,
    manifest: BackboneManifest,
}

/// Everything about a pretrained network as an extractor but its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneManifest {
    /// Which network it is.
    pub network: BackboneConfig,
    /// The features that are read from it.
    pub features: DenseFeatures,
    /// Pixels by which the resized image is continued on every side before the network sees it, 0 to 256
    /// ([`BACKBONE_MARGIN`]).
    pub margin: usize,
    /// Pixels of the resized image between positions; without it, those between the pixels of the finest map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<NonZeroUsize>,
    /// Name of the file that its weights came from.
    pub file: String,
    /// SHA-256 over that file's name and content, see
    /// [`file_fingerprint`](pupilla_core::data::file_fingerprint).
    pub fingerprint: String,
}

/// A file of weights cannot be an extractor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractorError {
    /// The file holds no whole network.
    #[error(transparent)]
    Load(BackboneError),
    /// Its network does not give these features.
    #[error("{weights}: {source}")]
    Features {
        /// Where the network comes from.
        weights: WeightSource,
        /// Why.
        source: BackboneError,
    },
    /// It could be read once, but not a second time for its fingerprint.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
}

impl BackboneExtractor {
    /// The network that comes with the library, and its usual maps ([`DenseFeatures::usual`]).
    ///
    /// # Errors
    /// In a build without the feature `built-in-backbone`.
    pub fn built_in() -> Result<Self, ExtractorError> {
        Self::load(WeightSource::BuiltIn, None, 1)
    }

    /// A pretrained network, and of its maps those named by `outputs`, or [`DenseFeatures::usual`]; `zoom`, 1 to 8, is
    /// [`DenseFeatures::zoom`].
    ///
    /// # Errors
    /// If the file is not that of a network that is known here, all wrong tensors named; if the
    /// network lacks an output, or the zoom is out of range.
    pub fn load(
        weights: impl Into<WeightSource>,
        outputs: Option<Vec<String>>,
        zoom: usize,
    ) -> Result<Self, ExtractorError> {
        let weights = weights.into();
        let network = weights.load().map_err(ExtractorError::Load)?;
        let wrong = |source| ExtractorError::Features {
            weights: weights.clone(),
            source,
        };
        let mut features = DenseFeatures::usual(&*network, zoom).map_err(wrong)?;
        if let Some(outputs) = outputs {
            features.outputs = outputs;
        }
        features.of(&*network).map_err(wrong)?;
        let manifest = BackboneManifest {
            network: network.config(),
            features,
            margin: BACKBONE_MARGIN,
            stride: None,
            file: weights.file_name(),
            fingerprint: weights.fingerprint()?,
        };
        let finest = manifest.stride();
        let extractor = Self::new(network, manifest);
        let stride = NonZeroUsize::new(finest.max(USUAL_STRIDE / zoom));
        Ok(extractor.with_stride(stride.unwrap_or(NonZeroUsize::MIN)))
    }

    /// The same network, its features taken every `stride` pixels of the resized image.
    #[must_use]
    pub fn with_stride(mut self, stride: NonZeroUsize) -> Self {
        // Without a stride, a file means that of the finest map.
        self.manifest.stride = None;
        self.manifest.stride = Some(stride).filter(|stride| stride.get() != self.manifest.stride());
        self
    }

    /// The same network for students, whose positions are their own.
    pub(crate) fn for_students(mut self) -> Self {
        self.manifest.stride = None;
        self
    }

    /// A network, and the features that are read from it.
    pub(crate) fn new(network: impl Into<Arc<dyn Backbone>>, manifest: BackboneManifest) -> Self {
        Self {
            network: network.into(),
            manifest,
        }
    }

    /// The same network, with other features read from it.
    pub(crate) fn with_manifest(&self, manifest: BackboneManifest) -> Self {
        Self::new(Arc::clone(&self.network), manifest)
    }

    /// Everything about it but its weights.
    pub fn manifest(&self) -> &BackboneManifest {
        &self.manifest
    }

    /// The network.
    pub fn network(&self) -> &dyn Backbone {
        &*self.network
    }

    /// Its maps of a whole image, which the border continues beyond the edges.
    pub(crate) fn maps(
        &self,
        image: &Image,
        border: Border,
        stop: &StopFlag,
    ) -> Result<FeatureMaps, ScoreError> {
        let features = &self.manifest.features;
        let continued = continued(image, self.manifest.margin, border);
        features
            .maps(&*self.network, &continued, stop)
            .map_err(|source| self.failed(source))
    }

    /// Fails if an image of this size (already resized) has too many pixels.
    pub(crate) fn check_size(&self, size: Size) -> Result<(), ScoreError> {
        let continued = size.map(|side| side.saturating_add(2 * self.manifest.margin));
        let seen = self.manifest.features.seen_size(continued);
        seen.map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Bytes of its weights.
    pub(crate) fn weight_bytes(&self) -> usize {
        let layout = self.manifest.network.layout().unwrap_or_default();
        let values: usize = layout
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        values * size_of::<f32>()
    }

    /// Bytes that it takes, about, for an image of this size (already resized).
    pub(crate) fn maps_bytes(&self, size: Size) -> usize {
        /// A pixel that it sees: three times three values on the way in, and the two largest maps that follow each other, of half and
        /// of a quarter of the image's side. EfficientNet-Lite4 has the most channels there: 144, Lite0 has 96, ResNet-18 has 64.
        const BYTES_PER_PIXEL: usize = 3 * 3 * 4 + 144 * 4 / 4 + 144 * 4 / 16;
        let margin = 2 * self.manifest.margin;
        let zoom = self.manifest.features.zoom;
        size.map(|side| (side + margin) * zoom).area() * BYTES_PER_PIXEL
    }

    fn failed(&self, source: BackboneError) -> ScoreError {
        match source {
            BackboneError::Stopped(stopped) => stopped.into(),
            source => ScoreError::Backbone {
                file: self.manifest.file.clone(),
                source: Box::new(source),
            },
        }
    }
}

/// An image with `margin` pixels more on every side.
fn continued(image: &Image, margin: usize, border: Border) -> Image {
    let [width, height] = [image.width(), image.height()].map(|side| side + 2 * margin);
    let source = |at: usize, size| border.source(at as isize - margin as isize, size);
    let columns: Vec<_> = (0..width).map(|at| source(at, image.width())).collect();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let row = source(row, image.height());
        for column in &columns {
            pixels.extend(match (row, column) {
                (Some(row), Some(column)) => image.pixel(row, *column),
                _ => CHANNEL_MEAN,
            });
        }
    }
    Image::new(width, height, pixels)
}

impl BackboneManifest {
    /// Whether two are the same weights, whatever is read from them.
    pub(crate) fn same_weights(&self, other: &Self) -> bool {
        self.network == other.network && self.fingerprint == other.fingerprint
    }

    /// Checks the other fields of an untrusted file.
    ///
    /// # Errors
    /// If there is no such network, or the margin or the stride is too large.
    pub(crate) fn check(&self) -> Result<(), BackboneError> {
        self.network.layout()?;
        if let Some(stride) = self.stride.filter(|stride| stride.get() > MAX_STRIDE) {
            return Err(BackboneError::Features {
                network: self.network.name(),
                reason: format!("the stride is {stride}, not 1 to {MAX_STRIDE}"),
            });
        }
        if self.margin > MAX_MARGIN {
            return Err(BackboneError::Features {
                network: self.network.name(),
                reason: format!("the margin is {}, not 0 to {MAX_MARGIN}", self.margin),
            });
        }
        Ok(())
    }
    /// Features at a position.
    ///
    /// # Errors
    /// If there is no such network, it lacks an output, or the margin is too large.
    pub(crate) fn channels(&self) -> Result<usize, BackboneError> {
        self.check()?;
        let outputs = self.features.check(&self.network)?;
        Ok(outputs.iter().map(|output| output.channels).sum())
    }

    /// Channels of each output, in the order of a position's features.
    pub(crate) fn channels_of_outputs(&self) -> Vec<usize> {
        // Loading has checked that the maps exist.
        let outputs = self.features.check(&self.network).unwrap_or_default();
        outputs.iter().map(|output| output.channels).collect()
    }

    /// Pixels of the (resized) image between positions.
    pub(crate) fn stride(&self) -> usize {
        if let Some(stride) = self.stride {
            return stride.get();
        }
        // Loading has checked that the maps exist.
        let outputs = self.features.check(&self.network).unwrap_or_default();
        let finest = outputs.iter().filter_map(|output| output.stride).min();
        (finest.unwrap_or(1) / self.features.zoom.max(1)).max(1)
    }
}
