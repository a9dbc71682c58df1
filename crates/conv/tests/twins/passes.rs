//! Every pass against a naive twin in `f64`, and the gradients against finite differences.

use crate::naive::{self, Problem};
use proptest::prelude::*;
use pupilla_conv::{
    Conv2d, bias_gradient, forward, forward_leaky_relu, input_gradient, weight_gradient,
};

/// Largest allowed error in units of the root mean square of the exact result.
const TOLERANCE: f64 = 2e-4;

fn any_shape() -> impl Strategy<Value = Conv2d> {
    (
        1..4usize,
        1..9usize,
        [1..7usize, 1..7usize],
        [1..20usize, 1..20usize],
        1..20usize,
        [1..6usize, 1..6usize],
    )
        .prop_map(|(batch, channels, kernel, extra, out_channels, stride)| {
            let input = [
                batch,
                channels,
                kernel[0] + extra[0] - 1,
                kernel[1] + extra[1] - 1,
            ];
            Conv2d::new(input, out_channels, kernel)
                .unwrap()
                .with_stride(stride)
                .unwrap()
        })
}

/// Shapes of stride 1 with square kernels, the ones that have algorithms of their own.
fn unit_stride_shape() -> impl Strategy<Value = Conv2d> {
    (
        1..5usize,
        1..40usize,
        1..7usize,
        [1..30usize, 1..30usize],
        1..40usize,
    )
        .prop_map(|(batch, channels, kernel, extra, out_channels)| {
            let input = [
                batch,
                channels,
                kernel + extra[0] - 1,
                kernel + extra[1] - 1,
            ];
            Conv2d::new(input, out_channels, [kernel, kernel]).unwrap()
        })
}

