//! Where a run keeps its checkpoints: everything that a step changes, so that a run that was killed goes on where it was and ends
//! with the same bytes. What is in them, each kind of run says itself.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::TrainError;
use crate::weight_file::{self, NamedBytes, NamedTensor};

/// Where and how often to write checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// The file; it is replaced as a whole, so that there is always one that is complete.
    pub path: PathBuf,
    /// Steps between two checkpoints, at least 1.
    pub every: usize,
    /// Whether to go on from the file, if there is one.
    pub resume: bool,
}

impl Checkpoints {
    /// Takes the file away, once the result is safe.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the state behind a step in place of the one before, unless a number of it is none: what nobody could read again must not
    /// replace what can be gone on from.
    pub(crate) fn put(
        &self,
        step: usize,
        manifest: &impl Serialize,
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
        weight_file::write_with_bytes(&self.path, manifest, tensors, blobs)?;
        Ok(())
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
