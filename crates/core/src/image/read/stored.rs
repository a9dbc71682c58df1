//! A decoded file, with the values as they are stored; what becomes of them in an [`Image`].

use std::fmt;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, RgbImage};

use super::ReadError;
use crate::image::{Image, Size};

/// How the values of an image file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whole numbers of so many bits, 8 to 32. Fewer than 8 bits count as 8, and a palette has the depth of its colours.
    Bits(u8),
    /// Floating-point numbers.
    Float,
}

impl Depth {
    /// The bits of a value; `None` for floating-point numbers.
    pub fn bits(self) -> Option<u8> {
        match self {
            Self::Bits(bits) => Some(bits),
            Self::Float => None,
        }
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits(bits) => write!(f, "values of {bits} bits"),
            Self::Float => f.write_str("floating-point values"),
        }
    }
}

/// How an image file stores its values, which an [`Image`] no longer tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// The depth of the values.
    pub depth: Depth,
    /// The largest value of the image as it is stored, alpha not counted: 0 to 2ᵇ − 1 for b bits, 0 to 1 for floating-point numbers.
    pub highest: f64,
    /// Whether the file stores colours; grey otherwise.
    pub colour: bool,
}

/// An image in its own depth and colour type, as a file or a camera gives it. [`to_image`](Self::to_image) converts it.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// 8 and 16 bits and floating-point numbers; 32-bit numbers too are in an `f32` image.
    pub(super) image: DynamicImage,
    pub(super) depth: Depth,
    /// The stored value of white: it becomes 1.
    pub(super) white: f32,
    pub(super) colour: bool,
}

/// The values of an image: rows from top to bottom, the colours of a pixel beside each other.
#[derive(Clone, Debug)]
pub enum Values {
    /// White is 255.
    Bits8(Vec<u8>),
    /// White is 65 535.
    Bits16(Vec<u16>),
    /// White is 1.
    Float(Vec<f32>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Bits8(values) => values.len(),
            Self::Bits16(values) => values.len(),
            Self::Float(values) => values.len(),
        }
    }
}

