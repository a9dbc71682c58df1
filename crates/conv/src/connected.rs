//! A kernel as large as the input: a fully connected layer, one matrix product a pass, nothing lowered.

use rayon::prelude::*;

use crate::{
    Conv2d,
    activation::Epilogue,
    disjoint::Disjoint,
    matrix::{Matrix, multiply},
};

/// Images whose products are summed before they are added to a weight gradient's total, lest rounding errors grow with the batch.
const SUMMED: usize = 1 << 12;

/// Rows of the runs that give each thread one.
fn run_len(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads())
}

pub(crate) fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let taps = shape.taps();
    let run = run_len(shape.out_channels);
    let output = Disjoint::new(output);
    weight
        .par_chunks(run * taps)
        .enumerate()
        .for_each(|(task, weight)| {
            let channels = weight.len() / taps;
            let mut product = vec![0.0; channels * shape.batch];
            multiply(
                [shape.batch, channels, taps],
                &mut product,
                Matrix::row_major(input, taps),
                Matrix::row_major(weight, taps).transposed(),
                false,
            );
            for (image, values) in product.chunks_exact(channels).enumerate() {
                // SAFETY: each channel belongs to one task.
                let target =
                    unsafe { output.part(image * shape.out_channels + task * run, channels) };
                for (channel, (target, value)) in target.iter_mut().zip(values).enumerate() {
                    let bias = epilogue.bias.map_or(0.0, |bias| bias[task * run + channel]);
                    *target = epilogue.activate(value + bias);
                }
            }
        });
}

pub(crate) fn input_gradient(
    shape: &Conv2d,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let taps = shape.taps();
    let run = run_len(shape.batch);
    input_gradient
        .par_chunks_mut(run * taps)
        .zip(output_gradient.par_chunks(run * shape.out_channels))
        .for_each(|(target, gradient)| {
            multiply(
                [target.len() / taps, taps, shape.out_channels],
                target,
                Matrix::row_major(gradient, shape.out_channels),
                Matrix::row_major(weight, taps),
                false,
            );
        });
}

pub(crate) fn weight_gradient(
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let taps = shape.taps();
    let run = run_len(shape.out_channels);
    weight_gradient
        .par_chunks_mut(run * taps)
        .enumerate()
        .for_each(|(task, target)| {
            let mut sums = Vec::new();
            for (index, images) in input.chunks(SUMMED * taps).enumerate() {
                let gradient = &output_gradient[index * SUMMED * shape.out_channels + task * run..];
                let product = if index == 0 {
                    &mut *target
                } else {
                    sums.resize(target.len(), 0.0);
                    &mut sums
                };
                multiply(
                    [product.len() / taps, taps, images.len() / taps],
                    product,
                    Matrix::row_major(gradient, shape.out_channels).transposed(),
                    Matrix::row_major(images, taps),
                    false,
                );
                for (total, sum) in target.iter_mut().zip(&sums) {
                    *total += sum;
                }
            }
        });
}
