//! Options of `pupilla train`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pupilla::backbone::WeightSource;
use pupilla::embedding::Gamma;
use pupilla::student_teacher::{Paper, Quick, Settings};
use pupilla::{Border, Checkpoints, DetectorKind, Optimizer, ReceptiveField, Scoring};
use pupilla_core::image::resize::Resize;
use serde::Serialize;

use super::belonging::{
    Belongs, embedding, heading, of, of_patches, on_backbones, only, reconstruction, setting,
    students,
};
use super::shared::{
    DataLayout, Decoding, Json, Pretrained, Rates, Replacing, RunLength, Seed, Unreadable,
};
use super::values::{detector, named, real};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla train good_images/ --out part.pupilla
  pupilla train good_images/ --out part.pupilla --detector padim --false-reject 1%
  pupilla train good_images/ --out part.pupilla --detector student-teacher --budget 10m")]
pub struct Train {
    /// A folder of good images, a data set in a known layout (MVTec AD, VisA, good beside bad images, …), or a manifest (.csv, .jsonl)
    pub data: PathBuf,
    /// The model file to write; needed unless --dry-run is given
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub replacing: Replacing,
    /// The detector to train. Options that do not belong to this detector are refused. Without --detector, options of students choose
    /// student-teacher
    #[arg(long, value_name = "NAME", default_value_t, value_parser = detector())]
    pub detector: DetectorKind,
    /// The option that chose the detector, if the detector was not named.
    #[arg(skip)]
    pub chosen_by: Option<String>,
    /// How to resize images: a number (to a square), keep:N (longer side N), or none; for l2-ae, ssim-ae, vae and anogan a power of
    /// two from 16 to 512 [default: 256; l2-ae, ssim-ae, vae 128, anogan 64, the sizes that they were published for]
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<Resize>,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub decoding: Decoding,
    #[command(flatten)]
    pub rates: Rates,
    #[command(flatten)]
    pub seed: Seed,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
    #[command(flatten)]
    pub run: Run,
    #[command(flatten)]
    pub patches: Patches,
    #[command(flatten)]
    pub students: Students,
    #[command(flatten)]
    pub embedding: Embedding,
    #[command(flatten)]
    pub reconstruction: Reconstruction,
}

/// Options of every detector that is trained step by step.
#[derive(Debug, Args)]
#[command(next_help_heading = heading("Detectors that are trained in steps", DetectorKind::is_trained_in_steps))]
pub struct Run {
    #[command(flatten)]
    pub length: RunLength,
    /// Largest learning rate [default: 0.003, without batch norm 0.001, paper preset 0.0001; l2-ae, ssim-ae, vae 0.001, anogan
    /// 0.0002]
    #[arg(long, value_name = "RATE", belongs = of(DetectorKind::is_trained_in_steps))]
    pub learning_rate: Option<f64>,
    /// Estimate steps, time and memory from a few trial steps, and train nothing
    #[arg(long, belongs = of(DetectorKind::is_trained_in_steps))]
    pub dry_run: bool,
    /// Continue from the last checkpoint of the same command, OUT.checkpoint, if there is one
    #[arg(long, belongs = of(DetectorKind::is_trained_in_steps))]
    pub resume: bool,
    /// Steps between two checkpoints
    #[arg(long, value_name = "N", default_value = Checkpoints::EVERY.to_string(), belongs = of(DetectorKind::is_trained_in_steps))]
    pub checkpoint_every: NonZeroUsize,
}

