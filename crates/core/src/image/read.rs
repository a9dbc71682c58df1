//! Reads image files: PNG, JPEG, BMP, TIFF, WebP. The format comes from the content, not the name.
//!
//! The values are converted, so that every caller sees the same picture: 8-bit values are divided by 255 and 16-bit values by 65 535; a
//! palette is looked up; grey becomes three equal channels; **an alpha channel is ignored** (never blended: what lies under a
//! transparent pixel is read as it is stored); an EXIF or TIFF orientation is applied; colour profiles are ignored. CMYK is converted
//! to RGB. Of a TIFF with several pages the first is read; a TIFF with a palette or with grey 32-bit values is refused.

use crate::image::Size;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::codecs::{png::PngDecoder, webp::WebPDecoder};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::Image;
use pupilla_files::bounded_file::{self, BoundedFileError, MOST_DECODED};

/// File extensions of the formats that can be read, in lower case: folders are walked with them.
pub const IMAGE_EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"];

/// Whether the name of `path` ends in one of [`IMAGE_EXTENSIONS`], in upper or lower case.
pub fn has_image_extension(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|own| {
        IMAGE_EXTENSIONS
            .iter()
            .any(|known| own.eq_ignore_ascii_case(known))
    })
}

/// How large a file or an image may be; checked on the header, before anything is allocated for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest side in pixels; 32 768 by default.
    pub side: u32,
    /// Most pixels, width × height; 100 million by default (1.2 GB as [`Image`]).
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
    fn check(&self, path: &Path, width: u32, height: u32) -> Result<(), ReadError> {
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
    fn for_decoder(&self) -> image::Limits {
        let mut limits = for_metadata();
        let for_pixels = self.pixels.saturating_mul(32);
        limits.max_alloc = Some(for_pixels.saturating_add(METADATA_BYTES));
        limits
    }
}

/// The limits for a decoder whose pixels lie in the caller's memory: what it allocates is profiles and texts, which may be
/// compressed a thousandfold. [`Limits::check`] checks the sides first, so that the error names the limit.
fn for_metadata() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_image_width = None;
    limits.max_image_height = None;
    limits.max_alloc = Some(METADATA_BYTES);
    limits
}

/// An image file could not be read. Every variant names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no such file.
    #[error("{} does not exist: check the path", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// The file is there, but the system does not let us read it.
    #[error("{} may not be read: check its permissions", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// Any other trouble while opening or reading.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// A folder, a pipe or a device instead of a file.
    #[error("{} is not a file: give the path of one image", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file has zero bytes.
    #[error("{} is empty (zero bytes): copy it again, or remove it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The content has no known format, whatever the file's name says.
    #[error("{} is not a PNG, JPEG, BMP, TIFF or WebP image: convert it, or remove it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before its image does, or its content contradicts itself.
    #[error("{} is damaged or cut short ({source}): copy it again, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The message of the decoder.
        source: ImageError,
    },
    /// A JPEG without its end marker, or a WebP that is shorter than its header or one of its parts claims. Decoders may fill the
    /// missing part with grey, or trust the claimed length.
    #[error("{} is cut short (its end is missing): copy it again, or remove it", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// A known format, but a kind of it that cannot be read.
    #[error("{} is of a kind that cannot be read ({source}): convert it to 8- or 16-bit PNG", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The message of the decoder.
        source: ImageError,
    },
    /// An animation. The program does not guess which of its frames shows the part.
    #[error("{} is an animation: save the frame to look at as an image of its own", path.display())]
    Animated {
        /// The file.
        path: PathBuf,
    },
    /// The image exceeds [`Limits::side`] or [`Limits::pixels`].
    #[error(
        "{} has {width}×{height} pixels; at most {} a side and {} in all are allowed: reduce or crop it, or raise the limit",
        path.display(), limits.side, limits.pixels
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Width its header gives.
        width: u32,
        /// Height its header gives.
        height: u32,
        /// The limits in force.
        limits: Limits,
    },
    /// The file exceeds [`Limits::file_bytes`].
    #[error("{} has {bytes} bytes; at most {allowed} are allowed: reduce it, or raise the limit", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit in force.
        allowed: u64,
    },
    /// Decoding would need more memory than [`Limits`] allow.
    #[error("{} needs more memory to decode than is allowed ({source}): convert it, or raise the limit", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// The message of the decoder.
        source: ImageError,
    },
    /// The file has too few bytes for its pixels, even with the best compression: the header is false, or the file is cut short.
    #[error("{} has {bytes} bytes, too few for {width}×{height} pixels: it is damaged, copy it again, or remove it", path.display())]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// Width its header gives.
        width: u32,
        /// Height its header gives.
        height: u32,
    },
    /// A side of length 0.
    #[error("{} has no pixels: remove it", path.display())]
    NoPixels {
        /// The file.
        path: PathBuf,
    },
    /// A floating-point image with a value that is not a number in `[0, 1]`.
    #[error("{} holds the value {value}, outside [0, 1]: scale the image to [0, 1], or save it with 8 or 16 bits", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The first such value; it may be NaN or infinite.
        value: f32,
    },
}

