//! Checkpoints of a run: everything that a step changes.

use std::time::Instant;

use burn::tensor::Bytes;
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::architecture::{names, plans};
use super::config::NetworkDetectorConfig;
use super::learner::{Learner, optimizers, terms, training_device};
use super::network::{Network, layout};
use crate::checkpoints::{Checkpoints, checksum};
use crate::error::TrainError;
use crate::weight_file::{FileHeader, NamedBytes, WeightFile};

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
    #[serde(flatten)]
    header: FileHeader,
    /// Settings and data of the run, in words that are equal for the same run only.
    identity: String,
    /// Worker threads: with others, sums are rounded otherwise.
    threads: usize,
    /// What the run had taken so far: of a budget, the rest is left.
    seconds: f64,
    planned: usize,
    /// The framework's names of the parameters of both networks, by which the optimisers' states know them.
    parameters: [Vec<u64>; 2],
    /// Of the numbers of all arrays and blobs, in the order in which they are written.
    crc32: u32,
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
        let Some(checkpoints) = checkpoints.filter(|checkpoints| checkpoints.resume) else {
            return Ok(fresh());
        };
        if !checkpoints.path.exists() {
            observer.warn(&format!(
                "there is no checkpoint {} yet: training starts from the beginning",
                checkpoints.path.display()
            ));
            return Ok(fresh());
        }
        let state = Self::read(config, data, checkpoints, observer)?;
        observer.resumed(state.steps(config) as u64);
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
        let crc32 = checksum(
            tensors.iter().map(|tensor| tensor.values.as_slice()),
            contents.iter().map(Vec::as_slice),
        );
        let blobs = BLOBS
            .into_iter()
            .zip(contents)
            .map(|(name, bytes)| NamedBytes {
                name: name.to_string(),
                bytes,
            });
        let manifest = Manifest {
            header: FileHeader::new(KIND),
            identity: identity(config, data),
            threads: rayon::current_num_threads(),
            seconds: self.seconds(),
            planned: self.planned.unwrap_or_default(),
            parameters: [0, 1].map(|index: usize| self.learner.networks[index].identities()),
            crc32,
        };
        let blobs: Vec<_> = blobs.collect();
        checkpoints.put(self.steps(config), &manifest, tensors, &blobs)
    }

    fn read(
        config: &NetworkDetectorConfig,
        data: &str,
        checkpoints: &Checkpoints,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let settings = &config.settings;
        let file = WeightFile::open(&checkpoints.path)?;
        let manifest: Manifest = file.manifest(KIND)?;
        if manifest.identity != identity(config, data) {
            return Err(TrainError::OtherRun {
                path: checkpoints.path.clone(),
            });
        }
        if manifest.threads != rayon::current_num_threads() {
            observer.warn(&format!(
                "the run began with {} threads and goes on with {}: the last bits of the result will be others",
                manifest.threads,
                rayon::current_num_threads()
            ));
        }
        let plans = plans(&settings.method, settings.side());
        let names = names(&settings.method);
        let layouts: Vec<_> = names
            .into_iter()
            .zip(&plans)
            .map(|(name, plan)| layout(name, plan))
            .collect();
        let (arrays, blobs) = file.tensors_and_bytes(&layouts.concat(), &BLOBS)?;
        let crc32 = checksum(
            arrays.iter().map(Vec::as_slice),
            blobs.iter().map(Vec::as_slice),
        );
        if crc32 != manifest.crc32 {
            let error = file.invalid("its checksum does not fit: it is damaged");
            return Err(error.into());
        }
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
