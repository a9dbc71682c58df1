//! Options of `pupilla backbone`.

use std::path::PathBuf;

use clap::Args;
use pupilla_core::image::resize::Resize;

use super::shared::Json;

#[derive(Debug, Args)]
pub struct Backbone {
    /// ResNet-18 or SqueezeNet 1.1: a .safetensors or .pth file with torchvision's names (ResNet-18 with timm's, too)
    pub weights: PathBuf,
    /// An image of 224×224 pixels, or of any size with --resize
    pub image: PathBuf,
    /// Resize the image: a number (to a square), keep:N (longer side N), or none (take any size as it is) [default: none, and the
    /// image must have 224×224 pixels]
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<Resize>,
    #[command(flatten)]
    pub json: Json,
}
