//! The arrays of a patch network in a weight file: their names, writing and reading.

use pupilla_nn::Parameters;

use pupilla_files::weight_file::{NamedTensor, Precision};

use super::{PatchNetwork, PatchNetworkConfig};

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
