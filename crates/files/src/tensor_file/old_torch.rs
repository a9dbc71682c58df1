//! A `.pth` file as PyTorch wrote it before 1.6: five pickles one after the other (a magic number, the format's version, the machine that
//! wrote it, the state dict, the keys of its storages), then of each storage the number of its elements and the elements.
//!
//! There are no checksums: a number that changed on the way is read as it is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use super::{StoredTensor, TensorFileError, pickle, place};
use crate::foreign_text::shown;

/// The pickled magic number, little-endian, and the end of its pickle.
pub(super) const MAGIC: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
];

/// The tensors of a file that begins with the magic number.
pub(super) fn tensors(
    path: &Path,
    bytes: &[u8],
) -> Result<BTreeMap<String, StoredTensor>, TensorFileError> {
    let header =
        pickle::old_header(bytes, MAGIC.len()).map_err(|source| TensorFileError::Pickle {
            path: path.to_path_buf(),
            source,
        })?;
    let damaged = |reason: String| TensorFileError::OldTorch {
        path: path.to_path_buf(),
        reason,
    };
    let mut places: HashMap<&str, Range<usize>> = HashMap::new();
    let mut at = header.end;
    for storage in &header.storages {
        let key = shown(&storage.key);
        let cut = || damaged(format!("it is cut off in the storage {key}"));
        let Some((count, _)) = bytes[at..].split_first_chunk() else {
            return Err(cut());
        };
        let count = i64::from_le_bytes(*count);
        if usize::try_from(count) != Ok(storage.elements) {
            return Err(damaged(format!(
                "its storage {key} has {count} numbers, not the {} that the pickle promises",
                storage.elements
            )));
        }
        let start = at + size_of::<i64>();
        let length = storage.elements.checked_mul(storage.number.bytes());
        let end = length.and_then(|length| start.checked_add(length));
        match end {
            Some(end) if end <= bytes.len() => {
                places.insert(&storage.key, start..end);
                at = end;
            }
            _ => return Err(cut()),
        }
    }
    if at < bytes.len() {
        let more = bytes.len() - at;
        return Err(damaged(format!("{more} bytes follow its last storage")));
    }
    let tensors = header.tensors.iter().map(|(name, tensor)| {
        let range = places.get(tensor.storage.key.as_str());
        match range.and_then(|range| place(tensor, range)) {
            Some(stored) => Ok((name.clone(), stored)),
            None => unreachable!("the header has every storage once, of one size"),
        }
    });
    tensors.collect()
}
