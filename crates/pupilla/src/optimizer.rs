//! The optimisers of every network here, and the choice between them.

use std::fmt;
use std::str::FromStr;

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{
    self, AdamConfig, LearningRate, ModuleOptimizer, RecordState, StateSink, StateSource,
};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::device;
use crate::muon::Muon;

/// How gradients become steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam (Kingma and Ba 2015) with PyTorch's constants, the paper's; weight decay is added to the gradient. Files that do
    /// not name their optimiser are from before there was a choice: theirs was Adam.
    #[default]
    Adam,
    /// Muon (Jordan et al. 2024) for the convolutions' kernels, at a scale that suits Adam's learning rates (Liu et al.
    /// 2025), and Adam for their biases. It needs a fraction of Adam's steps; ours.
    Muon,
}

/// A word that names no optimiser.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not an optimiser: choose adam or muon")]
pub struct UnknownOptimizer(String);

impl Optimizer {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Adam, Self::Muon];

    /// A fresh one.
    pub(crate) fn init(self, weight_decay: f64) -> ModuleOptimizer {
        let adam = AdamConfig::new()
            .with_epsilon(1e-8)
            .with_weight_decay(Some(WeightDecayConfig::new(weight_decay as f32)));
        let adam = adam_of(&adam);
        match self {
            Self::Adam => adam,
            Self::Muon => adam.with_group(
                ParamGroup::from_predicate("weight"),
                ReadOnCpu(Muon::new(weight_decay)),
                None,
            ),
        }
    }
}

/// Adam by constants of its own, its state read on the processor.
pub(crate) fn adam_of(config: &AdamConfig) -> ModuleOptimizer {
    ModuleOptimizer::from(ReadOnCpu(config.build()))
}

/// An optimiser whose state is read on the processor. The framework would read it on its default device, which is a GPU where it
/// knows any, even if none is there or another is wanted; a step takes the state to its weight's device anyway.
#[derive(Clone)]
struct ReadOnCpu<O>(O);

#[derive(Clone)]
struct OnCpu<S>(S);

impl<S: RecordState> RecordState for OnCpu<S> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(prefix, out);
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, _device: &Device) -> Option<Self> {
        S::state_unflatten(prefix, source, &device::cpu()).map(Self)
    }
}

impl<O: optim::Optimizer> optim::Optimizer for ReadOnCpu<O> {
    type State<const D: usize> = OnCpu<O::State<D>>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let state = state.map(|state| state.0);
        let (weight, state) = self.0.step(rate, weight, gradient, state);
        (weight, state.map(OnCpu))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        OnCpu(O::to_device(state.0, device))
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Adam => "adam",
            Self::Muon => "muon",
        })
    }
}

impl FromStr for Optimizer {
    type Err = UnknownOptimizer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|optimizer| optimizer.to_string() == text)
            .ok_or_else(|| UnknownOptimizer(text.to_string()))
    }
}
