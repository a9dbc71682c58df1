//! The one operation that Burn does not do for us: a valid convolution with bias and leaky ReLU,
//! computed by `pupilla-conv` on the CPU, with a hand-written backward pass.
//!
//! The activation is part of the operation because its gradient needs nothing but the sign of the
//! *output* (a leaky ReLU with a positive slope keeps signs): the pre-activation is never stored.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use pupilla_conv::Conv2d;

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
}

/// The gradients that a backend with [`ConvolutionBackend`] gives to automatic differentiation.
pub(crate) trait ConvolutionGradients: ConvolutionBackend {
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

    /// The gradient of the bias, `[out_channels]`.
    fn bias_gradient(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        gradient: &FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self>;
}

/// A valid convolution (cross-correlation), bias added, then a leaky ReLU of slope `slope` in
/// `(0, 1]` (1: none).
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
    Tensor::from_dispatch(<Dispatch as ConvolutionBackend>::patch_convolution(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        stride,
        slope,
    ))
}

type FlexTensor = FloatTensor<Flex>;

/// `f32` values of a tensor in row-major order.
fn with_values<R>(tensor: &FlexTensor, read: impl FnOnce(&[f32]) -> R) -> R {
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

fn output_shape(shape: &Conv2d) -> [usize; 4] {
    let [height, width] = shape.output_size();
    [shape.batch, shape.out_channels, height, width]
}

impl ConvolutionBackend for Flex {
    fn patch_convolution(
        input: FlexTensor,
        weight: FlexTensor,
        bias: FlexTensor,
        stride: usize,
        slope: f32,
    ) -> FlexTensor {
        let shape = shape(&input, &weight, stride);
        let dimensions = output_shape(&shape);
        let mut output = vec![0.0; dimensions.iter().product()];
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
}

impl ConvolutionGradients for Flex {
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
        let mut result = vec![0.0; shape.batch * shape.in_channels * shape.height * shape.width];
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

    fn weight_gradient(
        input: FlexTensor,
        weight: &FlexTensor,
        gradient: FlexTensor,
        stride: usize,
    ) -> FlexTensor {
        let shape = shape(&input, weight, stride);
        let dimensions: [usize; 4] = weight.shape().dims();
        let mut result = vec![0.0; dimensions.iter().product()];
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

/// What the backward pass keeps: the input and the weight (as checkpoints), the output itself.
#[derive(Clone, Debug)]
struct Saved<T> {
    input: NodeId,
    weight: NodeId,
    output: T,
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
        let gradient = B::activation_gradient(saved.output, gradient, saved.slope);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(saved.input);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(saved.weight);

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
        match PatchConvolution
            .prepare::<C>([input.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut preparation) => {
                let input_state = preparation.checkpoint(&input);
                let weight_state = preparation.checkpoint(&weight);
                let output = B::patch_convolution(
                    input.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                    stride,
                    slope,
                );
                preparation.finish(
                    Saved {
                        input: input_state,
                        weight: weight_state,
                        output: output.clone(),
                        stride,
                        slope,
                    },
                    output,
                )
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::patch_convolution(
                input.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                stride,
                slope,
            )),
        }
    }
}