impl ReadError {
    /// The file that could not be read.
    pub fn path(&self) -> &Path {
        match self {
            Self::NotFound { path, .. }
            | Self::Denied { path, .. }
            | Self::Io { path, .. }
            | Self::NotAFile { path }
            | Self::Empty { path }
            | Self::UnknownFormat { path }
            | Self::Damaged { path, .. }
            | Self::Truncated { path }
            | Self::Unsupported { path, .. }
            | Self::Animated { path }
            | Self::TooLarge { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::Memory { path, .. }
            | Self::TooShort { path, .. }
            | Self::NoPixels { path }
            | Self::OutOfRange { path, .. } => path,
        }
    }

    fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path, source },
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            _ => Self::Io { path, source },
        }
    }

    fn opening(path: &Path, error: BoundedFileError) -> Self {
        let owned = path.to_path_buf();
        match error {
            BoundedFileError::Io(source) => Self::io(path, source),
            BoundedFileError::NotAFile => Self::NotAFile { path: owned },
            BoundedFileError::TooLarge { bytes, allowed } => Self::FileTooLarge {
                path: owned,
                bytes,
                allowed,
            },
        }
    }

    fn decoding(path: &Path, source: ImageError) -> Self {
        let path = path.to_path_buf();
        match source {
            ImageError::Unsupported(_) => Self::Unsupported { path, source },
            ImageError::Limits(_) => Self::Memory { path, source },
            // A decoder that runs off the end of the bytes reports an I/O error.
            _ => Self::Damaged { path, source },
        }
    }
}

/// Reads `path` as `[height, width, 3]` in `[0, 1]`, within the default [`Limits`].
///
/// # Errors
/// [`ReadError`], for every way in which a file can be missing, damaged, too large or of another kind.
pub fn read(path: &Path) -> Result<Image, ReadError> {
    read_with(path, &Limits::default())
}

/// [`read`] within given limits.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: &Path, limits: &Limits) -> Result<Image, ReadError> {
    let decoded = decode(path, limits)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let pixels = match &decoded {
        DynamicImage::ImageLuma8(image) => grey(image, 1, from_8),
        DynamicImage::ImageLumaA8(image) => grey(image, 2, from_8),
        DynamicImage::ImageRgb8(image) => rgb(image, 3, from_8),
        DynamicImage::ImageRgba8(image) => rgb(image, 4, from_8),
        DynamicImage::ImageLuma16(image) => grey(image, 1, from_16),
        DynamicImage::ImageLumaA16(image) => grey(image, 2, from_16),
        DynamicImage::ImageRgb16(image) => rgb(image, 3, from_16),
        DynamicImage::ImageRgba16(image) => rgb(image, 4, from_16),
        DynamicImage::ImageRgb32F(image) => rgb(image, 3, |value| value),
        DynamicImage::ImageRgba32F(image) => rgb(image, 4, |value| value),
        // The enum may grow; what it grows by is at most 8-bit precise here.
        other => rgb(&other.to_rgb8(), 3, from_8),
    };
    if let Some(&value) = pixels.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        return Err(ReadError::OutOfRange {
            path: path.to_path_buf(),
            value,
        });
    }
    Ok(Image::new(width, height, pixels))
}

