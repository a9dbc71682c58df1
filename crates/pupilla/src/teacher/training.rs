//! The training loop of a teacher.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::{Observer, for_each};
use pupilla_nn::batch_norm::{Statistics, fold};
use pupilla_nn::{Graph, OptimizerState, Parameters, Tensor, Wanted};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use pupilla_files::weight_file::FileHeader;

use super::Provenance;
use super::batch::Batch;
use super::checkpoint::identity;
use super::distillation::Tutor;
use super::history::StepLosses;
use super::loss::{Loss, compactness, divergence, squared_error, triplet};
use super::measure::measure;
use crate::backbone::Backbone;
use crate::error::TrainError;
use crate::features::teacher::{
    Decoder, Decoding, Distillation, KIND, TargetScale, Teacher, TeacherConfig, TeacherManifest,
    TutorManifest,
};
use crate::patch_network::{DESCRIPTOR_CHANNELS, PatchNetwork};
use crate::random::derive_seed;
use crate::training::checkpoints::Checkpoints;
use crate::training::schedule::one_cycle;
use crate::training::{Trainee, mean_of_last_tenth, stopped};

/// Batches that give the mean and deviation of the distillation's targets.
const TARGET_BATCHES: usize = 16;

/// A final loss of this many times the first loss has nothing to do with the images any more. The distance from 0 counts, because a
/// signed compactness loss begins below 0.
const GONE_ASTRAY: f64 = 10.0;

/// Descriptors whose dimensions correlate as much as this are one number, whatever the loss says.
const COLLAPSED: f64 = 0.98;

/// A target that deviates less than this from its mean carries no information.
const FLAT: f32 = 1e-6;

/// Batches that give the statistics with which batch norm is folded.
const NORM_BATCHES: u64 = 64;

/// Everything that a step changes.
pub(super) struct State {
    /// The network's, as it is trained.
    pub network: Parameters,
    /// What the distillation needs, if there is one; a step changes the decoder alone.
    pub decoding: Option<Decoding>,
    /// The network's and the decoder's.
    pub optimizers: [OptimizerState; 2],
    /// One entry a step.
    pub history: Vec<StepLosses>,
}

/// The optimisers of network and decoder before the first step; without targets the second has nothing to do.
pub(super) fn fresh_optimizers(config: &TeacherConfig, targets: usize) -> [OptimizerState; 2] {
    let decoder = match targets {
        0 => Graph::default(),
        _ => Decoder::graph(targets),
    };
    [training_graph(config), decoder].map(|graph| {
        let parameters = graph.parameters();
        config.optimizer.init(config.weight_decay, &parameters)
    })
}

/// The network as it is trained.
fn training_graph(config: &TeacherConfig) -> Graph {
    let stride = config.network.receptive_field.pooling_stride();
    config.network.graph(stride, config.batch_norm)
}

/// The result of [`train`]: the teacher, and the losses of every step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainedTeacher {
    /// The teacher.
    pub teacher: Teacher,
    /// One entry a step.
    pub history: Vec<StepLosses>,
}

