//! The variational autoencoder (Kingma and Welling 2014; for anomalies An and Cho 2015) on the autoencoder's network; its score is the
//! squared error of the image that the code's mean decodes to.

use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_nn::{Tensor, Wanted};
use serde::{Deserialize, Serialize};

use super::autoencoder::autoencoder;
use super::losses::{
    code_means, divergence, reparametrised, reparametrised_gradient, squared_error, zipped,
};
use super::method::{Pair, ReconstructionMethod};
use super::network::{LayerPlan, Network};
use crate::error::{TrainError, check_rules};

/// Variational autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariationalAutoencoder {
    /// Length of the code (100), 1 to 1024 and at most a quarter of the image's numbers.
    pub latent: usize,
    /// Weight of the divergence from the prior beside the summed squared error (1).
    pub kl_weight: f64,
}

impl Default for VariationalAutoencoder {
    fn default() -> Self {
        Self {
            latent: 100,
            kl_weight: 1.0,
        }
    }
}

impl ReconstructionMethod for VariationalAutoencoder {
    fn latent(&self) -> usize {
        self.latent
    }

    fn check(&self) -> Result<(), TrainError> {
        check_rules([(
            "kl weight",
            (0.0..=1e6).contains(&self.kl_weight),
            "0 to a million".to_string(),
        )])
    }

    fn plans(&self, side: usize) -> [Vec<LayerPlan>; 2] {
        // Mean and logarithm of the variance.
        autoencoder(side, [2 * self.latent, self.latent])
    }

    fn terms(&self) -> &'static [&'static str] {
        &["squared error", "divergence"]
    }

    fn noise(&self) -> Option<&'static str> {
        Some("noise of codes")
    }

    fn step(&self, pair: &mut Pair, images: &Tensor, noise: &Tensor, rate: f64) -> Vec<f64> {
        let [encoder, decoder] = &mut pair.networks;
        let said = encoder.record(images);
        let code = reparametrised(said.output(), noise);
        let made = decoder.record(&code);
        let (error, gradient) = squared_error(made.output(), images);
        let of_decoder = made.backward(gradient, Wanted::ALL);
        let of_code = of_decoder.input.expect("it was wanted");
        let (apart, of_divergence) = divergence(said.output());
        // Of the summed error and the divergence, both divided by the numbers of an image.
        let [_, channels, height, width] = images.shape();
        let share = (self.kl_weight / (channels * height * width) as f64) as f32;
        let of_said = reparametrised_gradient(said.output(), noise, &of_code);
        let of_said = zipped(&of_said, &of_divergence, |x, y| x + share * y);
        let of_encoder = said.backward(of_said, Wanted::PARAMETERS);
        let [first, second] = &mut pair.optimizers;
        first.step(rate, &mut encoder.parameters, &of_encoder.parameters);
        second.step(rate, &mut decoder.parameters, &of_decoder.parameters);
        vec![error, apart]
    }

    fn reconstruction(
        &self,
        networks: &[Network; 2],
        image: &Tensor,
        _: u64,
        stop: &StopFlag,
    ) -> Result<Tensor, Stopped> {
        let [encoder, decoder] = networks;
        let said = encoder.run(image);
        stop.check()?;
        Ok(decoder.run(&code_means(&said)))
    }
}
