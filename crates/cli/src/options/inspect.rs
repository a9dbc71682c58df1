//! Options of `pupilla inspect`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Computing, GivenThresholds, Json, Roi, Unreadable};

#[derive(Debug, Args)]
#[command(after_help = "\
With --json=FILE.jsonl, FILE has a line of JSON for each image, as soon as the image is inspected. --json=-.jsonl prints the lines.

Exit status: 0 if all images were inspected, 1 if an image cannot be inspected or a file cannot be written, 2 for wrong usage, 4 if
an image is defective and --fail-on-defect is given, 130 if the program was asked to stop. The results of the images before are
written in any case.

Examples:
  pupilla inspect part.pupilla new_images/
  pupilla inspect part.pupilla new_images/ --out heatmaps --csv regions.csv
  pupilla inspect part.pupilla new_images/ --threshold 3.5 --min-area 20 --report report")]
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
    /// Write a report into this folder: one page with the verdicts, the scores and the images
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Images in the report, the highest scores before others
    #[arg(long, value_name = "N", default_value_t = 300, requires = "report")]
    pub report_images: usize,
    #[command(flatten)]
    pub thresholds: GivenThresholds,
    #[command(flatten)]
    pub roi: Roi,
    /// Write a line for every region, as comma-separated values. The lines are in FILE.part as soon as an image is inspected, and in
    /// FILE at the end
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    #[command(flatten)]
    pub computing: Computing,
    #[command(flatten)]
    pub unreadable: Unreadable,
    /// End with the exit status 4 if an image is defective
    #[arg(long)]
    pub fail_on_defect: bool,
    #[command(flatten)]
    pub json: Json,
}
