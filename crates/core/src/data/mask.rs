//! Ground-truth masks: which pixels of an image are defective, and their connected regions.

use crate::image::Size;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
        "the mask {} is {mask_size} pixels, but its image {} is {image_size}: {}",
        mask.display(), image.display(), size_remedy(*mask_size, *image_size)
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

fn size_remedy(mask: Size, image: Size) -> &'static str {
    if (mask.width, mask.height) == (image.height, image.width) {
        "the image is probably turned by its EXIF orientation, turn the mask in the same way"
    } else {
        "save the mask in the size of its image"
    }
}

/// The files that say which pixels of an image are defective.
#[derive(Clone, Debug, PartialEq)]
pub struct GroundTruth {
    files: Vec<PathBuf>,
    /// `None`: the file is a mask, whose connected pixels are regions.
    saturation: Option<Arc<[Saturation]>>,
}

/// How much of a region must be found, as MVTec LOCO AD states it for each kind of defect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saturation {
    /// The value of the region's pixels in its file.
    pub pixel_value: u8,
    /// The pixels that must be found, or their share of the region's area.
    pub threshold: f64,
    /// Whether the threshold is a share.
    pub relative: bool,
}

impl GroundTruth {
    /// One mask, whose connected pixels are regions.
    pub fn of_mask(file: PathBuf) -> Self {
        Self {
            files: vec![file],
            saturation: None,
        }
    }

    /// Files that hold one region each. A region whose pixel value is not in `saturation` must be found as a whole.
    pub fn of_regions(files: Vec<PathBuf>, saturation: Arc<[Saturation]>) -> Self {
        Self {
            files,
            saturation: Some(saturation),
        }
    }

    /// The files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The mask of a certain image ([`Mask::read`]).
    ///
    /// # Errors
    /// As [`Mask::read`], and [`MaskError::Size`] if a file has another size than the image.
    pub fn read_for(
        &self,
        threshold: u8,
        image: &Path,
        image_size: Size,
    ) -> Result<Mask, MaskError> {
        let mut whole = Mask::good(image_size.width, image_size.height);
        for file in &self.files {
            let (mask, highest) = Mask::read_with_highest(file, threshold)?;
            if mask.size() != image_size {
                return Err(MaskError::Size {
                    mask: file.clone(),
                    mask_size: mask.size(),
                    image: image.to_path_buf(),
                    image_size,
                });
            }
            match &self.saturation {
                None => whole = mask,
                Some(saturation) => whole.add_region(&mask, highest, saturation),
            }
        }
        Ok(whole)
    }
}

/// For every pixel of an image, whether it is defective: `[height, width]`, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    defect: Vec<bool>,
    grey: usize,
    in_alpha: bool,
    given: Vec<GivenRegion>,
}

