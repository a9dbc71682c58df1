//! A chain of convolutions, downward (strided) or upward (transposed): encoders, decoders, discriminators and generators alike.

use burn::module::{Module, Param};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::channel_moments::channel_moments;
use crate::convolution::convolution;
use crate::normalised_network::HiddenMoments;
use crate::patch_network::values;
use crate::random::normal;
use crate::transposed_convolution::{Transposed, transposed_convolution};
use crate::weight_file::{NamedTensor, Precision};

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

/// What a layer looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerPlan {
    pub direction: Direction,
    /// Channels of input and output.
    pub channels: [usize; 2],
    pub kernel: usize,
    pub stride: usize,
    /// Zeros at every edge of the input, or what is cut off from the output on the way up.
    pub padding: usize,
    /// Slope of the leaky ReLU behind it: 1 none, 0 the plain one.
    pub slope: f32,
    /// Whether batch norm stands before the activation, in training alone.
    pub normalised: bool,
}

impl LayerPlan {
    /// `[out, in, kernel, kernel]` of a convolution, `[in, out, kernel, kernel]` of a transposed one, as PyTorch has them.
    pub fn weight_shape(&self) -> [usize; 4] {
        let [from, to] = self.channels;
        match self.direction {
            Direction::Down => [to, from, self.kernel, self.kernel],
            Direction::Up => [from, to, self.kernel, self.kernel],
        }
    }

    /// Numbers that are summed into one output.
    fn fan_in(&self) -> usize {
        let taps = self.channels[0] * self.kernel * self.kernel;
        match self.direction {
            Direction::Down => taps,
            Direction::Up => (taps / (self.stride * self.stride)).max(1),
        }
    }
}

/// How weights begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Beginning {
    /// Normal, by the inputs of a layer and the slope behind it (He et al. 2015).
    FanIn,
    /// Normal with this deviation (0.02: Radford et al. 2016), where batch norm takes care of the scale.
    Deviation(f32),
}

/// One layer's numbers.
#[derive(Module, Debug)]
struct Layer {
    weight: Param<Tensor<4>>,
    /// `[to]`; behind batch norm if there is one.
    bias: Param<Tensor<1>>,
    /// `[to]`, of batch norm.
    scale: Option<Param<Tensor<1>>>,
}

/// What the layers look like, as a constant of the module.
#[derive(Clone, Debug)]
struct Plan(Vec<LayerPlan>);

/// A chain of layers.
#[derive(Module, Debug)]
pub(crate) struct Network {
    layers: Vec<Layer>,
    #[module(skip)]
    plan: Plan,
}

/// Names and shapes of the arrays of a network: `<prefix>.layer1.weight`, `<prefix>.layer1.bias`, with batch norm
/// `<prefix>.layer1.scale`, …
pub(crate) fn layout(prefix: &str, plan: &[LayerPlan]) -> Vec<(String, Vec<usize>)> {
    let mut layout = Vec::new();
    for (index, layer) in plan.iter().enumerate() {
        let name = |what: &str| format!("{prefix}.layer{}.{what}", index + 1);
        let to = layer.channels[1];
        layout.push((name("weight"), layer.weight_shape().to_vec()));
        layout.push((name("bias"), vec![to]));
        if layer.normalised {
            layout.push((name("scale"), vec![to]));
        }
    }
    layout
}

