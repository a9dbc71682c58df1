//! Options of `pupilla teacher train` and `pupilla teacher report`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pupilla::backbone::WeightSource;
use pupilla::teacher::{Distillation, TeacherConfig};
use pupilla::{Checkpoints, Optimizer, ReceptiveField};

use super::belonging::{Belongs, only};
use super::shared::{Json, Replacing, Seed, Unreadable};
use super::values::{named, sides};

#[derive(Debug, Args)]
pub struct Teacher {
    #[command(subcommand)]
    pub command: TeacherCommand,
}

#[derive(Debug, Subcommand)]
pub enum TeacherCommand {
    /// Train a teacher on any natural images
    Train(Box<TeacherTrain>),
    /// Measure how good a teacher is, on images that it was not trained on
    Report(TeacherReport),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla teacher train photographs/ --scale 33 --out teacher-33.safetensors
  pupilla teacher train photographs/ --scale 33 --out teacher-33.safetensors --without-backbone")]
pub struct TeacherTrain {
    /// A folder of images of anything: the more varied, the better
    pub images: PathBuf,
    /// The patch size
    #[arg(long, value_name = "P", value_parser = named::<ReceptiveField>(ReceptiveField::ALL))]
    pub scale: ReceptiveField,
    /// The teacher file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    #[command(flatten)]
    pub replacing: Replacing,
    /// What the images are and under which terms, for the teacher's manifest
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub data_terms: String,
    /// Continue from the last checkpoint of the same command, OUT.checkpoint, if there is one
    #[arg(long)]
    pub resume: bool,
    /// Steps between two checkpoints
    #[arg(long, value_name = "N", default_value = Checkpoints::EVERY.to_string())]
    pub checkpoint_every: NonZeroUsize,
    /// Write the losses of every step of the teacher to FILE, as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
    #[command(flatten)]
    pub distillation: Distilling,
    #[command(flatten)]
    pub losses: Losses,
    #[command(flatten)]
    pub training: Training,
}

/// What is the same for every patch size.
fn usual() -> TeacherConfig {
    TeacherConfig::new(ReceptiveField::P33)
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Distillation")]
pub struct Distilling {
    /// The pretrained network to learn from: built-in, or weights as for `pupilla backbone`
    #[arg(long, value_name = "WEIGHTS", default_value_t = WeightSource::BuiltIn)]
    pub backbone: WeightSource,
    /// Learn from the images alone, by metric learning
    #[arg(long, conflicts_with_all = ["backbone", "distill", "targets", "zoom", "context", "patch_side", "temperature", "distillation_weight"])]
    pub without_backbone: bool,
    /// What to learn of the pretrained network
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Form::Dense)]
    pub distill: Form,
    /// Outputs of the network to learn [default: layer2,layer3 of ResNet-18, fire5,fire9 of SqueezeNet,
    /// stage1,stage2,stage3,stage5 of EfficientNet-Lite]
    #[arg(long, value_name = "NAME", value_delimiter = ',', belongs = only("distill", &["dense"]))]
    pub targets: Vec<String>,
    /// How many times larger the network sees the image, 1 to 8 [default: 4, 4, 1 for scales 17, 33, 65]
    #[arg(long, value_name = "N", belongs = only("distill", &["dense"]))]
    pub zoom: Option<usize>,
    /// Pixels around a window that the network sees too
    #[arg(long, value_name = "PIXELS", default_value_t = Distillation::CONTEXT, belongs = only("distill", &["dense"]))]
    pub context: usize,
    /// Side that a patch is resized to before the network sees it [default: 64, or the patch if that is larger]
    #[arg(long, value_name = "PIXELS", belongs = only("distill", &["features", "logits"]))]
    pub patch_side: Option<usize>,
    /// Temperature of the softened class probabilities. Of several, each is tried, and the teacher is written that agrees best with
    /// the network on held-out images
    #[arg(long, value_name = "T", value_delimiter = ',', default_value = "1", belongs = only("distill", &["logits"]))]
    pub temperature: Vec<f64>,
}

/// What a teacher learns of a pretrained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Its maps of the patch and what surrounds it, read at the centre of the patch
    Dense,
    /// Its pooled features of the patch alone, the form of the paper
    Features,
    /// Its class probabilities of the patch alone, softened
    Logits,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Losses")]