/// 1×1 kernels with the channels that their own kernels take.
fn pointwise_shape() -> impl Strategy<Value = Conv2d> {
    (1..4usize, 4..20usize, [1..30usize, 2..30usize], 4..20usize).prop_map(
        |(batch, channels, size, out_channels)| {
            let input = [batch, 4 * channels, size[0], size[1]];
            Conv2d::new(input, 4 * out_channels, [1, 1]).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn passes_match_their_twins(shape in any_shape(), seed: u64) {
        assert_matches_twins(shape, seed);
    }

    #[test]
    fn pointwise_passes_match_their_twins(shape in pointwise_shape(), seed: u64) {
        assert_matches_twins(shape, seed);
    }

    #[test]
    fn unit_stride_passes_match_their_twins(shape in unit_stride_shape(), seed: u64) {
        assert_matches_twins(shape, seed);
    }
}

#[test]
fn layers_of_the_patch_networks_match_their_twins() {
    // (batch, in, size, out, kernel): patches of p = 17, 33 and 65, and small dense maps.
    for (batch, channels, size, out_channels, kernel) in [
        (1, 3, 17, 128, 6),
        (2, 128, 12, 64, 5),
        (3, 3, 33, 128, 5),
        (1, 128, 14, 256, 5),
        (2, 256, 5, 256, 2),
        (5, 256, 4, 128, 4),
        (1, 128, 4, 128, 1),
        (1, 32, 61, 16, 5),
        // More tiles than the first layer's weight gradient takes at a time.
        (1, 3, 390, 9, 5),
        // Rows of tiles that it fills up to whole vectors.
        (2, 3, 58, 5, 6),
        (1, 16, 60, 16, 4),
    ] {
        let shape = Conv2d::new([batch, channels, size, size], out_channels, [kernel; 2]).unwrap();
        assert_matches_twins(shape, 7);
    }
}

#[track_caller]
fn assert_matches_twins(shape: Conv2d, seed: u64) {
    let problem = Problem::random(shape, seed);

    let mut output = vec![f32::NAN; shape.output_len()];
    forward(
        &shape,
        &problem.input,
        &problem.weight,
        Some(&problem.bias),
        &mut output,
    );
    naive::assert_close("forward", &shape, &output, &problem.output(), TOLERANCE);

    let mut gradient = vec![f32::NAN; shape.input_len()];
    input_gradient(
        &shape,
        &problem.output_gradient,
        &problem.weight,
        &mut gradient,
    );
    naive::assert_close(
        "input gradient",
        &shape,
        &gradient,
        &problem.input_gradient(),
        TOLERANCE,
    );

    let mut gradient = vec![f32::NAN; shape.weight_len()];
    weight_gradient(
        &shape,
        &problem.input,
        &problem.output_gradient,
        &mut gradient,
    );
    naive::assert_close(
        "weight gradient",
        &shape,
        &gradient,
        &problem.weight_gradient(),
        TOLERANCE,
    );

    let mut gradient = vec![f32::NAN; shape.out_channels];
    bias_gradient(&shape, &problem.output_gradient, &mut gradient);
    naive::assert_close(
        "bias gradient",
        &shape,
        &gradient,
        &problem.bias_gradient(),
        TOLERANCE,
    );
}

/// `Σ output · output_gradient` is linear in the input and in the weight, so one central difference with a large step is
/// exact up to rounding: it checks the gradients against `forward` alone.
#[test]
fn gradients_match_finite_differences() {
    for (kernel, stride) in [(5, 1), (4, 1), (2, 1), (1, 1), (3, 2)] {
        let shape = Conv2d::new([2, 3, 13, 12], 4, [kernel; 2])
            .unwrap()
            .with_stride([stride; 2])
            .unwrap();
        let problem = Problem::random(shape, 3);
        let loss = |input: &[f32], weight: &[f32]| -> f64 {
            let mut output = vec![0.0; shape.output_len()];
            forward(&shape, input, weight, None, &mut output);
            output
                .iter()
                .zip(&problem.output_gradient)
                .map(|(value, gradient)| f64::from(*value) * f64::from(*gradient))
                .sum()
        };
        let mut of_input = vec![0.0; shape.input_len()];
        input_gradient(
            &shape,
            &problem.output_gradient,
            &problem.weight,
            &mut of_input,
        );
        let mut of_weight = vec![0.0; shape.weight_len()];
        weight_gradient(
            &shape,
            &problem.input,
            &problem.output_gradient,
            &mut of_weight,
        );
        for index in (0..shape.input_len()).step_by(53) {
            let at = |step: f32| {
                let mut input = problem.input.clone();
                input[index] += step;
                loss(&input, &problem.weight)
            };
            let difference = (at(1.0) - at(-1.0)) / 2.0;
            assert!(
                (difference - f64::from(of_input[index])).abs() < 2e-3,
                "{shape:?}: input {index}"
            );
        }
        for index in (0..shape.weight_len()).step_by(7) {
            let at = |step: f32| {
                let mut weight = problem.weight.clone();
                weight[index] += step;
                loss(&problem.input, &weight)
            };
            let difference = (at(1.0) - at(-1.0)) / 2.0;
            assert!(
                (difference - f64::from(of_weight[index])).abs() < 2e-3,
                "{shape:?}: weight {index}"
            );
        }
    }
}

#[test]
fn same_bytes_for_the_same_thread_count() {
    for kernel in [5, 4, 2, 1] {
        let shape = Conv2d::new([2, 20, 41, 37], 33, [kernel; 2]).unwrap();
        let problem = Problem::random(shape, 11);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let run = || {
                pool.install(|| {
                    let mut output = vec![0.0; shape.output_len()];
                    forward(&shape, &problem.input, &problem.weight, None, &mut output);
                    let mut of_input = vec![0.0; shape.input_len()];
                    input_gradient(
                        &shape,
                        &problem.output_gradient,
                        &problem.weight,
                        &mut of_input,
                    );
                    let mut of_weight = vec![0.0; shape.weight_len()];
                    weight_gradient(
                        &shape,
                        &problem.input,
                        &problem.output_gradient,
                        &mut of_weight,
                    );
                    let mut of_bias = vec![0.0; shape.out_channels];
                    bias_gradient(&shape, &problem.output_gradient, &mut of_bias);
                    [output, of_input, of_weight, of_bias]
                        .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
                })
            };
            let first = run();
            assert!(
                (0..4).all(|_| run() == first),
                "{shape:?}, {threads} threads"
            );
        }
    }
}

#[test]
#[should_panic(expected = "the weight has 3 elements where the shape of the convolution demands 4")]
fn wrong_lengths_are_told() {
    let shape = Conv2d::new([1, 1, 2, 2], 1, [2, 2]).unwrap();
    forward(&shape, &[0.0; 4], &[0.0; 3], None, &mut [0.0]);
}

#[test]
fn an_infinity_passes_a_plain_relu_whatever_the_kernel() {
    // One kernel for each algorithm: 1x1 products of channels, lowered, Cook–Toom of few and of many channels.
    for (channels, kernel) in [(16, 1), (15, 1), (3, 3), (16, 3)] {
        let shape = Conv2d::new([1, channels, 16, 16], 16, [kernel; 2]).unwrap();
        let input = vec![0.5; shape.input_len()];
        let weight = vec![0.25; shape.weight_len()];
        let mut bias = vec![0.0; 16];
        (bias[3], bias[7]) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut output = vec![f32::NAN; shape.output_len()];
        forward_leaky_relu(&shape, &input, &weight, Some(&bias), 0.0, &mut output);
        let area = shape.output_area();
        for (channel, plane) in output.chunks_exact(area).enumerate() {
            let holds = match channel {
                3 => plane.iter().all(|&value| value == f32::INFINITY),
                7 => plane.iter().all(|&value| value == f32::NEG_INFINITY),
                _ => plane.iter().all(|value| value.is_finite()),
            };
            assert!(
                holds,
                "{channels} channels, kernel {kernel}: channel {channel} has {}",
                plane[0]
            );
        }
    }
}
