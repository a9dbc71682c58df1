//! A patch network in training, with batch norm behind every activation (Ioffe and Szegedy 2015).
//!
//! Batch norm is a help for training alone. It stands *behind* activation and pooling, where the next
//! convolution is linear: dividing a channel by its deviation is dividing that channel's weights, so the
//! normalised map never exists while training, and with fixed statistics ([`NormalisedNetwork::fold`]) the
//! network is the published one, with other weights. For the same reason there is no scale and offset to
//! learn: the convolution has both.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::channel_moments::channel_moments;
use crate::patch_network::{PatchNetwork, values};

/// Added to a variance: a dead channel is not blown up.
const EPSILON: f64 = 1e-3;

/// A patch network whose hidden maps are normalised by the statistics of each batch.
#[derive(Module, Debug)]
pub(crate) struct NormalisedNetwork {
    pub network: PatchNetwork,
}

/// Mean and mean square of every channel of each hidden map, first layer first; over several
/// batches, their means.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HiddenMoments {
    /// A hidden map's means, then its mean squares.
    layers: Vec<[Vec<f64>; 2]>,
    batches: usize,
}

impl NormalisedNetwork {
    /// The grid of descriptors, see [`PatchNetwork::grid`], each hidden map normalised over the batch.
    pub fn grid(&self, input: Tensor<4>, stride: usize) -> Tensor<4> {
        self.network.grid_with(input, stride, |map, weight, bias| {
            let (weight, bias, _) = normalise(map, weight, bias);
            (weight, bias)
        })
    }

    /// Adds a batch's statistics.
    pub fn observe(&self, input: Tensor<4>, stride: usize, moments: &mut HiddenMoments) {
        let mut layers = Vec::new();
        // The output is not needed.
        let _ = self.network.grid_with(input, stride, |map, weight, bias| {
            let (weight, bias, of_map) = normalise(map, weight, bias);
            let of_map = values(of_map);
            let (means, squares) = of_map.split_at(of_map.len() / 2);
            let widened = |values: &[f32]| values.iter().copied().map(f64::from).collect();
            layers.push([widened(means), widened(squares)]);
            (weight, bias)
        });
        moments.add(layers);
    }

    /// The patch network that computes the same with fixed statistics.
    pub fn fold(&self, moments: &HiddenMoments) -> Vec<(Vec<f32>, Vec<f32>)> {
        let mut layers = self.network.weights();
        for ((weight, bias), [means, squares]) in layers.iter_mut().skip(1).zip(&moments.layers) {
            let factors: Vec<f64> = means
                .iter()
                .zip(squares)
                .map(|(mean, square)| 1.0 / ((square - mean * mean).max(0.0) + EPSILON).sqrt())
                .collect();
            let channels = factors.len();
            let taps = weight.len() / (bias.len() * channels);
            for (row, bias) in weight.chunks_exact_mut(channels * taps).zip(bias) {
                let mut offset = 0.0;
                for (kernel, (factor, mean)) in
                    row.chunks_exact_mut(taps).zip(factors.iter().zip(means))
                {
                    for value in kernel {
                        let folded = f64::from(*value) * factor;
                        offset += folded * mean;
                        *value = folded as f32;
                    }
                }
                *bias = (f64::from(*bias) - offset) as f32;
            }
        }
        layers
    }
}

/// Weight and bias of the convolution of a map that is to be normalised first, and the map's moments.
fn normalise(
    map: &Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
) -> (Tensor<4>, Tensor<1>, Tensor<2>) {
    let channels = map.dims()[1];
    let moments = channel_moments(map.clone());
    let mean = moments.clone().slice([0..1, 0..channels]);
    let square = moments.clone().slice([1..2, 0..channels]);
    let deviation = (square - mean.clone() * mean.clone())
        .clamp_min(0.0)
        .add_scalar(EPSILON)
        .sqrt();
    let weight = weight / deviation.reshape([1, channels, 1, 1]);
    let offset = (weight.clone() * mean.reshape([1, channels, 1, 1]))
        .sum_dim(3)
        .sum_dim(2)
        .sum_dim(1);
    let outputs = bias.dims()[0];
    (weight, bias - offset.reshape([outputs]), moments)
}

