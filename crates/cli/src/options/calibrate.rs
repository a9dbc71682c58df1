//! Options of `pupilla calibrate`.

use std::path::PathBuf;

use clap::Args;

use super::ADVANCED;
use super::shared::{Computing, DataLayout, Json, Rates, Replacing, Roi, Unreadable};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla calibrate part.pupilla more_good_images/ --false-reject 1%
  pupilla calibrate part.pupilla more_good_images/ --false-reject 5% --out other.pupilla")]
pub struct Calibrate {
    /// A model file, written by `pupilla train`; its thresholds are replaced
    pub model: PathBuf,
    /// A folder of good images that the model has not learned from
    pub good: PathBuf,
    #[command(flatten)]
    pub rates: Rates,
    /// Write the model with its new thresholds into this file instead
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub replacing: Replacing,
    #[command(flatten)]
    pub roi: Roi,
    /// Take the good images to learn of a data set. Of the images of the training, only those are taken that were kept back for
    /// validation
    #[arg(long, help_heading = ADVANCED)]
    pub train_good: bool,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub computing: Computing,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
}
