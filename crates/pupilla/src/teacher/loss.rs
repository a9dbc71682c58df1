//! The teacher's losses, each with its gradient: distillation, metric learning on triplets, and compactness.

use pupilla_nn::{Convolution, Graph, Operation, Parameters, Tensor};
use rayon::prelude::*;

use super::correlation::Products;
use crate::features::teacher::Compactness;

/// A loss of a map.
pub(super) struct Loss {
    pub value: f64,
    /// That of the map, of its shape.
    pub gradient: Tensor,
}

impl Loss {
    /// The loss times a number.
    pub fn weighted(mut self, weight: f64) -> Self {
        self.value *= weight;
        for gradient in self.gradient.values_mut() {
            *gradient *= weight as f32;
        }
        self
    }
}

/// A form of `Lk`, the distillation loss: the mean of the squared distances from targets in units of their deviation.
///
/// # Shapes
/// - `decoded`, `targets`: `[windows, targets, rows, columns]`
pub(super) fn squared_error(decoded: &Tensor, targets: &Tensor) -> Loss {
    let count = decoded.values().len() as f64;
    let factor = (2.0 / count) as f32;
    let mut gradient = decoded.clone();
    let mut total = 0.0;
    for (gradient, target) in gradient.values_mut().iter_mut().zip(targets.values()) {
        let error = *gradient - target;
        total += f64::from(error) * f64::from(error);
        *gradient = factor * error;
    }
    Loss {
        value: total / count,
        gradient,
    }
}

/// A form of `Lk`: the mean over all positions of `KL(softmax(targets/τ) ‖ softmax(decoded/τ))`, in nats.
///
/// # Shapes
/// - `decoded`, `targets`: `[windows, classes, rows, columns]`
pub(super) fn divergence(decoded: &Tensor, targets: &Tensor, temperature: f64) -> Loss {
    let [windows, classes, ..] = decoded.shape();
    let area = decoded.area();
    let positions = (windows * area) as f64;
    let mut gradient = Tensor::zeros(decoded.shape());
    let logarithms = |window: &[f32], position: usize| -> Vec<f64> {
        let logits = window[position..].iter().step_by(area);
        let logits: Vec<f64> = logits.map(|&z| f64::from(z) / temperature).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
        let shift = largest + sum.ln();
        logits.into_iter().map(|z| z - shift).collect()
    };
    let of_windows: Vec<f64> = gradient
        .values_mut()
        .par_chunks_exact_mut(classes * area)
        .zip(decoded.values().par_chunks_exact(classes * area))
        .zip(targets.values().par_chunks_exact(classes * area))
        .map(|((gradient, decoded), targets)| {
            let mut total = 0.0;
            for position in 0..area {
                let learned = logarithms(decoded, position);
                let wanted = logarithms(targets, position);
                let gradient = gradient[position..].iter_mut().step_by(area);
                for (gradient, (learned, wanted)) in gradient.zip(learned.iter().zip(wanted)) {
                    total += wanted.exp() * (wanted - learned);
                    let apart = learned.exp() - wanted.exp();
                    *gradient = (apart / (temperature * positions)) as f32;
                }
            }
            total
        })
        .collect();
    Loss {
        value: of_windows.iter().sum::<f64>() / positions,
        gradient,
    }
}

/// The squared distances within a triplet.
#[derive(Clone, Copy, Default)]
struct Distances {
    /// Of anchor and positive.
    near: f64,
    /// Of anchor and negative.
    of_anchor: f64,
    /// Of positive and negative.
    of_positive: f64,
}

/// Those of every triplet, image by image. An image's negatives are the next image's anchors at the same positions.
fn distances(map: &Tensor) -> Vec<Distances> {
    let [windows, channels, ..] = map.shape();
    let area = map.area();
    let images = windows / 2;
    let plane = |window: usize, channel: usize| {
        &map.values()[(window * channels + channel) * area..][..area]
    };
    let mut all = vec![Distances::default(); images * area];
    let of_images = all.par_chunks_exact_mut(area).enumerate();
    of_images.for_each(|(image, all)| {
        for channel in 0..channels {
            let anchors = plane(image, channel).iter();
            let positives = plane(images + image, channel);
            let negatives = plane((image + 1) % images, channel);
            let others = positives.iter().zip(negatives);
            for (distances, (anchor, (positive, negative))) in
                all.iter_mut().zip(anchors.zip(others))
            {
                let squared = |a: &f32, b: &f32| f64::from(a - b) * f64::from(a - b);
                distances.near += squared(anchor, positive);
                distances.of_anchor += squared(anchor, negative);
                distances.of_positive += squared(positive, negative);
            }
        }
    });
    all
}

