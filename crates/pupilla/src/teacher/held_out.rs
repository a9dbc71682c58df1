//! Figures of a teacher on images that it was not trained on.

use burn::tensor::{Device, Tensor};
use pupilla_core::image_source::ImageSource;
use pupilla_core::observer::Observer;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::TeacherConfig;
use super::batch::Batch;
use super::config::Distillation;
use super::decoder::Decoder;
use super::distillation::{TargetScale, Tutor, divergence, squared_error};
use super::loss::{next_image, triplet};
use crate::error::TrainError;
use crate::patch_network::{PatchNetwork, values};
use crate::random::derive_seed;

/// Figures on images that the teacher was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// How many images.
    pub images: usize,
    /// Share of triplets whose positive is nearer than the harder of the two negatives (`δ⁺ < δ⁻`);
    /// higher is better, 0.5 is chance.
    pub triplets_holding: f64,
    /// Mean absolute correlation of two descriptor dimensions; lower is better.
    pub mean_correlation: f64,
    /// How far the decoded descriptors are from what the pretrained network says, if there was one.
    pub distillation: Option<DistillationError>,
}

/// How far decoded descriptors are from what the pretrained network says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "lowercase")]
pub enum DistillationError {
    /// Of features.
    Variance {
        /// Share of the features' variance that is not explained; 0 is perfect, 1 knowing only the mean.
        unexplained: f64,
    },
    /// Of class probabilities, at temperature 1 whatever the one of training, so that temperatures can be compared.
    Classes {
        /// Mean Kullback–Leibler divergence in nats; 0 is perfect.
        divergence: f64,
        /// Share of patches with the same likeliest class.
        agreement: f64,
    },
}

/// D with the scale of its targets.
#[derive(Clone, Debug)]
pub(crate) struct Decoding {
    pub decoder: Decoder,
    pub scale: TargetScale,
}

/// How often each image is cut: one window of an image says little about it.
const CUTS: u64 = 4;

/// What was measured, and behind it the correlation matrix of the descriptors' dimensions, `[128, 128]`.
pub(super) type Measured = (HeldOut, Vec<f32>);

