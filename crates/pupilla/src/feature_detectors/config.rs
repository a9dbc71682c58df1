//! How to fit a detector on features: every setting, its default, and its range.

use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::WantedRates;
use serde::{Deserialize, Serialize};

use super::describer::Describer;
use crate::detector_kind::DetectorKind;
use crate::error::TrainError;
use crate::input::Border;
use crate::teacher::check_rules;

/// A detector to be fitted on features of good images.
#[derive(Clone, Debug)]
pub struct FeatureDetectorConfig {
    /// What gives the features.
    pub describer: Describer,
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
    /// published, 0 (none) for the others.
    pub smoothing: f64,
    /// Which detector it is, with its own settings.
    pub method: Method,
}

/// The detectors and what is theirs alone. "Descriptors" are the features of one position; "sample" is the most of them that are
/// looked at, drawn at random from all training images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "detector")]
pub enum Method {
    /// Distance to the nearest descriptor of good images, behind a PCA (a baseline of Bergmann et al., CVPR 2020).
    #[serde(rename = "1-nn")]
    NearestNeighbour {
        /// Descriptors behind the PCA (50 000).
        sample: usize,
        /// Share of their variance that the PCA keeps (0.95).
        variance: f64,
        /// How many of them are kept to compare with (5 000).
        dictionary: usize,
    },
    /// Negative decision value of a one-class support vector machine with a radial kernel, behind a PCA (a baseline of the same).
    #[serde(rename = "oc-svm")]
    OneClassSvm {
        /// Descriptors that it is trained on (50 000 published; see `docs/notes/detectors.md` for what they take).
        sample: usize,
        /// Share of their variance that the PCA keeps (0.95).
        variance: f64,
        /// The share ν of descriptors that may lie outside (0.5, scikit-learn's default: the paper states none).
        nu: f64,
        /// The kernel's γ.
        gamma: Gamma,
    },
    /// Distance to the nearest of a few centres, behind a PCA (a baseline of the same).
    #[serde(rename = "k-means")]
    KMeans {
        /// Descriptors that the centres are found from (50 000).
        sample: usize,
        /// Share of their variance that the PCA keeps (0.95).
        variance: f64,
        /// Centres (10).
        dictionary: usize,
    },
    /// Mean distance to the nearest words of a dictionary, behind a PCA (Napoletano, Piccoli and Schettini, Sensors 2018, who describe
    /// patches by the pooled features of ResNet-18).
    #[serde(rename = "cnn-dictionary")]
    CnnDictionary {
        /// Descriptors that the words are found from (50 000).
        sample: usize,
        /// Share of their variance that the PCA keeps (0.95).
        variance: f64,
        /// Words, the centres of K-means (500; recalled, not verified).
        dictionary: usize,
        /// How many of the nearest words the mean is taken over (10; recalled, not verified).
        neighbours: usize,
    },
    /// Distance to the nearest of a coreset of features (PatchCore, Roth et al., CVPR 2022), without its reweighting of the image's
    /// score: here an image's score is the maximum of its map, whatever the detector.
    #[serde(rename = "memory-bank")]
    MemoryBank {
        /// Features that the coreset is chosen from (200 000).
        sample: usize,
        /// Share of them that is kept (0.01).
        coreset: f64,
        /// Dimensions of the random projection in which it is chosen (128).
        projection: usize,
    },
    /// Mahalanobis distance from the Gaussian of each position (PaDiM, Defard et al., 2020).
    #[serde(rename = "padim")]
    Padim {
        /// Features that are looked at, drawn at random (100).
        channels: usize,
        /// Added to each variance (0.01).
        regularisation: f64,
    },
}

/// γ of a radial kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gamma {
    /// One over the number of components times the variance of all values, as in scikit-learn.
    Scale,
    /// A number above 0.
    Value(f64),
}

/// A word that is no γ.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is no gamma: write \"scale\", or a number above 0")]
pub struct GammaError(String);

impl std::str::FromStr for Gamma {
    type Err = GammaError;

    fn from_str(text: &str) -> Result<Self, GammaError> {
        match (text, text.parse::<f64>()) {
            ("scale", _) => Ok(Self::Scale),
            (_, Ok(value)) if value > 0.0 && value.is_finite() => Ok(Self::Value(value)),
            _ => Err(GammaError(text.to_string())),
        }
    }
}

/// Descriptors behind a PCA, as published.
const SAMPLE: usize = 50_000;

/// Share of the variance that a PCA keeps, as published.
const VARIANCE: f64 = 0.95;

/// The most descriptors that are held: of 384 numbers, 3 GB.
const MOST_DESCRIPTORS: usize = 2_000_000;

/// The largest γ: far below what overflows in 32 bits, where a kernel of infinity times nothing is no number.
const MOST_GAMMA: f64 = 1e12;

/// The most features of a Gaussian: its triangle then has half a million numbers.
pub(super) const MOST_CHANNELS: usize = 1024;

