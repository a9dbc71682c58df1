//! Options of `pupilla backbone`.

use std::path::PathBuf;

use clap::Args;
use pupilla::backbone::WeightSource;
use pupilla_core::image::resize::Resize;

use super::shared::Json;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pupilla backbone built-in image.png --resize 224
  pupilla backbone resnet18.safetensors image.png --resize 224")]
pub struct Backbone {
    /// The word built-in, or weights of ResNet-18, SqueezeNet 1.1 or EfficientNet-Lite: a .safetensors or .pth file with the names of
    /// torchvision, timm (ResNet-18) or efficientnet_lite_pytorch
    pub weights: WeightSource,
    /// An image of 224×224 pixels, or of any size with --resize
    pub image: PathBuf,
    /// Resize the image: a number (to a square), keep:N (longer side N), or none (take any size as it is) [default: none, and the
    /// image must have 224×224 pixels]
    #[arg(long, value_name = "SIZE")]
    pub resize: Option<Resize>,
    #[command(flatten)]
    pub json: Json,
}
