//! Every verb and option of the command line.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pupilla::Optimizer;
use pupilla::detector_kind::DetectorKind;
use pupilla::device::DeviceChoice;
use pupilla::feature_detectors::Gamma;
use pupilla::input::Border;
use pupilla::receptive_field::ReceptiveField;
use pupilla::score::Scoring;
use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::RejectRate;

/// Finds defects in images of manufactured parts after seeing good parts only.
///
/// Try `pupilla demo` first: it makes a small data set, trains, evaluates, and leaves a page of
/// pictures. Then: `pupilla train GOOD_IMAGES --out part.pupilla`, and
/// `pupilla inspect part.pupilla NEW_IMAGES --out heatmaps`.
#[derive(Debug, Parser)]
#[command(name = "pupilla", version, max_term_width = 100)]
pub struct Arguments {
    /// How long work reports itself, on standard error [default: a bar in a terminal, else none]
    #[arg(long, global = true, value_enum)]
    pub progress: Option<ProgressStyle>,
    /// Number of worker threads, at most four for each core of the machine [default: one for each core]
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Where networks run: cpu, gpu, gpu:1 (the second) or auto (a GPU that works, else the CPU) [default: cpu]; GPUs need a program
    /// that was built with the feature gpu
    #[arg(long, global = true)]
    pub device: Option<DeviceChoice>,
    /// Stop as at Ctrl-C once standard input ends: for a program that runs this one, and may be killed itself
    #[arg(long, global = true, hide = true)]
    pub stop_with_input: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// A bar with the remaining time (in a terminal only)
    Bar,
    /// One JSON object a line
    Json,
    /// Nothing but warnings
    None,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn what good parts look like, from good images alone
    Train(Box<Train>),
    /// Find new thresholds for a model from good images, without training
    Calibrate(Calibrate),
    /// Score images and draw where they differ from good parts
    Inspect(Inspect),
    /// Measure a model on a data set with labelled defects
    Eval(Eval),
    /// Measure anomaly maps that any tool has made
    Score(Score),
    /// Look a data set over: images that occur twice, leaks between training and test, outliers, broken files, masks
    Check(Check),
    /// Train and measure every detector on the same images, and set them side by side
    Compare(Compare),
    /// Work with teachers, the networks that students learn from
    Teacher(Teacher),
    /// Show everything that a model or teacher file says about itself; without a file, the built-in teachers
    Info(Info),
    /// Look at a pretrained network's file: what it gives, on an image
    Backbone(Backbone),
    /// Do the whole job on built-in data: make, train, evaluate, show
    Demo(Demo),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages
    Man {
        /// The folder to write them into
        folder: PathBuf,
    },
}

impl Command {
    /// The name of a command that runs no network, for which a device would mean nothing.
    pub fn without_networks(&self) -> Option<&'static str> {
        match self {
            Self::Score(_) => Some("score"),
            Self::Check(_) => Some("check"),
            Self::Info(_) => Some("info"),
            Self::Completions { .. } => Some("completions"),
            Self::Man { .. } => Some("man"),
            Self::Train(_)
            | Self::Calibrate(_)
            | Self::Inspect(_)
            | Self::Eval(_)
            | Self::Compare(_)
            | Self::Teacher(_)
            | Self::Backbone(_)
            | Self::Demo(_) => None,
        }
    }
}

