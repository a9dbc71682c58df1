//! How to train a reconstruction detector: every setting, its default, and its range.

use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::WantedRates;
use serde::{Deserialize, Serialize};

use super::Method;
use crate::detectors::kind::DetectorKind;
use crate::error::{TrainError, check_rules};
use crate::training::{Config, Length};

/// A reconstruction detector to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconstructionConfig {
    /// Everything about it.
    pub settings: Settings,
}

/// The settings that a model file keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How images are resized before the networks see them: a square whose side is a power of two from 16 to 512.
    ///
    /// The autoencoders' default is 128, the size that their architecture was published for (Bergmann et al. 2019). For the paper's
    /// tables they saw patches of 128×128 of textures, and whole images of objects at 256×256 with one layer more (recalled, not
    /// verified); here the whole image is always resized, and 256 adds that layer. AnoGAN's default is 64, as published by Schlegl
    /// et al. 2017; the tables used 128 (recalled, not verified).
    pub resize: Resize,
    /// Seed of everything random.
    pub seed: u64,
    /// The false-reject rates that the thresholds are calibrated to (none: the highest score of a validation image).
    #[serde(default)]
    pub false_reject: WantedRates,
    /// How the networks are trained.
    pub training: Training,
    /// Which detector it is, with its own settings.
    pub method: Method,
}

/// How the networks are trained, by Adam (Kingma and Ba 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// How long.
    pub length: Length,
    /// Images in a step, drawn at random: 8 for autoencoders, 16 for AnoGAN. Published: 128 patches.
    pub batch: usize,
    /// The peak of a one-cycle learning rate for autoencoders (0.001; published: a constant 0.0002 for many more steps); AnoGAN's
    /// constant one (0.0002, Radford et al. 2016).
    pub learning_rate: f64,
    /// Weight decay (0.00001 for autoencoders, as published; 0 for AnoGAN).
    pub weight_decay: f64,
}

/// Longest code.
pub const MOST_LATENT: usize = 1024;

/// Sides of the square images.
pub const SIDES: std::ops::RangeInclusive<usize> = 16..=512;

/// Most images in a step, and most steps.
const MOST_BATCH: usize = 256;
const MOST_STEPS: usize = 10_000_000;

impl ReconstructionConfig {
    /// A detector with its default settings; `None` for a detector of another family.
    pub fn new(kind: DetectorKind) -> Option<Self> {
        let method = Method::of(kind)?;
        Some(Self {
            settings: Settings {
                resize: Resize::Square(method.any().usual_side()),
                seed: 0,
                false_reject: WantedRates::default(),
                training: method.any().usual_training(),
                method,
            },
        })
    }
}

impl Config for ReconstructionConfig {
    fn check_settings(&self) -> Result<(), TrainError> {
        self.settings.check()
    }

    fn seed(&self) -> u64 {
        self.settings.seed
    }
}

/// Whether the networks can be built for images of this resize.
pub fn fits(resize: Resize) -> bool {
    matches!(resize, Resize::Square(side) if side.is_power_of_two() && SIDES.contains(&side))
}

impl Settings {
    /// Side of the images that the networks see, 0 if they are not square, which [`check`](Self::check) refuses.
    pub(super) fn side(&self) -> usize {
        match self.resize {
            Resize::Square(side) => side,
            Resize::LongerSide(_) | Resize::None => 0,
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        let Training {
            length,
            batch,
            learning_rate,
            weight_decay,
        } = self.training;
        let method = self.method.any();
        // Batch norm of one image alone says nothing.
        let fewest = if method.is_adversarial() { 2 } else { 1 };
        let side = self.side();
        let most_latent = MOST_LATENT.min(3 * side * side / 4);
        check_rules([
            (
                "resize",
                fits(self.resize),
                format!(
                    "a square whose side is a power of two from {} to {} (as {}): the networks halve it until 8 or 4 are left",
                    SIDES.start(),
                    SIDES.end(),
                    method.usual_side()
                ),
            ),
            (
                "latent",
                (1..=most_latent).contains(&method.latent()),
                format!(
                    "1 to {most_latent}: a longer code of images of {side}×{side} keeps all of them, and their defects"
                ),
            ),
            (
                "batch",
                (fewest..=MOST_BATCH).contains(&batch),
                format!("{fewest} to {MOST_BATCH} images"),
            ),
            (
                "steps",
                length
                    .steps()
                    .is_none_or(|steps| (1..=MOST_STEPS).contains(&steps)),
                format!("1 to {MOST_STEPS}"),
            ),
            (
                "learning rate",
                learning_rate > 0.0 && learning_rate <= 1.0,
                "above 0, at most 1".to_string(),
            ),
            (
                "weight decay",
                (0.0..=1.0).contains(&weight_decay),
                "0 to 1".to_string(),
            ),
        ])?;
        method.check()
    }
}
