//! The training loop of a teacher.

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use pupilla_core::image_source::ImageSource;
use pupilla_core::observer::Observer;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::batch::Batch;
use super::checkpoint::identity;
use super::config::Distillation;
use super::decoder::Decoder;
use super::distillation::{TargetScale, Tutor, divergence, squared_error};
use super::held_out::{Decoding, measure};
use super::history::{StepLosses, mean_of_last_tenth};
use super::loss::{compactness, next_image, triplet};
use super::{KIND, Provenance, Teacher, TeacherConfig, TeacherManifest, TutorManifest};
use crate::backbone::Backbone;
use crate::checkpoints::Checkpoints;
use crate::device;
use crate::error::TrainError;
use crate::normalised_network::{HiddenMoments, NormalisedNetwork};
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetwork};
use crate::random::derive_seed;
use crate::schedule::one_cycle;
use crate::weight_file::FileHeader;

/// Batches behind the mean and deviation of the distillation's targets.
const TARGET_BATCHES: u64 = 16;

/// A loss that ends at so many times of where it began has nothing to do with the images any more; by its distance from 0, because a signed
/// compactness loss begins below it.
const GONE_ASTRAY: f64 = 10.0;

/// Descriptors whose dimensions correlate as much as this are one number, whatever the loss says.
const COLLAPSED: f64 = 0.98;

/// A target that deviates less than this from its mean says nothing.
const FLAT: f32 = 1e-6;

/// Batches behind the statistics that batch norm is folded with.
const NORM_BATCHES: u64 = 64;

/// The networks that are trained.
#[derive(Module, Debug)]
pub(super) struct Learner {
    pub network: NormalisedNetwork,
    pub decoder: Option<Decoder>,
}

/// Everything that a step changes.
pub(super) struct State {
    pub learner: Learner,
    pub optimizer: ModuleOptimizer,
    /// One entry a step.
    pub history: Vec<StepLosses>,
}

/// Trains a teacher on any images, towards a pretrained network if the configuration has a distillation.
///
/// With `checkpoints` the run can be killed at any time and go on later; it ends with the same bytes.
///
/// # Errors
/// If a setting is out of range, there are fewer than two images to train on, the pretrained network is missing
/// or lacks what is to be learned, an image cannot be read, the loss is not finite, a checkpoint cannot be written
/// or is another run's, or the observer asks to stop.
pub fn train(
    config: &TeacherConfig,
    images: &dyn ImageSource,
    backbone: Option<&dyn Backbone>,
    provenance: &Provenance,
    checkpoints: Option<&Checkpoints>,
    observer: &mut dyn Observer,
) -> Result<Teacher, TrainError> {
    config.check()?;
    let tutor = tutor(config, backbone)?;
    let (held_out, training) = held_out_images(config, images.len());
    let [held_out, training] = [&held_out[..], &training[..]];
    if training.len() < 2 {
        return Err(TrainError::TooFewImages {
            purpose: "training",
            found: training.len(),
            needed: 2,
        });
    }
    let device = device::chosen().autodiff();
    let identity = identity(config, provenance);
    let resumed = match checkpoints {
        Some(checkpoints) => checkpoints.resume(config, &identity, &device, observer)?,
        None => None,
    };
    let mut run = Run {
        config,
        images,
        training,
        scale: None,
        tutor: tutor.as_ref(),
        device,
    };
    let mut state = match resumed {
        Some((state, scale)) => {
            run.scale = scale;
            state
        }
        None => {
            run.scale = run.target_scale(observer)?;
            run.begin()?
        }
    };

    let stage = format!("training the teacher p={}", config.network.receptive_field);
    observer.start(&stage, config.steps as u64);
    // The batch of the next step, read while this one is computed.
    let mut ahead = None;
    while state.history.len() < config.steps {
        if observer.stop_requested() {
            let Some(checkpoints) = checkpoints else {
                return Err(TrainError::Stopped);
            };
            checkpoints.write(&state, run.scale.as_ref(), &identity)?;
            return Err(TrainError::StoppedWithCheckpoint {
                step: state.history.len(),
                path: checkpoints.path.clone(),
            });
        }
        let step = state.history.len();
        let batch = match ahead.take() {
            Some(batch) => batch?,
            None => run.batch_of(step)?,
        };
        let next = (step + 1 < config.steps).then_some(step + 1);
        let (stepped, read) = device::work_beside(
            || run.step(state, &batch),
            || next.map(|step| run.batch_of(step)),
        );
        (state, ahead) = (stepped?, read);
        let step = state.history.len();
        if let Some(losses) = state.history.last() {
            observer.losses(step as u64, &losses.named());
            observer.advance(step as u64, Some(losses.total));
        }
        if let Some(checkpoints) = checkpoints
            && (step.is_multiple_of(checkpoints.every) || step == config.steps)
        {
            checkpoints.write(&state, run.scale.as_ref(), &identity)?;
        }
    }
    observer.finish();
    let last = mean_of_last_tenth(&state.history);
    if let Some(first) = state.history.first()
        && last > GONE_ASTRAY * first.total.abs()
    {
        observer.warn(&format!(
            "the loss rose from {:.4} to {last:.4}: this teacher is of no use, lower the learning rate (now {})",
            first.total, config.learning_rate
        ));
    }
    let steps = state.history.len();
    let finished = run.finish(state, backbone, provenance, held_out, observer);
    if let Ok(teacher) = &finished
        && let Some(held_out) = &teacher.manifest.held_out
        && held_out.mean_correlation > COLLAPSED
    {
        observer.warn(&format!(
            "all numbers of a descriptor say the same (mean correlation {:.3}): this teacher is of no use",
            held_out.mean_correlation
        ));
    }
    finished.map_err(|error| match (error, checkpoints) {
        // The checkpoint of the last step has been written.
        (TrainError::Stopped, Some(checkpoints)) => TrainError::StoppedWithCheckpoint {
            step: steps,
            path: checkpoints.path.clone(),
        },
        (error, _) => error,
    })
}

