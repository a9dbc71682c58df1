//! Dense descriptors and the grid against the definition: T̂ slid over the image patch by patch.

use std::ops::Range;

use proptest::prelude::*;
use pupilla::internals::{LEAKY_SLOPE, PatchNetwork};
use pupilla::nn::Tensor;
use pupilla::{PatchNetworkConfig, ReceptiveField};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `[batch, 3, height, width]` of random numbers.
fn random_image(batch: usize, height: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..batch * 3 * height * width)
        .map(|_| random.random_range(-2.0..2.0))
        .collect()
}

fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor {
    Tensor::new(values.to_vec(), shape)
}

/// Some rows and columns of every plane.
pub fn part(of: &Tensor, [rows, columns]: [Range<usize>; 2]) -> Tensor {
    let [batch, channels, _, width] = of.shape();
    let planes = of.values().chunks_exact(of.area());
    let lines = planes.flat_map(|plane| plane.chunks_exact(width).take(rows.end).skip(rows.start));
    let values = lines.flat_map(|line| &line[columns.clone()]).copied();
    Tensor::new(
        values.collect(),
        [batch, channels, rows.len(), columns.len()],
    )
}

/// The descriptor of every `stride`-th patch, each computed alone, `[batch, 128, rows, columns]`.
fn slide(network: &PatchNetwork, image: &Tensor, stride: usize) -> Vec<f32> {
    let p = network.receptive_field().side();
    let [batch, _, height, width] = image.shape();
    let rows = (height - p) / stride + 1;
    let columns = (width - p) / stride + 1;
    let mut all = vec![0.0; batch * 128 * rows * columns];
    for row in 0..rows {
        for column in 0..columns {
            let (top, left) = (row * stride, column * stride);
            let patch = part(image, [top..top + p, left..left + p]);
            let descriptors = network.grid(&patch, network.receptive_field().pooling_stride());
            assert_eq!(descriptors.shape(), [batch, 128, 1, 1]);
            for (index, value) in descriptors.into_values().into_iter().enumerate() {
                all[(index * rows + row) * columns + column] = value;
            }
        }
    }
    all
}

/// Largest difference over the root mean square of what is expected.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
    let rms = (squares / expected.len() as f64).sqrt();
    let largest = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max);
    largest / rms
}

/// The error of two f32 evaluations of a network of four convolutions, Cook–Toom ones among them.
const TOLERANCE: f64 = 2e-4;

