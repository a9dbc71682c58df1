//! The Gaussian window of SSIM: a separable filter of 11×11 pixels, whose gradient is its transpose.

use pupilla_nn::Tensor;
use rayon::prelude::*;

/// Pixels on each side of the window's middle: a window of 11 (Wang et al. 2004; Bergmann et al. 2019).
const RADIUS: usize = 5;

/// Deviation of the Gaussian (Wang et al. 2004).
const DEVIATION: f64 = 1.5;

/// The mean around each pixel by a Gaussian window of 11×11; beyond the edges the map is mirrored with its edge pixels repeated, as
/// SciPy's `gaussian_filter` does it.
///
/// # Shapes
/// `[batch, channels, height, width]` in and out.
pub(super) fn window_mean(map: &Tensor) -> Tensor {
    filtered(map, Pass::Gather)
}

/// The gradient of the map from that of its means: the transposed filter.
pub(super) fn window_mean_gradient(gradient: &Tensor) -> Tensor {
    filtered(gradient, Pass::Scatter)
}

fn filtered(map: &Tensor, pass: Pass) -> Tensor {
    let [.., height, width] = map.shape();
    Tensor::new(filter(map.values(), [height, width], pass), map.shape())
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