#[derive(Debug, Args)]
pub struct Train {
    /// A data set in the MVTec AD layout (its train/good is used), or a folder of good images
    pub data: PathBuf,
    /// The model file to write
    #[arg(long, required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// What to train: student-teacher, 1-nn, oc-svm, k-means, l2-ae, ssim-ae, vae, anogan, cnn-dictionary, memory-bank (PatchCore) or
    /// padim. Options under "Other detectors" belong to those; the rest, where nothing else is said, to all, or to student-teacher
    /// alone: an option that does not apply is refused
    #[arg(long, value_name = "NAME", default_value_t)]
    pub detector: DetectorKind,
    /// Only say what training will take: steps, time, memory, found out by a few trial steps (student-teacher and the networks: l2-ae,
    /// ssim-ae, vae, anogan)
    #[arg(long)]
    pub dry_run: bool,
    /// Patch sizes to look at, each with a teacher and students of its own: of 17, 33, 65; one for other detectors [default: 33,65, or those of
    /// --teacher; 33 with a --budget below 5m, with --teacher-backbone and for other detectors]
    #[arg(long, value_delimiter = ',')]
    pub scales: Option<Vec<ReceptiveField>>,
    /// Number of students for each scale [default: 3]
    #[arg(long)]
    pub students: Option<usize>,
    /// How to train: quickly on random windows, or exactly as published (days on a CPU) [default: quick]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Optimiser steps for each scale (quick preset) or of a network [default: 500; networks 1500, anogan 800]; with the same number and the
    /// same --threads a run repeats to the byte
    #[arg(long, conflicts_with = "budget")]
    pub steps: Option<NonZeroUsize>,
    /// The longest time for training, once the images are read, as 90s, 10m or 1h (quick preset, and networks). Students trained by
    /// muon take no more than the default steps of it: more find fewer defects
    #[arg(long)]
    pub budget: Option<Budget>,
    /// Passes over the images (paper preset) [default: 100]
    #[arg(long)]
    pub epochs: Option<NonZeroUsize>,
    /// Largest learning rate [default: 0.003 quick (0.001 without batch norm), 0.0001 paper; 0.001 l2-ae, ssim-ae and vae, 0.0002
    /// anogan]
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Side of the random windows in pixels (quick preset) [default: 49, 129, 161 for 17, 33, 65]
    #[arg(long)]
    pub window: Option<usize>,
    /// Windows in a step (quick preset) [default: 1]
    #[arg(long)]
    pub windows: Option<usize>,
    /// How gradients become steps: adam or muon (quick preset) [default: muon]
    #[arg(long)]
    pub optimizer: Option<Optimizer>,
    /// Batch norm while training, folded into the convolutions afterwards (quick preset) [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub batch_norm: Option<bool>,
    /// A position counts in the loss by this power of its error: 0 counts all alike, as published (quick preset) [default: 1]
    #[arg(long)]
    pub focus: Option<f64>,
    /// How the students' errors are judged: in the metric of good parts' errors (mahalanobis), or as published [default: mahalanobis;
    /// published with --preset paper]
    #[arg(long)]
    pub scoring: Option<Scoring>,
    /// Watch the loss on a twentieth of 40 images and more, which are not learned, and end a run when it has stopped falling
    /// (quick preset) [default: with --budget]
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub early_stop: Option<bool>,
    /// How to resize images: a number (to a square), keep:N (longer side N), or none; for the networks a power of two from 16 to 512
    /// [default: 256; l2-ae, ssim-ae and vae 128, anogan 64, the sizes that they were published for. In the paper's tables they saw
    /// patches of 128 of textures, and whole images of objects]
    #[arg(long)]
    pub resize: Option<Resize>,
    /// What to assume beyond an image's edge: reflect, replicate or zero (student-teacher and the detectors that compare features)
    /// [default: reflect]
    #[arg(long)]
    pub border: Option<Border>,
    /// Teacher files to use instead of the built-in ones, one for each scale at most
    #[arg(long = "teacher")]
    pub teachers: Vec<PathBuf>,
    /// Pretrained weights (as for `pupilla backbone`) whose own features the students of every scale
    /// learn to predict, instead of a teacher's
    #[arg(
        long,
        value_name = "WEIGHTS",
        conflicts_with = "teachers",
        group = "pretrained"
    )]
    pub teacher_backbone: Option<PathBuf>,
    /// Which of the backbone's maps to use [default: layer2,layer3 of ResNet-18, fire5,fire9 of
    /// SqueezeNet, stage3,stage5 of EfficientNet-Lite]
    #[arg(long, value_delimiter = ',', requires = "pretrained")]
    pub backbone_outputs: Option<Vec<String>>,
    /// How many times larger than the resized image the backbone sees it, 1 to 8 [default: 1]
    #[arg(long, value_name = "N", requires = "pretrained",
        value_parser = clap::value_parser!(u8).range(1..=8))]
    pub backbone_zoom: Option<u8>,
    /// Go on from the last checkpoint of the same command, OUT.checkpoint, if there is one (student-teacher and networks)
    #[arg(long)]
    pub resume: bool,
    /// Steps between two checkpoints (student-teacher and networks) [default: 200]
    #[arg(long)]
    pub checkpoint_every: Option<NonZeroUsize>,
    /// Seed of everything random: the validation split, the windows, the students' first weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub features: FeatureOptions,
    #[command(flatten)]
    pub networks: NetworkOptions,
    #[command(flatten)]
    pub rates: Rates,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print a summary as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// Options of the detectors that compare features.
