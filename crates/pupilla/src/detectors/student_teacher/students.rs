//! One optimiser step of the students on given targets: where training spends its time.

use std::borrow::Cow;

use pupilla_nn::batch_norm::{self, Statistics};
use pupilla_nn::{Optimizer, OptimizerState, Parameters, Tensor, Wanted};
use rayon::prelude::*;

use crate::device;
use crate::patch_network::{PatchNetwork, PatchNetworkConfig};

/// A student and the state of its optimiser.
#[derive(Clone)]
struct Student {
    parameters: Parameters,
    optimizer: OptimizerState,
    /// What batch norm is folded with.
    statistics: Statistics,
}

/// How students learn from a batch.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    /// How gradients become steps.
    pub optimizer: Optimizer,
    /// Its weight decay.
    pub weight_decay: f64,
    /// Whether hidden maps are normalised over each batch (on the grid alone).
    pub batch_norm: bool,
    /// A position counts in the loss by this power of its error, relative to the mean; 0 is the plain mean.
    pub focus: f64,
}

/// Students in training, on the [chosen](device::choose) device.
#[derive(Clone)]
pub struct StudentsInTraining {
    config: PatchNetworkConfig,
    students: Vec<Student>,
    learning: Learning,
}

impl StudentsInTraining {
    /// One untrained student for each seed. With batch norm, `observe` must see some batches at the end.
    pub fn new(
        config: PatchNetworkConfig,
        seeds: impl IntoIterator<Item = u64>,
        learning: Learning,
    ) -> Self {
        let untrained = fresh_optimizer(config, learning);
        let student = |seed| {
            let parameters = config.init(seed).parameters().clone();
            (parameters, untrained.clone())
        };
        let students = seeds.into_iter().map(student).collect();
        Self::from_parts(config, students, learning)
    }

    /// Students from their parameters and optimisers, as they were before any [`observe`](Self::observe).
    pub(super) fn from_parts(
        config: PatchNetworkConfig,
        students: Vec<(Parameters, OptimizerState)>,
        learning: Learning,
    ) -> Self {
        let student = |(parameters, optimizer)| Student {
            parameters,
            optimizer,
            statistics: Statistics::default(),
        };
        Self {
            config,
            students: students.into_iter().map(student).collect(),
            learning,
        }
    }

    /// Each student's network as it is in training, and its optimiser.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PatchNetwork, &OptimizerState)> {
        self.students.iter().map(|student| {
            let network = self.config.with_parameters(student.parameters.clone());
            (network, &student.optimizer)
        })
    }

    /// How many students there are.
    pub fn len(&self) -> usize {
        self.students.len()
    }

    /// Whether there is no student.
    pub fn is_empty(&self) -> bool {
        self.students.is_empty()
    }

    /// One step of every student towards the same whitened descriptors; their losses before it,
    /// each a mean over positions and components.
    ///
    /// `stride` is 1 for the dense method, else that of the grid. `rate` is the optimiser's learning rate.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`
    /// - `target`: `[batch, channels, (height - p) / stride + 1, (width - p) / stride + 1]`
    ///
    /// # Panics
    /// If the shapes do not fit together.
    pub fn step(&mut self, input: &Tensor, target: &Tensor, stride: usize, rate: f64) -> Vec<f64> {
        let learning = self.learning;
        let graph = self.config.graph(stride, learning.batch_norm);
        let fitted = self.config.fitted(input, stride);
        let step = |student: &mut Student| {
            let tape = graph.record(&student.parameters, &fitted);
            let [_, _, rows, columns] = tape.output().shape();
            let (loss, gradient) = loss(&alike(tape.output(), target), target, learning.focus);
            let gradients = tape.backward(gradient.resized([rows, columns]), Wanted::PARAMETERS);
            let parameters = &mut student.parameters;
            let optimizer = &mut student.optimizer;
            optimizer.step(rate, parameters, &gradients.parameters);
            loss
        };
        if device::is_gpu() {
            self.students.iter_mut().map(step).collect()
        } else {
            // Side by side: a step is too small to keep many threads busy by itself.
            self.students.par_iter_mut().map(step).collect()
        }
    }

    /// Mean loss of all students on a batch, without focus and without a step; as in [`step`](Self::step), batch norm takes the
    /// batch's own statistics.
    ///
    /// # Shapes
    /// As for [`step`](Self::step).
    pub(super) fn loss(&self, input: &Tensor, target: &Tensor, stride: usize) -> f64 {
        let graph = self.config.graph(stride, self.learning.batch_norm);
        let fitted = self.config.fitted(input, stride);
        let loss = |student: &Student| {
            let output = graph.run(&student.parameters, &fitted);
            let errors = position_errors(&alike(&output, target), target);
            mean(&errors)
        };
        let losses: Vec<f64> = if device::is_gpu() {
            self.students.iter().map(loss).collect()
        } else {
            self.students.par_iter().map(loss).collect()
        };
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// Takes a batch's statistics for the networks as they are now: batch norm is folded with the mean over all batches seen.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`
    pub(super) fn observe(&mut self, input: &Tensor, stride: usize) {
        let graph = self.config.graph(stride, true);
        for student in &mut self.students {
            let (_, moments) = graph.observe(&student.parameters, input);
            student.statistics.add(moments);
        }
    }

    /// The networks as they are now, batch norm folded in.
    pub(super) fn into_networks(self) -> Vec<PatchNetwork> {
        let graph = self
            .config
            .graph(self.config.receptive_field.pooling_stride(), true);
        let network = |student: Student| {
            let parameters = if self.learning.batch_norm {
                batch_norm::fold(&graph, &student.parameters, &student.statistics).1
            } else {
                student.parameters
            };
            self.config.with_parameters(parameters)
        };
        self.students.into_iter().map(network).collect()
    }
}

