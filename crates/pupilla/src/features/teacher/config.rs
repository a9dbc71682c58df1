//! How to train a teacher: every setting, its default, and its range.

use serde::{Deserialize, Serialize};

use pupilla_nn::Optimizer;

use crate::backbone::{DenseFeatures, MAX_PIXELS, ZOOMS};
use crate::error::{TrainError, check_rules};
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetworkConfig, ReceptiveField};

/// How to train a teacher. The defaults are the paper's if they are known; other defaults are marked as ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TeacherConfig {
    /// The network.
    pub network: PatchNetworkConfig,
    /// The features of a pretrained network that the teacher learns; `None` for metric learning alone.
    pub distillation: Option<Distillation>,
    /// λk, weight of the distillation loss (recalled, not verified: 1), above 0; without effect if there is no distillation.
    pub distillation_weight: f64,
    /// λm, weight of the triplet loss: 0 beside distillation (recalled, not verified), else 1.
    pub triplet_weight: f64,
    /// λc, weight of the compactness loss. Ours: 0 beside distillation, where it makes students worse, else 0.001, because
    /// the loss is a sum over 16 256 pairs (the paper's is recalled as 1; `docs/notes/teachers.md`).
    pub compactness_weight: f64,
    /// How the compactness loss counts a correlation.
    pub compactness: Compactness,
    /// δ, the margin of the triplet loss (recalled, not verified: 1).
    pub margin: f64,
    /// Batch norm after every activation in training, folded into the convolutions afterwards. Ours.
    pub batch_norm: bool,
    /// Number of optimiser steps. Ours (the paper's is recalled as 50 000).
    pub steps: usize,
    /// Images in a step, at least 2: the next image of the batch gives the negatives.
    pub images_per_step: usize,
    /// Side of the windows in pixels, at least p; p is one patch an image, as published.
    pub window: usize,
    /// An image is resized to a square whose side is drawn from this range: 4p to 16p, and never below the window.
    pub resized_sides: [usize; 2],
    /// How gradients become steps. Ours (the paper's is Adam).
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Largest learning rate of the one-cycle schedule. Ours.
    pub learning_rate: f64,
    /// Weight decay of the optimiser (1e-5).
    pub weight_decay: f64,
    /// Largest shift of the positive in pixels; (p − 1)/4 (recalled, not verified).
    pub translation: usize,
    /// The positive's brightness is multiplied by a factor from 1 ± this. Ours: 0.2.
    pub brightness: f32,
    /// Standard deviation of the Gaussian noise on the positive, of pixels in `[0, 1]` (recalled: 0.1).
    pub noise: f32,
    /// Probability that a whole triplet is grey (recalled: 0.1).
    pub grey_probability: f32,
    /// Share of the images that is held out to measure the teacher on.
    pub held_out: f64,
    /// Seed of everything random.
    pub seed: u64,
}

/// How the compactness loss counts a correlation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compactness {
    /// `Σ_{i≠j} c_ij²`, as in L2-Net (Tian et al., CVPR 2017): every correlation is unwanted.
    #[default]
    Squared,
    /// `Σ_{i≠j} c_ij`, as printed in the paper; it rewards anti-correlation.
    Signed,
}

/// The form of the distillation loss Lk: which features of a pretrained network P the teacher learns. A linear layer on its
/// descriptors, which only training needs, predicts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "lowercase")]
pub enum Distillation {
    /// P's pooled features of the patch alone, `‖D(T̂(p)) − P(p)‖²`: the paper's form (its §3.1).
    Features {
        /// Side that a patch is resized to before P sees it, in pixels.
        side: usize,
    },
    /// P's class probabilities of the patch alone, softened: `KL(softmax(P(p)/τ) ‖ softmax(D(T̂(p))/τ))`
    /// (Hinton, Vinyals and Dean 2014; without their factor τ²).
    Logits {
        /// Side that a patch is resized to before P sees it, in pixels.
        side: usize,
        /// τ, at least 1; larger is softer.
        temperature: f64,
    },
    /// P's maps of the patch and what surrounds it, read at the patch's centre: one run of P serves all patches of a window.
    Dense {
        /// Which maps.
        features: DenseFeatures,
        /// Pixels around the window that P sees as well, where the image has them.
        context: usize,
    },
}