impl Network {
    /// Random weights, biases 0, batch norm's scales 1.
    pub fn init(plan: Vec<LayerPlan>, beginning: Beginning, seed: u64, device: &Device) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut arrays = Vec::new();
        for layer in &plan {
            let deviation = match beginning {
                Beginning::Deviation(deviation) => deviation,
                Beginning::FanIn => {
                    let gain = 2.0 / (1.0 + layer.slope * layer.slope);
                    (gain / layer.fan_in() as f32).sqrt()
                }
            };
            let count = layer.weight_shape().iter().product();
            arrays.push(
                (0..count)
                    .map(|_| deviation * normal(&mut random))
                    .collect(),
            );
            arrays.push(vec![0.0; layer.channels[1]]);
            if layer.normalised {
                arrays.push(vec![1.0; layer.channels[1]]);
            }
        }
        Self::with_arrays(plan, &mut arrays.into_iter(), device)
    }

    /// A network with the given numbers, in the order of [`layout`].
    ///
    /// # Panics
    /// If their lengths are not those of the layout: readers of files check first.
    pub fn with_arrays(
        plan: Vec<LayerPlan>,
        arrays: &mut impl Iterator<Item = Vec<f32>>,
        device: &Device,
    ) -> Self {
        let mut next = || arrays.next().unwrap_or_default();
        let line = |values: Vec<f32>, length| {
            Param::from_tensor(Tensor::from_data(TensorData::new(values, [length]), device))
        };
        let layers = plan.iter().map(|layer| {
            let to = layer.channels[1];
            let weight = TensorData::new(next(), layer.weight_shape());
            Layer {
                weight: Param::from_tensor(Tensor::from_data(weight, device)),
                bias: line(next(), to),
                scale: layer.normalised.then(|| line(next(), to)),
            }
        });
        Self {
            layers: layers.collect(),
            plan: Plan(plan),
        }
    }

    /// The same numbers on another device.
    pub fn on(&self, device: &Device) -> Self {
        Self::with_arrays(self.plan.0.clone(), &mut self.arrays().into_iter(), device)
    }

    /// Its numbers in the order of [`layout`].
    pub fn arrays(&self) -> Vec<Vec<f32>> {
        let of_layer = |layer: &Layer| {
            let mut arrays = vec![values(layer.weight.val()), values(layer.bias.val())];
            arrays.extend(layer.scale.iter().map(|scale| values(scale.val())));
            arrays
        };
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// The same, to be written.
    pub fn export(&self, prefix: &str) -> Vec<NamedTensor> {
        let named = layout(prefix, &self.plan.0).into_iter().zip(self.arrays());
        let tensors = named.map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values,
            precision: Precision::Full,
        });
        tensors.collect()
    }

    /// The framework's names of the parameters, in the order of [`layout`].
    pub fn identities(&self) -> Vec<u64> {
        let of_layer = |layer: &Layer| {
            let mut names = vec![layer.weight.id.val(), layer.bias.id.val()];
            names.extend(layer.scale.iter().map(|scale| scale.id.val()));
            names
        };
        self.layers.iter().flat_map(of_layer).collect()
    }

    /// The same network under other names.
    pub fn with_identities(mut self, identities: &[u64]) -> Self {
        let mut names = identities.iter().copied();
        for layer in &mut self.layers {
            let ids = [Some(&mut layer.weight.id), Some(&mut layer.bias.id)];
            let scale = layer.scale.as_mut().map(|scale| &mut scale.id);
            for (id, name) in ids.into_iter().chain([scale]).flatten().zip(&mut names) {
                *id = name.into();
            }
        }
        self
    }

    /// The output.
    ///
    /// # Shapes
    /// `[batch, channels of the first layer, height, width]` to those of the last.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.through(&self.layers, input, &mut |_| {})
    }

    /// What the last layer is given.
    pub fn features(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.layers.len().saturating_sub(1);
        self.through(&self.layers[..hidden], input, &mut |_| {})
    }

    /// Adds a batch's statistics, to [`fold`](Self::fold) batch norm with; and the output.
    pub fn observe(&self, input: Tensor<4>, moments: &mut HiddenMoments) -> Tensor<4> {
        let mut of_layers = Vec::new();
        let output = self.through(&self.layers, input, &mut |of_map| {
            let of_map = values(of_map);
            let (means, squares) = of_map.split_at(of_map.len() / 2);
            let widened = |values: &[f32]| values.iter().copied().map(f64::from).collect();
            of_layers.push([widened(means), widened(squares)]);
        });
        moments.add(of_layers);
        output
    }

    fn through(
        &self,
        layers: &[Layer],
        input: Tensor<4>,
        observed: &mut dyn FnMut(Tensor<2>),
    ) -> Tensor<4> {
        let planned = layers.iter().zip(&self.plan.0);
        planned.fold(input, |map, (layer, plan)| layer.apply(plan, map, observed))
    }

    /// The network without batch norm that computes the same with fixed statistics.
    pub fn fold(&self, moments: &HiddenMoments, device: &Device) -> Self {
        let mut of_layers = moments.layers().iter();
        let mut arrays = Vec::new();
        let mut plan = self.plan.0.clone();
        for (layer, plan) in self.layers.iter().zip(&mut plan) {
            let mut weight = values(layer.weight.val());
            let mut bias = values(layer.bias.val());
            // A layer without batch norm has no moments.
            if let Some(scale) = &layer.scale
                && let Some([means, squares]) = of_layers.next()
            {
                let scales = values(scale.val());
                let factors = scales.iter().zip(means.iter().zip(squares));
                let factors: Vec<f64> = factors
                    .map(|(scale, (mean, square))| {
                        f64::from(*scale) / ((square - mean * mean).max(0.0) + EPSILON).sqrt()
                    })
                    .collect();
                let taps = plan.kernel * plan.kernel;
                let [from, to] = plan.channels;
                for (index, kernel) in weight.chunks_exact_mut(taps).enumerate() {
                    let output = match plan.direction {
                        Direction::Down => index / from,
                        Direction::Up => index % to,
                    };
                    for value in kernel {
                        *value = (f64::from(*value) * factors[output]) as f32;
                    }
                }
                for (bias, (mean, factor)) in bias.iter_mut().zip(means.iter().zip(&factors)) {
                    *bias = (f64::from(*bias) - mean * factor) as f32;
                }
            }
            plan.normalised = false;
            arrays.extend([weight, bias]);
        }
        Self::with_arrays(plan, &mut arrays.into_iter(), device)
    }
}