/// The share of triplets whose positive is nearer than the harder of the two negatives, in `[0, 1]`.
///
/// # Shapes
/// - `map`: as for [`triplet`]
pub(super) fn triplets_holding(map: &Tensor) -> f64 {
    let distances = distances(map);
    let holding = distances
        .iter()
        .filter(|of| of.near < of.of_anchor.min(of.of_positive));
    holding.count() as f64 / distances.len() as f64
}

/// The triplet loss `Lm` with in-triplet hard negatives (the paper's §3.1): the mean over the triplets of `max(0, δ + δ⁺ − δ⁻)`.
/// Squared distances count `scale` times.
///
/// # Shapes
/// - `map`: `[images · 2, 128, rows, columns]`: all anchors, then the positives of the same images
pub(super) fn triplet(map: &Tensor, margin: f64, scale: f64) -> Loss {
    let [windows, channels, ..] = map.shape();
    let area = map.area();
    let images = windows / 2;
    let distances = distances(map);
    let count = distances.len() as f64;
    let factor = (2.0 * scale / count) as f32;
    let mut total = 0.0;
    // What the gradient of each distance is multiplied by.
    let factors: Vec<[f32; 3]> = distances
        .iter()
        .map(|of| {
            let beyond = margin + scale * (of.near - of.of_anchor.min(of.of_positive));
            // What is no number must not become 0.
            if beyond <= 0.0 {
                return [0.0; 3];
            }
            total += beyond;
            if of.of_anchor <= of.of_positive {
                [factor, factor, 0.0]
            } else {
                [factor, 0.0, factor]
            }
        })
        .collect();
    let mut gradient = Tensor::zeros(map.shape());
    let length = channels * area;
    let of_windows = gradient.values_mut().par_chunks_exact_mut(length);
    of_windows.enumerate().for_each(|(window, gradient)| {
        let image = window % images;
        let (before, next) = ((image + images - 1) % images, (image + 1) % images);
        let of_window = |window: usize| &map.values()[window * length..][..length];
        let (anchor, positive) = (of_window(image), of_window(images + image));
        let negative = of_window(next);
        let (its_anchor, its_positive) = (of_window(before), of_window(images + before));
        for (index, gradient) in gradient.iter_mut().enumerate() {
            let [near, of_anchor, of_positive] = factors[image * area + index % area];
            let own = near * (anchor[index] - positive[index]);
            *gradient = if window >= images {
                -own - of_positive * (positive[index] - negative[index])
            } else {
                // The anchor is the negative of the image before.
                let [_, its_of_anchor, its_of_positive] = factors[before * area + index % area];
                own - of_anchor * (anchor[index] - negative[index])
                    + its_of_anchor * (its_anchor[index] - anchor[index])
                    + its_of_positive * (its_positive[index] - anchor[index])
            };
        }
    });
    Loss {
        value: total / count,
        gradient,
    }
}

/// Added to the squared length of a dimension: one that does not vary would divide by zero.
const EPSILON: f64 = 1e-12;

