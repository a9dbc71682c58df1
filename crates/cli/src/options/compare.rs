//! Options of `pupilla compare`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::Args;
use pupilla::{DetectorKind, ReceptiveField};
use pupilla_core::image::resize::Resize;

use super::belonging::{Belongs, DETECTOR, detectors, students};
use super::shared::{DataLayout, Decoding, Json, Measuring, Pretrained, RunLength};
use super::values::{detector, named};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla compare dataset/ --out comparison
  pupilla compare dataset/ --out comparison --detectors memory-bank,padim --seeds 3
  pupilla compare all_data_sets/ --out comparison --budget 10m")]
pub struct Compare {
    /// A data set in a known layout or a manifest, with a test part; or a folder of several, such as all of MVTec AD
    pub data: PathBuf,
    /// The folder for models, figures and tables; the same command again continues with what is left
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which detectors, in the order of the table [default: all]
    #[arg(id = DETECTOR, long = "detectors", value_delimiter = ',', value_name = "NAME",
        value_parser = detector())]
    pub detectors: Vec<DetectorKind>,
    /// Patch sizes, each measured alone and all together [default: 33,65; 33 with a --budget below 5m; 17,33,65 for several data
    /// sets without a budget]
    #[arg(long, value_delimiter = ',', value_name = "P", value_parser = named::<ReceptiveField>(ReceptiveField::ALL),
        belongs = detectors(students))]
    pub scales: Vec<ReceptiveField>,
    #[command(flatten)]
    pub length: RunLength,
    #[command(flatten)]
    pub pretrained: Pretrained,
    /// How to resize images, as for `pupilla train`. l2-ae, ssim-ae, vae and anogan keep their own size if SIZE is not a power of
    /// two from 16 to 512
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<Resize>,
    /// Seeds 0 to N − 1; the table shows means and deviations
    #[arg(long, value_name = "N", default_value = "1", belongs = detectors(|kind| !kind.is_trained_in_steps()))]
    pub seeds: NonZeroU32,
    /// Seeds 0 to N − 1 of the detectors that take longer
    #[arg(long, value_name = "N", default_value = "1", belongs = detectors(DetectorKind::is_trained_in_steps))]
    pub network_seeds: NonZeroU32,
    #[command(flatten)]
    pub measuring: Measuring,
    /// Write a report of each test, as `eval --report`; the page of the comparison links to the reports
    #[arg(long)]
    pub reports: bool,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub decoding: Decoding,
    #[command(flatten)]
    pub json: Json,
}
