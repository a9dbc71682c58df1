//! The checkpoint files of a run: everything that a step changes, so that a killed run continues and ends with the same bytes. Each
//! kind of run defines the content of its checkpoints.

use std::fmt;
use std::path::{Path, PathBuf};

use pupilla_core::observer::Observer;
use pupilla_nn::OptimizerState;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use pupilla_files::foreign_text::shown;
use pupilla_files::weight_file::{
    self, Arrays, FileHeader, NamedBytes, NamedTensor, Precision, WeightFile, WeightFileError,
};

use crate::error::TrainError;

/// A run that a checkpoint can continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRun {
    /// What it trains: `"student-teacher"`, `"teacher"`, or `"network"` for a detector that reconstructs.
    pub trains: String,
    /// The steps that it has taken; `None` in files of older programs.
    pub steps: Option<usize>,
}

impl UnfinishedRun {
    /// The end of the kinds of all checkpoints.
    const KIND: &str = "-checkpoint";

    /// The run of a checkpoint file; `None` if the file is missing or no checkpoint. The file is not checked: only its head is read.
    pub fn find(path: &Path) -> Option<Self> {
        let manifest = weight_file::manifest_of(path).ok()??;
        let trains = manifest["kind"].as_str()?.strip_suffix(Self::KIND)?;
        let steps = manifest["step"].as_u64();
        Some(Self {
            trains: trains.to_string(),
            steps: steps.and_then(|steps| usize::try_from(steps).ok()),
        })
    }
}

/// "student-teacher, steps so far: 400"
impl fmt::Display for UnfinishedRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&shown(&self.trains))?;
        match self.steps {
            Some(steps) => write!(formatter, ", steps so far: {steps}"),
            None => Ok(()),
        }
    }
}

/// Where and how often to write checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The file; it is replaced as a whole, so that there is always one that is complete.
    pub path: PathBuf,
    /// Steps between two checkpoints, at least 1 ([`EVERY`](Self::EVERY)).
    pub every: usize,
    /// Whether to continue from the file, if there is one.
    pub resume: bool,
}

impl Checkpoints {
    /// Steps between two checkpoints by default.
    pub const EVERY: usize = 200;

    /// Removes the file, after the result is safe.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the state after a step over the state before it, unless a number is not finite: a state that no run can read must not
    /// replace a good state. `identity` has the run's settings and data, in words that are equal for the same run only. `manifest` has
    /// the other fields of its kind.
    pub(crate) fn put(
        &self,
        step: usize,
        (kind, identity): (&'static str, &str),
        manifest: impl Serialize,
        tensors: Vec<NamedTensor>,
        blobs: &[NamedBytes],
    ) -> Result<(), TrainError> {
        let broken = tensors
            .iter()
            .find(|tensor| tensor.values.iter().any(|value| !value.is_finite()));
        if let Some(tensor) = broken {
            return Err(TrainError::BrokenState {
                array: tensor.name.clone(),
                step,
            });
        }
        let crc32 = checksum(
            tensors.iter().map(|tensor| tensor.values.as_slice()),
            blobs.iter().map(|blob| blob.bytes.as_slice()),
        );
        let manifest = CommonManifest {
            header: FileHeader::new(kind),
            identity: of_version(identity),
            step: Some(step),
            threads: rayon::current_num_threads(),
            crc32,
            of_kind: manifest,
        };
        weight_file::write_with_bytes(&self.path, &manifest, tensors, blobs)?;
        Ok(())
    }

    /// The checkpoint to continue from, if `resume` is set and the file exists.
    pub(crate) fn open<M: DeserializeOwned>(
        &self,
        (kind, identity): (&'static str, &str),
        observer: &mut dyn Observer,
    ) -> Result<Option<ReadCheckpoint<M>>, TrainError> {
        if !self.resume {
            return Ok(None);
        }
        if !self.path.exists() {
            observer.warn(&format!(
                "there is no checkpoint {} yet: training starts from the beginning",
                self.path.display()
            ));
            return Ok(None);
        }
        let file = WeightFile::open(&self.path)?;
        let manifest: CommonManifest<M> = file.manifest(kind)?;
        if manifest.identity != of_version(identity) {
            return Err(TrainError::OtherRun {
                path: self.path.clone(),
            });
        }
        if manifest.threads != rayon::current_num_threads() {
            observer.warn(&format!(
                "the run began with {} threads and goes on with {}: the last bits of the result will be others",
                manifest.threads,
                rayon::current_num_threads()
            ));
        }
        Ok(Some(ReadCheckpoint {
            file,
            crc32: manifest.crc32,
            manifest: manifest.of_kind,
        }))
    }
}

/// The identity of a run, with the version of its checkpoints. In engine 2, the optimisers' states are arrays. In split 2, more of few
/// images are kept back.
fn of_version(identity: &str) -> String {
    format!(
        "{}, engine 2, split 2: {identity}",
        env!("CARGO_PKG_VERSION")
    )
}

/// The fields that the checkpoints of every kind of run have, and the fields of one kind, `M`.
#[derive(Serialize, Deserialize)]
struct CommonManifest<M> {
    #[serde(flatten)]
    header: FileHeader,
    identity: String,
    /// Steps of the whole run so far, for people.
    #[serde(default)]
    step: Option<usize>,
    /// Worker threads: with others, sums are rounded otherwise.
    threads: usize,
    /// Of the numbers of all arrays and blobs, in the order in which they are written.
    crc32: u32,
    #[serde(flatten)]
    of_kind: M,
}

/// A checkpoint of the run that goes on.
pub(crate) struct ReadCheckpoint<M> {
    pub file: WeightFile,
    crc32: u32,
    /// What its kind has to say.
    pub manifest: M,
}

impl<M> ReadCheckpoint<M> {
    /// All of its arrays and blobs, in the order in which they were written.
    pub fn contents(
        &self,
        arrays: &[(String, Vec<usize>)],
        blobs: &[&str],
    ) -> Result<Arrays, WeightFileError> {
        let (arrays, blobs) = self.file.tensors_and_bytes(arrays, blobs)?;
        let crc32 = checksum(
            arrays.iter().map(Vec::as_slice),
            blobs.iter().map(Vec::as_slice),
        );
        if crc32 != self.crc32 {
            let damaged = "its checksum does not fit: it is damaged";
            return Err(self.file.invalid(damaged));
        }
        Ok((arrays, blobs))
    }
}

/// CRC-32 of the numbers of all arrays and blobs, in this order.
pub(crate) fn checksum<'a>(
    tensors: impl Iterator<Item = &'a [f32]>,
    blobs: impl Iterator<Item = &'a [u8]>,
) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for values in tensors {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        hasher.update(&bytes);
    }
    for bytes in blobs {
        hasher.update(bytes);
    }
    hasher.finalize()
}

/// Names and shapes of an optimiser's state: `<prefix>.memory1`, …
pub(crate) fn optimizer_layout(prefix: &str, state: &OptimizerState) -> Vec<(String, Vec<usize>)> {
    let arrays = state.arrays().into_iter().enumerate();
    arrays
        .map(|(index, array)| (format!("{prefix}.memory{}", index + 1), vec![array.len()]))
        .collect()
}

/// The state of an optimiser, for writing; [`OptimizerState::restored`] reads it.
pub(crate) fn optimizer_export(prefix: &str, state: &OptimizerState) -> Vec<NamedTensor> {
    optimizer_layout(prefix, state)
        .into_iter()
        .zip(state.arrays())
        .map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values: values.to_vec(),
            precision: Precision::Full,
        })
        .collect()
}
