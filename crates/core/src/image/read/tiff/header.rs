//! The header of a TIFF: which of its pages is the image, and how its values are stored.

use std::collections::HashSet;
use std::path::Path;

use image::metadata::Orientation;
use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::{CompressionMethod, IfdPointer, PhotometricInterpretation, SampleFormat, Tag};
use tiff::{TiffError, TiffResult};

use super::failure;
use crate::image::read::{Limits, ReadError, Source};
use pupilla_files::bounded_file::MOST_DECODED;

/// Counting of pages stops here.
const MOST_PAGES: usize = 10_000;

/// Directories have fewer entries than this together.
const MOST_ENTRIES: u64 = 1 << 20;

/// The bytes of four quantisation tables of 16 bits and eight Huffman tables, and as many again for marks and other segments.
const MOST_TABLES: usize = 8192;

const IMAGE_DEPTH: Tag = Tag::Unknown(32_997);
const DNG_VERSION: Tag = Tag::Unknown(50_706);

/// What the header of a TIFF says of its one image. Every kind that cannot be read is refused while it is read.
pub(in crate::image::read) struct Header {
    pub width: u32,
    pub height: u32,
    pub orientation: Orientation,
    pub(super) big: bool,
    /// Where the directory of the image begins.
    pub(super) directory: u64,
    /// The bits of a value: 1, 2, 4, 8 to 16, 32, 64.
    pub(super) bits: u8,
    pub(super) format: SampleFormat,
    /// The values of a pixel, alpha included: 1 to 5.
    pub(super) samples: u16,
    pub(super) colours: Colours,
    /// Whether each value of the pixels has a plane of its own.
    pub(super) planar: bool,
    /// Width and height of a tile, if there are tiles.
    pub(super) tile: Option<(u32, u32)>,
    pub(super) jpeg_tables: Vec<u8>,
    /// Empty unless the compression is JPEG.
    pub(super) jpeg_chunks: Vec<JpegChunk>,
}

/// What the values of a pixel mean; alpha may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    /// White is 0.
    InvertedGrey,
    /// The colours: all red values, all green, all blue, 16 bits each.
    Palette(Vec<u16>),
    Rgb,
    YCbCr,
    Cmyk,
}

/// A strip or a tile of JPEG compression.
pub(super) struct JpegChunk {
    pub offset: u64,
    pub bytes: u64,
    /// Its width, the rows that are read of it, and the rows of a chunk that is not the last.
    pub width: u32,
    pub rows: u32,
    pub most_rows: u32,
    pub samples: u16,
}

impl Header {
    /// Reads the header of a TIFF of `bytes` bytes, and checks it against `limits`.
    pub fn read(
        path: &Path,
        mut source: Box<dyn Source + '_>,
        bytes: u64,
        limits: &Limits,
    ) -> Result<Self, ReadError> {
        let io = |error| failure(path, TiffError::IoError(error));
        let mut mark = [0; 4];
        source.read_exact(&mut mark).map_err(io)?;
        source.rewind().map_err(io)?;
        let big = mark.contains(&0x2B);
        let place = |error| failure(path, error);
        let mut decoder = Decoder::new(source).map_err(place)?;
        let pages = full_pages(&mut decoder, big).map_err(place)?;
        match pages[..] {
            [] => {
                let raw = decoder.find_tag(Tag::SubIfd).map_err(place)?.is_some();
                if raw {
                    return Err(ReadError::unsupported(path, "a raw camera file"));
                }
            }
            [0] => {}
            [page] => decoder.seek_to_image(page).map_err(place)?,
            _ => {
                return Err(ReadError::SeveralPages {
                    path: path.to_path_buf(),
                    pages: pages.len(),
                });
            }
        }
        let (width, height) = decoder.dimensions().map_err(place)?;
        limits.check(path, width, height)?;
        let header = Self::of_page(&mut decoder, big).map_err(|refusal| match refusal {
            Refusal::Kind(kind) => ReadError::unsupported(path, kind),
            Refusal::Layers(pages) => ReadError::SeveralPages {
                path: path.to_path_buf(),
                pages,
            },
            Refusal::Failure(error) => failure(path, error),
        })?;
        if let Some((width, height)) = header.tile
            && limits.check(path, width, height).is_err()
        {
            return Err(ReadError::damaged(
                path,
                "its tiles are larger than any image",
            ));
        }
        // No two strips share their bytes, or a small file would be a long work.
        let in_strips = header.jpeg_chunks.iter().map(|chunk| chunk.bytes);
        if in_strips.fold(0, u64::saturating_add) > bytes {
            return Err(ReadError::Truncated {
                path: path.to_path_buf(),
            });
        }
        if header.decoded_bytes() > bytes.saturating_mul(MOST_DECODED) {
            return Err(ReadError::TooShort {
                path: path.to_path_buf(),
                bytes,
                width,
                height,
            });
        }
        Ok(header)
    }

