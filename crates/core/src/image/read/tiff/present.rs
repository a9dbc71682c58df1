//! Changes fields of a TIFF in memory, so that the crate `tiff` decompresses what it would refuse: it takes grey and several bands in any
//! number, but no palette and no packed values of 9 to 15 bits.

use tiff::tags::{SampleFormat, Tag};

use super::header::Header;

/// Lets `header`'s image be the first of the file, its colours bands of grey, its tiles whole, and packed values bytes.
pub(super) fn present(bytes: &mut [u8], header: &Header) {
    let mut fields = Fields {
        little: bytes.starts_with(b"II"),
        big: header.big,
        bytes,
    };
    fields.set_first(header.directory);
    fields.set(header.directory, Tag::PhotometricInterpretation, 1);
    if header.format == SampleFormat::Uint {
        fields.set(header.directory, Tag::SampleFormat, 1);
    }
    // The crate miscounts the tiles at the edges of planes: whole tiles have no edge.
    let (mut tile_width, tile_height) = header.tile.unwrap_or((1, 1));
    let mut width = header.width.next_multiple_of(tile_width);
    let height = header.height.next_multiple_of(tile_height);
    if (9..16).contains(&header.bits) {
        let in_bytes = |width| u32::try_from(header.row_bytes(width)).unwrap_or(u32::MAX);
        fields.set(header.directory, Tag::BitsPerSample, 8);
        fields.set(header.directory, Tag::SamplesPerPixel, 1);
        (width, tile_width) = (in_bytes(width), in_bytes(tile_width));
    }
    fields.set(header.directory, Tag::ImageWidth, width);
    fields.set(header.directory, Tag::ImageLength, height);
    fields.set(header.directory, Tag::TileWidth, tile_width);
}

struct Fields<'a> {
    bytes: &'a mut [u8],
    little: bool,
    big: bool,
}

impl Fields<'_> {
    fn set_first(&mut self, directory: u64) {
        if self.big {
            self.write(8, 8, directory);
        } else {
            self.write(4, 4, directory);
        }
    }

    /// Gives a field of a directory one value; nothing happens if the directory lacks the field.
    fn set(&mut self, directory: u64, tag: Tag, value: u32) {
        let Ok(directory) = usize::try_from(directory) else {
            return;
        };
        // The number of entries, then the entries: tag, type, number of values, value.
        let (number, entry) = if self.big { (8, 20) } else { (2, 12) };
        let entries = self.read(directory, number);
        for index in 0..entries {
            let at = usize::try_from(index).ok();
            let at = at.and_then(|index| index.checked_mul(entry)?.checked_add(directory + number));
            let Some(at) = at.filter(|at| at + entry <= self.bytes.len()) else {
                return;
            };
            if self.read(at, 2) == u64::from(tag.to_u16()) {
                let (kind, length) = if value <= 0xFFFF { (3, 2) } else { (4, 4) };
                self.write(at + 2, 2, kind);
                self.write(at + 4, (entry - 4) / 2, 1);
                self.write(at + 4 + (entry - 4) / 2, length, value.into());
            }
        }
    }

    /// The number in so many bytes; 0 where there are none.
    fn read(&self, at: usize, length: usize) -> u64 {
        let bytes = self.bytes.get(at..at + length).unwrap_or_default();
        let join = |number, &byte| number << 8 | u64::from(byte);
        if self.little {
            bytes.iter().rev().fold(0, join)
        } else {
            bytes.iter().fold(0, join)
        }
    }

    fn write(&mut self, at: usize, length: usize, number: u64) {
        let Some(bytes) = self.bytes.get_mut(at..at + length) else {
            return;
        };
        if self.little {
            bytes.copy_from_slice(&number.to_le_bytes()[..length]);
        } else {
            bytes.copy_from_slice(&number.to_be_bytes()[8 - length..]);
        }
    }
}
