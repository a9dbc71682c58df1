//! The trait of a reconstruction method: two networks, a step of their training, and the difference between an image and its
//! reconstruction.

use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_nn::{Adam, OptimizerState, Tensor};

use super::config::Training;
use super::losses::{channel_means, zipped};
use super::network::{Beginning, LayerPlan, Network};
use crate::error::TrainError;
use crate::training::Length;

/// The settings of a method that reconstructs images with two networks: the first reads images, the second makes images.
pub(super) trait ReconstructionMethod: Sync {
    /// Length of the code between the two networks.
    fn latent(&self) -> usize;

    /// Side of the square that images are resized to unless another is asked for.
    fn usual_side(&self) -> usize {
        128
    }

    /// The default settings of the training.
    fn usual_training(&self) -> Training {
        Training {
            length: Length::Steps(1500),
            batch: 8,
            learning_rate: 1e-3,
            weight_decay: 1e-5,
        }
    }

    /// Checks the settings that are this method's alone.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    fn check(&self) -> Result<(), TrainError> {
        Ok(())
    }

    /// The names of the two networks in a model file.
    fn names(&self) -> [&'static str; 2] {
        ["encoder", "decoder"]
    }

    /// The two networks for images of `side` pixels, a power of two of at least 16.
    fn plans(&self, side: usize) -> [Vec<LayerPlan>; 2];

    /// How weights begin.
    fn beginning(&self) -> Beginning {
        Beginning::FanIn
    }

    /// The optimisers' constants.
    fn adam(&self) -> Adam {
        Adam::default()
    }

    /// The names of the losses that a step has, the one that is shown first.
    fn terms(&self) -> &'static [&'static str];

    /// Whether the networks are trained against each other: their losses need not fall, the learning rate is constant, and batch
    /// norm's statistics are taken at the end.
    fn is_adversarial(&self) -> bool {
        false
    }

    /// Purpose of the noise that a step needs, if it does.
    fn noise(&self) -> Option<&'static str> {
        None
    }

    /// One step on images, `[batch, 3, side, side]`, with standard normal noise, `[batch, latent, 1, 1]` (of no number if none is
    /// needed); the losses before it, one for each of the terms.
    fn step(&self, pair: &mut Pair, images: &Tensor, noise: &Tensor, rate: f64) -> Vec<f64>;

    /// The networks' reconstruction of an image, `[1, 3, side, side]` in and out.
    ///
    /// # Errors
    /// If `stop` is raised.
    fn reconstruction(
        &self,
        networks: &[Network; 2],
        image: &Tensor,
        _seed: u64,
        stop: &StopFlag,
    ) -> Result<Tensor, Stopped> {
        let [encoder, decoder] = networks;
        let code = encoder.run(image);
        stop.check()?;
        Ok(decoder.run(&code))
    }

    /// The difference between an image and its reconstruction at each pixel, `[1, 1, side, side]`: the squared error.
    fn residual(&self, image: &Tensor, reconstruction: &Tensor) -> Tensor {
        channel_means(&zipped(image, reconstruction, |x, y| (x - y) * (x - y)))
    }
}

/// Two networks and the state of their optimisers.
#[derive(Clone)]
pub(super) struct Pair {
    pub networks: [Network; 2],
    pub optimizers: [OptimizerState; 2],
}
