//! Transposed convolution with bias and leaky ReLU: a valid convolution's input gradient run forward, which is what the autoencoders'
//! decoders and the generators are built of.
//!
//! An operation of our own for the reason of [`crate::convolution`]: all three of its passes are passes of `pupilla-conv` with the
//! roles exchanged, and nothing of the cut-off edges or before the activation is kept.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use pupilla_conv::Conv2d;

use crate::convolution::with_values;

/// What such a convolution does beside its numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transposed {
    /// Distance in the output of what neighbours in the input add to.
    pub stride: usize,
    /// Rows and columns cut off at every edge of the output.
    pub padding: usize,
    /// Slope of the leaky ReLU in `[0, 1]`; 1 is none, 0 the plain one.
    pub slope: f32,
}

/// A backend that has the transposed convolution.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait TransposedConvolutionBackend: Backend {
    /// See [`transposed_convolution`].
    fn transposed_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        slope: f32,
    ) -> FloatTensor<Self>;
}

/// The gradients that a backend with [`TransposedConvolutionBackend`] gives to automatic differentiation.
pub(crate) trait TransposedConvolutionGradients: TransposedConvolutionBackend {
    /// The gradients of input, weight and bias, of which those are computed that are `wanted`.
    fn transposed_convolution_gradients(
        operands: [FloatTensor<Self>; 2],
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: Transposed,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3];
}

/// A transposed convolution as PyTorch's `ConvTranspose2d` has it, its bias added, then a leaky ReLU.
///
/// # Shapes
/// - `input`: `[batch, in_channels, height, width]`
/// - `weight`: `[in_channels, out_channels, kernel, kernel]`
/// - `bias`: `[out_channels]`
/// - output: `[batch, out_channels, (height - 1) · stride + kernel - 2 · padding, …]`
///
/// # Panics
/// If the padding leaves no output.
pub(crate) fn transposed_convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: Transposed,
) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&input.device()) {
        return crate::composed::transposed_convolution(input, weight, bias, options);
    }
    Tensor::from_dispatch(
        <Dispatch as TransposedConvolutionBackend>::transposed_convolution(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            options.stride,
            options.padding,
            options.slope,
        ),
    )
}

/// The convolution whose input gradient it is.
fn convolution(input: [usize; 4], weight: [usize; 4], stride: usize) -> Conv2d {
    let [batch, in_channels, height, width] = input;
    let [_, out_channels, rows, columns] = weight;
    let size = [
        batch,
        out_channels,
        (height - 1) * stride + rows,
        (width - 1) * stride + columns,
    ];
    let shape = Conv2d::new(size, in_channels, [rows, columns])
        .and_then(|shape| shape.with_stride([stride, stride]));
    match shape {
        Ok(shape) => shape,
        Err(error) => panic!("{error}"),
    }
}

/// Copies between planes and those with `padding` pixels more on every side: `copy` gets a row of the one and its place in the other.
fn rows(
    size: [usize; 2],
    padding: usize,
    inner: &mut [f32],
    outer: &mut [f32],
    copy: impl Fn(usize, &mut [f32], &mut [f32]),
) {
    let [height, width] = size;
    let wide = width + 2 * padding;
    let planes = inner
        .chunks_exact_mut(height * width)
        .zip(outer.chunks_exact_mut((height + 2 * padding) * wide));
    for (plane, (inner, outer)) in planes.enumerate() {
        for (row, inner) in inner.chunks_exact_mut(width).enumerate() {
            let start = (row + padding) * wide + padding;
            copy(plane, inner, &mut outer[start..start + width]);
        }
    }
}

/// Rows and columns of the output of a convolution's input gradient without its padding.
fn cropped(shape: &Conv2d, padding: usize) -> [usize; 2] {
    assert!(
        2 * padding < shape.height.min(shape.width),
        "a padding of {padding} leaves no output"
    );
    [shape.height - 2 * padding, shape.width - 2 * padding]
}

