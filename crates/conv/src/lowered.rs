//! Convolution lowered to matrix products: any kernel, any stride.
//!
//! With the input lowered to a matrix of `taps × positions` (*im2col*), whose column holds the input values that one
//! output sees, the three passes are
//!
//! ```text
//! output          = weight  · lowered
//! lowered gradient = weightᵀ · output gradient     then every entry is added to the input pixel it was copied from
//! weight gradient = output gradient · loweredᵀ
//! ```
//!
//! The lowered matrix never exists as a whole: each task makes a block of its rows or columns that stays in the cache.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Conv2d,
    activation::Epilogue,
    cook_toom::weight_gradient::runs_per_sum,
    disjoint::Disjoint,
    matrix::{Matrix, multiply},
};

/// Floats of one block of the lowered matrix (1 MiB).
const BLOCK_LEN: usize = 1 << 18;

/// Pixels of a map below which several images share a matrix product.
const SMALL_MAP: usize = 256;

/// Most positions of a product of the weight's gradient: longer ones are made of several, for the sake of their sums.
const SUMMED: usize = 1 << 12;

pub(crate) fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let taps = shape.taps();
    let area = shape.output_area();
    let block = block_columns(shape, taps, rayon::current_num_threads());
    let output = Disjoint::new(output);
    positions_in_blocks(shape, block)
        .into_par_iter()
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(lowered, product), positions| {
                let count = positions.len();
                lower(shape, input, 0..taps, positions.clone(), lowered);
                product.resize(shape.out_channels * count, 0.0);
                multiply(
                    [shape.out_channels, count, taps],
                    product,
                    Matrix::row_major(weight, taps),
                    Matrix::row_major(lowered, count),
                    false,
                );
                for (channel, values) in product.chunks_exact(count).enumerate() {
                    let bias = epilogue.bias.map_or(0.0, |bias| bias[channel]);
                    let mut values = values.iter();
                    for (image, pixels) in images_of(positions.clone(), area) {
                        let start = (image * shape.out_channels + channel) * area + pixels.start;
                        // SAFETY: each position belongs to one task, and no part outlives its use.
                        let target = unsafe { output.part(start, pixels.len()) };
                        for (target, value) in target.iter_mut().zip(&mut values) {
                            *target = epilogue.activate(value + bias);
                        }
                    }
                }
            },
        );
}

pub(crate) fn input_gradient(
    shape: &Conv2d,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let kernel_area = shape.kernel[0] * shape.kernel[1];
    let plane = shape.height * shape.width;
    let area = shape.output_area();
    let threads = rayon::current_num_threads();
    // Each task owns a run of channels of a few images (several where the maps are small), so that nobody else adds to its
    // pixels.
    let images = SMALL_MAP.div_ceil(area).min(shape.batch.div_ceil(threads));
    let groups = shape.batch.div_ceil(images);
    let channels = run_len(shape.in_channels, threads.div_ceil(groups));
    let runs_of_channels = shape.in_channels.div_ceil(channels);
    let target = Disjoint::new(input_gradient);
    (0..groups * runs_of_channels)
        .into_par_iter()
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(lowered, gathered), task| {
                let first_image = task / runs_of_channels * images;
                let last_image = (first_image + images).min(shape.batch);
                let first_channel = task % runs_of_channels * channels;
                let channels = channels.min(shape.in_channels - first_channel);
                let pixels_of = |image: usize| {
                    let start = (image * shape.in_channels + first_channel) * plane;
                    // SAFETY: this task alone has these channels of these images, and uses one part at a time.
                    unsafe { target.part(start, channels * plane) }
                };
                for image in first_image..last_image {
                    pixels_of(image).fill(0.0);
                }
                let rows = channels * kernel_area;
                let end = last_image * area;
                let block = (BLOCK_LEN / rows).max(16);
                for start in (first_image * area..end).step_by(block) {
                    let positions = start..(start + block).min(end);
                    let count = positions.len();
                    lowered.resize(rows * count, 0.0);
                    multiply(
                        [rows, count, shape.out_channels],
                        lowered,
                        Matrix {
                            values: &weight[first_channel * kernel_area..],
                            row_stride: 1,
                            column_stride: shape.taps(),
                        },
                        gather_channels(shape, output_gradient, positions.clone(), area, gathered),
                        false,
                    );
                    for (image, pixels) in images_of(positions.clone(), area) {
                        let first = image * area + pixels.start - start;
                        add_lowered(shape, &lowered[first..], count, pixels, pixels_of(image));
                    }
                }
            },
        );
}

