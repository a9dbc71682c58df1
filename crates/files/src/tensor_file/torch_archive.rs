//! The container of a `.pth` file: a zip archive with a pickle and, beside it, the raw numbers.
//!
//! `torch.save` stores its entries uncompressed, and that is all this reader takes: a directory of
//! names and places. (The `zip` crate reserves memory for as many entries as an archive claims to
//! have, before it has seen one; here nothing is reserved for a claim.)

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;

use super::{StoredTensor, TensorFileError, pickle, place};
use crate::foreign_text::shown;

/// A zip archive that is no `.pth` file, or a damaged one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// There is no directory at its end.
    #[error("the directory at its end is missing: the file is cut off")]
    NoDirectory,
    /// The directory contradicts itself or the file.
    #[error("its zip directory is damaged: {0}")]
    Directory(&'static str),
    /// A well-formed archive of something else.
    #[error("a zip archive without a data.pkl: torch.save(model.state_dict(), …) writes one")]
    NoPickle,
    /// An entry cannot be used.
    #[error("its entry {name} {reason}")]
    Entry {
        /// The entry.
        name: String,
        /// The reason.
        reason: String,
    },
}

/// The tensors of a `.pth` file.
pub(super) fn tensors(
    path: &Path,
    bytes: &[u8],
) -> Result<BTreeMap<String, StoredTensor>, TensorFileError> {
    let archive = |source| TensorFileError::Archive {
        path: path.to_path_buf(),
        source,
    };
    let entries = directory(bytes).map_err(archive)?;
    let pickles: Vec<&str> = entries
        .keys()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'))
        .collect();
    let &[folder] = &pickles[..] else {
        return Err(archive(ArchiveError::NoPickle));
    };
    let content = |name: &str| -> Result<Range<usize>, ArchiveError> {
        let entry = entries.get(name).ok_or_else(|| fault(name, "is missing"))?;
        entry.content(name, bytes)
    };
    let order = format!("{folder}byteorder");
    if entries.contains_key(&order) && &bytes[content(&order).map_err(archive)?] != b"little" {
        let text = "says that numbers are not little-endian: save it on an ordinary machine";
        return Err(archive(fault(&order, text)));
    }
    let described = content(&format!("{folder}data.pkl")).map_err(archive)?;
    let described =
        pickle::state_dict(&bytes[described]).map_err(|source| TensorFileError::Pickle {
            path: path.to_path_buf(),
            source,
        })?;
    let mut storages: HashMap<String, Range<usize>> = HashMap::new();
    let mut checked = 0;
    let mut tensors = BTreeMap::new();
    for (name, tensor) in described {
        let key = &tensor.storage.key;
        let range = match storages.get(key) {
            Some(range) => range.clone(),
            None => {
                let entry = format!("{folder}data/{key}");
                let range = content(&entry).map_err(archive)?;
                // Entries that lie upon each other would be checked again and again.
                checked += range.len();
                if checked > bytes.len() {
                    return Err(archive(ArchiveError::Directory("entries overlap")));
                }
                storages.insert(key.clone(), range.clone());
                range
            }
        };
        let stored = place(&tensor, &range)
            .ok_or_else(|| {
                let text = format!(
                    "has {} bytes, not those of the {} numbers that the pickle promises",
                    range.len(),
                    tensor.storage.elements
                );
                fault(&format!("{folder}data/{key}"), text)
            })
            .map_err(archive)?;
        tensors.insert(name, stored);
    }
    Ok(tensors)
}

fn fault(name: &str, reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Entry {
        name: shown(name),
        reason: reason.into(),
    }
}

/// One line of the directory.
struct Entry {
    flags: usize,
    method: usize,
    checksum: usize,
    compressed: usize,
    size: usize,
    header: usize,
    /// Entries lie before the directory.
    limit: usize,
}

/// A little-endian number of two or four bytes.
fn number(bytes: &[u8], range: Range<usize>) -> Option<usize> {
    let bytes = bytes.get(range)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)),
    )
}

/// All entries by name (APPNOTE.TXT, 4.3.12 and 4.3.16). Zip64, for files of more than 4 GiB, is not
/// needed: `torch.save` writes its records too, which are passed over.
fn directory(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, ArchiveError> {
    use ArchiveError::Directory;
    const END: usize = 22;
    const LINE: usize = 46;
    // `torch.save` writes no comment behind the end record.
    let end = bytes
        .len()
        .checked_sub(END)
        .ok_or(ArchiveError::NoDirectory)?;
    let record = &bytes[end..];
    if !record.starts_with(b"PK\x05\x06") {
        return Err(ArchiveError::NoDirectory);
    }
    let (Some(size), Some(start)) = (number(record, 12..16), number(record, 16..20)) else {
        return Err(ArchiveError::NoDirectory);
    };
    let mut rest = start
        .checked_add(size)
        .filter(|stop| *stop <= end)
        .and_then(|stop| bytes.get(start..stop))
        .ok_or(Directory("it reaches beyond the file"))?;
    let mut entries = BTreeMap::new();
    while !rest.is_empty() {
        let cut = Directory("a line of it is cut off");
        if !rest.starts_with(b"PK\x01\x02") {
            return Err(Directory("a line of it does not begin as it should"));
        }
        let field = |from, to| number(rest, from..to);
        let line = (|| {
            let entry = Entry {
                flags: field(8, 10)?,
                method: field(10, 12)?,
                checksum: field(16, 20)?,
                compressed: field(20, 24)?,
                size: field(24, 28)?,
                header: field(42, 46)?,
                limit: start,
            };
            let name = field(28, 30)?;
            let length = LINE + name + field(30, 32)? + field(32, 34)?;
            Some((entry, rest.get(LINE..LINE + name)?, rest.get(length..)?))
        })();
        let Some((entry, name, next)) = line else {
            return Err(cut);
        };
        let name = std::str::from_utf8(name).map_err(|_| Directory("a name is not UTF-8"))?;
        if entries.insert(name.to_string(), entry).is_some() {
            return Err(fault(name, "stands twice in its zip directory"));
        }
        rest = next;
    }
    Ok(entries)
}

impl Entry {
    /// Where the content of an entry lies, once its checksum is confirmed.
    fn content(&self, name: &str, bytes: &[u8]) -> Result<Range<usize>, ArchiveError> {
        const ENCRYPTED: usize = 1;
        if self.method != 0 || self.compressed != self.size || self.flags & ENCRYPTED != 0 {
            let text = "is compressed or encrypted: torch.save stores it plainly, save it again";
            return Err(fault(name, text));
        }
        let header = &bytes[..self.limit];
        let start = (|| {
            let header = header.get(self.header..)?;
            let lengths = number(header, 26..28)? + number(header, 28..30)?;
            header
                .starts_with(b"PK\x03\x04")
                .then_some(self.header + 30 + lengths)
        })();
        let range = start.map(|start| start..start.saturating_add(self.size));
        match range {
            Some(range) if range.end <= self.limit => {
                if crc32fast::hash(&bytes[range.clone()]) as usize != self.checksum {
                    return Err(fault(
                        name,
                        "does not have its checksum: the file is damaged",
                    ));
                }
                Ok(range)
            }
            _ => Err(fault(name, "does not lie within the file")),
        }
    }
}
