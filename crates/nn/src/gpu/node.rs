//! The computation of every node except batch norm.

use burn::tensor::ops::PadMode;
use burn::tensor::{Tensor, activation};

use super::{columns, composed};
use crate::graph::{Convolution, Operation};

/// The output of an operation, from its parameters (`[count]` each) and what it reads.
///
/// # Panics
/// If they do not fit each other.
pub(super) fn forward(
    operation: &Operation,
    numbers: &[Tensor<1>],
    mut sources: Vec<Tensor<4>>,
) -> Tensor<4> {
    match operation {
        Operation::Concatenate => Tensor::cat(sources, 1),
        Operation::Add { slope } => {
            let map = sources.swap_remove(0);
            let other = sources.swap_remove(0);
            assert_eq!(
                map.dims(),
                other.dims(),
                "only values of one shape can be added"
            );
            composed::activated(map + other, *slope)
        }
        operation => on_one(operation, numbers, sources.swap_remove(0)),
    }
}

/// Of an operation that reads one value.
fn on_one(operation: &Operation, numbers: &[Tensor<1>], map: Tensor<4>) -> Tensor<4> {
    match operation {
        Operation::Convolution(of) => convolution(of, numbers, map),
        Operation::TransposedConvolution(of) => {
            assert_channels(of, &map);
            let [from, to] = of.channels;
            let weight = numbers[0].clone().reshape([from, to, of.kernel, of.kernel]);
            composed::transposed_convolution(of, map, weight, numbers.get(1).cloned())
        }
        Operation::DepthwiseConvolution(of) => {
            let channels = map.dims()[1];
            assert_eq!(
                channels, of.channels,
                "the input of a depthwise convolution has another number of channels"
            );
            let side = of.window.kernel;
            let weight = numbers[0].clone().reshape([channels, 1, side, side]);
            composed::depthwise_convolution(of, map, weight, numbers[1].clone())
        }
        Operation::SamePadding(window) => composed::same_padding(window, map),
        Operation::MaxPool(pool) => composed::max_pool(pool, map),
        Operation::MaxPoolFragments => composed::max_pool_fragments(map),
        Operation::Weave => composed::weave(map),
        Operation::GlobalAverage => map.mean_dim(3).mean_dim(2),
        Operation::Sigmoid => activation::sigmoid(map),
        Operation::BatchNorm(_) | Operation::Add { .. } | Operation::Concatenate => {
            unreachable!("they have arms of their own")
        }
    }
}

fn assert_channels(of: &Convolution, map: &Tensor<4>) {
    let channels = map.dims()[1];
    assert_eq!(
        channels, of.channels[0],
        "the input of a convolution has another number of channels"
    );
}

fn convolution(of: &Convolution, numbers: &[Tensor<1>], map: Tensor<4>) -> Tensor<4> {
    assert_channels(of, &map);
    let map = match of.padding {
        0 => map,
        padding => map.pad([(padding, padding); 2], PadMode::Constant(0.0)),
    };
    let [_, _, height, width] = map.dims();
    assert!(
        of.kernel <= height.min(width),
        "an input of {height}×{width} is smaller than a kernel of side {}",
        of.kernel
    );
    let [from, to] = of.channels;
    let weight = numbers[0].clone().reshape([to, from, of.kernel, of.kernel]);
    let bias = numbers.get(1).cloned();
    let map = columns::convolution(map, weight, bias, of.stride, of.slope);
    composed::limited(map, of.ceiling)
}
