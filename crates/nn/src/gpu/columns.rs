//! A convolution as a matrix product with the columns of its windows (im2col; Chellapilla et al. 2006): what a GPU computes.
//!
//! Without tensor cores, the framework's convolution kernel sums each output by itself. The framework's matrix product is several times
//! as fast (`docs/notes/performance.md`). Windows are laid out by slices, first of columns, then of rows, so that automatic
//! differentiation gives the gradients.

use burn::tensor::{Slice, Tensor};

use super::composed;

// How many numbers an array may have: 64 MiB, since adapters may refuse more than 128, and 2 GiB for what stays. Beyond the last two the
// framework's own convolution takes less memory.

/// The columns that one product takes, if a row of outputs has no more.
const PIECE: usize = 1 << 24;

/// All columns of one convolution, which stay for its backward pass.
const KEPT: usize = 1 << 29;

/// The weight's gradients, one for each item of the batch before they are added up: many in dense training, whose fragments are items.
const GRADIENTS: usize = 1 << 24;

/// A valid convolution, then a leaky ReLU of slope `slope` (1: none).
///
/// # Shapes
/// - `input`: `[batch, in_channels, height, width]`, not smaller than the kernel
/// - `weight`: `[out_channels, in_channels, kernel, kernel]`
/// - `bias`: `[out_channels]`
/// - output: `[batch, out_channels, (height - kernel) / stride + 1, (width - kernel) / stride + 1]`
pub(super) fn convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    slope: f32,
) -> Tensor<4> {
    let [batch, in_channels, height, width] = input.dims();
    let [out_channels, _, kernel_height, kernel_width] = weight.dims();
    let rows = (height - kernel_height) / stride + 1;
    let columns = (width - kernel_width) / stride + 1;
    let window = in_channels * kernel_height * kernel_width;
    let of_row = batch * window * columns;
    let too_much = of_row * rows > KEPT || batch * out_channels * window > GRADIENTS;
    if input.is_autodiff() && too_much {
        return composed::convolution(input, weight, bias, stride, slope);
    }
    // Channels vary fastest, as below.
    let weight = weight
        .permute([0, 2, 3, 1])
        .reshape([1, out_channels, window]);
    let bias = bias.map(|bias| bias.reshape([1, out_channels, 1]));
    let most = (PIECE / of_row).clamp(1, rows);
    let parts = (0..rows).step_by(most).map(|first| {
        let rows = most.min(rows - first);
        let band = (rows - 1) * stride + kernel_height;
        let part = input
            .clone()
            .slice_dim(2, first * stride..first * stride + band);
        let part = windows(part, 3, [kernel_width, columns], stride);
        let part = windows(part, 2, [kernel_height, rows], stride);
        let part = part.reshape([batch, window, rows * columns]);
        let mut part = weight.clone().matmul(part);
        if let Some(bias) = &bias {
            part = part + bias.clone();
        }
        part.reshape([batch, out_channels, rows, columns])
    });
    let parts: Vec<_> = parts.collect();
    composed::activated(Tensor::cat(parts, 2), slope)
}

/// The map under the windows' first pixels, then under their second pixels, and so on along a dimension, one after the other as
/// channels.
fn windows(
    map: Tensor<4>,
    dimension: usize,
    [kernel, positions]: [usize; 2],
    stride: usize,
) -> Tensor<4> {
    if kernel == 1 && stride == 1 {
        return map;
    }
    let seen = (0..kernel).map(|first| {
        let behind = first + (positions - 1) * stride + 1;
        let slice = Slice::new(first as isize, Some(behind as isize), stride as isize);
        map.clone().slice_dim(dimension, slice)
    });
    let seen: Vec<_> = seen.collect();
    Tensor::cat(seen, 1)
}
