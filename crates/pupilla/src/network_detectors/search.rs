//! AnoGAN's inspection: the code whose image is most like the one at hand (Schlegl et al. 2017).

use pupilla_nn::{Optimizer, Parameter, Parameters, Role, Tensor};

use super::config::Method;
use super::learner::{normals, through};
use super::losses::{absolute_error, zipped};
use super::network::Network;
use crate::random::derive_seed;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    latent: usize,
    steps: usize,
    rate: f64,
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
                rate: search_rate,
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
    /// `[1, 3, side, side]` in and out.
    pub fn nearest(&self, networks: &[Network; 2], image: &Tensor) -> Tensor {
        self.nearest_from(normals(self.latent, self.seed), networks, image)
    }

    /// The same, from a code.
    fn nearest_from(
        &self,
        code: Vec<f32>,
        [discriminator, generator]: &[Network; 2],
        image: &Tensor,
    ) -> Tensor {
        let discriminator = discriminator.features();
        let features = discriminator.run(image);
        let shape = vec![self.latent];
        let role = Role::Bias;
        let mut adam = Optimizer::Adam.init(0.0, &[Parameter { role, shape }]);
        let mut code = Parameters::new(vec![code]);
        let mut best: Option<(f64, Tensor)> = None;
        for step in 0..=self.steps {
            let codes = Tensor::new(code.arrays()[0].clone(), [1, self.latent, 1, 1]);
            let made = generator.record(&codes);
            let seen = discriminator.record(made.output());
            let (apart, of_made) = absolute_error(made.output(), image, 1.0 - self.feature_weight);
            let (different, of_seen) =
                absolute_error(seen.output(), &features, self.feature_weight);
            let now = apart + different;
            // A loss that is no number is never the best: the caller sees the first image, and finds out.
            if best.as_ref().is_none_or(|(least, _)| now < *least) {
                best = Some((now, made.output().clone()));
            }
            if step == self.steps {
                break;
            }
            let of_made = zipped(&of_made, &through(seen, of_seen), |x, y| x + y);
            let of_code = through(made, of_made);
            adam.step(self.rate, &mut code, &[of_code.into_values()]);
        }
        best.map_or_else(|| image.clone(), |(_, made)| made)
    }
}

#[cfg(test)]
mod tests {
    use pupilla_core::image::resize::Resize;

    use super::super::config::NetworkDetectorConfig;
    use super::super::learner::{Learner, small_adversaries};
    use super::super::network::graph;
    use super::*;
    use crate::detector_kind::DetectorKind;

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
        let image = networks[1].run(&Tensor::new(code, shape));
        let search = |steps| {
            let search = Search {
                steps,
                rate: 1.0,
                ..Search::of(&settings.method, 0).unwrap()
            };
            absolute_error(&search.nearest(&networks, &image), &image, 1.0).0
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
            Network::with_arrays(graph(&plan), &mut arrays.into_iter())
        });
        let search = Search {
            latent: 3,
            steps: 20,
            rate: 0.05,
            feature_weight: 0.3,
            seed: 0,
        };
        let image = Tensor::new(case.image, [1, 3, 16, 16]);
        let made = search.nearest_from(case.code, &networks, &image);
        assert_eq!(made.values().len(), case.made.len());
        for (found, expected) in made.values().iter().zip(&case.made) {
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
        }
    }
}