fn from_8(value: u8) -> f32 {
    f32::from(value) / 255.0
}

fn from_16(value: u16) -> f32 {
    f32::from(value) / 65_535.0
}

/// The first of `channels` values, three times.
fn grey<T: Copy>(values: &[T], channels: usize, convert: impl Fn(T) -> f32) -> Vec<f32> {
    let mut pixels = Vec::with_capacity(values.len() / channels * 3);
    for pixel in values.chunks_exact(channels) {
        pixels.extend([convert(pixel[0]); 3]);
    }
    pixels
}

/// The first three of `channels` values.
fn rgb<T: Copy>(values: &[T], channels: usize, convert: impl Fn(T) -> f32) -> Vec<f32> {
    let mut pixels = Vec::with_capacity(values.len() / channels * 3);
    for pixel in values.chunks_exact(channels) {
        pixels.extend([convert(pixel[0]), convert(pixel[1]), convert(pixel[2])]);
    }
    pixels
}

/// Decodes `path` in its own depth and colour type, upright (orientation applied).
///
/// # Errors
/// As [`read`], but the values of a floating-point image are not checked.
pub fn decode(path: &Path, limits: &Limits) -> Result<DynamicImage, ReadError> {
    let bytes = bounded_file::read(path, limits.file_bytes)
        .map_err(|error| ReadError::opening(path, error))?;
    if bytes.is_empty() {
        return Err(ReadError::Empty {
            path: path.to_path_buf(),
        });
    }
    let content = Box::new(Cursor::new(bytes.as_slice()));
    let mut opened = open(path, content, bytes.len() as u64, limits)?;
    if opened.format == ImageFormat::Jpeg && !jpeg_has_its_end(&bytes) {
        return Err(ReadError::Truncated {
            path: path.to_path_buf(),
        });
    }
    let orientation = opened
        .decoder
        .orientation()
        .map_err(|source| ReadError::decoding(path, source))?;
    let mut image = DynamicImage::from_decoder(opened.decoder)
        .map_err(|source| ReadError::decoding(path, source))?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Width and height of the upright image, from the header alone: pixel data may still be damaged.
///
/// # Errors
/// As [`read`], as far as the header shows; within the default [`Limits`].
pub fn size(path: &Path) -> Result<Size, ReadError> {
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let limits = Limits::default();
    let (file, length) = bounded_file::open(path, limits.file_bytes)
        .map_err(|error| ReadError::opening(path, error))?;
    if length == 0 {
        return Err(ReadError::Empty {
            path: path.to_path_buf(),
        });
    }
    let mut opened = open(path, Box::new(BufReader::new(file)), length, &limits)?;
    let (width, height) = opened.decoder.dimensions();
    let orientation = opened
        .decoder
        .orientation()
        .map_err(|source| ReadError::decoding(path, source))?;
    let (width, height) = (width as usize, height as usize);
    Ok(match orientation {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => Size::new(height, width),
        _ => Size::new(width, height),
    })
}

/// Bytes of an image: behind a pointer, so that the decoders are compiled once and not for each source.
trait Content: BufRead + Seek {}

impl<T: BufRead + Seek> Content for T {}

struct Opened<'a> {
    format: ImageFormat,
    decoder: Box<dyn ImageDecoder + 'a>,
}

