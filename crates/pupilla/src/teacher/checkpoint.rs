//! Checkpoints of a teacher's training: everything that a step changes, so that a killed run continues and ends with the same bytes.

use pupilla_core::observer::Observer;
use pupilla_nn::Parameters;
use serde::{Deserialize, Serialize};

use pupilla_files::weight_file::{NamedBytes, Precision};

use super::training::{State, fresh_optimizers};
use super::{Provenance, history};
use crate::error::TrainError;
use crate::features::teacher::{Decoding, TeacherConfig};
use crate::patch_network::arrays;
use crate::training::checkpoints::{self, Checkpoints};

/// `kind` of a checkpoint's file.
const KIND: &str = "teacher-checkpoint";

/// Prefixes of the arrays of the network and the decoder.
const PREFIXES: [&str; 2] = ["network", "decoder"];

/// The losses of the steps so far.
const HISTORY: &str = "history";

#[derive(Serialize, Deserialize)]
struct CheckpointManifest {
    /// Length of the distillation's targets, 0 without.
    targets: usize,
}

/// Settings and data of a run, in words that are equal for the same run only.
pub(super) fn identity(config: &TeacherConfig, provenance: &Provenance) -> String {
    format!("{config:?} {provenance:?}")
}

impl Checkpoints {
    pub(super) fn write(
        &self,
        config: &TeacherConfig,
        state: &State,
        identity: &str,
    ) -> Result<(), TrainError> {
        let network = config.network.with_parameters(state.network.clone());
        let mut tensors = arrays::export(PREFIXES[0], &network, Precision::Full);
        let decoding = state.decoding.as_ref();
        tensors.extend(decoding.map_or_else(Vec::new, |of| of.export(Precision::Full)));
        for (prefix, optimizer) in PREFIXES.iter().zip(&state.optimizers) {
            tensors.extend(checkpoints::optimizer_export(prefix, optimizer));
        }
        let history = NamedBytes {
            name: HISTORY.to_string(),
            bytes: history::to_bytes(&state.history),
        };
        let manifest = CheckpointManifest {
            targets: decoding.map_or(0, Decoding::targets),
        };
        let step = state.history.len();
        self.put(step, (KIND, identity), manifest, tensors, &[history])
    }

    /// The state in the file, if it is wanted and there is one.
    pub(super) fn resume(
        &self,
        config: &TeacherConfig,
        identity: &str,
        observer: &mut dyn Observer,
    ) -> Result<Option<State>, TrainError> {
        let Some(kept) = self.open::<CheckpointManifest>((KIND, identity), observer)? else {
            return Ok(None);
        };
        let (file, targets) = (&kept.file, kept.manifest.targets);
        if config.distillation.is_some() != (targets > 0) {
            return Err(file
                .invalid("the number of targets does not fit the losses")
                .into());
        }
        let mut wanted = arrays::layout(PREFIXES[0], &config.network);
        let of_network = wanted.len();
        if targets > 0 {
            wanted.extend(Decoding::layout(file, targets)?);
        }
        let optimizers = fresh_optimizers(config, targets);
        for (prefix, optimizer) in PREFIXES.iter().zip(&optimizers) {
            wanted.extend(checkpoints::optimizer_layout(prefix, optimizer));
        }
        let (tensors, blobs) = kept.contents(&wanted, &[HISTORY])?;
        let history = blobs.first().and_then(|bytes| history::from_bytes(bytes));
        let history = history
            .filter(|history| history.len() <= config.steps)
            .ok_or_else(|| file.invalid("the history does not fit"))?;
        let mut tensors = tensors.into_iter();
        let network = Parameters::new(tensors.by_ref().take(of_network).collect());
        let decoding = (targets > 0).then(|| Decoding::import(&mut tensors));
        let steps = history.len() as u64;
        let [of_network, of_decoder] = optimizers.map(|of| of.restored(steps, &mut tensors));
        let (Some(of_network), Some(of_decoder)) = (of_network, of_decoder) else {
            return Err(file.invalid("the optimiser's state does not fit").into());
        };
        observer.resumed(steps, None);
        Ok(Some(State {
            network,
            decoding,
            optimizers: [of_network, of_decoder],
            history,
        }))
    }
}
