//! Options of `pupilla info`.

use std::path::PathBuf;

use clap::Args;

use super::shared::Json;

#[derive(Debug, Args)]
pub struct Info {
    /// A model or teacher file [default: the built-in network and teachers]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}
