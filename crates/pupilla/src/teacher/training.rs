//! The training loop of a teacher.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use pupilla_core::image_source::ImageSource;
use pupilla_core::observer::Observer;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::loss::{compactness, mean_correlation, next_image, triplet};
use super::{HeldOut, KIND, Teacher, TeacherConfig, TeacherManifest, triplets};
use crate::device;
use crate::error::TrainError;
use crate::optimizer::adam;
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetwork};
use crate::random::derive_seed;
use crate::schedule::one_cycle;
use crate::weight_file::FileHeader;

/// Trains a teacher on any images. `data` says in words what they are and under which terms.
///
/// # Errors
/// If a setting is out of range, there are fewer than two images to train on, an image cannot be
/// read, the loss is not finite, or the observer asks to stop.
pub fn train(
    config: &TeacherConfig,
    images: &dyn ImageSource,
    data: &str,
    fingerprint: Option<String>,
    observer: &mut dyn Observer,
) -> Result<Teacher, TrainError> {
    config.check()?;
    let mut order: Vec<usize> = (0..images.len()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(derive_seed(
        config.seed,
        "held-out images",
        0,
    )));
    let held_out = (images.len() as f64 * config.held_out) as usize;
    let (held_out, training) = order.split_at(held_out);
    if training.len() < 2 {
        return Err(TrainError::TooFewImages {
            purpose: "training",
            found: training.len(),
            needed: 2,
        });
    }

    let plain = device::cpu();
    let training_device = plain.clone().autodiff();
    let seed = derive_seed(config.seed, "teacher weights", 0);
    let mut network = config
        .network
        .with_weights(initial_weights(config, seed), &training_device);
    let mut optimizer = adam(config.weight_decay);
    let mut random = ChaCha8Rng::seed_from_u64(derive_seed(config.seed, "teacher batches", 0));
    let mut final_losses = Vec::new();

    observer.start(
        &format!("training the teacher p={}", config.network.receptive_field),
        config.steps as u64,
    );
    for step in 0..config.steps {
        if observer.stop_requested() {
            return Err(TrainError::Stopped);
        }
        // Different images in a batch: a negative must come from another one.
        let chosen = distinct(training, config.images_per_step, &mut random);
        let batch = Batch::cut(&chosen, images, config, random.random())?;
        let descriptors = batch.describe(&network, config, &training_device);
        let metric = triplet(
            descriptors.anchors.clone(),
            descriptors.positives,
            next_image(descriptors.anchors.clone(), descriptors.positions),
            config.margin,
        );
        let loss = metric.loss.mul_scalar(config.triplet_weight)
            + compactness(descriptors.anchors, config.compactness)
                .mul_scalar(config.compactness_weight);
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        if !value.is_finite() {
            return Err(TrainError::Diverged {
                what: "the teacher".to_string(),
                step,
                loss: value,
                learning_rate: config.learning_rate,
            });
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let rate = one_cycle(step, config.steps, config.learning_rate);
        network = optimizer.step(rate, network, gradients);
        if step >= config.steps - config.steps.div_ceil(10) {
            final_losses.push(value);
        }
        observer.advance(step as u64 + 1, Some(value));
    }
    observer.finish();

    let network = round_to_half(&network, &plain);
    let held_out = measure(&network, config, images, held_out, &plain)?;
    Ok(Teacher {
        network,
        manifest: TeacherManifest {
            header: FileHeader::new(KIND),
            config: config.clone(),
            images: training.len(),
            data: data.to_string(),
            fingerprint,
            final_loss: final_losses.iter().sum::<f64>() / final_losses.len() as f64,
            held_out,
        },
    })
}

/// Random weights whose descriptors have a length of about 1, not of `√128`: the margin is 1, and
/// distances that begin far above it teach the network only to shrink, until all triplets collapse.
fn initial_weights(config: &TeacherConfig, seed: u64) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut weights = config.network.random_weights(seed);
    if let Some((last, _)) = weights.last_mut() {
        let factor = 1.0 / (DESCRIPTOR_CHANNELS as f32).sqrt();
        last.iter_mut().for_each(|weight| *weight *= factor);
    }
    weights
}