/// Which of so many images are held out, and which are trained on.
pub fn held_out_images(config: &TeacherConfig, count: usize) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..count).collect();
    let seed = derive_seed(config.seed, "held-out images", 0);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let training = order.split_off((count as f64 * config.held_out) as usize);
    (order, training)
}

/// The pretrained network with what of it is to be learned, if anything is.
fn tutor<'a>(
    config: &'a TeacherConfig,
    backbone: Option<&'a dyn Backbone>,
) -> Result<Option<Tutor<'a>>, TrainError> {
    match (&config.distillation, backbone) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(TrainError::Setting {
            setting: "distillation",
            reason: "must say what to learn of the pretrained network".into(),
        }),
        (Some(_), None) => Err(TrainError::Setting {
            setting: "distillation",
            reason: "must have a pretrained network to learn from".into(),
        }),
        (Some(form), Some(backbone)) => {
            let tutor = Tutor {
                form,
                backbone,
                field: config.network.receptive_field,
                window: config.window,
            };
            tutor.targets()?;
            Ok(Some(tutor))
        }
    }
}

struct Run<'a> {
    config: &'a TeacherConfig,
    images: &'a dyn ImageSource,
    training: &'a [usize],
    tutor: Option<&'a Tutor<'a>>,
    scale: Option<TargetScale>,
    /// With automatic differentiation.
    device: Device,
}

