//! Checkpoints of a run: everything that a step changes.

use std::time::Instant;

use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use pupilla_files::weight_file::NamedBytes;

use super::config::ReconstructionConfig;
use super::learner::Learner;
use crate::error::TrainError;
use crate::training::checkpoints::{Checkpoints, ReadCheckpoint};

/// `kind` of a checkpoint's file.
const KIND: &str = "network-checkpoint";

/// Name of the bytes beside the arrays: the losses of the steps so far.
const LOSSES: &str = "losses";

/// A run, as far as it has come.
pub(super) struct State {
    pub learner: Learner,
    /// Steps in all, once they are known.
    pub planned: Option<usize>,
    /// The losses of each step, one after the other.
    pub losses: Vec<f64>,
    started: Instant,
    /// Seconds that the run had taken before it was resumed.
    before: f64,
}

#[derive(Serialize, Deserialize)]
struct CheckpointManifest {
    /// Seconds that the run had taken so far: the rest of a budget is left.
    seconds: f64,
    planned: usize,
}

/// Settings and data of a run, in words that are equal for the same run only.
fn identity(config: &ReconstructionConfig, data: &str) -> String {
    format!("{:?} {data}", config.settings)
}

impl State {
    /// The start of a run: its first step, or the state of its checkpoint, if `resume` is set and the checkpoint exists.
    pub fn begin(
        config: &ReconstructionConfig,
        data: &str,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let mut state = Self {
            learner: Learner::begin(&config.settings),
            planned: None,
            losses: Vec::new(),
            started: Instant::now(),
            before: 0.0,
        };
        let identity = identity(config, data);
        let kept = match checkpoints {
            Some(checkpoints) => checkpoints.open((KIND, &identity), observer)?,
            None => None,
        };
        if let Some(kept) = kept {
            state = state.restored(config, &kept)?;
            observer.resumed(state.steps(config) as u64, Some(state.before));
        }
        Ok(state)
    }

    /// Steps so far.
    pub fn steps(&self, config: &ReconstructionConfig) -> usize {
        self.losses.len() / config.settings.method.any().terms().len()
    }

    /// Seconds since the run began, those before it was resumed among them.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub fn write(
        &self,
        config: &ReconstructionConfig,
        data: &str,
        checkpoints: &Checkpoints,
    ) -> Result<(), TrainError> {
        let losses = self.losses.iter().copied();
        let losses = NamedBytes {
            name: LOSSES.to_string(),
            bytes: losses.flat_map(f64::to_le_bytes).collect(),
        };
        let manifest = CheckpointManifest {
            seconds: self.seconds(),
            planned: self.planned.unwrap_or_default(),
        };
        let identity = identity(config, data);
        let tensors = self.learner.export();
        checkpoints.put(
            self.steps(config),
            (KIND, &identity),
            manifest,
            tensors,
            &[losses],
        )
    }

    /// The state that a checkpoint has.
    fn restored(
        mut self,
        config: &ReconstructionConfig,
        kept: &ReadCheckpoint<CheckpointManifest>,
    ) -> Result<Self, TrainError> {
        let (file, manifest) = (&kept.file, &kept.manifest);
        let (arrays, blobs) = kept.contents(&self.learner.layout(), &[LOSSES])?;
        let (losses, rest) = blobs[0].as_chunks::<8>();
        self.losses = losses.iter().copied().map(f64::from_le_bytes).collect();
        let steps = self.steps(config);
        let whole =
            rest.is_empty() && losses.len() == steps * config.settings.method.any().terms().len();
        if !whole || manifest.planned == 0 || steps > manifest.planned {
            return Err(file.invalid("the losses do not fit").into());
        }
        let restored = self.learner.restored(steps as u64, arrays);
        let misfit = || file.invalid("the optimisers' arrays do not fit");
        Ok(Self {
            learner: restored.ok_or_else(misfit)?,
            planned: Some(manifest.planned),
            before: manifest.seconds.max(0.0),
            ..self
        })
    }
}
