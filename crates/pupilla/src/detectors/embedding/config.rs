//! How to fit a detector on features: every setting, its default, and its range.

use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::WantedRates;
use serde::{Deserialize, Serialize};

use super::Method;
use crate::detectors::kind::DetectorKind;
use crate::error::{TrainError, check_rules};
use crate::features::Extractor;
use crate::features::input::Border;
use crate::patch_network::ReceptiveField;
use crate::training::Config;

/// A detector to be fitted on features of good images.
#[derive(Clone, Debug)]
pub struct EmbeddingConfig {
    /// What gives the features.
    pub extractor: Extractor,
    /// Everything else.
    pub settings: Settings,
}

/// The settings that a model file keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How images are resized before their features are taken (a square of 256).
    pub resize: Resize,
    /// What stands beyond the edge of an image.
    pub border: Border,
    /// Seed of everything random.
    pub seed: u64,
    /// The false-reject rates that the thresholds are calibrated to (none: the highest score of a validation image).
    #[serde(default)]
    pub false_reject: WantedRates,
    /// Deviation of the Gaussian that smooths the map, in pixels of the resized image, 0 to 100: 4 for PatchCore and PaDiM, as
    /// published, and for the global Gaussian, 0 (none) for the others.
    pub smoothing: f64,
    /// Which detector it is, with its own settings.
    pub method: Method,
}

impl EmbeddingConfig {
    /// The patch size of the built-in teacher that gives the features, unless another is asked for.
    pub const SCALE: ReceptiveField = ReceptiveField::P33;

    /// A detector with its default settings; `None` for one that does not compare features.
    pub fn new(kind: DetectorKind, extractor: impl Into<Extractor>) -> Option<Self> {
        let method = Method::of(kind)?;
        Some(Self {
            extractor: extractor.into(),
            settings: Settings {
                resize: Resize::default(),
                border: Border::Reflect,
                seed: 0,
                false_reject: WantedRates::default(),
                smoothing: method.usual_smoothing(),
                method,
            },
        })
    }
}

impl Config for EmbeddingConfig {
    fn check_settings(&self) -> Result<(), TrainError> {
        self.settings.check(self.extractor.channels())
    }

    fn seed(&self) -> u64 {
        self.settings.seed
    }
}

impl Settings {
    /// Checks every setting, for this number of features a position.
    pub(super) fn check(&self, channels: usize) -> Result<(), TrainError> {
        check_rules([(
            "smoothing",
            (0.0..=100.0).contains(&self.smoothing),
            "0 to 100 pixels".to_string(),
        )])?;
        self.method.any().check(self.resize, channels)
    }
}