/// Options of every detector that sees patches.
#[derive(Debug, Args)]
#[command(next_help_heading = heading("Detectors that look at patches", of_patches))]
pub struct Patches {
    /// Patch sizes. student-teacher takes several, each with its own teacher and students; other detectors take one [default: 33,65,
    /// or those of --teacher; 33 for other detectors, with --teacher-backbone, and with a --budget below 5m]
    #[arg(long, value_delimiter = ',', value_name = "P", conflicts_with = "backbone",
        value_parser = named::<ReceptiveField>(ReceptiveField::ALL), belongs = of(of_patches))]
    pub scales: Option<Vec<ReceptiveField>>,
    /// A teacher file to use instead of a built-in teacher; student-teacher takes one for each scale
    #[arg(long = "teacher", value_name = "FILE", conflicts_with = "backbone", belongs = of(of_patches))]
    pub teachers: Vec<PathBuf>,
    /// What to assume beyond the edge of an image
    #[arg(long, value_name = "KIND", default_value_t, belongs = of(of_patches),
        value_parser = named::<Border>([Border::Reflect, Border::Replicate, Border::Zero]))]
    pub border: Border,
    /// Which maps of the pretrained network to use [default: layer2,layer3 of ResNet-18, fire5,fire9 of SqueezeNet,
    /// stage1,stage2,stage3,stage5 of EfficientNet-Lite]
    #[arg(long, value_delimiter = ',', value_name = "NAME", conflicts_with = "teachers", belongs = of(of_patches))]
    pub backbone_outputs: Option<Vec<String>>,
    /// How many times larger than the resized image the pretrained network sees it, 1 to 8 [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "teachers", belongs = of(of_patches),
        value_parser = clap::value_parser!(u8).range(1..=8))]
    pub backbone_zoom: Option<u8>,
    /// Pixels of the resized image between the positions at which features are compared [default: those of the finest map, but at
    /// least 8 over the zoom]
    #[arg(long, value_name = "PIXELS", conflicts_with = "teachers", belongs = of(on_backbones),
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub backbone_stride: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Random windows of the images
    Quick,
    /// Whole images, exactly as published: days on a CPU
    Paper,
}

/// Options of student-teacher alone.
#[derive(Debug, Args)]
#[command(next_help_heading = heading("Students and their teachers", students))]
pub struct Students {
    /// Number of students for each scale
    #[arg(long, value_name = "N", default_value_t = Settings::default().students, belongs = of(students))]
    pub students: usize,
    /// How to train
    #[arg(long, value_enum, default_value_t = Preset::Quick, belongs = of(students))]
    pub preset: Preset,
    /// Passes over the images
    #[arg(long, value_name = "N", default_value_t = Paper::default().epochs, belongs = of(students), belongs = only("preset", &["paper"]))]
    pub epochs: usize,
    /// Side of the random windows in pixels [default: 49, 129, 161 for scales 17, 33, 65]
    #[arg(long, value_name = "PIXELS", belongs = of(students), belongs = only("preset", &["quick"]))]
    pub window: Option<usize>,
    /// Windows in a step
    #[arg(long, value_name = "N", default_value_t = Quick::default().windows, belongs = of(students), belongs = only("preset", &["quick"]))]
    pub windows: usize,
    /// How gradients become steps
    #[arg(long, value_name = "NAME", default_value_t = Quick::default().optimizer, value_parser = named::<Optimizer>(Optimizer::ALL),
        belongs = of(students), belongs = only("preset", &["quick"]))]
    pub optimizer: Optimizer,
    /// Train with batch norm, which is folded into the convolutions afterwards
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = Quick::default().batch_norm,
        belongs = of(students), belongs = only("preset", &["quick"]))]
    pub batch_norm: bool,
    /// A position counts in the loss by this power of its error; 0 counts all alike, as published
    #[arg(long, value_name = "POWER", default_value_t = Quick::default().focus,
        belongs = of(students), belongs = only("preset", &["quick"]))]
    pub focus: f64,
    /// Stop when the loss no longer falls on a twentieth of the images, which are not learned. This needs 40 images or more
    /// [default: true with --budget, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        belongs = of(students), belongs = only("preset", &["quick"]))]
    pub early_stop: Option<bool>,
    /// How the errors of the students are judged: in the metric of the errors on good parts, or as published [default: mahalanobis;
    /// published with --preset paper]
    #[arg(long, value_name = "NAME", value_parser = named::<Scoring>(["mahalanobis", "published"]), belongs = of(students))]
    pub scoring: Option<Scoring>,
    /// The students of every scale learn to predict a pretrained network's features instead of a teacher's: built-in, or weights as
    /// for `pupilla backbone`
    #[arg(long, value_name = "WEIGHTS", num_args = 0..=1, require_equals = true, default_missing_value = WeightSource::BUILT_IN, conflicts_with = "teachers",
        belongs = of(students))]
    pub teacher_backbone: Option<WeightSource>,
}

