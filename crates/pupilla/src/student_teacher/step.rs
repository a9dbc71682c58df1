//! One optimiser step of the students on given targets: where training spends its time.

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};

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

/// Students in training, on the CPU.
#[derive(Clone)]
pub struct StudentsInTraining {
    students: Vec<Student>,
    batch_norm: bool,
    /// The device with automatic differentiation.
    device: Device,
}

impl StudentsInTraining {
    /// One untrained student for each seed. With `batch_norm`, hidden maps are
    /// normalised over each batch (on the grid alone), and [`observe`](Self::observe) must see some batches at the end.
    pub fn new(
        config: PatchNetworkConfig,
        seeds: impl IntoIterator<Item = u64>,
        optimizer: Optimizer,
        weight_decay: f64,
        batch_norm: bool,
    ) -> Self {
        let device = device::cpu().autodiff();
        Self {
            students: seeds
                .into_iter()
                .map(|seed| Student {
                    network: NormalisedNetwork {
                        network: config.init(seed, &device),
                    },
                    optimizer: optimizer.init(weight_decay),
                    moments: HiddenMoments::default(),
                })
                .collect(),
            batch_norm,
            device,
        }
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
        let batch_norm = self.batch_norm;
        // Side by side: a step is too small to keep many threads busy by itself.
        self.students
            .par_iter_mut()
            .map(|student| {
                let predicted = if batch_norm {
                    student.network.grid(input.clone(), stride)
                } else {
                    descriptors(&student.network.network, input.clone(), stride)
                };
                let loss = (predicted - target.clone()).powi_scalar(2).mean();
                let value = f64::from(loss.clone().inner().into_scalar::<f32>());
                // The paper's loss sums over the components; the optimisers are indifferent to the factor.
                let gradients = GradientsParams::from_grads(loss.backward(), &student.network);
                student.network = student
                    .optimizer
                    .step(rate, student.network.clone(), gradients);
                value
            })
            .collect()
    }

    /// Takes a batch's statistics for the networks as they are now: batch norm is folded with the mean over all batches seen.
    ///
    /// # Shapes
    /// - `input`: `[batch, 3, height, width]`
    pub(super) fn observe(&mut self, input: Planes, stride: usize) {
        let plain = device::cpu();
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
        let device = device::cpu();
        self.students
            .into_iter()
            .map(|student| {
                let network = &student.network.network;
                let weights = if self.batch_norm {
                    student.network.fold(&student.moments)
                } else {
                    network.weights()
                };
                network.config().with_weights(weights, &device)
            })
            .collect()
    }
}