impl HiddenMoments {
    /// The layers' means, then their mean squares.
    pub fn layers(&self) -> &[[Vec<f64>; 2]] {
        &self.layers
    }

    /// Adds a batch's, one a layer.
    pub fn add(&mut self, layers: Vec<[Vec<f64>; 2]>) {
        self.batches += 1;
        if self.layers.is_empty() {
            self.layers = layers;
            return;
        }
        let share = 1.0 / self.batches as f64;
        for (all, new) in self.layers.iter_mut().zip(layers) {
            for (all, new) in all.iter_mut().zip(new) {
                for (all, new) in all.iter_mut().zip(new) {
                    *all += (new - *all) * share;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convolution::convolution;
    use crate::patch_network::{LEAKY_SLOPE, PatchNetworkConfig};
    use crate::receptive_field::{Layer, ReceptiveField};
    use burn::tensor::module::max_pool2d;
    use burn::tensor::ops::MaxPoolOptions;
    use burn::tensor::{Device, Distribution, TensorData};

    /// The network layer by layer, each hidden map normalised by itself.
    fn slow_grid(network: &PatchNetwork, input: Tensor<4>) -> Tensor<4> {
        let device = Device::flex();
        let config = network.config();
        let layers = config.layers();
        let mut weights = network.weights().into_iter().zip(config.weight_shapes());
        let mut map = input;
        for (index, layer) in layers.iter().enumerate() {
            match layer {
                Layer::Pooling => continue,
                Layer::Convolution(..) => {}
            }
            if index > 0 {
                map = normalised(map);
            }
            let ((weight, bias), shape) = weights.next().unwrap();
            let weight = Tensor::from_data(TensorData::new(weight, shape), &device);
            let bias = Tensor::from_data(TensorData::new(bias, [shape[0]]), &device);
            let last = index + 1 == layers.len();
            map = convolution(map, weight, bias, 1, if last { 1.0 } else { LEAKY_SLOPE });
            if layers.get(index + 1) == Some(&Layer::Pooling) {
                map = max_pool2d(map, MaxPoolOptions::new([2, 2]));
            }
        }
        map
    }

    /// Batch norm as it is usually written, on the map itself.
    fn normalised(map: Tensor<4>) -> Tensor<4> {
        let mean = map.clone().mean_dim(0).mean_dim(2).mean_dim(3);
        let centred = map - mean;
        let variance = centred
            .clone()
            .powi_scalar(2)
            .mean_dim(0)
            .mean_dim(2)
            .mean_dim(3);
        centred / variance.add_scalar(EPSILON).sqrt()
    }

    #[test]
    fn weights_are_normalised_instead_of_maps() {
        let device = Device::flex();
        device.seed(5);
        for field in ReceptiveField::ALL {
            let network = PatchNetworkConfig::new(field).init(7, &device);
            let side = field.side() + 2 * field.pooling_stride();
            let input =
                Tensor::<4>::random([3, 3, side, side], Distribution::Normal(0.3, 1.2), &device);
            let stride = field.pooling_stride();
            let slow = slow_grid(&network, input.clone());
            let training = NormalisedNetwork { network };
            let fast = training.grid(input.clone(), stride);
            let mut moments = HiddenMoments::default();
            training.observe(input.clone(), stride, &mut moments);
            let folded = training
                .network
                .config()
                .with_weights(training.fold(&moments), &device)
                .grid(input, stride);
            let slow = values(slow);
            let scale = slow.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            for other in [values(fast), values(folded)] {
                for (a, b) in other.iter().zip(&slow) {
                    assert!((a - b).abs() < 2e-4 * scale, "p = {field}: {a} and {b}");
                }
            }
        }
    }
}
