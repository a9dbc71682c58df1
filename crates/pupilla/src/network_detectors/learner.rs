//! The two networks in training, and one step of each method.

use burn::module::Module;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Gradients, Tensor, TensorData, activation};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::architecture::plans;
use super::config::{Method, Settings};
use super::losses::{
    cross_entropy, divergence, reparametrised, squared_error, structural_similarity,
};
use super::network::{Beginning, Network};
use crate::device;
use crate::normalised_network::HiddenMoments;
use crate::optimizer::{Optimizer, adam_of};
use crate::random::{derive_seed, normal};

/// Deviation of a DCGAN's first weights, and its optimisers' β₁ (Radford et al. 2016).
const ADVERSARIAL_DEVIATION: f32 = 0.02;
const ADVERSARIAL_MOMENTUM: f32 = 0.5;

/// Two networks (what looks at images, and what makes them) and the state of their optimisers.
#[derive(Clone)]
pub(super) struct Learner {
    pub networks: [Network; 2],
    pub optimizers: [ModuleOptimizer; 2],
    method: Method,
    side: usize,
    seed: u64,
    /// With automatic differentiation.
    device: Device,
}

/// The names of the losses that a step has.
pub(super) fn terms(method: &Method) -> &'static [&'static str] {
    match method {
        Method::SquaredError { .. } => &["squared error"],
        Method::Similarity { .. } => &["dissimilarity"],
        Method::Variational { .. } => &["squared error", "divergence"],
        Method::Adversarial { .. } => &["generator", "discriminator"],
    }
}

/// The optimisers before the first step.
pub(super) fn optimizers(settings: &Settings) -> [ModuleOptimizer; 2] {
    let weight_decay = settings.training.weight_decay;
    let one = || match settings.method {
        Method::Adversarial { .. } => adam_of(
            &AdamConfig::new()
                .with_beta_1(ADVERSARIAL_MOMENTUM)
                .with_epsilon(1e-8)
                .with_weight_decay(Some(WeightDecayConfig::new(weight_decay as f32))),
        ),
        _ => Optimizer::Adam.init(weight_decay),
    };
    [one(), one()]
}

/// The device that networks are trained on.
pub(super) fn training_device() -> Device {
    device::chosen().autodiff()
}

/// What a generator makes of codes, `[batch, latent, 1, 1]`: images in `[0, 1]`. A sigmoid where the publication has a hyperbolic
/// tangent: the same function on this range.
pub(super) fn generated(generator: &Network, codes: Tensor<4>) -> Tensor<4> {
    activation::sigmoid(generator.forward(codes))
}

/// Standard normal numbers.
pub(super) fn normals(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| normal(&mut random)).collect()
}

/// Mean and logarithm of the variance in what a variational encoder says.
pub(super) fn code_moments(said: Tensor<4>) -> [Tensor<4>; 2] {
    let [batch, numbers, ..] = said.dims();
    let latent = numbers / 2;
    let part = |from: usize| {
        said.clone()
            .slice([0..batch, from..from + latent, 0..1, 0..1])
    };
    [part(0), part(latent)]
}

impl Learner {
    /// Before the first step.
    pub fn begin(settings: &Settings) -> Self {
        let device = training_device();
        let beginning = match settings.method {
            Method::Adversarial { .. } => Beginning::Deviation(ADVERSARIAL_DEVIATION),
            _ => Beginning::FanIn,
        };
        let [looking, making] = plans(&settings.method, settings.side());
        let init = |plan, index| {
            let seed = derive_seed(settings.seed, "network weights", index);
            Network::init(plan, beginning, seed, &device)
        };
        Self::with_parts(
            [init(looking, 0), init(making, 1)],
            optimizers(settings),
            settings,
        )
    }

