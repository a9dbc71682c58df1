//! Tensors by name from the weight files of other programs: safetensors, and what PyTorch's
//! `torch.save(model.state_dict(), …)` writes (`.pth`, `.pt`).
//!
//! Files are untrusted. Nothing in them is ever executed: a `.pth` file is a pickle, and the pickle reader here knows three calls,
//! which describe a state dict and its tensors. Everything else in a pickle is refused by name. That holds for both formats of
//! `torch.save`, the zip archive and the one before PyTorch 1.6, which has no checksums. The size of a file, every length in it and the
//! place of every tensor are checked before anything is allocated for them, and numbers are decoded only for tensors that a caller asks
//! for by name and shape.

mod old_torch;
mod pickle;
mod torch_archive;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::bounded_file::{self, BoundedFileError};

use crate::foreign_text::{shown, shown_up_to};

use pickle::PickledTensor;

pub use pickle::PickleError;
pub use torch_archive::ArchiveError;

/// Larger files are refused before they are read: the networks that are known here stay below a
/// fifth of it, even in 64 bits.
const MAX_FILE_BYTES: u64 = 512 << 20;

/// More are counted, not named: a file may hold millions of tensors that do not belong there.
const MAX_PROBLEMS: usize = 1000;

/// A file of tensors could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: std::io::Error,
    },
    /// The file is larger than any network that is known here.
    #[error("{} has {bytes} bytes, more than the {MAX_FILE_BYTES} a file of weights may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Neither safetensors nor a `.pth` file.
    #[error("{} is no file of weights: give a .safetensors file, or what torch.save(model.state_dict(), …) wrote", path.display())]
    Unrecognised {
        /// The file.
        path: PathBuf,
    },
    /// A `.pth` file in the format of PyTorch before 1.6 that is damaged or cut off.
    #[error("{} is damaged, or no file of weights: {reason}", path.display())]
    OldTorch {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A safetensors file that is damaged or cut off.
    #[error("{} is damaged or cut off: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The message of the reader.
        reason: String,
    },
    /// A `.pth` file whose archive is damaged, cut off or of another kind.
    #[error("{} is damaged, or no file of weights: {source}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ArchiveError,
    },
    /// A `.pth` file that holds something else than tensors.
    #[error("{} is refused: {source}", path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What was found.
        source: PickleError,
    },
    /// Tensors are missing, too many, misshapen or not finite: all of them in one message.
    #[error("the weights of {} are not usable: {}", path.display(), problems.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One sentence a tensor.
        problems: Vec<String>,
    },
}

/// How the numbers of a tensor are stored, always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    F16,
    Bf16,
    F32,
    F64,
    /// A number that is not a weight: an integer or a truth value, with its size in bytes.
    Other(usize),
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(bytes) => bytes,
        }
    }
}

/// Where a tensor of a pickle lies in the file, if its storage has the size it should have.
fn place(tensor: &PickledTensor, storage: &Range<usize>) -> Option<StoredTensor> {
    let number = tensor.storage.number;
    let promised = tensor.storage.elements.checked_mul(number.bytes())?;
    (promised == storage.len()).then(|| StoredTensor {
        number,
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        start: storage.start + tensor.offset * number.bytes(),
    })
}

/// Where a tensor lies in its file. Whoever makes one has checked that every element of it lies
/// within the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoredTensor {
    number: Number,
    shape: Vec<usize>,
    /// Elements from one index to the next, one for each dimension.
    strides: Vec<usize>,
    /// First byte of the first element.
    start: usize,
}

impl StoredTensor {
    /// All numbers, row-major.
    fn values(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self.number {
            Number::F16 => self.decode(bytes, |at| f16::from_le_bytes(at).to_f32()),
            Number::Bf16 => self.decode(bytes, |at| bf16::from_le_bytes(at).to_f32()),
            Number::F32 => self.decode(bytes, f32::from_le_bytes),
            Number::F64 => self.decode(bytes, |at| f64::from_le_bytes(at) as f32),
            Number::Other(_) => return None,
        })
    }

    fn decode<const N: usize>(&self, bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let bytes = &bytes[self.start..];
        let elements = bytes.as_chunks::<N>().0;
        let count = self.shape.iter().product();
        let mut values = Vec::with_capacity(count);
        let (Some((&run, outer)), Some((&step, outer_strides))) =
            (self.shape.split_last(), self.strides.split_last())
        else {
            return vec![number(elements[0])];
        };
        // The position of each run along the last dimension: the outer indices count like an odometer.
        let mut index = vec![0; outer.len()];
        while values.len() < count {
            let first: usize = index.iter().zip(outer_strides).map(|(i, s)| i * s).sum();
            values.extend((0..run).map(|i| number(elements[first + i * step])));
            for (digit, size) in index.iter_mut().zip(outer).rev() {
                *digit += 1;
                if *digit < *size {
                    break;
                }
                *digit = 0;
            }
        }
        values
    }
}