/// The optimiser of a student before its first step.
pub(super) fn fresh_optimizer(config: PatchNetworkConfig, learning: Learning) -> OptimizerState {
    let graph = config.graph(config.receptive_field.pooling_stride(), false);
    let parameters = graph.parameters();
    learning.optimizer.init(learning.weight_decay, &parameters)
}

/// As many rows and columns of an output as its target has.
fn alike<'a>(output: &'a Tensor, target: &Tensor) -> Cow<'a, Tensor> {
    let [_, _, rows, columns] = target.shape();
    if output.shape()[2..] == [rows, columns] {
        Cow::Borrowed(output)
    } else {
        Cow::Owned(output.clone().resized([rows, columns]))
    }
}

/// The mean loss over all positions, and the gradient of the loss in which each position counts by its [weight](weights).
///
/// The paper's loss sums over the components; this one is their mean, and the optimisers are indifferent to the factor.
fn loss(predicted: &Tensor, target: &Tensor, focus: f64) -> (f64, Tensor) {
    let errors = position_errors(predicted, target);
    let [_, channels, ..] = predicted.shape();
    let area = predicted.area();
    let share = 2.0 / (channels * errors.len()) as f32;
    let weights = weights(&errors, focus);
    let mut gradient = Tensor::zeros(predicted.shape());
    gradient
        .values_mut()
        .par_chunks_exact_mut(area)
        .zip(predicted.values().par_chunks_exact(area))
        .zip(target.values().par_chunks_exact(area))
        .enumerate()
        .for_each(|(plane, ((gradient, predicted), target))| {
            let weights = &weights[plane / channels * area..][..area];
            let pairs = predicted.iter().zip(target).zip(weights);
            for (gradient, ((predicted, target), weight)) in gradient.iter_mut().zip(pairs) {
                *gradient = share * weight * (predicted - target);
            }
        });
    (mean(&errors), gradient)
}

/// The mean squared error of each position over its components, `[batch · height · width]`.
///
/// # Panics
/// If the shapes differ.
fn position_errors(predicted: &Tensor, target: &Tensor) -> Vec<f32> {
    assert_eq!(
        predicted.shape(),
        target.shape(),
        "a target for each prediction"
    );
    let [_, channels, ..] = predicted.shape();
    let area = predicted.area();
    let share = 1.0 / channels as f32;
    let mut errors = vec![0.0; predicted.values().len() / channels];
    errors
        .par_chunks_exact_mut(area)
        .zip(predicted.values().par_chunks_exact(channels * area))
        .zip(target.values().par_chunks_exact(channels * area))
        .for_each(|((errors, predicted), target)| {
            let planes = predicted.chunks_exact(area).zip(target.chunks_exact(area));
            for (predicted, target) in planes {
                for (error, (predicted, target)) in
                    errors.iter_mut().zip(predicted.iter().zip(target))
                {
                    *error += (predicted - target) * (predicted - target);
                }
            }
            errors.iter_mut().for_each(|error| *error *= share);
        });
    errors
}

fn mean(errors: &[f32]) -> f64 {
    let sum: f64 = errors.iter().copied().map(f64::from).sum();
    sum / errors.len() as f64
}

/// What each position counts: its error relative to their mean, to the power of `focus`.
///
/// Students learn edges and glitter last, and the errors there decide how large a defect's error must be. With equal weights, the many
/// easy positions dominate the loss. Hard-example mining (Shrivastava et al. 2016) in a smooth form.
fn weights(errors: &[f32], focus: f64) -> Vec<f32> {
    if focus <= 0.0 {
        return vec![1.0; errors.len()];
    }
    let mean = mean(errors).max(f64::from(f32::MIN_POSITIVE)) as f32;
    let power = focus as f32;
    let weight = |error: &f32| match power {
        1.0 => error / mean,
        _ => (error / mean).powf(power),
    };
    errors.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_by_their_error() {
        let errors = [1.0f32, 3.0, 0.0, 4.0];
        assert_eq!(weights(&errors, 0.0), [1.0; 4]);
        assert_eq!(weights(&errors, 1.0), [0.5, 1.5, 0.0, 2.0]);
        assert_eq!(weights(&errors, 2.0), [0.25, 2.25, 0.0, 4.0]);
        assert_eq!(weights(&[0.0; 4], 1.0), [0.0; 4]);
    }

    /// The gradient against finite differences, the weights held as they are.
    #[test]
    fn the_gradient_is_that_of_the_weighted_loss() {
        let shape = [2, 3, 2, 2];
        let numbers = |step: f32| (0..24).map(|at| (at as f32 * step).sin()).collect();
        let (predicted, target): (Vec<f32>, _) = (numbers(0.7), Tensor::new(numbers(1.3), shape));
        for focus in [0.0, 1.0, 1.5] {
            let at = |values: &[f32]| Tensor::new(values.to_vec(), shape);
            let (value, gradient) = loss(&at(&predicted), &target, focus);
            let errors = position_errors(&at(&predicted), &target);
            assert!((value - mean(&errors)).abs() < 1e-12);
            let fixed = weights(&errors, focus);
            let weighted = |values: &[f32]| -> f64 {
                let errors = position_errors(&at(values), &target);
                let terms = errors.iter().zip(&fixed);
                terms
                    .map(|(error, weight)| f64::from(error * weight))
                    .sum::<f64>()
                    / 8.0
            };
            for index in 0..24 {
                let moved = |by: f32| {
                    let mut values = predicted.clone();
                    values[index] += by;
                    weighted(&values)
                };
                let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let found = f64::from(gradient.values()[index]);
                assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
            }
        }
    }
}
