//! How large a file or an image may be.

use std::path::Path;

use super::ReadError;

/// How large a file or an image may be; checked on the header, before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest side in pixels; 32 768 by default.
    pub side: u32,
    /// Most pixels, width × height; 100 million by default (1.2 GB as [`Image`](crate::image::Image)).
    pub pixels: u64,
    /// Most bytes in the file; 1 GiB by default.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            side: 32_768,
            pixels: 100_000_000,
            file_bytes: 1 << 30,
        }
    }
}

/// Colour profiles and texts beside the pixels may be as large as this together.
const METADATA_BYTES: u64 = 64 << 20;

impl Limits {
    /// Refuses an image whose sides are 0 or exceed the limits.
    pub(super) fn check(&self, path: &Path, width: u32, height: u32) -> Result<(), ReadError> {
        let pixels = u64::from(width) * u64::from(height);
        if width.max(height) > self.side || pixels > self.pixels {
            return Err(ReadError::TooLarge {
                path: path.to_path_buf(),
                width,
                height,
                limits: *self,
            });
        }
        if pixels == 0 {
            return Err(ReadError::NoPixels {
                path: path.to_path_buf(),
            });
        }
        Ok(())
    }

    /// The limits for a decoder: up to 16 bytes a pixel (RGBA in `f32`) twice, and space for headers.
    pub(super) fn for_decoder(&self) -> image::Limits {
        let mut limits = for_metadata();
        let for_pixels = self.pixels.saturating_mul(32);
        limits.max_alloc = Some(for_pixels.saturating_add(METADATA_BYTES));
        limits
    }
}

/// The limits for a decoder whose pixels lie in the caller's memory: what it allocates is profiles and texts, which may be
/// compressed a thousandfold. [`Limits::check`] checks the sides first, so that the error names the limit.
pub(super) fn for_metadata() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_image_width = None;
    limits.max_image_height = None;
    limits.max_alloc = Some(METADATA_BYTES);
    limits
}
