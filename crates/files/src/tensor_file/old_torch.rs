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

#[cfg(test)]
mod tests {
    use super::super::TensorFile;
    use super::*;

    /// The parts of a file, to be changed one at a time.
    #[derive(Clone)]
    struct Parts {
        version: Vec<u8>,
        system: Vec<u8>,
        state: Vec<u8>,
        keys: Vec<u8>,
        numbers: Vec<u8>,
    }

    fn pickle(operations: &[&[u8]]) -> Vec<u8> {
        [&[0x80, 2], &operations.concat()[..], b"."].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    }

    /// A tensor of two numbers in a storage of `elements` numbers, `more` behind its description.
    fn tensor(key: &str, elements: i64, more: &[u8]) -> Vec<u8> {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(key),
            text("cpu"),
            [&[0x8a, 8], &elements.to_le_bytes()[..]].concat(),
            more.to_vec(),
            b"tQK\0K\x02\x85K\x01\x85\x89)tR".to_vec(),
        ]
        .concat()
    }

    fn state(tensors: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries: Vec<u8> = tensors
            .iter()
            .flat_map(|(name, tensor)| [text(name), tensor.clone()].concat())
            .collect();
        pickle(&[b"}(", &entries, b"u"])
    }

    fn keys(keys: &[&str]) -> Vec<u8> {
        let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
        pickle(&[b"](", &keys, b"e"])
    }

    fn storage(count: i64, numbers: &[f32]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
        count.to_le_bytes().into_iter().chain(numbers).collect()
    }

    impl Parts {
        /// Two tensors; the storages come in another order than the tensors.
        fn sound() -> Self {
            let system = [text("little_endian"), vec![0x88]].concat();
            Self {
                version: pickle(&[b"M\xe9\x03"]),
                system: pickle(&[b"}(", &system, b"u"]),
                state: state(&[("a", tensor("5", 2, b"N")), ("b", tensor("3", 3, b""))]),
                keys: keys(&["3", "5"]),
                numbers: [storage(3, &[1.0, 2.0, 3.0]), storage(2, &[4.0, 5.0])].concat(),
            }
        }

        fn parse(&self) -> Result<TensorFile, TensorFileError> {
            let Self {
                version,
                system,
                state,
                keys,
                numbers,
            } = self;
            let bytes = [&MAGIC[..], version, system, state, keys, numbers].concat();
            TensorFile::parse(Path::new("old.pth"), bytes)
        }
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut Parts), words: &str) {
        let mut parts = Parts::sound();
        change(&mut parts);
        let message = parts.parse().unwrap_err().to_string();
        assert!(message.contains("old.pth"), "{message}");
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }

    #[test]
    fn numbers_are_found_by_their_keys() {
        let file = Parts::sound().parse().unwrap();
        let wanted = ["b", "a"].map(|name| (name.to_string(), vec![2]));
        let values = file.tensors(&wanted, |_| false).unwrap();
        assert_eq!(values, [[1.0, 2.0], [4.0, 5.0]]);
    }

    #[test]
    fn headers_that_lie() {
        refused(|parts| parts.version = pickle(&[b"K\x07"]), "1001");
        refused(
            |parts| parts.system = pickle(&[b"K\x07"]),
            "a number, not a dict",
        );
        let big = [text("little_endian"), vec![0x89]].concat();
        refused(
            |parts| parts.system = pickle(&[b"}(", &big, b"u"]),
            "not little-endian",
        );
        refused(|parts| parts.system = pickle(&[b"}"]), "not little-endian");
        refused(|parts| parts.state = pickle(&[b"N"]), "None, not a tensor");
        // A list is no part of a state dict, only of the keys.
        refused(|parts| parts.state = pickle(&[b"]"]), "holds a list");
        refused(
            |parts| parts.keys = pickle(&[b"}"]),
            "a dictionary, not a list",
        );
        refused(
            |parts| parts.keys = pickle(&[b"a"]),
            "takes more than it has",
        );
        refused(|parts| parts.keys = pickle(&[b"}K\x01a"]), "no list");
        refused(|parts| parts.keys = pickle(&[b"]K\x01a"]), "is a number");
        refused(
            |parts| parts.keys = keys(&["3"]),
            "the storage 5 is missing",
        );
        refused(
            |parts| parts.keys = keys(&["3", "3"]),
            "needs the storage 3",
        );
        refused(
            |parts| parts.keys = keys(&["3", "5", "6"]),
            "needs the storage 6",
        );
        let twice = [("a", tensor("5", 2, b"")), ("b", tensor("5", 3, b""))];
        refused(|parts| parts.state = state(&twice), "5 is described twice");
        let view = [("a", tensor("5", 2, b"K\x01"))];
        refused(|parts| parts.state = state(&view), "as torch.save does it");
        // Nothing is executed, wherever it stands.
        let evil = pickle(&[b"cos\nsystem\n(", &text("true"), b"tR"]);
        for part in 0..4 {
            refused(
                |parts| {
                    let part = match part {
                        0 => &mut parts.version,
                        1 => &mut parts.system,
                        2 => &mut parts.state,
                        _ => &mut parts.keys,
                    };
                    *part = evil.clone();
                },
                "os.system",
            );
        }
        // Longer than any network's, though the file goes on.
        let long = pickle(&[&vec![b'N'; 2 << 20]]);
        for part in 0..2 {
            refused(
                |parts| {
                    let part = if part == 0 {
                        &mut parts.state
                    } else {
                        &mut parts.keys
                    };
                    *part = long.clone();
                },
                "more than the 1048576 bytes",
            );
        }
    }

    #[test]
    fn storages_that_lie() {
        let numbers = |numbers: Vec<u8>, words: &str| {
            refused(|parts| parts.numbers = numbers.clone(), words);
        };
        let [first, second] = [storage(3, &[1.0; 3]), storage(2, &[1.0; 2])];
        numbers(Vec::new(), "cut off in the storage 3");
        numbers(first[..7].to_vec(), "cut off in the storage 3");
        numbers(first[..19].to_vec(), "cut off in the storage 3");
        numbers(
            [&first[..], &second[..15]].concat(),
            "cut off in the storage 5",
        );
        numbers([&first[..], &second, &[0; 3]].concat(), "3 bytes follow");
        for count in [2, -3, i64::MAX, i64::MIN] {
            let lie = storage(count, &[1.0; 3]);
            let words = format!("the storage 3 has {count} numbers, not the 3");
            numbers(
                [lie, second.clone()].concat(),
                &words.replacen("the", "its", 1),
            );
        }
        // As many as the pickle says, and more than there are, or than there can be.
        for count in [1 << 20, i64::MAX, i64::MAX / 4] {
            refused(
                |parts| {
                    parts.state =
                        state(&[("a", tensor("5", 2, b"")), ("b", tensor("3", count, b""))]);
                    parts.numbers = [storage(count, &[1.0; 3]), storage(2, &[1.0; 2])].concat();
                },
                "cut off in the storage 3",
            );
        }
    }
}
