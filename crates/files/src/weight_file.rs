//! The file of a teacher or a trained detector: safetensors (numbers, never code), with everything
//! about them as a JSON manifest in its metadata.
//!
//! Files are untrusted: size, header, format, version, shapes and every number are checked before
//! use. `docs/reference/model-file.md` describes the format.

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::atomic_file::{self, WriteError};
use crate::bounded_file::{self, BoundedFileError};

use crate::foreign_text::{shown, shown_up_to};

/// Version of the format that this program writes and reads.
pub const FORMAT_VERSION: u32 = 2;

/// The metadata key of the manifest.
const MANIFEST_KEY: &str = "pupilla";

/// Larger files are refused before they are read; three scales of large ensembles stay far below.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// More are counted, not named: a file may hold millions of arrays that do not belong there.
const MAX_PROBLEMS: usize = 1000;

/// Characters of what is wrong with a manifest: the sentence may quote it.
const MAX_REASON: usize = 500;

/// A file of weights could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightFileError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The message of the operating system.
        source: std::io::Error,
    },
    /// The file is larger than any that this program writes.
    #[error("{} has {bytes} bytes, more than the {MAX_FILE_BYTES} a model may have: it is not a Pupilla file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is not safetensors, or cut off.
    #[error("{} is not a Pupilla file, or it is cut off: {reason}", path.display())]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// The message of the reader.
        reason: String,
    },
    /// A safetensors file of another program.
    #[error("{} is a safetensors file without a Pupilla manifest: give a file written by `pupilla train` or `pupilla teacher train`", path.display())]
    NoManifest {
        /// The file.
        path: PathBuf,
    },
    /// Written by a program with another format.
    #[error("{} has format version {found} (written by {program}); this program reads version {FORMAT_VERSION}: use that program, or train again", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The program that wrote it.
        program: String,
    },
    /// A model where a teacher was expected, or a model of another detector.
    #[error("{} holds a {found}, not a {expected}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind that it holds.
        found: String,
        /// The wanted kind.
        expected: &'static str,
    },
    /// No reader knows the kind: the file holds a teacher where a model was expected, or a detector of another version of the program.
    #[error("{} holds a {found}, and not a model of a detector that this program knows: {known}", path.display())]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// The kind that it holds.
        found: String,
        /// The kinds that can be read, with commas between them.
        known: String,
    },
    /// The manifest lacks something or contradicts itself.
    #[error("the manifest of {} is not valid: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Tensors are missing, misshapen or not finite: all of them in one message.
    #[error("the weights of {} are not usable: {}", path.display(), problems.join("; "))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One sentence a tensor.
        problems: Vec<String>,
    },
}

/// The fields at the beginning of every manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileHeader {
    /// What the file holds: `"teacher"`, or the name of a detector.
    pub kind: String,
    /// [`FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// The program that wrote it, with its version.
    pub program: String,
}

impl FileHeader {
    /// The header of a file written now.
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_string(),
            format_version: FORMAT_VERSION,
            program: concat!("pupilla ", env!("CARGO_PKG_VERSION")).to_string(),
        }
    }
}

/// The `kind` in the manifest of a file of this program, of any format version; `None` for any other file. The arrays are not read.
///
/// # Errors
/// If the file cannot be opened or read.
pub fn kind_of(path: &Path) -> std::io::Result<Option<String>> {
    let kind = |manifest: serde_json::Value| Some(manifest["kind"].as_str()?.to_string());
    Ok(manifest_of(path)?.and_then(kind))
}

/// The manifest of a file of this program, of any format version and unchecked; `None` for any other file. The arrays are not read.
///
/// # Errors
/// If the file cannot be opened or read.
pub fn manifest_of(path: &Path) -> std::io::Result<Option<serde_json::Value>> {
    let file = std::fs::File::open(path)?;
    let mut begin = Vec::new();
    (&file).take(LENGTH_BYTES as u64).read_to_end(&mut begin)?;
    let Ok(length) = begin.try_into().map(u64::from_le_bytes) else {
        return Ok(None);
    };
    if length > MAX_HEADER_BYTES || length > file.metadata()?.len() {
        return Ok(None);
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header)?;
    let manifest = || {
        let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
        let manifest = header["__metadata__"][MANIFEST_KEY].as_str()?;
        serde_json::from_str(manifest).ok()
    };
    Ok(manifest())
}