impl Distillation {
    /// [`Dense::context`](Self::Dense) by default.
    pub const CONTEXT: usize = 16;

    /// [`Dense`](Self::Dense) by default, for a patch size: how many times larger the pretrained network sees the image.
    pub const fn usual_zoom(field: ReceptiveField) -> usize {
        match field {
            ReceptiveField::P17 | ReceptiveField::P33 => 4,
            ReceptiveField::P65 => 1,
        }
    }

    /// `side` of [`Features`](Self::Features) and [`Logits`](Self::Logits) by default, for a patch size.
    pub fn usual_patch_side(field: ReceptiveField) -> usize {
        field.side().max(64)
    }
}

impl TeacherConfig {
    /// The defaults for a patch size without a pretrained network: metric learning.
    pub fn new(field: ReceptiveField) -> Self {
        let side = field.side();
        let window = side + 8 * field.pooling_stride().max(4);
        Self {
            network: PatchNetworkConfig::new(field),
            distillation: None,
            distillation_weight: 1.0,
            triplet_weight: 1.0,
            compactness_weight: 0.001,
            compactness: Compactness::Squared,
            margin: 1.0,
            batch_norm: false,
            steps: 200,
            images_per_step: 12,
            window,
            resized_sides: [(4 * side).max(window), (16 * side).max(window)],
            optimizer: Optimizer::Adam,
            learning_rate: 1e-3,
            weight_decay: 1e-5,
            translation: (side - 1) / 4,
            brightness: 0.2,
            noise: 0.1,
            grey_probability: 0.1,
            held_out: 0.05,
            seed: 0,
        }
    }

    /// The defaults for a patch size with a pretrained network to learn from.
    pub fn distilled(field: ReceptiveField, distillation: Distillation) -> Self {
        let metric = Self::new(field);
        let side = field.side();
        let (images_per_step, window) = match &distillation {
            Distillation::Dense { .. } => (4, side + 64.max(8 * field.pooling_stride())),
            // As published: patches, 64 of them.
            Distillation::Features { .. } | Distillation::Logits { .. } => (64, side),
        };
        let window = match (&distillation, field) {
            // Without pooling there is a descriptor for every pixel of a window.
            (Distillation::Dense { .. }, ReceptiveField::P17) => 41,
            _ => window,
        };
        Self {
            distillation: Some(distillation),
            triplet_weight: 0.0,
            compactness_weight: 0.0,
            batch_norm: true,
            steps: 3000,
            images_per_step,
            window,
            resized_sides: [(4 * side).max(window), (16 * side).max(window)],
            optimizer: Optimizer::Muon,
            learning_rate: 2e-3,
            ..metric
        }
    }

