//! The two operations that Burn does not do for us: a valid convolution with bias, leaky ReLU and,
//! where one follows, max-pooling; and max-pooling by itself, at all of its offsets. They are computed by `pupilla-conv` on the CPU, with hand-written backward passes.
//!
//! The activation is part of the operation because its gradient needs nothing but the sign of the
//! *output* (a leaky ReLU keeps signs, and the plain one makes 0 of what gets no gradient): the
//! pre-activation is never stored. With the pooling in it too, the largest maps of a network are
//! never written.
//!
//! On a GPU convolutions are matrix products (`columns`), and the rest is composed of the framework's own operations (`composed`).

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use pupilla_conv::{Conv2d, Fragments, Pool};

/// A backend that has the patch networks' convolution.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ConvolutionBackend: Backend {
    /// See [`convolution`]; `slope` 1 is "no activation".
    fn patch_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// See [`convolution_max_pool`].
    fn patch_convolution_max_pool(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// See [`max_pool_fragments`].
    fn patch_max_pool_fragments(input: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The gradients that a backend with [`ConvolutionBackend`] gives to automatic differentiation.
pub(crate) trait ConvolutionGradients: ConvolutionBackend {
    /// [`convolution_max_pool`], and which of its window's four pixels each output was.
    fn convolution_max_pool_winners(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: f32,
    ) -> (FloatTensor<Self>, Arc<[u8]>);

    /// The gradient before activation and pooling of a [`convolution_max_pool`] of `input` with `weight`.
    fn activated_pool_gradient(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        output: FloatTensor<Self>,
        winners: &[u8],
        gradient: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// The gradient before the activation, from the one behind it and the sign of the output.
    fn activation_gradient(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self>;

    /// The gradient of the input, of the shape of `input`.
    fn input_gradient(
        input: &FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// The gradient of the weight, of the shape of `weight`.
    fn weight_gradient(
        input: FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;

    /// The gradient of the input of [`max_pool_fragments`], each window's going to its first largest pixel.
    fn max_pool_fragments_gradient(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradient of the bias, `[out_channels]`.
    fn bias_gradient(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        gradient: &FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;
}

/// A valid convolution (cross-correlation), bias added, then a leaky ReLU of slope `slope` in
/// `[0, 1]` (1: none, 0: the plain ReLU).
///
/// # Shapes
/// - `input`: `[batch, in_channels, height, width]`, not smaller than the kernel
/// - `weight`: `[out_channels, in_channels, kernel, kernel]`
/// - `bias`: `[out_channels]`
/// - output: `[batch, out_channels, (height - kernel) / stride + 1, (width - kernel) / stride + 1]`
pub(crate) fn convolution(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    stride: usize,
    slope: f32,
) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&input.device()) {
        return crate::columns::convolution(input, weight, bias, stride, slope);
    }
    Tensor::from_dispatch(<Dispatch as ConvolutionBackend>::patch_convolution(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        stride,
        slope,
    ))
}

/// [`convolution`] with stride 1, then max-pooling, 2×2 with stride 2 (a last odd row or column is dropped), without the map
/// between the two.
pub(crate) fn convolution_max_pool(
    input: Tensor<4>,
    weight: Tensor<4>,
    bias: Tensor<1>,
    slope: f32,
) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&input.device()) {
        return crate::composed::max_pool(crate::columns::convolution(
            input, weight, bias, 1, slope,
        ));
    }
    Tensor::from_dispatch(
        <Dispatch as ConvolutionBackend>::patch_convolution_max_pool(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            slope,
        ),
    )
}

/// Max-pooling, 2×2 with stride 2, at each of its four offsets; the offsets of an item are next to each other.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`, each side odd and at least 3
/// - output: `[batch · 4, channels, (height - 1) / 2, (width - 1) / 2]`
pub(crate) fn max_pool_fragments(input: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&input.device()) {
        return crate::composed::max_pool_fragments(input);
    }
    Tensor::from_dispatch(<Dispatch as ConvolutionBackend>::patch_max_pool_fragments(
        input.into_dispatch(),
    ))
}

type FlexTensor = FloatTensor<Flex>;

/// `f32` values of a tensor in row-major order.
pub(crate) fn with_values<R>(tensor: &FlexTensor, read: impl FnOnce(&[f32]) -> R) -> R {
    if let (true, Some(values)) = (tensor.is_contiguous(), tensor.as_slice::<f32>()) {
        return read(values);
    }
    let contiguous = tensor.to_contiguous();
    match contiguous.as_slice::<f32>() {
        Some(values) => read(values),
        None => unreachable!("a contiguous f32 tensor is a slice"),
    }
}

fn from_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The shape of the convolution of a tensor with a weight.
///
/// # Panics
/// If the input is smaller than the kernel: callers check sizes first, where they can name the image.
fn shape(input: &FlexTensor, weight: &FlexTensor, stride: usize) -> Conv2d {
    let [out_channels, _, kernel_height, kernel_width] = weight.shape().dims();
    let shape = Conv2d::new(
        input.shape().dims(),
        out_channels,
        [kernel_height, kernel_width],
    )
    .and_then(|shape| shape.with_stride([stride, stride]));
    match shape {
        Ok(shape) => shape,
        Err(error) => panic!("{error}"),
    }
}

/// The pooling of a tensor at all offsets, and the shape of its output.
fn fragments(input: &FlexTensor) -> (Fragments, [usize; 4]) {
    let [batch, channels, height, width] = input.shape().dims();
    let fragments = Fragments {
        batch,
        channels,
        size: [height, width],
    };
    let [rows, columns] = fragments.fragment_size();
    (fragments, [4 * batch, channels, rows, columns])
}

fn output_shape(shape: &Conv2d) -> [usize; 4] {
    let [height, width] = shape.output_size();
    [shape.batch, shape.out_channels, height, width]
}

/// The shape of the output of [`convolution_max_pool`].
fn pooled_shape(shape: &Conv2d) -> [usize; 4] {
    let [rows, columns] = Pool::after(shape).output_size();
    [shape.batch, shape.out_channels, rows, columns]
}

fn flex_convolution_max_pool(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: &FlexTensor,
    slope: f32,
    winners: Option<&mut Vec<u8>>,
) -> FlexTensor {
    let shape = shape(input, weight, 1);
    let dimensions = pooled_shape(&shape);
    let mut output = pupilla_conv::zeros(dimensions.iter().product());
    let winners = winners.map(|winners| {
        winners.resize(output.len(), 0);
        &mut winners[..]
    });
    with_values(input, |input| {
        with_values(weight, |weight| {
            with_values(bias, |bias| {
                pupilla_conv::forward_max_pool(
                    &shape,
                    input,
                    weight,
                    Some(bias),
                    slope,
                    &mut output,
                    winners,
                );
            });
        });
    });
    from_values(output, dimensions)
}

impl ConvolutionBackend for Flex {
    fn patch_convolution_max_pool(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        slope: f32,
    ) -> FlexTensor {
        flex_convolution_max_pool(&input, &weight, &bias, slope, None)
    }

    fn patch_convolution(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: usize,
        slope: f32,
    ) -> FlexTensor {
        let shape = shape(&input, &weight, stride);
        let dimensions = output_shape(&shape);
        let mut output = pupilla_conv::zeros(dimensions.iter().product());
        with_values(&input, |input| {
            with_values(&weight, |weight| {
                with_values(&bias, |bias| {
                    pupilla_conv::forward_leaky_relu(
                        &shape,
                        input,
                        weight,
                        Some(bias),
                        slope,
                        &mut output,
                    );
                });
            });
        });
        from_values(output, dimensions)
    }

    fn patch_max_pool_fragments(input: FlexTensor) -> FlexTensor {
        let (shape, dimensions) = fragments(&input);
        let mut output = pupilla_conv::zeros(dimensions.iter().product());
        with_values(&input, |input| {
            pupilla_conv::max_pool_fragments(&shape, input, &mut output)
        });
        from_values(output, dimensions)
    }
}

impl ConvolutionGradients for Flex {
    fn convolution_max_pool_winners(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        slope: f32,
    ) -> (FlexTensor, Arc<[u8]>) {
        let mut winners = Vec::new();
        let output = flex_convolution_max_pool(&input, &weight, &bias, slope, Some(&mut winners));
        (output, winners.into())
    }

    fn activated_pool_gradient(
        input: &FlexTensor,
        weight: &FlexTensor,
        output: FlexTensor,
        winners: &[u8],
        gradient: FlexTensor,
        slope: f32,
    ) -> FlexTensor {
        let shape = shape(input, weight, 1);
        let pool = Pool::after(&shape);
        let dimensions = output_shape(&shape);
        let mut result = pupilla_conv::zeros(dimensions.iter().product());
        with_values(&output, |output| {
            with_values(&gradient, |gradient| {
                pupilla_conv::activated_pool_gradient(
                    &pool,
                    output,
                    winners,
                    slope,
                    gradient,
                    &mut result,
                );
            });
        });
        from_values(result, dimensions)
    }

    fn activation_gradient(output: FlexTensor, gradient: FlexTensor, slope: f32) -> FlexTensor {
        if slope == 1.0 {
            return gradient;
        }
        let dimensions: [usize; 4] = output.shape().dims();
        let mut values = with_values(&gradient, <[f32]>::to_vec);
        with_values(&output, |output| {
            pupilla_conv::leaky_relu_gradient(output, slope, &mut values);
        });
        from_values(values, dimensions)
    }

    fn input_gradient(
        input: &FlexTensor,
        weight: FlexTensor,
        gradient: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let shape = shape(input, &weight, stride);
        let mut result = pupilla_conv::zeros(shape.input_len());
        with_values(&weight, |weight| {
            with_values(&gradient, |gradient| {
                pupilla_conv::input_gradient(&shape, gradient, weight, &mut result);
            });
        });
        from_values(
            result,
            [shape.batch, shape.in_channels, shape.height, shape.width],
        )
    }

    fn max_pool_fragments_gradient(input: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (shape, _) = fragments(&input);
        let dimensions: [usize; 4] = input.shape().dims();
        let mut result = pupilla_conv::zeros(dimensions.iter().product());
        with_values(&input, |input| {
            with_values(&gradient, |gradient| {
                pupilla_conv::max_pool_fragments_gradient(&shape, input, gradient, &mut result);
            });
        });
        from_values(result, dimensions)
    }

    fn weight_gradient(
        input: FlexTensor,
        weight: &FlexTensor,
        gradient: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let shape = shape(&input, weight, stride);
        let dimensions: [usize; 4] = weight.shape().dims();
        let mut result = pupilla_conv::zeros(dimensions.iter().product());
        with_values(&input, |input| {
            with_values(&gradient, |gradient| {
                pupilla_conv::weight_gradient(&shape, input, gradient, &mut result);
            });
        });
        from_values(result, dimensions)
    }

    fn bias_gradient(
        input: &FlexTensor,
        weight: &FlexTensor,
        gradient: &FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let shape = shape(input, weight, stride);
        let mut result = vec![0.0; shape.out_channels];
        with_values(gradient, |gradient| {
            pupilla_conv::bias_gradient(&shape, gradient, &mut result);
        });
        let channels = result.len();
        from_values(result, [channels])
    }
}

/// What the backward pass keeps: the input and the weight (as checkpoints), the output itself and, if it is pooled, the
/// windows' winners.
#[derive(Clone, Debug)]
struct Saved<T> {
    input: NodeId,
    weight: NodeId,
    output: T,
    winners: Option<Arc<[u8]>>,
    stride: usize,
    slope: f32,
}

#[derive(Debug)]
struct PatchConvolution;

impl<B: Backend + ConvolutionGradients> Backward<B, 3> for PatchConvolution {
    type State = Saved<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [input_node, weight_node, bias_node] = ops.parents;
        let saved = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(saved.input);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(saved.weight);
        let Saved { output, slope, .. } = saved;
        let gradient = match saved.winners {
            Some(winners) => {
                B::activated_pool_gradient(&input, &weight, output, &winners, gradient, slope)
            }
            None => B::activation_gradient(output, gradient, slope),
        };

        if let Some(node) = bias_node {
            let value = B::bias_gradient(&input, &weight, &gradient, saved.stride);
            gradients.register::<B>(node.id, value);
        }
        if let Some(node) = input_node {
            let value = B::input_gradient(&input, weight.clone(), gradient.clone(), saved.stride);
            gradients.register::<B>(node.id, value);
        }
        if let Some(node) = weight_node {
            let value = B::weight_gradient(input, &weight, gradient, saved.stride);
            gradients.register::<B>(node.id, value);
        }
    }
}

#[derive(Debug)]
struct PatchMaxPoolFragments;

impl<B: Backend + ConvolutionGradients> Backward<B, 1> for PatchMaxPoolFragments {
    /// The input.
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        input_gradient::<B>(ops, gradients, checkpointer, B::max_pool_fragments_gradient);
    }
}

/// The backward pass of an operation on one tensor that needs nothing but it: `compute` gets the input and the output's gradient.
pub(crate) fn input_gradient<B: Backend>(
    ops: Ops<NodeId, 1>,
    gradients: &mut Gradients,
    checkpointer: &mut Checkpointer,
    compute: impl FnOnce(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
) {
    let [input_node] = ops.parents;
    let gradient = gradients.consume::<B>(&ops.node);
    let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state);
    if let Some(node) = input_node {
        gradients.register::<B>(node.id, compute(input, gradient));
    }
}

/// Runs such an operation and keeps its input, if there will be a backward pass.
pub(crate) fn tracked_input<B: Backend, C: CheckpointStrategy>(
    operation: impl Backward<B, 1, State = NodeId>,
    input: FloatTensor<Autodiff<B, C>>,
    run: impl FnOnce(FloatTensor<B>) -> FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match operation
        .prepare::<C>([input.node()])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(mut preparation) => {
            let state = preparation.checkpoint(&input);
            preparation.finish(state, run(input.into_primitive()))
        }
        OpsKind::UnTracked(preparation) => preparation.finish(run(input.into_primitive())),
    }
}