    /// From networks on the [`training_device`] and their optimisers.
    pub fn with_parts(
        networks: [Network; 2],
        optimizers: [ModuleOptimizer; 2],
        settings: &Settings,
    ) -> Self {
        Self {
            networks,
            optimizers,
            method: settings.method,
            side: settings.side(),
            seed: settings.seed,
            device: training_device(),
        }
    }

    fn tensor(&self, batch: Vec<f32>, device: &Device) -> Tensor<4> {
        let count = batch.len() / (3 * self.side * self.side);
        let shape = [count, 3, self.side, self.side];
        Tensor::from_data(TensorData::new(batch, shape), device)
    }

    /// Codes for a step, drawn from the prior.
    fn noise(&self, purpose: &str, batch: usize, step: usize, device: &Device) -> Tensor<4> {
        let latent = self.method.latent();
        let seed = derive_seed(self.seed, purpose, step as u64);
        let values = normals(batch * latent, seed);
        Tensor::from_data(TensorData::new(values, [batch, latent, 1, 1]), device)
    }

    fn update(&mut self, index: usize, rate: f64, gradients: &mut Gradients) {
        let network = &self.networks[index];
        let of_network = GradientsParams::from_module(gradients, network);
        self.networks[index] = self.optimizers[index].step(rate, network.clone(), of_network);
    }

    /// One step on a batch, `[batch, 3, side, side]`; the losses before it, one for each of the [`terms`].
    pub fn step(&mut self, batch: Vec<f32>, step: usize, rate: f64) -> Vec<f64> {
        let images = self.tensor(batch, &self.device);
        let noise = |purpose| self.noise(purpose, images.dims()[0], step, &self.device);
        match self.method {
            Method::SquaredError { .. } => {
                let made = self.remade(images.clone());
                self.descend(squared_error(made, images), rate)
            }
            Method::Similarity { .. } => {
                let made = self.remade(images.clone());
                let alike = structural_similarity(made, images).mean();
                self.descend(alike.neg() + 1.0, rate)
            }
            Method::Variational { kl_weight, .. } => {
                let noise = noise("noise of codes");
                self.variational_step(images, noise, kl_weight, rate)
            }
            Method::Adversarial { .. } => {
                let codes = noise("codes");
                self.adversarial_step(images, codes, rate)
            }
        }
    }

    /// What an autoencoder makes of images.
    fn remade(&self, images: Tensor<4>) -> Tensor<4> {
        let [encoder, decoder] = &self.networks;
        decoder.forward(encoder.forward(images))
    }

    /// Updates both networks; the loss before it.
    fn descend(&mut self, loss: Tensor<1>, rate: f64) -> Vec<f64> {
        let before = number(loss.clone());
        let mut gradients = loss.backward();
        self.update(0, rate, &mut gradients);
        self.update(1, rate, &mut gradients);
        vec![before]
    }

    /// With standard normal `noise`, `[batch, latent, 1, 1]`.
    fn variational_step(
        &mut self,
        images: Tensor<4>,
        noise: Tensor<4>,
        kl_weight: f64,
        rate: f64,
    ) -> Vec<f64> {
        let [_, channels, height, width] = images.dims();
        let [encoder, decoder] = &self.networks;
        let [mean, log_variance] = code_moments(encoder.forward(images.clone()));
        let code = reparametrised(mean.clone(), log_variance.clone(), noise);
        let error = squared_error(decoder.forward(code), images);
        // Of the summed error and the divergence, both divided by the numbers of an image.
        let share = kl_weight / (channels * height * width) as f64;
        let apart = divergence(mean, log_variance);
        let losses = [error.clone(), apart.clone()].map(number);
        self.descend(error + apart * share, rate);
        losses.into()
    }

