//! An image in memory: RGB, `f32`, `[0, 1]`. Reading is in [`read`], resizing in [`resize`].

pub(crate) mod canvas;
pub mod read;
pub mod resize;
mod size;

pub use size::Size;

/// An RGB image, rows from top to bottom, pixels interleaved: `[height, width, 3]`, values in `[0, 1]`.
///
/// Grey images have three equal channels: every network here was made for RGB.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

impl Image {
    /// Reads an image file within the default limits ([`read::Limits`]).
    ///
    /// # Errors
    /// [`ReadError`](read::ReadError), which names the file: it cannot be opened, is no image, is damaged or is too large.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, read::ReadError> {
        read::read(path.as_ref())
    }

    /// Wraps `pixels`, `[height, width, 3]` in row-major order.
    ///
    /// # Panics
    /// If a side is 0 or `pixels.len() != width * height * 3`: a programming error, never the
    /// result of reading a file.
    pub fn new(width: usize, height: usize, pixels: Vec<f32>) -> Self {
        assert!(width > 0 && height > 0, "an image has at least one pixel");
        assert_eq!(pixels.len(), width * height * 3, "[height, width, 3]");
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Width and height in pixels, each at least 1.
    pub fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values, `[height, width, 3]`, in `[0, 1]`.
    pub fn pixels(&self) -> &[f32] {
        &self.pixels
    }

    /// The part of `height` × `width` pixels from a row and a column on.
    ///
    /// # Panics
    /// If it is empty or reaches beyond the image: a programming error.
    #[must_use]
    pub fn crop(&self, top: usize, left: usize, height: usize, width: usize) -> Self {
        assert!(
            top + height <= self.height && left + width <= self.width,
            "a crop lies within its image"
        );
        let pixels = (top..top + height)
            .flat_map(|row| &self.pixels[(row * self.width + left) * 3..][..width * 3])
            .copied()
            .collect();
        Self::new(width, height, pixels)
    }

    /// Red, green, blue at a row and a column.
    pub fn pixel(&self, row: usize, column: usize) -> [f32; 3] {
        let at = (row * self.width + column) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_keeps_its_pixels() {
        let image = Image::new(4, 3, (0..36).map(|at| at as f32 / 36.0).collect());
        let crop = image.crop(1, 2, 2, 2);
        assert_eq!([crop.width(), crop.height()], [2, 2]);
        for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(crop.pixel(row, column), image.pixel(row + 1, column + 2));
        }
    }
}