/// A safetensors file begins with the length of its header.
const LENGTH_BYTES: usize = 8;

/// Headers of models have kilobytes, most of them their validation scores.
const MAX_HEADER_BYTES: u64 = 1 << 26;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    Full,
    /// Rounded to 16 bits: half the size, for shipped teachers.
    Half,
}

/// A named array on its way into a file.
pub struct NamedTensor {
    /// Its name, which no other entry of the file has.
    pub name: String,
    /// Its shape; the product is the number of values.
    pub shape: Vec<usize>,
    /// Its numbers, the last dimension fastest.
    pub values: Vec<f32>,
    /// How they are stored.
    pub precision: Precision,
}

/// Named bytes that only their owner can read, on their way into a file.
pub struct NamedBytes {
    /// Its name, which no other entry of the file has.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Writes a manifest and its tensors; the file appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write(
    path: &Path,
    manifest: &impl Serialize,
    tensors: Vec<NamedTensor>,
) -> Result<(), WriteError> {
    write_with_bytes(path, manifest, tensors, &[])
}

/// [`write()`] with bytes beside the tensors.
pub fn write_with_bytes(
    path: &Path,
    manifest: &impl Serialize,
    tensors: Vec<NamedTensor>,
    blobs: &[NamedBytes],
) -> Result<(), WriteError> {
    let failed = |error: String| WriteError {
        path: path.to_path_buf(),
        source: std::io::Error::other(error),
    };
    let manifest = serde_json::to_string(manifest).map_err(|error| failed(error.to_string()))?;
    let mut parts: Vec<Part<'_>> = tensors.into_iter().map(Part::Numbers).collect();
    parts.extend(blobs.iter().map(Part::Bytes));
    // The order of the safetensors crate: readers find numbers aligned.
    parts.sort_by(|one, other| {
        let order = other.dtype().cmp(&one.dtype());
        order.then_with(|| one.name().cmp(other.name()))
    });
    let mut end = 0;
    let infos = parts.iter().map(|part| {
        let start = end;
        end += part.byte_length();
        let info = TensorInfo {
            dtype: part.dtype(),
            shape: part.shape(),
            data_offsets: (start, end),
        };
        (part.name().to_string(), info)
    });
    let infos = infos.collect();
    // One key alone: a map of several would come out in any order.
    let metadata = HashMap::from([(MANIFEST_KEY.to_string(), manifest)]);
    let header = Metadata::new(Some(metadata), infos).map_err(|error| failed(error.to_string()))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| failed(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(failed(
            "its header is larger than readers accept".to_string(),
        ));
    }
    // Part by part: a checkpoint is larger than what a training step needs, and its numbers are in memory once already.
    atomic_file::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        parts.into_iter().try_for_each(|part| part.write(file))
    })
}

/// One entry of a file that is written.
enum Part<'a> {
    Numbers(NamedTensor),
    Bytes(&'a NamedBytes),
}

impl Part<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Numbers(tensor) => &tensor.name,
            Self::Bytes(blob) => &blob.name,
        }
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::Numbers(tensor) => match tensor.precision {
                Precision::Full => Dtype::F32,
                Precision::Half => Dtype::F16,
            },
            Self::Bytes(_) => Dtype::U8,
        }
    }

    fn shape(&self) -> Vec<usize> {
        match self {
            Self::Numbers(tensor) => tensor.shape.clone(),
            Self::Bytes(blob) => vec![blob.bytes.len()],
        }
    }

    fn byte_length(&self) -> usize {
        match self {
            Self::Numbers(tensor) => match tensor.precision {
                Precision::Full => 4 * tensor.values.len(),
                Precision::Half => 2 * tensor.values.len(),
            },
            Self::Bytes(blob) => blob.bytes.len(),
        }
    }

    fn write(self, file: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::Numbers(tensor) => {
                tensor
                    .values
                    .iter()
                    .try_for_each(|value| match tensor.precision {
                        Precision::Full => file.write_all(&value.to_le_bytes()),
                        Precision::Half => file.write_all(&f16::from_f32(*value).to_le_bytes()),
                    })
            }
            Self::Bytes(blob) => file.write_all(&blob.bytes),
        }
    }
}

