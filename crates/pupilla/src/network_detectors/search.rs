//! AnoGAN's inspection: the code whose image is most like the one at hand (Schlegl et al. 2017).

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::config::Method;
use super::learner::{generated, normals, training_device};
use super::network::Network;
use crate::patch_network::values;
use crate::random::derive_seed;

/// Constants of Adam (Kingma and Ba 2015).
const MOMENTA: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    latent: usize,
    steps: usize,
    rate: f32,
    feature_weight: f64,
    /// Seed of the code that every search begins with.
    seed: u64,
}

impl Search {
    /// As the settings say; `None` for a method that does not search.
    pub fn of(method: &Method, seed: u64) -> Option<Self> {
        match *method {
            Method::Adversarial {
                latent,
                search_steps,
                search_rate,
                feature_weight,
            } => Some(Self {
                latent,
                steps: search_steps,
                rate: search_rate as f32,
                feature_weight,
                seed: derive_seed(seed, "first code", 0),
            }),
            _ => None,
        }
    }

    /// The generated image that came nearest, by the sum of absolute differences of pixels and, weighted, of the discriminator's
    /// features. Of all images on the way, not the last one.
    ///
    /// # Shapes
    /// - `image`: `[1, 3, side, side]`, on the plain device
    /// - output: the same
    pub fn nearest(&self, [discriminator, generator]: &[Network; 2], image: Tensor<4>) -> Tensor<4> {
        let device = training_device();
        let image = Tensor::from_inner(image);
        let features = discriminator.features(image.clone());
        let mut code = normals(self.latent, self.seed);
        let mut adam = Adam::new(self.latent);
        let mut best: Option<(f32, Tensor<4>)> = None;
        for step in 0..=self.steps {
            let codes = self.tensor(&code, &device);
            let made = generated(generator, codes.clone());
            let apart = (made.clone() - image.clone()).abs().sum();
            let different = discriminator.features(made.clone()) - features.clone();
            let loss = apart * (1.0 - self.feature_weight)
                + different.abs().sum() * self.feature_weight;
            let now = loss.clone().inner().into_scalar::<f32>();
            // A loss that is no number is never the best: the caller sees the first image, and finds out.
            if best.as_ref().is_none_or(|(least, _)| now < *least) {
                best = Some((now, made.inner()));
            }
            let gradients = loss.backward();
            if step == self.steps {
                break;
            }
            if let Some(gradient) = codes.grad(&gradients) {
                adam.step(&mut code, &values(gradient), self.rate);
            }
        }
        best.map_or_else(|| image.inner(), |(_, made)| made)
    }

    fn tensor(&self, code: &[f32], device: &Device) -> Tensor<4> {
        let data = TensorData::new(code.to_vec(), [1, self.latent, 1, 1]);
        Tensor::<4>::from_data(data, device).require_grad()
    }
}

/// The networks as a search needs them: gradients reach the code through them, and stop there.
pub(crate) fn for_search(networks: [Network; 2]) -> [Network; 2] {
    let device = training_device();
    networks.map(|network| network.to_device(&device).no_grad())
}

/// Adam on a few numbers.
struct Adam {
    moments: [Vec<f32>; 2],
    steps: i32,
}

impl Adam {
    fn new(count: usize) -> Self {
        Self {
            moments: [vec![0.0; count], vec![0.0; count]],
            steps: 0,
        }
    }

    fn step(&mut self, values: &mut [f32], gradient: &[f32], rate: f32) {
        self.steps += 1;
        let bias = MOMENTA.map(|momentum| 1.0 - momentum.powi(self.steps));
        let [first, second] = &mut self.moments;
        let moments = first.iter_mut().zip(second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            *first += (1.0 - MOMENTA[0]) * (gradient - *first);
            *second += (1.0 - MOMENTA[1]) * (gradient * gradient - *second);
            *value -= rate * (*first / bias[0]) / ((*second / bias[1]).sqrt() + EPSILON);
        }
    }
}
