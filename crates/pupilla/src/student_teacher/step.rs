//! One optimiser step of the students on given targets: where training spends its time.

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Bytes, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::scale::descriptors;
use crate::device;
use crate::normalised_network::{HiddenMoments, NormalisedNetwork};
use crate::optimizer::Optimizer;
use crate::patch_network::{PatchNetwork, PatchNetworkConfig};

/// Plain numbers with a shape, `[batch, channels, height, width]`.
#[derive(Clone, Debug)]
pub struct Planes {
    /// The numbers, row-major.
    pub values: Vec<f32>,
    /// `[batch, channels, height, width]`
    pub shape: [usize; 4],
}

/// A student and the state of its optimiser.
#[derive(Clone)]
struct Student {
    network: NormalisedNetwork,
    optimizer: ModuleOptimizer,
    /// Statistics to fold batch norm with.
    moments: HiddenMoments,
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
    students: Vec<Student>,
    learning: Learning,
    /// The device with automatic differentiation.
    device: Device,
}

impl StudentsInTraining {
    /// One untrained student for each seed. With batch norm, [`observe`](Self::observe) must see some batches at the end.
    pub fn new(
        config: PatchNetworkConfig,
        seeds: impl IntoIterator<Item = u64>,
        learning: Learning,
    ) -> Self {
        let device = device::chosen().autodiff();
        Self {
            students: seeds
                .into_iter()
                .map(|seed| Student {
                    network: NormalisedNetwork {
                        network: config.init(seed, &device),
                    },
                    optimizer: learning.optimizer.init(learning.weight_decay),
                    moments: HiddenMoments::default(),
                })
                .collect(),
            learning,
            device,
        }
    }

