//! A chain of convolutions, downward (strided) or upward (transposed): encoders, decoders, discriminators and generators alike.

use pupilla_nn::batch_norm::{self, Statistics};
use pupilla_nn::{BatchNorm, Convolution, Graph, Operation, Parameters, Role, Tape, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use pupilla_files::weight_file::{NamedTensor, Precision};

use crate::random::normal;

/// Added to a variance (PyTorch's): a channel that is constant is not blown up.
const EPSILON: f64 = 1e-5;

/// Which way a layer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// A convolution.
    Down,
    /// A transposed convolution.
    Up,
}

/// The plan of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerPlan {
    pub direction: Direction,
    /// Channels of input and output.
    pub channels: [usize; 2],
    pub kernel: usize,
    pub stride: usize,
    /// Zeros at every edge of the input; of a transposed convolution, rows and columns that are cut off from the output.
    pub padding: usize,
    /// Slope of the leaky ReLU after it: 1 for no activation, 0 for the plain ReLU.
    pub slope: f32,
    /// Whether batch norm stands before the activation, in training alone.
    pub normalised: bool,
    /// Whether a sigmoid stands after it.
    pub sigmoid: bool,
}

impl LayerPlan {
    /// Numbers that are summed into one output.
    fn fan_in(&self) -> usize {
        let taps = self.channels[0] * self.kernel * self.kernel;
        match self.direction {
            Direction::Down => taps,
            Direction::Up => (taps / (self.stride * self.stride)).max(1),
        }
    }

    fn operations(&self) -> Vec<Operation> {
        let convolution = Convolution {
            channels: self.channels,
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            bias: !self.normalised,
            slope: if self.normalised { 1.0 } else { self.slope },
            ceiling: f32::INFINITY,
        };
        let mut operations = vec![match self.direction {
            Direction::Down => Operation::Convolution(convolution),
            Direction::Up => Operation::TransposedConvolution(convolution),
        }];
        if self.normalised {
            operations.push(Operation::BatchNorm(BatchNorm {
                channels: self.channels[1],
                epsilon: EPSILON,
                affine: true,
                slope: self.slope,
            }));
        }
        if self.sigmoid {
            operations.push(Operation::Sigmoid);
        }
        operations
    }
}

/// Slope of the autoencoders' and discriminators' leaky ReLU (Bergmann et al. 2019; Radford et al. 2016).
const SLOPE: f32 = 0.2;

/// A convolution of a network that reads images.
pub(super) fn down(channels: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> LayerPlan {
    LayerPlan {
        direction: Direction::Down,
        channels,
        kernel,
        stride,
        padding,
        slope: SLOPE,
        normalised: false,
        sigmoid: false,
    }
}

/// Kernel, stride and padding of a layer that halves a map, and of one that keeps its size.
pub(super) const HALVING: [usize; 3] = [4, 2, 1];
pub(super) const KEEPING: [usize; 3] = [3, 1, 1];

/// The way back up, layer by layer.
pub(super) fn backwards(plan: &[LayerPlan]) -> Vec<LayerPlan> {
    let reversed = plan.iter().rev().map(|layer| LayerPlan {
        direction: Direction::Up,
        channels: [layer.channels[1], layer.channels[0]],
        ..*layer
    });
    reversed.collect()
}

/// The network of a plan, without its numbers.
pub(crate) fn graph(plan: &[LayerPlan]) -> Graph {
    Graph::chain(plan.iter().flat_map(LayerPlan::operations))
}

/// Names and shapes of the arrays of a network: `<prefix>.layer1.weight`, with batch norm `<prefix>.layer1.scale`,
/// `<prefix>.layer1.bias`, …
pub(crate) fn layout(prefix: &str, graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let mut layer = 0;
    let named = graph.parameters().into_iter().map(|parameter| {
        let what = match parameter.role {
            Role::Weight => {
                layer += 1;
                "weight"
            }
            Role::Bias => "bias",
            Role::Scale => "scale",
        };
        (format!("{prefix}.layer{layer}.{what}"), parameter.shape)
    });
    named.collect()
}

/// How weights begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Beginning {
    /// Normal, by the inputs of a layer and the slope after it (He et al. 2015).
    FanIn,
    /// Normal with this deviation (0.02: Radford et al. 2016), where batch norm takes care of the scale.
    Deviation(f32),
}

/// A chain of layers and their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub graph: Graph,
    /// In the order of [`layout`].
    pub parameters: Parameters,
}

impl Network {
    /// Random weights, biases 0, batch norm's scales 1.
    pub fn init(plan: &[LayerPlan], beginning: Beginning, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let deviation = |layer: &LayerPlan| match beginning {
            Beginning::Deviation(deviation) => deviation,
            Beginning::FanIn => {
                let gain = 2.0 / (1.0 + layer.slope * layer.slope);
                (gain / layer.fan_in() as f32).sqrt()
            }
        };
        let mut deviations = plan.iter().map(deviation);
        let graph = graph(plan);
        let parameters = graph.parameters();
        let mut arrays = parameters.iter().map(|parameter| {
            let numbers = 0..parameter.count();
            match parameter.role {
                Role::Weight => {
                    let deviation = deviations.next().unwrap_or_default();
                    numbers.map(|_| deviation * normal(&mut random)).collect()
                }
                Role::Bias => vec![0.0; numbers.len()],
                Role::Scale => vec![1.0; numbers.len()],
            }
        });
        Self::with_arrays(graph, &mut arrays)
    }

    /// A network with the next of some arrays, which are those of its [`layout`].
    pub fn with_arrays(graph: Graph, arrays: &mut impl Iterator<Item = Vec<f32>>) -> Self {
        let count = graph.parameters().len();
        let parameters = Parameters::new(arrays.take(count).collect());
        Self { graph, parameters }
    }

    /// Its arrays, to be written.
    pub fn export(&self, prefix: &str) -> Vec<NamedTensor> {
        let arrays = self.parameters.arrays().iter();
        let named = layout(prefix, &self.graph).into_iter().zip(arrays);
        let tensors = named.map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values: values.clone(),
            precision: Precision::Full,
        });
        tensors.collect()
    }

    /// The output.
    ///
    /// # Shapes
    /// `[batch, channels of the first layer, height, width]` to those of the last.
    pub fn run(&self, input: &Tensor) -> Tensor {
        self.graph.run(&self.parameters, input)
    }

    /// The output, and what gradients need.
    pub fn record<'a>(&'a self, input: &'a Tensor) -> Box<dyn Tape + 'a> {
        self.graph.record(&self.parameters, input)
    }

    /// The output; adds the statistics of the batch, to [`fold`](Self::fold) batch norm with.
    pub fn observe(&self, input: &Tensor, statistics: &mut Statistics) -> Tensor {
        let (output, moments) = self.graph.observe(&self.parameters, input);
        statistics.add(moments);
        output
    }

    /// The network without its last layer, if that layer is a convolution and nothing else.
    pub fn features(&self) -> Self {
        let last = self.graph.nodes().last();
        let hidden = last.map_or(Graph::INPUT, |node| node.inputs[0]);
        let arrays = self.parameters.arrays().iter().cloned();
        Self::with_arrays(self.graph.until(hidden), &mut { arrays })
    }

    /// The network without batch norm that computes the same with fixed statistics.
    pub fn fold(&self, statistics: &Statistics) -> Self {
        let (graph, parameters) = batch_norm::fold(&self.graph, &self.parameters, statistics);
        Self { graph, parameters }
    }
}