#[derive(Debug, Args)]
#[command(next_help_heading = "Other detectors")]
pub struct FeatureOptions {
    /// Pretrained weights (as for `pupilla backbone`) whose features are compared instead of a teacher's descriptors (cnn-dictionary,
    /// memory-bank, padim)
    #[arg(long, value_name = "WEIGHTS", conflicts_with_all = ["teachers", "scales"], group = "pretrained")]
    pub backbone: Option<PathBuf>,
    /// Descriptors to look at, drawn at random from all images [default: 50000; oc-svm 10000, memory-bank 200000; padim
    /// takes all]
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Share of the variance that the PCA before everything else keeps (1-nn, oc-svm, k-means, cnn-dictionary) [default: 0.95]
    #[arg(long, value_name = "SHARE")]
    pub variance: Option<f64>,
    /// What descriptors are compared with: that many descriptors (1-nn) [default: 5000], centres (k-means) [default: 10] or words
    /// (cnn-dictionary) [default: 500]
    #[arg(long, value_name = "N")]
    pub dictionary: Option<usize>,
    /// How many of the nearest words count (cnn-dictionary) [default: 10]
    #[arg(long, value_name = "N")]
    pub neighbours: Option<usize>,
    /// Share of descriptors that may lie outside (oc-svm) [default: 0.5]
    #[arg(long)]
    pub nu: Option<f64>,
    /// The radial kernel's γ, a number or scale (oc-svm) [default: scale]
    #[arg(long)]
    pub gamma: Option<Gamma>,
    /// Share of the features that is kept (memory-bank) [default: 0.01]
    #[arg(long, value_name = "SHARE")]
    pub coreset: Option<f64>,
    /// Dimensions in which they are chosen (memory-bank) [default: 128]
    #[arg(long, value_name = "N")]
    pub projection: Option<usize>,
    /// Features of a position that are looked at, drawn at random (padim) [default: 100]
    #[arg(long, value_name = "N")]
    pub channels: Option<usize>,
    /// Added to each variance (padim) [default: 0.01]
    #[arg(long, value_name = "NUMBER")]
    pub regularisation: Option<f64>,
    /// Deviation of the Gaussian that smooths the map, in pixels of the resized image [default: 4 for memory-bank and padim, else 0]
    #[arg(long, value_name = "PIXELS")]
    pub smoothing: Option<f64>,
}

/// Options of the detectors that are networks trained to make good images again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Other detectors")]
pub struct NetworkOptions {
    /// Length of the code between the two networks (l2-ae, ssim-ae, vae, anogan) [default: 100; anogan 64]
    #[arg(long, value_name = "N")]
    pub latent: Option<usize>,
    /// Images in a step (l2-ae, ssim-ae, vae, anogan) [default: 8; anogan 16]
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    /// Weight of the divergence from the prior beside the summed squared error (vae) [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub kl_weight: Option<f64>,
    /// Steps of the search for each image's code, at most 2000 (anogan) [default: 100]
    #[arg(long, value_name = "N")]
    pub search_steps: Option<usize>,
    /// Learning rate of the search (anogan) [default: 0.05]
    #[arg(long, value_name = "NUMBER")]
    pub search_rate: Option<f64>,
    /// Weight of the discriminator's features in the search, the pixels' being the rest (anogan) [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    pub feature_weight: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    Quick,
    Paper,
}