    /// The discriminator first, then the generator against it as it is now (Goodfellow et al. 2014, with the loss that does not
    /// saturate), from standard normal `codes`, `[batch, latent, 1, 1]`.
    fn adversarial_step(&mut self, images: Tensor<4>, codes: Tensor<4>, rate: f64) -> Vec<f64> {
        let made = generated(&self.networks[1], codes);
        let discriminator = &self.networks[0];
        let of_real = cross_entropy(discriminator.forward(images), true);
        let of_made = cross_entropy(discriminator.forward(made.clone().detach()), false);
        let loss = of_real + of_made;
        let of_discriminator = number(loss.clone());
        self.update(0, rate, &mut loss.backward());
        // Its own weights' gradients are not needed here.
        let frozen = self.networks[0].clone().no_grad();
        let loss = cross_entropy(frozen.forward(made), true);
        let of_generator = number(loss.clone());
        self.update(1, rate, &mut loss.backward());
        vec![of_generator, of_discriminator]
    }

    /// Takes a batch's statistics for batch norm to be folded with; nothing without it.
    pub fn observe(&self, batch: Vec<f32>, index: usize, moments: &mut [HiddenMoments; 2]) {
        let device = device::chosen();
        let [discriminator, generator] = self.plain();
        let images = self.tensor(batch, &device);
        let codes = self.noise("observed codes", images.dims()[0], index, &device);
        let made = activation::sigmoid(generator.observe(codes, &mut moments[1]));
        // As in training: real images and made ones by themselves.
        discriminator.observe(images, &mut moments[0]);
        discriminator.observe(made, &mut moments[0]);
    }

    /// The networks as they are, without automatic differentiation.
    fn plain(&self) -> [Network; 2] {
        let device = device::chosen();
        [0, 1].map(|index: usize| self.networks[index].on(&device))
    }

    /// The trained networks, batch norm folded in.
    pub fn folded(&self, moments: &[HiddenMoments; 2]) -> [Network; 2] {
        let device = device::chosen();
        [0, 1].map(|index: usize| self.networks[index].fold(&moments[index], &device))
    }
}

/// The value of a loss.
fn number(loss: Tensor<1>) -> f64 {
    f64::from(loss.inner().into_scalar::<f32>())
}