    fn of_page(decoder: &mut Decoder<Box<dyn Source + '_>>, big: bool) -> Result<Self, Refusal> {
        if decoder.find_tag(DNG_VERSION)?.is_some() {
            return Err("a raw camera file".into());
        }
        if let Some(layers @ 2..) = decoder.find_tag_unsigned(IMAGE_DEPTH)? {
            return Err(Refusal::Layers(layers));
        }
        if decoder.find_tag_unsigned::<u16>(Tag::FillOrder)? == Some(2) {
            return Err("a TIFF with reversed bits".into());
        }
        let (width, height) = decoder.dimensions()?;
        let number = |decoder: &mut Decoder<_>, tag| decoder.find_tag_unsigned::<u16>(tag);
        let compression = number(decoder, Tag::Compression)?.unwrap_or(1);
        let compression = CompressionMethod::from_u16_exhaustive(compression);
        let jpeg = compression == CompressionMethod::ModernJPEG;
        if let Some(name) = unread_compression(compression) {
            return Err(format!("a TIFF with {name} compression").into());
        }
        let samples = number(decoder, Tag::SamplesPerPixel)?.unwrap_or(1);
        let colours = colours(decoder, samples, jpeg)?;
        let bits = decoder.find_tag_unsigned_vec::<u8>(Tag::BitsPerSample)?;
        let bits = bits.and_then(|bits| bits.first().copied()).unwrap_or(1);
        let format = decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat)?;
        let format = format
            .and_then(|format| format.first().copied())
            .unwrap_or(1);
        let format = match SampleFormat::from_u16_exhaustive(format) {
            // Values that nobody described are whole numbers.
            SampleFormat::Void => SampleFormat::Uint,
            format => format,
        };
        let planar = samples > 1 && number(decoder, Tag::PlanarConfiguration)? == Some(2);
        let predicted = number(decoder, Tag::Predictor)?.unwrap_or(1) != 1;
        check_values(&colours, format, bits, jpeg)?;
        let packed = (9..16).contains(&bits);
        let extra = decoder.find_tag(Tag::ExtraSamples)?.is_some();
        if packed && (planar || predicted || extra) || bits < 8 && (predicted || samples > 1) {
            return Err(format!("a TIFF with this layout of {bits}-bit values").into());
        }
        let tiles = decoder.get_chunk_type() == ChunkType::Tile;
        let orientation = number(decoder, Tag::Orientation)?.unwrap_or(1);
        let orientation = u8::try_from(orientation)
            .ok()
            .and_then(Orientation::from_exif);
        let mut header = Self {
            width,
            height,
            orientation: orientation.unwrap_or(Orientation::NoTransforms),
            big,
            directory: decoder.ifd_pointer().map_or(0, |pointer| pointer.0),
            bits,
            format,
            samples,
            colours,
            planar,
            tile: tiles.then(|| decoder.chunk_dimensions()),
            jpeg_tables: Vec::new(),
            jpeg_chunks: Vec::new(),
        };
        if header
            .tile
            .is_some_and(|(width, _)| !header.row_bits(width).is_multiple_of(8))
        {
            return Err(format!("a TIFF with tiles of {bits}-bit values").into());
        }
        if jpeg {
            if let Some(tables) = decoder.find_tag(Tag::JPEGTables)? {
                header.jpeg_tables = tables.into_u8_vec()?;
                if header.jpeg_tables.len() > MOST_TABLES {
                    return Err("a TIFF with more JPEG tables than there can be".into());
                }
            }
            header.jpeg_chunks = jpeg_chunks(decoder, header.chunk_samples())?;
        }
        Ok(header)
    }

    /// The values of a pixel in a strip or a tile.
    fn chunk_samples(&self) -> u16 {
        if self.planar { 1 } else { self.samples }
    }

    fn row_bits(&self, width: u32) -> u64 {
        u64::from(width) * u64::from(self.chunk_samples()) * u64::from(self.bits)
    }

    /// The bytes of so many pixels beside each other, in one plane.
    pub(super) fn row_bytes(&self, width: u32) -> u64 {
        self.row_bits(width).div_ceil(8)
    }

    /// How many planes the values lie in.
    pub(super) fn planes(&self) -> u16 {
        if self.planar { self.samples } else { 1 }
    }

    /// The bytes of the whole image, as it leaves the decompression.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.row_bytes(self.width) * u64::from(self.height) * u64::from(self.planes())
    }
}

