//! The two networks in training, and one step of each method.

use pupilla_nn::batch_norm::Statistics;
use pupilla_nn::{Optimizer, OptimizerState, Tensor};

use pupilla_files::weight_file::NamedTensor;

use super::Method;
use super::config::Settings;
use super::method::Pair;
use super::network::{Network, layout};
use crate::random::{derive_seed, normals};
use crate::training::checkpoints::{optimizer_export, optimizer_layout};

/// Two networks (the first reads images, the second makes images) and the state of their optimisers.
#[derive(Clone)]
pub(super) struct Learner {
    pair: Pair,
    method: Method,
    side: usize,
    seed: u64,
}

impl Learner {
    /// Before the first step.
    pub fn begin(settings: &Settings) -> Self {
        let method = settings.method.any();
        let [reading, making] = method.plans(settings.side());
        let init = |plan, index| {
            let seed = derive_seed(settings.seed, "network weights", index);
            Network::init(plan, method.beginning(), seed)
        };
        Self::with_networks([init(&reading, 0), init(&making, 1)], settings)
    }

    /// The same with other networks.
    fn with_networks(networks: [Network; 2], settings: &Settings) -> Self {
        let (adam, decay) = (settings.method.any().adam(), settings.training.weight_decay);
        let optimizers = networks.each_ref().map(|network| {
            OptimizerState::new(Optimizer::Adam, adam, decay, &network.graph.parameters())
        });
        Self {
            pair: Pair {
                networks,
                optimizers,
            },
            method: settings.method,
            side: settings.side(),
            seed: settings.seed,
        }
    }

    /// The two networks.
    pub fn networks(&self) -> &[Network; 2] {
        &self.pair.networks
    }

    /// Names and shapes of everything that a step changes: the networks' arrays, then the optimisers' states.
    pub fn layout(&self) -> Vec<(String, Vec<usize>)> {
        let names = self.method.any().names().into_iter();
        let networks = names.clone().zip(&self.pair.networks);
        let networks = networks.flat_map(|(name, network)| layout(name, &network.graph));
        let optimizers = names.zip(&self.pair.optimizers);
        let optimizers = optimizers.flat_map(|(name, state)| optimizer_layout(name, state));
        networks.chain(optimizers).collect()
    }

    /// The same with its numbers, to be written.
    pub fn export(&self) -> Vec<NamedTensor> {
        let names = self.method.any().names().into_iter();
        let networks = names.clone().zip(&self.pair.networks);
        let networks = networks.flat_map(|(name, network)| network.export(name));
        let optimizers = names.zip(&self.pair.optimizers);
        let optimizers = optimizers.flat_map(|(name, state)| optimizer_export(name, state));
        networks.chain(optimizers).collect()
    }

    /// The learner after `steps` steps, with the arrays of its [`layout`](Self::layout); `None` if they do not fit.
    pub fn restored(self, steps: u64, arrays: Vec<Vec<f32>>) -> Option<Self> {
        let mut arrays = arrays.into_iter();
        let networks = self
            .pair
            .networks
            .map(|network| Network::with_arrays(network.graph, &mut arrays));
        let [first, second] = self.pair.optimizers;
        let optimizers = [
            first.restored(steps, &mut arrays)?,
            second.restored(steps, &mut arrays)?,
        ];
        let pair = Pair {
            networks,
            optimizers,
        };
        Some(Self { pair, ..self })
    }

    fn images(&self, batch: &[f32]) -> Tensor {
        let count = batch.len() / (3 * self.side * self.side);
        Tensor::new(batch.to_vec(), [count, 3, self.side, self.side])
    }

    /// Codes for a step, drawn from the prior.
    fn noise(&self, purpose: &str, batch: usize, step: usize) -> Tensor {
        let latent = self.method.any().latent();
        let seed = derive_seed(self.seed, purpose, step as u64);
        Tensor::new(normals(batch * latent, seed), [batch, latent, 1, 1])
    }

    /// One step on a batch, `[batch, 3, side, side]`; the losses before it, one for each of the method's terms.
    pub fn step(&mut self, batch: &[f32], step: usize, rate: f64) -> Vec<f64> {
        let images = self.images(batch);
        let method = self.method;
        let noise = match method.any().noise() {
            Some(purpose) => self.noise(purpose, images.shape()[0], step),
            None => Tensor::zeros([0, 0, 1, 1]),
        };
        method.any().step(&mut self.pair, &images, &noise, rate)
    }

