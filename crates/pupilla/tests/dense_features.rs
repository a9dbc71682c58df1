//! Features of positions: the maps' own numbers where a position is a map's pixel, and maps whose pixels
//! are where they are said to be.

use pupilla::backbone::{
    Backbone, BackboneConfig, DenseFeatures, EfficientNetLiteConfig, Output, Positions,
    ResNet18Config, SqueezeNetConfig,
};
use pupilla::nn::Tensor;
use pupilla_core::image::{Image, Size};
use pupilla_core::observer::StopFlag;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backbone::tensor;
use crate::patch_network::part;

/// ResNet-18 to layer3, SqueezeNet, and EfficientNet-Lite0 to stage4.
fn networks() -> [BackboneConfig; 3] {
    let stages = ResNet18Config {
        stages: 3,
        classes: None,
    };
    [
        BackboneConfig::ResNet18(stages),
        BackboneConfig::SqueezeNet(SqueezeNetConfig::default()),
        BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
            variant: 0,
            stages: 4,
            head: false,
            classes: None,
        }),
    ]
}

/// A network with numbers that look random.
fn random(config: BackboneConfig) -> Box<dyn Backbone> {
    let layout = config.layout().unwrap();
    let arrays = layout.iter().map(|(name, shape)| tensor(name, shape).2);
    config.build(arrays.collect()).unwrap()
}

/// A network whose kernels are running means, without biases.
fn mean(config: BackboneConfig) -> Box<dyn Backbone> {
    let layout = config.layout().unwrap();
    let arrays = layout.iter().map(|(_, shape)| {
        let count = shape.iter().product();
        let taps: usize = shape[1..].iter().product();
        let value = if shape.len() == 1 {
            0.0
        } else {
            1.0 / taps as f32
        };
        vec![value; count]
    });
    config.build(arrays.collect()).unwrap()
}

fn maps_of(backbone: &dyn Backbone) -> impl Iterator<Item = (Output, usize)> {
    let outputs = backbone.outputs().into_iter();
    outputs.filter_map(|output| Some((output, output.stride?)))
}

fn noise(width: usize, height: usize, seed: u64) -> Image {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pixels = (0..width * height * 3).map(|_| random.random_range(0.0..1.0));
    Image::new(width, height, pixels.collect())
}

/// A column of ones walks over an image of zeros: how strongly a pixel of the map answers is symmetric
/// about the column of the image that it is centred on.
#[test]
fn a_maps_pixels_are_centred_where_they_are_said_to_be() {
    const CELL: usize = 7;
    for network in networks() {
        let backbone = mean(network);
        for (output, stride) in maps_of(&*backbone) {
            let side = 15 * stride + 2;
            let across = output.smallest_side.max(16);
            for axis in [2, 3] {
                let mut shape = [1, 3, across, across];
                shape[axis] = side;
                let line = |at: usize| {
                    (0..3 * across * side).map(move |index| {
                        let place = if axis == 2 {
                            index / across % side
                        } else {
                            index % side
                        };
                        f32::from(u8::from(place == at))
                    })
                };
                let mut answers = Vec::new();
                for first in (0..side).step_by(32) {
                    let lines = first..side.min(first + 32);
                    shape[0] = lines.len();
                    let input = Tensor::new(lines.flat_map(line).collect(), shape);
                    let map = backbone.maps(&input, &[output.name]);
                    let map = map.unwrap().remove(0);
                    let [_, channels, rows, columns] = map.shape();
                    let [row, column] = if axis == 2 {
                        [CELL, columns / 2]
                    } else {
                        [rows / 2, CELL]
                    };
                    let cells = map.values().iter().skip(row * columns + column);
                    answers.extend(cells.step_by(channels * map.area()));
                }
                let sum: f64 = answers.iter().map(|answer| f64::from(*answer)).sum();
                let weighted = answers.iter().zip(0u32..);
                let centre = weighted
                    .map(|(answer, at)| f64::from(*answer) * f64::from(at))
                    .sum::<f64>()
                    / sum;
                let expected = (output.first_centre(side) + CELL * stride) as f64;
                assert!(
                    sum > 0.0 && (centre - expected).abs() < 1e-3,
                    "{} {}: {centre}, not {expected}",
                    network.name(),
                    output.name
                );
                // Symmetric, and not by chance only on the whole.
                let centre = expected as usize;
                let peak = answers.iter().fold(0.0f32, |max, answer| max.max(*answer));
                for distance in 1..=centre.min(side - 1 - centre) {
                    let [left, right] = [centre - distance, centre + distance];
                    assert!((answers[left] - answers[right]).abs() < 1e-5 * peak);
                }
            }
        }
    }
}

