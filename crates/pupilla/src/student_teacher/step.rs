//! One optimiser step of the students on given targets: where training spends its time.

use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};

use super::scale::descriptors;
use crate::device;
use crate::optimizer::adam;
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
    network: PatchNetwork,
    optimizer: ModuleOptimizer,
}

/// Students in training, on the CPU.
#[derive(Clone)]
pub struct StudentsInTraining {
    students: Vec<Student>,
    /// The device with automatic differentiation.
    device: Device,
}

impl StudentsInTraining {
    /// One untrained student for each seed. Adam's weight decay is added to the gradient.
    pub fn new(
        config: PatchNetworkConfig,
        seeds: impl IntoIterator<Item = u64>,
        weight_decay: f64,
    ) -> Self {
        let device = device::cpu().autodiff();
        Self {
            students: seeds
                .into_iter()
                .map(|seed| Student {
                    network: config.init(seed, &device),
                    optimizer: adam(weight_decay),
                })
                .collect(),
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
    /// `stride` is 1 for the dense method, else that of the grid. `rate` is Adam's learning rate.
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
        let mut losses = Vec::with_capacity(self.students.len());
        for student in &mut self.students {
            let predicted = descriptors(&student.network, input.clone(), stride);
            let loss = (predicted - target.clone()).powi_scalar(2).mean();
            losses.push(f64::from(loss.clone().inner().into_scalar::<f32>()));
            // The paper's loss sums over the components; Adam is indifferent to the factor.
            let gradients = GradientsParams::from_grads(loss.backward(), &student.network);
            student.network = student
                .optimizer
                .step(rate, student.network.clone(), gradients);
        }
        losses
    }

    /// The networks as they are now, without automatic differentiation.
    pub(super) fn into_networks(self) -> Vec<PatchNetwork> {
        let device = device::cpu();
        self.students
            .into_iter()
            .map(|Student { network, .. }| {
                network.config().with_weights(network.weights(), &device)
            })
            .collect()
    }
}
