//! Options that several commands have.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use pupilla::DetectorKind;
use pupilla::backbone::WeightSource;
use pupilla_core::data::OpenSettings;
use pupilla_core::evaluate::test_run::TestSettings;
use pupilla_core::image::read::ReadSettings;
use pupilla_core::verdict::calibration::{RejectRate, WantedRates};

use super::belonging::{Belongs, detectors, on_backbones, only};
use super::values::{Budget, Memory, finite, rate, spacing};
use super::{ADVANCED, IMAGES, THRESHOLDS};

#[derive(Debug, Args)]
pub struct Json {
    /// Print the results as JSON: --json to standard output, --json=FILE to a file
    #[arg(id = "json", long = "json", value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    file: Option<PathBuf>,
}

impl Json {
    /// Where JSON goes, if it is wanted; `-` is standard output.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// How image files are decoded.
#[derive(Debug, Args)]
pub struct Decoding {
    /// The number of bits that the camera uses, as 12, if its files have more bits. White is the largest number of these bits. The
    /// model keeps the number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16), help_heading = IMAGES)]
    bits: Option<u8>,
}

impl Decoding {
    pub fn settings(&self) -> ReadSettings {
        ReadSettings {
            bits: self.bits,
            ..ReadSettings::default()
        }
    }

    /// The options that say the same.
    pub fn words(&self) -> Vec<String> {
        let bits = self.bits.iter();
        bits.flat_map(|bits| ["--bits".to_owned(), bits.to_string()])
            .collect()
    }
}

/// How a folder is read as a data set.
#[derive(Debug, Args)]
pub struct DataLayout {
    /// The name of the folders of good images [default: good, ok, normal, nominal, pass, io or gut]
    #[arg(id = "good_name", long = "good", value_name = "NAME", help_heading = IMAGES)]
    good: Option<String>,
    /// Take the images in folders below the folders of images too
    #[arg(long, help_heading = IMAGES)]
    recursive: bool,
    /// The data set of this name, if the folder or the manifest holds several
    #[arg(long, value_name = "NAME", help_heading = IMAGES)]
    category: Option<String>,
}

impl DataLayout {
    pub fn settings(&self) -> OpenSettings {
        OpenSettings {
            good: self.good.clone(),
            recursive: self.recursive,
            category: self.category.clone(),
        }
    }

    /// The options that say the same of one of its data sets.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(good) = &self.good {
            words.extend(["--good".to_owned(), good.clone()]);
        }
        if self.recursive {
            words.push("--recursive".to_owned());
        }
        words
    }
}

#[derive(Debug, Args)]
pub struct Replacing {
    /// Replace the file of --out, if it is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Unreadable {
    /// Report unreadable images and continue without them
    #[arg(id = "skip_unreadable", long = "skip-unreadable", help_heading = ADVANCED)]
    pub skip: bool,
}

#[derive(Debug, Args)]
pub struct Seed {
    /// Seed of everything random
    #[arg(id = "seed", long = "seed", value_name = "N", default_value_t = 0, help_heading = ADVANCED)]
    pub value: u64,
}

/// How long networks are trained.
#[derive(Debug, Args)]
pub struct RunLength {
    /// Optimiser steps (student-teacher: for each scale). The same --steps and --threads repeat a run to the byte
    /// [default: 500; l2-ae, ssim-ae, vae 1500, anogan 800]
    #[arg(long, value_name = "N", conflicts_with = "budget", belongs = detectors(DetectorKind::is_trained_in_steps),
        belongs = only("preset", &["quick"]).silently())]
    pub steps: Option<NonZeroUsize>,
    /// The longest time for training after the images are read, as 90s, 10m or 1h. With muon, students take at most the default
    /// number of steps, because more steps find fewer defects
    #[arg(long, value_name = "TIME", belongs = detectors(DetectorKind::is_trained_in_steps),
        belongs = only("preset", &["quick"]).silently())]
    pub budget: Option<Budget>,
}

impl RunLength {
    /// What was given, in the library's words.
    pub fn wanted(&self) -> Option<pupilla::Length> {
        let steps = self.steps.map(|steps| pupilla::Length::Steps(steps.get()));
        steps.or(self.budget.map(|budget| pupilla::Length::Budget(budget.0)))
    }
}