/// The network with the weights that its file will hold, so that nothing changes by saving it.
fn round_to_half(network: &PatchNetwork, device: &Device) -> PatchNetwork {
    let round = |values: Vec<f32>| {
        values
            .into_iter()
            .map(|value| half::f16::from_f32(value).to_f32())
            .collect()
    };
    let weights = network
        .weights()
        .into_iter()
        .map(|(weight, bias)| (round(weight), round(bias)));
    network.config().with_weights(weights, device)
}

/// `count` different members (fewer if there are fewer), in random order.
fn distinct(from: &[usize], count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut indices =
        rand::seq::index::sample(random, from.len(), count.min(from.len())).into_vec();
    indices.shuffle(random);
    indices.into_iter().map(|index| from[index]).collect()
}

/// Windows of several images and their positives.
struct Batch {
    images: usize,
    /// `[images · 2, 3, window, window]`: all anchors, then all positives.
    planes: Vec<f32>,
}

/// Descriptors of a batch's patches.
struct Descriptors {
    /// `[images · positions, 128]`
    anchors: Tensor<2>,
    /// `[images · positions, 128]`
    positives: Tensor<2>,
    /// Patches in a window.
    positions: usize,
}

impl Batch {
    /// Reads and cuts images in parallel; each has a random stream of its own.
    fn cut(
        chosen: &[usize],
        images: &dyn ImageSource,
        config: &TeacherConfig,
        seed: u64,
    ) -> Result<Self, ReadError> {
        let windows: Vec<_> = chosen
            .par_iter()
            .enumerate()
            .map(|(row, &index)| {
                let image: Image = images.image(index)?;
                let stream = derive_seed(seed, "triplet", row as u64);
                let mut random = ChaCha8Rng::seed_from_u64(stream);
                let (mut anchor, mut positive) = (Vec::new(), Vec::new());
                triplets::cut(&image, config, &mut random, &mut anchor, &mut positive);
                Ok((anchor, positive))
            })
            .collect::<Result<_, ReadError>>()?;
        let anchors = windows.iter().flat_map(|(anchor, _)| anchor);
        let positives = windows.iter().flat_map(|(_, positive)| positive);
        Ok(Self {
            images: chosen.len(),
            planes: anchors.chain(positives).copied().collect(),
        })
    }

    fn describe(
        self,
        network: &PatchNetwork,
        config: &TeacherConfig,
        device: &Device,
    ) -> Descriptors {
        let shape = [self.images * 2, 3, config.window, config.window];
        let input = Tensor::<4>::from_data(TensorData::new(self.planes, shape), device);
        let map = network.grid(input, config.network.receptive_field.pooling_stride());
        let [_, _, rows, columns] = map.dims();
        let all = map
            .permute([0, 2, 3, 1])
            .reshape([2 * self.images * rows * columns, DESCRIPTOR_CHANNELS]);
        let mut halves = all.chunk(2, 0).into_iter();
        let (Some(anchors), Some(positives)) = (halves.next(), halves.next()) else {
            unreachable!("an even number of rows has two halves")
        };
        Descriptors {
            anchors,
            positives,
            positions: rows * columns,
        }
    }
}

/// Measures a teacher on images it was not trained on; `None` if there are fewer than two.
fn measure(
    network: &PatchNetwork,
    config: &TeacherConfig,
    images: &dyn ImageSource,
    held_out: &[usize],
    device: &Device,
) -> Result<Option<HeldOut>, TrainError> {
    let (mut holding, mut correlation, mut batches) = (0.0, 0.0, 0);
    for (index, chosen) in held_out.chunks(config.images_per_step).enumerate() {
        if chosen.len() < 2 {
            continue;
        }
        let seed = derive_seed(config.seed, "held-out triplets", index as u64);
        let descriptors =
            Batch::cut(chosen, images, config, seed)?.describe(network, config, device);
        let negatives = next_image(descriptors.anchors.clone(), descriptors.positions);
        let metric = triplet(
            descriptors.anchors.clone(),
            descriptors.positives,
            negatives,
            config.margin,
        );
        holding += f64::from(metric.holding.into_scalar::<f32>());
        correlation += f64::from(mean_correlation(descriptors.anchors).into_scalar::<f32>());
        batches += 1;
    }
    Ok((batches > 0).then(|| HeldOut {
        images: held_out.len(),
        triplets_holding: holding / f64::from(batches),
        mean_correlation: correlation / f64::from(batches),
    }))
}
