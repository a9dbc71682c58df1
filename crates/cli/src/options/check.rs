//! Options of `pupilla check`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{DataLayout, Decoding, Json, Masks};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 if there is no problem (there may be notices), 3 if there is a problem,
1 if the data set cannot be checked, 2 for wrong usage.

Examples:
  pupilla check good_images/
  pupilla check dataset/ && pupilla train dataset/ --out part.pupilla")]
pub struct Check {
    /// A data set in a known layout, a folder of several, a manifest (.csv, .jsonl), or a plain folder of good images
    pub data: PathBuf,
    #[command(flatten)]
    pub masks: Masks,
    #[command(flatten)]
    pub layout: DataLayout,
    #[command(flatten)]
    pub decoding: Decoding,
    #[command(flatten)]
    pub json: Json,
}
