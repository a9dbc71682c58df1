//! The optimiser of every network here: Adam (Kingma and Ba 2015) with PyTorch's constants.

use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, ModuleOptimizer};

/// A fresh Adam; weight decay is added to the gradient, as the paper's implementations do.
pub(crate) fn adam(weight_decay: f64) -> ModuleOptimizer {
    AdamConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(Some(WeightDecayConfig::new(weight_decay as f32)))
        .init()
}