/// Recognises the format, reads the header and checks the size against `limits`.
fn open<'a>(
    path: &Path,
    content: Box<dyn Content + 'a>,
    bytes: u64,
    limits: &Limits,
) -> Result<Opened<'a>, ReadError> {
    let place = |source| ReadError::decoding(path, source);
    let reader = ImageReader::new(content)
        .with_guessed_format()
        .map_err(|source| ReadError::io(path, source))?;
    let Some(format) = reader.format() else {
        return Err(ReadError::UnknownFormat {
            path: path.to_path_buf(),
        });
    };
    let allowed = match format {
        ImageFormat::Png | ImageFormat::WebP => for_metadata(),
        _ => limits.for_decoder(),
    };
    // PNG and WebP are opened by name, to see an animation for what it is.
    let (mut decoder, animated): (Box<dyn ImageDecoder + 'a>, bool) = match format {
        ImageFormat::Png => {
            let decoder =
                PngDecoder::with_limits(reader.into_inner(), allowed.clone()).map_err(place)?;
            let animated = decoder.is_apng().map_err(place)?;
            (Box::new(decoder), animated)
        }
        ImageFormat::WebP => {
            let mut content = reader.into_inner();
            let length = webp_length(&mut content, bytes)
                .map_err(|source| ReadError::io(path, source))?
                .ok_or_else(|| ReadError::Truncated {
                    path: path.to_path_buf(),
                })?;
            let decoder = WebPDecoder::new(content.take(length)).map_err(place)?;
            let animated = decoder.has_animation();
            (Box::new(decoder), animated)
        }
        ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::Tiff => {
            // The size is checked below, to say which limit it was.
            let mut reader = reader;
            reader.no_limits();
            (Box::new(reader.into_decoder().map_err(place)?), false)
        }
        _ => {
            return Err(ReadError::UnknownFormat {
                path: path.to_path_buf(),
            });
        }
    };
    let (width, height) = decoder.dimensions();
    limits.check(path, width, height)?;
    // A WebP of one colour takes no bits for its pixels at all.
    let most = bytes.saturating_mul(MOST_DECODED);
    if format != ImageFormat::WebP && decoder.total_bytes() > most {
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
    Ok(Opened { format, decoder })
}

