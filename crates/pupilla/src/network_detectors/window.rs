//! The Gaussian window of SSIM as an operation with a gradient of its own: a separable filter of 11×11 pixels, whose gradient is its
//! transpose.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::convolution::{input_gradient, tracked_input, with_values};

/// Pixels on each side of the window's middle: a window of 11 (Wang et al. 2004; Bergmann et al. 2019).
const RADIUS: usize = 5;

/// Deviation of the Gaussian (Wang et al. 2004).
const DEVIATION: f64 = 1.5;

/// A backend that has the window.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait WindowBackend: Backend {
    /// See [`window_mean`].
    fn window_mean(map: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The gradient that a backend with [`WindowBackend`] gives to automatic differentiation.
pub(crate) trait WindowGradient: WindowBackend {
    /// The gradient of the map from that of the means: the transposed filter.
    fn window_mean_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The mean around each pixel by a Gaussian window of 11×11; beyond the edges the map is mirrored with its edge pixels repeated, as
/// SciPy's `gaussian_filter` does it.
///
/// # Shapes
/// `[batch, channels, height, width]` in and out.
pub(super) fn window_mean(map: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&map.device()) {
        return composed(map);
    }
    Tensor::from_dispatch(<Dispatch as WindowBackend>::window_mean(
        map.into_dispatch(),
    ))
}

fn weights() -> [f32; 2 * RADIUS + 1] {
    let weight = |at: usize| (-0.5 * ((at as f64 - RADIUS as f64) / DEVIATION).powi(2)).exp();
    let sum: f64 = (0..2 * RADIUS + 1).map(weight).sum();
    std::array::from_fn(|at| (weight(at) / sum) as f32)
}

/// The pixel of a line of `size` that stands at `at`, inside or beyond its ends.
fn mirrored(at: isize, size: usize) -> usize {
    let size = size as isize;
    let at = at.rem_euclid(2 * size);
    at.min(2 * size - 1 - at) as usize
}

/// The same of the framework's own operations, two products of matrices: what a GPU computes, and in tests the twin of ours.
#[cfg(any(test, feature = "gpu"))]
fn composed(map: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = map.dims();
    let device = map.device();
    // `[size, size]`: each row has the weights of one output.
    let matrix = |size: usize| {
        let mut values = vec![0.0; size * size];
        for (row, of_output) in values.chunks_exact_mut(size).enumerate() {
            for (tap, weight) in weights().into_iter().enumerate() {
                of_output[mirrored((row + tap) as isize - RADIUS as isize, size)] += weight;
            }
        }
        Tensor::<2>::from_data(TensorData::new(values, [size, size]), &device)
    };
    let lines = map.reshape([batch * channels * height, width]);
    let across = lines.matmul(matrix(width).transpose());
    let planes = across.reshape([batch * channels, height, width]);
    let down = matrix(height).unsqueeze_dim::<3>(0).matmul(planes);
    down.reshape([batch, channels, height, width])
}

/// Each output is the weighted sum of the inputs around it, or, transposed, each input is added to the outputs around it.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Gather,
    Scatter,
}

fn add(target: &mut [f32], weight: f32, source: &[f32]) {
    for (target, value) in target.iter_mut().zip(source) {
        *target += weight * value;
    }
}

/// The filter, or its transpose, on every plane.
fn filter(values: &[f32], [height, width]: [usize; 2], pass: Pass) -> Vec<f32> {
    let weights = weights();
    let mut output = vec![0.0f32; values.len()];
    let area = height * width;
    output
        .par_chunks_exact_mut(area)
        .zip(values.par_chunks_exact(area))
        .for_each_init(
            || (vec![0.0; area], vec![0.0; width + 2 * RADIUS]),
            |(across, line), (output, plane)| {
                let rows = across.chunks_exact_mut(width);
                for (row, target) in plane.chunks_exact(width).zip(rows) {
                    filter_row(row, target, line, &weights, pass);
                }
                for row in 0..height {
                    for (tap, weight) in weights.into_iter().enumerate() {
                        let other = mirrored((row + tap) as isize - RADIUS as isize, height);
                        let [from, to] = match pass {
                            Pass::Gather => [other, row],
                            Pass::Scatter => [row, other],
                        };
                        let source = &across[from * width..][..width];
                        add(&mut output[to * width..][..width], weight, source);
                    }
                }
            },
        );
    output
}