/// Numbers and bytes in the order in which they were asked for.
pub type Arrays = (Vec<Vec<f32>>, Vec<Vec<u8>>);

/// An opened file: its manifest, and tensors to be taken by name and shape.
pub struct WeightFile {
    path: PathBuf,
    bytes: Vec<u8>,
    manifest: String,
    header: FileHeader,
}

impl WeightFile {
    /// Reads a file and checks its format and format version.
    pub fn open(path: &Path) -> Result<Self, WeightFileError> {
        let owned = path.to_path_buf();
        let bytes = bounded_file::read(path, MAX_FILE_BYTES).map_err(|error| match error {
            BoundedFileError::TooLarge { bytes, .. } => {
                WeightFileError::TooLarge { path: owned, bytes }
            }
            error => WeightFileError::Read {
                path: owned,
                source: error.into(),
            },
        })?;
        Self::parse(path, bytes)
    }

    /// The same for bytes that are in memory; `path` names them in errors.
    pub fn parse(path: &Path, bytes: Vec<u8>) -> Result<Self, WeightFileError> {
        let path = path.to_path_buf();
        let manifest = {
            let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|source| {
                WeightFileError::NotSafetensors {
                    path: path.clone(),
                    reason: shown_up_to(&source.to_string(), MAX_REASON),
                }
            })?;
            metadata
                .metadata()
                .as_ref()
                .and_then(|entries| entries.get(MANIFEST_KEY).cloned())
        };
        let Some(manifest) = manifest else {
            return Err(WeightFileError::NoManifest { path });
        };
        let header: FileHeader =
            serde_json::from_str(&manifest).map_err(|error| WeightFileError::Manifest {
                path: path.clone(),
                reason: shown_up_to(&error.to_string(), MAX_REASON),
            })?;
        if header.format_version != FORMAT_VERSION {
            return Err(WeightFileError::Version {
                path,
                found: header.format_version,
                program: shown(&header.program),
            });
        }
        Ok(Self {
            path,
            bytes,
            manifest,
            header,
        })
    }

    /// What the file holds.
    pub fn kind(&self) -> &str {
        &self.header.kind
    }

    /// The manifest, after a check that the file is of this `kind`.
    pub fn manifest<M: DeserializeOwned>(&self, kind: &'static str) -> Result<M, WeightFileError> {
        if self.header.kind != kind {
            return Err(WeightFileError::Kind {
                path: self.path.clone(),
                found: shown(&self.header.kind),
                expected: kind,
            });
        }
        serde_json::from_str(&self.manifest).map_err(|error| self.invalid(error.to_string()))
    }

    /// The error that this file is of none of the `known` kinds.
    pub fn unknown_kind(&self, known: &[&str]) -> WeightFileError {
        WeightFileError::UnknownKind {
            path: self.path.clone(),
            found: shown(&self.header.kind),
            known: known.join(", "),
        }
    }

    /// An error about the manifest of this file.
    pub fn invalid(&self, reason: impl Into<String>) -> WeightFileError {
        WeightFileError::Manifest {
            path: self.path.clone(),
            reason: shown_up_to(&reason.into(), MAX_REASON),
        }
    }

    /// The values of the named tensors, in the order asked for, all checked; no other tensor may
    /// be in the file.
    pub fn tensors(
        &self,
        wanted: &[(String, Vec<usize>)],
    ) -> Result<Vec<Vec<f32>>, WeightFileError> {
        Ok(self.tensors_and_bytes(wanted, &[])?.0)
    }

    /// [`tensors`](Self::tensors), and the named bytes beside them.
    pub fn tensors_and_bytes(
        &self,
        wanted: &[(String, Vec<usize>)],
        blobs: &[&str],
    ) -> Result<Arrays, WeightFileError> {
        let file = SafeTensors::deserialize(&self.bytes).map_err(|source| {
            WeightFileError::NotSafetensors {
                path: self.path.clone(),
                reason: shown_up_to(&source.to_string(), MAX_REASON),
            }
        })?;
        let mut problems = Vec::new();
        let mut values = Vec::with_capacity(wanted.len());
        for (name, shape) in wanted {
            match file.tensor(name) {
                Err(_) => problems.push(format!("{name} is missing")),
                Ok(view) if view.shape() != shape => problems.push(format!(
                    "{name} has shape {:?} instead of {shape:?}",
                    view.shape()
                )),
                Ok(view) => match numbers(&view) {
                    None => problems.push(format!("{name} is stored as {:?}", view.dtype())),
                    Some(numbers) if numbers.iter().any(|value| !value.is_finite()) => {
                        problems.push(format!("{name} holds NaN or infinity"));
                    }
                    Some(numbers) => values.push(numbers),
                },
            }
        }
        let mut bytes = Vec::with_capacity(blobs.len());
        for name in blobs {
            match file.tensor(name) {
                Err(_) => problems.push(format!("{name} is missing")),
                Ok(view) if view.dtype() != Dtype::U8 => {
                    problems.push(format!("{name} is stored as {:?}", view.dtype()));
                }
                Ok(view) => bytes.push(view.data().to_vec()),
            }
        }
        let mut extra: Vec<_> = file
            .names()
            .into_iter()
            .filter(|name| !wanted.iter().any(|(known, _)| known == name) && !blobs.contains(name))
            .collect();
        extra.sort_unstable();
        problems.extend(
            extra
                .into_iter()
                .map(|name| format!("{} does not belong here", shown(name))),
        );
        let more = problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            problems.truncate(MAX_PROBLEMS);
            problems.push(format!("and {more} more"));
        }
        if problems.is_empty() {
            Ok((values, bytes))
        } else {
            Err(WeightFileError::Tensors {
                path: self.path.clone(),
                problems,
            })
        }
    }
}

