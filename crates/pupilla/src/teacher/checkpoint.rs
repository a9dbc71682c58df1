//! Checkpoints of a teacher's training: everything that a step changes, so that a run that was killed goes on
//! where it was and ends with the same bytes.

use burn::tensor::{Bytes, Device};
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::decoder::Decoder;
use super::distillation::TargetScale;
use super::history;
use super::training::{Learner, State};
use super::{Provenance, TeacherConfig, decoding_layout, decoding_tensors};
use crate::checkpoints::Checkpoints;
use crate::error::TrainError;
use crate::network_weights;
use crate::normalised_network::NormalisedNetwork;
use crate::weight_file::{NamedBytes, Precision};

/// `kind` of a checkpoint's file.
const KIND: &str = "teacher-checkpoint";

/// Prefix of the network's arrays.
const NETWORK: &str = "network";

/// The state of the optimiser, as the framework writes it.
const OPTIMIZER: &str = "optimizer";

/// The losses of the steps so far.
const HISTORY: &str = "history";

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Length of the distillation's targets, 0 without.
    targets: usize,
    /// The framework's names of the parameters, by which the optimiser's state knows them.
    parameters: Vec<u64>,
}

/// Settings and data of a run, in words that are equal for the same run only.
pub(super) fn identity(config: &TeacherConfig, provenance: &Provenance) -> String {
    format!("{} {config:?} {provenance:?}", env!("CARGO_PKG_VERSION"))
}

impl Checkpoints {
    pub(super) fn write(
        &self,
        state: &State,
        scale: Option<&TargetScale>,
        identity: &str,
    ) -> Result<(), TrainError> {
        let network = &state.learner.network.network;
        let mut tensors = network_weights::export(NETWORK, network, Precision::Full);
        let mut parameters = network.identities();
        let mut targets = 0;
        if let (Some(decoder), Some(scale)) = (&state.learner.decoder, scale) {
            targets = scale.mean.len();
            parameters.extend(decoder.identities());
            tensors.extend(decoding_tensors(decoder, scale, Precision::Full));
        }
        let optimizer = state.optimizer.into_bytes();
        let optimizer = optimizer.map_err(|error| TrainError::Optimizer(error.to_string()))?;
        let blobs = [
            NamedBytes {
                name: OPTIMIZER.to_string(),
                bytes: optimizer.to_vec(),
            },
            NamedBytes {
                name: HISTORY.to_string(),
                bytes: history::to_bytes(&state.history),
            },
        ];
        let manifest = Manifest {
            targets,
            parameters,
        };
        let step = state.history.len();
        self.put(step, (KIND, identity), manifest, tensors, &blobs)
    }

    /// The state in the file, if it is wanted and there is one.
    pub(super) fn resume(
        &self,
        config: &TeacherConfig,
        identity: &str,
        device: &Device,
        observer: &mut dyn Observer,
    ) -> Result<Option<(State, Option<TargetScale>)>, TrainError> {
        let Some(kept) = self.open::<Manifest>((KIND, identity), observer)? else {
            return Ok(None);
        };
        let (file, manifest) = (&kept.file, &kept.manifest);
        if config.distillation.is_some() != (manifest.targets > 0) {
            return Err(file
                .invalid("the number of targets does not fit the losses")
                .into());
        }
        let network_layout = network_weights::layout(NETWORK, &config.network);
        let network_arrays = network_layout.len();
        let mut wanted = network_layout;
        if manifest.targets > 0 {
            wanted.extend(decoding_layout(file, manifest.targets)?);
        }
        let (tensors, blobs) = kept.contents(&wanted, &[OPTIMIZER, HISTORY])?;
        let has_decoder = manifest.targets > 0;
        if manifest.parameters.len() != network_arrays + 2 * usize::from(has_decoder) {
            return Err(file.invalid("the number of parameters does not fit").into());
        }
        let mut tensors = tensors.into_iter();
        let (of_network, of_decoder) = manifest.parameters.split_at(network_arrays);
        let network = network_weights::import(&config.network, &mut tensors, device)
            .with_identities(of_network);
        let mut next = || tensors.next().unwrap_or_default();
        let (decoder, scale) = if has_decoder {
            let (weight, bias) = (next(), next());
            let decoder = Decoder::with_weights(weight, bias, device).with_identities(of_decoder);
            let scale = TargetScale {
                mean: next(),
                deviation: next(),
            };
            (Some(decoder), Some(scale))
        } else {
            (None, None)
        };
        let mut blobs = blobs.into_iter();
        let optimizer = blobs.next().unwrap_or_default();
        let optimizer = config
            .optimizer
            .init(config.weight_decay)
            .from_bytes(Bytes::from_bytes_vec(optimizer))
            .map_err(|error| file.invalid(format!("the optimiser's state: {error}")))?;
        let history = history::from_bytes(&blobs.next().unwrap_or_default())
            .filter(|history| history.len() <= config.steps)
            .ok_or_else(|| file.invalid("the history does not fit"))?;
        observer.resumed(history.len() as u64, None);
        let state = State {
            learner: Learner {
                network: NormalisedNetwork { network },
                decoder,
            },
            optimizer,
            history,
        };
        Ok(Some((state, scale)))
    }
}
