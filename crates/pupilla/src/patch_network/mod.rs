//! T̂, the patch network: a p×p patch becomes a descriptor, usually of 128 numbers. Students are patch networks. Teachers are patch
//! networks too, unless they are pretrained networks. Students and such teachers differ in their weights alone.
//!
//! Three ways to run a patch network, all the same function of a patch:
//! - on a single p×p patch, as it was defined: [`PatchNetwork::grid`] on an image of p×p pixels;
//! - on a grid of positions, as an ordinary convolutional network: [`PatchNetwork::grid`];
//! - on every position, [`PatchNetwork::dense`]: each pooling evaluated at all of its offsets
//!   (fast dense feature extraction, Bailer et al., BMVC 2017).

pub(crate) mod arrays;
mod receptive_field;

use std::borrow::Cow;

use pupilla_nn::{BatchNorm, Convolution, Graph, MaxPool, Operation, Parameters, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::random::normal;

pub(crate) use receptive_field::Layer;
pub use receptive_field::ReceptiveField;

/// Length of a descriptor, unless a patch network learns one of another length.
pub const DESCRIPTOR_CHANNELS: usize = 128;

/// Longest descriptor: a file's claim must not decide how much memory is taken.
pub const MAX_DESCRIPTOR_CHANNELS: usize = 4096;

/// Slope of the leaky ReLU after every convolution but the last (public implementations of the paper; its slides say ReLU).
pub const LEAKY_SLOPE: f32 = 5e-3;

/// Added to a variance by the batch norm of training: a dead channel is not blown up.
const EPSILON: f64 = 1e-3;

/// The configuration of a patch network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchNetworkConfig {
    /// The patch size p.
    pub receptive_field: ReceptiveField,
    /// Output channels of p = 65's third convolution: 128, or 256 as in some reimplementations.
    /// Without effect for other p.
    pub conv3_channels: usize,
    /// Length of a descriptor, 1 to 4096: 128, or that of the
    /// features that students of a pretrained network predict.
    pub output_channels: usize,
}

impl PatchNetworkConfig {
    /// The published network for p.
    pub fn new(receptive_field: ReceptiveField) -> Self {
        Self {
            receptive_field,
            conv3_channels: 128,
            output_channels: DESCRIPTOR_CHANNELS,
        }
    }

