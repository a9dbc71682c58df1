//! Batch norm with the statistics of the batch.

use rayon::prelude::*;

use crate::engine::Moments;
use crate::graph::BatchNorm;
use crate::tensor::Tensor;

/// Sum and sum of squares of a plane: running `f32` sums over short runs, the runs summed in `f64`.
fn plane_sums(plane: &[f32]) -> [f64; 2] {
    let mut totals = [0.0f64; 2];
    for run in plane.chunks(256) {
        let mut sums = [0.0f32; 8];
        let mut squares = [0.0f32; 8];
        let chunks = run.chunks_exact(8);
        for &value in chunks.remainder() {
            totals[0] += f64::from(value);
            totals[1] += f64::from(value) * f64::from(value);
        }
        for chunk in chunks {
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(chunk) {
                *sum += value;
                *square += value * value;
            }
        }
        totals[0] += sums.into_iter().map(f64::from).sum::<f64>();
        totals[1] += squares.into_iter().map(f64::from).sum::<f64>();
    }
    totals
}

/// Mean and mean square of each channel over batch, rows and columns.
pub(crate) fn moments(map: &Tensor) -> Moments {
    let [batch, channels, ..] = map.shape();
    let area = map.area();
    let count = (batch * area) as f64;
    let of_channels: Vec<[f64; 2]> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            map.values()
                .chunks_exact(area)
                .skip(channel)
                .step_by(channels)
                .map(plane_sums)
                .fold([0.0; 2], |all, sums| [all[0] + sums[0], all[1] + sums[1]])
        })
        .collect();
    let mean = |which: usize| of_channels.iter().map(|sums| sums[which] / count).collect();
    Moments {
        means: mean(0),
        squares: mean(1),
    }
}

/// `√(variance + ε)` of each channel.
pub(super) fn deviations(moments: &Moments, epsilon: f64) -> Vec<f64> {
    let pairs = moments.means.iter().zip(&moments.squares);
    pairs
        .map(|(mean, square)| ((square - mean * mean).max(0.0) + epsilon).sqrt())
        .collect()
}

/// Adds the gradient of a map that comes from those of its moments (of the means, of the mean squares).
pub(super) fn add_moments_gradient(
    map: &Tensor,
    [of_means, of_squares]: &[Vec<f64>; 2],
    gradient: &mut Tensor,
) {
    let [batch, channels, ..] = map.shape();
    let area = map.area();
    let count = (batch * area) as f64;
    gradient
        .values_mut()
        .par_chunks_exact_mut(area)
        .zip(map.values().par_chunks_exact(area))
        .enumerate()
        .for_each(|(plane, (gradient, map))| {
            let channel = plane % channels;
            let of_mean = (of_means[channel] / count) as f32;
            let of_square = (2.0 * of_squares[channel] / count) as f32;
            for (gradient, value) in gradient.iter_mut().zip(map) {
                *gradient += of_mean + of_square * value;
            }
        });
}

/// Scale and offset of each channel: those that are learned, or 1 and 0.
fn affine<'a>(norm: &BatchNorm, numbers: &'a [Vec<f32>]) -> impl Fn(usize) -> (f64, f64) + 'a {
    let affine = norm.affine;
    move |channel| match (affine, numbers) {
        (true, [scales, biases, ..]) => (f64::from(scales[channel]), f64::from(biases[channel])),
        _ => (1.0, 0.0),
    }
}

/// Each channel in units of its deviation, times its scale, plus its offset, and the activation.
pub(super) fn forward(
    norm: &BatchNorm,
    numbers: &[Vec<f32>],
    map: &Tensor,
    moments: &Moments,
) -> Tensor {
    let deviations = deviations(moments, norm.epsilon);
    let affine = affine(norm, numbers);
    let factors: Vec<(f32, f32)> = deviations
        .iter()
        .enumerate()
        .map(|(channel, deviation)| {
            let (scale, bias) = affine(channel);
            let factor = scale / deviation;
            (
                factor as f32,
                (bias - moments.means[channel] * factor) as f32,
            )
        })
        .collect();
    let mut output = Tensor::zeros(map.shape());
    let area = map.area();
    output
        .values_mut()
        .par_chunks_exact_mut(area)
        .zip(map.values().par_chunks_exact(area))
        .enumerate()
        .for_each(|(plane, (output, map))| {
            let (factor, offset) = factors[plane % factors.len()];
            for (output, value) in output.iter_mut().zip(map) {
                let value = value * factor + offset;
                *output = if value < 0.0 {
                    norm.slope * value
                } else {
                    value
                };
            }
        });
    output
}

/// The gradients of the map, and of scale and offset.
pub(super) fn backward(
    norm: &BatchNorm,
    numbers: &[Vec<f32>],
    (map, output): (&Tensor, &Tensor),
    moments: &Moments,
    mut gradient: Tensor,
) -> (Tensor, Vec<Vec<f32>>) {
    super::elementwise::activation_gradient(output, norm.slope, &mut gradient);
    let [batch, channels, ..] = map.shape();
    let area = map.area();
    let count = (batch * area) as f64;
    let deviations = deviations(moments, norm.epsilon);
    // Sums over batch and pixels of the gradient, and of its product with the normalised map.
    let sums: Vec<[f64; 2]> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let planes = gradient
                .values()
                .chunks_exact(area)
                .zip(map.values().chunks_exact(area));
            let (mean, deviation) = (moments.means[channel], deviations[channel]);
            let mut sums = [0.0; 2];
            for (gradient, map) in planes.skip(channel).step_by(channels) {
                for (gradient, value) in gradient.iter().zip(map) {
                    let gradient = f64::from(*gradient);
                    sums[0] += gradient;
                    sums[1] += gradient * (f64::from(*value) - mean) / deviation;
                }
            }
            sums
        })
        .collect();
    let affine = affine(norm, numbers);
    let factors: Vec<[f32; 3]> = (0..channels)
        .map(|channel| {
            let (scale, _) = affine(channel);
            let (mean, deviation) = (moments.means[channel], deviations[channel]);
            let variance = moments.squares[channel] - mean * mean;
            let factor = scale / deviation;
            // A variance that rounding made negative counts as 0, whatever the map.
            let slope = if variance > 0.0 {
                sums[channel][1] / count / deviation
            } else {
                0.0
            };
            let offset = sums[channel][0] / count - mean * slope;
            [factor as f32, slope as f32, offset as f32]
        })
        .collect();
    gradient
        .values_mut()
        .par_chunks_exact_mut(area)
        .zip(map.values().par_chunks_exact(area))
        .enumerate()
        .for_each(|(plane, (gradient, map))| {
            let [factor, slope, offset] = factors[plane % channels];
            for (gradient, value) in gradient.iter_mut().zip(map) {
                *gradient = factor * (*gradient - offset - slope * value);
            }
        });
    let arrays = if norm.affine {
        let sum = |which: usize| sums.iter().map(|sums| sums[which] as f32).collect();
        vec![sum(1), sum(0)]
    } else {
        Vec::new()
    };
    (gradient, arrays)
}
