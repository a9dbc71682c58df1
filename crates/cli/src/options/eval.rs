//! Options of `pupilla eval`.

use std::path::PathBuf;

use clap::Args;
use pupilla::ReceptiveField;

use super::ADVANCED;
use super::shared::{Computing, Curves, DataLayout, GivenThresholds, Json, Measuring, Unreadable};
use super::values::named;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla eval part.pupilla dataset/
  pupilla eval part.pupilla dataset/ --report report
  pupilla eval part.pupilla dataset/ --threshold 3.5 --json figures.json")]
pub struct Eval {
    /// A model file, written by `pupilla train`
    pub model: PathBuf,
    /// A data set in a known layout (MVTec AD, VisA, good beside bad images, …) or a manifest, with a test part. Masks may be missing:
    /// then images alone are measured
    pub data: PathBuf,
    /// Write a report into this folder: one page with figures, curves, a movable threshold and images
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Most images in the report, worst mistakes first
    #[arg(long, value_name = "N", default_value_t = 300, requires = "report", help_heading = ADVANCED)]
    pub report_images: usize,
    /// Write the report with a few images of each kind, and a picture for documents, into this folder
    #[arg(long, value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// Images of each kind in that report
    #[arg(long, value_name = "N", default_value_t = 12, requires = "pictures", help_heading = ADVANCED)]
    pub pictures_per_kind: usize,
    /// Write every anomaly map as 32-bit float TIFF into this folder, in MVTec's layout
    #[arg(long, value_name = "DIR")]
    pub maps: Option<PathBuf>,
    /// Patch sizes to measure, of a model that has several. The thresholds stay those of all patch sizes [default: all]
    #[arg(long, value_delimiter = ',', value_name = "P", conflicts_with = "report", help_heading = ADVANCED,
        value_parser = named::<ReceptiveField>(ReceptiveField::ALL))]
    pub scales: Vec<ReceptiveField>,
    #[command(flatten)]
    pub thresholds: GivenThresholds,
    #[command(flatten)]
    pub measuring: Measuring,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub curves: Curves,
    #[command(flatten)]
    pub computing: Computing,
    #[command(flatten)]
    pub unreadable: Unreadable,
    #[command(flatten)]
    pub json: Json,
}
