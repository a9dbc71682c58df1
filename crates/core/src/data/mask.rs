//! Ground-truth masks: which pixels of an image are defective, and their connected regions.

use crate::image::Size;
use std::path::{Path, PathBuf};

use ::image::DynamicImage;

use crate::image::read::{self, Limits, ReadError};
use crate::map::anomaly_map::AnomalyMap;

/// Why a mask could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// The file cannot be read as an image, within the limits of every image.
    #[error("cannot use the mask: {0}")]
    Unreadable(#[from] ReadError),
    /// The file holds floating-point pixels, which have no agreed "above 0".
    #[error("the mask {} has floating-point pixels; save it with 8 or 16 bits", path.display())]
    Float {
        /// The mask.
        path: PathBuf,
    },
    /// A mask must have exactly the size of its image: resizing it would change the metrics.
    #[error(
        "the mask {} is {mask_size} pixels, but its image {} is {image_size}",
        mask.display(), image.display()
    )]
    Size {
        /// The mask.
        mask: PathBuf,
        /// Width and height of the mask.
        mask_size: Size,
        /// The image it belongs to.
        image: PathBuf,
        /// Width and height of the image.
        image_size: Size,
    },
}

/// For every pixel of an image, whether it is defective: `[height, width]`, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    defect: Vec<bool>,
    grey: usize,
}

impl Mask {
    /// Wraps `defect`, `[height, width]` in row-major order.
    ///
    /// # Panics
    /// If a side is 0 or `defect.len() != width * height`: a programming error.
    pub fn new(width: usize, height: usize, defect: Vec<bool>) -> Self {
        assert!(width > 0 && height > 0, "a mask has at least one pixel");
        assert_eq!(defect.len(), width * height, "[height, width]");
        Self {
            width,
            height,
            defect,
            grey: 0,
        }
    }

    /// The mask of a good image: no pixel is defective.
    ///
    /// # Panics
    /// If a side is 0.
    pub fn good(width: usize, height: usize) -> Self {
        Self::new(width, height, vec![false; width * height])
    }

    /// The pixels of `map` that score at least `threshold`.
    pub fn at_least(map: &AnomalyMap, threshold: f32) -> Self {
        let defect = map.scores().iter().map(|&score| score >= threshold);
        Self::new(map.width(), map.height(), defect.collect())
    }

    /// Reads a mask from a grey, colour or palette image of 8 or 16 bits.
    ///
    /// A pixel is defective where its value lies **above** `threshold`, on a scale of 0 to 255: 0
    /// takes every pixel that is not black, as MVTec's evaluation does. A 16-bit value counts as
    /// value / 257, unrounded; of a colour (a palette's entry too) the largest of red, green and
    /// blue counts; alpha does not.
    ///
    /// # Errors
    /// [`MaskError`] if the file cannot be read as an image within the default [`Limits`], or has
    /// floating-point pixels.
    pub fn read(path: &Path, threshold: u8) -> Result<Self, MaskError> {
        let image = read::decode(path, &Limits::default())?;
        let (defect, grey) = defect_pixels(&image, threshold).ok_or_else(|| MaskError::Float {
            path: path.to_path_buf(),
        })?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        Ok(Self {
            grey,
            ..Self::new(width, height, defect)
        })
    }

