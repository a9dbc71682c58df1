//! D, the linear layer from descriptors to a pretrained network's features: needed for training and for measuring the distillation,
//! never for inspection.

use pupilla_nn::{Convolution, Graph, Operation, Parameters, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use pupilla_files::weight_file::{NamedTensor, Precision, WeightFile, WeightFileError};

use crate::patch_network::DESCRIPTOR_CHANNELS;
use crate::random::normal;
use crate::statistics::{Moments, reciprocal};

/// More targets than any network has classes.
const MOST_TARGETS: usize = 1 << 16;

/// A 1×1 convolution.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    pub graph: Graph,
    /// Its weight, `[targets, 128, 1, 1]`, and its bias, `[targets]`.
    pub parameters: Parameters,
}

impl Decoder {
    /// Small random weights, whose outputs have a deviation of about 0.1: the first steps are not spent on undoing them.
    pub fn init(targets: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let deviation = 0.1 / (DESCRIPTOR_CHANNELS as f32).sqrt();
        let weight: Vec<f32> = (0..DESCRIPTOR_CHANNELS * targets)
            .map(|_| deviation * normal(&mut random))
            .collect();
        Self::with_weights(&weight, vec![0.0; targets])
    }

    /// The layer with the numbers of a file, `[128, targets]` and `[targets]`.
    pub fn with_weights(weight: &[f32], bias: Vec<f32>) -> Self {
        Self {
            graph: Self::graph(bias.len()),
            parameters: Parameters::new(vec![transposed(weight, DESCRIPTOR_CHANNELS), bias]),
        }
    }

    /// Its graph, for `targets` targets.
    pub fn graph(targets: usize) -> Graph {
        let convolution = Convolution::new([DESCRIPTOR_CHANNELS, targets], 1);
        Graph::chain([Operation::Convolution(convolution)])
    }

    /// # Shapes
    /// - `descriptors`: `[windows, 128, rows, columns]`
    /// - output: `[windows, targets, rows, columns]`
    pub fn apply(&self, descriptors: &Tensor) -> Tensor {
        self.graph.run(&self.parameters, descriptors)
    }

    /// Weight and bias as a file has them, `[128, targets]` and `[targets]`.
    pub fn weights(&self) -> [Vec<f32>; 2] {
        let [weight, bias] = [0, 1].map(|index: usize| &self.parameters.arrays()[index]);
        [transposed(weight, bias.len()), bias.clone()]
    }
}

/// A matrix of so many rows, turned round.
fn transposed(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    let column = |first: usize| matrix[first..].iter().step_by(columns).copied();
    (0..columns).flat_map(column).collect()
}

/// D with the scale of its targets.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    pub decoder: Decoder,
    pub scale: TargetScale,
}

impl Decoding {
    /// How many numbers of the pretrained network it gives.
    pub fn targets(&self) -> usize {
        self.scale.mean.len()
    }

    /// Names and shapes of its arrays: weight, bias, the targets' mean and deviation.
    pub fn layout(
        file: &WeightFile,
        targets: usize,
    ) -> Result<[(String, Vec<usize>); 4], WeightFileError> {
        if targets > MOST_TARGETS {
            return Err(file.invalid(format!("{targets} targets are more than {MOST_TARGETS}")));
        }
        Ok(Self::shapes(targets))
    }

    fn shapes(targets: usize) -> [(String, Vec<usize>); 4] {
        let shapes = [
            ("decoder.weight", vec![DESCRIPTOR_CHANNELS, targets]),
            ("decoder.bias", vec![targets]),
            ("targets.mean", vec![targets]),
            ("targets.deviation", vec![targets]),
        ];
        shapes.map(|(name, shape)| (name.to_string(), shape))
    }

    /// From the values of its arrays in the order of [`layout`](Self::layout).
    pub fn import(values: &mut impl Iterator<Item = Vec<f32>>) -> Self {
        let mut next = || values.next().unwrap_or_default();
        let (weight, bias) = (next(), next());
        Self {
            decoder: Decoder::with_weights(&weight, bias),
            scale: TargetScale {
                mean: next(),
                deviation: next(),
            },
        }
    }