    /// Takes a batch's statistics for batch norm to be folded with; nothing without it.
    pub fn observe(&self, batch: &[f32], index: usize, statistics: &mut [Statistics; 2]) {
        let [discriminator, generator] = &self.pair.networks;
        let images = self.images(batch);
        let codes = self.noise("observed codes", images.shape()[0], index);
        let made = generator.observe(&codes, &mut statistics[1]);
        // As in training: real images and made ones by themselves.
        discriminator.observe(&images, &mut statistics[0]);
        discriminator.observe(&made, &mut statistics[0]);
    }

    /// The trained networks, batch norm folded in.
    pub fn folded(&self, statistics: &[Statistics; 2]) -> [Network; 2] {
        [0, 1].map(|index: usize| self.pair.networks[index].fold(&statistics[index]))
    }
}

/// A discriminator and a generator for images of 16 x 16 and codes of 3 numbers, as `tests/oracle/make_reconstruction.py` has them.
#[cfg(test)]
pub(super) fn small_adversaries(normalised: bool) -> [Vec<super::network::LayerPlan>; 2] {
    use super::network::{Direction, LayerPlan};
    let layer = |direction, channels, [stride, padding]: [usize; 2], slope, normalised| LayerPlan {
        direction,
        channels,
        kernel: 4,
        stride,
        padding,
        slope,
        normalised,
        sigmoid: false,
    };
    let (down, up) = (Direction::Down, Direction::Up);
    let last = layer(up, [4, 3], [2, 1], 1.0, false);
    [
        vec![
            layer(down, [3, 4], [2, 1], 0.2, false),
            layer(down, [4, 6], [2, 1], 0.2, normalised),
            layer(down, [6, 1], [1, 0], 1.0, false),
        ],
        vec![
            layer(up, [3, 6], [1, 0], 0.0, normalised),
            layer(up, [6, 4], [2, 1], 0.0, normalised),
            LayerPlan {
                sigmoid: true,
                ..last
            },
        ],
    ]
}

#[cfg(test)]
mod tests {
    use pupilla_core::image::resize::Resize;
    use pupilla_nn::{Graph, Role};
    use serde::Deserialize;

    use super::super::config::ReconstructionConfig;
    use super::super::method::ReconstructionMethod;
    use super::super::network::{Direction, LayerPlan, graph};
    use super::super::vae::VariationalAutoencoder;
    use super::*;
    use crate::detectors::kind::DetectorKind;

    /// What PyTorch says, see `tests/oracle/make_reconstruction.py`.
    #[derive(Deserialize)]
    struct Oracle {
        steps: Steps,
        variational_steps: SmallNetworks,
        adversarial_steps: SmallNetworks,
    }

    /// Two small networks on batches of 2 images.
    #[derive(Deserialize)]
    struct SmallNetworks {
        /// Of both networks; weight, bias, and the scale of batch norm of each layer.
        arrays: [Vec<Vec<f32>>; 2],
        images: Vec<f32>,
        /// Of each step.
        noise: Vec<Vec<f32>>,
        losses: Vec<[f64; 2]>,
        after: [Vec<Vec<f32>>; 2],
    }

    impl SmallNetworks {
        fn networks(&self, plans: [Vec<LayerPlan>; 2]) -> [Network; 2] {
            let mut arrays = self.arrays.iter();
            plans.map(|plan| {
                let graph = graph(&plan);
                let arrays = in_our_order(&graph, arrays.next().unwrap());
                Network::with_arrays(graph, &mut arrays.into_iter())
            })
        }

        /// Compares a learner's networks with those after the last step.
        fn compare(&self, networks: &[Network; 2]) {
            for (network, after) in networks.iter().zip(&self.after) {
                let arrays = network.parameters.arrays();
                assert_eq!(arrays.len(), after.len());
                let after = in_our_order(&network.graph, after);
                for (found, expected) in arrays.iter().flatten().zip(after.iter().flatten()) {
                    assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
                }
            }
        }
    }

    /// Scales stand before biases.
    fn in_our_order(graph: &Graph, arrays: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut arrays = arrays.to_vec();
        let parameters = graph.parameters().into_iter().enumerate();
        for (index, _) in parameters.filter(|(_, of)| of.role == Role::Scale) {
            arrays.swap(index, index + 1);
        }
        arrays
    }

    fn oracle() -> Oracle {
        let text = include_str!("../../../tests/oracle/reconstruction.json");
        serde_json::from_str(text).unwrap()
    }

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor {
        Tensor::new(values.to_vec(), shape)
    }

    #[derive(Deserialize)]
    struct Steps {
        batch: Vec<f32>,
        down: Vec<f32>,
        up: Vec<f32>,
        down_bias: Vec<f32>,
        up_bias: Vec<f32>,
        losses: Vec<f64>,
        after: Vec<Vec<f32>>,
    }

