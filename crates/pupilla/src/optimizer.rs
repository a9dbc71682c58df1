//! The optimisers of every network here, and the choice between them.

use std::fmt;
use std::str::FromStr;

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, ModuleOptimizer};
use serde::{Deserialize, Serialize};

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
            .with_weight_decay(Some(WeightDecayConfig::new(weight_decay as f32)))
            .init();
        match self {
            Self::Adam => adam,
            Self::Muon => adam.with_group(
                ParamGroup::from_predicate("weight"),
                Muon::new(weight_decay),
                None,
            ),
        }
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