/// Runs a convolution and keeps what its backward pass needs, if there will be one (which `run` is told).
fn tracked<B: Backend + ConvolutionGradients, C: CheckpointStrategy>(
    [input, weight]: [FloatTensor<Autodiff<B, C>>; 2],
    bias: FloatTensor<Autodiff<B, C>>,
    stride: usize,
    slope: f32,
    run: impl FnOnce([FloatTensor<B>; 2], FloatTensor<B>, bool) -> (FloatTensor<B>, Option<Arc<[u8]>>),
) -> FloatTensor<Autodiff<B, C>> {
    match PatchConvolution
        .prepare::<C>([input.node(), weight.node(), bias.node()])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(mut preparation) => {
            let input_state = preparation.checkpoint(&input);
            let weight_state = preparation.checkpoint(&weight);
            let operands = [input.into_primitive(), weight.into_primitive()];
            let (output, winners) = run(operands, bias.into_primitive(), true);
            let saved = Saved {
                input: input_state,
                weight: weight_state,
                output: output.clone(),
                winners,
                stride,
                slope,
            };
            preparation.finish(saved, output)
        }
        OpsKind::UnTracked(preparation) => {
            let operands = [input.into_primitive(), weight.into_primitive()];
            preparation.finish(run(operands, bias.into_primitive(), false).0)
        }
    }
}

