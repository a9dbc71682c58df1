//! Figures of a teacher on images that it was not trained on.

use burn::tensor::Device;
use pupilla_core::image_source::ImageSource;
use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use super::TeacherConfig;
use super::batch::Batch;
use super::config::Distillation;
use super::decoder::Decoder;
use super::distillation::{TargetScale, Tutor, divergence, squared_error};
use super::loss::{mean_correlation, next_image, triplet};
use crate::error::TrainError;
use crate::patch_network::PatchNetwork;
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

/// Measures a teacher; `None` if there are fewer than two images.
pub(super) fn measure(
    network: &PatchNetwork,
    tutor: Option<(&Tutor<'_>, &Decoding)>,
    config: &TeacherConfig,
    images: &dyn ImageSource,
    held_out: &[usize],
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Option<HeldOut>, TrainError> {
    let (mut holding, mut correlation, mut batches) = (0.0, 0.0, 0u32);
    let (mut error, mut spread, mut agreement) = (0.0, 0.0, 0.0);
    for round in 0..CUTS {
        let seed = derive_seed(config.seed, "held-out triplets", round);
        for (index, chosen) in held_out.chunks(config.images_per_step).enumerate() {
            if chosen.len() < 2 {
                continue;
            }
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
            if let Some(positives) = of_batch.positives {
                let negatives = next_image(anchors.clone(), of_batch.positions);
                let metric = triplet(anchors.clone(), positives, negatives, config.margin);
                holding += f64::from(metric.holding.into_scalar::<f32>());
            }
            correlation += f64::from(mean_correlation(anchors.clone()).into_scalar::<f32>());
            if let Some((tutor, decoding)) = tutor {
                let decoded = decoding.decoder.apply(anchors);
                let said = tutor.say(&batch.cuts)?;
                match tutor.form {
                    Distillation::Logits { .. } => {
                        let same = decoded.clone().argmax(1).equal(said.clone().argmax(1));
                        agreement += f64::from(same.float().mean().into_scalar::<f32>());
                        error += f64::from(divergence(decoded, said, 1.0).into_scalar::<f32>());
                    }
                    Distillation::Features { .. } | Distillation::Dense { .. } => {
                        let said = decoding.scale.apply(said);
                        let all = said.clone().powi_scalar(2).mean();
                        spread += f64::from(all.into_scalar::<f32>());
                        error += f64::from(squared_error(decoded, said).into_scalar::<f32>());
                    }
                }
            }
            batches += 1;
        }
    }
    if batches == 0 {
        return Ok(None);
    }
    let count = f64::from(batches);
    let distillation = tutor.map(|(tutor, _)| match tutor.form {
        Distillation::Logits { .. } => DistillationError::Classes {
            divergence: error / count,
            agreement: agreement / count,
        },
        Distillation::Features { .. } | Distillation::Dense { .. } => DistillationError::Variance {
            unexplained: if spread > 0.0 { error / spread } else { 0.0 },
        },
    });
    Ok(Some(HeldOut {
        images: held_out.len(),
        triplets_holding: holding / count,
        mean_correlation: correlation / count,
        distillation,
    }))
}