    /// The arrays of [`layout`](Self::layout), to be written; the targets' statistics always in full.
    pub fn export(&self, precision: Precision) -> Vec<NamedTensor> {
        let [weight, bias] = self.decoder.weights();
        let TargetScale { mean, deviation } = self.scale.clone();
        let arrays = [
            (weight, precision),
            (bias, precision),
            (mean, Precision::Full),
            (deviation, Precision::Full),
        ];
        Self::shapes(self.targets())
            .into_iter()
            .zip(arrays)
            .map(|((name, shape), (values, precision))| NamedTensor {
                name,
                shape,
                values,
                precision,
            })
            .collect()
    }
}

/// Mean and deviation of every target over the training images: targets are learned in units of their
/// deviation, so that the loss is a share of the variance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetScale {
    /// `[targets]`
    pub mean: Vec<f32>,
    /// `[targets]`
    pub deviation: Vec<f32>,
}

impl TargetScale {
    /// Of some batches' targets, each `[windows, targets, rows, columns]`.
    pub fn of(batches: &[Tensor]) -> Self {
        let targets = batches.first().map_or(0, |batch| batch.shape()[1]);
        let of_target = |target: usize| {
            let planes = batches.iter().flat_map(|batch| {
                let planes = batch.values().chunks_exact(batch.area());
                planes.skip(target).step_by(targets)
            });
            planes.fold(Moments::default(), |all, plane| {
                all.merge(Moments::of(plane))
            })
        };
        let moments: Vec<Moments> = (0..targets).into_par_iter().map(of_target).collect();
        Self {
            mean: moments.iter().map(|of| of.mean() as f32).collect(),
            deviation: moments.iter().map(|of| of.deviation() as f32).collect(),
        }
    }

    /// Targets in units of their deviation, mean 0; one that never varied is 0.
    pub fn apply(&self, mut targets: Tensor) -> Tensor {
        let area = targets.area();
        let scales = self.mean.iter().zip(&self.deviation);
        let scales: Vec<[f32; 2]> = scales
            .map(|(&mean, &deviation)| [mean, reciprocal(deviation.into(), mean.into()) as f32])
            .collect();
        let planes = targets.values_mut().par_chunks_exact_mut(area).enumerate();
        planes.for_each(|(plane, values)| {
            let [mean, factor] = scales[plane % scales.len()];
            for value in values {
                *value = (*value - mean) * factor;
            }
        });
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_column_for_each_target() {
        let weight: Vec<f32> = (0..DESCRIPTOR_CHANNELS * 3).map(|at| at as f32).collect();
        let decoder = Decoder::with_weights(&weight, vec![1.0, 2.0, 3.0]);
        assert_eq!(decoder.weights(), [weight, vec![1.0, 2.0, 3.0]]);
        // The second number of a descriptor alone: the second row, with the bias.
        let mut descriptor = Tensor::zeros([1, DESCRIPTOR_CHANNELS, 1, 1]);
        descriptor.values_mut()[1] = 1.0;
        let decoded = decoder.apply(&descriptor);
        assert_eq!(decoded.shape(), [1, 3, 1, 1]);
        assert_eq!(decoded.values(), [3.0 + 1.0, 4.0 + 2.0, 5.0 + 3.0]);
    }

    #[test]
    fn targets_have_mean_0_and_deviation_1() {
        // Two positions side by side, and another window in another batch.
        let some = Tensor::new(vec![1.0, 3.0, 5.0, 5.0, 3.0, 7.0], [1, 3, 1, 2]);
        let more = Tensor::new(vec![5.0; 6], [2, 3, 1, 1]);
        let scale = TargetScale::of(&[some.clone(), more]);
        assert_eq!(scale.mean, [3.5, 5.0, 5.0]);
        let scaled = scale.apply(some);
        assert_eq!(scaled.shape(), [1, 3, 1, 2]);
        let units = [2.75f32, 2.0].map(|variance| variance.sqrt().recip());
        let expected = [
            -2.5 * units[0],
            -0.5 * units[0],
            0.0,
            0.0,
            -2.0 * units[1],
            2.0 * units[1],
        ];
        for (found, expected) in scaled.values().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{scaled:?}");
        }
    }
}
