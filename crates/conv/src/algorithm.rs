//! Chooses the algorithm for each shape; no other file chooses.

use rayon::prelude::*;

use crate::{
    Conv2d,
    activation::{Activation, Epilogue, limit},
    connected,
    cook_toom::{self, TILE, Tiles, pixels::Target, weights::Weight},
    disjoint::Disjoint,
    lowered, pointwise,
    pool::{Pool, max_pool, max_pool_winners},
    simd::Level,
    workspace::Buffer,
};

/// The algorithms, and for Cook–Toom the length of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// F(4×4, r×r) and F(r×r, 4×4).
    CookToom(usize),
    /// A 1×1 kernel.
    Pointwise,
    /// Lowered to matrix products.
    Lowered,
    /// A kernel as large as the input: one matrix product.
    Connected,
}

/// Chooses for outputs of `size` (for the input gradient, those "outputs" are the input's pixels).
fn choose(shape: &Conv2d, size: [usize; 2]) -> Algorithm {
    let [kernel, width] = shape.kernel;
    if shape.kernel == [shape.height, shape.width] {
        return Algorithm::Connected;
    }
    // Its register tiles take 4 or 8 channels of one side and whole vectors of the other.
    let channels = [shape.in_channels, shape.out_channels];
    let fitting = |channels: &usize| *channels >= 16 && channels.is_multiple_of(4);
    if shape.kernel == [1, 1] && shape.stride == [1, 1] && channels.iter().all(fitting) {
        return Algorithm::Pointwise;
    }
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
use cook_toom::{
    forward::{Source, convolve as convolve_deep},
    shallow,
    weight_gradient::weight_gradient as deep_weight_gradient,
};

/// Convolves by the kernel for the source's number of channels.
fn convolve<const R: usize>(
    level: Level,
    source: Source<'_>,
    weight: Weight<'_>,
    epilogue: Epilogue<'_>,
    target: Target<'_>,
) {
    let convolve = if weight.from <= shallow::MOST_CHANNELS {
        shallow::convolve::<R>
    } else {
        convolve_deep::<R>
    };
    convolve(level, source, weight, epilogue, target);
}

/// The weight's gradient by the kernel for the input's number of channels.
fn tile_weight_gradient<const R: usize>(
    level: Level,
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    target: &mut [f32],
) {
    let gradient = if shape.in_channels <= shallow::MOST_CHANNELS {
        shallow::weight_gradient::<R>
    } else {
        deep_weight_gradient::<R>
    };
    gradient(level, shape, input, output_gradient, target);
}

pub(crate) fn forward(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    match choose(shape, shape.output_size()) {
        Algorithm::CookToom(kernel) => {
            let target = Target::full(output);
            cook_toom_forward(kernel, shape, input, weight, epilogue, target);
            // Tiles know leaky ReLUs alone.
            let Activation { ceiling, .. } = epilogue.activation;
            if ceiling < f32::INFINITY {
                limit(ceiling, output);
            }
        }
        Algorithm::Pointwise => {
            let weight = Weight {
                values: weight,
                from: shape.in_channels,
                to: shape.out_channels,
                reversed: false,
            };
            let pixels = [shape.batch, shape.height * shape.width];
            pointwise::convolve(Level::best(), pixels, input, weight, epilogue, output);
        }
        Algorithm::Lowered => lowered::forward(shape, input, weight, epilogue, output),
        Algorithm::Connected => connected::forward(shape, input, weight, epilogue, output),
    }
}

/// As [`forward`], then 2×2 max-pooling with stride 2.
pub(crate) fn forward_max_pool(
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
    winners: Option<&mut [u8]>,
) {
    if let Algorithm::CookToom(kernel) = choose(shape, shape.output_size()) {
        let target = Target::Pooled {
            output: Disjoint::new(output),
            winners: winners.map(Disjoint::new),
        };
        cook_toom_forward(kernel, shape, input, weight, epilogue, target);
        return;
    }
    // Bias and activation keep the order, so they may come after the pooling; the winners are those before.
    let mut full = Buffer::new(shape.output_len());
    forward(shape, input, weight, Epilogue::NONE, &mut full);
    let pool = Pool::after(shape);
    max_pool(&pool, &full, output);
    if let Some(winners) = winners {
        max_pool_winners(&pool, &full, winners);
    }
    let plane = output.len() / pool.planes;
    output
        .par_chunks_exact_mut(plane)
        .enumerate()
        .for_each(|(index, values)| {
            let bias = epilogue
                .bias
                .map_or(0.0, |bias| bias[index % shape.out_channels]);
            for value in values {
                *value = epilogue.activate(*value + bias);
            }
        });
}

fn cook_toom_forward(
    kernel: usize,
    shape: &Conv2d,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    target: Target<'_>,
) {
    let weight = Weight {
        values: weight,
        from: shape.in_channels,
        to: shape.out_channels,
        reversed: false,
    };
    let source = Source {
        values: input,
        batch: shape.batch,
        size: [shape.height, shape.width],
        border: 0,
    };
    let level = Level::best();
    with_kernel!(kernel, convolve, level, source, weight, epilogue, target);
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
            let source = Source {
                values: output_gradient,
                batch: shape.batch,
                size: shape.output_size(),
                border: kernel - 1,
            };
            let level = Level::best();
            with_kernel!(
                kernel,
                convolve,
                level,
                source,
                weight,
                Epilogue::NONE,
                Target::full(input_gradient)
            );
        }
        Algorithm::Pointwise => {
            let weight = Weight {
                values: weight,
                from: shape.out_channels,
                to: shape.in_channels,
                reversed: true,
            };
            let pixels = [shape.batch, shape.height * shape.width];
            let none = Epilogue::NONE;
            pointwise::convolve(
                Level::best(),
                pixels,
                output_gradient,
                weight,
                none,
                input_gradient,
            );
        }
        Algorithm::Lowered => {
            lowered::input_gradient(shape, output_gradient, weight, input_gradient)
        }
        Algorithm::Connected => {
            connected::input_gradient(shape, output_gradient, weight, input_gradient)
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
        Algorithm::Pointwise => pointwise::weight_gradient(
            Level::best(),
            shape,
            input,
            output_gradient,
            weight_gradient,
        ),
        Algorithm::Lowered => {
            lowered::weight_gradient(shape, input, output_gradient, weight_gradient)
        }
        Algorithm::Connected => {
            connected::weight_gradient(shape, input, output_gradient, weight_gradient)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cook–Toom with every instruction set of this processor, against the lowered product.
    #[test]
    fn every_instruction_set_and_kernel() {
        // Few channels, and many: kernels of their own.
        for (kernel, channels) in (2..=6).flat_map(|kernel| [(kernel, 3), (kernel, 5)]) {
            let input = if cfg!(miri) {
                [1, channels, 9, 8]
            } else {
                [2, channels, 23, 18]
            };
            let out_channels = if cfg!(miri) { 3 } else { 37 };
            let shape = Conv2d::new(input, out_channels, [kernel; 2]).unwrap();
            let values = |len: usize| -> Vec<f32> {
                (0..len)
                    .map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0)
                    .collect()
            };
            let input = values(shape.input_len());
            let weight = values(shape.weight_len());
            let bias = values(shape.out_channels);
            let gradient = values(shape.output_len());
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::leaky_relu(0.25),
            };
            let mut expected = [
                vec![0.0; shape.output_len()],
                vec![0.0; shape.input_len()],
                vec![0.0; shape.weight_len()],
            ];
            if !cfg!(miri) {
                let [output, of_input, of_weight] = &mut expected;
                lowered::forward(&shape, &input, &weight, epilogue, output);
                lowered::input_gradient(&shape, &gradient, &weight, of_input);
                lowered::weight_gradient(&shape, &input, &gradient, of_weight);
            }
            for level in Level::available() {
                let mut actual = [
                    vec![f32::NAN; shape.output_len()],
                    vec![f32::NAN; shape.input_len()],
                    vec![f32::NAN; shape.weight_len()],
                ];
                let [output, of_input, of_weight] = &mut actual;
                let mut forward = Weight {
                    values: &weight,
                    from: shape.in_channels,
                    to: shape.out_channels,
                    reversed: false,
                };
                let mut source = Source {
                    values: &input,
                    batch: shape.batch,
                    size: [shape.height, shape.width],
                    border: 0,
                };
                let target = Target::full(output);
                with_kernel!(kernel, convolve, level, source, forward, epilogue, target);
                forward.reversed = true;
                (forward.from, forward.to) = (forward.to, forward.from);
                source.values = &gradient;
                source.size = shape.output_size();
                source.border = kernel - 1;
                let none = Epilogue::NONE;
                let target = Target::full(of_input);
                with_kernel!(kernel, convolve, level, source, forward, none, target);
                with_kernel!(
                    kernel,
                    tile_weight_gradient,
                    level,
                    &shape,
                    &input,
                    &gradient,
                    of_weight
                );
                for (actual, expected) in actual.iter().zip(&expected) {
                    if cfg!(miri) {
                        // The `gemm` crate does not run there: only soundness is checked.
                        assert!(actual.iter().all(|value| value.is_finite()));
                        continue;
                    }
                    let scale = expected
                        .iter()
                        .fold(0.0f32, |max, value| max.max(value.abs()));
                    for (actual, expected) in actual.iter().zip(expected) {
                        assert!(
                            (actual - expected).abs() <= 5e-5 * scale,
                            "{level:?}, {kernel}: {actual} instead of {expected}"
                        );
                    }
                }
            }
        }
    }

    /// Outputs that go past the caches are the same bytes, at any place in memory, and nothing beside them is touched.
    #[test]
    fn streamed_outputs_are_the_same() {
        // Odd sizes: rows of all lengths beside a vector's, whose starts are not aligned.
        let cases = [(2, 1, 14), (2, 3, 19), (3, 5, 35), (5, 3, 72), (6, 2, 23)];
        for (kernel, channels, width) in cases {
            if cfg!(miri) && width > 14 {
                continue;
            }
            let shape = Conv2d::new([2, channels, 12, width], 7, [kernel; 2]).unwrap();
            let values = |len: usize| (0..len).map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0);
            let input: Vec<f32> = values(shape.input_len()).collect();
            let weight: Vec<f32> = values(shape.weight_len()).collect();
            let bias: Vec<f32> = values(shape.out_channels).collect();
            let epilogue = Epilogue {
                bias: Some(&bias),
                activation: Activation::leaky_relu(0.25),
            };
            for level in Level::available() {
                let run = |output: &mut [f32], streamed| {
                    let weight = Weight {
                        values: &weight,
                        from: shape.in_channels,
                        to: shape.out_channels,
                        reversed: false,
                    };
                    let source = Source {
                        values: &input,
                        batch: shape.batch,
                        size: [shape.height, shape.width],
                        border: 0,
                    };
                    let target = Target::Full {
                        output: Disjoint::new(output),
                        streamed,
                    };
                    with_kernel!(kernel, convolve, level, source, weight, epilogue, target);
                };
                let len = shape.output_len();
                let mut expected = vec![f32::NAN; len];
                run(&mut expected, false);
                for offset in [0, 1, 6] {
                    let mut output = vec![9.0; len + offset + 16];
                    run(&mut output[offset..offset + len], true);
                    assert_eq!(
                        output[offset..offset + len],
                        expected,
                        "{level:?}, {shape:?}"
                    );
                    let mut beside = output[..offset].iter().chain(&output[offset + len..]);
                    assert!(beside.all(|value| *value == 9.0), "{level:?}, {shape:?}");
                }
            }
        }
    }
}
