//! AnoGAN (Schlegl et al. 2017): a DCGAN (Radford et al. 2016), and for each image a search for the code whose image is most like it;
//! its score is the absolute residual.

use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_nn::{Adam, Optimizer, Parameter, Parameters, Role, Tape, Tensor, Wanted};
use serde::{Deserialize, Serialize};

use super::config::Training;
use super::losses::{absolute_error, channel_means, cross_entropy, zipped};
use super::method::{Pair, ReconstructionMethod};
use super::network::{Beginning, HALVING, LayerPlan, Network, backwards, down};
use crate::error::{TrainError, check_rules};
use crate::random::{derive_seed, normals};
use crate::training::Length;

/// AnoGAN.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnoGan {
    /// Length of the code (64), 1 to 1024 and at most a quarter of the image's numbers.
    pub latent: usize,
    /// Steps of the search (100; published 500, the tables used 300, recalled, not verified).
    pub search_steps: usize,
    /// Learning rate of the search, by Adam (0.05; the tables used 0.02 for more steps, recalled, not verified).
    pub search_rate: f64,
    /// Weight λ of the discriminator's features in the search, the residual's being 1 − λ (0.1, as published).
    pub feature_weight: f64,
}

/// Most steps of a search: an image takes seconds, not minutes.
const MOST_SEARCH_STEPS: usize = 2000;

/// Deviation of a DCGAN's first weights, and its optimisers' β₁.
const DEVIATION: f32 = 0.02;
const MOMENTUM: f64 = 0.5;

/// Channels of a DCGAN's finest map; each halving doubles them, up to [`MOST_CHANNELS`]. Radford et al. begin with 64 or 128, on a GPU.
const CHANNELS: usize = 32;
const MOST_CHANNELS: usize = 256;

impl Default for AnoGan {
    fn default() -> Self {
        Self {
            latent: 64,
            search_steps: 100,
            search_rate: 0.05,
            feature_weight: 0.1,
        }
    }
}

impl ReconstructionMethod for AnoGan {
    fn latent(&self) -> usize {
        self.latent
    }

    fn usual_side(&self) -> usize {
        64
    }

    fn usual_training(&self) -> Training {
        Training {
            length: Length::Steps(800),
            batch: 16,
            learning_rate: 2e-4,
            weight_decay: 0.0,
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        check_rules([
            (
                "search steps",
                (1..=MOST_SEARCH_STEPS).contains(&self.search_steps),
                format!("1 to {MOST_SEARCH_STEPS}"),
            ),
            (
                "search rate",
                self.search_rate > 0.0 && self.search_rate <= 1.0,
                "above 0, at most 1".to_string(),
            ),
            (
                "feature weight",
                (0.0..=1.0).contains(&self.feature_weight),
                "0 to 1".to_string(),
            ),
        ])
    }

    fn names(&self) -> [&'static str; 2] {
        ["discriminator", "generator"]
    }

    /// Halvings to maps of 4×4, batch norm on all but the discriminator's first layer and both last ones. The generator makes images in
    /// `[0, 1]` by a sigmoid where the publication has a hyperbolic tangent: the same function on this range.
    fn plans(&self, side: usize) -> [Vec<LayerPlan>; 2] {
        let mut discriminator = Vec::new();
        let (mut channels, mut to) = (3, CHANNELS);
        for index in 0..side.ilog2() - 2 {
            discriminator.push(LayerPlan {
                normalised: index > 0,
                ..down([channels, to], HALVING)
            });
            channels = to;
            to = (2 * to).min(MOST_CHANNELS);
        }
        let last = LayerPlan {
            slope: 1.0,
            ..down([channels, 1], [4, 1, 0])
        };
        discriminator.push(last);
        let mut generator = backwards(&discriminator);
        let layers = generator.len();
        for (index, layer) in generator.iter_mut().enumerate() {
            layer.normalised = index + 1 < layers;
            layer.sigmoid = !layer.normalised;
            layer.slope = if layer.normalised { 0.0 } else { 1.0 };
            if index == 0 {
                layer.channels[0] = self.latent;
            }
        }
        [discriminator, generator]
    }

    fn beginning(&self) -> Beginning {
        Beginning::Deviation(DEVIATION)
    }

    fn adam(&self) -> Adam {
        let mut adam = Adam::default();
        adam.momenta[0] = MOMENTUM;
        adam
    }

    fn terms(&self) -> &'static [&'static str] {
        &["generator", "discriminator"]
    }

    fn is_adversarial(&self) -> bool {
        true
    }

