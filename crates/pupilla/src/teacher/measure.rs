//! Measures a teacher on images that it was not trained on.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Observer;
use pupilla_nn::Tensor;

use super::batch::Batch;
use super::correlation::{Products, mean_off_diagonal};
use super::distillation::Tutor;
use super::loss::{divergence, squared_error, triplets_holding};
use crate::error::TrainError;
use crate::features::teacher::{Decoding, Distillation, DistillationError, HeldOut, TeacherConfig};
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetwork};
use crate::random::derive_seed;

/// How often each image is cut: one window of an image says little about it.
const CUTS: u64 = 4;

/// The figures, and the correlation matrix of the descriptors' dimensions, `[128, 128]`.
pub(super) type Measured = (HeldOut, Vec<f32>);

/// Measures a teacher; `None` if there are fewer than two images.
pub(super) fn measure(
    network: &PatchNetwork,
    tutor: Option<(&Tutor<'_>, &Decoding)>,
    config: &TeacherConfig,
    images: &dyn ImageSource,
    held_out: &[usize],
    observer: &mut dyn Observer,
) -> Result<Option<Measured>, TrainError> {
    if held_out.len() < 2 {
        return Ok(None);
    }
    let (mut holding, mut patches) = (0.0, 0.0);
    let (mut error, mut spread, mut agreement) = (0.0, 0.0, 0.0);
    let mut products = Products::new(DESCRIPTOR_CHANNELS);
    for round in 0..CUTS {
        let seed = derive_seed(config.seed, "held-out triplets", round);
        for (index, chosen) in batches(held_out, config.images_per_step).enumerate() {
            if observer.stop_requested() {
                return Err(TrainError::Stopped);
            }
            let seed = derive_seed(seed, "batch", index as u64);
            let batch = Batch::cut(chosen, images, config, true, seed)?;
            let stride = config.network.receptive_field.pooling_stride();
            let map = network.grid(&batch.input, stride);
            let anchors = batch.anchors(&map);
            // Batches differ in their images: each counts as much as it has patches.
            let weight = (chosen.len() * anchors.area()) as f64;
            patches += weight;
            holding += weight * triplets_holding(&map);
            products.add(&anchors);
            if let Some((tutor, decoding)) = tutor {
                let decoded = decoding.decoder.apply(&anchors);
                let said = tutor.say(&batch.cuts)?;
                match tutor.form {
                    Distillation::Logits { .. } => {
                        agreement += weight * same_class(&decoded, &said);
                        error += weight * divergence(&decoded, &said, 1.0).value;
                    }
                    Distillation::Features { .. } | Distillation::Dense { .. } => {
                        let said = decoding.scale.apply(said);
                        let nothing = Tensor::zeros(said.shape());
                        spread += weight * squared_error(&nothing, &said).value;
                        error += weight * squared_error(&decoded, &said).value;
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

/// Images in batches of `about` images, at least two: a triplet's negative comes from another image.
fn batches(images: &[usize], about: usize) -> impl Iterator<Item = &[usize]> {
    let count = (images.len() / about).max(1);
    (0..count).map(move |batch| {
        let bound = |batch: usize| batch * images.len() / count;
        &images[bound(batch)..bound(batch + 1)]
    })
}

/// Share of positions with the same likeliest class.
///
/// # Shapes
/// - both: `[windows, classes, rows, columns]`
fn same_class(decoded: &Tensor, said: &Tensor) -> f64 {
    let [windows, classes, ..] = said.shape();
    let area = said.area();
    let likeliest = |map: &Tensor, position: usize| {
        let first = position / area * classes * area + position % area;
        let logit = |class: usize| map.values()[first + class * area];
        (1..classes).fold(0, |best, class| {
            if logit(class) > logit(best) {
                class
            } else {
                best
            }
        })
    };
    let same = (0..windows * area).filter(|&at| likeliest(decoded, at) == likeliest(said, at));
    same.count() as f64 / (windows * area) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_likeliest_class_of_each_position() {
        let decoded = Tensor::new(vec![1.0, 2.0, 3.0, 0.0, 5.0, 5.0], [1, 3, 1, 2]);
        let said = Tensor::new(vec![-1.0, 2.0, -2.0, 1.0, 0.0, 1.5], [1, 3, 1, 2]);
        // Both say the third class of the first position; of the second position they differ.
        assert_eq!(same_class(&decoded, &said), 0.5);
    }
}