    /// Checks the sizes that a file claims, because they decide how much memory a network takes.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !matches!(self.conv3_channels, 128 | 256) {
            return Err(format!(
                "conv3_channels is {}, neither 128 nor 256",
                self.conv3_channels
            ));
        }
        if !(1..=MAX_DESCRIPTOR_CHANNELS).contains(&self.output_channels) {
            return Err(format!(
                "output_channels is {}, not 1 to {MAX_DESCRIPTOR_CHANNELS}",
                self.output_channels
            ));
        }
        Ok(())
    }

    /// Shapes of the convolutions' weights, `[out, in, kernel, kernel]`, first layer first.
    pub fn weight_shapes(&self) -> Vec<[usize; 4]> {
        let mut channels = 3;
        self.layers()
            .into_iter()
            .filter_map(|layer| match layer {
                Layer::Pooling => None,
                Layer::Convolution(kernel, out) => {
                    let shape = [out, channels, kernel, kernel];
                    channels = out;
                    Some(shape)
                }
            })
            .collect()
    }

    /// A network with random weights, see [`random_weights`](Self::random_weights).
    pub fn init(&self, seed: u64) -> PatchNetwork {
        self.with_weights(self.random_weights(seed))
    }

    /// Random weights (He et al. 2015: normal, fan-in; the last layer without the factor for the
    /// activation that it lacks) and biases 0, one pair a convolution, from a seed.
    pub fn random_weights(&self, seed: u64) -> Vec<(Vec<f32>, Vec<f32>)> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let shapes = self.weight_shapes();
        let last = shapes.len() - 1;
        let pair = |(index, shape): (usize, &[usize; 4])| {
            let fan_in = (shape[1] * shape[2] * shape[3]) as f32;
            let gain = if index == last { 1.0 } else { 2.0 };
            let deviation = (gain / fan_in).sqrt();
            let weight = (0..shape.iter().product())
                .map(|_| deviation * normal(&mut random))
                .collect();
            (weight, vec![0.0; shape[0]])
        };
        shapes.iter().enumerate().map(pair).collect()
    }

    /// A network with the given weights and biases, one pair a convolution, first layer first.
    ///
    /// # Panics
    /// If the lengths are not those of [`weight_shapes`](Self::weight_shapes): readers of files check first.
    pub(crate) fn with_weights(
        &self,
        weights: impl IntoIterator<Item = (Vec<f32>, Vec<f32>)>,
    ) -> PatchNetwork {
        let pairs = weights.into_iter();
        let arrays = pairs.flat_map(|(weight, bias)| [weight, bias]).collect();
        self.with_parameters(Parameters::new(arrays))
    }

    /// The same with the numbers of [`graph`](Self::graph)'s parameters.
    pub(crate) fn with_parameters(&self, parameters: Parameters) -> PatchNetwork {
        PatchNetwork {
            config: *self,
            parameters,
        }
    }

    /// The network as it gives the descriptors at every `stride`-th position: with stride 1 the dense method, each pooling at all of
    /// its offsets. Its parameters are weight and bias of each convolution, whatever the stride.
    ///
    /// In training a batch norm may stand after each activation and pooling, where the next convolution is linear: for the same reason
    /// there is no scale and offset to learn, since the convolution has both.
    ///
    /// # Panics
    /// If the stride is neither 1 nor a multiple of [`ReceptiveField::pooling_stride`].
    pub(crate) fn graph(&self, stride: usize, batch_norm: bool) -> Graph {
        let pooling_stride = self.receptive_field.pooling_stride();
        let dense = stride == 1;
        assert!(
            dense || (stride > 0 && stride.is_multiple_of(pooling_stride)),
            "the grid of p = {} has a stride that {pooling_stride} divides, not {stride}",
            self.receptive_field
        );
        let layers = self.layers();
        let mut shapes = self.weight_shapes().into_iter();
        let mut graph = Graph::default();
        for (index, layer) in layers.iter().enumerate() {
            let operation = match layer {
                Layer::Pooling if dense => Operation::MaxPoolFragments,
                Layer::Pooling => Operation::MaxPool(MaxPool::HALVING),
                Layer::Convolution(kernel, out) => {
                    let channels = shapes.next().map_or(0, |shape| shape[1]);
                    if batch_norm && index > 0 {
                        let norm = Operation::BatchNorm(BatchNorm {
                            channels,
                            epsilon: EPSILON,
                            affine: false,
                            slope: 1.0,
                        });
                        graph.add(norm, &[graph.output()]);
                    }
                    let last = index + 1 == layers.len();
                    Operation::Convolution(Convolution {
                        // No layer after the 4×4 convolution reads neighbours.
                        stride: if *kernel == 4 && !dense {
                            stride / pooling_stride
                        } else {
                            1
                        },
                        slope: if last { 1.0 } else { LEAKY_SLOPE },
                        ..Convolution::new([channels, *out], *kernel)
                    })
                }
            };
            graph.add(operation, &[graph.output()]);
        }
        if dense {
            let poolings = layers.iter().filter(|layer| **layer == Layer::Pooling);
            for _ in poolings {
                graph.add(Operation::Weave, &[graph.output()]);
            }
        }
        graph
    }

    /// An input as [`graph`](Self::graph) needs it.
    ///
    /// The dense method's poolings must meet maps of odd sides, for their four fragments to be of equal size: true if the number of
    /// positions is a multiple of the pooling stride.
    ///
    /// # Panics
    /// If the input is smaller than p.
    pub(crate) fn fitted<'a>(&self, input: &'a Tensor, stride: usize) -> Cow<'a, Tensor> {
        let field = self.receptive_field;
        if stride > 1 || field.pooling_stride() == 1 {
            return Cow::Borrowed(input);
        }
        let fitted = self
            .positions(input, stride)
            .map(|count| count.next_multiple_of(field.pooling_stride()) + field.span() - 1);
        Cow::Owned(input.clone().resized(fitted))
    }

    /// Rows and columns of patches in an input; [`graph`](Self::graph) may give further rows and columns after them.
    ///
    /// # Panics
    /// If the input is smaller than p.
    pub(crate) fn positions(&self, input: &Tensor, stride: usize) -> [usize; 2] {
        let field = self.receptive_field;
        let [_, _, height, width] = input.shape();
        [height, width].map(|size| {
            assert!(
                size >= field.side(),
                "{size} pixels are fewer than the receptive field p = {field}"
            );
            (size - field.side()) / stride + 1
        })
    }

    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.receptive_field
            .layers(self.conv3_channels, self.output_channels)
    }
}

/// T̂: a patch of p×p pixels becomes a descriptor of [`PatchNetworkConfig::output_channels`] numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchNetwork {
    config: PatchNetworkConfig,
    parameters: Parameters,
}

impl PatchNetwork {
    /// The network's configuration.
    pub fn config(&self) -> PatchNetworkConfig {
        self.config
    }

    /// The patch size p.
    pub fn receptive_field(&self) -> ReceptiveField {
        self.config.receptive_field
    }

    /// The descriptors of the patches whose top left corners stand at every `stride`-th row and
    /// column.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`, each side at least p
    /// - output: `[batch, output_channels, (height - p) / stride + 1, (width - p) / stride + 1]`
    ///
    /// # Panics
    /// If the input is smaller than p, or the stride is neither 1 (the [dense](Self::dense) method) nor a multiple of
    /// [`ReceptiveField::pooling_stride`].
    pub fn grid(&self, input: &Tensor, stride: usize) -> Tensor {
        let graph = self.config.graph(stride, false);
        let fitted = self.config.fitted(input, stride);
        let map = graph.run(&self.parameters, &fitted);
        map.resized(self.config.positions(input, stride))
    }

    /// The descriptor of the patch at every position, exactly what [`grid`](Self::grid) gives for
    /// each patch alone.
    ///
    /// At a pooling the map splits into four fragments, one an offset, which continue side by side
    /// in the batch dimension and are woven together at the end.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`, each side at least p
    /// - output: `[batch, output_channels, height - p + 1, width - p + 1]`
    ///
    /// # Panics
    /// If the input is smaller than p.
    pub fn dense(&self, input: &Tensor) -> Tensor {
        self.grid(input, 1)
    }

    /// Weight and bias of each convolution, first layer first.
    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The same, as pairs of plain numbers.
    pub(crate) fn weights(&self) -> Vec<(Vec<f32>, Vec<f32>)> {
        let pairs = self.parameters.arrays().as_chunks::<2>().0.iter();
        pairs
            .map(|[weight, bias]| (weight.clone(), bias.clone()))
            .collect()
    }
}
