//! Which algorithm computes which shape: the one place that decides.

use crate::{
    Conv2d,
    cook_toom::{self, TILE, Tiles, weights::Weight},
    lowered,
    simd::Level,
};

/// The algorithms, and for Cook–Toom the length of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// F(4×4, r×r) and F(r×r, 4×4).
    CookToom(usize),
    /// Lowered to matrix products.
    Lowered,
}

/// Chooses for outputs of `size` (for the input gradient, those "outputs" are the input's pixels).
fn choose(shape: &Conv2d, size: [usize; 2]) -> Algorithm {
    let [kernel, width] = shape.kernel;
    if shape.stride != [1, 1] || kernel != width || !(2..=6).contains(&kernel) {
        return Algorithm::Lowered;
    }
    // Products of a full tile, against those of the direct method on the outputs that exist. Cook–Toom spends about a
    // third more on its transforms.
    let tiles = Tiles::new(shape.batch, size);
    let points = (kernel + TILE - 1).pow(2);
    let transformed = tiles.count() * points;
    let direct = shape.batch * size[0] * size[1] * kernel * kernel;
    if 4 * transformed <= 3 * direct {
        Algorithm::CookToom(kernel)
    } else {
        Algorithm::Lowered
    }
}

/// Calls a function that is generic over the length of the kernel.
macro_rules! with_kernel {
    ($kernel:expr, $function:ident, $($argument:expr),* $(,)?) => {
        match $kernel {
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            5 => $function::<5>($($argument),*),
            _ => $function::<6>($($argument),*),
        }
    };
}
use cook_toom::{forward::convolve, weight_gradient::weight_gradient as tile_weight_gradient};

pub(crate) fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    match choose(shape, shape.output_size()) {
        Algorithm::CookToom(kernel) => {
            let weight = Weight {
                values: weight,
                from: shape.in_channels,
                to: shape.out_channels,
                reversed: false,
            };
            let size = [shape.height, shape.width];
            with_kernel!(
                kernel,
                convolve,
                Level::best(),
                shape.batch,
                input,
                size,
                0,
                weight,
                bias,
                output
            );
        }
        Algorithm::Lowered => lowered::forward(shape, input, weight, bias, output),
    }
}

pub(crate) fn input_gradient(
    shape: &Conv2d,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    match choose(shape, [shape.height, shape.width]) {
        Algorithm::CookToom(kernel) => {
            let weight = Weight {
                values: weight,
                from: shape.out_channels,
                to: shape.in_channels,
                reversed: true,
            };
            with_kernel!(
                kernel,
                convolve,
                Level::best(),
                shape.batch,
                output_gradient,
                shape.output_size(),
                kernel - 1,
                weight,
                None,
                input_gradient
            );
        }
        Algorithm::Lowered => {
            lowered::input_gradient(shape, output_gradient, weight, input_gradient)
        }
    }
}

pub(crate) fn weight_gradient(
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    match choose(shape, shape.output_size()) {
        Algorithm::CookToom(kernel) => with_kernel!(
            kernel,
            tile_weight_gradient,
            Level::best(),
            shape,
            input,
            output_gradient,
            weight_gradient
        ),
        Algorithm::Lowered => {
            lowered::weight_gradient(shape, input, output_gradient, weight_gradient)
        }
    }
}
