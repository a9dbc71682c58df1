//! The windows of a step, cut from images that are drawn at random, as the network's input.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::read::ReadError;
use pupilla_nn::Tensor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::distillation::Cut;
use super::triplets;
use crate::features::teacher::TeacherConfig;
use crate::random::derive_seed;

/// Windows of several images, and their positives.
pub(super) struct Batch {
    /// The input of a pretrained network.
    pub cuts: Vec<Cut>,
    /// `[images or images · 2, 3, window, window]`: all anchors, then all positives if there are any.
    pub input: Tensor,
}

/// `count` different members (fewer if there are fewer), in random order.
pub(super) fn distinct(from: &[usize], count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut indices =
        rand::seq::index::sample(random, from.len(), count.min(from.len())).into_vec();
    indices.shuffle(random);
    indices.into_iter().map(|index| from[index]).collect()
}

impl Batch {
    /// The batch of a step: different images, for a negative must come from another one. It depends on the
    /// seed alone.
    pub fn draw(
        from: &[usize],
        images: &dyn ImageSource,
        config: &TeacherConfig,
        with_positives: bool,
        seed: u64,
    ) -> Result<Self, ReadError> {
        let mut random = ChaCha8Rng::seed_from_u64(derive_seed(seed, "images", 0));
        let chosen = distinct(from, config.images_per_step, &mut random);
        Self::cut(&chosen, images, config, with_positives, seed)
    }

    /// Reads and cuts images in parallel; each has a random stream of its own.
    pub fn cut(
        chosen: &[usize],
        images: &dyn ImageSource,
        config: &TeacherConfig,
        with_positives: bool,
        seed: u64,
    ) -> Result<Self, ReadError> {
        let parts: Vec<_> = chosen
            .par_iter()
            .enumerate()
            .map(|(row, &index)| {
                let image = images.image(index)?;
                let stream = derive_seed(seed, "triplet", row as u64);
                let mut random = ChaCha8Rng::seed_from_u64(stream);
                Ok(triplets::cut(&image, config, with_positives, &mut random))
            })
            .collect::<Result<_, ReadError>>()?;
        let anchors = parts.iter().flat_map(|part| &part.anchor);
        let positives = parts.iter().flat_map(|part| &part.positive);
        let planes = anchors.chain(positives).copied().collect();
        let windows = chosen.len() * (1 + usize::from(with_positives));
        Ok(Self {
            input: Tensor::new(planes, [windows, 3, config.window, config.window]),
            cuts: parts.into_iter().map(|part| part.cut).collect(),
        })
    }

    /// The anchors' part of a map that was made of [`input`](Self::input).
    pub fn anchors(&self, map: &Tensor) -> Tensor {
        let [_, channels, rows, columns] = map.shape();
        let shape = [self.cuts.len(), channels, rows, columns];
        let values = &map.values()[..shape.iter().product()];
        Tensor::new(values.to_vec(), shape)
    }
}