/// What thresholds are calibrated to.
#[derive(Debug, Args)]
pub struct Rates {
    /// Share of good images that may be called defective, as 1% or 0.01 [default: none, the threshold
    /// is the highest score of a good image]
    #[arg(long, value_name = "RATE")]
    pub false_reject: Option<RejectRate>,
    /// Share of a good image's pixels that may lie in a region [default: none, the pixel threshold is the
    /// image threshold]
    #[arg(long, value_name = "RATE")]
    pub pixel_false_reject: Option<RejectRate>,
}

#[derive(Debug, Args)]
pub struct Calibrate {
    /// A model file, written by `pupilla train`; its thresholds are replaced
    pub model: PathBuf,
    /// A folder of good images that the model has not learned from
    pub good: PathBuf,
    #[command(flatten)]
    pub rates: Rates,
    /// Write the model with its new thresholds into this file instead
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// A picture of the size of the images, white where they are inspected: only those pixels count
    #[arg(long, value_name = "IMAGE")]
    pub roi: Option<PathBuf>,
    /// Take the train/good of a data set; of what the model was trained with, only the images that were
    /// kept back for validation
    #[arg(long)]
    pub train_good: bool,
    /// Compute descriptors at every pixel even if the model was calibrated on a grid; for use with
    /// `inspect --dense`
    #[arg(long)]
    pub dense: bool,
    /// Memory for the whole program, as 500M or 2G: large images are looked at in smaller tiles, with the same result
    #[arg(long)]
    pub memory: Option<Memory>,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print the thresholds as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// What is called defective, if not what the model says.
#[derive(Debug, Args)]
pub struct Thresholds {
    /// Images that score above this are called defective [default: the model's, by `train` or
    /// `calibrate`]
    #[arg(long, allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
    /// Pixels that score above this make up regions [default: --threshold, or else the model's]
    #[arg(long, allow_negative_numbers = true, value_parser = finite)]
    pub pixel_threshold: Option<f32>,
    /// Leave out regions of fewer pixels; an image with no other region is not defective
    #[arg(long, value_name = "PIXELS", default_value_t = 1)]
    pub min_area: usize,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// A model file, written by `pupilla train`
    pub model: PathBuf,
    /// Images, or folders: all images in them and in the folders below are inspected
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Write a heatmap with its regions (PNG) and the raw map (32-bit float TIFF) of each image into
    /// this folder, which gets the same folders below as the inspected one
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub thresholds: Thresholds,
    /// A picture of the size of the images, white where they are inspected: other pixels count neither
    /// for the score nor for regions
    #[arg(long, value_name = "IMAGE")]
    pub roi: Option<PathBuf>,
    /// Write a line for every region, as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Compute descriptors at every pixel even if the model was calibrated on a grid: slower, the
    /// published method
    #[arg(long)]
    pub dense: bool,
    /// Memory for the whole program, as 500M or 2G: large images are looked at in smaller tiles, with the same result
    #[arg(long)]
    pub memory: Option<Memory>,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print the results as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// How maps are compared with masks.
#[derive(Debug, Args)]
pub struct Measuring {
    /// Mask pixels above this value (0 to 254) are defective
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=254))]
    pub mask_threshold: u8,
    /// False-positive rate up to which AU-PRO is integrated (0.05 is always given beside it)
    #[arg(long, default_value_t = 0.3, value_parser = rate)]
    pub fpr_limit: f64,
    /// Put the ROC, PRO and precision-recall curves into the JSON, with points at least this far apart; 0 keeps every
    /// corner [default: 0.002]
    #[arg(long, value_name = "SPACING", num_args = 0..=1, default_missing_value = "0.002", value_parser = spacing,
        requires = "json")]
    pub curves: Option<f64>,
}

