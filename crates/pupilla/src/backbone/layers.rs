//! The layers of pretrained networks: padded convolution with ReLU, 3×3 max-pooling, global average.

use burn::tensor::module::max_pool2d;
use burn::tensor::ops::{MaxPoolOptions, PadMode};
use burn::tensor::{Device, Tensor, TensorData};

use super::weights::NamedArray;
use crate::convolution::convolution;
use crate::patch_network::values;

/// What a convolution's output goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    None,
    Relu,
}

/// A convolution as its architecture describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Name of the module that holds it.
    pub name: String,
    /// Name of the batch norm behind it, in files where it is not folded in.
    pub batch_norm: Option<String>,
    /// `[out_channels, in_channels, kernel, kernel]`
    pub shape: [usize; 4],
    pub stride: usize,
    pub padding: usize,
    /// A fully connected layer, whose weight is stored as `[out_channels, in_channels]`.
    pub linear: bool,
}

impl Layer {
    /// The shape of its weight in a file.
    pub fn weight_shape(&self) -> Vec<usize> {
        self.shape[..if self.linear { 2 } else { 4 }].to_vec()
    }

    /// Names and shapes of its arrays once batch norm is folded in.
    pub fn layout(&self) -> [(String, Vec<usize>); 2] {
        [
            (format!("{}.weight", self.name), self.weight_shape()),
            (format!("{}.bias", self.name), vec![self.shape[0]]),
        ]
    }

    /// The layer with its numbers, whose counts have been checked.
    pub fn build(self, weight: Vec<f32>, bias: Vec<f32>, device: &Device) -> Convolution {
        Convolution {
            weight: Tensor::from_data(TensorData::new(weight, self.shape), device),
            bias: Tensor::from_data(TensorData::new(bias, [self.shape[0]]), device),
            layer: self,
        }
    }
}

/// A convolution with its numbers.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    layer: Layer,
    weight: Tensor<4>,
    bias: Tensor<1>,
}

impl Convolution {
    /// # Shapes
    /// - `map`: `[batch, in_channels, height, width]`, with its padding not smaller than the kernel
    /// - output: `[batch, out_channels, (height + 2 padding - kernel) / stride + 1, …]`
    pub fn apply(&self, map: Tensor<4>, activation: Activation) -> Tensor<4> {
        let slope = match activation {
            Activation::None => 1.0,
            Activation::Relu => 0.0,
        };
        convolution(
            pad(map, self.layer.padding, self.layer.padding),
            self.weight.clone(),
            self.bias.clone(),
            self.layer.stride,
            slope,
        )
    }

    /// Weight and bias, as [`Layer::layout`] names them.
    pub fn arrays(&self) -> [NamedArray; 2] {
        let [weight, bias] = self.layer.layout();
        let array = |(name, shape), values| NamedArray {
            name,
            shape,
            values,
        };
        [
            array(weight, values(self.weight.clone())),
            array(bias, values(self.bias.clone())),
        ]
    }
}

/// Zeros before and behind the rows and columns of a map.
fn pad(map: Tensor<4>, before: usize, behind: usize) -> Tensor<4> {
    if before + behind == 0 {
        return map;
    }
    map.pad([(before, behind), (before, behind)], PadMode::Constant(0.0))
}

/// 3×3 max-pooling with stride 2, where the windows stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// The first one is centred on the first pixel (padding 1).
    Centred,
    /// The first one begins at the first pixel; a last one that is cut off by the edge counts
    /// (PyTorch's `ceil_mode`).
    FromCorner,
}

/// 3×3 max-pooling with stride 2.
///
/// # Shapes
/// - `map`: `[batch, channels, height, width]`, sides at least 1 (centred) or 2 (from the corner)
/// - output: sides `(side - 1) / 2 + 1` (centred) or `(side - 2) / 2 + 1` (from the corner)
pub(super) fn max_pool(map: Tensor<4>, windows: Windows) -> Tensor<4> {
    let mut options = MaxPoolOptions::new([3, 3]);
    options.stride = [2, 2];
    match windows {
        Windows::Centred => options.padding = [(1, 1), (1, 1)],
        Windows::FromCorner => options.ceil_mode = true,
    }
    max_pool2d(map, options)
}

/// The mean of each channel.
///
/// # Shapes
/// - `map`: `[batch, channels, height, width]`
/// - output: `[batch, channels, 1, 1]`
pub(super) fn average(map: Tensor<4>) -> Tensor<4> {
    map.mean_dim(3).mean_dim(2)
}
