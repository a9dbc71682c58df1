//! Which format a file has: by its content where it is opened, by its name where folders are walked.

use std::ffi::OsStr;
use std::path::Path;

/// File extensions of the formats that can be read, in lower case: folders are walked with them.
pub const IMAGE_EXTENSIONS: [&str; 16] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "jif", "bmp", "dib", "tif", "tiff", "webp", "pgm", "ppm",
    "pbm", "pam", "pnm",
];

/// File extensions of images and documents with images that cannot be read, in lower case.
const UNREAD_EXTENSIONS: [&str; 51] = [
    "arw", "avif", "cr2", "cr3", "dcm", "dds", "dicom", "dng", "eps", "exr", "fits", "fts", "gif",
    "hdr", "heic", "heif", "hif", "ico", "j2c", "j2k", "jls", "jng", "jp2", "jpf", "jpx", "jxl",
    "jxr", "mng", "nef", "npy", "nrw", "orf", "pcx", "pdf", "pef", "pfm", "psb", "psd", "qoi",
    "raf", "raw", "rw2", "sgi", "srw", "svg", "svgz", "tga", "wdp", "wmf", "xcf", "xpm",
];

/// Whether the name of `path` ends in one of [`IMAGE_EXTENSIONS`], in upper or lower case.
pub fn has_image_extension(path: &Path) -> bool {
    has_extension(path, &IMAGE_EXTENSIONS)
}

/// Whether the name of `path` ends as the name of an image that cannot be read, in upper or lower case: `.gif`, `.heic`, `.dng` …
///
/// Folders are walked without such files; a survey of a folder names them.
pub fn has_unread_image_extension(path: &Path) -> bool {
    has_extension(path, &UNREAD_EXTENSIONS)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|own| {
        extensions
            .iter()
            .any(|known| own.eq_ignore_ascii_case(known))
    })
}

/// A format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Bmp,
    Tiff,
    WebP,
    /// PGM, PPM, PBM and PAM.
    Pnm,
}

/// What the first bytes of a file say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An image that can be read, unless it is damaged or of a kind that cannot.
    Image(Format),
    /// A known format that is not read.
    Other {
        format: &'static str,
        cure: &'static str,
    },
    /// Only zero bytes: the file was laid out, and never written.
    Zeros,
    Unknown,
}

/// As many bytes as [`recognise`] needs of a file that has them.
pub(super) const START: usize = 512;

const CONVERT: &str = "convert it to PNG";
const REPLACE: &str = "put the image itself in its place, or remove it";

/// Images and documents that are not read: where their mark lies, the mark, the format's name.
const OTHERS: [(usize, &[u8], &str); 36] = [
    (0, b"GIF8", "a GIF image"),
    (4, b"ftyphei", "a HEIC image"),
    (4, b"ftyphev", "a HEIC image"),
    (4, b"ftypmif1", "a HEIF image"),
    (4, b"ftypmsf1", "a HEIF image"),
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftypcrx", "a raw camera file"),
    (0, b"\0\0\0\x0CjP  \r\n", "a JPEG 2000 image"),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0CJXL \r\n", "a JPEG XL image"),
    (0, b"\xFF\x0A", "a JPEG XL image"),
    (0, b"II\xBC\x01", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"gimp xcf", "a GIMP image"),
    (128, b"DICM", "a DICOM image"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"#?RGBE", "a Radiance HDR image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (0, b"DDS ", "a DDS image"),
    (0, b"qoif", "a QOI image"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"Pf\n", "a PFM image"),
    (0, b"PF\n", "a PFM image"),
    (0, b"\x8AMNG", "an MNG animation"),
    (0, b"\x8BJNG", "a JNG image"),
    (0, b"FUJIFILMCCD-RAW", "a raw camera file"),
    (0, b"IIRO", "a raw camera file"),
    (0, b"IIRS", "a raw camera file"),
    (0, b"MMOR", "a raw camera file"),
    (0, b"IIU\0", "a raw camera file"),
    // A TIFF by its first bytes.
    (8, b"CR\x02\0", "a raw camera file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
];

/// What stands where an image was meant to be, as [`OTHERS`].
const NO_IMAGES: [(usize, &[u8], &str); 7] = [
    (4, b"ftyp", "a video"),
    (8, b"AVI ", "a video"),
    (0, b"\x1A\x45\xDF\xA3", "a video"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1F\x8B", "a gzip archive"),
    (0, b"7z\xBC\xAF", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
];

/// The marks of the formats that can be read, but for WebP and PNM.
const IMAGES: [(&[u8], Format); 7] = [
    (b"\x89PNG", Format::Png),
    (b"\xFF\xD8", Format::Jpeg),
    (b"BM", Format::Bmp),
    (b"II\x2A\0", Format::Tiff),
    (b"MM\0\x2A", Format::Tiff),
    // BigTIFF.
    (b"II\x2B\0", Format::Tiff),
    (b"MM\0\x2B", Format::Tiff),
];

/// The content of a file that starts with `start`, its first [`START`] bytes or all of them.
pub(super) fn recognise(start: &[u8]) -> Content {
    let has = |at: usize, mark: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let named = |table: &[(usize, &[u8], &'static str)], cure| {
        let found = table.iter().find(|(at, mark, _)| has(*at, mark));
        found.map(|&(_, _, format)| Content::Other { format, cure })
    };
    // The raw files of some cameras start as a TIFF.
    if let Some(other) = named(&OTHERS, CONVERT).or_else(|| named(&NO_IMAGES, REPLACE)) {
        return other;
    }
    if let Some((_, format)) = IMAGES.iter().find(|(mark, _)| has(0, mark)) {
        return Content::Image(*format);
    }
    if has(0, b"RIFF") && has(8, b"WEBP") {
        return Content::Image(Format::WebP);
    }
    if let [b'P', b'1'..=b'7', space, ..] = start
        && space.is_ascii_whitespace()
    {
        return Content::Image(Format::Pnm);
    }
    if start.iter().all(|&byte| byte == 0) {
        return Content::Zeros;
    }
    text(start).unwrap_or(Content::Unknown)
}

/// Texts: drawings, a server's error page, the pointer of a version control system.
fn text(start: &[u8]) -> Option<Content> {
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{FEFF}').trim_start();
    let (format, cure) = if start.starts_with("version https://git-lfs") {
        ("a pointer of Git LFS", REPLACE)
    } else if !start.starts_with('<') {
        return None;
    } else if start.contains("<svg") {
        ("an SVG drawing", CONVERT)
    } else if start.contains("<!doctype html") || start.contains("<html") {
        ("an HTML page", REPLACE)
    } else {
        return None;
    };
    Some(Content::Other { format, cure })
}
