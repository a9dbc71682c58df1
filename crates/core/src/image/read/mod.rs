//! Reads image files: PNG, JPEG, BMP, TIFF, WebP, and PNM (PGM, PPM, PBM, PAM). The format comes from the content, not the name.
//!
//! The values are converted, so that every caller sees the same picture: whole numbers are divided by the largest number of their bits
//! (255, 4095, 65 535 …); a palette is looked up; grey becomes three equal channels; **an alpha channel is ignored** (never blended: what
//! lies under a transparent pixel is read as it is stored); an EXIF or TIFF orientation is applied; colour profiles are ignored. CMYK is
//! converted to RGB. Floating-point values lie in `[0, 1]`. An animation, and a file of several pages, are refused.

mod error;
mod format;
mod jpeg;
mod limits;
mod stored;
mod tiff;
mod webp;

#[cfg(test)]
mod tests;

use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::codecs::{
    bmp::BmpDecoder, jpeg::JpegDecoder, png::PngDecoder, pnm::PnmDecoder, webp::WebPDecoder,
};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};

use super::{Image, Size};
pub use error::ReadError;
use format::{Content, Format};
pub use format::{IMAGE_EXTENSIONS, has_image_extension, has_unread_image_extension};
pub use limits::Limits;
use limits::for_metadata;
use pupilla_files::bounded_file::{self, MOST_DECODED};
pub use stored::{Depth, Stored, StoredImage, Values};

/// How image files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSettings {
    /// How large a file or an image may be.
    pub limits: Limits,
    /// How many bits of a value the camera uses, 1 to 32: the largest number of so many bits becomes 1. Cameras of 10 or 12 bits write
    /// 16-bit files whose values end at 1023 or 4095. `None`, the default: all bits that the file has.
    ///
    /// With `bits`, a file of fewer bits or with floating-point values is an error, and so is a larger value.
    pub bits: Option<u8>,
}

/// Reads `path` as `[height, width, 3]` in `[0, 1]`, with the default [`ReadSettings`].
///
/// # Errors
/// [`ReadError`], for every way in which a file can be missing, damaged, too large or of another kind.
pub fn read(path: &Path) -> Result<Image, ReadError> {
    read_with(path, &ReadSettings::default())
}

/// [`read`] with given settings.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, settings: &ReadSettings) -> Result<Image, ReadError> {
    read_stored(path, settings).map(|(image, _)| image)
}

/// [`read_with`], and how the file stores its values.
///
/// # Errors
/// As [`read`].
pub fn read_stored(path: &Path, settings: &ReadSettings) -> Result<(Image, Stored), ReadError> {
    stored(path, &settings.limits)?.to_image(path, settings.bits)
}

/// Decodes `path` in its own colour type, upright (orientation applied), with values that use the whole range of their type.
///
/// # Errors
/// As [`read`], but the values of a floating-point image are not checked.
pub fn decode(path: &Path, limits: &Limits) -> Result<DynamicImage, ReadError> {
    stored(path, limits).map(StoredImage::at_full_range)
}

/// Decodes `path` upright, with values as they are stored.
///
/// # Errors
/// As [`decode`].
pub fn stored(path: &Path, limits: &Limits) -> Result<StoredImage, ReadError> {
    let bytes = bounded_file::read(path, limits.file_bytes)
        .map_err(|error| ReadError::opening(path, error))?;
    decode_bytes(path, bytes, limits)
}

/// Decodes the bytes of a file that are in memory, upright; `path` names them in errors. Their number is not limited.
///
/// # Errors
/// As [`read`], but the values of a floating-point image are not checked.
pub fn decode_bytes(
    path: &Path,
    bytes: Vec<u8>,
    limits: &Limits,
) -> Result<StoredImage, ReadError> {
    let format = format_of(path, &bytes)?;
    let length = bytes.len() as u64;
    let (mut decoded, orientation) = if format == Format::Tiff {
        let (decoded, header) = tiff::decode(path, bytes, limits)?;
        (decoded, header.orientation)
    } else {
        let bytes = match format {
            Format::Jpeg => whole_jpeg(path, bytes, limits)?,
            _ => bytes,
        };
        let source = Box::new(Cursor::new(bytes.as_slice()));
        let mut opened = open(path, format, source, length, limits)?;
        let place = |source| ReadError::decoding(path, source);
        let orientation = opened.decoder.orientation().map_err(place)?;
        let image = DynamicImage::from_decoder(opened.decoder).map_err(place)?;
        let decoded = match opened.most {
            Some(most) => StoredImage::up_to(image, most),
            None => StoredImage::new(image),
        };
        (decoded, orientation)
    };
    decoded.image.apply_orientation(orientation);
    Ok(decoded)
}

