//! Convolution on the CPU: plain slices in, plain slices out.
//!
//! The four passes of a valid two-dimensional convolution ([`Conv2d`]), `f32`, NCHW: [`forward`], [`input_gradient`],
//! [`weight_gradient`] and [`bias_gradient`]; and the neighbours of a convolution in a patch network: bias and leaky ReLU where the
//! output is written ([`forward_leaky_relu`]), 2×2 max-pooling there as well ([`forward_max_pool`]), by itself ([`max_pool`]) or at all
//! offsets ([`max_pool_fragments`]). The product of two matrices ([`inner_products`]) serves detectors that compare many descriptors.
//! The crate knows no deep-learning framework.
//!
//! # Algorithms
//! | shape | algorithm |
//! |---|---|
//! | kernel as large as the input | one matrix product |
//! | square kernel of 2 to 6, stride 1, tiles that save a quarter of the products | Cook–Toom, tiles of 4×4 outputs; with up to four input channels, products stay in registers |
//! | 1×1 kernel, stride 1, channels by the dozen | a matrix product of channels |
//! | a kernel for each channel ([`depthwise`]) | sums in registers, four rows of outputs at once |
//! | everything else | lowered to blocks of matrix products |
//!
//! # Error
//! Largest error of Cook–Toom against `f64`, in units of the result's root mean square (128 channels, values uniform in −1 … 1);
//! the tests allow two to three and a half times the largest of a line:
//!
//! | kernel | forward | input gradient | weight gradient |
//! |---|---|---|---|
//! | 2×2 | 3.5e-6 | 2.6e-6 | 1.3e-6 |
//! | 3×3 | 9.2e-6 | 6.5e-6 | 3.3e-6 |
//! | 4×4 | 1.6e-5 | 1.4e-5 | 9.0e-6 |
//! | 5×5 | 2.9e-5 | 2.6e-5 | 2.1e-5 |
//! | 6×6 | 7.3e-5 | 6.5e-5 | 6.3e-5 |
//!
//! The root mean square error is about a tenth of that. A weight's gradient sums over all pixels, of which its figures count 256; as the
//! sums of some blocks are added up before they are added to the total, it stays below twice these figures for many (a million
//! pixels: 6×6 7e-5, 5×5 2.6e-5, of three input channels 9e-5 and 2.5e-5). The other algorithms stay below 1e-5 (asserted of the
//! output and, of many pixels, of the weight's gradient).
//!
//! An infinity times a slope of 0 stays an infinity (a plain ReLU of −∞ is −∞, where PyTorch's is 0). A NaN or an infinity spreads over the 4×4 tile of outputs that it touches, and to all of a weight gradient's kernel; finite values beyond
//! about 1e36 may overflow in the transforms.
//!
//! # Instruction sets
//! AVX-512, AVX2 with FMA, NEON, or portable code, chosen at run time; the environment variable `PUPILLA_SIMD` (`avx512`, `avx2`,
//! `neon`, `portable`) asks for a smaller instruction set; other values are ignored.
//!
//! # Threads, reproducibility, memory
//! Work is spread over the current rayon pool. The same input gives the same bytes as long as the instruction set and the number of
//! threads are the same. Scratch memory is kept for the next call until [`release_workspaces`]: the transformed weight and the
//! sums of its gradient, `(r + 3)² · in · out` floats each (the sums twice from about 25 000 pixels on); for each thread the tiles
//! in hand, about `(r + 3)² · in · 48` floats (half a MiB for up to four input channels); up to 8 MiB of an image's points; and, where
//! pooling follows a convolution that is not Cook–Toom's, the map before it.
//!
//! # Checking the unsafe code
//! `MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-tree-borrows" cargo +nightly
//! miri test -p pupilla-conv --lib` runs the kernels on tiny shapes, portably (the flags are for rayon's queues);
//! `RUSTFLAGS=-Zsanitizer=address cargo +nightly test -p pupilla-conv --target x86_64-unknown-linux-gnu` runs all tests
//! (with `PUPILLA_SIMD`, with each instruction set).
//!
//! NEON runs without an ARM processor where a compiler for `aarch64-unknown-linux-gnu` and QEMU are (Debian: `libstd-rust-dev:arm64`,
//! `gcc-aarch64-linux-gnu`, `qemu-user`): with `CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc` and
//! `CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"`, `cargo test -p pupilla-conv --target
//! aarch64-unknown-linux-gnu` passes all tests in minutes. It shows that the results are right, not how fast they come.

mod activation;
mod algorithm;
mod allocation;
mod connected;
mod cook_toom;
mod depthwise;
mod disjoint;
mod fragments;
mod inner_products;
mod lowered;
mod matrix;
mod peak;
mod pointwise;
mod pool;
mod product;
mod shape;
mod simd;
mod workspace;

use rayon::prelude::*;

pub use activation::{Activation, leaky_relu_gradient};
pub use allocation::{keep_freed_memory, zeros};
pub use depthwise::{Depthwise, depthwise, depthwise_input_gradient, depthwise_weight_gradient};
pub use fragments::{Fragments, max_pool_fragments, max_pool_fragments_gradient};
pub use inner_products::inner_products;
pub use peak::measured_peak;
pub use pool::{Pool, activated_pool_gradient, max_pool, max_pool_gradient};
pub use shape::{Conv2d, ShapeError};
pub use workspace::release_workspaces;

