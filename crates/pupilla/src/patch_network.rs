//! T̂, the patch network: a p×p patch becomes a descriptor, usually of 128 numbers. Students are patch
//! networks, and so are teachers that are no pretrained network; the two differ in their weights alone.
//!
//! Three ways to run one, all the same function of a patch:
//! - on a single p×p patch, as it was defined: [`PatchNetwork::grid`] on an image of p×p pixels;
//! - on a grid of positions, as an ordinary convolutional network: [`PatchNetwork::grid`];
//! - on every position, [`PatchNetwork::dense`]: each pooling evaluated at all of its offsets
//!   (fast dense feature extraction, Bailer et al., BMVC 2017).

use burn::module::{Module, Param};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::convolution::{convolution, convolution_max_pool, max_pool_fragments};
use crate::random::normal;
use crate::receptive_field::{Layer, ReceptiveField};

/// Length of a descriptor, unless a patch network learns one of another length.
pub const DESCRIPTOR_CHANNELS: usize = 128;

/// Longest descriptor: a file's claim must not decide how much memory is taken.
pub const MAX_DESCRIPTOR_CHANNELS: usize = 4096;

/// Slope of the leaky ReLU behind every convolution but the last (public implementations of the
/// paper; its slides say ReLU).
pub const LEAKY_SLOPE: f32 = 5e-3;

/// What a patch network looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchNetworkConfig {
    /// The patch size p.
    pub receptive_field: ReceptiveField,
    /// Output channels of p = 65's third convolution: 128, or 256 as in some reimplementations.
    /// Without effect for other p.
    pub conv3_channels: usize,
    /// Length of a descriptor, 1 to [`MAX_DESCRIPTOR_CHANNELS`]: [`DESCRIPTOR_CHANNELS`], or that of the
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

    /// What is wrong with sizes that a file claims: they decide how much memory a network takes.
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
    pub fn init(&self, seed: u64, device: &Device) -> PatchNetwork {
        self.with_weights(self.random_weights(seed), device)
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
        device: &Device,
    ) -> PatchNetwork {
        let convolutions = self
            .weight_shapes()
            .into_iter()
            .zip(weights)
            .map(|(shape, (weight, bias))| Convolution {
                weight: Param::from_tensor(Tensor::from_data(
                    TensorData::new(weight, shape),
                    device,
                )),
                bias: Param::from_tensor(Tensor::from_data(
                    TensorData::new(bias, [shape[0]]),
                    device,
                )),
            })
            .collect();
        PatchNetwork {
            convolutions,
            config: Settings(*self),
        }
    }

    pub(crate) fn layers(&self) -> Vec<Layer> {
        self.receptive_field
            .layers(self.conv3_channels, self.output_channels)
    }
}

/// One convolution of a patch network.
#[derive(Module, Debug)]
struct Convolution {
    /// `[out_channels, in_channels, kernel, kernel]`
    weight: Param<Tensor<4>>,
    /// `[out_channels]`
    bias: Param<Tensor<1>>,
}

/// The configuration as a constant of the module.
#[derive(Clone, Copy, Debug)]
struct Settings(PatchNetworkConfig);

/// T̂: a patch of p×p pixels becomes a descriptor of [`PatchNetworkConfig::output_channels`] numbers.
#[derive(Module, Debug)]
pub struct PatchNetwork {
    convolutions: Vec<Convolution>,
    #[module(skip)]
    config: Settings,
}

impl PatchNetwork {
    /// What the network looks like.
    pub fn config(&self) -> PatchNetworkConfig {
        self.config.0
    }

    /// The patch size p.
    pub fn receptive_field(&self) -> ReceptiveField {
        self.config.0.receptive_field
    }

    /// The descriptors of the patches whose top left corners stand at every `stride`-th row and
    /// column.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`, each side at least p
    /// - output: `[batch, output_channels, (height - p) / stride + 1, (width - p) / stride + 1]`
    ///
    /// # Panics
    /// If the input is smaller than p, or the stride is not a multiple of
    /// [`ReceptiveField::pooling_stride`].
    pub fn grid(&self, input: Tensor<4>, stride: usize) -> Tensor<4> {
        self.grid_with(input, stride, |_, weight, bias| (weight, bias))
    }