    /// [`Mask::read`] for the mask of a certain image, which must have its size.
    ///
    /// # Errors
    /// As [`Mask::read`], and [`MaskError::Size`] if `image_size` is another.
    pub fn read_for(
        path: &Path,
        threshold: u8,
        image: &Path,
        image_size: Size,
    ) -> Result<Self, MaskError> {
        let mask = Self::read(path, threshold)?;
        if mask.size() == image_size {
            Ok(mask)
        } else {
            Err(MaskError::Size {
                mask: path.to_path_buf(),
                mask_size: mask.size(),
                image: image.to_path_buf(),
                image_size,
            })
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

    /// Whether each pixel is defective, `[height, width]`.
    pub fn defect(&self) -> &[bool] {
        &self.defect
    }

    /// For a mask from a file: the number of pixels between its darkest and its brightest value. If there are such pixels, the
    /// threshold decides which of them are defective.
    pub fn grey_pixels(&self) -> usize {
        self.grey
    }

    /// Whether no pixel is defective.
    pub fn is_blank(&self) -> bool {
        !self.defect.contains(&true)
    }

    /// The connected components of the defective pixels; pixels that touch at a corner are
    /// connected (8-connectivity, the convention of MVTec's evaluation).
    ///
    /// Regions are numbered from 1 in the order of their first pixels, row by row.
    pub fn regions(&self) -> MaskRegions {
        let (width, height) = (self.width, self.height);
        let mut labels = vec![0_u32; self.defect.len()];
        let mut areas = Vec::new();
        let mut waiting = Vec::new();
        for first in 0..self.defect.len() {
            if !self.defect[first] || labels[first] != 0 {
                continue;
            }
            let label = areas.len() as u32 + 1;
            let mut area = 0;
            labels[first] = label;
            waiting.push(first);
            while let Some(at) = waiting.pop() {
                area += 1;
                let (row, column) = (at / width, at % width);
                for row in row.saturating_sub(1)..=(row + 1).min(height - 1) {
                    for column in column.saturating_sub(1)..=(column + 1).min(width - 1) {
                        let next = row * width + column;
                        if self.defect[next] && labels[next] == 0 {
                            labels[next] = label;
                            waiting.push(next);
                        }
                    }
                }
            }
            areas.push(area);
        }
        MaskRegions { labels, areas }
    }
}

/// The connected regions of a [`Mask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRegions {
    /// The region of each pixel, `[height, width]`: 0 outside all regions, else from 1.
    pub labels: Vec<u32>,
    /// The number of pixels of each region: region `n` is at `n - 1`, and has at least one.
    pub areas: Vec<usize>,
}

/// Whether each pixel's largest colour lies above `threshold` (of 255), and how many lie between black and
/// the highest; `None` for floats.
fn defect_pixels(image: &DynamicImage, threshold: u8) -> Option<(Vec<bool>, usize)> {
    fn above<T: Copy + Ord + Default>(
        values: &[T],
        channels: usize,
        colours: usize,
        limit: T,
    ) -> (Vec<bool>, usize) {
        let largest = |pixel: &[T]| pixel[1..colours].iter().fold(pixel[0], |a, &b| a.max(b));
        let levels = || values.chunks_exact(channels).map(largest);
        let Some(highest) = levels().max() else {
            return (Vec::new(), 0);
        };
        // Not the lowest level instead of black: a mask of 1 and 255 is one that marks every pixel.
        let between = levels().filter(|&level| level != T::default() && level != highest);
        let grey = between.count();
        (levels().map(|level| level > limit).collect(), grey)
    }
    let deep = u16::from(threshold) * 257;
    match image {
        DynamicImage::ImageLuma8(image) => Some(above(image, 1, 1, threshold)),
        DynamicImage::ImageLumaA8(image) => Some(above(image, 2, 1, threshold)),
        DynamicImage::ImageRgb8(image) => Some(above(image, 3, 3, threshold)),
        DynamicImage::ImageRgba8(image) => Some(above(image, 4, 3, threshold)),
        DynamicImage::ImageLuma16(image) => Some(above(image, 1, 1, deep)),
        DynamicImage::ImageLumaA16(image) => Some(above(image, 2, 1, deep)),
        DynamicImage::ImageRgb16(image) => Some(above(image, 3, 3, deep)),
        DynamicImage::ImageRgba16(image) => Some(above(image, 4, 3, deep)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage};

    fn drawn(rows: &[&str]) -> Mask {
        let defect = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#'));
        Mask::new(rows[0].len(), rows.len(), defect.collect())
    }

    #[test]
    fn corners_connect_and_borders_do_not_wrap() {
        let regions = drawn(&[
            "#..#", //
            ".#..", //
            "...#", //
            "#..#",
        ])
        .regions();
        assert_eq!(regions.areas, [2, 1, 2, 1]);
        assert_eq!(
            regions.labels,
            [1, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 3, 4, 0, 0, 3]
        );
        assert!(Mask::good(3, 2).is_blank());
        assert!(Mask::good(3, 2).regions().areas.is_empty());
    }

    #[test]
    fn a_large_region_needs_no_recursion() {
        let mask = Mask::new(1500, 1500, vec![true; 1500 * 1500]);
        assert_eq!(mask.regions().areas, [1500 * 1500]);
    }

    #[test]
    fn every_depth_and_colour_is_read_by_the_same_rule() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        GrayImage::from_vec(4, 1, vec![0, 1, 127, 255])
            .unwrap()
            .save(path("grey8.png"))
            .unwrap();
        ImageBuffer::<Luma<u16>, _>::from_vec(4, 1, vec![0_u16, 1, 127 * 257, 127 * 257 + 1])
            .unwrap()
            .save(path("grey16.png"))
            .unwrap();
        let mut colour = RgbImage::new(4, 1);
        colour.put_pixel(1, 0, Rgb([0, 0, 1]));
        colour.put_pixel(2, 0, Rgb([127, 0, 0]));
        colour.put_pixel(3, 0, Rgb([0, 128, 0]));
        colour.save(path("colour.png")).unwrap();
        for name in ["grey8.png", "grey16.png", "colour.png"] {
            let any = Mask::read(&path(name), 0).unwrap();
            assert_eq!(any.defect(), [false, true, true, true], "{name}");
            let half = Mask::read(&path(name), 127).unwrap();
            assert_eq!(half.defect(), [false, false, false, true], "{name}");
            assert_eq!(half.grey_pixels(), 2, "{name}");
        }
    }

    #[test]
    fn errors_name_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000_mask.png");
        assert!(matches!(
            Mask::read(&path, 0),
            Err(MaskError::Unreadable(ReadError::NotFound { .. }))
        ));
        std::fs::write(&path, b"").unwrap();
        let empty = Mask::read(&path, 0).unwrap_err();
        assert!(
            matches!(empty, MaskError::Unreadable(ReadError::Empty { .. })),
            "{empty:?}"
        );
        GrayImage::new(30, 20).save(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let image = Path::new("test/crack/000.png");
        assert!(Mask::read_for(&path, 0, image, Size::new(30, 20)).is_ok());
        let size = Mask::read_for(&path, 0, image, Size::new(30, 21)).unwrap_err();
        let text = size.to_string();
        assert!(
            text.contains("000_mask.png is 30×20") && text.ends_with("crack/000.png is 30×21"),
            "{text}"
        );
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let cut = Mask::read(&path, 0).unwrap_err();
        assert!(cut.to_string().contains("000_mask.png"), "{cut}");
    }
}