/// Strides of a tensor whose elements lie row by row.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Cannot matter where it overflows: such a tensor has no elements.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// An opened file: which tensors it has, and their numbers when asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, StoredTensor>,
}

impl TensorFile {
    /// Reads a file. Its content tells the format.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let owned = path.to_path_buf();
        let bytes = bounded_file::read(path, MAX_FILE_BYTES).map_err(|error| match error {
            BoundedFileError::TooLarge { bytes, .. } => {
                TensorFileError::TooLarge { path: owned, bytes }
            }
            error => TensorFileError::Read {
                path: owned,
                source: error.into(),
            },
        })?;
        Self::parse(path, bytes)
    }

    /// The same for bytes that are in memory; `path` names them in errors.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, TensorFileError> {
        let path = path.to_path_buf();
        let tensors = if bytes.starts_with(b"PK\x03\x04") {
            torch_archive::tensors(&path, &bytes)?
        } else if bytes.starts_with(&old_torch::MAGIC) {
            old_torch::tensors(&path, &bytes)?
        } else if bytes.get(8) == Some(&b'{') {
            match safetensors(&bytes) {
                Ok(tensors) => tensors,
                Err(source) => {
                    // The sentence may quote the file.
                    let reason = shown_up_to(&source.to_string(), 500);
                    return Err(TensorFileError::Safetensors { path, reason });
                }
            }
        } else {
            return Err(TensorFileError::Unrecognised { path });
        };
        Ok(Self {
            path,
            bytes,
            tensors,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Takes `prefix` off all names if all begin with it.
    pub fn without_prefix(mut self, prefix: &str) -> Self {
        if self.names().all(|name| name.starts_with(prefix)) {
            self.tensors = self
                .tensors
                .into_iter()
                .map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor))
                .collect();
        }
        self
    }

    /// The values of the named tensors, in the order asked for, all finite; no other tensor may be
    /// in the file but those that `unused` names.
    pub fn tensors(
        &self,
        wanted: &[(String, Vec<usize>)],
        unused: impl Fn(&str) -> bool,
    ) -> Result<Vec<Vec<f32>>, TensorFileError> {
        let mut problems = Vec::new();
        let mut values = Vec::with_capacity(wanted.len());
        for (name, shape) in wanted {
            let Some(tensor) = self.tensors.get(name) else {
                problems.push(format!("{name} is missing"));
                continue;
            };
            if tensor.shape != *shape {
                problems.push(format!(
                    "{name} has shape {:?} instead of {shape:?}",
                    tensor.shape
                ));
                continue;
            }
            match tensor.values(&self.bytes) {
                None => problems.push(format!("{name} holds no floating-point numbers")),
                Some(numbers) if numbers.iter().any(|value| !value.is_finite()) => {
                    problems.push(format!(
                        "{name} holds NaN, infinity or a number beyond 32 bits"
                    ));
                }
                Some(numbers) => values.push(numbers),
            }
        }
        let known: HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        problems.extend(
            self.names()
                .filter(|name| !known.contains(name) && !unused(name))
                .map(|name| format!("{} does not belong here", shown(name))),
        );
        if problems.is_empty() {
            Ok(values)
        } else {
            Err(self.error(problems))
        }
    }

    /// An error about tensors of this file.
    pub fn error(&self, mut problems: Vec<String>) -> TensorFileError {
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            problems.truncate(MAX_PROBLEMS);
            problems.push(format!("and {more} more"));
        }
        TensorFileError::Tensors {
            path: self.path.clone(),
            problems,
        }
    }
}