#[derive(Debug, Args)]
pub struct Eval {
    /// A model file, written by `pupilla train`
    pub model: PathBuf,
    /// A data set in the MVTec AD layout, with a test part and masks
    pub data: PathBuf,
    /// Write every anomaly map as 32-bit float TIFF into this folder, in MVTec's layout
    #[arg(long)]
    pub maps: Option<PathBuf>,
    /// Write a page and a picture of images, masks and heatmaps into this folder
    #[arg(long)]
    pub pictures: Option<PathBuf>,
    /// Images of each kind on the page
    #[arg(long, default_value_t = 12, requires = "pictures")]
    pub pictures_per_kind: usize,
    /// Write a report into this folder: one page with figures, curves, histograms and images, to show
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Images in the report, mistakes before others
    #[arg(long, default_value_t = 300, requires = "report")]
    pub report_images: usize,
    /// Patch sizes to look at, of a model that has several: what each contributes; its thresholds stay those of all
    #[arg(long, value_delimiter = ',', conflicts_with = "report")]
    pub scales: Vec<ReceptiveField>,
    #[command(flatten)]
    pub thresholds: Thresholds,
    #[command(flatten)]
    pub measuring: Measuring,
    /// Compute descriptors at every pixel even if the model was calibrated on a grid: slower, the
    /// published method
    #[arg(long)]
    pub dense: bool,
    /// Memory for the whole program, as 500M or 2G: large images are looked at in smaller tiles, with the same result
    #[arg(long)]
    pub memory: Option<Memory>,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print the results as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Score {
    /// A data set in the MVTec AD layout, with a test part and masks; or a folder of several, which gives each and the
    /// mean
    pub data: PathBuf,
    /// The maps: DIR/<category>/test/<defect or good>/<name>.tiff (or DIR/test/… for one category), 32-bit float, at the
    /// size of the original images
    #[arg(long, value_name = "DIR")]
    pub maps: PathBuf,
    #[command(flatten)]
    pub measuring: Measuring,
    /// Print the results as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if there is no problem (there may be notices), 3 if there is one, 1 if the data set \
    cannot be looked over, 2 for wrong usage."
)]
pub struct Check {
    /// A data set in the MVTec AD layout, a folder of several, or a plain folder of good images
    pub data: PathBuf,
    /// Mask pixels above this value (0 to 254) are defective
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=254))]
    pub mask_threshold: u8,
    /// Print the findings as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Teacher {
    #[command(subcommand)]
    pub command: TeacherCommand,
}

#[derive(Debug, Subcommand)]
pub enum TeacherCommand {
    /// Train a teacher on any natural images
    Train(Box<TeacherTrain>),
    /// Show whether a teacher is any good, on images that it was not trained on
    Report(TeacherReport),
}

#[derive(Debug, Args)]
pub struct TeacherTrain {
    /// A folder of images of anything: the more varied, the better
    pub images: PathBuf,
    /// The patch size: 17, 33 or 65
    #[arg(long)]
    pub scale: ReceptiveField,
    /// The teacher file to write
    #[arg(long)]
    pub out: PathBuf,