#[test]
fn an_image_that_moves_by_the_stride_moves_the_map_by_a_pixel() {
    let image = noise(120, 96, 3);
    for network in networks() {
        let backbone = random(network);
        let input = backbone.preprocessing().batch(&[&image]).unwrap();
        for (output, stride) in maps_of(&*backbone) {
            // The deeper ones see beyond this image from everywhere.
            if stride > 4 {
                continue;
            }
            let seen = |start: usize| {
                let part = part(&input, [start..start + 88, start..start + 88]);
                backbone.maps(&part, &[output.name]).unwrap().remove(0)
            };
            let (here, there) = (seen(0), seen(stride));
            let [_, channels, rows, _] = here.shape();
            // Away from the edges by the radius of what a pixel sees (21 for layer1, 11 for fire3).
            let margin = 24usize.div_ceil(stride);
            let inner = margin..rows - margin - 1;
            let moved = inner.start + 1..inner.end + 1;
            let here = part(&here, [moved.clone(), moved]).into_values();
            let there = part(&there, [inner.clone(), inner]).into_values();
            let scale = here.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            assert!(scale > 0.0 && here.len() > channels);
            for (a, b) in here.iter().zip(&there) {
                assert!((a - b).abs() < 1e-4 * scale, "{}: {a}, {b}", output.name);
            }
        }
    }
}

#[test]
fn a_position_on_a_maps_pixel_has_its_numbers() {
    let image = noise(70, 61, 4);
    for network in networks() {
        let backbone = random(network);
        let input = backbone.preprocessing().batch(&[&image]).unwrap();
        for (output, stride) in maps_of(&*backbone) {
            let map = backbone.maps(&input, &[output.name]);
            let map = map.unwrap().remove(0);
            let [_, channels, rows, columns] = map.shape();
            let features = DenseFeatures {
                outputs: vec![output.name.to_string()],
                zoom: 1,
                smooth: false,
            };
            assert_eq!(features.channels(&*backbone).unwrap(), channels);
            let positions = Positions {
                first: [61, 70].map(|side| output.first_centre(side) as f32),
                stride: stride as f32,
                size: [rows, columns],
            };
            let found = features.describe(&*backbone, &image, &positions).unwrap();
            assert_eq!(found, map.into_values(), "{}", output.name);
        }
    }
}

#[test]
fn many_positions_are_each_position_alone() {
    let image = noise(50, 43, 5);
    let [resnet18, ..] = networks();
    let backbone = random(resnet18);
    for (zoom, smooth) in [(1, true), (2, false), (2, true)] {
        let features = DenseFeatures {
            outputs: ["layer2", "stem"].map(str::to_string).to_vec(),
            zoom,
            smooth,
        };
        let maps = features
            .maps(&*backbone, &image, &StopFlag::default())
            .unwrap();
        // From before the image to behind it.
        let positions = Positions {
            first: [-3.0, 2.5],
            stride: 6.0,
            size: [9, 10],
        };
        let together = maps.at(&positions);
        assert_eq!(together.len(), (128 + 64) * 90);
        for row in 0..9 {
            for column in 0..10 {
                let alone = Positions {
                    first: [-3.0 + 6.0 * row as f32, 2.5 + 6.0 * column as f32],
                    stride: 1.0,
                    size: [1, 1],
                };
                let alone = features.describe(&*backbone, &image, &alone).unwrap();
                let of_all = together.iter().skip(row * 10 + column).step_by(90);
                assert!(of_all.eq(&alone), "{row}, {column}");
            }
        }
        let none = Positions {
            size: [0, 4],
            ..positions
        };
        assert!(maps.at(&none).is_empty());
    }
}

#[test]
fn features_that_a_network_does_not_give_are_named() {
    let [resnet18, squeezenet, _] = networks();
    let features = |outputs: &[&str], zoom| DenseFeatures {
        outputs: outputs.iter().map(|name| name.to_string()).collect(),
        zoom,
        smooth: true,
    };
    let cases: [(DenseFeatures, &[&str]); 6] = [
        (features(&["layer2"], 0), &["zoom is 0", "1 to 8"]),
        (features(&["layer2"], 9), &["zoom is 9", "1 to 8"]),
        (features(&["layer9"], 1), &["\"layer9\"", "layer2, layer3"]),
        (features(&["layer4"], 1), &["\"layer4\"", "ends before"]),
        (features(&[], 1), &["0 channels"]),
        (features(&["layer3"; 2], 1), &["layer3 is named twice"]),
    ];
    let image = noise(40, 40, 1);
    let backbone = random(resnet18);
    for (features, words) in cases {
        let message = features.check(&resnet18).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(
            features
                .maps(&*backbone, &image, &StopFlag::default())
                .is_err()
        );
    }
    // An output of numbers, not of a map.
    assert!(features(&["features"], 1).check(&squeezenet).is_err());

    let large = features(&["stem"], 8);
    let message = large
        .seen_size(Size::new(1000, 600))
        .unwrap_err()
        .to_string();
    for word in ["1000×600", "8 times", "smaller size"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(large.seen_size(Size::new(usize::MAX, 2)).is_err());
    assert_eq!(
        large.seen_size(Size::new(256, 300)).unwrap(),
        Size::new(2048, 2400)
    );
}
