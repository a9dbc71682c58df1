//! Options of `pupilla inspect`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Computing, GivenThresholds, Json, Roi, Unreadable};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla inspect part.pupilla new_images/
  pupilla inspect part.pupilla new_images/ --out heatmaps --csv regions.csv
  pupilla inspect part.pupilla new_images/ --threshold 3.5 --min-area 20")]
pub struct Inspect {
    /// A model file, written by `pupilla train`
    pub model: PathBuf,
    /// Images, or folders: all images in them and in the folders below are inspected
    #[arg(required = true)]
    pub images: Vec<PathBuf>,
    /// Write a heatmap with its regions (PNG) and the raw map (32-bit float TIFF) of each image into this folder, in the same
    /// folders as the images
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub thresholds: GivenThresholds,
    #[command(flatten)]
    pub roi: Roi,
    /// Write a line for every region, as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub computing: Computing,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
}