fn check(field: ReceptiveField, extra: [usize; 2], batch: usize, seed: u64) {
    let network = PatchNetworkConfig::new(field).init(seed);
    let (height, width) = (field.side() + extra[0], field.side() + extra[1]);
    let image = random_image(batch, height, width, seed);
    let image = tensor(&image, [batch, 3, height, width]);

    let dense = network.dense(&image);
    assert_eq!(dense.shape(), [batch, 128, extra[0] + 1, extra[1] + 1]);
    let error = relative_error(dense.values(), &slide(&network, &image, 1));
    assert!(
        error < TOLERANCE,
        "dense, p = {field}, {height}×{width}: {error}"
    );

    let stride = field.pooling_stride();
    for stride in [stride, 2 * stride, 3 * stride] {
        let grid = network.grid(&image, stride);
        let error = relative_error(grid.values(), &slide(&network, &image, stride));
        assert!(
            error < TOLERANCE,
            "stride {stride}, p = {field}, {height}×{width}: {error}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn p17_is_the_sliding_patch(rows in 0usize..6, columns in 0usize..6, batch in 1usize..3, seed: u64) {
        check(ReceptiveField::P17, [rows, columns], batch, seed);
    }

    #[test]
    fn p33_is_the_sliding_patch(rows in 0usize..7, columns in 0usize..7, batch in 1usize..3, seed: u64) {
        check(ReceptiveField::P33, [rows, columns], batch, seed);
    }

    #[test]
    fn p65_is_the_sliding_patch(rows in 0usize..5, columns in 0usize..5, seed: u64) {
        check(ReceptiveField::P65, [rows, columns], 1, seed);
    }
}

#[test]
fn p65_is_the_sliding_patch_beyond_one_pooling_period() {
    check(ReceptiveField::P65, [9, 0], 1, 7);
    check(ReceptiveField::P65, [0, 10], 1, 8);
}

#[test]
fn the_wide_third_convolution_is_a_setting() {
    let config = PatchNetworkConfig {
        conv3_channels: 256,
        ..PatchNetworkConfig::new(ReceptiveField::P65)
    };
    assert_eq!(config.weight_shapes()[2], [256, 128, 5, 5]);
    assert_eq!(config.weight_shapes()[3], [256, 256, 4, 4]);
    let image = tensor(&random_image(1, 65, 65, 1), [1, 3, 65, 65]);
    let output = config.init(1).dense(&image);
    assert_eq!(output.shape(), [1, 128, 1, 1]);
}

/// The table of the paper's §2, one size a layer, from p down to 1.
#[test]
fn layers_are_the_published_ones() {
    let kernels = |field| {
        PatchNetworkConfig::new(field)
            .weight_shapes()
            .into_iter()
            .map(|[out, _, kernel, _]| (kernel, out))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kernels(ReceptiveField::P17),
        [(6, 128), (5, 256), (5, 256), (4, 128)]
    );
    assert_eq!(
        kernels(ReceptiveField::P33),
        [(5, 128), (5, 256), (2, 256), (4, 128)]
    );
    assert_eq!(
        kernels(ReceptiveField::P65),
        [(5, 128), (5, 128), (5, 128), (4, 256), (1, 128)]
    );
}

/// A patch through T̂ in `f64`, one sum at a time, written from the paper's table alone.
fn obvious(network_seed: u64, patch: &[f32], field: ReceptiveField) -> Vec<f64> {
    let config = PatchNetworkConfig::new(field);
    let weights = config.random_weights(network_seed);
    let pooled_after: &[usize] = match field {
        ReceptiveField::P17 => &[],
        ReceptiveField::P33 => &[0, 1],
        ReceptiveField::P65 => &[0, 1, 2],
    };
    let mut side = field.side();
    let mut map: Vec<f64> = patch.iter().map(|&value| f64::from(value)).collect();
    let shapes = config.weight_shapes();
    for (layer, ([out, channels, kernel, _], (weight, bias))) in
        shapes.iter().zip(&weights).enumerate()
    {
        let next = side - kernel + 1;
        let mut result = vec![0.0; out * next * next];
        for o in 0..*out {
            for row in 0..next {
                for column in 0..next {
                    let mut sum = f64::from(bias[o]);
                    for c in 0..*channels {
                        for y in 0..*kernel {
                            for x in 0..*kernel {
                                sum += map[(c * side + row + y) * side + column + x]
                                    * f64::from(
                                        weight[((o * channels + c) * kernel + y) * kernel + x],
                                    );
                            }
                        }
                    }
                    if layer + 1 < shapes.len() && sum < 0.0 {
                        sum *= f64::from(LEAKY_SLOPE);
                    }
                    result[(o * next + row) * next + column] = sum;
                }
            }
        }
        (map, side) = (result, next);
        if pooled_after.contains(&layer) {
            let half = side / 2;
            let at = |c: usize, row: usize, column: usize| map[(c * side + row) * side + column];
            let mut pooled = Vec::new();
            for c in 0..*out {
                for row in 0..half {
                    for column in 0..half {
                        pooled.push(
                            at(c, 2 * row, 2 * column)
                                .max(at(c, 2 * row, 2 * column + 1))
                                .max(at(c, 2 * row + 1, 2 * column))
                                .max(at(c, 2 * row + 1, 2 * column + 1)),
                        );
                    }
                }
            }
            (map, side) = (pooled, half);
        }
    }
    assert_eq!(side, 1, "a patch becomes one descriptor");
    map
}

#[test]
fn a_patch_is_described_as_the_table_says() {
    for field in ReceptiveField::ALL {
        let patch = random_image(1, field.side(), field.side(), 3);
        let network = PatchNetworkConfig::new(field).init(5);
        let shape = [1, 3, field.side(), field.side()];
        let found = network.grid(&tensor(&patch, shape), field.pooling_stride());
        let expected: Vec<f32> = obvious(5, &patch, field)
            .iter()
            .map(|&x| x as f32)
            .collect();
        let error = relative_error(found.values(), &expected);
        assert!(error < TOLERANCE, "p = {field}: {error}");
    }
}

/// Only the pixels of the span reach a descriptor: the drop of the odd rows, as published.
#[test]
fn the_span_is_what_reaches_a_descriptor() {
    for field in ReceptiveField::ALL {
        let network = PatchNetworkConfig::new(field).init(1);
        let (p, span) = (field.side(), field.span());
        let mut image = random_image(1, p, p, 2);
        let describe =
            |image: &[f32]| network.grid(&tensor(image, [1, 3, p, p]), field.pooling_stride());
        let before = describe(&image);
        if span < p {
            image[span * p + span] += 1.0;
            assert_eq!(describe(&image), before, "p = {field}: beyond the span");
        }
        image[(span - 1) * p + span - 1] += 1.0;
        assert_ne!(
            describe(&image),
            before,
            "p = {field}: the span's last pixel"
        );
    }
}