/// Computes the output of a convolution, overwriting `output`. Shapes as in [`Conv2d`].
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    forward_leaky_relu(shape, input, weight, bias, 1.0, output);
}

/// As [`forward`], with a leaky ReLU on the output: values `v` below 0 become `slope · v`. `slope` is within 0 … 1; 1 is no
/// activation, 0 the plain ReLU. No extra pass over the output is made.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands, or `slope` is out of its range.
pub fn forward_leaky_relu(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    slope: f32,
    output: &mut [f32],
) {
    let activation = Activation::leaky_relu(slope);
    forward_activated(shape, input, weight, bias, activation, output);
}

/// As [`forward`], with any activation on the output. The algorithms make no extra pass for it, except Cook–Toom for a ceiling.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands, or the activation's numbers are out of their range.
pub fn forward_activated(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    let epilogue = check_operands(shape, input, weight, bias, activation);
    check_len("output", output, shape.output_len());
    algorithm::forward(shape, input, weight, epilogue, output);
}

/// As [`forward_leaky_relu`], with 2×2 max-pooling of stride 2 after it (a last odd row or column is dropped); the map before the
/// pooling is never written. `output` is `[batch, out_channels, rows / 2, columns / 2]`.
///
/// `winners`, of the output's length, takes what the backward pass ([`activated_pool_gradient`]) needs: which of its window's
/// four pixels, row by row, is the first largest, *before* bias and activation are applied, whose rounding may make others
/// equal to it. A window with a NaN gives NaN, and its winner is the last one.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands, or the output's map is smaller than a window.
pub fn forward_max_pool(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    slope: f32,
    output: &mut [f32],
    winners: Option<&mut [u8]>,
) {
    let activation = Activation::leaky_relu(slope);
    let epilogue = check_operands(shape, input, weight, bias, activation);
    let [rows, columns] = shape.output_size();
    assert!(
        rows >= 2 && columns >= 2,
        "2x2 pooling of planes of {rows}x{columns}"
    );
    let len = shape.batch * shape.out_channels * (rows / 2) * (columns / 2);
    check_len("output", output, len);
    if let Some(winners) = &winners {
        assert_eq!(winners.len(), len, "there are as many winners as outputs");
    }
    algorithm::forward_max_pool(shape, input, weight, epilogue, output, winners);
}

#[track_caller]
fn check_operands<'a>(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
) -> activation::Epilogue<'a> {
    activation.check();
    check_len("input", input, shape.input_len());
    check_len("weight", weight, shape.weight_len());
    if let Some(bias) = bias {
        check_len("bias", bias, shape.out_channels);
    }
    activation::Epilogue { bias, activation }
}

/// Computes the gradient with respect to the input, overwriting `input_gradient`. `output_gradient` has the shape of
/// the output, `input_gradient` that of the input.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn input_gradient(
    shape: &Conv2d,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    check_len("output gradient", output_gradient, shape.output_len());
    check_len("weight", weight, shape.weight_len());
    check_len("input gradient", input_gradient, shape.input_len());
    algorithm::input_gradient(shape, output_gradient, weight, input_gradient);
}

/// Computes the gradient with respect to the weight, summed over the batch, overwriting `weight_gradient`.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn weight_gradient(
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    check_len("input", input, shape.input_len());
    check_len("output gradient", output_gradient, shape.output_len());
    check_len("weight gradient", weight_gradient, shape.weight_len());
    algorithm::weight_gradient(shape, input, output_gradient, weight_gradient);
}

/// Computes the gradient with respect to the bias, summed over the batch and the pixels, overwriting `bias_gradient`
/// (`[out_channels]`).
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn bias_gradient(shape: &Conv2d, output_gradient: &[f32], bias_gradient: &mut [f32]) {
    check_len("output gradient", output_gradient, shape.output_len());
    check_len("bias gradient", bias_gradient, shape.out_channels);
    let area = shape.output_area();
    bias_gradient
        .par_iter_mut()
        .enumerate()
        .for_each(|(channel, sum)| {
            *sum = output_gradient
                .chunks_exact(area)
                .skip(channel)
                .step_by(shape.out_channels)
                .map(plane_sum)
                .sum::<f64>() as f32;
        });
}

/// The sum of a plane: eight running `f32` sums over short runs, the runs summed in `f64`.
fn plane_sum(plane: &[f32]) -> f64 {
    plane
        .chunks(256)
        .map(|run| {
            let mut sums = [0.0f32; 8];
            let chunks = run.chunks_exact(8);
            let rest: f64 = chunks.remainder().iter().copied().map(f64::from).sum();
            for chunk in chunks {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum += value;
                }
            }
            rest + sums.into_iter().map(f64::from).sum::<f64>()
        })
        .sum()
}

#[track_caller]
fn check_len(name: &str, slice: &[f32], expected: usize) {
    assert_eq!(
        slice.len(),
        expected,
        "the {name} has {} elements where the shape of the convolution demands {expected}",
        slice.len()
    );
}