/// Options of the detectors that compare embeddings. Those that are named like a setting of a method replace it.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading("Embedding detectors", embedding))]
pub struct Embedding {
    #[command(flatten)]
    #[serde(skip)]
    pub pretrained: Pretrained,
    /// Number of descriptors to look at, drawn at random from all images
    #[arg(long, value_name = "N", belongs = setting("sample"))]
    sample: Option<usize>,
    /// Share of the variance that the PCA keeps
    #[arg(long, value_name = "SHARE", value_parser = real, belongs = setting("variance"))]
    variance: Option<f64>,
    /// Number of descriptors (1-nn), centres (k-means) or words (cnn-dictionary) to compare with
    #[arg(long, value_name = "N", belongs = setting("dictionary"))]
    dictionary: Option<usize>,
    /// Number of nearest words that count
    #[arg(long, value_name = "N", belongs = setting("neighbours"))]
    neighbours: Option<usize>,
    /// Share of the descriptors that may lie outside
    #[arg(long, value_name = "SHARE", value_parser = real, belongs = setting("nu"))]
    nu: Option<f64>,
    /// γ of the radial kernel, a number or scale
    #[arg(long, value_name = "GAMMA", belongs = setting("gamma"))]
    gamma: Option<Gamma>,
    /// Share of the features that is kept
    #[arg(long, value_name = "SHARE", value_parser = real, belongs = setting("coreset"))]
    coreset: Option<f64>,
    /// Number of dimensions in which the coreset is chosen
    #[arg(long, value_name = "N", belongs = setting("projection"))]
    projection: Option<usize>,
    /// Whether the outputs of a pretrained network are compared as one vector, as published. Otherwise each output has its own
    /// coreset, and the score is the mean of the normalised distances
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", belongs = setting("joined"))]
    joined: Option<bool>,
    /// Number of features of a position, drawn at random
    #[arg(long, value_name = "N", belongs = setting("channels"))]
    channels: Option<usize>,
    /// Number that is added to each variance; for mahalanobis a share of the mean variance
    #[arg(long, value_name = "NUMBER", value_parser = real, belongs = setting("regularisation"))]
    regularisation: Option<f64>,
    /// Deviation of the Gaussian that smooths the map, in pixels of the resized image
    #[arg(long, value_name = "PIXELS", belongs = setting("smoothing"))]
    #[serde(skip)]
    pub smoothing: Option<f64>,
}

/// Options of the detectors whose networks reconstruct good images. Those that are named like a setting of a method replace it.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = heading("Reconstruction detectors", reconstruction))]
pub struct Reconstruction {
    /// Length of the code between the two networks
    #[arg(long, value_name = "N", belongs = setting("latent"))]
    latent: Option<usize>,
    /// Images in a step
    #[arg(long, value_name = "N", belongs = setting("batch"))]
    batch: Option<usize>,
    /// Weight of the divergence from the prior, beside the summed squared error
    #[arg(long, value_name = "NUMBER", value_parser = real, belongs = setting("kl_weight"))]
    kl_weight: Option<f64>,
    /// Steps of the search for the code of an image, at most 2000
    #[arg(long, value_name = "N", belongs = setting("search_steps"))]
    search_steps: Option<usize>,
    /// Learning rate of the search
    #[arg(long, value_name = "RATE", value_parser = real, belongs = setting("search_rate"))]
    search_rate: Option<f64>,
    /// Weight of the discriminator's features in the search; the pixels have the rest
    #[arg(long, value_name = "SHARE", value_parser = real, belongs = setting("feature_weight"))]
    feature_weight: Option<f64>,
}
