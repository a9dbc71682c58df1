//! Why an image file cannot be read.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use image::ImageError;

use super::{Depth, Limits};
use pupilla_files::bounded_file::BoundedFileError;

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
    #[error("{} is not a PNG, JPEG, BMP, TIFF, WebP, PGM or PPM image: convert it, or remove it", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The content has a format that is known, but not read.
    #[error("{} is {format}, which is not read: {cure}", path.display())]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// The format with its article, as in "a GIF image".
        format: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The file ends before its image does, or its content contradicts itself.
    #[error("{} is damaged or cut short ({source}): copy it again, or remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The message of the decoder.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file ends before its last pixel. Decoders may fill the missing part with grey.
    #[error("{} is cut short (its end is missing): copy it again, or remove it", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// A known format, but a kind of it that cannot be read.
    #[error("{} is of a kind that cannot be read ({kind}): convert it to 8- or 16-bit PNG", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The kind, as in "a 12-bit JPEG".
        kind: String,
    },
    /// An animation. The program does not guess which of its frames shows the part.
    #[error("{} is an animation: save the frame to look at as an image of its own", path.display())]
    Animated {
        /// The file.
        path: PathBuf,
    },
    /// A file with several full pages. The program does not guess which page shows the part.
    #[error("{} has {pages} pages: save the page to look at as an image of its own", path.display())]
    SeveralPages {
        /// The file.
        path: PathBuf,
        /// How many pages it has, at least 2. Thumbnails and masks are no pages. Counting stops at 10 000.
        pages: usize,
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
        source: Box<dyn Error + Send + Sync>,
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
    /// The file's depth does not allow the significant bits that [`ReadSettings::bits`](super::ReadSettings::bits) demands.
    #[error("{} has {depth}, but {bits} bits were expected: images of one camera setting belong together, remove the others", path.display())]
    OtherDepth {
        /// The file.
        path: PathBuf,
        /// How its values are stored.
        depth: Depth,
        /// The significant bits that were expected.
        bits: u8,
    },
    /// A value that needs more significant bits than [`ReadSettings::bits`](super::ReadSettings::bits) says.
    #[error("{} holds the value {value}, more than {bits} bits: give the number of bits that the camera uses, or remove the file", path.display())]
    MoreBits {
        /// The file.
        path: PathBuf,
        /// Its largest value, as stored.
        value: f64,
        /// The significant bits that were expected.
        bits: u8,
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
            | Self::OtherFormat { path, .. }
            | Self::Damaged { path, .. }
            | Self::Truncated { path }
            | Self::Unsupported { path, .. }
            | Self::Animated { path }
            | Self::SeveralPages { path, .. }
            | Self::TooLarge { path, .. }
            | Self::FileTooLarge { path, .. }
            | Self::Memory { path, .. }
            | Self::TooShort { path, .. }
            | Self::NoPixels { path }
            | Self::OutOfRange { path, .. }
            | Self::OtherDepth { path, .. }
            | Self::MoreBits { path, .. } => path,
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path, source },
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            _ => Self::Io { path, source },
        }
    }

    pub(super) fn opening(path: &Path, error: BoundedFileError) -> Self {
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

    /// The error of a decoder of the crate `image`.
    pub(super) fn decoding(path: &Path, source: ImageError) -> Self {
        match source {
            ImageError::Unsupported(_) => Self::unsupported(path, source.to_string()),
            ImageError::Limits(_) => Self::Memory {
                path: path.to_path_buf(),
                source: source.into(),
            },
            // A decoder that runs off the end of the bytes reports an I/O error. Some messages have several lines.
            _ => {
                let message = source.to_string();
                let words: Vec<_> = message.split_whitespace().collect();
                Self::damaged(path, words.join(" "))
            }
        }
    }

    pub(super) fn damaged(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            source: source.into(),
        }
    }

    pub(super) fn unsupported(path: &Path, kind: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_path_buf(),
            kind: kind.into(),
        }
    }
}
