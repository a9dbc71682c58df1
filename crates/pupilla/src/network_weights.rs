//! Names of a patch network's arrays in a weight file, and the way in and out of it.

use pupilla_nn::{OptimizerState, Parameters};

use crate::patch_network::{PatchNetwork, PatchNetworkConfig};
use pupilla_files::weight_file::{NamedTensor, Precision};

/// Names and shapes of the arrays of a network: `<prefix>.conv1.weight`, `<prefix>.conv1.bias`, …
pub(crate) fn layout(prefix: &str, config: &PatchNetworkConfig) -> Vec<(String, Vec<usize>)> {
    config
        .weight_shapes()
        .into_iter()
        .enumerate()
        .flat_map(|(index, shape)| {
            let layer = format!("{prefix}.conv{}", index + 1);
            [
                (format!("{layer}.weight"), shape.to_vec()),
                (format!("{layer}.bias"), vec![shape[0]]),
            ]
        })
        .collect()
}

/// The arrays of a network, to be written.
pub(crate) fn export(
    prefix: &str,
    network: &PatchNetwork,
    precision: Precision,
) -> Vec<NamedTensor> {
    let arrays = network.parameters().arrays().iter();
    layout(prefix, &network.config())
        .into_iter()
        .zip(arrays)
        .map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values: values.clone(),
            precision,
        })
        .collect()
}

/// A network from the values of its arrays in the order of [`layout`].
pub(crate) fn import(
    config: &PatchNetworkConfig,
    values: &mut impl Iterator<Item = Vec<f32>>,
) -> PatchNetwork {
    let count = 2 * config.weight_shapes().len();
    config.with_parameters(Parameters::new(values.take(count).collect()))
}

/// Names and shapes of what an optimiser remembers: `<prefix>.memory1`, …
pub(crate) fn optimizer_layout(prefix: &str, state: &OptimizerState) -> Vec<(String, Vec<usize>)> {
    let arrays = state.arrays().into_iter().enumerate();
    arrays
        .map(|(index, array)| (format!("{prefix}.memory{}", index + 1), vec![array.len()]))
        .collect()
}

/// What an optimiser remembers, to be written; [`OptimizerState::restored`] reads it.
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