pub(crate) fn weight_gradient(
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let taps = shape.taps();
    let area = shape.output_area();
    let out_channels = shape.out_channels;
    // Each task owns a run of taps and sums over all positions in order, whatever the number of threads.
    let run = run_len(taps, rayon::current_num_threads());
    let mut transposed = vec![0.0; taps * out_channels];
    transposed
        .par_chunks_mut(run * out_channels)
        .enumerate()
        .for_each_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(lowered, gathered, sums), (task, totals)| {
                let rows = task * run..task * run + totals.len() / out_channels;
                let block = block_columns(shape, rows.len(), 1).min(SUMMED);
                let blocks = positions_in_blocks(shape, block);
                let blocks_per_sum = runs_per_sum(blocks.len());
                let in_two_steps = blocks.len() > blocks_per_sum;
                sums.resize(if in_two_steps { totals.len() } else { 0 }, 0.0);
                for (block, positions) in (1..).zip(&blocks) {
                    let positions = positions.clone();
                    let count = positions.len();
                    lower(shape, input, rows.clone(), positions.clone(), lowered);
                    let gradient =
                        gather_channels(shape, output_gradient, positions, area, gathered);
                    multiply(
                        [rows.len(), out_channels, count],
                        if in_two_steps { sums } else { totals },
                        Matrix::row_major(lowered, count),
                        gradient.transposed(),
                        (block - 1) % blocks_per_sum > 0,
                    );
                    if in_two_steps
                        && (block.is_multiple_of(blocks_per_sum) || block == blocks.len())
                    {
                        for (total, sum) in totals.iter_mut().zip(&*sums) {
                            *total += sum;
                        }
                    }
                }
            },
        );
    weight_gradient
        .par_chunks_exact_mut(taps)
        .enumerate()
        .for_each(|(channel, gradient)| {
            for (value, sums) in gradient
                .iter_mut()
                .zip(transposed.chunks_exact(out_channels))
            {
                *value = sums[channel];
            }
        });
}

/// Length of the runs that split `count` into about two tasks a thread.
fn run_len(count: usize, threads: usize) -> usize {
    count
        .div_ceil(if threads == 1 { 1 } else { 2 * threads })
        .max(1)
}

/// Columns of a block of the lowered matrix with `rows` rows: as many as fit, but enough blocks for all threads.
fn block_columns(shape: &Conv2d, rows: usize, threads: usize) -> usize {
    let positions = shape.batch * shape.output_area();
    (BLOCK_LEN / rows)
        .min(run_len(positions, threads))
        .max(16)
        .min(positions)
}

/// All positions of the batch's outputs (images one after the other) in runs of `block`.
fn positions_in_blocks(shape: &Conv2d, block: usize) -> Vec<Range<usize>> {
    let positions = shape.batch * shape.output_area();
    (0..positions)
        .step_by(block)
        .map(|start| start..(start + block).min(positions))
        .collect()
}

