//! Reads TIFF and BigTIFF images in the kinds that cameras and other programs write.
//!
//! The crate `tiff` decompresses, undoes predictors, and joins strips and tiles, but takes few kinds of pixels. So [`header`] is read
//! first. Then the copy of the file in memory is [presented](present) to the crate as grey or as several bands, and [`pixels`] decides
//! what the values mean: packed bits, palettes, white as zero, inks, planes.

mod header;
mod pixels;
mod present;

use std::io::{self, Cursor};
use std::path::Path;

use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult, Limits as TiffLimits};

use super::jpeg::{self, Fault};
use super::stored::StoredImage;
use super::{Limits, ReadError};
pub(super) use header::Header;
use header::JpegChunk;

/// Decodes a TIFF; not yet upright.
pub(super) fn decode(
    path: &Path,
    mut bytes: Vec<u8>,
    limits: &Limits,
) -> Result<(StoredImage, Header), ReadError> {
    let length = bytes.len() as u64;
    let header = Header::read(path, Box::new(Cursor::new(&bytes)), length, limits)?;
    for chunk in &header.jpeg_chunks {
        check_jpeg(&bytes, chunk, &header.jpeg_tables).map_err(|fault| fault_of(path, fault))?;
    }
    present::present(&mut bytes, &header);
    let values = decompress(&bytes, &header).map_err(|error| failure(path, error))?;
    let decoded = pixels::picture(&header, values)
        .ok_or_else(|| ReadError::damaged(path, "its pixels are not as many as its header says"))?;
    Ok((decoded, header))
}

/// The values of the image, plane after plane; the crate has put numbers into the order of this machine's bytes.
fn decompress(bytes: &[u8], header: &Header) -> Result<DecodingResult, TiffError> {
    let mut limits = TiffLimits::default();
    limits.decoding_buffer_size = usize::try_from(header.decoded_bytes())?;
    limits.intermediate_buffer_size = bytes.len();
    let mut decoder = Decoder::new(Cursor::new(bytes))?.with_limits(limits.clone());
    let mut values = DecodingResult::U8(Vec::new());
    let Some((width, height)) = header.tile else {
        decoder.read_image_to_buffer(&mut values)?;
        return Ok(values);
    };
    let mut layout = decoder.image_chunk_buffer_layout(0)?;
    let mut tile = vec![0; layout.len];
    layout.complete_len = limits.decoding_buffer_size;
    values.resize_to(&layout, &limits)?;
    let mut values_buffer = values.as_buffer(0);
    let rows_of_bytes = values_buffer.as_bytes_mut();
    let row_bytes = header.row_bytes(header.width) as usize;
    let tile_bytes = header.row_bytes(width) as usize;
    let mut index = 0;
    // Tiles in one piece: the crate loses the end of a tile in LZW compression that it reads row by row.
    for plane in rows_of_bytes.chunks_exact_mut(row_bytes * header.height as usize) {
        for rows in plane.chunks_mut(row_bytes * height as usize) {
            for left in (0..row_bytes).step_by(tile_bytes) {
                decoder.read_chunk_bytes(index, &mut tile)?;
                index += 1;
                let tile_rows = tile.chunks_exact(tile_bytes);
                for (row, tile_row) in rows.chunks_exact_mut(row_bytes).zip(tile_rows) {
                    let row = &mut row[left..];
                    let bytes = row.len().min(tile_bytes);
                    row[..bytes].copy_from_slice(&tile_row[..bytes]);
                }
            }
        }
    }
    Ok(values)
}

/// Whether a strip or tile of JPEG compression is complete, and of the size that its place demands: the crate trusts both.
fn check_jpeg(bytes: &[u8], chunk: &JpegChunk, tables: &[u8]) -> Result<(), Fault> {
    let range = usize::try_from(chunk.offset)
        .ok()
        .zip(usize::try_from(chunk.bytes).ok())
        .and_then(|(offset, bytes)| Some(offset..offset.checked_add(bytes)?));
    let data = range
        .and_then(|range| bytes.get(range))
        .ok_or(Fault::CutShort)?;
    // Tables of all strips come first, without their end and without the strip's start.
    let joined;
    let data = match tables.split_last_chunk::<2>() {
        Some((tables, _)) => {
            joined = [tables, data.get(2..).ok_or(Fault::CutShort)?].concat();
            joined.as_slice()
        }
        None => data,
    };
    let frame = jpeg::frame(data)?;
    let heights = chunk.rows..chunk.most_rows.saturating_add(16);
    if u32::from(frame.width) != chunk.width
        || !heights.contains(&u32::from(frame.height))
        || frame.components.len() != usize::from(chunk.samples)
    {
        return Err(Fault::Damaged("a strip has not the size of its place"));
    }
    let end = jpeg::complete(data)?;
    if data[end..].starts_with(&[0xFF, 0xD9]) {
        Ok(())
    } else {
        Err(Fault::CutShort)
    }
}

fn fault_of(path: &Path, fault: Fault) -> ReadError {
    match fault {
        Fault::Unsupported(kind) => ReadError::unsupported(path, format!("a TIFF with {kind}")),
        fault => fault.of(path),
    }
}

/// The error of the crate `tiff`.
fn failure(path: &Path, error: TiffError) -> ReadError {
    match error {
        TiffError::UnsupportedError(kind) => {
            ReadError::unsupported(path, format!("a TIFF: {kind}"))
        }
        TiffError::LimitsExceeded => ReadError::Memory {
            path: path.to_path_buf(),
            source: error.into(),
        },
        TiffError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ReadError::Truncated {
                path: path.to_path_buf(),
            }
        }
        error => ReadError::damaged(path, error),
    }
}
