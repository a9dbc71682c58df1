//! Options of `pupilla demo`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Json, Seed};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla demo
  pupilla demo --out somewhere --seed 1")]
pub struct Demo {
    /// The folder for data, models and pictures
    #[arg(long, value_name = "DIR", default_value = "pupilla-demo")]
    pub out: PathBuf,
    #[command(flatten)]
    pub seed: Seed,
    #[command(flatten)]
    pub json: Json,
}