    /// Learn from a pretrained network: ResNet-18, SqueezeNet 1.1 or EfficientNet-Lite, a .safetensors or .pth file with
    /// torchvision's names (ResNet-18 with timm's, too; EfficientNet-Lite with efficientnet_lite_pytorch's); without it, metric learning alone
    #[arg(long, value_name = "WEIGHTS", help_heading = "Distillation")]
    pub backbone: Option<PathBuf>,
    /// What to learn of it
    #[arg(long, value_enum, default_value_t = Form::Dense, requires = "backbone", help_heading = "Distillation")]
    pub distill: Form,
    /// Outputs of the network to learn, for --distill dense [default: layer2,layer3, fire5,fire9 or stage3,stage5]
    #[arg(
        long,
        value_delimiter = ',',
        requires = "backbone",
        help_heading = "Distillation"
    )]
    pub targets: Vec<String>,
    /// How many times larger the network sees the image, for --distill dense [default: 4, 4, 1 for 17, 33, 65]
    #[arg(long, requires = "backbone", help_heading = "Distillation")]
    pub zoom: Option<usize>,
    /// Pixels around a window that the network sees as well, for --distill dense [default: 16]
    #[arg(long, requires = "backbone", help_heading = "Distillation")]
    pub context: Option<usize>,
    /// Side that a patch is resized to before the network sees it, for --distill features and logits [default: 64, or
    /// the patch if that is larger]
    #[arg(long, requires = "backbone", help_heading = "Distillation")]
    pub patch_side: Option<usize>,
    /// Temperature of the softened class probabilities, for --distill logits; of several, each is tried and the teacher that agrees
    /// best with the network on held-out images is written [default: 1]
    #[arg(
        long,
        value_delimiter = ',',
        requires = "backbone",
        help_heading = "Distillation"
    )]
    pub temperature: Vec<f64>,

    /// Weight of the distillation loss, λk [default: 1]
    #[arg(long, requires = "backbone", help_heading = "Losses")]
    pub distillation_weight: Option<f64>,
    /// Weight of the triplet loss, λm [default: 0 with --backbone, else 1]
    #[arg(long, help_heading = "Losses")]
    pub triplet_weight: Option<f64>,
    /// Weight of the compactness loss, λc [default: 0 with --backbone, else 0.001]
    #[arg(long, help_heading = "Losses")]
    pub compactness_weight: Option<f64>,
    /// Use the signed sum of correlations, as printed in the paper, instead of their squares
    #[arg(long, help_heading = "Losses")]
    pub signed_compactness: bool,
    /// Margin of the triplet loss, δ [default: 1]
    #[arg(long, help_heading = "Losses")]
    pub margin: Option<f64>,

    /// Optimiser steps [default: 200; with --backbone 3000]
    #[arg(long, help_heading = "Training")]
    pub steps: Option<NonZeroUsize>,
    /// Images in a step [default: 12; with --backbone 4, or 64 patches]
    #[arg(long, help_heading = "Training")]
    pub images_per_step: Option<usize>,
    /// Side of the windows cut from the images; the patch size itself is the published procedure
    #[arg(long, help_heading = "Training")]
    pub window: Option<usize>,
    /// An image is resized to a square whose side is drawn from this range [default: 4p,16p for patch size p]
    #[arg(long, value_name = "FROM,TO", value_parser = sides, help_heading = "Training")]
    pub resized: Option<[usize; 2]>,
    /// Largest learning rate [default: 0.001; with --backbone 0.002]
    #[arg(long, help_heading = "Training")]
    pub learning_rate: Option<f64>,
    /// How gradients become steps: adam or muon [default: adam; with --backbone muon]
    #[arg(long, help_heading = "Training")]
    pub optimizer: Option<Optimizer>,
    /// Weight decay of the optimiser [default: 0.00001]
    #[arg(long, help_heading = "Training")]
    pub weight_decay: Option<f64>,
    /// Batch norm while training, folded into the convolutions afterwards [default: with --backbone]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", help_heading = "Training")]
    pub batch_norm: Option<bool>,
    /// Largest shift of the positive in pixels [default: (p - 1) / 4]
    #[arg(long, help_heading = "Training")]
    pub translation: Option<usize>,
    /// The positive's brightness is multiplied by 1 ± up to this [default: 0.2]
    #[arg(long, help_heading = "Training")]
    pub brightness: Option<f32>,
    /// Deviation of the noise on the positive, of pixels in 0 to 1 [default: 0.1]
    #[arg(long, help_heading = "Training")]
    pub noise: Option<f32>,
    /// Probability that a triplet is grey [default: 0.1]
    #[arg(long, help_heading = "Training")]
    pub grey: Option<f32>,
    /// Share of the images that is held out to measure on [default: 0.05]
    #[arg(long, help_heading = "Training")]
    pub held_out: Option<f64>,
    /// Seed of everything random
    #[arg(long, default_value_t = 0, help_heading = "Training")]
    pub seed: u64,

    /// What the images are and under which terms, for the teacher's manifest
    #[arg(long, default_value = "not stated")]
    pub data_terms: String,
    /// Go on from the last checkpoint of the same command, OUT.checkpoint, if there is one
    #[arg(long)]
    pub resume: bool,
    /// Steps between two checkpoints
    #[arg(long, default_value = "200")]
    pub checkpoint_every: NonZeroUsize,
    /// Write the losses of every step (of the teacher that is written) to FILE as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print the teacher's manifest as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct TeacherReport {
    /// A teacher file, written by `pupilla teacher train`
    pub teacher: PathBuf,
    /// A folder of images that it was not trained on; of the folder that it was trained on, the held-out images are taken
    pub images: PathBuf,
    /// The pretrained network that it learned from, to measure the distillation too
    #[arg(long, value_name = "WEIGHTS")]
    pub backbone: Option<PathBuf>,
    /// Draw the correlation of the descriptor's dimensions, and patches with their nearest neighbours, into a PNG
    #[arg(long, value_name = "PNG")]
    pub out: Option<PathBuf>,
    /// Number of patches to look for neighbours of
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub patches: u8,
    /// Report unreadable images and go on without them
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print the figures as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// What a teacher learns of a pretrained network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Its maps of the patch and what surrounds it, read at the patch's centre
    Dense,
    /// Its pooled features of the patch alone, the paper's form
    Features,
    /// Its class probabilities of the patch alone, softened
    Logits,
}