/// A discriminator and a generator for images of 16 x 16 and codes of 3 numbers, as `tests/oracle/make_network_detectors.py` has them.
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
    };
    let (down, up) = (Direction::Down, Direction::Up);
    [
        vec![
            layer(down, [3, 4], [2, 1], 0.2, false),
            layer(down, [4, 6], [2, 1], 0.2, normalised),
            layer(down, [6, 1], [1, 0], 1.0, false),
        ],
        vec![
            layer(up, [3, 6], [1, 0], 0.0, normalised),
            layer(up, [6, 4], [2, 1], 0.0, normalised),
            layer(up, [4, 3], [2, 1], 1.0, false),
        ],
    ]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::config::NetworkDetectorConfig;
    use super::super::network::{Direction, LayerPlan};
    use super::*;
    use crate::detector_kind::DetectorKind;
    use pupilla_core::image::resize::Resize;

    /// What PyTorch says, see `tests/oracle/make_network_detectors.py`.
    #[derive(Deserialize)]
    struct Oracle {
        steps: Steps,
        variational_steps: SmallNetworks,
        adversarial_steps: SmallNetworks,
    }

    /// Two small networks on batches of 2 images.
    #[derive(Deserialize)]
    struct SmallNetworks {
        /// In the order of [`layout`](super::super::network::layout), of both networks.
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
                let arrays = arrays.next().unwrap().clone();
                Network::with_arrays(plan, &mut arrays.into_iter(), &training_device())
            })
        }

        /// Compares a learner's networks with those after the last step.
        fn compare(&self, networks: &[Network; 2]) {
            for (network, after) in networks.iter().zip(&self.after) {
                let arrays = network.arrays();
                assert_eq!(arrays.len(), after.len());
                for (found, expected) in arrays.iter().flatten().zip(after.iter().flatten()) {
                    assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
                }
            }
        }
    }

    fn oracle() -> Oracle {
        let text = include_str!("../../tests/oracle/network_detectors.json");
        serde_json::from_str(text).unwrap()
    }

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), &training_device())
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
        };
        let device = training_device();
        let network = |plan, arrays: [Vec<f32>; 2]| {
            Network::with_arrays(vec![plan], &mut arrays.into_iter(), &device)
        };
        let networks = [
            network(
                layer(Direction::Down, [3, 5], 0.2),
                [steps.down, steps.down_bias],
            ),
            network(layer(Direction::Up, [5, 3], 1.0), [steps.up, steps.up_bias]),
        ];
        let config = NetworkDetectorConfig::new(DetectorKind::SquaredErrorAutoencoder);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(8);
        let mut learner = Learner::with_parts(networks, optimizers(&settings), &settings);
        for (step, expected) in steps.losses.into_iter().enumerate() {
            let losses = learner.step(steps.batch.clone(), step, 1e-2);
            assert!((losses[0] - expected).abs() < 1e-6 * expected.max(1.0));
        }
        let arrays = learner.networks.iter().flat_map(Network::arrays);
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
        };
        let networks = case.networks([
            vec![layer(Direction::Down, [3, 4], 1.0)],
            vec![layer(Direction::Up, [2, 3], 1.0)],
        ]);
        let config = NetworkDetectorConfig::new(DetectorKind::VariationalAutoencoder);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(8);
        let mut learner = Learner::with_parts(networks, optimizers(&settings), &settings);
        let images = tensor(&case.images, [2, 3, 8, 8]);
        for (noise, expected) in case.noise.iter().zip(&case.losses) {
            let noise = tensor(noise, [2, 2, 1, 1]);
            let losses = learner.variational_step(images.clone(), noise, 40.0, 1e-3);
            for (found, expected) in losses.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-5 * expected.max(1.0),
                    "{losses:?}"
                );
            }
        }
        case.compare(&learner.networks);
    }

    #[test]
    fn adversarial_steps_are_those_of_pytorch() {
        let case = oracle().adversarial_steps;
        let networks = case.networks(small_adversaries(true));
        let config = NetworkDetectorConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(16);
        let mut learner = Learner::with_parts(networks, optimizers(&settings), &settings);
        let images = tensor(&case.images, [2, 3, 16, 16]);
        for (codes, expected) in case.noise.iter().zip(&case.losses) {
            let codes = tensor(codes, [2, 3, 1, 1]);
            let losses = learner.adversarial_step(images.clone(), codes, 1e-2);
            for (found, expected) in losses.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4 * expected.max(1.0),
                    "{losses:?} and {expected}"
                );
            }
        }
        case.compare(&learner.networks);
    }

    /// On the batch whose statistics it was folded with, a network computes what it did with batch norm.
    #[test]
    fn folded_networks_compute_what_normalised_ones_do() {
        let config = NetworkDetectorConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(32);
        let mut learner = Learner::begin(&settings);
        // Biases and scales that are not those of the beginning.
        let batch: Vec<f32> = normals(4 * 3 * 32 * 32, 1)
            .iter()
            .map(|x| x.abs())
            .collect();
        for step in 0..2 {
            learner.step(batch.clone(), step, 0.05);
        }
        let device = device::cpu();
        let plain = learner.plain();
        let inputs = [
            learner.tensor(batch, &device),
            learner.noise("any", 4, 0, &device),
        ];
        let mut moments: [HiddenMoments; 2] = Default::default();
        let normalised = [0, 1].map(|index: usize| {
            let output = plain[index].observe(inputs[index].clone(), &mut moments[index]);
            crate::patch_network::values(output)
        });
        let folded = learner.folded(&moments);
        for (index, expected) in normalised.iter().enumerate() {
            let found = crate::patch_network::values(folded[index].forward(inputs[index].clone()));
            let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-3 * largest,
                    "{found}, {expected}"
                );
            }
        }
    }
}