    /// [`grid`](Self::grid) with a hook: `adapt` gets every convolution's input but the first's with its weight and
    /// bias, and says which weight and bias to use instead.
    pub(crate) fn grid_with(
        &self,
        input: Tensor<4>,
        stride: usize,
        adapt: impl FnMut(&Tensor<4>, Tensor<4>, Tensor<1>) -> (Tensor<4>, Tensor<1>),
    ) -> Tensor<4> {
        let field = self.receptive_field();
        let [batch, _, height, width] = input.dims();
        assert!(
            stride > 0 && stride.is_multiple_of(field.pooling_stride()),
            "the grid of p = {field} has a stride that {} divides, not {stride}",
            field.pooling_stride()
        );
        let rows = positions(height, field, stride);
        let columns = positions(width, field, stride);
        let output = self.layers(input, stride / field.pooling_stride(), false, adapt);
        let channels = output.dims()[1];
        output.slice([0..batch, 0..channels, 0..rows, 0..columns])
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
    pub fn dense(&self, input: Tensor<4>) -> Tensor<4> {
        let field = self.receptive_field();
        let [batch, _, height, width] = input.dims();
        let rows = positions(height, field, 1);
        let columns = positions(width, field, 1);
        // Each pooling must meet a map of odd sides, for its four fragments to be of equal size:
        // true if the number of positions is a multiple of the pooling stride.
        let fitted =
            |count: usize| count.next_multiple_of(field.pooling_stride()) + field.span() - 1;
        let input = fit(input, fitted(rows), fitted(columns));
        let mut output = self.layers(input, 1, true, |_, weight, bias| (weight, bias));
        let mut factor = field.pooling_stride();
        while factor > 1 {
            output = weave(output);
            factor /= 2;
        }
        let channels = output.dims()[1];
        output.slice([0..batch, 0..channels, 0..rows, 0..columns])
    }

    /// All layers; `last_stride` is the stride of the 4×4 convolution, behind which no other
    /// layer looks at neighbours; `dense` evaluates each pooling at all of its offsets; `adapt` as in
    /// [`grid_with`](Self::grid_with).
    fn layers(
        &self,
        input: Tensor<4>,
        last_stride: usize,
        dense: bool,
        mut adapt: impl FnMut(&Tensor<4>, Tensor<4>, Tensor<1>) -> (Tensor<4>, Tensor<1>),
    ) -> Tensor<4> {
        let mut first = true;
        let mut map = input;
        let mut convolutions = self.convolutions.iter();
        let mut layers = self.config.0.layers().into_iter().peekable();
        while let Some(Layer::Convolution(kernel, _)) = layers.next() {
            let layer = convolutions
                .next()
                .expect("built from the same list of layers");
            let (mut weight, mut bias) = (layer.weight.val(), layer.bias.val());
            if !first {
                (weight, bias) = adapt(&map, weight, bias);
            }
            first = false;
            let last = layers.peek().is_none();
            let slope = if last { 1.0 } else { LEAKY_SLOPE };
            let stride = if kernel == 4 { last_stride } else { 1 };
            let pooled = layers.next_if_eq(&Layer::Pooling).is_some();
            map = match (pooled, dense) {
                (false, _) => convolution(map, weight, bias, stride, slope),
                (true, false) => convolution_max_pool(map, weight, bias, slope),
                (true, true) => max_pool_fragments(convolution(map, weight, bias, stride, slope)),
            };
        }
        map
    }

    /// The framework's names of the parameters, in the order of [`weights`](Self::weights).
    pub(crate) fn identities(&self) -> Vec<u64> {
        self.convolutions
            .iter()
            .flat_map(|layer| [layer.weight.id.val(), layer.bias.id.val()])
            .collect()
    }

    /// The same network under other names, two a convolution.
    pub(crate) fn with_identities(mut self, identities: &[u64]) -> Self {
        let pairs = identities.as_chunks::<2>().0;
        for (layer, &[weight, bias]) in self.convolutions.iter_mut().zip(pairs) {
            layer.weight.id = weight.into();
            layer.bias.id = bias.into();
        }
        self
    }

    /// Weights and biases as plain numbers, one pair a convolution, first layer first.
    pub(crate) fn weights(&self) -> Vec<(Vec<f32>, Vec<f32>)> {
        self.convolutions
            .iter()
            .map(|layer| (values(layer.weight.val()), values(layer.bias.val())))
            .collect()
    }
}

/// A tensor's numbers in row-major order.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    match tensor.into_data().try_into_vec() {
        Ok(values) => values,
        Err(error) => unreachable!("all tensors here are f32: {error:?}"),
    }
}

/// How many patches of side p stand in `size` pixels at every `stride`-th position.
///
/// # Panics
/// If not even one does.
fn positions(size: usize, field: ReceptiveField, stride: usize) -> usize {
    assert!(
        size >= field.side(),
        "{size} pixels are fewer than the receptive field p = {field}"
    );
    (size - field.side()) / stride + 1
}

/// Cuts off or adds (zeros) rows at the bottom and columns at the right.
fn fit(input: Tensor<4>, height: usize, width: usize) -> Tensor<4> {
    let [batch, channels, old_height, old_width] = input.dims();
    let bottom = height.saturating_sub(old_height);
    let right = width.saturating_sub(old_width);
    let padded = if bottom + right > 0 {
        input.pad((0, right, 0, bottom), PadMode::Constant(0.0))
    } else {
        input
    };
    padded.slice([0..batch, 0..channels, 0..height, 0..width])
}

/// The inverse of the split of [`max_pool_fragments`]: `[batch · 4, c, h, w]` becomes `[batch, c, 2h, 2w]`.
fn weave(map: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    map.reshape([batch / 4, 2, 2, channels, height, width])
        .permute([0, 3, 4, 1, 5, 2])
        .reshape([batch / 4, channels, 2 * height, 2 * width])
}
