//! Operations on each number by itself, plane by plane.

use rayon::prelude::*;

use crate::tensor::Tensor;

/// Numbers that a thread takes at once.
const RUN: usize = 1 << 14;

/// Adds a tensor of the same shape.
pub(super) fn add(sum: &mut Tensor, other: &Tensor) {
    sum.values_mut()
        .par_chunks_mut(RUN)
        .zip(other.values().par_chunks(RUN))
        .for_each(|(sum, other)| {
            for (sum, other) in sum.iter_mut().zip(other) {
                *sum += other;
            }
        });
}

/// The sum of two tensors of one shape, and a leaky ReLU.
pub(super) fn sum(sources: &[&Tensor], slope: f32) -> Tensor {
    assert_eq!(
        sources[0].shape(),
        sources[1].shape(),
        "only values of one shape can be added"
    );
    let mut sum = sources[0].clone();
    sum.values_mut()
        .par_chunks_mut(RUN)
        .zip(sources[1].values().par_chunks(RUN))
        .for_each(|(sum, other)| {
            for (sum, other) in sum.iter_mut().zip(other) {
                let value = *sum + other;
                *sum = if value < 0.0 { slope * value } else { value };
            }
        });
    sum
}

/// The gradient before a leaky ReLU, from the one after it and the sign of its output, in place.
pub(super) fn activation_gradient(output: &Tensor, slope: f32, gradient: &mut Tensor) {
    if slope != 1.0 {
        pupilla_conv::leaky_relu_gradient(output.values(), slope, gradient.values_mut());
    }
}

/// The gradient before a ceiling, from the one after it and its output, in place.
pub(super) fn ceiling_gradient(output: &Tensor, ceiling: f32, gradient: &mut Tensor) {
    if ceiling == f32::INFINITY {
        return;
    }
    gradient
        .values_mut()
        .par_chunks_mut(RUN)
        .zip(output.values().par_chunks(RUN))
        .for_each(|(gradient, output)| {
            for (gradient, output) in gradient.iter_mut().zip(output) {
                if *output >= ceiling {
                    *gradient = 0.0;
                }
            }
        });
}

/// The channels of all, one after the other.
pub(super) fn concatenated(sources: &[&Tensor]) -> Tensor {
    let [batch, _, height, width] = sources[0].shape();
    let mut channels = 0;
    for source in sources {
        let shape = source.shape();
        assert_eq!(
            [shape[0], shape[2], shape[3]],
            [batch, height, width],
            "only maps of one size can be concatenated"
        );
        channels += shape[1];
    }
    let mut values = Vec::with_capacity(batch * channels * height * width);
    for item in 0..batch {
        for source in sources {
            let length = source.shape()[1] * height * width;
            values.extend_from_slice(&source.values()[item * length..][..length]);
        }
    }
    Tensor::new(values, [batch, channels, height, width])
}

/// The parts of a gradient that belong to each of the concatenated.
pub(super) fn separated(sources: &[&Tensor], gradient: &Tensor) -> Vec<Tensor> {
    let [batch, channels, height, width] = gradient.shape();
    let item = channels * height * width;
    let mut first = 0;
    let part = |source: &&Tensor| {
        let shape = source.shape();
        let length = shape[1] * height * width;
        let mut values = Vec::with_capacity(batch * length);
        for whole in gradient.values().chunks_exact(item) {
            values.extend_from_slice(&whole[first..first + length]);
        }
        first += length;
        Tensor::new(values, shape)
    };
    sources.iter().map(part).collect()
}

/// The mean of each plane.
pub(super) fn global_average(map: &Tensor) -> Tensor {
    let [batch, channels, ..] = map.shape();
    let area = map.area();
    let means = map.values().par_chunks_exact(area).map(|plane| {
        let sum: f64 = plane.iter().copied().map(f64::from).sum();
        (sum / area as f64) as f32
    });
    Tensor::new(means.collect(), [batch, channels, 1, 1])
}

/// The gradient of a map from that of its planes' means.
pub(super) fn global_average_gradient(map: &Tensor, gradient: &Tensor) -> Tensor {
    let area = map.area();
    let mut of_map = Tensor::zeros(map.shape());
    for (plane, gradient) in of_map
        .values_mut()
        .chunks_exact_mut(area)
        .zip(gradient.values())
    {
        plane.fill(gradient / area as f32);
    }
    of_map
}

/// `1 / (1 + exp(-x))`
pub(super) fn sigmoid(map: &Tensor) -> Tensor {
    let mut output = map.clone();
    output.values_mut().par_chunks_mut(RUN).for_each(|run| {
        for value in run {
            *value = 1.0 / (1.0 + (-*value).exp());
        }
    });
    output
}

/// The gradient before the sigmoid, from its output.
pub(super) fn sigmoid_gradient(output: &Tensor, mut gradient: Tensor) -> Tensor {
    gradient
        .values_mut()
        .par_chunks_mut(RUN)
        .zip(output.values().par_chunks(RUN))
        .for_each(|(gradient, output)| {
            for (gradient, value) in gradient.iter_mut().zip(output) {
                *gradient *= value * (1.0 - value);
            }
        });
    gradient
}
