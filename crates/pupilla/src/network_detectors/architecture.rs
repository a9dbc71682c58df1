//! The published networks as plans, generalised to square images of 16 to 512 pixels.

use super::config::Method;
use super::network::{Direction, LayerPlan};

/// Slope of the autoencoders' and discriminators' leaky ReLU (Bergmann et al. 2019; Radford et al. 2016).
const SLOPE: f32 = 0.2;

/// Channels of a DCGAN's finest map; each halving doubles them, up to [`MOST_CHANNELS`]. Radford et al. begin with 64 or 128, on a GPU.
const CHANNELS: usize = 32;
const MOST_CHANNELS: usize = 256;

/// The two networks of a detector and their names: what looks at images, and what makes them.
pub(crate) const NAMES: [[&str; 2]; 2] = [["encoder", "decoder"], ["discriminator", "generator"]];

/// The names of a method's networks.
pub(crate) fn names(method: &Method) -> [&'static str; 2] {
    match method {
        Method::Adversarial { .. } => NAMES[1],
        _ => NAMES[0],
    }
}

/// The plans of a method's networks for images of `side` pixels, a power of two of at least 16.
pub(crate) fn plans(method: &Method, side: usize) -> [Vec<LayerPlan>; 2] {
    match *method {
        Method::SquaredError { latent } | Method::Similarity { latent } => {
            autoencoder(side, [latent, latent])
        }
        // Mean and logarithm of the variance.
        Method::Variational { latent, .. } => autoencoder(side, [2 * latent, latent]),
        Method::Adversarial { latent, .. } => adversarial(side, latent),
    }
}

fn down(channels: [usize; 2], [kernel, stride, padding]: [usize; 3]) -> LayerPlan {
    LayerPlan {
        direction: Direction::Down,
        channels,
        kernel,
        stride,
        padding,
        slope: SLOPE,
        normalised: false,
        sigmoid: false,
    }
}

/// Kernel, stride and padding of a layer that halves a map, and of one that keeps its size.
const HALVING: [usize; 3] = [4, 2, 1];
const KEEPING: [usize; 3] = [3, 1, 1];

/// The convolutional autoencoder of Bergmann et al. 2019, table 1; `code` is how many numbers the encoder says and the decoder is told.
///
/// From 128 pixels four halvings lead to maps of 8×8; a larger image has one of 32 channels more before them for each doubling, a
/// smaller one lacks the first of them. The decoder is the encoder backwards.
fn autoencoder(side: usize, code: [usize; 2]) -> [Vec<LayerPlan>; 2] {
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

/// A DCGAN (Radford et al. 2016): halvings to maps of 4×4, batch norm on all but the discriminator's first layer and both last ones.
/// The generator makes images in `[0, 1]` by a sigmoid where the publication has a hyperbolic tangent: the same function on this range.
fn adversarial(side: usize, latent: usize) -> [Vec<LayerPlan>; 2] {
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
            layer.channels[0] = latent;
        }
    }
    [discriminator, generator]
}

/// The way back up, layer by layer.
fn backwards(plan: &[LayerPlan]) -> Vec<LayerPlan> {
    let reversed = plan.iter().rev().map(|layer| LayerPlan {
        direction: Direction::Up,
        channels: [layer.channels[1], layer.channels[0]],
        ..*layer
    });
    reversed.collect()
}

#[cfg(test)]
mod tests {
    use pupilla_nn::Tensor;
    use serde::Deserialize;

    use super::super::network::{Beginning, Network};
    use super::*;

    const METHODS: [Method; 3] = [
        Method::SquaredError { latent: 100 },
        Method::Variational {
            latent: 7,
            kl_weight: 1.0,
        },
        Method::Adversarial {
            latent: 5,
            search_steps: 1,
            search_rate: 0.1,
            feature_weight: 0.1,
        },
    ];

    #[test]
    fn every_size_leads_to_a_code_and_back() {
        for side in [16, 32, 64, 128, 256] {
            for method in METHODS {
                let [looking, making] = plans(&method, side)
                    .map(|plan| Network::init(&plan, Beginning::Deviation(0.02), 1));
                let said = looking.run(&Tensor::zeros([2, 3, side, side])).shape();
                let numbers = match method {
                    Method::Variational { latent, .. } => 2 * latent,
                    Method::Adversarial { .. } => 1,
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
        let [encoder, decoder] = plans(&METHODS[0], 128);
        let channels: Vec<_> = encoder.iter().map(|layer| layer.channels[1]).collect();
        assert_eq!(channels, [32, 32, 32, 64, 64, 128, 64, 32, 100]);
        let kernels: Vec<_> = encoder.iter().map(|layer| layer.kernel).collect();
        assert_eq!(kernels, [4, 4, 3, 4, 3, 4, 3, 3, 8]);
        let text = include_str!("../../tests/oracle/network_detectors.json");
        let oracle: Oracle = serde_json::from_str(text).unwrap();
        assert_eq!(oracle.transposed.len(), decoder.len());
        let mut size = 1;
        for (layer, expected) in decoder.iter().zip(oracle.transposed) {
            size = (size - 1) * layer.stride + layer.kernel - 2 * layer.padding;
            assert_eq!([1, layer.channels[1], size, size], expected);
        }
    }
}
