//! From the decompressed values of a TIFF to an image.

use image::{DynamicImage, ImageBuffer};
use tiff::decoder::DecodingResult;

use super::header::{Colours, Header};
use crate::image::read::stored::{Depth, StoredImage, largest};

/// The image of these values; `None` if they are not as many as the header says.
pub(super) fn picture(header: &Header, values: DecodingResult) -> Option<StoredImage> {
    match values {
        DecodingResult::U8(values) if header.bits < 8 => few_bits(header, &values),
        DecodingResult::U8(values) if header.bits > 8 => {
            let white = largest(header.bits);
            let values = whole(header, unpacked(header, &values), white as u16);
            let image = deep(header, values)?;
            Some(with_white(header, image, white))
        }
        DecodingResult::U8(values) => {
            let values = joined(header, values);
            let image = match &header.colours {
                Colours::Palette(palette) => shallow(header, coloured(&values, palette), 3),
                Colours::YCbCr => shallow(header, from_ycbcr(&values), 3),
                Colours::Cmyk => shallow(header, from_inks_8(header, &values), 3),
                _ => shallow(header, whole(header, values, u8::MAX), header.samples),
            };
            Some(StoredImage::new(image?))
        }
        DecodingResult::U16(values) => {
            let values = joined(header, values);
            if header.colours == Colours::Cmyk {
                let rgb = from_inks_16(header, &values);
                let (width, height) = (header.width, header.height);
                let image = ImageBuffer::from_raw(width, height, rgb)?;
                return Some(StoredImage::new(DynamicImage::ImageRgb16(image)));
            }
            deep(header, whole(header, values, u16::MAX)).map(StoredImage::new)
        }
        DecodingResult::U32(values) => {
            let values = whole(header, joined(header, values), u32::MAX);
            let image = floating(header, values.into_iter().map(|value| value as f32))?;
            Some(with_white(header, image, largest(32)))
        }
        DecodingResult::F16(values) => {
            let values = joined(header, values);
            float_picture(header, values.into_iter().map(|value| value.to_f32()))
        }
        DecodingResult::F32(values) => float_picture(header, joined(header, values).into_iter()),
        DecodingResult::F64(values) => {
            let values = joined(header, values);
            float_picture(header, values.into_iter().map(|value| value as f32))
        }
        _ => None,
    }
}

fn with_white(header: &Header, image: DynamicImage, white: f32) -> StoredImage {
    StoredImage {
        image,
        depth: Depth::Bits(header.bits),
        white,
        colour: header.colours == Colours::Rgb,
    }
}

/// Planes joined, so that the values of a pixel are neighbours.
fn joined<T: Copy>(header: &Header, values: Vec<T>) -> Vec<T> {
    if !header.planar {
        return values;
    }
    let pixels = header.width as usize * header.height as usize;
    let planes: Vec<&[T]> = values.chunks_exact(pixels).collect();
    (0..pixels)
        .flat_map(|at| planes.iter().map(move |plane| plane[at]))
        .collect()
}

/// Whole numbers whose white is the largest number; alpha is left as it is.
fn whole<T: Copy + std::ops::Sub<Output = T>>(
    header: &Header,
    mut values: Vec<T>,
    white: T,
) -> Vec<T> {
    if header.colours == Colours::InvertedGrey {
        for value in values.iter_mut().step_by(header.samples.into()) {
            *value = white - *value;
        }
    }
    values
}

/// Values of 1 to 15 bits, the highest bit first; each row begins with a new byte.
fn unpacked(header: &Header, bytes: &[u8]) -> Vec<u16> {
    let bits = u32::from(header.bits);
    let count = header.width as usize * usize::from(header.samples);
    let row_bytes = header.row_bytes(header.width) as usize;
    let mut values = Vec::with_capacity(count * header.height as usize);
    for row in bytes.chunks_exact(row_bytes) {
        let mut held = 0u32;
        let mut held_bits = 0;
        let mut bytes = row.iter();
        for _ in 0..count {
            while held_bits < bits {
                held = held << 8 | u32::from(bytes.next().copied().unwrap_or(0));
                held_bits += 8;
            }
            held_bits -= bits;
            values.push((held >> held_bits & ((1 << bits) - 1)) as u16);
        }
    }
    values
}

/// Grey or a palette in 1, 2 or 4 bits.
fn few_bits(header: &Header, bytes: &[u8]) -> Option<StoredImage> {
    let values = unpacked(header, bytes);
    let image = if let Colours::Palette(palette) = &header.colours {
        let values: Vec<u8> = values.iter().map(|&value| value as u8).collect();
        shallow(header, coloured(&values, palette), 3)
    } else {
        let step = 255 / ((1 << header.bits) - 1);
        let values = values.iter().map(|&value| (value * step) as u8).collect();
        shallow(header, whole(header, values, u8::MAX), 1)
    };
    Some(StoredImage::new(image?))
}