/// Why a page is not read.
enum Refusal {
    /// A kind that cannot be read, with its article.
    Kind(String),
    /// A volume of so many layers.
    Layers(usize),
    Failure(TiffError),
}

impl From<TiffError> for Refusal {
    fn from(error: TiffError) -> Self {
        Self::Failure(error)
    }
}

impl From<String> for Refusal {
    fn from(kind: String) -> Self {
        Self::Kind(kind)
    }
}

impl From<&str> for Refusal {
    fn from(kind: &str) -> Self {
        Self::Kind(kind.to_owned())
    }
}

/// The places in the chain of pages of those that are neither a reduced image nor a mask.
fn full_pages(decoder: &mut Decoder<Box<dyn Source + '_>>, big: bool) -> TiffResult<Vec<usize>> {
    let mut full = Vec::new();
    let mut seen = HashSet::new();
    let mut entries = 0u64;
    let mut next = decoder.ifd_pointer();
    while let Some(IfdPointer(at)) = next
        && seen.insert(at)
        && seen.len() <= MOST_PAGES
    {
        // Directories may lie within each other, so that a small file has many long directories.
        decoder.goto_offset_u64(at)?;
        entries = entries.saturating_add(if big {
            decoder.read_long8()?
        } else {
            decoder.read_short()?.into()
        });
        if entries > MOST_ENTRIES {
            break;
        }
        let directory = decoder.read_directory(IfdPointer(at))?;
        let mut tags = decoder.read_directory_tags(&directory);
        let kind = tags.find_tag_unsigned::<u32>(Tag::NewSubfileType)?;
        let old_kind = tags.find_tag_unsigned::<u16>(Tag::SubfileType)?;
        let reduced_or_mask = kind.unwrap_or(0) & 0b101 != 0 || old_kind == Some(2);
        if !reduced_or_mask {
            full.push(seen.len() - 1);
        }
        next = directory.next();
    }
    Ok(full)
}

fn colours(
    decoder: &mut Decoder<Box<dyn Source + '_>>,
    samples: u16,
    jpeg: bool,
) -> Result<Colours, Refusal> {
    let photometric = decoder.get_tag_unsigned::<u16>(Tag::PhotometricInterpretation)?;
    let (colours, own) = match PhotometricInterpretation::from_u16(photometric) {
        Some(PhotometricInterpretation::WhiteIsZero) => (Colours::InvertedGrey, 1),
        Some(
            PhotometricInterpretation::BlackIsZero | PhotometricInterpretation::TransparencyMask,
        ) => (Colours::Grey, 1),
        Some(PhotometricInterpretation::RGBPalette) => {
            let palette = decoder.find_tag_unsigned_vec(Tag::Unknown(320))?;
            (Colours::Palette(palette.unwrap_or_default()), 1)
        }
        Some(PhotometricInterpretation::RGB) => (Colours::Rgb, 3),
        Some(PhotometricInterpretation::YCbCr) => (Colours::YCbCr, 3),
        Some(PhotometricInterpretation::CMYK) => (Colours::Cmyk, 4),
        _ => return Err("a TIFF with CIE L*a*b* colours".into()),
    };
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples)?;
    let extra = extra.and_then(|kinds| kinds.first().copied()).unwrap_or(0);
    let takes_extra = match colours {
        Colours::Rgb | Colours::Cmyk => true,
        // Two grey values may be two pictures, unless the second says that it is alpha.
        Colours::Grey | Colours::InvertedGrey => matches!(extra, 1 | 2),
        Colours::Palette(_) | Colours::YCbCr => false,
    };
    if samples != own && !(samples == own + 1 && takes_extra) {
        return Err(format!("a TIFF with {samples} values a pixel").into());
    }
    if colours == Colours::YCbCr && !jpeg {
        let sampling = decoder.find_tag_unsigned_vec::<u16>(Tag::ChromaSubsampling)?;
        if sampling.as_deref() != Some(&[1, 1]) {
            return Err("a TIFF with subsampled colours, but without JPEG compression".into());
        }
    }
    Ok(colours)
}

