//! Names of a patch network's arrays in a weight file, and the way in and out of it.

use burn::tensor::Device;

use crate::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::weight_file::{NamedTensor, Precision};

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
    let values = network
        .weights()
        .into_iter()
        .flat_map(|(weight, bias)| [weight, bias]);
    layout(prefix, &network.config())
        .into_iter()
        .zip(values)
        .map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values,
            precision,
        })
        .collect()
}

/// A network from the values of its arrays in the order of [`layout`].
pub(crate) fn import(
    config: &PatchNetworkConfig,
    values: &mut impl Iterator<Item = Vec<f32>>,
    device: &Device,
) -> PatchNetwork {
    let pairs: Vec<_> = config
        .weight_shapes()
        .iter()
        .filter_map(|_| Some((values.next()?, values.next()?)))
        .collect();
    config.with_weights(pairs, device)
}