/// The numbers of a 32-bit or 16-bit tensor.
fn numbers(view: &TensorView<'_>) -> Option<Vec<f32>> {
    match view.dtype() {
        Dtype::F32 => Some(
            view.data()
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
        ),
        Dtype::F16 => {
            let halves: Vec<f16> = view
                .data()
                .as_chunks::<2>()
                .0
                .iter()
                .map(|bytes| f16::from_le_bytes(*bytes))
                .collect();
            Some(halves.to_f32_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_the_safetensors_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let tensor = |name: &str, shape: &[usize], precision| NamedTensor {
            name: name.to_string(),
            shape: shape.to_vec(),
            values: (0..shape.iter().product())
                .map(|index: usize| index as f32 / 3.0 - 1.0)
                .collect(),
            precision,
        };
        let tensors = || {
            vec![
                tensor("b.weight", &[2, 3], Precision::Full),
                tensor("half", &[5], Precision::Half),
                tensor("a.weight", &[1, 1, 7], Precision::Full),
                tensor("nothing", &[0, 4], Precision::Full),
            ]
        };
        let blobs = ["z", "optimizer"].map(|name| NamedBytes {
            name: name.to_string(),
            bytes: name.as_bytes().to_vec(),
        });
        let manifest = serde_json::json!({"kind": "test"});
        write_with_bytes(&path, &manifest, tensors(), &blobs).unwrap();

        let bytes_of = |tensor: NamedTensor| -> (String, Dtype, Vec<usize>, Vec<u8>) {
            let (dtype, bytes) = match tensor.precision {
                Precision::Full => {
                    let bytes = tensor.values.iter().map(|value| value.to_le_bytes());
                    (Dtype::F32, bytes.flatten().collect())
                }
                Precision::Half => {
                    let halves = tensor.values.iter().map(|&value| f16::from_f32(value));
                    let bytes = halves.map(f16::to_le_bytes);
                    (Dtype::F16, bytes.flatten().collect())
                }
            };
            (tensor.name, dtype, tensor.shape, bytes)
        };
        let mut stored: Vec<_> = tensors().into_iter().map(bytes_of).collect();
        stored.extend(blobs.into_iter().map(|blob| {
            let length = blob.bytes.len();
            (blob.name, Dtype::U8, vec![length], blob.bytes)
        }));
        let views = stored.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
            (name.as_str(), view)
        });
        let metadata = HashMap::from([(MANIFEST_KEY.to_string(), manifest.to_string())]);
        let expected = safetensors::serialize(views, Some(metadata)).unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);

        // Numbers that do not fill their shape are refused, and nothing is left.
        let short = NamedTensor {
            shape: vec![3, 3],
            ..tensor("short", &[2], Precision::Full)
        };
        let nowhere = folder.path().join("other.safetensors");
        write(&nowhere, &manifest, vec![short]).unwrap_err();
        assert!(!nowhere.exists());
    }
}
