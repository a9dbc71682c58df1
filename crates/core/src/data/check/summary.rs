//! A summary of a decoded image: enough to recognise the same image, and to compare its appearance with that of other images.

use crate::image::Size;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::outliers::Appearance;
use crate::image::Image;
use crate::image::read::{self, ReadError};

/// The summary of an image that could be read.
pub(super) struct ImageSummary {
    /// SHA-256 of size and decoded pixels.
    pub(super) pixels: [u8; 32],
    pub(super) size: Size,
    pub(super) appearance: Appearance,
}

impl ImageSummary {
    pub(super) fn read(path: &Path) -> Result<Self, ReadError> {
        let image = read::read(path)?;
        Ok(Self {
            pixels: digest(&image),
            size: image.size(),
            appearance: Appearance::of(&image),
        })
    }
}

fn digest(image: &Image) -> [u8; 32] {
    let mut hash = Sha256::new();
    for side in [image.width(), image.height()] {
        hash.update((side as u64).to_le_bytes());
    }
    hash.update(bytemuck::cast_slice::<f32, u8>(image.pixels()));
    hash.finalize().into()
}
