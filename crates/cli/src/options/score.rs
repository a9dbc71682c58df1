//! Options of `pupilla score`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Curves, DataLayout, Json, Measuring};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla score dataset/ --maps other_tools_maps/
  pupilla score all_data_sets/ --maps other_tools_maps/ --json figures.json")]
pub struct Score {
    /// A data set in a known layout or a manifest, with a test part; or a folder of several, which gives each and the mean
    pub data: PathBuf,
    /// The maps: DIR/<category>/test/<defect or good>/<name>.tiff (or DIR/test/… for one category), 32-bit float, of the size of
    /// the original images
    #[arg(long, value_name = "DIR")]
    pub maps: PathBuf,
    #[command(flatten)]
    pub measuring: Measuring,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub curves: Curves,
    #[command(flatten)]
    pub json: Json,
}
