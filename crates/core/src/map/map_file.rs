//! Anomaly maps as files: TIFF, one channel, 32-bit float, the size of the original image.
//!
//! The format that MVTec's evaluation reads (`<defect>/<name>.tiff`), so that maps can go to any
//! tool and come from any tool without losing a bit.

use crate::image::Size;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::encoder::{TiffEncoder, colortype::Gray32Float};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use crate::map::anomaly_map::AnomalyMap;
use crate::metrics::NotFinite;
use pupilla_files::atomic_file::{self, WriteError};
use pupilla_files::bounded_file::{self, MOST_DECODED};

/// The longest side of a map that [`read`] accepts, in pixels.
pub const MAX_SIDE: u32 = 65_535;

/// The most pixels of a map that [`read`] accepts: 1 GiB of scores.
pub const MAX_PIXELS: u64 = 1 << 28;

/// The longest file of a map: the raw scores, and as many bytes again for other data of a writer.
const MAX_FILE_BYTES: u64 = 2 * 4 * MAX_PIXELS;

/// Why a map could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MapFileError {
    /// The file could not be opened or read.
    #[error("cannot read the anomaly map {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// The file is not a TIFF that can be decoded, or it is truncated.
    #[error("cannot decode the anomaly map {}: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The message of the decoder.
        source: TiffError,
    },
    /// The TIFF holds something else than one channel of 32-bit floats.
    #[error(
        "the anomaly map {} holds {found}; a map is one TIFF image of one channel of 32-bit floats: \
         save the scores as they were computed, not rescaled or rounded to levels, which changes \
         every figure",
        path.display()
    )]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The map is empty or larger than [`MAX_SIDE`] and [`MAX_PIXELS`] allow.
    #[error(
        "the anomaly map {} is {width}x{height} pixels; a side is 1 to {MAX_SIDE}, a map at most \
         {MAX_PIXELS} pixels",
        path.display()
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// The file has too few bytes for its scores: the header is false, or the file is cut short.
    #[error(
        "the anomaly map {} has {bytes} bytes, too few for {width}x{height} scores: it is damaged, write it again",
        path.display()
    )]
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
    /// The map has not the size of its image: resizing it here would change the figures.
    #[error(
        "the anomaly map {} is {map_size} pixels, but its image {} is {image_size}: give maps at the size of the \
         original images",
        path.display(), image.display()
    )]
    OtherSize {
        /// The file.
        path: PathBuf,
        /// Width and height of the map.
        map_size: Size,
        /// The image it belongs to.
        image: PathBuf,
        /// Width and height of the image.
        image_size: Size,
    },
    /// A score is NaN or infinite.
    #[error("the anomaly map {} is not finite: {source}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Where.
        source: NotFinite,
    },
}

/// Writes `map` as an uncompressed TIFF; [`read`] gives back the same bits.
///
/// # Errors
/// [`WriteError`] as in [`atomic_file::write`]; nothing is left half-written.
pub fn write(path: &Path, map: &AnomalyMap) -> Result<(), WriteError> {
    let side = |side| u32::try_from(side).map_err(io::Error::other);
    atomic_file::write(path, |file| {
        let (width, height) = (side(map.width())?, side(map.height())?);
        TiffEncoder::new(file)
            .and_then(|mut tiff| tiff.write_image::<Gray32Float>(width, height, map.scores()))
            .map_err(|error| match error {
                TiffError::IoError(error) => error,
                error => io::Error::other(error),
            })
    })
}

/// Reads a map that [`write()`] or another tool wrote; compressed TIFFs too.
///
/// # Errors
/// [`MapFileError`], which names the file, if it cannot be read or decoded, is too large, holds
/// several images, several channels or another type of number, or a score is not finite.
pub fn read(path: &Path) -> Result<AnomalyMap, MapFileError> {
    read_if(path, |_| Ok(()))
}

/// [`read()`] for the map of a certain image, which must have its size; another is refused before its scores
/// are read.
///
/// # Errors
/// As [`read()`], and [`MapFileError::OtherSize`] if `image_size` is another.
pub fn read_for(path: &Path, image: &Path, image_size: Size) -> Result<AnomalyMap, MapFileError> {
    read_if(path, |map_size| {
        if map_size == image_size {
            return Ok(());
        }
        Err(MapFileError::OtherSize {
            path: path.to_path_buf(),
            map_size,
            image: image.to_path_buf(),
            image_size,
        })
    })
}

