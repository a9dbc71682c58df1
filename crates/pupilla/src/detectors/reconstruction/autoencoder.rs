//! The convolutional autoencoder (Bergmann et al. 2019), trained on the squared error or on structural similarity. The same measure is
//! its score.

use pupilla_nn::{Tensor, Wanted};
use serde::{Deserialize, Serialize};

use super::losses::{dissimilarity, squared_error, structural_similarity, zipped};
use super::method::{Pair, ReconstructionMethod};
use super::network::{HALVING, KEEPING, LayerPlan, backwards, down};

/// Autoencoder trained on the squared error, which is its score too.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SquaredErrorAutoencoder {
    /// Length of the code (100), 1 to 1024 and at most a quarter of the image's numbers.
    pub latent: usize,
}

/// Autoencoder trained on structural similarity; its score is 1 − SSIM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimilarityAutoencoder {
    /// Length of the code (100), 1 to 1024 and at most a quarter of the image's numbers.
    pub latent: usize,
}

impl Default for SquaredErrorAutoencoder {
    fn default() -> Self {
        Self { latent: 100 }
    }
}

impl Default for SimilarityAutoencoder {
    fn default() -> Self {
        Self { latent: 100 }
    }
}

impl ReconstructionMethod for SquaredErrorAutoencoder {
    fn latent(&self) -> usize {
        self.latent
    }

    fn plans(&self, side: usize) -> [Vec<LayerPlan>; 2] {
        autoencoder(side, [self.latent; 2])
    }

    fn terms(&self) -> &'static [&'static str] {
        &["squared error"]
    }

    fn step(&self, pair: &mut Pair, images: &Tensor, _: &Tensor, rate: f64) -> Vec<f64> {
        vec![step(pair, images, squared_error, rate)]
    }
}

impl ReconstructionMethod for SimilarityAutoencoder {
    fn latent(&self) -> usize {
        self.latent
    }

    fn plans(&self, side: usize) -> [Vec<LayerPlan>; 2] {
        autoencoder(side, [self.latent; 2])
    }

    fn terms(&self) -> &'static [&'static str] {
        &["dissimilarity"]
    }

    fn step(&self, pair: &mut Pair, images: &Tensor, _: &Tensor, rate: f64) -> Vec<f64> {
        vec![step(pair, images, dissimilarity, rate)]
    }

    fn residual(&self, image: &Tensor, reconstruction: &Tensor) -> Tensor {
        let similarity = structural_similarity(image, reconstruction);
        zipped(&similarity, &similarity, |x, _| 1.0 - x)
    }
}

/// One step on a loss of reconstructions and images, which gives its gradient too; the loss before it.
fn step(
    pair: &mut Pair,
    images: &Tensor,
    loss: fn(&Tensor, &Tensor) -> (f64, Tensor),
    rate: f64,
) -> f64 {
    let [encoder, decoder] = &mut pair.networks;
    let said = encoder.record(images);
    let made = decoder.record(said.output());
    let (before, gradient) = loss(made.output(), images);
    let of_decoder = made.backward(gradient, Wanted::ALL);
    let of_code = of_decoder.input.expect("it was wanted");
    let of_encoder = said.backward(of_code, Wanted::PARAMETERS);
    let [first, second] = &mut pair.optimizers;
    first.step(rate, &mut encoder.parameters, &of_encoder.parameters);
    second.step(rate, &mut decoder.parameters, &of_decoder.parameters);
    before
}

/// The convolutional autoencoder of Bergmann et al. 2019, table 1; `code` is how many numbers the encoder says and the decoder is told.
///
/// From 128 pixels four halvings lead to maps of 8×8; a larger image has one of 32 channels more before them for each doubling, a
/// smaller one lacks the first of them. The decoder is the encoder backwards.
pub(super) fn autoencoder(side: usize, code: [usize; 2]) -> [Vec<LayerPlan>; 2] {
    let mut channels = 3;
    let mut encoder = Vec::new();
    let mut add = |to: usize, form| {
        encoder.push(down([channels, to], form));
        channels = to;
    };
    let halvings = side.ilog2() - 3;
    for left in (1..=halvings).rev() {
        match left {
            1 => add(128, HALVING),
            2 => {
                add(64, HALVING);
                add(64, KEEPING);
            }
            3 => {
                add(32, HALVING);
                add(32, KEEPING);
            }
            _ => add(32, HALVING),
        }
    }
    add(64, KEEPING);
    add(32, KEEPING);
    add(code[1], [8, 1, 0]);
    let mut decoder = backwards(&encoder);
    for network in [&mut encoder, &mut decoder] {
        if let Some(last) = network.last_mut() {
            last.slope = 1.0;
        }
    }
    if let Some(last) = encoder.last_mut() {
        last.channels[1] = code[0];
    }
    [encoder, decoder]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::super::network::{Beginning, Network};
    use super::*;
    use crate::detectors::kind::DetectorKind;
    use crate::detectors::reconstruction::Method;

    #[test]
    fn every_size_leads_to_a_code_and_back() {
        for side in [16, 32, 64, 128, 256] {
            for method in DetectorKind::ALL.into_iter().filter_map(Method::of) {
                let method = method.any();
                let [reading, making] = method
                    .plans(side)
                    .map(|plan| Network::init(&plan, Beginning::Deviation(0.02), 1));
                let said = reading.run(&Tensor::zeros([2, 3, side, side])).shape();
                let numbers = match method.names()[0] {
                    "discriminator" => 1,
                    _ if method.noise().is_some() => 2 * method.latent(),
                    _ => 100,
                };
                assert_eq!(said, [2, numbers, 1, 1], "{side}");
                let code = Tensor::zeros([2, method.latent(), 1, 1]);
                assert_eq!(making.run(&code).shape(), [2, 3, side, side]);
            }
        }
    }

    #[derive(Deserialize)]
    struct Oracle {
        transposed: Vec<[usize; 4]>,
    }

    /// Table 1 of Bergmann et al. 2019, and the shapes of PyTorch's `ConvTranspose2d` for the way back.
    #[test]
    fn at_128_pixels_it_is_the_published_autoencoder() {
        let [encoder, decoder] = autoencoder(128, [100, 100]);
        let channels: Vec<_> = encoder.iter().map(|layer| layer.channels[1]).collect();
        assert_eq!(channels, [32, 32, 32, 64, 64, 128, 64, 32, 100]);
        let kernels: Vec<_> = encoder.iter().map(|layer| layer.kernel).collect();
        assert_eq!(kernels, [4, 4, 3, 4, 3, 4, 3, 3, 8]);
        let text = include_str!("../../../tests/oracle/reconstruction.json");
        let oracle: Oracle = serde_json::from_str(text).unwrap();
        assert_eq!(oracle.transposed.len(), decoder.len());
        let mut size = 1;
        for (layer, expected) in decoder.iter().zip(oracle.transposed) {
            size = (size - 1) * layer.stride + layer.kernel - 2 * layer.padding;
            assert_eq!([1, layer.channels[1], size, size], expected);
        }
    }
}
