//! Whether a WebP is as long as it says: the decoder believes the lengths in it.

use std::io::{self, Read, Seek, SeekFrom};

/// How many of a WebP's `bytes` belong to it, once it is clear that it is as long as its header says (its last byte may be missing, as
/// it may be padding) and that every part of it lies within it. `None` if not.
pub(super) fn length(content: &mut (impl Read + Seek), bytes: u64) -> io::Result<Option<u64>> {
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
