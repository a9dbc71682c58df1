//! A depthwise convolution with its biases and its activation.

use pupilla_conv::{Activation, Conv2d, Depthwise};

use super::elementwise::{activation_gradient, ceiling_gradient};
use super::padding;
use crate::graph::DepthwiseConvolution;
use crate::tensor::Tensor;

/// # Panics
/// If the input is empty or has other channels.
fn shape(of: &DepthwiseConvolution, input: &Tensor) -> Depthwise {
    assert_eq!(
        input.shape()[1],
        of.channels,
        "the input of a depthwise convolution has another number of channels"
    );
    let zeros = padding::zeros(&of.window, input);
    match Depthwise::new(input.shape(), of.window.kernel, of.window.stride, zeros) {
        Ok(shape) => shape,
        Err(error) => panic!("{error}"),
    }
}

pub(super) fn forward(of: &DepthwiseConvolution, numbers: &[Vec<f32>], input: &Tensor) -> Tensor {
    let shape = shape(of, input);
    let [batch, channels, ..] = input.shape();
    let [rows, columns] = shape.output_size();
    let mut output = Tensor::zeros([batch, channels, rows, columns]);
    let activation = Activation {
        slope: of.slope,
        ceiling: of.ceiling,
    };
    pupilla_conv::depthwise(
        &shape,
        input.values(),
        &numbers[0],
        Some(&numbers[1]),
        activation,
        output.values_mut(),
    );
    output
}

/// The wanted gradients of the input, and of weight and bias.
pub(super) fn backward(
    of: &DepthwiseConvolution,
    numbers: &[Vec<f32>],
    (input, output): (&Tensor, &Tensor),
    mut gradient: Tensor,
    [of_parameters, of_input]: [bool; 2],
) -> (Option<Tensor>, Vec<Vec<f32>>) {
    let shape = shape(of, input);
    ceiling_gradient(output, of.ceiling, &mut gradient);
    activation_gradient(output, of.slope, &mut gradient);
    let mut arrays = Vec::new();
    if of_parameters {
        let mut of_weight = pupilla_conv::zeros(numbers[0].len());
        let values = gradient.values();
        pupilla_conv::depthwise_weight_gradient(&shape, input.values(), values, &mut of_weight);
        // A bias is added to every pixel, whatever the kernel.
        let mut of_bias = vec![0.0; of.channels];
        match Conv2d::new(gradient.shape(), of.channels, [1, 1]) {
            Ok(pixels) => pupilla_conv::bias_gradient(&pixels, values, &mut of_bias),
            Err(error) => panic!("{error}"),
        }
        arrays.extend([of_weight, of_bias]);
    }
    let of_input = of_input.then(|| {
        let mut of_input = Tensor::zeros(input.shape());
        let target = of_input.values_mut();
        pupilla_conv::depthwise_input_gradient(&shape, gradient.values(), &numbers[0], target);
        of_input
    });
    (of_input, arrays)
}