type FlexTensor = FloatTensor<Flex>;

fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

impl TransposedConvolutionBackend for Flex {
    fn transposed_convolution(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: usize,
        padding: usize,
        slope: f32,
    ) -> FlexTensor {
        let shape = convolution(input.shape().dims(), weight.shape().dims(), stride);
        let [height, width] = cropped(&shape, padding);
        let channels = shape.in_channels;
        let mut full = pupilla_conv::zeros(shape.input_len());
        with_values(&input, |input| {
            with_values(&weight, |weight| {
                pupilla_conv::input_gradient(&shape, input, weight, &mut full);
            });
        });
        let mut output = pupilla_conv::zeros(shape.batch * channels * height * width);
        with_values(&bias, |bias| {
            rows(
                [height, width],
                padding,
                &mut output,
                &mut full,
                |plane, output, full| {
                    let bias = bias[plane % channels];
                    for (output, value) in output.iter_mut().zip(full) {
                        let value = *value + bias;
                        *output = if value < 0.0 { slope * value } else { value };
                    }
                },
            );
        });
        from_values(output, [shape.batch, channels, height, width])
    }
}

impl TransposedConvolutionGradients for Flex {
    fn transposed_convolution_gradients(
        [input, weight]: [FlexTensor; 2],
        output: FlexTensor,
        gradient: FlexTensor,
        options: Transposed,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let Transposed {
            stride,
            padding,
            slope,
        } = options;
        let of_input: [usize; 4] = input.shape().dims();
        let of_weight: [usize; 4] = weight.shape().dims();
        let shape = convolution(of_input, of_weight, stride);
        let size = cropped(&shape, padding);
        let mut gradient = with_values(&gradient, <[f32]>::to_vec);
        if slope != 1.0 {
            with_values(&output, |output| {
                pupilla_conv::leaky_relu_gradient(output, slope, &mut gradient);
            });
        }
        let bias_gradient = wanted[2].then(|| {
            let channels = shape.in_channels;
            let mut sums = vec![0.0f64; channels];
            for (plane, values) in gradient.chunks_exact(size[0] * size[1]).enumerate() {
                sums[plane % channels] += values.iter().copied().map(f64::from).sum::<f64>();
            }
            from_values(sums.iter().map(|&sum| sum as f32).collect(), [channels])
        });
        let mut full = pupilla_conv::zeros(shape.input_len());
        rows(
            size,
            padding,
            &mut gradient,
            &mut full,
            |_, inner, outer| {
                outer.copy_from_slice(inner);
            },
        );
        let input_gradient = wanted[0].then(|| {
            let mut result = pupilla_conv::zeros(shape.output_len());
            with_values(&weight, |weight| {
                pupilla_conv::forward(&shape, &full, weight, None, &mut result);
            });
            from_values(result, of_input)
        });
        let weight_gradient = wanted[1].then(|| {
            let mut result = pupilla_conv::zeros(shape.weight_len());
            with_values(&input, |input| {
                pupilla_conv::weight_gradient(&shape, &full, input, &mut result);
            });
            from_values(result, of_weight)
        });
        [input_gradient, weight_gradient, bias_gradient]
    }
}

/// What the backward pass keeps: input and weight (as checkpoints), and the output.
#[derive(Clone, Debug)]
struct Saved<T> {
    input: NodeId,
    weight: NodeId,
    output: T,
    options: Transposed,
}

#[derive(Debug)]
struct TransposedConvolution;

impl<B: Backend + TransposedConvolutionGradients> Backward<B, 3> for TransposedConvolution {
    type State = Saved<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let saved = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let operands = [saved.input, saved.weight]
            .map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let wanted = [0, 1, 2].map(|parent: usize| ops.parents[parent].is_some());
        let computed = B::transposed_convolution_gradients(
            operands,
            saved.output,
            gradient,
            saved.options,
            wanted,
        );
        for (node, value) in ops.parents.into_iter().zip(computed) {
            if let (Some(node), Some(value)) = (node, value) {
                gradients.register::<B>(node.id, value);
            }
        }
    }
}