fn check_values(
    colours: &Colours,
    format: SampleFormat,
    bits: u8,
    jpeg: bool,
) -> Result<(), Refusal> {
    let whole = format == SampleFormat::Uint;
    let read = match (colours, format) {
        (_, SampleFormat::Int) => return Err("a TIFF with signed values".into()),
        (Colours::Palette(palette), _) => {
            whole && !jpeg && matches!(bits, 1 | 2 | 4 | 8) && palette.len() == 3 << bits
        }
        (_, SampleFormat::Uint) if jpeg => bits == 8,
        (Colours::YCbCr, _) => whole && bits == 8,
        (Colours::Cmyk, _) => whole && matches!(bits, 8 | 16),
        (_, SampleFormat::Uint) => matches!(bits, 1 | 2 | 4 | 8..=16 | 32),
        (_, SampleFormat::IEEEFP) => matches!(bits, 16 | 32 | 64) && !jpeg,
        _ => false,
    };
    if read {
        return Ok(());
    }
    let kind = if whole { "" } else { "floating-point " };
    Err(match colours {
        Colours::Palette(_) => "a TIFF with a palette that does not fit its values".into(),
        _ => format!("a TIFF with {kind}values of {bits} bits").into(),
    })
}

/// The name of a compression that is not read.
fn unread_compression(method: CompressionMethod) -> Option<String> {
    let name = match method {
        CompressionMethod::None
        | CompressionMethod::LZW
        | CompressionMethod::Deflate
        | CompressionMethod::OldDeflate
        | CompressionMethod::PackBits
        | CompressionMethod::ModernJPEG
        | CompressionMethod::Fax4 => return None,
        CompressionMethod::Huffman | CompressionMethod::Fax3 => "fax",
        CompressionMethod::JPEG => "old-style JPEG",
        CompressionMethod::ZSTD => "ZSTD",
        CompressionMethod::WebP => "WebP",
        CompressionMethod::Unknown(number) => match number {
            22_610 | 34_934 => "JPEG XR",
            33_003 | 33_004 | 33_005 | 34_712 => "JPEG 2000",
            34_887 => "LERC",
            34_925 => "LZMA",
            50_002 | 52_546 => "JPEG XL",
            number => return Some(format!("unknown (number {number})")),
        },
        _ => "unknown",
    };
    Some(name.to_owned())
}

fn jpeg_chunks(
    decoder: &mut Decoder<Box<dyn Source + '_>>,
    samples: u16,
) -> TiffResult<Vec<JpegChunk>> {
    let (offsets, counts) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.find_tag_unsigned_vec(offsets)?.unwrap_or_default();
    let counts = decoder.find_tag_unsigned_vec(counts)?.unwrap_or_default();
    let (width, rows) = decoder.chunk_dimensions();
    let (_, height) = decoder.dimensions()?;
    let tiles = decoder.get_chunk_type() == ChunkType::Tile;
    // A strip may claim more rows than the image has, and the last strip of a plane has fewer.
    let most_rows = if tiles { rows } else { rows.min(height) };
    let strips = height.div_ceil(most_rows);
    let last_rows = height - (strips - 1) * most_rows;
    let chunks = (0u32..).zip(offsets.into_iter().zip(counts));
    Ok(chunks
        .map(|(index, (offset, bytes))| JpegChunk {
            offset,
            bytes,
            width,
            rows: if !tiles && index % strips == strips - 1 {
                last_rows
            } else {
                most_rows
            },
            most_rows,
            samples,
        })
        .collect())
}
