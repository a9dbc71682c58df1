//! The convolution with pooling behind it, against the convolution, then the pooling.

use crate::naive::Problem;
use proptest::prelude::*;
use pupilla_conv::{
    Conv2d, Fragments, Pool, activated_pool_gradient, forward_leaky_relu, forward_max_pool,
    max_pool, max_pool_fragments, max_pool_fragments_gradient, max_pool_gradient,
};

const SLOPE: f32 = 0.25;

fn any_shape() -> impl Strategy<Value = Conv2d> {
    (
        1..4usize,
        prop_oneof![1..5usize, 5..20usize],
        1..7usize,
        [2..24usize, 2..24usize],
        1..40usize,
        1..3usize,
    )
        .prop_map(|(batch, channels, kernel, extra, out_channels, stride)| {
            let side = |extra: usize| kernel + (extra - 1) * stride;
            let input = [batch, channels, side(extra[0]), side(extra[1])];
            Conv2d::new(input, out_channels, [kernel; 2])
                .unwrap()
                .with_stride([stride; 2])
                .unwrap()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn pooled_convolutions_match_their_twins(shape in any_shape(), seed: u64) {
        assert_matches_twins(shape, seed);
    }
}

#[test]
fn layers_with_pooling_match_their_twins() {
    for (batch, channels, size, out_channels, kernel) in
        [(3, 3, 33, 128, 5), (2, 128, 14, 256, 5), (1, 3, 65, 128, 5)]
    {
        let shape = Conv2d::new([batch, channels, size, size], out_channels, [kernel; 2]).unwrap();
        assert_matches_twins(shape, 11);
    }
}

/// Differences that the bias swallows still decide which pixel gets the gradient, whatever kernel a map's size chooses.
#[test]
fn winners_are_those_before_the_bias() {
    for side in [3, 9] {
        let shape = Conv2d::new([1, 1, side, side], 1, [2, 2]).unwrap();
        // The kernel copies its first pixel: in each window the last is the largest, by a millionth.
        let input: Vec<f32> = (0..side * side)
            .map(|at| {
                ((at / side % 2 + at % side % 2) * usize::from(at / side < side - 1)) as f32 * 1e-6
            })
            .collect();
        let [rows, columns] = Pool::after(&shape).output_size();
        let mut output = vec![f32::NAN; rows * columns];
        let mut winners = vec![u8::MAX; rows * columns];
        let weight = [1.0, 0.0, 0.0, 0.0];
        let bias = Some(&[100.0][..]);
        forward_max_pool(
            &shape,
            &input,
            &weight,
            bias,
            1.0,
            &mut output,
            Some(&mut winners),
        );
        assert!(output.iter().all(|value| *value == 100.0), "{output:?}");
        assert!(
            winners.iter().all(|winner| *winner == 3),
            "{side}: {winners:?}"
        );
    }
}

/// A NaN in the input, at each place of a window, with kernels that pool where they write and with those that do not.
#[test]
fn nans_are_not_pooled_away() {
    for (channels, kernel, stride) in [(2, 2, 1), (3, 5, 1), (8, 3, 1), (2, 1, 1), (2, 2, 2)] {
        let side = kernel + 8 * stride;
        let shape = Conv2d::new([2, channels, side, side], 5, [kernel; 2])
            .unwrap()
            .with_stride([stride; 2])
            .unwrap();
        for place in 0..4 {
            let mut problem = Problem::random(shape, 5);
            problem.input[(4 + place / 2) * side + 4 + place % 2] = f32::NAN;
            let (input, weight, bias) = (&problem.input, &problem.weight, Some(&problem.bias[..]));
            let mut full = vec![0.0; shape.output_len()];
            forward_leaky_relu(&shape, input, weight, bias, SLOPE, &mut full);
            let pool = Pool::after(&shape);
            let [rows, columns] = pool.output_size();
            let mut expected = vec![0.0; pool.planes * rows * columns];
            max_pool(&pool, &full, &mut expected);
            assert!(expected.iter().any(|value| value.is_nan()), "{shape:?}");
            assert!(expected.iter().any(|value| !value.is_nan()), "{shape:?}");

            let mut winners = vec![u8::MAX; expected.len()];
            for winners in [None, Some(&mut winners[..])] {
                let mut output = vec![0.0; expected.len()];
                forward_max_pool(&shape, input, weight, bias, SLOPE, &mut output, winners);
                for (output, expected) in output.iter().zip(&expected) {
                    let same = output == expected || output.is_nan() && expected.is_nan();
                    assert!(same, "{shape:?}: {output} instead of {expected}");
                }
            }
            for (at, winner) in winners.iter().enumerate() {
                let (plane, y, x) = (at / (rows * columns), at / columns % rows, at % columns);
                let winner = usize::from(*winner);
                let [_, width] = pool.size;
                let from =
                    plane * shape.output_area() + (2 * y + winner / 2) * width + 2 * x + winner % 2;
                assert_eq!(full[from].is_nan(), expected[at].is_nan(), "{shape:?}");
            }
        }
    }
}

#[track_caller]
fn assert_matches_twins(shape: Conv2d, seed: u64) {
    let problem = Problem::random(shape, seed);
    let pool = Pool::after(&shape);
    let [rows, columns] = pool.output_size();
    let (input, weight, bias) = (&problem.input, &problem.weight, Some(&problem.bias[..]));

    let mut full = vec![f32::NAN; shape.output_len()];
    forward_leaky_relu(&shape, input, weight, bias, SLOPE, &mut full);
    let mut expected = vec![f32::NAN; pool.planes * rows * columns];
    max_pool(&pool, &full, &mut expected);

    // Not just close: the two must be interchangeable in inference.
    let mut output = vec![f32::NAN; expected.len()];
    forward_max_pool(&shape, input, weight, bias, SLOPE, &mut output, None);
    assert_eq!(output, expected, "{shape:?}");
    let mut winners = vec![u8::MAX; expected.len()];
    output.fill(f32::NAN);
    forward_max_pool(
        &shape,
        input,
        weight,
        bias,
        SLOPE,
        &mut output,
        Some(&mut winners),
    );
    assert_eq!(output, expected, "{shape:?}");

    let place = |at: usize| {
        let (plane, y, x) = (at / (rows * columns), at / columns % rows, at % columns);
        let winner = usize::from(winners[at]);
        assert!(winner < 4, "{shape:?}");
        plane * shape.output_area()
            + (2 * y + winner / 2) * shape.output_size()[1]
            + 2 * x
            + winner % 2
    };
    let gradient: Vec<f32> = (0..output.len())
        .map(|at| (at as f32 * 0.37).sin())
        .collect();
    let mut expected = vec![0.0; full.len()];
    for (at, gradient) in gradient.iter().enumerate() {
        assert_eq!(
            full[place(at)],
            output[at],
            "{shape:?}: the winner is the largest"
        );
        expected[place(at)] = if output[at] > 0.0 {
            *gradient
        } else {
            gradient * SLOPE
        };
    }
    let mut actual = vec![f32::NAN; full.len()];
    activated_pool_gradient(&pool, &output, &winners, SLOPE, &gradient, &mut actual);
    assert_eq!(actual, expected, "{shape:?}");
}

fn fragments_shape() -> impl Strategy<Value = Fragments> {
    (1..4usize, 1..6usize, [1..40usize, 1..40usize]).prop_map(|(batch, channels, size)| Fragments {
        batch,
        channels,
        size: size.map(|size| 2 * size + 1),
    })
}

proptest! {
    /// The four fragments against ordinary pooling of the map without its first row or column.
    #[test]
    fn fragments_are_poolings_at_the_four_offsets(shape in fragments_shape(), seed: u64) {
        let [height, width] = shape.size;
        let [rows, columns] = shape.fragment_size();
        let planes = shape.batch * shape.channels;
        let map = Problem::random(
            Conv2d::new([shape.batch, shape.channels, height, width], 1, [1, 1]).unwrap(),
            seed,
        ).input;
        let mut fragments = vec![f32::NAN; 4 * planes * rows * columns];
        max_pool_fragments(&shape, &map, &mut fragments);
        let incoming: Vec<f32> = (0..fragments.len()).map(|at| (at as f32 * 0.37).sin()).collect();
        let mut gradient = vec![f32::NAN; map.len()];
        max_pool_fragments_gradient(&shape, &map, &incoming, &mut gradient);

        let pool = Pool { planes: 1, size: [2 * rows, 2 * columns], stride: 2 };
        let mut expected_gradient = vec![0.0f64; map.len()];
        for plane in 0..planes {
            for (fragment, [top, left]) in [[0, 0], [0, 1], [1, 0], [1, 1]].into_iter().enumerate() {
                let place = |at: usize| {
                    let [y, x] = [at / (2 * columns) + top, at % (2 * columns) + left];
                    (plane * height + y) * width + x
                };
                let part: Vec<f32> = (0..4 * rows * columns).map(|at| map[place(at)]).collect();
                let mut expected = vec![f32::NAN; rows * columns];
                max_pool(&pool, &part, &mut expected);
                let (image, channel) = (plane / shape.channels, plane % shape.channels);
                let start = ((4 * image + fragment) * shape.channels + channel) * rows * columns;
                prop_assert_eq!(&fragments[start..start + rows * columns], &expected[..]);
                let incoming = &incoming[start..start + rows * columns];
                let mut part_gradient = vec![f32::NAN; part.len()];
                max_pool_gradient(&pool, &part, incoming, &mut part_gradient);
                for (at, value) in part_gradient.into_iter().enumerate() {
                    expected_gradient[place(at)] += f64::from(value);
                }
            }
        }
        for (actual, expected) in gradient.iter().zip(&expected_gradient) {
            prop_assert!((f64::from(*actual) - expected).abs() < 1e-6);
        }
    }
}