#[derive(Debug, Args)]
pub struct Info {
    /// A model or teacher file [default: the built-in teachers]
    pub file: Option<PathBuf>,
    /// Print the manifest as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Backbone {
    /// ResNet-18, SqueezeNet 1.1 or EfficientNet-Lite: a .safetensors or .pth file with torchvision's names (ResNet-18 with timm's, too;
    /// EfficientNet-Lite with efficientnet_lite_pytorch's)
    pub weights: PathBuf,
    /// An image of 224×224 pixels, or of any size with --resize
    pub image: PathBuf,
    /// Resize the image: a number (to a square), keep:N (longer side N), or none (take any size as
    /// it is) [default: as it is, 224×224]
    #[arg(long)]
    pub resize: Option<Resize>,
    /// Print the pooled 512 features as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// A way to resize as it was written, once it is clear that it is one.
fn resize_words(text: &str) -> Result<String, String> {
    let resize: Result<Resize, _> = text.parse();
    resize
        .map(|_| text.to_string())
        .map_err(|error| error.to_string())
}

#[derive(Debug, Args)]
pub struct Compare {
    /// A data set in the MVTec AD layout with a test part and masks, or a folder of several, such as all of MVTec AD
    pub data: PathBuf,
    /// The folder for models, figures and tables; the same command again goes on with what is left
    #[arg(long)]
    pub out: PathBuf,
    /// Which detectors, in the order of the table, by their names at `train --detector` [default: all]
    #[arg(long, value_delimiter = ',')]
    pub detectors: Vec<DetectorKind>,
    /// Patch sizes of student-teacher, measured each by itself and together [default: 33,65, with a --budget
    /// below 5m 33; for several data sets without one 17,33,65]
    #[arg(long, value_delimiter = ',')]
    pub scales: Vec<ReceptiveField>,
    /// Time for the training of each network, as 10m [default: the number of steps of `pupilla train`]
    #[arg(long)]
    pub budget: Option<Budget>,
    /// Optimiser steps of each network (for each scale)
    #[arg(long, conflicts_with = "budget")]
    pub steps: Option<NonZeroUsize>,
    /// Pretrained weights (as for `pupilla backbone`) for cnn-dictionary, memory-bank and padim; without them they compare a
    /// teacher's descriptors
    #[arg(long, value_name = "WEIGHTS")]
    pub backbone: Option<PathBuf>,
    /// How images are resized, as for `pupilla train`; the networks among the other detectors keep their own size if it is no power of
    /// two from 16 to 512
    #[arg(long, value_parser = resize_words)]
    pub resize: Option<String>,
    /// Seeds of the detectors that are no networks: 0 to N − 1; means and deviations are shown
    #[arg(long, value_name = "N", default_value = "1")]
    pub seeds: NonZeroU32,
    /// Seeds of the networks, which take longer
    #[arg(long, value_name = "N", default_value = "1")]
    pub network_seeds: NonZeroU32,
    /// False-positive rate up to which AU-PRO is taken
    #[arg(long, default_value_t = 0.3, value_parser = rate)]
    pub fpr_limit: f64,
    /// Pixels of a mask above this are defective
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=254))]
    pub mask_threshold: u8,
    /// Print the comparison as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Demo {
    /// The folder to write data, models and pictures into
    #[arg(long, default_value = "pupilla-demo")]
    pub out: PathBuf,
    /// Seed of everything random
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the evaluation as JSON, to FILE or standard output
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<PathBuf>,
}