/// One row; `line` is room for it with what stands beyond its ends.
fn filter_row(
    row: &[f32],
    target: &mut [f32],
    line: &mut [f32],
    weights: &[f32; 2 * RADIUS + 1],
    pass: Pass,
) {
    let width = row.len();
    let source_of = |at: usize| mirrored(at as isize - RADIUS as isize, width);
    match pass {
        Pass::Gather => {
            for (at, value) in line.iter_mut().enumerate() {
                *value = row[source_of(at)];
            }
            target.fill(0.0);
            for (tap, &weight) in weights.iter().enumerate() {
                add(target, weight, &line[tap..tap + width]);
            }
        }
        Pass::Scatter => {
            line.fill(0.0);
            for (tap, &weight) in weights.iter().enumerate() {
                add(&mut line[tap..tap + width], weight, row);
            }
            target.fill(0.0);
            for (at, value) in line.iter().enumerate() {
                target[source_of(at)] += value;
            }
        }
    }
}

fn filtered(map: &FloatTensor<Flex>, pass: Pass) -> FloatTensor<Flex> {
    let shape: [usize; 4] = map.shape().dims();
    let values = with_values(map, |map| filter(map, [shape[2], shape[3]], pass));
    FloatTensor::<Flex>::from_data(TensorData::new(values, shape))
}

impl WindowBackend for Flex {
    fn window_mean(map: FloatTensor<Self>) -> FloatTensor<Self> {
        filtered(&map, Pass::Gather)
    }
}

impl WindowGradient for Flex {
    fn window_mean_gradient(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        filtered(&gradient, Pass::Scatter)
    }
}

#[derive(Debug)]
struct WindowMean;

impl<B: Backend + WindowGradient> Backward<B, 1> for WindowMean {
    /// The map, of which nothing but its place is needed.
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        input_gradient::<B>(ops, gradients, checkpointer, |_, gradient| {
            B::window_mean_gradient(gradient)
        });
    }
}

impl<B: Backend + WindowGradient, C: CheckpointStrategy> WindowBackend for Autodiff<B, C> {
    fn window_mean(map: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked_input::<B, C>(WindowMean, map, B::window_mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|at| (at as f32 * step).sin()).collect()
    }

    /// Every weight by itself, in `f64`.
    fn slow(values: &[f32], [height, width]: [usize; 2]) -> Vec<f64> {
        let weights = weights();
        let at = |start: usize, tap: usize, size| {
            mirrored((start + tap) as isize - RADIUS as isize, size)
        };
        (0..height * width)
            .map(|pixel| {
                let (row, column) = (pixel / width, pixel % width);
                let mut sum = 0.0;
                for (i, of_row) in weights.iter().enumerate() {
                    for (j, of_column) in weights.iter().enumerate() {
                        let value = values[at(row, i, height) * width + at(column, j, width)];
                        sum += f64::from(of_row * of_column) * f64::from(value);
                    }
                }
                sum
            })
            .collect()
    }

    #[test]
    fn the_filter_is_its_slow_twin() {
        // Also lines that are shorter than the window.
        for size in [[1, 1], [3, 17], [16, 5], [12, 31]] {
            let values = numbers(size[0] * size[1], 0.7);
            let expected = slow(&values, size);
            for (found, expected) in filter(&values, size, Pass::Gather).iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{size:?}");
            }
        }
    }

    #[test]
    fn two_matrices_are_the_same_filter_and_gradient() {
        let device = crate::device::cpu();
        for [height, width] in [[1, 1], [3, 17], [16, 5], [12, 31]] {
            let shape = [2, 3, height, width];
            let tensor = |step| {
                let values = numbers(6 * height * width, step);
                Tensor::<4>::from_data(TensorData::new(values, shape), &device)
            };
            let both = |operation: fn(Tensor<4>) -> Tensor<4>| {
                let autodiff = device.clone().autodiff();
                let values = numbers(6 * height * width, 0.7);
                let map = Tensor::<4>::from_data(TensorData::new(values, shape), &autodiff);
                let map = map.require_grad();
                let output = operation(map.clone());
                let weights = Tensor::from_data(tensor(1.3).into_data(), &autodiff);
                let gradients = (output.clone() * weights).sum().backward();
                let gradient = map.grad(&gradients).unwrap().into_data();
                [output.into_data(), gradient]
            };
            for (ours, theirs) in both(window_mean).iter().zip(&both(composed)) {
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    assert!((a - b).abs() < 1e-5, "{height}×{width}: {a}, {b}");
                }
            }
        }
    }

    /// `⟨F x, y⟩ = ⟨x, Fᵀ y⟩` for all x and y: the second pass is the gradient of the first.
    #[test]
    fn the_gradient_is_the_transposed_filter() {
        for size in [[1, 4], [3, 17], [16, 5], [12, 31]] {
            let count = 2 * size[0] * size[1];
            let (x, y) = (numbers(count, 0.7), numbers(count, 1.3));
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
            };
            let forward = product(&filter(&x, size, Pass::Gather), &y);
            let backward = product(&x, &filter(&y, size, Pass::Scatter));
            assert!((forward - backward).abs() < 1e-4, "{forward}, {backward}");
        }
    }
}