/// Whether the end marker follows the last scan of a JPEG.
///
/// A decoder may fill a missing end with grey and say nothing: a defect that is not there. Segments
/// are stepped over by their length, so that the end marker of an embedded thumbnail does not count.
fn jpeg_has_its_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&byte) = bytes.get(at) {
        let Some(&code) = bytes.get(at + 1) else {
            return false;
        };
        if byte != 0xFF || code == 0xFF {
            // Entropy-coded data, or a fill byte before a marker.
            at += 1;
            continue;
        }
        match code {
            0xD9 => return true,
            // A stuffed 0xFF, restart markers, start of image, temporary: no segment follows.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
            _ => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    false
}

/// How many of a WebP's `bytes` belong to it, once it is clear that it is as long as its header says (its last byte may be missing, as
/// it may be padding) and that every part of it lies within it: the decoder believes their lengths. `None` if not.
fn webp_length(content: &mut (impl Read + Seek), bytes: u64) -> io::Result<Option<u64>> {
    let mut four = [0; 4];
    content.seek(SeekFrom::Start(4))?;
    content.read_exact(&mut four)?;
    let promised = 8 + u64::from(u32::from_le_bytes(four));
    let length = promised.min(bytes);
    let mut whole = bytes + 1 >= promised;
    // Behind RIFF, the length and WEBP.
    let mut at = 12;
    while whole && at + 8 <= length {
        content.seek(SeekFrom::Start(at + 4))?;
        content.read_exact(&mut four)?;
        let part = u64::from(u32::from_le_bytes(four));
        at += 8 + part.next_multiple_of(2);
        whole = at <= length + 1;
    }
    content.rewind()?;
    Ok(whole.then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageBuffer, ImageEncoder, Luma, Rgb, Rgba};
    use std::path::PathBuf;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A picture with structure in both directions, so that a flip or a cut shows.
    fn photo(width: u32, height: u32) -> ImageBuffer<Rgb<u8>, Vec<u8>> {
        ImageBuffer::from_fn(width, height, |x, y| {
            Rgb([
                (x * 255 / width) as u8,
                (y * 255 / height) as u8,
                ((x * 7 + y * 13) % 64) as u8,
            ])
        })
    }

    const FORMATS: [(ImageFormat, &str); 5] = [
        (ImageFormat::Png, "png"),
        (ImageFormat::Jpeg, "jpg"),
        (ImageFormat::Bmp, "bmp"),
        (ImageFormat::Tiff, "tif"),
        (ImageFormat::WebP, "webp"),
    ];

    #[test]
    fn every_format_reads_whatever_its_name() {
        let folder = Folder::new();
        for (format, extension) in FORMATS {
            let path = folder.file("picture.png", &encoded(photo(20, 10), format));
            let image = read(&path).unwrap();
            assert_eq!((image.width(), image.height()), (20, 10), "{extension}");
            assert_eq!(size(&path).unwrap(), Size::new(20, 10), "{extension}");
            let differences: Vec<f32> = (image.pixels().iter())
                .zip(photo(20, 10).as_raw())
                .map(|(got, expected)| (got - f32::from(*expected) / 255.0).abs())
                .collect();
            if format == ImageFormat::Jpeg {
                let mean = differences.iter().sum::<f32>() / differences.len() as f32;
                assert!(mean < 0.1, "{extension}: {mean}");
            } else {
                assert!(differences.iter().all(|&d| d < 1e-6), "{extension}");
            }
        }
    }

    #[test]
    fn depths_and_colours_become_rgb_in_the_unit_interval() {
        let folder = Folder::new();
        let read = |image: DynamicImage| {
            let path = folder.file("x.png", &encoded(image, ImageFormat::Png));
            read(&path).unwrap().pixel(0, 0)
        };
        let grey8: ImageBuffer<Luma<u8>, _> = ImageBuffer::from_pixel(1, 1, Luma([51]));
        assert_eq!(read(grey8.into()), [0.2; 3]);
        let grey16: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([257]));
        assert_eq!(read(grey16.into()), [257.0 / 65_535.0; 3]);
        let rgb16: ImageBuffer<Rgb<u16>, _> =
            ImageBuffer::from_pixel(1, 1, Rgb([0, 13_107, 65_535]));
        assert_eq!(read(rgb16.into()), [0.0, 0.2, 1.0]);
        // Fully transparent, and still read as stored.
        let rgba: ImageBuffer<Rgba<u8>, _> = ImageBuffer::from_pixel(1, 1, Rgba([255, 51, 0, 0]));
        assert_eq!(read(rgba.into()), [1.0, 0.2, 0.0]);
    }

    #[test]
    fn a_palette_is_looked_up() {
        let folder = Folder::new();
        // 2×1, two palette entries: red, then a blue-ish one.
        let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
        let mut chunk = |kind: &[u8; 4], data: &[u8]| {
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(kind);
            bytes.extend(data);
            bytes.extend(crc32(&[kind.as_slice(), data].concat()).to_be_bytes());
        };
        chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0]);
        chunk(b"PLTE", &[255, 0, 0, 0, 51, 255]);
        // zlib: one stored block of three bytes (filter 0, indices 1 and 0), Adler-32.
        chunk(
            b"IDAT",
            &[0x78, 1, 1, 3, 0, 0xFC, 0xFF, 0, 1, 0, 0, 5, 0, 2],
        );
        chunk(b"IEND", &[]);
        let image = read(&folder.file("palette.png", &bytes)).unwrap();
        assert_eq!(image.pixel(0, 0), [0.0, 0.2, 1.0]);
        assert_eq!(image.pixel(0, 1), [1.0, 0.0, 0.0]);
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    /// A JPEG with an EXIF segment that holds an orientation and nothing else.
    fn oriented_jpeg(orientation: u8) -> Vec<u8> {
        // Left half black, right half white.
        let image: ImageBuffer<Luma<u8>, _> =
            ImageBuffer::from_fn(32, 16, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
        let plain = encoded(image, ImageFormat::Jpeg);
        let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01".to_vec();
        exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
        exif.extend([0; 4]);
        let mut bytes = plain[..2].to_vec();
        bytes.extend([0xFF, 0xE1]);
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend(&plain[2..]);
        bytes
    }

    #[test]
    fn exif_orientation_is_applied() {
        let folder = Folder::new();
        for (orientation, (width, height), white) in [
            (1, (32, 16), (0, 31)),
            (3, (32, 16), (0, 0)),
            (6, (16, 32), (31, 0)),
            (8, (16, 32), (0, 0)),
        ] {
            let path = folder.file("turned.jpg", &oriented_jpeg(orientation));
            let image = read(&path).unwrap();
            assert_eq!((image.width(), image.height()), (width, height));
            assert_eq!(size(&path).unwrap(), Size::new(width, height));
            assert!(image.pixel(white.0, white.1)[0] > 0.9, "{orientation}");
            let (row, column) = (height - 1 - white.0, width - 1 - white.1);
            assert!(image.pixel(row, column)[0] < 0.1, "{orientation}");
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_that_names_it() {
        let folder = Folder::new();
        for (format, extension) in FORMATS {
            let whole = encoded(photo(33, 21), format);
            // What a PNG ends with (CRC and IEND) and a WebP's padding carry no pixels.
            let needed = match format {
                ImageFormat::Png => whole.len() - 16,
                ImageFormat::WebP => whole.len() - 1,
                _ => whole.len(),
            };
            for length in (1..needed).step_by(if whole.len() > 1000 { 23 } else { 1 }) {
                let path = folder.file("cut.img", &whole[..length]);
                let error = read(&path)
                    .map(drop)
                    .expect_err(&format!("{extension} cut to {length} bytes"));
                assert!(error.to_string().contains("cut.img"));
                assert_eq!(error.path(), path);
            }
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let folder = Folder::new();
        let mut state = 1u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize
        };
        for (format, _) in FORMATS {
            let whole = encoded(photo(17, 9), format);
            for _ in 0..200 {
                let mut bytes = whole.clone();
                for _ in 0..=random() % 4 {
                    let at = random() % bytes.len().min(if random() % 2 == 0 { 64 } else { 4096 });
                    bytes[at] = random() as u8;
                }
                let path = folder.file("damaged", &bytes);
                let _ = read(&path);
                let _ = size(&path);
            }
        }
    }

    #[test]
    fn bad_files_have_an_error_each() {
        let folder = Folder::new();
        let missing = folder.0.path().join("missing.png");
        assert!(matches!(read(&missing), Err(ReadError::NotFound { .. })));
        assert!(matches!(
            read(folder.0.path()),
            Err(ReadError::NotAFile { .. })
        ));
        let empty = folder.file("empty.png", b"");
        assert!(matches!(read(&empty), Err(ReadError::Empty { .. })));
        for content in [b"hello, this is text".as_slice(), b"GIF89a\x01\0\x01\0"] {
            let text = folder.file("text.png", content);
            assert!(matches!(read(&text), Err(ReadError::UnknownFormat { .. })));
        }
        // A header that promises 60 000 × 60 000 pixels, in a file of a few bytes.
        let mut huge = encoded(photo(4, 4), ImageFormat::Bmp);
        huge[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        huge[22..26].copy_from_slice(&60_000u32.to_le_bytes());
        let huge = folder.file("huge.bmp", &huge);
        let error = read(&huge).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
        let photo = folder.file("photo.png", &encoded(photo(40, 30), ImageFormat::Png));
        let limits = Limits {
            pixels: 1199,
            ..Limits::default()
        };
        let error = read_with(&photo, &limits).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge { width: 40, .. }));
        let limits = Limits {
            file_bytes: 10,
            ..limits
        };
        let error = read_with(&photo, &limits).unwrap_err();
        assert!(matches!(error, ReadError::FileTooLarge { .. }));
    }

    #[test]
    fn floating_point_values_must_lie_in_the_unit_interval() {
        let folder = Folder::new();
        let tiff = |value: f32| {
            let image: ImageBuffer<Rgb<f32>, _> =
                ImageBuffer::from_pixel(2, 2, Rgb([0.25, 1.0, value]));
            folder.file("float.tif", &encoded(image, ImageFormat::Tiff))
        };
        assert_eq!(read(&tiff(0.5)).unwrap().pixel(1, 1), [0.25, 1.0, 0.5]);
        for bad in [f32::NAN, f32::INFINITY, -0.1, 1.5] {
            let error = read(&tiff(bad)).unwrap_err();
            assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
        }
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_does_not_count() {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0, 0];
        assert!(!jpeg_has_its_end(&bytes));
        bytes.extend([0xFF, 0xD9, 1, 2, 3]);
        assert!(jpeg_has_its_end(&bytes), "bytes after the end are allowed");
    }

    #[test]
    fn an_animation_is_refused() {
        let folder = Folder::new();
        let whole = {
            let mut bytes = Vec::new();
            image::codecs::png::PngEncoder::new(&mut bytes)
                .write_image(&[7; 12], 2, 2, ExtendedColorType::Rgb8)
                .unwrap();
            bytes
        };
        // acTL (two frames, endless) after IHDR makes a PNG an animation.
        let mut animated = whole[..33].to_vec();
        let chunk = [b"acTL".as_slice(), &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
        animated.extend(8u32.to_be_bytes());
        animated.extend(&chunk);
        animated.extend(crc32(&chunk).to_be_bytes());
        animated.extend(&whole[33..]);
        let path = folder.file("animated.png", &animated);
        assert!(matches!(read(&path), Err(ReadError::Animated { .. })));
    }

    #[test]
    fn an_animated_webp_is_refused_too() {
        let folder = Folder::new();
        let still = encoded(photo(2, 2), ImageFormat::WebP);
        // Everything behind RIFF, the length and WEBP is one chunk: the frame's pixels.
        let pixels = &still[12..];
        let mut body = b"WEBPVP8X\x0A\0\0\0\x02\0\0\0\x01\0\0\x01\0\0".to_vec();
        body.extend(b"ANIM\x06\0\0\0\0\0\0\0\0\0");
        for _ in 0..2 {
            body.extend(b"ANMF");
            body.extend((16 + pixels.len() as u32).to_le_bytes());
            body.extend(b"\0\0\0\0\0\0\x01\0\0\x01\0\0\x0A\0\0\0");
            body.extend(pixels);
        }
        let bytes = [b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat();
        let path = folder.file("animated.webp", &bytes);
        let error = read(&path).unwrap_err();
        assert!(matches!(error, ReadError::Animated { .. }), "{error}");
    }

    #[test]
    fn a_cmyk_jpeg_becomes_rgb() {
        let folder = Folder::new();
        // 8×8, four components without subsampling, every coefficient 0: all values are 128. Each
        // Huffman table has one code, "0": "no difference" for DC, "end of block" for AC.
        let mut bytes = vec![0xFF, 0xD8];
        let mut segment = |marker: u8, content: &[u8]| {
            bytes.extend([0xFF, marker]);
            bytes.extend((content.len() as u16 + 2).to_be_bytes());
            bytes.extend(content);
        };
        segment(0xEE, b"Adobe\0\x64\0\0\0\0\0");
        segment(0xDB, &[[0].as_slice(), &[1; 64]].concat());
        let components = [1, 2, 3, 4].map(|id| [id, 0x11, 0]).concat();
        segment(0xC0, &[[8, 0, 8, 0, 8, 4].as_slice(), &components].concat());
        for table in [0x00, 0x10] {
            segment(0xC4, &[[table, 1].as_slice(), &[0; 15], &[0]].concat());
        }
        let components = [1, 2, 3, 4].map(|id| [id, 0]).concat();
        segment(0xDA, &[[4].as_slice(), &components, &[0, 63, 0]].concat());
        bytes.extend([0x00, 0xFF, 0xD9]);
        let image = read(&folder.file("cmyk.jpg", &bytes)).unwrap();
        assert_eq!((image.width(), image.height()), (8, 8));
        // Half the ink of each of three colours, and half black.
        let [red, green, blue] = image.pixel(4, 4);
        assert!(
            (red - 0.25).abs() < 0.01 && red == green && green == blue,
            "{red}"
        );
    }

    #[test]
    fn a_grey_float_tiff_is_refused_with_advice() {
        let folder = Folder::new();
        let mut bytes = Cursor::new(Vec::new());
        tiff::encoder::TiffEncoder::new(&mut bytes)
            .unwrap()
            .write_image::<tiff::encoder::colortype::Gray32Float>(2, 1, &[0.0, 1.0])
            .unwrap();
        let path = folder.file("map.tif", bytes.get_ref());
        let error = read(&path).unwrap_err();
        assert!(matches!(error, ReadError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("convert it"));
    }

    #[test]
    fn extensions_in_either_case() {
        assert!(has_image_extension(Path::new("a/B.PNG")));
        assert!(has_image_extension(Path::new("a.b.tiff")));
        assert!(!has_image_extension(Path::new("png")));
        assert!(!has_image_extension(Path::new("notes.txt")));
    }
}
