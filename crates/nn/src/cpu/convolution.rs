//! A convolution with its bias and activation, fused with a batch norm before it and a max-pooling after it.
//!
//! Batch norm before a convolution without padding writes no map of its own. Dividing a channel by its deviation equals dividing the
//! channel's weights. Subtracting its mean is a part of the bias.

use std::borrow::Cow;

use pupilla_conv::{Activation, Conv2d, Pool};

use super::batch_norm::{self, deviations};
use super::elementwise::{activation_gradient, ceiling_gradient};
use crate::engine::Moments;
use crate::graph::Convolution;
use crate::tensor::Tensor;

/// A convolution and its neighbours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fused<'a> {
    pub shape: &'a Convolution,
    /// The ε of the batch norm before it, if there is one.
    pub normalised: Option<f64>,
    /// Whether 2×2 max-pooling follows; there is no ceiling then.
    pub pooled: bool,
}

/// What the backward pass needs beside input and output.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Which of its window's four pixels each output was.
    winners: Option<Vec<u8>>,
    /// Of the input's channels, with the weights that were used.
    normalised: Option<(Moments, Vec<f32>)>,
}

impl Kept {
    /// The moments of the map that batch norm was given.
    pub fn moments(&self) -> Option<&Moments> {
        self.normalised.as_ref().map(|(moments, _)| moments)
    }
}

/// The shape of a convolution of an input, its padding around it already.
///
/// # Panics
/// If the input is smaller than the kernel or has other channels.
pub(super) fn conv2d(of: &Convolution, input: [usize; 4]) -> Conv2d {
    assert_eq!(
        input[1], of.channels[0],
        "the input of a convolution has another number of channels"
    );
    let shape = Conv2d::new(input, of.channels[1], [of.kernel; 2])
        .and_then(|shape| shape.with_stride([of.stride; 2]));
    match shape {
        Ok(shape) => shape,
        Err(error) => panic!("{error}"),
    }
}

impl Fused<'_> {
    fn padded<'t>(&self, input: &'t Tensor) -> Cow<'t, Tensor> {
        match self.shape.padding {
            0 => Cow::Borrowed(input),
            padding => Cow::Owned(input.padded(padding)),
        }
    }

    /// The output; what the backward pass needs if `keep`, the moments in any case.
    pub fn forward(&self, numbers: &[Vec<f32>], input: &Tensor, keep: bool) -> (Tensor, Kept) {
        let mut kept = Kept::default();
        let (weight, bias) = (&numbers[0], self.shape.bias.then(|| &numbers[1][..]));
        let (mut weight, mut bias) = (Cow::Borrowed(&weight[..]), bias.map(Cow::Borrowed));
        if let Some(epsilon) = self.normalised {
            let moments = batch_norm::moments(input);
            let (of_weight, of_bias) =
                normalise(&moments, epsilon, self.shape, &weight, bias.as_deref());
            weight = Cow::Owned(of_weight.clone());
            bias = Some(Cow::Owned(of_bias));
            kept.normalised = Some((moments, of_weight));
        }
        let input = self.padded(input);
        let shape = conv2d(self.shape, input.shape());
        let slope = self.shape.slope;
        let [mut rows, mut columns] = shape.output_size();
        if self.pooled {
            [rows, columns] = Pool::after(&shape).output_size();
        }
        let mut output = Tensor::zeros([shape.batch, shape.out_channels, rows, columns]);
        if self.pooled {
            let mut winners = vec![0; if keep { output.values().len() } else { 0 }];
            pupilla_conv::forward_max_pool(
                &shape,
                input.values(),
                &weight,
                bias.as_deref(),
                slope,
                output.values_mut(),
                keep.then_some(&mut winners[..]),
            );
            kept.winners = keep.then_some(winners);
        } else {
            let activation = Activation {
                slope,
                ceiling: self.shape.ceiling,
            };
            pupilla_conv::forward_activated(
                &shape,
                input.values(),
                &weight,
                bias.as_deref(),
                activation,
                output.values_mut(),
            );
        }
        (output, kept)
    }

    /// The wanted gradients of the input, and of weight and bias.
    pub fn backward(
        &self,
        numbers: &[Vec<f32>],
        (input, output, kept): (&Tensor, &Tensor, Kept),
        mut gradient: Tensor,
        [of_parameters, of_input]: [bool; 2],
    ) -> (Option<Tensor>, Vec<Vec<f32>>) {
        let seen = self.padded(input);
        let shape = conv2d(self.shape, seen.shape());
        match kept.winners {
            Some(winners) => {
                let [rows, columns] = shape.output_size();
                let size = [shape.batch, shape.out_channels, rows, columns];
                let mut before = Tensor::zeros(size);
                pupilla_conv::activated_pool_gradient(
                    &Pool::after(&shape),
                    output.values(),
                    &winners,
                    self.shape.slope,
                    gradient.values(),
                    before.values_mut(),
                );
                gradient = before;
            }
            None => {
                ceiling_gradient(output, self.shape.ceiling, &mut gradient);
                activation_gradient(output, self.shape.slope, &mut gradient);
            }
        }
        // The moments' gradients come from those of weight and bias.
        let through_moments = kept.normalised.is_some() && of_input;
        let mut arrays = Vec::new();
        if of_parameters || through_moments {
            let mut of_weight = pupilla_conv::zeros(shape.weight_len());
            pupilla_conv::weight_gradient(&shape, seen.values(), gradient.values(), &mut of_weight);
            arrays.push(of_weight);
            if self.shape.bias || kept.normalised.is_some() {
                let mut of_bias = vec![0.0; shape.out_channels];
                pupilla_conv::bias_gradient(&shape, gradient.values(), &mut of_bias);
                arrays.push(of_bias);
            }
        }
        let weight = match &kept.normalised {
            Some((_, weight)) => weight,
            None => &numbers[0],
        };
        let mut of_input = of_input.then(|| {
            let mut of_seen = Tensor::zeros(seen.shape());
            pupilla_conv::input_gradient(&shape, gradient.values(), weight, of_seen.values_mut());
            match self.shape.padding {
                0 => of_seen,
                padding => of_seen.cropped(padding),
            }
        });
        if let (Some(epsilon), Some((moments, weight))) = (self.normalised, &kept.normalised)
            && let [of_weight, of_bias] = &mut arrays[..]
        {
            let of_moments = normalise_gradient(moments, epsilon, weight, of_weight, of_bias);
            if let Some(of_input) = &mut of_input {
                batch_norm::add_moments_gradient(input, &of_moments, of_input);
            }
            if !self.shape.bias {
                arrays.pop();
            }
        }
        if !of_parameters {
            arrays.clear();
        }
        (of_input, arrays)
    }
}