    fn noise(&self) -> Option<&'static str> {
        Some("codes")
    }

    /// The discriminator first, then the generator against it as it is now (Goodfellow et al. 2014, with the loss that does not
    /// saturate).
    fn step(&self, pair: &mut Pair, images: &Tensor, codes: &Tensor, rate: f64) -> Vec<f64> {
        let [discriminator, generator] = &mut pair.networks;
        let [first, second] = &mut pair.optimizers;
        let made = generator.record(codes);
        // Batch norm sees real images and made ones by themselves.
        let judge = |images, real| {
            let said = discriminator.record(images);
            let (loss, gradient) = cross_entropy(said.output(), real);
            (loss, said.backward(gradient, Wanted::PARAMETERS))
        };
        let (of_real, mut gradients) = judge(images, true);
        let (of_made, others) = judge(made.output(), false);
        gradients.add(&others);
        first.step(rate, &mut discriminator.parameters, &gradients.parameters);
        let said = discriminator.record(made.output());
        let (of_generator, gradient) = cross_entropy(said.output(), true);
        let gradient = through(said, gradient);
        let gradients = made.backward(gradient, Wanted::PARAMETERS);
        second.step(rate, &mut generator.parameters, &gradients.parameters);
        vec![of_generator, of_real + of_made]
    }

    /// The generated image that came nearest, by the sum of absolute differences of pixels and, weighted, of the discriminator's
    /// features. All images on the way count, not only the last image.
    fn reconstruction(
        &self,
        networks: &[Network; 2],
        image: &Tensor,
        seed: u64,
        stop: &StopFlag,
    ) -> Result<Tensor, Stopped> {
        let code = normals(self.latent, derive_seed(seed, "first code", 0));
        self.nearest_from(code, networks, image, stop)
    }

    fn residual(&self, image: &Tensor, reconstruction: &Tensor) -> Tensor {
        channel_means(&zipped(image, reconstruction, |x, y| (x - y).abs()))
    }
}

/// The gradient of a tape's input alone.
fn through(tape: Box<dyn Tape + '_>, gradient: Tensor) -> Tensor {
    let gradients = tape.backward(gradient, Wanted::INPUT);
    gradients.input.expect("it was wanted")
}

impl AnoGan {
    /// The search from a code.
    fn nearest_from(
        &self,
        code: Vec<f32>,
        [discriminator, generator]: &[Network; 2],
        image: &Tensor,
        stop: &StopFlag,
    ) -> Result<Tensor, Stopped> {
        let discriminator = discriminator.features();
        let features = discriminator.run(image);
        let shape = vec![self.latent];
        let role = Role::Bias;
        let mut adam = Optimizer::Adam.init(0.0, &[Parameter { role, shape }]);
        let mut code = Parameters::new(vec![code]);
        let mut best: Option<(f64, Tensor)> = None;
        for step in 0..=self.search_steps {
            stop.check()?;
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
            if step == self.search_steps {
                break;
            }
            let of_made = zipped(&of_made, &through(seen, of_seen), |x, y| x + y);
            let of_code = through(made, of_made);
            adam.step(self.search_rate, &mut code, &[of_code.into_values()]);
        }
        Ok(best.map_or_else(|| image.clone(), |(_, made)| made))
    }
}

#[cfg(test)]
mod tests {
    use pupilla_core::image::resize::Resize;

    use super::super::config::ReconstructionConfig;
    use super::super::learner::{Learner, small_adversaries};
    use super::super::network::graph;
    use super::*;
    use crate::detectors::kind::DetectorKind;

    /// An image that the generator can make is found nearer the longer the search, wherever it begins.
    #[test]
    fn a_longer_search_comes_nearer() {
        let config = ReconstructionConfig::new(DetectorKind::AnoGan);
        let mut settings = config.unwrap().settings;
        settings.resize = Resize::Square(16);
        let networks = Learner::begin(&settings).folded(&Default::default());
        // Weights of the beginning make nearly grey images: ones that differ need larger codes.
        let code = normals(settings.method.any().latent(), 5);
        let code: Vec<f32> = code.iter().map(|x| 30.0 * x).collect();
        let shape = [1, settings.method.any().latent(), 1, 1];
        let image = networks[1].run(&Tensor::new(code, shape));
        let search = |search_steps| {
            let search = AnoGan {
                search_steps,
                search_rate: 1.0,
                ..AnoGan::default()
            };
            let found = search.reconstruction(&networks, &image, 0, &StopFlag::default());
            absolute_error(&found.unwrap(), &image, 1.0).0
        };
        let [none, some, many] = [0, 5, 60].map(search);
        assert!(
            many < 0.7 * none && many <= some && some <= none,
            "{none}, {some}, {many}"
        );
    }

    /// What PyTorch says, see `tests/oracle/make_reconstruction.py`.
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
        let text = include_str!("../../../tests/oracle/reconstruction.json");
        let Oracle { search: case } = serde_json::from_str(text).unwrap();
        let mut arrays = case.arrays.into_iter();
        let networks = small_adversaries(false).map(|plan| {
            let arrays = arrays.next().unwrap();
            Network::with_arrays(graph(&plan), &mut arrays.into_iter())
        });
        let search = AnoGan {
            latent: 3,
            search_steps: 20,
            search_rate: 0.05,
            feature_weight: 0.3,
        };
        let image = Tensor::new(case.image, [1, 3, 16, 16]);
        let made = search.nearest_from(case.code, &networks, &image, &StopFlag::default());
        let made = made.unwrap();
        assert_eq!(made.values().len(), case.made.len());
        for (found, expected) in made.values().iter().zip(&case.made) {
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
        }
    }
}