/// The tensors of a safetensors file; the reader checks that every one lies within the file.
fn safetensors(
    bytes: &[u8],
) -> Result<BTreeMap<String, StoredTensor>, safetensors::SafeTensorError> {
    // Reading the metadata alone would not compare it with the length of the file.
    SafeTensors::deserialize(bytes)?;
    let (header, metadata) = SafeTensors::read_metadata(bytes)?;
    let data = size_of::<u64>() + header;
    Ok(metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let number = match info.dtype {
                Dtype::F16 => Number::F16,
                Dtype::BF16 => Number::Bf16,
                Dtype::F32 => Number::F32,
                Dtype::F64 => Number::F64,
                other => Number::Other(other.bitsize().div_ceil(8)),
            };
            let tensor = StoredTensor {
                number,
                shape: info.shape.clone(),
                strides: contiguous(&info.shape),
                start: data + info.data_offsets.0,
            };
            (name, tensor)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `torch.save` (`tests/oracle/make_state_dict.py`).
    const STATE_DICT: &[u8] = include_bytes!("../../tests/oracle/state_dict.pth");
    const OLD_STATE_DICT: &[u8] = include_bytes!("../../tests/oracle/old_state_dict.pth");

    fn parse(bytes: &[u8]) -> Result<TensorFile, TensorFileError> {
        TensorFile::parse(Path::new("state_dict.pth"), bytes.to_vec())
    }

    #[test]
    fn a_state_dict_of_torch_with_every_kind_of_tensor() {
        for bytes in [STATE_DICT, OLD_STATE_DICT] {
            has_every_kind_of_tensor(&parse(bytes).unwrap());
        }
    }

    fn has_every_kind_of_tensor(file: &TensorFile) {
        let expected: [(&str, &[usize], &[f32]); 10] = [
            ("brain", &[3], &[1.0, -3.0, 2f32.powi(100)]),
            ("empty", &[0, 3], &[]),
            ("half", &[3], &[0.5, -2.0, 65504.0]),
            ("parameter", &[2], &[4.0, 5.0]),
            ("plain", &[2, 3], &[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]),
            ("repeated", &[2, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]),
            ("same_storage", &[3], &[0.0, 1.5, 3.0]),
            ("scalar", &[], &[9.0]),
            ("transposed", &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
            ("view", &[2, 2], &[1.0, 1.5, 2.0, 2.5]),
        ];
        let wanted: Vec<_> = expected
            .iter()
            .map(|(name, shape, _)| (name.to_string(), shape.to_vec()))
            .collect();
        let values = file.tensors(&wanted, |name| name == "counter").unwrap();
        for ((name, _, expected), values) in expected.iter().zip(values) {
            assert_eq!(values, *expected, "{name}");
        }
        let error = file.tensors(&wanted, |_| false).unwrap_err().to_string();
        assert!(error.ends_with("counter does not belong here"), "{error}");
        let counter = [("counter".to_string(), Vec::new())];
        let error = file.tensors(&counter, |_| true).unwrap_err().to_string();
        assert!(error.ends_with("counter holds no floating-point numbers"));
    }

    #[test]
    fn safetensors_of_every_kind_of_number() {
        let stored = [
            ("a", Dtype::F64, 1.5f64.to_le_bytes().to_vec()),
            ("b", Dtype::F32, 2.5f32.to_le_bytes().to_vec()),
            ("c", Dtype::F16, f16::from_f32(3.5).to_le_bytes().to_vec()),
            ("d", Dtype::BF16, bf16::from_f32(4.5).to_le_bytes().to_vec()),
            ("e", Dtype::F64, 1e39f64.to_le_bytes().to_vec()),
        ];
        let views = stored.iter().map(|(name, dtype, bytes)| {
            let view = safetensors::tensor::TensorView::new(*dtype, vec![1], bytes);
            (*name, view.unwrap())
        });
        let file = parse(&safetensors::serialize(views, None).unwrap()).unwrap();
        let wanted = |names: &[&str]| -> Vec<(String, Vec<usize>)> {
            names
                .iter()
                .map(|name| (name.to_string(), vec![1]))
                .collect()
        };
        let values = file.tensors(&wanted(&["d", "a", "c", "b"]), |_| true);
        assert_eq!(values.unwrap(), [[4.5], [1.5], [3.5], [2.5]]);
        let error = file.tensors(&wanted(&["e"]), |_| true).unwrap_err();
        assert!(error.to_string().contains("e holds NaN, infinity"));
    }

    /// Cut anywhere and changed anywhere, a file is read or refused, never more than that.
    #[test]
    fn damaged_files_are_refused_in_order() {
        let try_all = |bytes: &[u8]| {
            if let Ok(file) = parse(bytes) {
                let all: Vec<_> = file
                    .tensors
                    .iter()
                    .filter(|(_, tensor)| tensor.shape.iter().product::<usize>() < 1000)
                    .map(|(name, tensor)| (name.clone(), tensor.shape.clone()))
                    .collect();
                let _ = file.tensors(&all, |_| true);
            }
        };
        let numbers = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &numbers).unwrap();
        let other = safetensors::serialize([("a", &view), ("b", &view)], None).unwrap();
        for whole in [STATE_DICT, OLD_STATE_DICT, &other] {
            for length in 0..whole.len() {
                assert!(parse(&whole[..length]).is_err(), "{length} bytes");
            }
            for at in 0..whole.len() {
                for change in [1, 0x80, 0xff] {
                    let mut bytes = whole.to_vec();
                    bytes[at] ^= change;
                    try_all(&bytes);
                }
            }
        }
    }
}