impl Method {
    /// A detector with its default settings; `None` for one that does not compare features.
    pub fn of(kind: DetectorKind) -> Option<Self> {
        let (sample, variance) = (SAMPLE, VARIANCE);
        Some(match kind {
            DetectorKind::StudentTeacher
            | DetectorKind::SquaredErrorAutoencoder
            | DetectorKind::SimilarityAutoencoder
            | DetectorKind::VariationalAutoencoder
            | DetectorKind::AnoGan => return None,
            DetectorKind::NearestNeighbour => Self::NearestNeighbour {
                sample,
                variance,
                dictionary: 5_000,
            },
            DetectorKind::OneClassSvm => Self::OneClassSvm {
                sample: 10_000,
                variance,
                nu: 0.5,
                gamma: Gamma::Scale,
            },
            DetectorKind::KMeans => Self::KMeans {
                sample,
                variance,
                dictionary: 10,
            },
            DetectorKind::CnnDictionary => Self::CnnDictionary {
                sample,
                variance,
                dictionary: 500,
                neighbours: 10,
            },
            DetectorKind::MemoryBank => Self::MemoryBank {
                sample: 200_000,
                coreset: 0.01,
                projection: 128,
            },
            DetectorKind::Padim => Self::Padim {
                channels: 100,
                regularisation: 0.01,
            },
        })
    }

    /// Which detector it is.
    pub fn kind(&self) -> DetectorKind {
        match self {
            Self::NearestNeighbour { .. } => DetectorKind::NearestNeighbour,
            Self::OneClassSvm { .. } => DetectorKind::OneClassSvm,
            Self::KMeans { .. } => DetectorKind::KMeans,
            Self::CnnDictionary { .. } => DetectorKind::CnnDictionary,
            Self::MemoryBank { .. } => DetectorKind::MemoryBank,
            Self::Padim { .. } => DetectorKind::Padim,
        }
    }

    /// The deviation of the Gaussian that smooths its maps unless another is asked for.
    pub fn usual_smoothing(&self) -> f64 {
        match self {
            Self::MemoryBank { .. } | Self::Padim { .. } => 4.0,
            _ => 0.0,
        }
    }

    fn check(&self, resize: Resize) -> Result<(), TrainError> {
        let count = |name, value: usize, most: usize| {
            (name, (1..=most).contains(&value), format!("1 to {most}"))
        };
        let share = |name, value: f64| {
            let inside = value > 0.0 && value <= 1.0;
            (name, inside, "above 0, at most 1".to_string())
        };
        match *self {
            Self::NearestNeighbour {
                sample,
                variance,
                dictionary,
            }
            | Self::KMeans {
                sample,
                variance,
                dictionary,
            } => check_rules([
                count("sample", sample, MOST_DESCRIPTORS),
                share("variance", variance),
                count("dictionary", dictionary, MOST_DESCRIPTORS),
            ]),
            Self::OneClassSvm {
                sample,
                variance,
                nu,
                gamma,
            } => check_rules([
                count("sample", sample, MOST_DESCRIPTORS),
                share("variance", variance),
                share("nu", nu),
                (
                    "gamma",
                    !matches!(gamma, Gamma::Value(value) if !(value > 0.0 && value <= MOST_GAMMA)),
                    format!("above 0, at most {MOST_GAMMA:e}"),
                ),
            ]),
            Self::CnnDictionary {
                sample,
                variance,
                dictionary,
                neighbours,
            } => check_rules([
                count("sample", sample, MOST_DESCRIPTORS),
                share("variance", variance),
                count("dictionary", dictionary, MOST_DESCRIPTORS),
                (
                    "neighbours",
                    (1..=dictionary).contains(&neighbours),
                    format!("1 to the {dictionary} words of the dictionary"),
                ),
            ]),
            Self::MemoryBank {
                sample,
                coreset,
                projection,
            } => check_rules([
                count("sample", sample, MOST_DESCRIPTORS),
                share("coreset", coreset),
                count("projection", projection, 4096),
            ]),
            Self::Padim {
                channels,
                regularisation,
            } => check_rules([
                count("channels", channels, MOST_CHANNELS),
                (
                    "regularisation",
                    regularisation > 0.0 && regularisation <= 1e6,
                    "above 0, at most a million".to_string(),
                ),
                (
                    "resize",
                    matches!(resize, Resize::Square(_)),
                    "a square (as 256): there is a Gaussian for each position, so all images must have the same".to_string(),
                ),
            ]),
        }
    }
}

impl FeatureDetectorConfig {
    /// A detector with its default settings; `None` for one that does not compare features.
    pub fn new(kind: DetectorKind, describer: Describer) -> Option<Self> {
        let method = Method::of(kind)?;
        Some(Self {
            describer,
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

    /// Checks every setting before any work.
    ///
    /// # Errors
    /// The first setting that is out of its range, or does not fit the features.
    pub fn check(&self) -> Result<(), TrainError> {
        self.settings.check()?;
        let available = self.describer.channels();
        match self.settings.method {
            Method::Padim { channels, .. } => check_rules([(
                "channels",
                channels <= available,
                format!("at most the {available} that the features have, not {channels}"),
            )]),
            _ => Ok(()),
        }
    }
}

impl Settings {
    /// What holds for any features.
    pub(super) fn check(&self) -> Result<(), TrainError> {
        check_rules([(
            "smoothing",
            (0.0..=100.0).contains(&self.smoothing),
            "0 to 100 pixels".to_string(),
        )])?;
        self.method.check(self.resize)
    }
}