    #[test]
    fn five_steps_on_the_squared_error_are_those_of_pytorch() {
        let steps = oracle().steps;
        let layer = |direction, channels, slope| LayerPlan {
            direction,
            channels,
            kernel: 4,
            stride: 2,
            padding: 1,
            slope,
            normalised: false,
            sigmoid: false,
        };
        let network = |plan, arrays: [Vec<f32>; 2]| {
            Network::with_arrays(graph(&[plan]), &mut arrays.into_iter())
        };
        let networks = [
            network(
                layer(Direction::Down, [3, 5], 0.2),
                [steps.down, steps.down_bias],
            ),
            network(layer(Direction::Up, [5, 3], 1.0), [steps.up, steps.up_bias]),
        ];
        let config = ReconstructionConfig::new(DetectorKind::SquaredErrorAutoencoder);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(8);
        let mut learner = Learner::with_networks(networks, &settings);
        for (step, expected) in steps.losses.into_iter().enumerate() {
            let losses = learner.step(&steps.batch, step, 1e-2);
            assert!((losses[0] - expected).abs() < 1e-6 * expected.max(1.0));
        }
        let networks = learner.pair.networks.iter();
        let arrays = networks.flat_map(|network| network.parameters.arrays());
        for (found, expected) in arrays.zip(&steps.after) {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
            }
        }
    }

    #[test]
    fn variational_steps_are_those_of_pytorch() {
        let case = oracle().variational_steps;
        let layer = |direction, channels, slope| LayerPlan {
            direction,
            channels,
            kernel: 8,
            stride: 1,
            padding: 0,
            slope,
            normalised: false,
            sigmoid: false,
        };
        let networks = case.networks([
            vec![layer(Direction::Down, [3, 4], 1.0)],
            vec![layer(Direction::Up, [2, 3], 1.0)],
        ]);
        let config = ReconstructionConfig::new(DetectorKind::VariationalAutoencoder);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(8);
        let vae = VariationalAutoencoder {
            kl_weight: 40.0,
            ..Default::default()
        };
        let mut learner = Learner::with_networks(networks, &settings);
        let images = tensor(&case.images, [2, 3, 8, 8]);
        for (noise, expected) in case.noise.iter().zip(&case.losses) {
            let noise = tensor(noise, [2, 2, 1, 1]);
            let losses = vae.step(&mut learner.pair, &images, &noise, 1e-3);
            for (found, expected) in losses.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-5 * expected.max(1.0),
                    "{losses:?}"
                );
            }
        }
        case.compare(&learner.pair.networks);
    }

    #[test]
    fn adversarial_steps_are_those_of_pytorch() {
        let case = oracle().adversarial_steps;
        let networks = case.networks(small_adversaries(true));
        let config = ReconstructionConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(16);
        let mut learner = Learner::with_networks(networks, &settings);
        let images = tensor(&case.images, [2, 3, 16, 16]);
        for (codes, expected) in case.noise.iter().zip(&case.losses) {
            let codes = tensor(codes, [2, 3, 1, 1]);
            let losses = settings
                .method
                .any()
                .step(&mut learner.pair, &images, &codes, 1e-2);
            for (found, expected) in losses.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4 * expected.max(1.0),
                    "{losses:?} and {expected}"
                );
            }
        }
        case.compare(&learner.pair.networks);
    }

    /// On the batch whose statistics it was folded with, a network computes what it did with batch norm.
    #[test]
    fn folded_networks_compute_what_normalised_ones_do() {
        let config = ReconstructionConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(32);
        let mut learner = Learner::begin(&settings);
        // Biases and scales that are not those of the beginning.
        let batch: Vec<f32> = normals(4 * 3 * 32 * 32, 1)
            .iter()
            .map(|x| x.abs())
            .collect();
        for step in 0..2 {
            learner.step(&batch, step, 0.05);
        }
        let inputs = [learner.images(&batch), learner.noise("any", 4, 0)];
        let mut statistics: [Statistics; 2] = Default::default();
        let normalised = [0, 1].map(|index: usize| {
            learner.pair.networks[index].observe(&inputs[index], &mut statistics[index])
        });
        let folded = learner.folded(&statistics);
        let mut plans = settings.method.any().plans(settings.side());
        for layer in plans.iter_mut().flatten() {
            layer.normalised = false;
        }
        for (index, expected) in normalised.iter().enumerate() {
            // What a model file will be read into.
            assert_eq!(folded[index].graph, graph(&plans[index]));
            let found = folded[index].run(&inputs[index]);
            let largest = expected
                .values()
                .iter()
                .fold(0.0f32, |max, x| max.max(x.abs()));
            for (found, expected) in found.values().iter().zip(expected.values()) {
                assert!(
                    (found - expected).abs() < 1e-3 * largest,
                    "{found}, {expected}"
                );
            }
        }
    }
}