impl Run<'_> {
    /// The seed of a step: batches depend on nothing that came before.
    fn seed(&self, purpose: &str, index: u64) -> u64 {
        derive_seed(self.config.seed, purpose, index)
    }

    fn batch(&self, with_positives: bool, seed: u64) -> Result<Batch, TrainError> {
        let batch = Batch::draw(
            self.training,
            self.images,
            self.config,
            with_positives,
            seed,
        );
        Ok(batch?)
    }

    /// What a step learns from.
    fn batch_of(&self, step: usize) -> Result<Batch, TrainError> {
        self.batch(
            self.config.triplet_weight > 0.0,
            self.seed("teacher batch", step as u64),
        )
    }

    /// Mean and deviation of what the pretrained network says, over some batches.
    fn target_scale(&self, observer: &mut dyn Observer) -> Result<Option<TargetScale>, TrainError> {
        let Some(tutor) = self.tutor else {
            return Ok(None);
        };
        observer.start("statistics of the pretrained network", TARGET_BATCHES);
        let mut rows = Vec::new();
        for index in 0..TARGET_BATCHES {
            if observer.stop_requested() {
                return Err(TrainError::Stopped);
            }
            let batch = self.batch(false, self.seed("target statistics", index))?;
            rows.push(tutor.say(&batch.cuts)?);
            observer.advance(index + 1, None);
        }
        observer.finish();
        let scale = TargetScale::of(&rows);
        if scale.deviation.iter().all(|&deviation| deviation < FLAT) {
            observer.warn("the pretrained network says the same about every patch: there is nothing to learn of these images");
        }
        Ok(Some(scale))
    }

    /// Untrained networks.
    fn begin(&self) -> Result<State, TrainError> {
        let seed = self.seed("teacher weights", 0);
        let network = self
            .config
            .network
            .with_weights(self.config.network.random_weights(seed), &self.device);
        let decoder = match self.tutor {
            Some(tutor) => Some(Decoder::init(
                tutor.targets()?,
                self.seed("decoder weights", 0),
                &self.device,
            )),
            None => None,
        };
        Ok(State {
            learner: Learner {
                network: NormalisedNetwork { network },
                decoder,
            },
            optimizer: self.config.optimizer.init(self.config.weight_decay),
            history: Vec::with_capacity(self.config.steps.min(1 << 20)),
        })
    }

    /// One optimiser step.
    fn step(&self, mut state: State, batch: &Batch) -> Result<State, TrainError> {
        let config = self.config;
        let step = state.history.len();
        let (loss, losses) = self.losses(&state.learner, batch)?;
        if !losses.total.is_finite() {
            return Err(self.diverged(step, losses.total));
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &state.learner);
        let rate = one_cycle(step, config.steps, config.learning_rate);
        state.learner = state.optimizer.step(rate, state.learner, gradients);
        state.history.push(losses);
        Ok(state)
    }

    fn diverged(&self, step: usize, loss: f64) -> TrainError {
        TrainError::Diverged {
            what: "the teacher".to_string(),
            step,
            loss,
            learning_rate: self.config.learning_rate,
        }
    }

    /// The loss of a batch, and its terms as numbers.
    fn losses(
        &self,
        learner: &Learner,
        batch: &Batch,
    ) -> Result<(Tensor<1>, StepLosses), TrainError> {
        let config = self.config;
        let stride = config.network.receptive_field.pooling_stride();
        let input = batch.input(&self.device);
        let map = if config.batch_norm {
            learner.network.grid(input, stride)
        } else {
            learner.network.network.grid(input, stride)
        };
        let descriptors = batch.split(map);
        let mut losses = StepLosses::default();
        let mut total: Option<Tensor<1>> = None;
        let mut add = |term: Tensor<1>, weight: f64| {
            let number = f64::from(term.clone().inner().into_scalar::<f32>());
            let weighted = term.mul_scalar(weight);
            total = Some(match total.take() {
                Some(sum) => sum + weighted,
                None => weighted,
            });
            number
        };
        if let (Some(tutor), Some(scale), Some(decoder)) =
            (self.tutor, &self.scale, &learner.decoder)
            && config.distillation_weight > 0.0
        {
            let said = tutor.say(&batch.cuts)?;
            let decoded = decoder.apply(descriptors.anchors.clone());
            // Constants beside the tracked descriptors.
            let constant =
                |targets: Tensor<2>| Tensor::from_data(targets.into_data(), &self.device);
            let term = match tutor.form {
                Distillation::Logits { temperature, .. } => {
                    divergence(decoded, constant(said), *temperature)
                }
                Distillation::Features { .. } | Distillation::Dense { .. } => {
                    squared_error(decoded, constant(scale.apply(said)))
                }
            };
            losses.distillation = Some(add(term, config.distillation_weight));
        }
        if let Some(positives) = descriptors.positives {
            let scale = descriptor_scale(config);
            let anchors = descriptors.anchors.clone().mul_scalar(scale);
            let positives = positives.mul_scalar(scale);
            let negatives = next_image(anchors.clone(), descriptors.positions);
            let metric = triplet(anchors, positives, negatives, config.margin);
            losses.triplet = Some(add(metric.loss, config.triplet_weight));
        }
        if config.compactness_weight > 0.0 {
            let term = compactness(descriptors.anchors, config.compactness);
            losses.compactness = Some(add(term, config.compactness_weight));
        }
        let Some(total) = total else {
            unreachable!("a checked configuration has a loss")
        };
        losses.total = f64::from(total.clone().inner().into_scalar::<f32>());
        Ok((total, losses))
    }

    /// Folds, rounds and measures what was learned.
    fn finish(
        &self,
        state: State,
        backbone: Option<&dyn Backbone>,
        provenance: &Provenance,
        held_out: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<Teacher, TrainError> {
        let config = self.config;
        let plain = device::chosen();
        let trained = &state.learner.network.network;
        let network = NormalisedNetwork {
            network: config.network.with_weights(trained.weights(), &plain),
        };
        let weights = if config.batch_norm {
            let stride = config.network.receptive_field.pooling_stride();
            let mut moments = HiddenMoments::default();
            for index in 0..NORM_BATCHES {
                if observer.stop_requested() {
                    return Err(TrainError::Stopped);
                }
                let batch = self.batch(false, self.seed("batch norm statistics", index))?;
                network.observe(batch.input(&plain), stride, &mut moments);
            }
            network.fold(&moments)
        } else {
            network.network.weights()
        };
        let scale = descriptor_scale(config);
        let network = rounded_to_half(config, scaled(weights, scale), &plain);
        let decoding = match (&self.scale, &state.learner.decoder) {
            (Some(scale), Some(decoder)) => Some(Decoding {
                decoder: rounded_decoder(decoder, descriptor_scale(config), &plain),
                scale: scale.clone(),
            }),
            _ => None,
        };
        let all = network.weights();
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !all
            .iter()
            .all(|(weight, bias)| finite(weight) && finite(bias))
        {
            return Err(self.diverged(config.steps - 1, f64::NAN));
        }
        let measured = measure(
            &network,
            self.tutor.zip(decoding.as_ref()),
            config,
            self.images,
            held_out,
            &plain,
            observer,
        )?;
        Ok(Teacher {
            network,
            manifest: TeacherManifest {
                header: FileHeader::new(KIND),
                config: config.clone(),
                images: self.training.len(),
                data: provenance.data.clone(),
                fingerprint: provenance.fingerprint.clone(),
                tutor: backbone.map(|backbone| TutorManifest {
                    network: backbone.config(),
                    fingerprint: provenance.backbone_fingerprint.clone(),
                }),
                targets: decoding
                    .as_ref()
                    .map_or(0, |decoding| decoding.scale.mean.len()),
                final_loss: mean_of_last_tenth(&state.history),
                held_out: measured.map(|(held_out, _)| held_out),
            },
            decoding,
            history: state.history,
        })
    }
}