impl StoredImage {
    /// An image of values in memory: grey (one value for each pixel) or red, green and blue (three values).
    ///
    /// `None` if a side is 0 or above `u32::MAX`, or the values are neither one nor three for each pixel.
    pub fn of_values(size: Size, values: Values) -> Option<Self> {
        let side = |side: usize| u32::try_from(side).ok().filter(|&side| side > 0);
        let (width, height) = (side(size.width)?, side(size.height)?);
        let colour = if values.len() == size.area() {
            false
        } else if values.len() == size.area().checked_mul(3)? {
            true
        } else {
            return None;
        };
        let image = match (values, colour) {
            (Values::Bits8(values), false) => GrayImage::from_raw(width, height, values)?.into(),
            (Values::Bits8(values), true) => RgbImage::from_raw(width, height, values)?.into(),
            (Values::Bits16(values), false) => {
                DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, values)?)
            }
            (Values::Bits16(values), true) => {
                DynamicImage::ImageRgb16(ImageBuffer::from_raw(width, height, values)?)
            }
            (Values::Float(values), colour) => {
                // The crate `image` has no grey of floating-point numbers.
                let values = if colour {
                    values
                } else {
                    values.into_iter().flat_map(|value| [value; 3]).collect()
                };
                DynamicImage::ImageRgb32F(ImageBuffer::from_raw(width, height, values)?)
            }
        };
        let stored = Self::new(image);
        Some(Self { colour, ..stored })
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        Size::new(self.image.width() as usize, self.image.height() as usize)
    }

    /// An image whose values use the whole range of their type.
    pub(super) fn new(image: DynamicImage) -> Self {
        let colour = image.color();
        let depth = match colour.bits_per_pixel() / u16::from(colour.channel_count()) {
            32 => Depth::Float,
            bits => Depth::Bits(bits as u8),
        };
        let white = match depth {
            Depth::Bits(bits) => largest(bits),
            Depth::Float => 1.0,
        };
        Self {
            image,
            depth,
            white,
            colour: colour.has_color(),
        }
    }

    /// An image whose values the decoder has scaled to the range of their type, and whose file has them up to `most`.
    pub(super) fn up_to(image: DynamicImage, most: u32) -> Self {
        let mut decoded = Self::new(image);
        let white = most as f32;
        if white >= decoded.white {
            return decoded;
        }
        let share = white / decoded.white;
        let stored_8 = |value: &mut u8| *value = (f32::from(*value) * share).round() as u8;
        let stored_16 = |value: &mut u16| *value = (f32::from(*value) * share).round() as u16;
        match &mut decoded.image {
            DynamicImage::ImageLuma8(image) => image.iter_mut().for_each(stored_8),
            DynamicImage::ImageRgb8(image) => image.iter_mut().for_each(stored_8),
            DynamicImage::ImageLuma16(image) => image.iter_mut().for_each(stored_16),
            DynamicImage::ImageRgb16(image) => image.iter_mut().for_each(stored_16),
            _ => return decoded,
        }
        decoded.white = white;
        let bits = (u32::BITS - most.leading_zeros()) as u8;
        decoded.depth = Depth::Bits(bits.max(8));
        decoded
    }

    /// The image with values that use the whole range of their type; floating-point values are divided by white.
    pub(super) fn at_full_range(self) -> DynamicImage {
        let mut image = self.image;
        let white = self.white;
        let to_8 = |value: &mut u8| *value = (f32::from(*value) / white * 255.0).round() as u8;
        let to_16 =
            |value: &mut u16| *value = (f32::from(*value) / white * 65_535.0).round() as u16;
        match &mut image {
            DynamicImage::ImageLuma8(image) if white < 255.0 => image.iter_mut().for_each(to_8),
            DynamicImage::ImageRgb8(image) if white < 255.0 => image.iter_mut().for_each(to_8),
            DynamicImage::ImageLuma16(image) if white < 65_535.0 => {
                image.iter_mut().for_each(to_16);
            }
            DynamicImage::ImageRgb16(image) if white < 65_535.0 => {
                image.iter_mut().for_each(to_16);
            }
            DynamicImage::ImageRgb32F(image) => image.iter_mut().for_each(|value| *value /= white),
            _ => {}
        }
        image
    }

    /// The image as every caller sees it, and how it was stored. `path` names it in errors. With `bits`, white is the largest number of
    /// so many bits ([`ReadSettings::bits`](super::ReadSettings::bits)).
    ///
    /// # Errors
    /// If a value is larger than `bits` allow, or a floating-point value is outside of `[0, 1]`, or `bits` do not fit the depth.
    pub fn to_image(&self, path: &Path, bits: Option<u8>) -> Result<(Image, Stored), ReadError> {
        if let Some(bits) = bits
            && !matches!(self.depth, Depth::Bits(own) if own >= bits)
        {
            return Err(ReadError::OtherDepth {
                path: path.to_path_buf(),
                depth: self.depth,
                bits,
            });
        }
        let white = bits.map_or(self.white, largest);
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        let (pixels, highest) = match &self.image {
            DynamicImage::ImageLuma8(image) => spread(image, 1, 1, white),
            DynamicImage::ImageLumaA8(image) => spread(image, 2, 1, white),
            DynamicImage::ImageRgb8(image) => spread(image, 3, 3, white),
            DynamicImage::ImageRgba8(image) => spread(image, 4, 3, white),
            DynamicImage::ImageLuma16(image) => spread(image, 1, 1, white),
            DynamicImage::ImageLumaA16(image) => spread(image, 2, 1, white),
            DynamicImage::ImageRgb16(image) => spread(image, 3, 3, white),
            DynamicImage::ImageRgba16(image) => spread(image, 4, 3, white),
            DynamicImage::ImageRgb32F(image) => spread(image, 3, 3, white),
            DynamicImage::ImageRgba32F(image) => spread(image, 4, 3, white),
            // The enum may grow; what it grows by is at most 8-bit precise here.
            other => spread(&other.to_rgb8(), 3, 3, 255.0),
        };
        match bits {
            Some(bits) if highest > white => {
                return Err(ReadError::MoreBits {
                    path: path.to_path_buf(),
                    value: highest.into(),
                    bits,
                });
            }
            _ => {}
        }
        if self.depth == Depth::Float
            && let Some(&value) = pixels.iter().find(|value| !(0.0..=1.0).contains(*value))
        {
            return Err(ReadError::OutOfRange {
                path: path.to_path_buf(),
                value,
            });
        }
        let stored = Stored {
            depth: self.depth,
            highest: highest.into(),
            colour: self.colour,
        };
        Ok((Image::new(width, height, pixels), stored))
    }
}

/// The largest number of so many bits; at least 1.
pub(super) fn largest(bits: u8) -> f32 {
    ((1u64 << bits.clamp(1, 63)) - 1) as f32
}

/// The first `colours` (1 or 3) of `channels` values of each pixel as red, green and blue, divided by `white`; and the largest of these
/// values.
fn spread<T: Copy + Into<f32> + PartialOrd>(
    values: &[T],
    channels: usize,
    colours: usize,
    white: f32,
) -> (Vec<f32>, f32) {
    let larger = |a: T, b: T| if b > a { b } else { a };
    let highest = if channels == colours {
        values.iter().copied().reduce(larger)
    } else {
        let pixels = values.chunks_exact(channels);
        pixels
            .flat_map(|pixel| pixel[..colours].iter().copied())
            .reduce(larger)
    };
    let unit = |value: T| value.into() / white;
    let mut rgb = vec![0.0; values.len() / channels * 3];
    for (rgb, pixel) in rgb.chunks_exact_mut(3).zip(values.chunks_exact(channels)) {
        if colours == 1 {
            rgb.fill(unit(pixel[0]));
        } else {
            rgb.copy_from_slice(&[unit(pixel[0]), unit(pixel[1]), unit(pixel[2])]);
        }
    }
    (rgb, highest.map_or(0.0, Into::into))
}