    /// Checks every setting before any work.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), TrainError> {
        let side = self.network.receptive_field.side();
        let weights = [
            self.distillation_weight,
            self.triplet_weight,
            self.compactness_weight,
        ];
        let distils = self.distillation.is_some();
        let [smallest, largest] = self.resized_sides;
        // A network that sees each patch alone sees it enlarged.
        let seen_side = match &self.distillation {
            Some(Distillation::Features { side } | Distillation::Logits { side, .. }) => {
                self.window.max(*side)
            }
            Some(Distillation::Dense { .. }) | None => self.window,
        };
        check_rules([
            (
                "descriptor",
                self.network.output_channels == DESCRIPTOR_CHANNELS,
                format!("of {DESCRIPTOR_CHANNELS} numbers"),
            ),
            (
                "steps",
                (1..=100_000_000).contains(&self.steps),
                "1 to 100 000 000".into(),
            ),
            (
                "images per step",
                (2..=1024).contains(&self.images_per_step),
                "2 to 1024: the negatives come from another image".into(),
            ),
            (
                "window",
                (side..=1024).contains(&self.window),
                format!("{side} (one patch) to 1024 pixels"),
            ),
            (
                "images per step",
                seen_side
                    .saturating_pow(2)
                    .saturating_mul(self.images_per_step)
                    <= MOST_PIXELS,
                format!(
                    "so few that {seen_side}×{seen_side} pixels of each are at most {MOST_PIXELS} in all"
                ),
            ),
            (
                "resized sides",
                self.window <= smallest && smallest <= largest && largest <= 4096,
                format!(
                    "from the window ({}) to 4096 pixels, the smaller first",
                    self.window
                ),
            ),
            (
                "learning rate",
                self.learning_rate > 0.0 && self.learning_rate <= 1.0,
                "above 0, at most 1".into(),
            ),
            (
                "weight decay",
                (0.0..=1.0).contains(&self.weight_decay),
                "0 to 1".into(),
            ),
            (
                "loss weights",
                weights
                    .iter()
                    .all(|weight| weight.is_finite() && *weight >= 0.0)
                    && (distils || self.triplet_weight + self.compactness_weight > 0.0),
                "not negative, and not all 0".into(),
            ),
            (
                "distillation weight",
                !distils || self.distillation_weight > 0.0,
                "above 0 beside a pretrained network (leave that out, to learn without it)".into(),
            ),
            (
                "margin",
                self.margin > 0.0 && self.margin.is_finite(),
                "above 0".into(),
            ),
            (
                "translation",
                self.translation < side,
                format!("below {side}, or the two patches share nothing"),
            ),
            (
                "brightness and noise",
                (0.0..=1.0).contains(&self.brightness) && (0.0..=1.0).contains(&self.noise),
                "0 to 1 each".into(),
            ),
            (
                "grey probability",
                (0.0..=1.0).contains(&self.grey_probability),
                "0 to 1".into(),
            ),
            (
                "held-out share",
                (0.0..=0.5).contains(&self.held_out),
                "0 to 0.5".into(),
            ),
        ])?;
        match &self.distillation {
            None => Ok(()),
            Some(distillation) => distillation.check(self.window, side, largest),
        }
    }
}

/// Pixels that a network sees in a step: it takes up to a KiB for each.
const MOST_PIXELS: usize = 1 << 24;

/// What a patch is enlarged to at most before P sees it.
const MOST_SIDE: usize = 512;

impl Distillation {
    fn check(&self, window: usize, patch: usize, largest: usize) -> Result<(), TrainError> {
        let of_a_patch = |side: usize| {
            [
                (
                    "window",
                    window == patch,
                    format!(
                        "{patch}, one patch, for this form of distillation (the dense one takes any)"
                    ),
                ),
                (
                    "patch side",
                    (patch..=MOST_SIDE).contains(&side),
                    format!("{patch} (the patch as it is) to {MOST_SIDE} pixels"),
                ),
            ]
        };
        match self {
            Self::Features { side } => check_rules(of_a_patch(*side)),
            Self::Logits { side, temperature } => {
                check_rules(of_a_patch(*side))?;
                check_rules([(
                    "temperature",
                    (1.0..=1000.0).contains(temperature),
                    "1 to 1000".into(),
                )])
            }
            Self::Dense { features, context } => check_rules([
                (
                    "zoom",
                    ZOOMS.contains(&features.zoom),
                    format!("{} to {}", ZOOMS.start(), ZOOMS.end()),
                ),
                (
                    "targets",
                    !features.outputs.is_empty(),
                    "at least one output of the network".into(),
                ),
                (
                    "context",
                    *context <= 1024
                        && ((window + 2 * context).min(largest) * features.zoom).pow(2)
                            <= MAX_PIXELS,
                    format!(
                        "at most 1024 pixels, and so small that window and context, {} times larger, have at most {MAX_PIXELS} pixels",
                        features.zoom
                    ),
                ),
            ]),
        }
    }
}