/// Splits positions of the batch into images and the pixels within them.
fn images_of(
    positions: Range<usize>,
    area: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> + Clone {
    runs(positions, area)
}

/// Splits a range at multiples of `width`: `(multiple, range within it)`.
fn runs(range: Range<usize>, width: usize) -> impl Iterator<Item = (usize, Range<usize>)> + Clone {
    (range.start / width..range.end.div_ceil(width)).map(move |index| {
        let first = index * width;
        (
            index,
            range.start.max(first) - first..range.end.min(first + width) - first,
        )
    })
}

/// Writes the rows `rows` and columns `positions` of the lowered matrix, row-major.
fn lower(
    shape: &Conv2d,
    input: &[f32],
    rows: Range<usize>,
    positions: Range<usize>,
    lowered: &mut Vec<f32>,
) {
    let [kernel_rows, kernel_columns] = shape.kernel;
    let [stride_rows, stride_columns] = shape.stride;
    let columns = shape.output_size()[1];
    let area = shape.output_area();
    lowered.resize(rows.len() * positions.len(), 0.0);
    for (row, target) in rows.zip(lowered.chunks_exact_mut(positions.len())) {
        let channel = row / (kernel_rows * kernel_columns);
        let i = row / kernel_columns % kernel_rows;
        let j = row % kernel_columns;
        let mut filled = 0;
        for (image, pixels) in images_of(positions.clone(), area) {
            for (y, xs) in runs(pixels, columns) {
                let line =
                    ((image * shape.in_channels + channel) * shape.height + y * stride_rows + i)
                        * shape.width;
                let source = &input[line + xs.start * stride_columns + j..];
                let target = &mut target[filled..filled + xs.len()];
                if stride_columns == 1 {
                    target.copy_from_slice(&source[..xs.len()]);
                } else {
                    for (target, value) in
                        target.iter_mut().zip(source.iter().step_by(stride_columns))
                    {
                        *target = *value;
                    }
                }
                filled += xs.len();
            }
        }
    }
}

/// Adds columns of a block of the lowered gradient, whose rows are `row_stride` apart, to the pixels that they belong to.
/// `gradient` holds whole channels of one image, `pixels` are positions of that image's output.
fn add_lowered(
    shape: &Conv2d,
    lowered: &[f32],
    row_stride: usize,
    pixels: Range<usize>,
    gradient: &mut [f32],
) {
    let [kernel_rows, kernel_columns] = shape.kernel;
    let [stride_rows, stride_columns] = shape.stride;
    let columns = shape.output_size()[1];
    for (row, values) in lowered.chunks(row_stride).enumerate() {
        let channel = row / (kernel_rows * kernel_columns);
        let i = row / kernel_columns % kernel_rows;
        let j = row % kernel_columns;
        let mut used = 0;
        for (y, xs) in runs(pixels.clone(), columns) {
            let line = (channel * shape.height + y * stride_rows + i) * shape.width;
            let target = &mut gradient[line + xs.start * stride_columns + j..];
            let values = &values[used..used + xs.len()];
            if stride_columns == 1 {
                for (target, value) in target.iter_mut().zip(values) {
                    *target += value;
                }
            } else {
                for (target, value) in target.iter_mut().step_by(stride_columns).zip(values) {
                    *target += value;
                }
            }
            used += xs.len();
        }
    }
}

/// The matrix `[out_channels, positions]` of a tensor with the output's shape: in place where the positions lie in
/// one image, gathered otherwise.
fn gather_channels<'a>(
    shape: &Conv2d,
    tensor: &'a [f32],
    positions: Range<usize>,
    area: usize,
    gathered: &'a mut Vec<f32>,
) -> Matrix<'a> {
    let first_image = positions.start / area;
    if positions.end <= (first_image + 1) * area {
        let offset = first_image * shape.out_channels * area + positions.start - first_image * area;
        return Matrix::row_major(&tensor[offset..], area);
    }
    gathered.clear();
    for channel in 0..shape.out_channels {
        for (image, pixels) in images_of(positions.clone(), area) {
            let start = (image * shape.out_channels + channel) * area;
            gathered.extend_from_slice(&tensor[start + pixels.start..start + pixels.end]);
        }
    }
    Matrix::row_major(gathered, positions.len())
}
