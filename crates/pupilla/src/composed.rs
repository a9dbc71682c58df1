//! The operations that are ours on the processor ([`convolution`](crate::convolution),
//! [`transposed_convolution`](crate::transposed_convolution), [`channel_moments`](crate::channel_moments)), made of the framework's own: what a GPU computes, and in tests the slow, obvious twin of ours. Gradients come from the parts.

use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, MaxPoolOptions};
use burn::tensor::{Tensor, activation, module};

use crate::transposed_convolution::Transposed;

/// See [`convolution`](crate::convolution::convolution). On a GPU [`columns`](crate::columns) takes its place where memory allows.
pub(crate) fn convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    slope: f32,
) -> Tensor<4> {
    let options = ConvOptions::new([stride, stride], [0, 0], [1, 1], 1);
    activated(module::conv2d(input, weight, Some(bias), options), slope)
}

/// A leaky ReLU; none for a slope of 1.
pub(crate) fn activated(map: Tensor<4>, slope: f32) -> Tensor<4> {
    if slope == 1.0 {
        map
    } else {
        activation::leaky_relu(map, slope.into())
    }
}

/// See [`transposed_convolution`](crate::transposed_convolution::transposed_convolution).
pub(crate) fn transposed_convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Transposed,
) -> Tensor<4> {
    let (stride, padding) = (options.stride, options.padding);
    let of_framework =
        ConvTransposeOptions::new([stride, stride], [padding, padding], [0, 0], [1, 1], 1);
    let map = module::conv_transpose2d(input, weight, Some(bias), of_framework);
    activated(map, options.slope)
}

/// 2×2 max-pooling with stride 2.
pub(crate) fn max_pool(map: Tensor<4>) -> Tensor<4> {
    module::max_pool2d(map, MaxPoolOptions::new([2, 2]))
}

/// See [`max_pool_fragments`](crate::convolution::max_pool_fragments): the pooling of each offset's part by itself, put side by side.
pub(crate) fn max_pool_fragments(map: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    let (rows, columns) = (height / 2, width / 2);
    let pooled = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(top, left)| {
        let part = map.clone().slice([
            0..batch,
            0..channels,
            top..top + 2 * rows,
            left..left + 2 * columns,
        ]);
        max_pool(part).unsqueeze_dim::<5>(1)
    });
    Tensor::cat(pooled.to_vec(), 1).reshape([batch * 4, channels, rows, columns])
}

/// See [`channel_moments`](crate::channel_moments::channel_moments).
pub(crate) fn channel_moments(map: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = map.dims();
    let lines = map
        .swap_dims(0, 1)
        .reshape([channels, batch * height * width]);
    let mean = |lines: Tensor<2>| lines.mean_dim(1).reshape([1, channels]);
    Tensor::cat(vec![mean(lines.clone()), mean(lines.powi_scalar(2))], 0)
}
