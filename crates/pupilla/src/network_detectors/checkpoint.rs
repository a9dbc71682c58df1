//! Checkpoints of a run: everything that a step changes.

use std::time::Instant;

use burn::tensor::Bytes;
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::architecture::{names, plans};
use super::config::NetworkDetectorConfig;
use super::learner::{Learner, optimizers, terms, training_device};
use super::network::{Network, layout};
use crate::checkpoints::{Checkpoints, Kept};
use crate::error::TrainError;
use crate::weight_file::NamedBytes;

/// `kind` of a checkpoint's file.
const KIND: &str = "network-checkpoint";

/// Names of the blobs: the optimisers' states as the framework writes them, and the losses of the steps so far.
const BLOBS: [&str; 3] = ["optimizer0", "optimizer1", "losses"];

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
struct Manifest {
    /// What the run had taken so far: of a budget, the rest is left.
    seconds: f64,
    planned: usize,
    /// The framework's names of the parameters of both networks, by which the optimisers' states know them.
    parameters: [Vec<u64>; 2],
}

/// Settings and data of a run, in words that are equal for the same run only.
fn identity(config: &NetworkDetectorConfig, data: &str) -> String {
    format!("{} {:?} {data}", env!("CARGO_PKG_VERSION"), config.settings)
}

impl State {
    /// Where a run begins: at its beginning, or where its checkpoint says, if that is wanted and there is one.
    pub fn begin(
        config: &NetworkDetectorConfig,
        data: &str,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let fresh = || Self {
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
        let Some(kept) = kept else {
            return Ok(fresh());
        };
        let state = Self::read(config, &kept)?;
        observer.resumed(state.steps(config) as u64, Some(state.before));
        Ok(state)
    }

    /// Steps so far.
    pub fn steps(&self, config: &NetworkDetectorConfig) -> usize {
        self.losses.len() / terms(&config.settings.method).len()
    }

    /// Seconds since the run began, those before it was resumed among them.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    pub fn write(
        &self,
        config: &NetworkDetectorConfig,
        data: &str,
        checkpoints: &Checkpoints,
    ) -> Result<(), TrainError> {
        let named = names(&config.settings.method).into_iter();
        let networks = named.zip(&self.learner.networks);
        let tensors: Vec<_> = networks
            .flat_map(|(name, network)| network.export(name))
            .collect();
        let mut contents = Vec::new();
        for optimizer in &self.learner.optimizers {
            let bytes = optimizer.into_bytes();
            let bytes = bytes.map_err(|error| TrainError::Optimizer(error.to_string()))?;
            contents.push(bytes.to_vec());
        }
        let losses = self.losses.iter().copied();
        contents.push(losses.flat_map(f64::to_le_bytes).collect());
        let blobs = BLOBS
            .into_iter()
            .zip(contents)
            .map(|(name, bytes)| NamedBytes {
                name: name.to_string(),
                bytes,
            });
        let manifest = Manifest {
            seconds: self.seconds(),
            planned: self.planned.unwrap_or_default(),
            parameters: [0, 1].map(|index: usize| self.learner.networks[index].identities()),
        };
        let blobs: Vec<_> = blobs.collect();
        let identity = identity(config, data);
        let step = self.steps(config);
        checkpoints.put(step, (KIND, &identity), manifest, tensors, &blobs)
    }

    fn read(config: &NetworkDetectorConfig, kept: &Kept<Manifest>) -> Result<Self, TrainError> {
        let settings = &config.settings;
        let (file, manifest) = (&kept.file, &kept.manifest);
        let plans = plans(&settings.method, settings.side());
        let names = names(&settings.method);
        let layouts: Vec<_> = names
            .into_iter()
            .zip(&plans)
            .map(|(name, plan)| layout(name, plan))
            .collect();
        let (arrays, blobs) = kept.contents(&layouts.concat(), &BLOBS)?;
        let mut fit = layouts.iter().zip(&manifest.parameters);
        if !fit.all(|(layout, names)| layout.len() == names.len()) {
            return Err(file.invalid("the number of parameters does not fit").into());
        }
        let [of_first, of_second, losses] = &blobs[..] else {
            return Err(file.invalid("its arrays do not fit").into());
        };
        let (losses, rest) = losses.as_chunks::<8>();
        let losses: Vec<f64> = losses.iter().copied().map(f64::from_le_bytes).collect();
        let terms = terms(&settings.method).len();
        if !rest.is_empty()
            || !losses.len().is_multiple_of(terms)
            || losses.len() / terms > manifest.planned
        {
            return Err(file.invalid("the losses do not fit").into());
        }
        let device = training_device();
        let mut arrays = arrays.into_iter();
        let mut parameters = manifest.parameters.iter();
        let networks = plans.map(|plan| {
            let network = Network::with_arrays(plan, &mut arrays, &device);
            network.with_identities(parameters.next().map_or(&[], Vec::as_slice))
        });
        let [first, second] = optimizers(settings);
        let restored = |optimizer: burn::optim::ModuleOptimizer, bytes: &[u8]| {
            let bytes = Bytes::from_bytes_vec(bytes.to_vec());
            let restored = optimizer.from_bytes(bytes);
            restored.map_err(|error| file.invalid(format!("the optimiser's state: {error}")))
        };
        let optimizers = [restored(first, of_first)?, restored(second, of_second)?];
        Ok(Self {
            learner: Learner::with_parts(networks, optimizers, settings),
            planned: Some(manifest.planned),
            losses,
            started: Instant::now(),
            before: manifest.seconds.max(0.0),
        })
    }
}
