//! From images to the input that a pretrained network was trained on.

use pupilla_core::image::{Image, Size};
use pupilla_nn::Tensor;
use serde::{Deserialize, Serialize};

use super::BackboneError;

/// The normalisation that turns an image in `[0, 1]` into an input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// Subtracted from red, green and blue …
    pub mean: [f32; 3],
    /// … which are then divided by this.
    pub deviation: [f32; 3],
    /// Side of the square images that the network was trained on, in pixels. It also runs on images of other sizes.
    pub side: usize,
}

impl Preprocessing {
    /// The preprocessing of torchvision's and timm's networks: subtracts ImageNet's mean, and divides by ImageNet's deviation.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
        side: 224,
    };

    /// The preprocessing of EfficientNet-Lite: `(v - 127) / 128` of values `v` in 0 … 255.
    pub const fn lite(side: usize) -> Self {
        Self {
            mean: [127.0 / 255.0; 3],
            deviation: [128.0 / 255.0; 3],
            side,
        }
    }

    /// The images as one batch, `[images, 3, height, width]`, normalised; they are not resized.
    ///
    /// # Errors
    /// [`BackboneError::ImageSize`] if an image is not of the size of the first, [`BackboneError::Input`] if there are no images.
    pub fn batch(&self, images: &[&Image]) -> Result<Tensor, BackboneError> {
        let Some(first) = images.first() else {
            return Err(BackboneError::Input {
                shape: [0, 3, 0, 0],
            });
        };
        let expected = first.size();
        let mut planes = Vec::with_capacity(images.len() * 3 * expected.area());
        for image in images {
            let size = image.size();
            if size != expected {
                return Err(BackboneError::ImageSize { size, expected });
            }
            for channel in 0..3 {
                let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
                let values = image.pixels().iter().skip(channel).step_by(3);
                planes.extend(values.map(|value| (value - mean) / deviation));
            }
        }
        Ok(Tensor::new(
            planes,
            [images.len(), 3, expected.height, expected.width],
        ))
    }

    /// Fails unless an image has the size that the network was trained on.
    ///
    /// # Errors
    /// [`BackboneError::ImageSize`].
    pub fn check_size(&self, image: &Image) -> Result<(), BackboneError> {
        let (size, expected) = (image.size(), Size::square(self.side));
        if size == expected {
            return Ok(());
        }
        Err(BackboneError::ImageSize { size, expected })
    }
}
