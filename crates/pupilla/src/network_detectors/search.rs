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
    pub fn nearest(&self, networks: &[Network; 2], image: Tensor<4>) -> Tensor<4> {
        self.nearest_from(normals(self.latent, self.seed), networks, image)
    }

    /// The same, from a code.
    fn nearest_from(
        &self,
        mut code: Vec<f32>,
        [discriminator, generator]: &[Network; 2],
        image: Tensor<4>,
    ) -> Tensor<4> {
        let device = training_device();
        let image = Tensor::from_inner(image);
        let features = discriminator.features(image.clone());
        let mut adam = Adam::new(self.latent);
        let mut best: Option<(f32, Tensor<4>)> = None;
        for step in 0..=self.steps {
            let codes = self.tensor(&code, &device);
            let made = generated(generator, codes.clone());
            let apart = (made.clone() - image.clone()).abs().sum();
            let different = discriminator.features(made.clone()) - features.clone();
            let loss =
                apart * (1.0 - self.feature_weight) + different.abs().sum() * self.feature_weight;
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
    networks.map(|network| network.on(&device).no_grad())
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

#[cfg(test)]
mod tests {
    use super::super::config::NetworkDetectorConfig;
    use super::super::learner::{Learner, small_adversaries};
    use super::*;
    use crate::detector_kind::DetectorKind;
    use crate::device;
    use pupilla_core::image::resize::Resize;

    /// Sum of absolute differences.
    fn apart(one: &Tensor<4>, other: &Tensor<4>) -> f32 {
        (one.clone() - other.clone()).abs().sum().into_scalar()
    }

    /// An image that the generator can make is found nearer the longer the search, wherever it begins.
    #[test]
    fn a_longer_search_comes_nearer() {
        let config = NetworkDetectorConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(16);
        let networks = Learner::begin(&settings).folded(&Default::default());
        // Weights of the beginning make nearly grey images: ones that differ need larger codes.
        let code = normals(settings.method.latent(), 5);
        let code: Vec<f32> = code.iter().map(|x| 30.0 * x).collect();
        let shape = [1, settings.method.latent(), 1, 1];
        let code = Tensor::from_data(TensorData::new(code, shape), &device::cpu());
        let image = generated(&networks[1], code);
        let networks = for_search(networks);
        let search = |steps| {
            let search = Search {
                steps,
                rate: 1.0,
                ..Search::of(&settings.method, 0).unwrap()
            };
            apart(&search.nearest(&networks, image.clone()), &image)
        };
        let [none, some, many] = [0, 5, 60].map(search);
        assert!(
            many < 0.7 * none && many <= some && some <= none,
            "{none}, {some}, {many}"
        );
    }

    /// What PyTorch says, see `tests/oracle/make_network_detectors.py`.
    #[derive(serde::Deserialize)]
    struct Oracle {
        search: Searched,
    }

    #[derive(serde::Deserialize)]
    struct Searched {
        arrays: [Vec<Vec<f32>>; 2],
        image: Vec<f32>,
        code: Vec<f32>,
        made: Vec<f32>,
    }

    #[test]
    fn a_search_ends_where_pytorchs_does() {
        let text = include_str!("../../tests/oracle/network_detectors.json");
        let Oracle { search: case } = serde_json::from_str(text).unwrap();
        let mut arrays = case.arrays.into_iter();
        let networks = small_adversaries(false).map(|plan| {
            let arrays = arrays.next().unwrap();
            Network::with_arrays(plan, &mut arrays.into_iter(), &training_device())
        });
        let search = Search {
            latent: 3,
            steps: 20,
            rate: 0.05,
            feature_weight: 0.3,
            seed: 0,
        };
        let data = TensorData::new(case.image, [1, 3, 16, 16]);
        let image = Tensor::from_data(data, &device::cpu());
        let made = values(search.nearest_from(case.code, &for_search(networks), image));
        assert_eq!(made.len(), case.made.len());
        for (found, expected) in made.iter().zip(&case.made) {
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
        }
    }

    #[test]
    fn adam_follows_its_published_rule() {
        let mut adam = Adam::new(1);
        let mut value = [1.0];
        // The first step is the rate whatever the gradient's size.
        adam.step(&mut value, &[123.0], 0.1);
        assert!((value[0] - 0.9).abs() < 1e-6);
        adam.step(&mut value, &[-41.0], 0.1);
        // m = 0.9 · 12.3 − 4.1, v = 0.999 · 15.129 + 1.681, both by their bias.
        let expected = 0.9 - 0.1 * (6.97 / 0.19) / (16.794_871f64 / 0.001_999).sqrt();
        assert!(
            (f64::from(value[0]) - expected).abs() < 1e-5,
            "{}",
            value[0]
        );
    }
}