impl<B: Backend + TransposedConvolutionGradients, C: CheckpointStrategy>
    TransposedConvolutionBackend for Autodiff<B, C>
{
    fn transposed_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        padding: usize,
        slope: f32,
    ) -> FloatTensor<Self> {
        let run = B::transposed_convolution;
        match TransposedConvolution
            .prepare::<C>([input.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut preparation) => {
                let input_state = preparation.checkpoint(&input);
                let weight_state = preparation.checkpoint(&weight);
                let [input, weight, bias] = [input, weight, bias].map(|one| one.into_primitive());
                let output = run(input, weight, bias, stride, padding, slope);
                let saved = Saved {
                    input: input_state,
                    weight: weight_state,
                    output: output.clone(),
                    options: Transposed {
                        stride,
                        padding,
                        slope,
                    },
                };
                preparation.finish(saved, output)
            }
            OpsKind::UnTracked(preparation) => {
                let [input, weight, bias] = [input, weight, bias].map(|one| one.into_primitive());
                preparation.finish(run(input, weight, bias, stride, padding, slope))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composed;
    use burn::tensor::{Device, Distribution};

    /// Output and the gradients of input, weight and bias, for a loss with a weight of its own for every output.
    fn all(
        values: &[Tensor<4>; 2],
        bias: &Tensor<1>,
        run: impl Fn(Tensor<4>, Tensor<4>, Tensor<1>) -> Tensor<4>,
    ) -> [TensorData; 4] {
        let device = Device::flex().autodiff();
        let track =
            |tensor: &Tensor<4>| Tensor::from_data(tensor.to_data(), &device).require_grad();
        let [input, weight] = [track(&values[0]), track(&values[1])];
        let bias = Tensor::<1>::from_data(bias.to_data(), &device).require_grad();
        let output = run(input.clone(), weight.clone(), bias.clone());
        let count = output.dims().iter().product::<usize>();
        let scale: Vec<f32> = (0..count).map(|at| (at as f32 * 0.37).sin()).collect();
        let scale = Tensor::<4>::from_data(TensorData::new(scale, output.dims()), &device);
        let gradients = (output.clone() * scale).sum().backward();
        [
            output.inner().into_data(),
            input.grad(&gradients).map(Tensor::into_data).unwrap(),
            weight.grad(&gradients).map(Tensor::into_data).unwrap(),
            bias.grad(&gradients).map(Tensor::into_data).unwrap(),
        ]
    }

    #[test]
    fn the_operation_and_its_gradients_are_those_of_burn() {
        let device = Device::flex();
        device.seed(4);
        // Size, kernel, stride, padding, slope; the last two are a decoder's first and usual layers.
        for (size, kernel, stride, padding, slope) in [
            ([5, 7], 3, 1, 1, 0.2),
            ([3, 4], 5, 3, 2, 0.0),
            ([1, 1], 8, 1, 0, 1.0),
            ([9, 6], 4, 2, 1, 0.2),
        ] {
            let random = |shape: [usize; 4]| {
                Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
            };
            let values = [
                random([2, 3, size[0], size[1]]),
                random([3, 4, kernel, kernel]),
            ];
            let bias = Tensor::<1>::random([4], Distribution::Normal(0.0, 1.0), &device);
            let options = Transposed {
                stride,
                padding,
                slope,
            };
            let ours = all(&values, &bias, |input, weight, bias| {
                transposed_convolution(input, weight, bias, options)
            });
            let theirs = all(&values, &bias, |input, weight, bias| {
                composed::transposed_convolution(input, weight, bias, options)
            });
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.shape(), theirs.shape());
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    assert!((a - b).abs() < 1e-3, "kernel {kernel}: {a} and {b}");
                }
            }
        }
    }
}
