//! Max-pooling by itself, and at all of its offsets.

use pupilla_conv::Fragments;
use rayon::prelude::*;

use crate::graph::MaxPool;
use crate::tensor::Tensor;

/// The pixels of a window along one side: those that are on the map.
fn window(pool: &MaxPool, index: usize, side: usize) -> std::ops::Range<usize> {
    let start = index * pool.stride;
    let end = (start + pool.size).saturating_sub(pool.padding).min(side);
    start.saturating_sub(pool.padding)..end
}

fn output_size(pool: &MaxPool, map: &Tensor) -> [usize; 4] {
    let [batch, channels, height, width] = map.shape();
    [batch, channels, pool.windows(height), pool.windows(width)]
}

/// The place of the first largest number of a window (row by row, as in PyTorch), or of its last NaN.
fn winner(
    plane: &[f32],
    width: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
) -> usize {
    let mut best = rows.start * width + columns.start;
    for row in rows {
        for column in columns.clone() {
            let at = row * width + column;
            if plane[at] > plane[best] || plane[at].is_nan() {
                best = at;
            }
        }
    }
    best
}

/// The largest number of each window.
pub(super) fn max_pool(pool: &MaxPool, map: &Tensor) -> Tensor {
    let [.., height, width] = map.shape();
    let size = output_size(pool, map);
    let mut output = Tensor::zeros(size);
    let [.., rows, columns] = size;
    output
        .values_mut()
        .par_chunks_exact_mut(rows * columns)
        .zip(map.values().par_chunks_exact(height * width))
        .for_each_init(
            || vec![0.0; width],
            |line, (output, plane)| {
                for (row, output) in output.chunks_exact_mut(columns).enumerate() {
                    // The largest of each column first: few comparisons a window, and whole vectors.
                    line.fill(f32::NEG_INFINITY);
                    for row in window(pool, row, height) {
                        for (largest, value) in line.iter_mut().zip(&plane[row * width..]) {
                            *largest = larger(*largest, *value);
                        }
                    }
                    for (column, output) in output.iter_mut().enumerate() {
                        let window = &line[window(pool, column, width)];
                        *output = window.iter().copied().fold(f32::NEG_INFINITY, larger);
                    }
                }
            },
        );
    output
}

/// The larger of two, a NaN if there is one.
fn larger(one: f32, other: f32) -> f32 {
    if other > one || other.is_nan() {
        other
    } else {
        one
    }
}

/// The gradient of the map: each window's goes to its first largest number.
pub(super) fn max_pool_gradient(pool: &MaxPool, map: &Tensor, gradient: &Tensor) -> Tensor {
    let [.., height, width] = map.shape();
    let [.., rows, columns] = gradient.shape();
    let mut of_map = Tensor::zeros(map.shape());
    of_map
        .values_mut()
        .par_chunks_exact_mut(height * width)
        .zip(map.values().par_chunks_exact(height * width))
        .zip(gradient.values().par_chunks_exact(rows * columns))
        .for_each(|((of_plane, plane), gradient)| {
            for (index, gradient) in gradient.iter().enumerate() {
                let rows = window(pool, index / columns, height);
                let columns = window(pool, index % columns, width);
                of_plane[winner(plane, width, rows, columns)] += gradient;
            }
        });
    of_map
}

fn fragments(map: &Tensor) -> Fragments {
    let [batch, channels, height, width] = map.shape();
    Fragments {
        batch,
        channels,
        size: [height, width],
    }
}

/// 2×2 max-pooling at each of its four offsets.
pub(super) fn max_pool_fragments(map: &Tensor) -> Tensor {
    let shape = fragments(map);
    let [rows, columns] = shape.fragment_size();
    let mut output = Tensor::zeros([4 * shape.batch, shape.channels, rows, columns]);
    pupilla_conv::max_pool_fragments(&shape, map.values(), output.values_mut());
    output
}

/// The gradient of the map, each window's going to its first largest pixel.
pub(super) fn max_pool_fragments_gradient(map: &Tensor, gradient: &Tensor) -> Tensor {
    let mut of_map = Tensor::zeros(map.shape());
    pupilla_conv::max_pool_fragments_gradient(
        &fragments(map),
        map.values(),
        gradient.values(),
        of_map.values_mut(),
    );
    of_map
}

/// `[4 b, c, h, w]` to `[b, c, 2 h, 2 w]`, the inverse of the split of [`max_pool_fragments`].
pub(super) fn weave(map: &Tensor) -> Tensor {
    let [fragments, channels, height, width] = map.shape();
    let area = height * width;
    let mut woven = Tensor::zeros([fragments / 4, channels, 2 * height, 2 * width]);
    woven
        .values_mut()
        .par_chunks_exact_mut(4 * area)
        .enumerate()
        .for_each(|(plane, target)| {
            let (item, channel) = (plane / channels, plane % channels);
            for (row, target) in target.chunks_exact_mut(2 * width).enumerate() {
                let fragment = |column: usize| {
                    let index = (4 * item + 2 * (row % 2) + column) * channels + channel;
                    &map.values()[index * area + row / 2 * width..][..width]
                };
                let pairs = fragment(0).iter().zip(fragment(1));
                for (target, (left, right)) in target.chunks_exact_mut(2).zip(pairs) {
                    target.copy_from_slice(&[*left, *right]);
                }
            }
        });
    woven
}

/// The inverse of [`weave`], which is its gradient.
pub(super) fn unwoven(map: &Tensor) -> Tensor {
    let [batch, channels, rows, columns] = map.shape();
    let [height, width] = [rows / 2, columns / 2];
    let mut fragments = Tensor::zeros([4 * batch, channels, height, width]);
    fragments
        .values_mut()
        .par_chunks_exact_mut(height * width)
        .enumerate()
        .for_each(|(plane, target)| {
            let (fragment, channel) = (plane / channels, plane % channels);
            let (top, left) = (fragment % 4 / 2, fragment % 2);
            let source = &map.values()[(fragment / 4 * channels + channel) * rows * columns..];
            for (row, target) in target.chunks_exact_mut(width).enumerate() {
                let line = &source[(2 * row + top) * columns + left..];
                for (target, value) in target.iter_mut().zip(line.iter().step_by(2)) {
                    *target = *value;
                }
            }
        });
    fragments
}