/// Width and height of the upright image, from the header alone: pixel data may still be damaged.
///
/// # Errors
/// As [`read`], as far as the header shows; within the default [`Limits`].
pub fn size(path: &Path) -> Result<Size, ReadError> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let limits = Limits::default();
    let (file, length) = bounded_file::open(path, limits.file_bytes)
        .map_err(|error| ReadError::opening(path, error))?;
    let mut source = Box::new(BufReader::new(file));
    let start = source
        .fill_buf()
        .map_err(|error| ReadError::io(path, error))?;
    let format = format_of(path, start)?;
    let (width, height, orientation) = if format == Format::Tiff {
        let header = tiff::Header::read(path, source, length, &limits)?;
        (header.width, header.height, header.orientation)
    } else {
        let mut opened = open(path, format, source, length, &limits)?;
        let (width, height) = opened.decoder.dimensions();
        let orientation = opened.decoder.orientation();
        let orientation = orientation.map_err(|source| ReadError::decoding(path, source))?;
        (width, height, orientation)
    };
    let (width, height) = (width as usize, height as usize);
    Ok(match orientation {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => Size::new(height, width),
        _ => Size::new(width, height),
    })
}

/// The format of a file that starts with these bytes, if it can be read.
fn format_of(path: &Path, start: &[u8]) -> Result<Format, ReadError> {
    let path = path.to_path_buf();
    match format::recognise(&start[..start.len().min(format::START)]) {
        Content::Image(format) => Ok(format),
        Content::Other { format, cure } => Err(ReadError::OtherFormat { path, format, cure }),
        Content::Zeros if start.is_empty() => Err(ReadError::Empty { path }),
        Content::Zeros => Err(ReadError::damaged(&path, "it begins with zero bytes alone")),
        Content::Unknown => Err(ReadError::UnknownFormat { path }),
    }
}

/// A JPEG up to its last block, with an end marker there, once it is clear that all of its blocks are there.
fn whole_jpeg(path: &Path, mut bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, ReadError> {
    let frame = jpeg::frame(&bytes).map_err(|fault| fault.of(path))?;
    limits.check(path, frame.width.into(), frame.height.into())?;
    let end = jpeg::complete(&bytes).map_err(|fault| fault.of(path))?;
    bytes.truncate(end);
    bytes.extend([0xFF, 0xD9]);
    Ok(bytes)
}

impl jpeg::Fault {
    fn of(self, path: &Path) -> ReadError {
        match self {
            Self::Unsupported(kind) => ReadError::unsupported(path, kind),
            Self::CutShort => ReadError::Truncated {
                path: path.to_path_buf(),
            },
            Self::Damaged(reason) => ReadError::damaged(path, reason),
        }
    }
}

/// Bytes of an image: behind a pointer, so that the decoders are compiled once and not for each source.
trait Source: BufRead + Seek {}

impl<T: BufRead + Seek> Source for T {}

struct Opened<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    /// The stored value of white, if the file may say another than the largest of its type.
    most: Option<u32>,
}

/// Reads the header of a file that is no TIFF, and checks the size against `limits`.
fn open<'a>(
    path: &Path,
    format: Format,
    mut source: Box<dyn Source + 'a>,
    bytes: u64,
    limits: &Limits,
) -> Result<Opened<'a>, ReadError> {
    let place = |source| ReadError::decoding(path, source);
    let io = |source| ReadError::io(path, source);
    let allowed = match format {
        Format::Png | Format::WebP => for_metadata(),
        _ => limits.for_decoder(),
    };
    let mut most = None;
    let mut animated = false;
    let mut decoder: Box<dyn ImageDecoder + 'a> = match format {
        Format::Png => {
            let decoder = PngDecoder::with_limits(source, allowed.clone()).map_err(place)?;
            animated = decoder.is_apng().map_err(place)?;
            Box::new(decoder)
        }
        Format::WebP => {
            let length = webp::length(&mut source, bytes)
                .map_err(io)?
                .ok_or_else(|| ReadError::Truncated {
                    path: path.to_path_buf(),
                })?;
            let decoder = WebPDecoder::new(source.take(length)).map_err(place)?;
            animated = decoder.has_animation();
            Box::new(decoder)
        }
        Format::Jpeg => {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).map_err(io)?;
            // The decoder calls a kind that it does not know damaged.
            jpeg::frame(&bytes).map_err(|fault| fault.of(path))?;
            Box::new(JpegDecoder::new(Cursor::new(bytes)).map_err(place)?)
        }
        Format::Pnm => {
            let decoder = PnmDecoder::new(source).map_err(place)?;
            let header = decoder.header();
            most = header
                .as_bitmap()
                .is_none()
                .then(|| header.maximal_sample());
            Box::new(decoder)
        }
        Format::Bmp => Box::new(BmpDecoder::new(source).map_err(place)?),
        Format::Tiff => unreachable!("a TIFF has a reader of its own"),
    };
    let (width, height) = decoder.dimensions();
    limits.check(path, width, height)?;
    // A WebP of one colour takes no bits for its pixels at all.
    let largest = bytes.saturating_mul(MOST_DECODED);
    if format != Format::WebP && decoder.total_bytes() > largest {
        return Err(ReadError::TooShort {
            path: path.to_path_buf(),
            bytes,
            width,
            height,
        });
    }
    if animated {
        return Err(ReadError::Animated {
            path: path.to_path_buf(),
        });
    }
    decoder.set_limits(allowed).map_err(place)?;
    Ok(Opened { decoder, most })
}