impl Layer {
    fn apply(
        &self,
        plan: &LayerPlan,
        input: Tensor<4>,
        observed: &mut dyn FnMut(Tensor<2>),
    ) -> Tensor<4> {
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let Some(scale) = &self.scale else {
            return linear(plan, input, weight, bias, plan.slope);
        };
        let nothing = bias.zeros_like();
        let map = linear(plan, input, weight, nothing, 1.0);
        let channels = plan.channels[1];
        let moments = channel_moments(map.clone());
        observed(moments.clone());
        let mean = moments.clone().slice([0..1, 0..channels]);
        let square = moments.slice([1..2, 0..channels]);
        let deviation = (square - mean.clone() * mean.clone())
            .clamp_min(0.0)
            .add_scalar(EPSILON)
            .sqrt();
        let factor = scale.val().reshape([1, channels]) / deviation;
        let offset = bias.reshape([1, channels]) - mean * factor.clone();
        let spread = |line: Tensor<2>| line.reshape([1, channels, 1, 1]);
        let map = map * spread(factor) + spread(offset);
        activation::leaky_relu(map, f64::from(plan.slope))
    }
}

fn linear(
    plan: &LayerPlan,
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    slope: f32,
) -> Tensor<4> {
    let (padding, stride) = (plan.padding, plan.stride);
    match plan.direction {
        Direction::Down => {
            let input = if padding == 0 {
                input
            } else {
                let edges = (padding, padding, padding, padding);
                input.pad(edges, PadMode::Constant(0.0))
            };
            convolution(input, weight, bias, stride, slope)
        }
        Direction::Up => {
            let options = Transposed {
                stride,
                padding,
                slope,
            };
            transposed_convolution(input, weight, bias, options)
        }
    }
}