/// Trains a teacher on any images, towards a pretrained network if the configuration has a distillation.
///
/// With `checkpoints` the run can be killed at any time and go on later; it ends with the same bytes.
///
/// # Errors
/// If a setting is out of range, there are fewer than two images to train on, the pretrained network is missing or lacks the features
/// to learn, an image cannot be read, the loss is not finite, a checkpoint cannot be written or is another run's, or the observer asks
/// to stop.
pub fn train(
    config: &TeacherConfig,
    images: &dyn ImageSource,
    backbone: Option<&dyn Backbone>,
    provenance: &Provenance,
    checkpoints: Option<&Checkpoints>,
    observer: &mut dyn Observer,
) -> Result<TrainedTeacher, TrainError> {
    config.check()?;
    let tutor = tutor(config, backbone)?;
    let (held_out, training) = held_out_images(config, images.len());
    if training.len() < 2 {
        return Err(TrainError::TooFewImages {
            purpose: "training",
            found: training.len(),
            needed: 2,
        });
    }
    let identity = identity(config, provenance);
    let resumed = match checkpoints {
        Some(checkpoints) => checkpoints.resume(config, &identity, observer)?,
        None => None,
    };
    let lesson = Lesson {
        config,
        images,
        training: &training,
        tutor: tutor.as_ref(),
        graph: training_graph(config),
    };
    let state = match resumed {
        Some(state) => state,
        None => lesson.begin(observer)?,
    };
    let mut run = Run {
        lesson: &lesson,
        state,
        identity,
        checkpoints,
    };
    crate::training::train(&mut run, &|step| lesson.batch_of(step), observer)?;
    // The last step, too, is safe before the teacher is measured.
    if let Some(checkpoints) = checkpoints
        && !config.steps.is_multiple_of(checkpoints.every)
    {
        run.save(checkpoints)?;
    }
    let history = &run.state.history;
    let last = mean_of_last_tenth(history.iter().map(|losses| losses.total));
    if let Some(first) = history.first()
        && last > GONE_ASTRAY * first.total.abs()
    {
        observer.warn(&format!(
            "the loss rose from {:.4} to {last:.4}: this teacher is of no use, lower the learning rate (now {})",
            first.total, config.learning_rate
        ));
    }
    let finished = lesson.finish(&run.state, backbone, provenance, &held_out, observer);
    let teacher = finished.map_err(|error| stopped(error, &run))?;
    if let Some(held_out) = &teacher.manifest().held_out
        && held_out.mean_correlation > COLLAPSED
    {
        observer.warn(&format!(
            "all numbers of a descriptor say the same (mean correlation {:.3}): this teacher is of no use",
            held_out.mean_correlation
        ));
    }
    Ok(TrainedTeacher {
        teacher,
        history: run.state.history,
    })
}

/// The indices of the held-out images, and of the training images, of `count` images.
pub fn held_out_images(config: &TeacherConfig, count: usize) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..count).collect();
    let seed = derive_seed(config.seed, "held-out images", 0);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let training = order.split_off((count as f64 * config.held_out) as usize);
    (order, training)
}

/// The pretrained network and the features of it to learn, if the configuration has a distillation.
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

/// A run and where it is kept.
struct Run<'a> {
    lesson: &'a Lesson<'a>,
    state: State,
    identity: String,
    checkpoints: Option<&'a Checkpoints>,
}

impl Trainee for Run<'_> {
    type Batch = Batch;

    fn stage(&self) -> String {
        let field = self.lesson.config.network.receptive_field;
        format!("training the teacher p={field}")
    }

    fn steps(&self) -> usize {
        self.lesson.config.steps
    }

    fn taken(&self) -> usize {
        self.state.history.len()
    }

    fn step(&mut self, batch: &Batch) -> Result<Vec<f64>, TrainError> {
        let total = self.lesson.step(&mut self.state, batch)?;
        Ok(vec![total])
    }

    fn record(&mut self, losses: Vec<f64>, observer: &mut dyn Observer) -> Result<f64, TrainError> {
        let step = self.taken();
        if let Some(losses) = self.state.history.last() {
            observer.losses(step as u64, &losses.named());
        }
        Ok(losses[0])
    }

    fn blame(&self, _: usize) -> (String, f64) {
        self.lesson.blame()
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints
    }

    fn save(&self, checkpoints: &Checkpoints) -> Result<(), TrainError> {
        checkpoints.write(self.lesson.config, &self.state, &self.identity)
    }
}

/// The settings, the images and the pretrained network of a training.
struct Lesson<'a> {
    config: &'a TeacherConfig,
    images: &'a dyn ImageSource,
    training: &'a [usize],
    tutor: Option<&'a Tutor<'a>>,
    graph: Graph,
}