/// The colours of a palette. Programs store 8 bits as the higher or as both halves of 16; a few as the lower half.
fn coloured(values: &[u8], palette: &[u16]) -> Vec<u8> {
    let shift = if palette.iter().all(|&value| value < 256) {
        0
    } else {
        8
    };
    let size = palette.len() / 3;
    let colour =
        |value: u8| [0, 1, 2].map(|at| (palette[at * size + usize::from(value)] >> shift) as u8);
    values.iter().flat_map(|&value| colour(value)).collect()
}

/// The colours of JPEG files (ITU-T T.871).
fn from_ycbcr(values: &[u8]) -> Vec<u8> {
    let byte = |value: f32| value.round().clamp(0.0, 255.0) as u8;
    let mut rgb = Vec::with_capacity(values.len());
    for pixel in values.chunks_exact(3) {
        let [y, cb, cr] = [pixel[0], pixel[1], pixel[2]].map(f32::from);
        let (cb, cr) = (cb - 128.0, cr - 128.0);
        rgb.push(byte(y + 1.402 * cr));
        rgb.push(byte(y - 0.344_136 * cb - 0.714_136 * cr));
        rgb.push(byte(y + 1.772 * cb));
    }
    rgb
}

fn from_inks_8(header: &Header, values: &[u8]) -> Vec<u8> {
    from_inks(header, values, 255.0, |value| value as u8)
}

fn from_inks_16(header: &Header, values: &[u16]) -> Vec<u16> {
    from_inks(header, values, 65_535.0, |value| value as u16)
}

fn from_inks<T: Copy + Into<f32>>(
    header: &Header,
    values: &[T],
    most: f32,
    convert: impl Fn(f32) -> T,
) -> Vec<T> {
    let mut rgb = Vec::with_capacity(values.len());
    for pixel in values.chunks_exact(header.samples.into()) {
        let left = 1.0 - pixel[3].into() / most;
        rgb.extend([0, 1, 2].map(|at| convert((most - pixel[at].into()) * left)));
    }
    rgb
}

fn shallow(header: &Header, values: Vec<u8>, samples: u16) -> Option<DynamicImage> {
    let (width, height) = (header.width, header.height);
    Some(match samples {
        1 => DynamicImage::ImageLuma8(ImageBuffer::from_raw(width, height, values)?),
        2 => DynamicImage::ImageLumaA8(ImageBuffer::from_raw(width, height, values)?),
        3 => DynamicImage::ImageRgb8(ImageBuffer::from_raw(width, height, values)?),
        _ => DynamicImage::ImageRgba8(ImageBuffer::from_raw(width, height, values)?),
    })
}

fn deep(header: &Header, values: Vec<u16>) -> Option<DynamicImage> {
    let (width, height) = (header.width, header.height);
    Some(match header.samples {
        1 => DynamicImage::ImageLuma16(ImageBuffer::from_raw(width, height, values)?),
        2 => DynamicImage::ImageLumaA16(ImageBuffer::from_raw(width, height, values)?),
        3 => DynamicImage::ImageRgb16(ImageBuffer::from_raw(width, height, values)?),
        _ => DynamicImage::ImageRgba16(ImageBuffer::from_raw(width, height, values)?),
    })
}

fn float_picture(header: &Header, values: impl Iterator<Item = f32>) -> Option<StoredImage> {
    let inverted = header.colours == Colours::InvertedGrey;
    let values = values.map(|value| if inverted { 1.0 - value } else { value });
    let image = floating(header, values)?;
    Some(StoredImage {
        image,
        depth: Depth::Float,
        white: 1.0,
        colour: header.colours == Colours::Rgb,
    })
}

/// Red, green and blue as floating-point numbers, without alpha: the crate `image` has no such grey.
fn floating(header: &Header, values: impl Iterator<Item = f32>) -> Option<DynamicImage> {
    let samples = usize::from(header.samples);
    let grey = samples < 3;
    let pixels = header.width as usize * header.height as usize;
    let mut rgb = Vec::with_capacity(3 * pixels);
    for (at, value) in values.enumerate() {
        match at % samples {
            0 if grey => rgb.extend([value; 3]),
            0..3 if !grey => rgb.push(value),
            _ => {}
        }
    }
    let image = ImageBuffer::from_raw(header.width, header.height, rgb)?;
    Some(DynamicImage::ImageRgb32F(image))
}
