//! Options of `pupilla info`.

use std::path::PathBuf;

use clap::Args;

use super::shared::Json;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla info part.pupilla
  pupilla info part.pupilla --full
  pupilla info")]
pub struct Info {
    /// A model, a teacher, a checkpoint, or weights of a pretrained network [default: the built-in network and teachers]
    pub file: Option<PathBuf>,
    /// Print everything that the file says about itself
    #[arg(long)]
    pub full: bool,
    #[command(flatten)]
    pub json: Json,
}
