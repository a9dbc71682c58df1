//! How to train one of these networks: every setting, its default, and its range.

use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::WantedRates;
use serde::{Deserialize, Serialize};

use crate::detector_kind::DetectorKind;
use crate::error::TrainError;
use crate::student_teacher::Length;
use crate::teacher::check_rules;

/// A network detector to be trained.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkDetectorConfig {
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

/// The detectors and what is theirs alone. `latent` is the length of the code between the two networks, 1 to [`MOST_LATENT`] and at most
/// a quarter of the image's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "detector")]
pub enum Method {
    /// Autoencoder trained on the squared error, which is its score too (Bergmann et al. 2019).
    #[serde(rename = "l2-ae")]
    SquaredError {
        /// Length of the code (100).
        latent: usize,
    },
    /// Autoencoder trained on structural similarity; its score is 1 − SSIM (Bergmann et al. 2019).
    #[serde(rename = "ssim-ae")]
    Similarity {
        /// Length of the code (100).
        latent: usize,
    },
    /// Variational autoencoder (Kingma and Welling 2014; for anomalies An and Cho 2015) on the same network; its score is the squared
    /// error of what the code's mean decodes to.
    #[serde(rename = "vae")]
    Variational {
        /// Length of the code (100).
        latent: usize,
        /// Weight of the divergence from the prior beside the summed squared error (1).
        kl_weight: f64,
    },
    /// AnoGAN (Schlegl et al. 2017): a DCGAN, and for each image a search for the code whose image is most like it; its score is the
    /// absolute residual.
    #[serde(rename = "anogan")]
    Adversarial {
        /// Length of the code (64).
        latent: usize,
        /// Steps of the search (100; published 500, the tables used 300, recalled, not verified).
        search_steps: usize,
        /// Learning rate of the search, by Adam (0.05; the tables used 0.02 for more steps, recalled, not verified).
        search_rate: f64,
        /// Weight λ of the discriminator's features in the search, the residual's being 1 − λ (0.1, as published).
        feature_weight: f64,
    },
}

/// Longest code.
pub const MOST_LATENT: usize = 1024;

/// Sides of the square images.
pub const SIDES: std::ops::RangeInclusive<usize> = 16..=512;

/// Most steps of a search: an image takes seconds, not minutes.
pub const MOST_SEARCH_STEPS: usize = 2000;

/// Most images in a step, and most steps.
const MOST_BATCH: usize = 256;
const MOST_STEPS: usize = 10_000_000;

impl Method {
    /// A detector with its default settings; `None` for one that is none of these.
    pub fn of(kind: DetectorKind) -> Option<Self> {
        Some(match kind {
            DetectorKind::SquaredErrorAutoencoder => Self::SquaredError { latent: 100 },
            DetectorKind::SimilarityAutoencoder => Self::Similarity { latent: 100 },
            DetectorKind::VariationalAutoencoder => Self::Variational {
                latent: 100,
                kl_weight: 1.0,
            },
            DetectorKind::AnoGan => Self::Adversarial {
                latent: 64,
                search_steps: 100,
                search_rate: 0.05,
                feature_weight: 0.1,
            },
            DetectorKind::StudentTeacher
            | DetectorKind::NearestNeighbour
            | DetectorKind::OneClassSvm
            | DetectorKind::KMeans
            | DetectorKind::CnnDictionary
            | DetectorKind::MemoryBank
            | DetectorKind::Padim => return None,
        })
    }

    /// Which detector it is.
    pub fn kind(&self) -> DetectorKind {
        match self {
            Self::SquaredError { .. } => DetectorKind::SquaredErrorAutoencoder,
            Self::Similarity { .. } => DetectorKind::SimilarityAutoencoder,
            Self::Variational { .. } => DetectorKind::VariationalAutoencoder,
            Self::Adversarial { .. } => DetectorKind::AnoGan,
        }
    }

    /// Length of the code.
    pub fn latent(&self) -> usize {
        match *self {
            Self::SquaredError { latent }
            | Self::Similarity { latent }
            | Self::Variational { latent, .. }
            | Self::Adversarial { latent, .. } => latent,
        }
    }

    /// Side of the square that images are resized to unless another is asked for.
    pub fn usual_side(&self) -> usize {
        match self {
            Self::Adversarial { .. } => 64,
            _ => 128,
        }
    }

    fn usual_training(&self) -> Training {
        match self {
            Self::Adversarial { .. } => Training {
                length: Length::Steps(800),
                batch: 16,
                learning_rate: 2e-4,
                weight_decay: 0.0,
            },
            _ => Training {
                length: Length::Steps(1500),
                batch: 8,
                learning_rate: 1e-3,
                weight_decay: 1e-5,
            },
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        match *self {
            Self::SquaredError { .. } | Self::Similarity { .. } => Ok(()),
            Self::Variational { kl_weight, .. } => check_rules([(
                "kl weight",
                (0.0..=1e6).contains(&kl_weight),
                "0 to a million".to_string(),
            )]),
            Self::Adversarial {
                search_steps,
                search_rate,
                feature_weight,
                ..
            } => check_rules([
                (
                    "search steps",
                    (1..=MOST_SEARCH_STEPS).contains(&search_steps),
                    format!("1 to {MOST_SEARCH_STEPS}"),
                ),
                (
                    "search rate",
                    search_rate > 0.0 && search_rate <= 1.0,
                    "above 0, at most 1".to_string(),
                ),
                (
                    "feature weight",
                    (0.0..=1.0).contains(&feature_weight),
                    "0 to 1".to_string(),
                ),
            ]),
        }
    }
}

impl NetworkDetectorConfig {
    /// A detector with its default settings; `None` for one that is none of these.
    pub fn new(kind: DetectorKind) -> Option<Self> {
        let method = Method::of(kind)?;
        Some(Self {
            settings: Settings {
                resize: Resize::Square(method.usual_side()),
                seed: 0,
                false_reject: WantedRates::default(),
                training: method.usual_training(),
                method,
            },
        })
    }

    /// Checks every setting before any work.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        self.settings.check()
    }
}

/// Whether the networks can be built for images that are resized so.
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
        let adversarial = matches!(self.method, Method::Adversarial { .. });
        // Batch norm of one image alone says nothing.
        let fewest = if adversarial { 2 } else { 1 };
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
                    self.method.usual_side()
                ),
            ),
            (
                "latent",
                (1..=most_latent).contains(&self.method.latent()),
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
        self.method.check()
    }
}