impl Lesson<'_> {
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

    /// The batch of a step.
    fn batch_of(&self, step: usize) -> Result<Batch, TrainError> {
        self.batch(
            self.config.triplet_weight > 0.0,
            self.seed("teacher batch", step as u64),
        )
    }

    /// Mean and deviation of the pretrained network's features, over some batches.
    fn target_scale(
        &self,
        tutor: &Tutor<'_>,
        observer: &mut dyn Observer,
    ) -> Result<TargetScale, TrainError> {
        let stage = "statistics of the pretrained network";
        let mut batches = Vec::new();
        for_each(observer, stage, TARGET_BATCHES, |index| {
            let batch = self.batch(false, self.seed("target statistics", index as u64))?;
            batches.push(tutor.say(&batch.cuts)?);
            Ok::<_, TrainError>(())
        })?;
        let scale = TargetScale::of(&batches);
        if scale.deviation.iter().all(|&deviation| deviation < FLAT) {
            observer.warn("the pretrained network says the same about every patch: there is nothing to learn of these images");
        }
        Ok(scale)
    }

    /// Untrained networks.
    fn begin(&self, observer: &mut dyn Observer) -> Result<State, TrainError> {
        let decoding = match self.tutor {
            Some(tutor) => Some(Decoding {
                scale: self.target_scale(tutor, observer)?,
                decoder: Decoder::init(tutor.targets()?, self.seed("decoder weights", 0)),
            }),
            None => None,
        };
        let network = self.config.network.init(self.seed("teacher weights", 0));
        Ok(State {
            network: network.parameters().clone(),
            optimizers: fresh_optimizers(
                self.config,
                decoding.as_ref().map_or(0, Decoding::targets),
            ),
            decoding,
            history: Vec::with_capacity(self.config.steps.min(1 << 20)),
        })
    }

    /// One optimiser step; the loss before it.
    fn step(&self, state: &mut State, batch: &Batch) -> Result<f64, TrainError> {
        let config = self.config;
        let step = state.history.len();
        let stride = config.network.receptive_field.pooling_stride();
        let tape = self.graph.record(&state.network, &batch.input);
        let [_, _, rows, columns] = tape.output().shape();
        // A last row and column may be of no whole patch.
        let positions = config.network.positions(&batch.input, stride);
        let map = tape.output().clone().resized(positions);
        let learned = self.learn(state.decoding.as_ref(), batch, &map)?;
        let of_map = learned.of_map.resized([rows, columns]);
        let of_network = tape.backward(of_map, Wanted::PARAMETERS).parameters;
        let rate = one_cycle(step, config.steps, config.learning_rate);
        let [network, decoder] = &mut state.optimizers;
        network.step(rate, &mut state.network, &of_network);
        if let Some(decoding) = &mut state.decoding {
            decoder.step(rate, &mut decoding.decoder.parameters, &learned.of_decoder);
        }
        state.history.push(learned.losses);
        Ok(learned.losses.total)
    }

    /// What diverges, and at which rate.
    fn blame(&self) -> (String, f64) {
        ("the teacher".to_string(), self.config.learning_rate)
    }

    /// The losses of a batch's descriptors, and the gradients of their weighted sum.
    fn learn(
        &self,
        decoding: Option<&Decoding>,
        batch: &Batch,
        map: &Tensor,
    ) -> Result<Learned, TrainError> {
        let config = self.config;
        let anchors = batch.anchors(map);
        let mut learned = Learned {
            losses: StepLosses::default(),
            of_map: Tensor::zeros(map.shape()),
            of_decoder: Vec::new(),
        };
        if let (Some(tutor), Some(Decoding { decoder, scale })) = (self.tutor, decoding) {
            let said = tutor.say(&batch.cuts)?;
            let tape = decoder.graph.record(&decoder.parameters, &anchors);
            let loss = match tutor.form {
                Distillation::Logits { temperature, .. } => {
                    divergence(tape.output(), &said, *temperature)
                }
                Distillation::Features { .. } | Distillation::Dense { .. } => {
                    squared_error(tape.output(), &scale.apply(said))
                }
            };
            learned.losses.distillation = Some(loss.value);
            let loss = loss.weighted(config.distillation_weight);
            let gradients = tape.backward(loss.gradient, Wanted::ALL);
            learned.of_decoder = gradients.parameters;
            learned.add(Loss {
                value: loss.value,
                gradient: gradients.input.unwrap_or_default(),
            });
        }
        if config.triplet_weight > 0.0 {
            let scale = f64::from(descriptor_scale(config)).powi(2);
            let loss = triplet(map, config.margin, scale);
            learned.losses.triplet = Some(loss.value);
            learned.add(loss.weighted(config.triplet_weight));
        }
        if config.compactness_weight > 0.0 {
            let loss = compactness(&anchors, config.compactness);
            learned.losses.compactness = Some(loss.value);
            learned.add(loss.weighted(config.compactness_weight));
        }
        Ok(learned)
    }

    /// Folds batch norm, rounds the weights, and measures the teacher.
    fn finish(
        &self,
        state: &State,
        backbone: Option<&dyn Backbone>,
        provenance: &Provenance,
        held_out: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<Teacher, TrainError> {
        let config = self.config;
        let mut statistics = Statistics::default();
        if config.batch_norm {
            for index in 0..NORM_BATCHES {
                if observer.stop_requested() {
                    return Err(TrainError::Stopped);
                }
                let batch = self.batch(false, self.seed("batch norm statistics", index))?;
                let (_, moments) = self.graph.observe(&state.network, &batch.input);
                statistics.add(moments);
            }
        }
        let (_, folded) = fold(&self.graph, &state.network, &statistics);
        let network = rounded_network(config, folded);
        let parameters = network.parameters().arrays();
        if !parameters.iter().flatten().all(|value| value.is_finite()) {
            let (what, learning_rate) = self.blame();
            return Err(TrainError::Diverged {
                what,
                step: config.steps - 1,
                loss: f64::NAN,
                learning_rate,
            });
        }
        let decoding = state.decoding.as_ref().map(|of| Decoding {
            decoder: rounded_decoder(&of.decoder, descriptor_scale(config)),
            scale: of.scale.clone(),
        });
        let measured = measure(
            &network,
            self.tutor.zip(decoding.as_ref()),
            config,
            self.images,
            held_out,
            observer,
        )?;
        let manifest = TeacherManifest {
            header: FileHeader::new(KIND),
            config: config.clone(),
            images: self.training.len(),
            data: provenance.data.clone(),
            fingerprint: provenance.fingerprint.clone(),
            tutor: backbone.map(|backbone| TutorManifest {
                network: backbone.config(),
                fingerprint: provenance.backbone_fingerprint.clone(),
            }),
            targets: decoding.as_ref().map_or(0, Decoding::targets),
            final_loss: mean_of_last_tenth(state.history.iter().map(|losses| losses.total)),
            held_out: measured.map(|(held_out, _)| held_out),
        };
        Ok(Teacher::new(network, manifest, decoding))
    }
}