#[derive(Debug, Args)]
pub struct Pretrained {
    /// The pretrained network whose features are compared: built-in, or weights as for `pupilla backbone` [default: built-in, unless
    /// --teacher or --scales ask for a teacher]
    #[arg(long, value_name = "WEIGHTS", belongs = detectors(on_backbones))]
    pub backbone: Option<WeightSource>,
}

/// What thresholds are calibrated to.
#[derive(Debug, Args)]
pub struct Rates {
    /// Share of good images that may be called defective, as 1% or 0.01 [default: none, the threshold is the highest score of a
    /// good image, or leaves a twentieth of fewer than 100 images above it that memory-bank left out in turn]
    #[arg(help_heading = THRESHOLDS, long, value_name = "RATE")]
    false_reject: Option<RejectRate>,
    /// Share of the pixels of a good image that may lie in a region [default: none, the pixel threshold is the image threshold]
    #[arg(help_heading = THRESHOLDS, long, value_name = "RATE")]
    pixel_false_reject: Option<RejectRate>,
}

impl Rates {
    pub fn wanted(&self) -> WantedRates {
        WantedRates {
            images: self.false_reject,
            pixels: self.pixel_false_reject,
        }
    }
}

/// How a model computes its maps.
#[derive(Debug, Args)]
pub struct Computing {
    /// Compute descriptors at every pixel, as published, even if the model was calibrated on a grid. This is slower, and needs
    /// thresholds from `pupilla calibrate --dense`
    #[arg(help_heading = ADVANCED, long)]
    pub dense: bool,
    /// Memory for the whole program, as 500M or 2G. Large images are then processed in smaller tiles, with the same result
    #[arg(help_heading = ADVANCED, long, value_name = "SIZE")]
    pub memory: Option<Memory>,
}

#[derive(Debug, Args)]
pub struct Roi {
    /// A picture of the size of the images, white where they are inspected. Other pixels count neither for scores nor for regions
    #[arg(id = "roi", long = "roi", value_name = "IMAGE")]
    picture: Option<PathBuf>,
}

impl Roi {
    /// The picture, if there is one.
    pub fn picture(&self) -> Option<&Path> {
        self.picture.as_deref()
    }
}

/// What is called defective, if not what the model says.
#[derive(Debug, Args)]
pub struct GivenThresholds {
    /// Images that score above this are defective [default: the model's threshold]
    #[arg(help_heading = THRESHOLDS, long, value_name = "SCORE", allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
    /// Pixels that score above this belong to regions [default: --threshold, or else the model's]
    #[arg(help_heading = THRESHOLDS, long, value_name = "SCORE", allow_negative_numbers = true, value_parser = finite)]
    pub pixel_threshold: Option<f32>,
    /// Leave out regions of fewer pixels. An image without another region is not defective
    #[arg(help_heading = THRESHOLDS, long, value_name = "PIXELS", default_value_t = 1)]
    pub min_area: usize,
}

/// The heading above options about the figures of a test.
const MEASURES: &str = "Measures";

#[derive(Debug, Args)]
pub struct Masks {
    /// Mask pixels above this value, 0 to 254, are defective
    #[arg(help_heading = MEASURES, id = "mask_threshold", long = "mask-threshold", value_name = "VALUE", default_value_t = TestSettings::default().mask_threshold,
        value_parser = clap::value_parser!(u8).range(0..=254))]
    pub threshold: u8,
}

/// How maps are compared with masks.
#[derive(Debug, Args)]
pub struct Measuring {
    #[command(flatten)]
    pub masks: Masks,
    /// False-positive rate up to which AU-PRO is integrated; the results also have AU-PRO up to 0.05
    #[arg(long, value_name = "RATE", default_value_t = TestSettings::default().fpr_limit, value_parser = rate, help_heading = MEASURES)]
    pub fpr_limit: f64,
}

#[derive(Debug, Args)]
pub struct Curves {
    /// Put the ROC, PRO and precision-recall curves into the JSON, with points at least this far apart. 0 keeps every point
    /// [default: 0.002]
    #[arg(id = "curves", long = "curves", value_name = "SPACING", num_args = 0..=1, require_equals = true, default_missing_value = "0.002",
        value_parser = spacing, requires = "json", help_heading = MEASURES)]
    pub spacing: Option<f64>,
}
