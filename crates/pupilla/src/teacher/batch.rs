//! A step's windows, cut from images drawn at random, as the numbers that the network reads.

use burn::tensor::{Device, Tensor, TensorData};
use pupilla_core::image::read::ReadError;
use pupilla_core::image_source::ImageSource;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::TeacherConfig;
use super::distillation::Cut;
use super::triplets;
use crate::patch_network::DESCRIPTOR_CHANNELS;
use crate::random::derive_seed;

/// Windows of several images, and their positives.
pub(super) struct Batch {
    /// What a pretrained network looks at.
    pub cuts: Vec<Cut>,
    /// `[images · 2, 3, window, window]`: all anchors, then all positives if there are any.
    planes: Vec<f32>,
    window: usize,
}

/// Descriptors of a batch's patches.
pub(super) struct Descriptors {
    /// `[images · positions, 128]`, an image's positions next to each other.
    pub anchors: Tensor<2>,
    /// `[images · positions, 128]`, if positives were cut.
    pub positives: Option<Tensor<2>>,
    /// Patches in a window.
    pub positions: usize,
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
        Ok(Self {
            planes,
            cuts: parts.into_iter().map(|part| part.cut).collect(),
            window: config.window,
        })
    }

    /// The windows as a tensor, `[images or images · 2, 3, window, window]`.
    pub fn input(&self, device: &Device) -> Tensor<4> {
        let side = self.window;
        let count = self.planes.len() / (3 * side * side);
        let data = TensorData::new(self.planes.clone(), [count, 3, side, side]);
        Tensor::from_data(data, device)
    }

    /// Splits the descriptors of [`input`](Self::input), `[windows, 128, rows, columns]`.
    pub fn split(&self, map: Tensor<4>) -> Descriptors {
        let [windows, _, rows, columns] = map.dims();
        let positions = rows * columns;
        let all = map
            .permute([0, 2, 3, 1])
            .reshape([windows * positions, DESCRIPTOR_CHANNELS]);
        let anchors = self.cuts.len() * positions;
        if windows == self.cuts.len() {
            return Descriptors {
                anchors: all,
                positives: None,
                positions,
            };
        }
        Descriptors {
            anchors: all.clone().slice([0..anchors, 0..DESCRIPTOR_CHANNELS]),
            positives: Some(all.slice([anchors..2 * anchors, 0..DESCRIPTOR_CHANNELS])),
            positions,
        }
    }
}