/// The losses and the gradients of a step.
struct Learned {
    losses: StepLosses,
    /// The gradient of the descriptors.
    of_map: Tensor,
    /// Those of the decoder's parameters, if there is one.
    of_decoder: Vec<Vec<f32>>,
}

impl Learned {
    /// Adds a loss of the whole map, or of its anchors, which come first.
    fn add(&mut self, loss: Loss) {
        self.losses.total += loss.value;
        let sums = self.of_map.values_mut().iter_mut();
        for (sum, gradient) in sums.zip(loss.gradient.values()) {
            *sum += gradient;
        }
    }
}

/// What the network's output is multiplied by to become a descriptor: descriptors then begin with a squared length of
/// about δ, the margin of the triplet loss. Distances that begin far above it teach the network only to shrink, until
/// all triplets collapse; and weights small enough by themselves would be thrown about by the optimiser's steps,
/// whose size does not depend on them.
fn descriptor_scale(config: &TeacherConfig) -> f32 {
    (config.margin / DESCRIPTOR_CHANNELS as f64).sqrt() as f32
}

/// A number as its file will hold it, so that nothing changes by saving.
fn rounded(value: f32) -> f32 {
    half::f16::from_f32(value).to_f32()
}

/// The network of these parameters, with the scale of its descriptors put into the last layer.
fn rounded_network(config: &TeacherConfig, mut parameters: Parameters) -> PatchNetwork {
    let scale = descriptor_scale(config);
    let arrays = parameters.arrays_mut();
    let last = arrays.len() - 2;
    for (index, array) in arrays.iter_mut().enumerate() {
        let factor = if index >= last { scale } else { 1.0 };
        for value in array {
            *value = rounded(factor * *value);
        }
    }
    config.network.with_parameters(parameters)
}

/// The decoder of descriptors that were multiplied by `scale`.
fn rounded_decoder(decoder: &Decoder, scale: f32) -> Decoder {
    let [weight, bias] = decoder.weights();
    let weight: Vec<f32> = weight.iter().map(|value| rounded(value / scale)).collect();
    Decoder::with_weights(&weight, bias.into_iter().map(rounded).collect())
}