/// The compactness loss `Lc` of a mini-batch's descriptors: `c` is the correlation matrix of their
/// 128 dimensions over the batch.
///
/// With `u` the centred dimensions of length 1, `c = uᵀu`. A gradient `g` of `c` is `2ug` of `u`; of the descriptors it is the part of
/// that which is orthogonal to each dimension, divided by the dimension's length: a 1×1 convolution of `u`.
///
/// # Shapes
/// - `descriptors`: `[windows, 128, rows, columns]`
pub(super) fn compactness(descriptors: &Tensor, kind: Compactness) -> Loss {
    let [_, dimensions, ..] = descriptors.shape();
    let area = descriptors.area();
    let mut products = Products::new(dimensions);
    products.add(descriptors);
    let lengths: Vec<f64> = (0..dimensions)
        .map(|at| (products.covariance(at, at).max(0.0) + EPSILON).sqrt())
        .collect();
    let mut total = 0.0;
    let mut weight = Vec::with_capacity(dimensions * dimensions);
    for (one, length) in lengths.iter().enumerate() {
        let others = lengths.iter().enumerate();
        let correlations: Vec<f64> = others
            .map(|(other, of_other)| products.covariance(one, other) / (length * of_other))
            .collect();
        let gradient = |correlation: f64| match kind {
            Compactness::Squared => 2.0 * correlation,
            Compactness::Signed => 1.0,
        };
        let along: f64 = correlations.iter().map(|&c| c * gradient(c)).sum();
        total += match kind {
            Compactness::Squared => along / 2.0,
            Compactness::Signed => along,
        };
        weight.extend(correlations.iter().enumerate().map(|(other, &c)| {
            let parallel = if other == one { along } else { 0.0 };
            (2.0 * (gradient(c) - parallel) / length) as f32
        }));
    }
    let means = products.means();
    let mut unit = descriptors.clone();
    let planes = unit.values_mut().par_chunks_exact_mut(area).enumerate();
    planes.for_each(|(plane, values)| {
        let dimension = plane % dimensions;
        for value in values {
            *value = ((f64::from(*value) - means[dimension]) / lengths[dimension]) as f32;
        }
    });
    let convolution = Convolution {
        bias: false,
        ..Convolution::new([dimensions; 2], 1)
    };
    let graph = Graph::chain([Operation::Convolution(convolution)]);
    Loss {
        // The diagonal of a correlation matrix is constant: it is taken off as a number.
        value: total - dimensions as f64,
        gradient: graph.run(&Parameters::new(vec![weight]), &unit),
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Numbers in `f64` with a shape, `[windows, channels, rows · columns]`: what the slow twins are written with.
    #[derive(Clone)]
    struct Slow {
        values: Vec<f64>,
        shape: [usize; 3],
    }

    impl Slow {
        fn of(map: &Tensor) -> Self {
            let [windows, channels, ..] = map.shape();
            Self {
                values: map.values().iter().copied().map(f64::from).collect(),
                shape: [windows, channels, map.area()],
            }
        }

        /// The numbers at a position.
        fn column(&self, window: usize, position: usize) -> Vec<f64> {
            let [_, channels, area] = self.shape;
            let at = |channel| self.values[(window * channels + channel) * area + position];
            (0..channels).map(at).collect()
        }

        /// The columns of all positions of some windows.
        fn columns(&self, windows: std::ops::Range<usize>) -> Vec<Vec<f64>> {
            let places = windows.flat_map(|window| (0..self.shape[2]).map(move |at| (window, at)));
            places.map(|(window, at)| self.column(window, at)).collect()
        }
    }

    /// A map of random numbers.
    fn map(shape: [usize; 4], seed: u64) -> Tensor {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let number = |_: usize| random.random_range(-1.0..1.0);
        Tensor::new((0..shape.iter().product()).map(number).collect(), shape)
    }

    /// Compares a loss with its slow twin, and its gradient with the twin's central differences.
    fn check(loss: &Loss, map: &Tensor, twin: impl Fn(&Slow) -> f64) {
        let slow = Slow::of(map);
        let expected = twin(&slow);
        let apart = (loss.value - expected).abs();
        assert!(
            apart < 1e-5 * expected.abs().max(1e-2),
            "{}, not {expected}",
            loss.value
        );
        assert_eq!(loss.gradient.shape(), map.shape());
        let differences: Vec<f64> = (0..slow.values.len())
            .map(|at| {
                let moved = |by: f64| {
                    let mut moved = slow.clone();
                    moved.values[at] += by;
                    twin(&moved)
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            })
            .collect();
        let largest = differences.iter().fold(0.0f64, |max, x| max.max(x.abs()));
        assert!(largest > 0.0);
        for (found, expected) in loss.gradient.values().iter().zip(&differences) {
            let apart = (f64::from(*found) - expected).abs();
            assert!(apart < 1e-4 * largest, "{found}, not {expected}");
        }
    }

    fn squared_distance(one: &[f64], other: &[f64]) -> f64 {
        let pairs = one.iter().zip(other);
        pairs.map(|(a, b)| (a - b).powi(2)).sum()
    }

    fn mean(terms: &[f64]) -> f64 {
        terms.iter().sum::<f64>() / terms.len() as f64
    }

    #[test]
    fn the_squared_error_of_targets() {
        let shape = [2, 3, 2, 2];
        let (decoded, targets) = (map(shape, 1), map(shape, 2));
        let wanted = Slow::of(&targets).values;
        check(&squared_error(&decoded, &targets), &decoded, |decoded| {
            squared_distance(&decoded.values, &wanted) / wanted.len() as f64
        });
    }

    #[test]
    fn the_divergence_of_softened_classes() {
        let shape = [3, 4, 1, 2];
        let (decoded, targets) = (map(shape, 3), map(shape, 4));
        for temperature in [1.0, 4.0] {
            let soft = |logits: &[f64]| -> Vec<f64> {
                let terms: Vec<f64> = logits.iter().map(|z| (z / temperature).exp()).collect();
                let sum = terms.iter().sum::<f64>();
                terms.iter().map(|term| term / sum).collect()
            };
            let wanted = Slow::of(&targets).columns(0..3);
            let loss = divergence(&decoded, &targets, temperature);
            check(&loss, &decoded, |decoded| {
                let pairs = decoded.columns(0..3).into_iter().zip(&wanted);
                let terms: Vec<f64> = pairs
                    .map(|(learned, wanted)| {
                        let pairs = soft(wanted).into_iter().zip(soft(&learned));
                        pairs.map(|(p, q)| p * (p / q).ln()).sum()
                    })
                    .collect();
                mean(&terms)
            });
        }
        let same = divergence(&targets, &targets, 2.0);
        assert_eq!(same.value, 0.0);
    }

    #[test]
    fn the_triplet_loss_of_anchors_positives_and_the_next_anchors() {
        for (images, margin, scale) in [(2, 0.5, 1.0), (3, 0.0, 0.1), (4, 0.2, 0.7)] {
            let map = map([2 * images, 5, 3, 2], images as u64);
            let triplets = |map: &Slow| -> Vec<[f64; 2]> {
                let anchors = map.columns(0..images);
                let positives = map.columns(images..2 * images);
                let of_triplet = |at: usize| {
                    let negative = &anchors[(at + 6) % anchors.len()];
                    let far = squared_distance(&anchors[at], negative)
                        .min(squared_distance(&positives[at], negative));
                    [squared_distance(&anchors[at], &positives[at]), far]
                };
                (0..anchors.len()).map(of_triplet).collect()
            };
            check(&triplet(&map, margin, scale), &map, |map| {
                let triplets = triplets(map).into_iter();
                let terms = triplets.map(|[near, far]| (margin + scale * (near - far)).max(0.0));
                let terms: Vec<f64> = terms.collect();
                assert!(terms.iter().any(|term| *term > 0.0));
                mean(&terms)
            });
            let triplets = triplets(&Slow::of(&map));
            let holding = triplets.iter().filter(|[near, far]| near < far).count();
            let share = holding as f64 / triplets.len() as f64;
            assert!(holding > 0 && triplets_holding(&map) == share);
        }
        let mut broken = map([4, 2, 1, 1], 1);
        broken.values_mut()[3] = f32::NAN;
        assert!(triplet(&broken, 1.0, 1.0).value.is_nan());
    }

    #[test]
    fn the_compactness_of_correlated_dimensions() {
        let mut map = map([2, 4, 3, 2], 5);
        // The second dimension is like the first, the third far from 0, and the fourth does not vary.
        for window in map.values_mut().as_chunks_mut::<24>().0 {
            for at in 0..6 {
                window[6 + at] = 0.3 * window[6 + at] - window[at];
                window[12 + at] += 7.0;
                window[18 + at] = 0.25;
            }
        }
        let correlations = |map: &Slow| -> Vec<f64> {
            let columns = map.columns(0..2);
            let dimension = |at: usize| -> Vec<f64> {
                let line: Vec<f64> = columns.iter().map(|column| column[at]).collect();
                let mean = mean(&line);
                line.iter().map(|value| value - mean).collect()
            };
            let product = |one: &[f64], other: &[f64]| -> f64 {
                one.iter().zip(other).map(|(a, b)| a * b).sum()
            };
            let units = [0, 1, 2].map(|at| {
                let line = dimension(at);
                let length = (product(&line, &line) + EPSILON).sqrt();
                line.iter().map(|value| value / length).collect::<Vec<_>>()
            });
            let pairs = units
                .iter()
                .flat_map(|one| units.iter().map(move |other| (one, other)));
            pairs.map(|(one, other)| product(one, other)).collect()
        };
        // Of the dimension that does not vary, a difference is no gradient: the loss is far from straight there.
        let varying = |map: &Tensor| {
            let windows = map.values().as_chunks::<24>().0;
            let values = windows.iter().flat_map(|window| &window[..18]).copied();
            Tensor::new(values.collect(), [2, 3, 3, 2])
        };
        for kind in [Compactness::Squared, Compactness::Signed] {
            let loss = compactness(&map, kind);
            let alone = compactness(&varying(&map), kind);
            check(&alone, &varying(&map), |map| {
                let terms = correlations(map).into_iter();
                let total: f64 = match kind {
                    Compactness::Squared => terms.map(|c| c * c).sum(),
                    Compactness::Signed => terms.sum(),
                };
                total - 3.0
            });
            // It correlates with none: not even with itself.
            assert!((loss.value - (alone.value - 1.0)).abs() < 1e-6);
            if kind == Compactness::Squared {
                let gradient = varying(&loss.gradient);
                let pairs = gradient.values().iter().zip(alone.gradient.values());
                for (found, expected) in pairs {
                    assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
                }
            }
        }
    }
}