/// A region that the ground truth names, instead of the connected pixels of a mask. Its pixels need not be connected, and it may overlap
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenRegion {
    /// The places of its pixels in the image, ascending; at least one.
    pub pixels: Vec<u32>,
    /// The number of its pixels that must be found, at least 1 and at most all.
    pub saturation: u32,
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
            in_alpha: false,
            given: Vec::new(),
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
        Ok(Self::read_with_highest(path, threshold)?.0)
    }

    /// [`Mask::read`], and the highest value of 0 to 255 in the file.
    fn read_with_highest(path: &Path, threshold: u8) -> Result<(Self, u8), MaskError> {
        let image = read::decode(path, &Limits::default())?;
        let levels = Levels::of(&image, threshold).ok_or_else(|| MaskError::Float {
            path: path.to_path_buf(),
        })?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mask = Self {
            grey: levels.grey,
            in_alpha: levels.in_alpha,
            ..Self::new(width, height, levels.defect)
        };
        Ok((mask, levels.highest))
    }

    /// Marks the pixels of `region` too, and names them as a region. A blank region is none.
    pub(crate) fn add_region(&mut self, region: &Self, value: u8, saturation: &[Saturation]) {
        let pixels = region.defect.iter().enumerate();
        let pixels = pixels.filter(|(_, defect)| **defect);
        let pixels: Vec<u32> = pixels.map(|(at, _)| at as u32).collect();
        if pixels.is_empty() {
            return;
        }
        for &at in &pixels {
            self.defect[at as usize] = true;
        }
        self.grey += region.grey;
        self.in_alpha |= region.in_alpha;
        let area = pixels.len() as f64;
        let own = saturation.iter().find(|own| own.pixel_value == value);
        let needed = own.map_or(area, |own| {
            if own.relative {
                own.threshold * area
            } else {
                own.threshold
            }
        });
        self.given.push(GivenRegion {
            saturation: needed.round().clamp(1.0, area) as u32,
            pixels,
        });
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

    /// The regions that the ground truth names; empty if the connected pixels are the regions.
    pub fn given_regions(&self) -> &[GivenRegion] {
        &self.given
    }

    /// For a mask from a file: the number of pixels between its darkest and its brightest value. If there are such pixels, the
    /// threshold decides which of them are defective.
    pub fn grey_pixels(&self) -> usize {
        self.grey
    }

    /// For a mask from a file: whether all its colours are equal, but not its alpha values, which are not read.
    pub fn lies_in_alpha(&self) -> bool {
        self.in_alpha
    }

    /// The share of the pixels that are defective, from 0 to 1.
    pub fn marked_share(&self) -> f64 {
        let marked = self.defect.iter().filter(|&&defect| defect).count();
        marked as f64 / self.defect.len() as f64
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

/// The values of a mask's file.
struct Levels {
    /// Whether each pixel's largest colour lies above the threshold.
    defect: Vec<bool>,
    /// The pixels between black and the highest value.
    grey: usize,
    /// The highest value, of 255.
    highest: u8,
    /// Whether the colours are all equal, and the alpha values are not.
    in_alpha: bool,
}

impl Levels {
    /// `None` for floats.
    fn of(image: &DynamicImage, threshold: u8) -> Option<Self> {
        fn above<T: Copy + Ord + Default>(
            values: &[T],
            channels: usize,
            colours: usize,
            limit: T,
            of_255: impl Fn(T) -> u8,
        ) -> Levels {
            let largest = |pixel: &[T]| pixel[1..colours].iter().fold(pixel[0], |a, &b| a.max(b));
            let levels = || values.chunks_exact(channels).map(largest);
            let highest = levels().max().unwrap_or_default();
            // Not the lowest level instead of black: a mask of 1 and 255 is one that marks every pixel.
            let between = levels().filter(|&level| level != T::default() && level != highest);
            let alpha = || {
                values
                    .chunks_exact(channels)
                    .map(|pixel| pixel[channels - 1])
            };
            let has_alpha =
                channels > colours && alpha().any(|value| Some(value) != alpha().next());
            Levels {
                in_alpha: has_alpha && levels().all(|level| level == highest),
                grey: between.count(),
                defect: levels().map(|level| level > limit).collect(),
                highest: of_255(highest),
            }
        }
        let deep = u16::from(threshold) * 257;
        let shallow = |value: u16| (value / 257) as u8;
        match image {
            DynamicImage::ImageLuma8(image) => Some(above(image, 1, 1, threshold, |value| value)),
            DynamicImage::ImageLumaA8(image) => Some(above(image, 2, 1, threshold, |value| value)),
            DynamicImage::ImageRgb8(image) => Some(above(image, 3, 3, threshold, |value| value)),
            DynamicImage::ImageRgba8(image) => Some(above(image, 4, 3, threshold, |value| value)),
            DynamicImage::ImageLuma16(image) => Some(above(image, 1, 1, deep, shallow)),
            DynamicImage::ImageLumaA16(image) => Some(above(image, 2, 1, deep, shallow)),
            DynamicImage::ImageRgb16(image) => Some(above(image, 3, 3, deep, shallow)),
            DynamicImage::ImageRgba16(image) => Some(above(image, 4, 3, deep, shallow)),
            _ => None,
        }
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
        let truth = GroundTruth::of_mask(path.clone());
        assert!(truth.read_for(0, image, Size::new(30, 20)).is_ok());
        let size = truth.read_for(0, image, Size::new(30, 21)).unwrap_err();
        let text = size.to_string();
        assert!(
            text.contains("000_mask.png is 30×20") && text.contains("crack/000.png is 30×21: save"),
            "{text}"
        );
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let cut = Mask::read(&path, 0).unwrap_err();
        assert!(cut.to_string().contains("000_mask.png"), "{cut}");
    }
}