pub struct Losses {
    /// Weight of the distillation loss, λk
    #[arg(long, value_name = "WEIGHT", default_value_t = usual().distillation_weight)]
    pub distillation_weight: f64,
    /// Weight of the triplet loss, λm [default: 0, or 1 with --without-backbone]
    #[arg(long, value_name = "WEIGHT")]
    pub triplet_weight: Option<f64>,
    /// Weight of the compactness loss, λc [default: 0, or 0.001 with --without-backbone]
    #[arg(long, value_name = "WEIGHT")]
    pub compactness_weight: Option<f64>,
    /// Use the signed sum of correlations, as printed in the paper, instead of their squares
    #[arg(long)]
    pub signed_compactness: bool,
    /// Margin of the triplet loss, δ
    #[arg(long, value_name = "MARGIN", default_value_t = usual().margin)]
    pub margin: f64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub struct Training {
    /// Optimiser steps [default: 3000; with --without-backbone 200]
    #[arg(long, value_name = "N")]
    pub steps: Option<NonZeroUsize>,
    /// Images in a step [default: 4, or 64 patches; with --without-backbone 12]
    #[arg(long, value_name = "N")]
    pub images_per_step: Option<usize>,
    /// Side of the windows that are cut from the images [default: chosen for the patch size; the patch size itself is the published
    /// procedure]
    #[arg(long, value_name = "PIXELS")]
    pub window: Option<usize>,
    /// An image is resized to a square whose side is drawn from this range [default: 4p,16p for patch size p]
    #[arg(long, value_name = "FROM,TO", value_parser = sides)]
    pub resized: Option<[usize; 2]>,
    /// Largest learning rate [default: 0.002; with --without-backbone 0.001]
    #[arg(long, value_name = "RATE")]
    pub learning_rate: Option<f64>,
    /// How gradients become steps [default: muon; with --without-backbone adam]
    #[arg(long, value_name = "NAME", value_parser = named::<Optimizer>(Optimizer::ALL))]
    pub optimizer: Option<Optimizer>,
    /// Weight decay of the optimiser
    #[arg(long, value_name = "DECAY", default_value_t = usual().weight_decay)]
    pub weight_decay: f64,
    /// Train with batch norm, which is folded into the convolutions afterwards [default: true; with --without-backbone false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub batch_norm: Option<bool>,
    /// Largest shift of the positive in pixels [default: (p - 1) / 4 for patch size p]
    #[arg(long, value_name = "PIXELS")]
    pub translation: Option<usize>,
    /// The brightness of the positive is multiplied by 1 ± up to this
    #[arg(long, value_name = "SHARE", default_value_t = usual().brightness)]
    pub brightness: f32,
    /// Deviation of the noise on the positive, of pixels in 0 to 1
    #[arg(long, value_name = "DEVIATION", default_value_t = usual().noise)]
    pub noise: f32,
    /// Probability that a triplet is grey
    #[arg(long, value_name = "PROBABILITY", default_value_t = usual().grey_probability)]
    pub grey: f32,
    /// Share of the images that is held out to measure on
    #[arg(long, value_name = "SHARE", default_value_t = usual().held_out)]
    pub held_out: f64,
    #[command(flatten)]
    pub seed: Seed,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla teacher report teacher-33.safetensors other_photographs/
  pupilla teacher report teacher-33.safetensors other_photographs/ --out neighbours.png")]
pub struct TeacherReport {
    /// A teacher file, written by `pupilla teacher train`
    pub teacher: PathBuf,
    /// A folder of images that it was not trained on; of the folder that it was trained on, the held-out images are taken
    pub images: PathBuf,
    /// The pretrained network that the teacher learned from, to measure the distillation too [default: built-in, if the teacher
    /// learned from the built-in network]
    #[arg(long, value_name = "WEIGHTS")]
    pub backbone: Option<WeightSource>,
    /// Draw the correlation of the descriptor's dimensions, and patches with their nearest neighbours, into a PNG
    #[arg(long, value_name = "PNG")]
    pub out: Option<PathBuf>,
    /// Number of patches whose neighbours are drawn, 1 to 64
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub patches: u8,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
}
