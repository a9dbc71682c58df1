//! Transposed convolution: a valid convolution's input gradient run forward. All three of its passes are passes of `pupilla-conv` with
//! the roles exchanged.

use pupilla_conv::Conv2d;
use rayon::prelude::*;

use super::convolution::conv2d;
use crate::graph::Convolution;
use crate::tensor::Tensor;

/// The convolution whose input gradient it is.
fn mirrored(of: &Convolution, input: [usize; 4]) -> Conv2d {
    let [batch, channels, height, width] = input;
    assert_eq!(
        channels, of.channels[0],
        "the input of a transposed convolution has another number of channels"
    );
    let side = |side: usize| (side - 1) * of.stride + of.kernel;
    let shape = [batch, of.channels[1], side(height), side(width)];
    assert!(
        2 * of.padding < shape[2].min(shape[3]),
        "a padding of {} leaves no output",
        of.padding
    );
    let back = Convolution {
        channels: [of.channels[1], of.channels[0]],
        ..*of
    };
    conv2d(&back, shape)
}

fn whole(shape: &Conv2d) -> [usize; 4] {
    [shape.batch, shape.in_channels, shape.height, shape.width]
}

/// The output, with bias and activation.
pub(super) fn forward(of: &Convolution, numbers: &[Vec<f32>], input: &Tensor) -> Tensor {
    let shape = mirrored(of, input.shape());
    let mut output = Tensor::zeros(whole(&shape));
    pupilla_conv::input_gradient(&shape, input.values(), &numbers[0], output.values_mut());
    if of.padding > 0 {
        output = output.cropped(of.padding);
    }
    let area = output.area();
    let channels = of.channels[1];
    output
        .values_mut()
        .par_chunks_exact_mut(area)
        .enumerate()
        .for_each(|(plane, output)| {
            let bias = if of.bias {
                numbers[1][plane % channels]
            } else {
                0.0
            };
            for output in output {
                let value = *output + bias;
                let value = if value < 0.0 { of.slope * value } else { value };
                *output = if value > of.ceiling {
                    of.ceiling
                } else {
                    value
                };
            }
        });
    output
}

/// The wanted gradients of the input, and of weight and bias.
pub(super) fn backward(
    of: &Convolution,
    numbers: &[Vec<f32>],
    (input, output): (&Tensor, &Tensor),
    mut gradient: Tensor,
    [of_parameters, of_input]: [bool; 2],
) -> (Option<Tensor>, Vec<Vec<f32>>) {
    let shape = mirrored(of, input.shape());
    super::elementwise::ceiling_gradient(output, of.ceiling, &mut gradient);
    super::elementwise::activation_gradient(output, of.slope, &mut gradient);
    let mut arrays = Vec::new();
    let of_bias = (of_parameters && of.bias).then(|| {
        let channels = of.channels[1];
        let mut sums = vec![0.0f64; channels];
        let planes = gradient.values().chunks_exact(gradient.area());
        for (plane, values) in planes.enumerate() {
            sums[plane % channels] += values.iter().copied().map(f64::from).sum::<f64>();
        }
        sums.into_iter().map(|sum| sum as f32).collect::<Vec<_>>()
    });
    if of.padding > 0 {
        gradient = gradient.padded(of.padding);
    }
    if of_parameters {
        let mut of_weight = pupilla_conv::zeros(shape.weight_len());
        pupilla_conv::weight_gradient(&shape, gradient.values(), input.values(), &mut of_weight);
        arrays.push(of_weight);
        arrays.extend(of_bias);
    }
    let of_input = of_input.then(|| {
        let mut of_input = Tensor::zeros(input.shape());
        let values = of_input.values_mut();
        pupilla_conv::forward(&shape, gradient.values(), &numbers[0], None, values);
        of_input
    });
    (of_input, arrays)
}
