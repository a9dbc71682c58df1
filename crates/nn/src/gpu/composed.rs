//! Operations composed of Burn's operations, so that Burn's automatic differentiation gives their gradients.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, MaxPoolOptions, PadMode};
use burn::tensor::{Tensor, activation, module};

use crate::graph::{BatchNorm, Convolution, DepthwiseConvolution, MaxPool, SamePadding};

/// A valid convolution by Burn's kernel: [`columns`](super::columns) takes its place where memory allows.
///
/// # Shapes
/// As [`columns::convolution`](super::columns::convolution).
pub(super) fn convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    slope: f32,
) -> Tensor<4> {
    let options = ConvOptions::new([stride, stride], [0, 0], [1, 1], 1);
    activated(module::conv2d(input, weight, bias, options), slope)
}

/// A leaky ReLU; none for a slope of 1.
pub(super) fn activated(map: Tensor<4>, slope: f32) -> Tensor<4> {
    if slope == 1.0 {
        map
    } else {
        activation::leaky_relu(map, slope.into())
    }
}

/// A limit above; none if it is infinite.
pub(super) fn limited(map: Tensor<4>, ceiling: f32) -> Tensor<4> {
    if ceiling == f32::INFINITY {
        map
    } else {
        map.clamp_max(ceiling)
    }
}

/// Zeros around a map; see [`Operation::SamePadding`](crate::Operation::SamePadding).
pub(super) fn same_padding(window: &SamePadding, map: Tensor<4>) -> Tensor<4> {
    let [.., height, width] = map.dims();
    let zeros = [height, width].map(|side| window.zeros(side));
    if zeros == [[0; 2]; 2] {
        return map;
    }
    let pairs = zeros.map(|[before, after]| (before, after));
    map.pad(pairs, PadMode::Constant(0.0))
}

/// See [`Operation::DepthwiseConvolution`](crate::Operation::DepthwiseConvolution).
///
/// # Shapes
/// - `weight`: `[channels, 1, kernel, kernel]`
/// - `bias`: `[channels]`
pub(super) fn depthwise_convolution(
    of: &DepthwiseConvolution,
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
) -> Tensor<4> {
    let input = same_padding(&of.window, input);
    let stride = [of.window.stride; 2];
    let options = ConvOptions::new(stride, [0, 0], [1, 1], of.channels);
    let map = module::conv2d(input, weight, Some(bias), options);
    limited(activated(map, of.slope), of.ceiling)
}

/// See [`Operation::TransposedConvolution`](crate::Operation::TransposedConvolution).
///
/// # Shapes
/// - `weight`: `[in_channels, out_channels, kernel, kernel]`
/// - `bias`: `[out_channels]`
pub(super) fn transposed_convolution(
    of: &Convolution,
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
) -> Tensor<4> {
    let [stride, padding] = [[of.stride; 2], [of.padding; 2]];
    let options = ConvTransposeOptions::new(stride, padding, [0, 0], [1, 1], 1);
    let map = module::conv_transpose2d(input, weight, bias, options);
    limited(activated(map, of.slope), of.ceiling)
}

/// See [`Operation::MaxPool`](crate::Operation::MaxPool).
pub(super) fn max_pool(pool: &MaxPool, map: Tensor<4>) -> Tensor<4> {
    let mut options = MaxPoolOptions::new([pool.size; 2])
        .with_stride([pool.stride; 2])
        .with_padding([pool.padding; 2]);
    options.ceil_mode = pool.partial;
    module::max_pool2d(map, options)
}

/// See [`Operation::MaxPoolFragments`](crate::Operation::MaxPoolFragments): the pooling of each offset's part by itself, put side by
/// side.
pub(super) fn max_pool_fragments(map: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    let (rows, columns) = (height / 2, width / 2);
    let pooled = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(top, left)| {
        let part = map.clone().slice([
            0..batch,
            0..channels,
            top..top + 2 * rows,
            left..left + 2 * columns,
        ]);
        max_pool(&MaxPool::HALVING, part).unsqueeze_dim::<5>(1)
    });
    Tensor::cat(pooled.to_vec(), 1).reshape([batch * 4, channels, rows, columns])
}

/// See [`Operation::Weave`](crate::Operation::Weave).
pub(super) fn weave(map: Tensor<4>) -> Tensor<4> {
    let [fragments, channels, height, width] = map.dims();
    map.reshape([fragments / 4, 2, 2, channels, height, width])
        .permute([0, 3, 4, 1, 5, 2])
        .reshape([fragments / 4, channels, 2 * height, 2 * width])
}

/// See [`Operation::BatchNorm`](crate::Operation::BatchNorm); beside the output means and variances of the map, `[channels]` each.
pub(super) fn batch_norm(
    norm: &BatchNorm,
    numbers: &[Tensor<1>],
    map: Tensor<4>,
) -> (Tensor<4>, [Tensor<1>; 2]) {
    let channels = map.dims()[1];
    let means = channel_means(map.clone());
    let centred = map - means.clone();
    let variances = channel_means(centred.clone() * centred.clone());
    let mut output = centred / variances.clone().add_scalar(norm.epsilon).sqrt();
    if let [scales, biases] = numbers {
        let of_channels = |numbers: &Tensor<1>| numbers.clone().reshape([1, channels, 1, 1]);
        output = output * of_channels(scales) + of_channels(biases);
    }
    let seen = [means, variances].map(|moments| moments.reshape([channels]));
    (activated(output, norm.slope), seen)
}

/// The mean of each channel over batch and pixels, `[1, channels, 1, 1]`. A plane is a row: no number is moved.
fn channel_means(map: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    map.reshape([batch, channels, height * width])
        .mean_dim(2)
        .mean_dim(0)
        .reshape([1, channels, 1, 1])
}