/// A time budget in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget(pub u64);

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time: write it as 90s, 10m or 1h");
        let (number, unit) =
            text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(seconds) {
            Some(seconds @ 1..=31_536_000) => Ok(Self(seconds)),
            _ => Err(format!("{text:?} is out of range: from 1s to a year")),
        }
    }
}

/// An amount of memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub usize);

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no amount of memory: write it as 500M or 2G");
        let (number, unit) =
            text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
        let shift = match unit {
            "M" => 20,
            "G" => 30,
            _ => return Err(wrong()),
        };
        let number: usize = number.parse().map_err(|_| wrong())?;
        match number.checked_mul(1 << shift) {
            Some(bytes @ 1..) => Ok(Self(bytes)),
            _ => Err(format!("{text:?} is out of range")),
        }
    }
}

fn sides(text: &str) -> Result<[usize; 2], String> {
    let numbers = text
        .split_once(',')
        .map(|(from, to)| (from.trim().parse(), to.trim().parse()));
    match numbers {
        Some((Ok(from), Ok(to))) => Ok([from, to]),
        _ => Err("write it as two numbers, 132,528".to_string()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("a threshold is a number".to_string()),
    }
}

fn spacing(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(spacing) if (0.0..=1.0).contains(&spacing) => Ok(spacing),
        _ => Err("a spacing lies between 0 and 1".to_string()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(rate),
        _ => Err("a false-positive rate lies above 0 and is at most 1".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn memory_has_a_unit_and_a_range() {
        assert_eq!("500M".parse(), Ok(Memory(500 << 20)));
        assert_eq!("2G".parse(), Ok(Memory(2 << 30)));
        for wrong in [
            "",
            "5",
            "M",
            "0M",
            "-1G",
            "1.5G",
            "1T",
            "99999999999999999999G",
            "99999999999G",
            "1é",
        ] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn budgets_have_a_unit_and_a_range() {
        assert_eq!("90s".parse(), Ok(Budget(90)));
        assert_eq!("10m".parse(), Ok(Budget(600)));
        assert_eq!("1h".parse(), Ok(Budget(3600)));
        for wrong in [
            "",
            "10",
            "m",
            "-1m",
            "0s",
            "1d",
            "99999999999999999999h",
            "9999999h",
            "1é",
        ] {
            assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
        }
    }
}