/// Reads a map whose width and height `check` accepts.
fn read_if(
    path: &Path,
    check: impl FnOnce(Size) -> Result<(), MapFileError>,
) -> Result<AnomalyMap, MapFileError> {
    let decode = |error| {
        let path = path.to_path_buf();
        match error {
            TiffError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                MapFileError::Read { path, source }
            }
            source => MapFileError::Decode { path, source },
        }
    };
    let kind = |found: String| MapFileError::Kind {
        path: path.to_path_buf(),
        found,
    };
    let file = bounded_file::open(path, MAX_FILE_BYTES);
    let (file, bytes) = file.map_err(|error| decode(TiffError::IoError(error.into())))?;
    let mut limits = Limits::default();
    limits.decoding_buffer_size = 4 * MAX_PIXELS as usize;
    limits.intermediate_buffer_size = 4 * MAX_PIXELS as usize;
    let mut tiff = Decoder::new(BufReader::new(file))
        .map_err(decode)?
        .with_limits(limits);
    let (width, height) = tiff.dimensions().map_err(decode)?;
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width)
        || !sides.contains(&height)
        || u64::from(width) * u64::from(height) > MAX_PIXELS
    {
        return Err(MapFileError::Size {
            path: path.to_path_buf(),
            width,
            height,
        });
    }
    if u64::from(width) * u64::from(height) * 4 > bytes.saturating_mul(MOST_DECODED) {
        return Err(MapFileError::TooShort {
            path: path.to_path_buf(),
            bytes,
            width,
            height,
        });
    }
    match tiff.colortype().map_err(decode)? {
        ColorType::Gray(32) => {}
        other => return Err(kind(format!("{other:?} pixels"))),
    }
    check(Size::new(width as usize, height as usize))?;
    // A decoder turns such scores over: 1 - score, silently.
    let photometric = tiff.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation);
    if photometric.map_err(decode)? == Some(0) {
        return Err(kind("inverted grey levels (WhiteIsZero)".to_owned()));
    }
    if tiff.more_images() {
        return Err(kind("several images".to_owned()));
    }
    let scores = match tiff.read_image().map_err(decode)? {
        DecodingResult::F32(scores) => scores,
        _ => return Err(kind("32-bit integers".to_owned())),
    };
    if scores.len() as u64 != u64::from(width) * u64::from(height) {
        return Err(kind(format!("{} pixels of {width}x{height}", scores.len())));
    }
    let map = AnomalyMap::new(width as usize, height as usize, scores);
    NotFinite::check(&map).map_err(|source| MapFileError::NotFinite {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiff::encoder::colortype::{ColorType as Pixels, Gray8, Gray32, Gray64Float, RGB32Float};

    fn write_other<C: Pixels>(path: &Path, images: usize, data: &[C::Inner])
    where
        [C::Inner]: tiff::encoder::TiffValue,
    {
        let mut tiff = TiffEncoder::new(std::fs::File::create(path).unwrap()).unwrap();
        for _ in 0..images {
            tiff.write_image::<C>(3, 2, data).unwrap();
        }
    }

    #[test]
    fn a_map_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000.tiff");
        let values = [
            -0.0,
            0.0,
            f32::MIN,
            f32::MAX,
            f32::from_bits(1),
            -1e-30,
            0.1,
        ];
        for (width, height) in [(1, 1), (7, 3), (1, 300), (701, 403)] {
            let scores = (0..width * height).map(|n| values[n % 7] * ((n % 5) as f32 / 5.0));
            let map = AnomalyMap::new(width, height, scores.collect());
            write(&path, &map).unwrap();
            let back = read(&path).unwrap();
            assert_eq!((back.width(), back.height()), (width, height));
            let bits = |map: &AnomalyMap| -> Vec<u32> {
                map.scores().iter().map(|score| score.to_bits()).collect()
            };
            assert_eq!(bits(&back), bits(&map));
        }
    }

    #[test]
    fn errors_say_what_is_wrong_with_which_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("017.tiff");
        let error = |expected: &str| {
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains("017.tiff"), "{text}");
            assert!(text.contains(expected), "{text}");
        };
        error("cannot read");
        std::fs::write(&path, b"").unwrap();
        error("cannot decode");
        std::fs::write(&path, b"\x89PNG\r\n\x1a\n and more").unwrap();
        error("cannot decode");
        write_other::<Gray8>(&path, 1, &[0; 6]);
        error("holds Gray(8) pixels; a map is");
        write_other::<RGB32Float>(&path, 1, &[0.0; 18]);
        error("RGB(32)");
        write_other::<Gray64Float>(&path, 1, &[0.0; 6]);
        error("Gray(64)");
        write_other::<Gray32>(&path, 1, &[0; 6]);
        error("32-bit integers");
        write_other::<Gray32Float>(&path, 2, &[0.0; 6]);
        error("several images");
        write_other::<Gray32Float>(&path, 1, &[0.0, 0.0, 0.0, 0.0, f32::NAN, 0.0]);
        error("row 1, column 1 is NaN");
        let map = AnomalyMap::new(300, 200, vec![0.5; 60_000]);
        write(&path, &map).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in [4, 9, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            error("017.tiff");
        }
        let nowhere = folder.path().join("missing/000.tiff");
        assert!(write(&nowhere, &map).is_err());
    }
}