/// Measures a teacher; `None` if there are fewer than two images.
pub(super) fn measure(
    network: &PatchNetwork,
    tutor: Option<(&Tutor<'_>, &Decoding)>,
    config: &TeacherConfig,
    images: &dyn ImageSource,
    held_out: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Option<Measured>, TrainError> {
    if held_out.len() < 2 {
        return Ok(None);
    }
    let (mut holding, mut patches) = (0.0, 0.0);
    let (mut error, mut spread, mut agreement) = (0.0, 0.0, 0.0);
    let mut products = Products::default();
    for round in 0..CUTS {
        let seed = derive_seed(config.seed, "held-out triplets", round);
        for (index, chosen) in batches(held_out, config.images_per_step).enumerate() {
            if observer.stop_requested() {
                return Err(TrainError::Stopped);
            }
            let seed = derive_seed(seed, "batch", index as u64);
            let batch = Batch::cut(chosen, images, config, true, seed)?;
            let map = network.grid(
                batch.input(device),
                config.network.receptive_field.pooling_stride(),
            );
            let of_batch = batch.split(map);
            let anchors = of_batch.anchors;
            // Batches differ in their images: each counts as much as it has patches.
            let weight = anchors.dims()[0] as f64;
            patches += weight;
            let mean = |of_batch: Tensor<1>| weight * f64::from(of_batch.into_scalar::<f32>());
            if let Some(positives) = of_batch.positives {
                let negatives = next_image(anchors.clone(), of_batch.positions);
                let metric = triplet(anchors.clone(), positives, negatives, config.margin);
                holding += mean(metric.holding);
            }
            products.add(anchors.clone());
            if let Some((tutor, decoding)) = tutor {
                let decoded = decoding.decoder.apply(anchors);
                let said = tutor.say(&batch.cuts)?;
                match tutor.form {
                    Distillation::Logits { .. } => {
                        let same = decoded.clone().argmax(1).equal(said.clone().argmax(1));
                        agreement += mean(same.float().mean());
                        error += mean(divergence(decoded, said, 1.0));
                    }
                    Distillation::Features { .. } | Distillation::Dense { .. } => {
                        let said = decoding.scale.apply(said);
                        spread += mean(said.clone().powi_scalar(2).mean());
                        error += mean(squared_error(decoded, said));
                    }
                }
            }
        }
    }
    let distillation = tutor.map(|(tutor, _)| match tutor.form {
        Distillation::Logits { .. } => DistillationError::Classes {
            divergence: error / patches,
            agreement: agreement / patches,
        },
        Distillation::Features { .. } | Distillation::Dense { .. } => DistillationError::Variance {
            unexplained: if spread > 0.0 { error / spread } else { 0.0 },
        },
    });
    let correlation = products.correlation();
    let measured = HeldOut {
        images: held_out.len(),
        triplets_holding: holding / patches,
        mean_correlation: mean_off_diagonal(&correlation),
        distillation,
    };
    Ok(Some((measured, correlation)))
}

/// Images in batches of about so many, of two at least: a triplet's negative is another image's.
fn batches(images: &[usize], about: usize) -> impl Iterator<Item = &[usize]> {
    let count = (images.len() / about).max(1);
    (0..count).map(move |batch| {
        let bound = |batch: usize| batch * images.len() / count;
        &images[bound(batch)..bound(batch + 1)]
    })
}

/// Sums over descriptors, which tell how their dimensions correlate over all batches: those of one batch of few patches correlate by
/// chance.
#[derive(Default)]
struct Products {
    rows: f64,
    /// `[128]`
    sums: Vec<f64>,
    /// `[128, 128]`
    products: Vec<f64>,
}

impl Products {
    /// Adds descriptors, `[rows, 128]`.
    fn add(&mut self, descriptors: Tensor<2>) {
        let [rows, dimensions] = descriptors.dims();
        self.sums.resize(dimensions, 0.0);
        self.products.resize(dimensions * dimensions, 0.0);
        self.rows += rows as f64;
        let values = values(descriptors);
        for row in values.chunks_exact(dimensions) {
            for (sum, &value) in self.sums.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let rows_of_sums = self.products.par_chunks_mut(dimensions).enumerate();
        rows_of_sums.for_each(|(first, products)| {
            for row in values.chunks_exact(dimensions) {
                let value = f64::from(row[first]);
                for (product, &other) in products.iter_mut().zip(row) {
                    *product += value * f64::from(other);
                }
            }
        });
    }

    /// The correlation matrix of the dimensions; one that does not vary correlates with none.
    fn correlation(&self) -> Vec<f32> {
        let count = self.sums.len();
        let covariance = |a: usize, b: usize| {
            self.products[a * count + b] - self.sums[a] * self.sums[b] / self.rows
        };
        // Below the rounding of sums of 32-bit numbers there is no variance.
        let scales: Vec<f64> = (0..count)
            .map(|a| match covariance(a, a) {
                variance if variance > 1e-10 * self.products[a * count + a] => {
                    variance.sqrt().recip()
                }
                _ => 0.0,
            })
            .collect();
        let places = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        places
            .map(|(a, b)| (covariance(a, b) * scales[a] * scales[b]).clamp(-1.0, 1.0) as f32)
            .collect()
    }
}

/// Mean absolute value of a square matrix beside its diagonal.
fn mean_off_diagonal(matrix: &[f32]) -> f64 {
    let count = matrix.len().isqrt();
    let beside = matrix
        .iter()
        .enumerate()
        .filter(|(at, _)| at / count != at % count);
    let total: f64 = beside.map(|(_, value)| f64::from(value.abs())).sum();
    total / (count * (count - 1)) as f64
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::device;
    use crate::teacher::loss::correlation;

    #[test]
    fn batches_have_two_images_at_least() {
        let images: Vec<usize> = (0..7).collect();
        for (about, sizes) in [
            (2, vec![2, 2, 3]),
            (3, vec![3, 4]),
            (6, vec![7]),
            (64, vec![7]),
        ] {
            let found: Vec<usize> = batches(&images, about).map(<[usize]>::len).collect();
            assert_eq!(found, sizes);
            assert_eq!(batches(&images, about).flatten().count(), 7);
        }
    }

    #[test]
    fn correlation_over_batches_is_that_of_all_rows() {
        let (rows, dimensions) = (12, 5);
        // The third dimension does not vary; the last is the first, turned round.
        let number = |row: usize, column: usize| match column {
            2 => 0.5,
            4 => -((row * 7 % 12) as f32),
            _ => {
                ((row * 7 % 12) as f32).powi(column as i32 + 1)
                    + (row % (column + 2)) as f32 * f32::from(column != 0)
            }
        };
        let all: Vec<f32> = (0..rows)
            .flat_map(|row| (0..dimensions).map(move |column| number(row, column)))
            .collect();
        let tensor = |rows: std::ops::Range<usize>| {
            let shape = [rows.len(), dimensions];
            let values = all[rows.start * dimensions..rows.end * dimensions].to_vec();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device::chosen())
        };
        let mut products = Products::default();
        for part in [0..2, 2..7, 7..12] {
            products.add(tensor(part));
        }
        let found = products.correlation();
        let expected = values(correlation(tensor(0..rows)));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
        }
        let beside = |at: &usize| at / dimensions != at % dimensions;
        let total: f32 = (0..25).filter(beside).map(|at| expected[at].abs()).sum();
        let mean = mean_off_diagonal(&found);
        assert!((mean - f64::from(total) / 20.0).abs() < 1e-5, "{mean}");
    }
}