/// Weight and bias of the convolution of a map whose channels are to have mean 0 and deviation 1.
fn normalise(
    moments: &Moments,
    epsilon: f64,
    shape: &Convolution,
    weight: &[f32],
    bias: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let deviations = deviations(moments, epsilon);
    let [channels, outputs] = shape.channels;
    let taps = shape.kernel * shape.kernel;
    let mut weight = weight.to_vec();
    let mut offsets = Vec::with_capacity(outputs);
    for row in weight.chunks_exact_mut(channels * taps) {
        let mut offset = 0.0;
        let kernels = row.chunks_exact_mut(taps);
        for (kernel, (deviation, mean)) in kernels.zip(deviations.iter().zip(&moments.means)) {
            for value in kernel {
                *value = (f64::from(*value) / deviation) as f32;
                offset += f64::from(*value) * mean;
            }
        }
        offsets.push(offset);
    }
    let bias = offsets
        .iter()
        .enumerate()
        .map(|(output, offset)| (bias.map_or(0.0, |bias| f64::from(bias[output])) - offset) as f32)
        .collect();
    (weight, bias)
}

/// Turns the gradient of the weight that [`normalise`] gave into that of the weight it was given; the gradients of the moments, those
/// of the means first.
fn normalise_gradient(
    moments: &Moments,
    epsilon: f64,
    weight: &[f32],
    of_weight: &mut [f32],
    of_bias: &[f32],
) -> [Vec<f64>; 2] {
    let deviations = deviations(moments, epsilon);
    let channels = deviations.len();
    let taps = weight.len() / (of_bias.len() * channels);
    let mut of_means = vec![0.0; channels];
    let mut of_squares = vec![0.0; channels];
    let rows = of_weight
        .chunks_exact_mut(channels * taps)
        .zip(weight.chunks_exact(channels * taps));
    for ((of_row, row), of_bias) in rows.zip(of_bias) {
        let of_bias = f64::from(*of_bias);
        let kernels = of_row.chunks_exact_mut(taps).zip(row.chunks_exact(taps));
        for (channel, (of_kernel, kernel)) in kernels.enumerate() {
            let (mean, deviation) = (moments.means[channel], deviations[channel]);
            for (gradient, value) in of_kernel.iter_mut().zip(kernel) {
                let value = f64::from(*value);
                // The bias has taken off the mean times this weight.
                let whole = f64::from(*gradient) - of_bias * mean;
                of_means[channel] -= of_bias * value;
                // Of the deviation: the weight is divided by it.
                of_squares[channel] -= whole * value / deviation;
                *gradient = (whole / deviation) as f32;
            }
        }
    }
    for channel in 0..channels {
        let mean = moments.means[channel];
        // A variance that rounding made negative counts as 0, whatever the moments.
        let variance = moments.squares[channel] - mean * mean;
        let of_variance = if variance > 0.0 {
            of_squares[channel] / (2.0 * deviations[channel])
        } else {
            0.0
        };
        of_squares[channel] = of_variance;
        of_means[channel] -= 2.0 * mean * of_variance;
    }
    [of_means, of_squares]
}
