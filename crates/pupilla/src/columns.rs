//! A convolution as a matrix product with the columns of its windows (im2col; Chellapilla et al. 2006): what a GPU computes.
//!
//! Without tensor cores the framework convolves by a kernel that sums for each output by itself; its matrix product is several times as
//! fast (`docs/performance.md`). Windows are laid out by slices, of columns first and of rows then, so that gradients come from the parts.

use burn::tensor::{Slice, Tensor};

use crate::composed;

/// How many numbers an array may have. Beyond the last two the framework's own convolution takes less memory.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The columns that one product takes, if a row of outputs has no more.
    piece: usize,
    /// All columns of one convolution, which stay for its backward pass.
    kept: usize,
    /// The weight's gradients, one for each item of the batch before they are added up: many in dense training, whose fragments are items.
    gradients: usize,
}

/// 64 MiB for an array, since adapters may refuse more than 128, and 2 GiB for what stays.
const USUAL: Limits = Limits {
    piece: 1 << 24,
    kept: 1 << 29,
    gradients: 1 << 24,
};

/// See [`convolution`](crate::convolution::convolution).
pub(crate) fn convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    slope: f32,
) -> Tensor<4> {
    by_pieces(input, weight, bias, stride, slope, USUAL)
}

fn by_pieces(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    slope: f32,
    limits: Limits,
) -> Tensor<4> {
    let [batch, in_channels, height, width] = input.dims();
    let [out_channels, _, kernel_height, kernel_width] = weight.dims();
    let rows = (height - kernel_height) / stride + 1;
    let columns = (width - kernel_width) / stride + 1;
    let window = in_channels * kernel_height * kernel_width;
    let of_row = batch * window * columns;
    let too_much = of_row * rows > limits.kept || batch * out_channels * window > limits.gradients;
    if input.is_autodiff() && too_much {
        return composed::convolution(input, weight, bias, stride, slope);
    }
    // Channels vary fastest, as below.
    let weight = weight
        .permute([0, 2, 3, 1])
        .reshape([1, out_channels, window]);
    let bias = bias.reshape([1, out_channels, 1]);
    let most = (limits.piece / of_row).clamp(1, rows);
    let parts = (0..rows).step_by(most).map(|first| {
        let rows = most.min(rows - first);
        let band = (rows - 1) * stride + kernel_height;
        let part = input
            .clone()
            .slice_dim(2, first * stride..first * stride + band);
        let part = windows(part, 3, [kernel_width, columns], stride);
        let part = windows(part, 2, [kernel_height, rows], stride);
        let part = part.reshape([batch, window, rows * columns]);
        (weight.clone().matmul(part) + bias.clone()).reshape([batch, out_channels, rows, columns])
    });
    let parts: Vec<_> = parts.collect();
    composed::activated(Tensor::cat(parts, 2), slope)
}

/// What the windows' first pixels see, then their second ones, and so on along a dimension, one behind the other as channels.
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution, TensorData};
    use proptest::prelude::*;

    use super::*;

    type Run<'a> = &'a dyn Fn(Tensor<4>, Tensor<4>, Tensor<1>) -> Tensor<4>;

    /// Output and the gradients of input, weight and bias, for a loss with a weight of its own for every output.
    fn all(input: &Tensor<4>, weight: &Tensor<4>, run: Run<'_>) -> Vec<TensorData> {
        let device = Device::flex().autodiff();
        let track =
            |tensor: &Tensor<4>| Tensor::<4>::from_data(tensor.to_data(), &device).require_grad();
        let (input, weight) = (track(input), track(weight));
        let biases: Vec<f32> = (0..weight.dims()[0]).map(|at| (at as f32).cos()).collect();
        let bias = Tensor::<1>::from_data(&biases[..], &device).require_grad();
        let output = run(input.clone(), weight.clone(), bias.clone());
        let count = output.dims().iter().product::<usize>();
        let scale: Vec<f32> = (0..count).map(|at| (at as f32 * 0.37).sin()).collect();
        let scale = Tensor::<4>::from_data(TensorData::new(scale, output.dims()), &device);
        let gradients = (output.clone() * scale).sum().backward();
        vec![
            output.inner().into_data(),
            input.grad(&gradients).unwrap().into_data(),
            weight.grad(&gradients).unwrap().into_data(),
            bias.grad(&gradients).unwrap().into_data(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// In one piece, in bands of a row and more, and by the framework's convolution where too much would have to be kept.
        #[test]
        fn columns_and_their_gradients_are_those_of_the_framework(
            batch in 1usize..3,
            channels in 1usize..5,
            out_channels in 1usize..5,
            kernel in proptest::array::uniform2(1usize..6),
            positions in proptest::array::uniform2(1usize..9),
            beyond in 0usize..2,
            stride in 1usize..4,
            limits in prop_oneof![
                Just(None),
                Just(Some(Limits { piece: 1, ..USUAL })),
                Just(Some(Limits { piece: 300, ..USUAL })),
                Just(Some(Limits { kept: 0, ..USUAL })),
                Just(Some(Limits { gradients: 0, ..USUAL })),
            ],
        ) {
            let device = Device::flex();
            device.seed(3);
            let side = |at: usize| (positions[at] - 1) * stride + kernel[at] + beyond.min(stride - 1);
            let random = |shape: [usize; 4]| {
                Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
            };
            let input = random([batch, channels, side(0), side(1)]);
            let weight = random([out_channels, channels, kernel[0], kernel[1]]);
            let ours = all(&input, &weight, &|input, weight, bias| match limits {
                Some(limits) => by_pieces(input, weight, bias, stride, 0.25, limits),
                None => convolution(input, weight, bias, stride, 0.25),
            });
            let theirs = all(&input, &weight, &|input, weight, bias| {
                composed::convolution(input, weight, bias, stride, 0.25)
            });
            for (ours, theirs) in ours.iter().zip(&theirs) {
                prop_assert_eq!(ours.shape(), theirs.shape());
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    prop_assert!((a - b).abs() < 1e-3, "{} and {}", a, b);
                }
            }
        }
    }
}