/// What the network's output is multiplied by to become a descriptor: descriptors then begin with a squared length of
/// about δ, the margin of the triplet loss. Distances that begin far above it teach the network only to shrink, until
/// all triplets collapse; and weights small enough by themselves would be thrown about by the optimiser's steps,
/// whose size does not depend on them.
fn descriptor_scale(config: &TeacherConfig) -> f32 {
    (config.margin / DESCRIPTOR_CHANNELS as f64).sqrt() as f32
}

/// Numbers as their file will hold them, so that nothing changes by saving.
fn round(values: Vec<f32>) -> Vec<f32> {
    values
        .into_iter()
        .map(|value| half::f16::from_f32(value).to_f32())
        .collect()
}

fn rounded_to_half(
    config: &TeacherConfig,
    weights: Vec<(Vec<f32>, Vec<f32>)>,
    device: &Device,
) -> PatchNetwork {
    let weights = weights
        .into_iter()
        .map(|(weight, bias)| (round(weight), round(bias)));
    config.network.with_weights(weights, device)
}

/// A network's weights with the scale of its descriptors put into the last layer.
fn scaled(mut weights: Vec<(Vec<f32>, Vec<f32>)>, scale: f32) -> Vec<(Vec<f32>, Vec<f32>)> {
    if let Some((weight, bias)) = weights.last_mut() {
        let values = weight.iter_mut().chain(bias);
        values.for_each(|value| *value *= scale);
    }
    weights
}

/// The decoder of descriptors that were multiplied by `scale`.
fn rounded_decoder(decoder: &Decoder, scale: f32, device: &Device) -> Decoder {
    let [weight, bias] = decoder.weights();
    let weight = weight.into_iter().map(|value| value / scale).collect();
    Decoder::with_weights(round(weight), round(bias), device)
}