    /// Each student's network and its optimiser's state as the framework writes it, or why it cannot.
    pub(super) fn parts(&self) -> Vec<(&PatchNetwork, Result<Vec<u8>, String>)> {
        let part = |student: &'_ Student| {
            let optimizer = student.optimizer.into_bytes();
            let optimizer = optimizer.map(|bytes| bytes.to_vec());
            optimizer.map_err(|error| error.to_string())
        };
        self.students
            .iter()
            .map(|student| (&student.network.network, part(student)))
            .collect()
    }

    /// Students from their [`parts`](Self::parts), the networks with automatic differentiation, as they were before any
    /// [`observe`](Self::observe).
    ///
    /// # Errors
    /// Why an optimiser's state cannot be read.
    pub(super) fn from_parts(
        parts: Vec<(PatchNetwork, Vec<u8>)>,
        learning: Learning,
    ) -> Result<Self, String> {
        let student = |(network, optimizer)| {
            let optimizer = learning
                .optimizer
                .init(learning.weight_decay)
                .from_bytes(Bytes::from_bytes_vec(optimizer))
                .map_err(|error| format!("the optimiser's state: {error}"))?;
            Ok(Student {
                network: NormalisedNetwork { network },
                optimizer,
                moments: HiddenMoments::default(),
            })
        };
        Ok(Self {
            students: parts
                .into_iter()
                .map(student)
                .collect::<Result<_, String>>()?,
            learning,
            device: device::chosen().autodiff(),
        })
    }

    /// How many students there are.
    pub fn len(&self) -> usize {
        self.students.len()
    }

    /// Whether there are none.
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
    pub fn step(&mut self, input: Planes, target: Planes, stride: usize, rate: f64) -> Vec<f64> {
        let tensor = |planes: Planes| {
            Tensor::<4>::from_data(TensorData::new(planes.values, planes.shape), &self.device)
        };
        let (input, target) = (tensor(input), tensor(target));
        let learning = self.learning;
        let step = |student: &mut Student| {
            let predicted = if learning.batch_norm {
                student.network.grid(input.clone(), stride)
            } else {
                descriptors(&student.network.network, input.clone(), stride)
            };
            let errors = (predicted - target.clone()).powi_scalar(2).mean_dim(1);
            let fixed = errors.clone().inner();
            let value = fixed.clone().mean();
            let loss = if learning.focus > 0.0 {
                (errors * Tensor::from_inner(focused(fixed, learning.focus))).mean()
            } else {
                errors.mean()
            };
            // The paper's loss sums over the components; the optimisers are indifferent to the factor.
            let gradients = GradientsParams::from_grads(loss.backward(), &student.network);
            student.network = student
                .optimizer
                .step(rate, student.network.clone(), gradients);
            value
        };
        let losses: Vec<Tensor<1>> = if device::is_gpu(&self.device) {
            // A GPU is given the work of all before the first number is waited for.
            self.students.iter_mut().map(step).collect()
        } else {
            // Side by side: a step is too small to keep many threads busy by itself.
            self.students.par_iter_mut().map(step).collect()
        };
        losses
            .into_iter()
            .map(|loss| f64::from(loss.into_scalar::<f32>()))
            .collect()
    }

    /// Mean loss of all students on a batch, without focus and without a step; as in [`step`](Self::step), batch norm takes the
    /// batch's own statistics.
    ///
    /// # Shapes
    /// As for [`step`](Self::step).
    pub(super) fn loss(&self, input: &Planes, target: &Planes, stride: usize) -> f64 {
        let plain = device::chosen();
        let tensor = |planes: &Planes| {
            let data = TensorData::new(planes.values.clone(), planes.shape);
            Tensor::<4>::from_data(data, &plain)
        };
        let (input, target) = (tensor(input), tensor(target));
        let loss = |student: &Student| {
            let network = &student.network.network;
            let network = network.config().with_weights(network.weights(), &plain);
            let predicted = if self.learning.batch_norm {
                NormalisedNetwork { network }.grid(input.clone(), stride)
            } else {
                descriptors(&network, input.clone(), stride)
            };
            let errors = (predicted - target.clone()).powi_scalar(2);
            f64::from(errors.mean().into_scalar::<f32>())
        };
        let losses: Vec<f64> = if device::is_gpu(&plain) {
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
    pub(super) fn observe(&mut self, input: Planes, stride: usize) {
        let plain = device::chosen();
        let input = Tensor::<4>::from_data(TensorData::new(input.values, input.shape), &plain);
        for student in &mut self.students {
            let network = &student.network.network;
            let frozen = NormalisedNetwork {
                network: network.config().with_weights(network.weights(), &plain),
            };
            frozen.observe(input.clone(), stride, &mut student.moments);
        }
    }

    /// The networks as they are now, batch norm folded in, without automatic differentiation.
    pub(super) fn into_networks(self) -> Vec<PatchNetwork> {
        let device = device::chosen();
        self.students
            .into_iter()
            .map(|student| {
                let network = &student.network.network;
                let weights = if self.learning.batch_norm {
                    student.network.fold(&student.moments)
                } else {
                    network.weights()
                };
                network.config().with_weights(weights, &device)
            })
            .collect()
    }
}

/// What each position counts: its error relative to their mean, to the power of `focus`.
///
/// Edges and glitter are learned last, and their errors set the scale for defects: with equal weights the many easy positions
/// keep them waiting. Hard-example mining (Shrivastava et al. 2016) in a smooth form.
fn focused(errors: Tensor<4>, focus: f64) -> Tensor<4> {
    let mean = errors.clone().mean().clamp_min(f32::MIN_POSITIVE);
    (errors / mean.unsqueeze()).powf_scalar(focus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_by_their_error() {
        let device = device::cpu();
        let errors = Tensor::<4>::from_data([[[[1.0f32, 3.0], [0.0, 4.0]]]], &device);
        let weights = |focus| -> Vec<f32> {
            let weights = focused(errors.clone(), focus);
            weights.into_data().try_into_vec().unwrap()
        };
        assert_eq!(weights(1.0), [0.5, 1.5, 0.0, 2.0]);
        assert_eq!(weights(2.0), [0.25, 2.25, 0.0, 4.0]);
        let nothing = focused(errors.zeros_like(), 1.0);
        assert_eq!(nothing.sum().into_scalar::<f32>(), 0.0);
    }
}