impl<B: Backend + ConvolutionGradients, C: CheckpointStrategy> ConvolutionBackend
    for Autodiff<B, C>
{
    fn patch_convolution(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
        slope: f32,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(
            [input, weight],
            bias,
            stride,
            slope,
            |[input, weight], bias, _| {
                (
                    B::patch_convolution(input, weight, bias, stride, slope),
                    None,
                )
            },
        )
    }

    fn patch_convolution_max_pool(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        slope: f32,
    ) -> FloatTensor<Self> {
        tracked::<B, C>(
            [input, weight],
            bias,
            1,
            slope,
            |[input, weight], bias, tracked| {
                if tracked {
                    let (output, winners) =
                        B::convolution_max_pool_winners(input, weight, bias, slope);
                    (output, Some(winners))
                } else {
                    (
                        B::patch_convolution_max_pool(input, weight, bias, slope),
                        None,
                    )
                }
            },
        )
    }

    fn patch_max_pool_fragments(input: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked_input::<B, C>(PatchMaxPoolFragments, input, B::patch_max_pool_fragments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composed;
    use burn::tensor::module::max_pool2d;
    use burn::tensor::ops::MaxPoolOptions;
    use burn::tensor::{Device, Distribution};

    /// Output and the gradients of input, weight and bias, for a loss with a weight of its own for
    /// every output.
    fn all(
        values: &[Tensor<4>; 2],
        bias: &Tensor<1>,
        run: impl Fn(Tensor<4>, Tensor<4>, Tensor<1>) -> Tensor<4>,
    ) -> Vec<TensorData> {
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
        vec![
            output.inner().into_data(),
            input.grad(&gradients).map(Tensor::into_data).unwrap(),
            weight.grad(&gradients).map(Tensor::into_data).unwrap(),
            bias.grad(&gradients).map(Tensor::into_data).unwrap(),
        ]
    }

    #[test]
    fn the_operations_and_their_gradients_are_those_of_burn() {
        let device = Device::flex();
        device.seed(1);
        for (size, kernel, stride) in [([13, 14], 5, 1), ([9, 8], 2, 1), ([12, 15], 4, 3)] {
            let random = |shape: [usize; 4]| {
                Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device)
            };
            let values = [
                random([2, 3, size[0], size[1]]),
                random([4, 3, kernel, kernel]),
            ];
            let bias = Tensor::<1>::random([4], Distribution::Normal(0.0, 1.0), &device);
            let mut ours = vec![all(&values, &bias, |input, weight, bias| {
                max_pool2d(
                    convolution(input, weight, bias, stride, 0.25),
                    MaxPoolOptions::new([2, 2]),
                )
            })];
            if stride == 1 {
                ours.push(all(&values, &bias, |input, weight, bias| {
                    convolution_max_pool(input, weight, bias, 0.25)
                }));
            }
            let theirs = all(&values, &bias, |input, weight, bias| {
                composed::max_pool(composed::convolution(input, weight, bias, stride, 0.25))
            });
            for (ours, theirs) in ours.iter().flat_map(|ours| ours.iter().zip(&theirs)) {
                assert_eq!(ours.shape(), theirs.shape());
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    assert!((a - b).abs() < 2e-3, "kernel {kernel}: {a} and {b}");
                }
            }
        }
    }

    /// Against the pooling of each offset's part by itself, put side by side: the same numbers, and the same gradient but for the
    /// order of its sums.
    #[test]
    fn fragments_are_the_poolings_of_four_parts() {
        let device = Device::flex();
        device.seed(2);
        for shape in [[1, 1, 3, 3], [2, 3, 9, 15], [1, 2, 21, 75]] {
            let map = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let run = |pool: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let device = Device::flex().autodiff();
                let map = Tensor::<4>::from_data(map.to_data(), &device).require_grad();
                let output = pool(map.clone());
                let count = output.dims().iter().product::<usize>();
                let scale: Vec<f32> = (0..count).map(|at| (at as f32 * 0.37).sin()).collect();
                let scale = Tensor::<4>::from_data(TensorData::new(scale, output.dims()), &device);
                let gradients = (output.clone() * scale).sum().backward();
                (
                    output.inner().into_data(),
                    map.grad(&gradients).map(Tensor::into_data).unwrap(),
                )
            };
            let (output, gradient) = run(&max_pool_fragments);
            let (expected, expected_gradient) = run(&composed::max_pool_fragments);
            assert_eq!(output, expected);
            assert_eq!(gradient.shape(), expected_gradient.shape());
            for (a, b) in gradient.iter::<f32>().zip(expected_gradient.iter::<f32>()) {
                assert!((a - b).abs() < 1e-6, "{shape:?}: {a} and {b}");
            }
        }
    }
}
