//! The batch of a training step: random windows of several images, or a whole image.

use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use pupilla_nn::Tensor;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::Quick;
use super::resized_images::ResizedImages;
use crate::features::grid::patches_window;
use crate::features::input::{Border, Window};
use crate::patch_network::ReceptiveField;
use crate::random::derive_seed;

/// The input of a step: windows of one size, each with the index of its image.
pub(super) struct Batch {
    pub images: Vec<Image>,
    /// The place of each image among the training images.
    pub sources: Vec<usize>,
    pub windows: Vec<(usize, Window)>,
}

impl Batch {
    /// One window of one image.
    pub fn of_image(image: Image, source: usize, window: Window) -> Self {
        Self {
            images: vec![image],
            sources: vec![source],
            windows: vec![(0, window)],
        }
    }

    /// The windows of a step: from images drawn at random, at random places. The same step has the same windows each time.
    pub fn random_windows(
        images: &ResizedImages<'_>,
        quick: &Quick,
        field: ReceptiveField,
        side: usize,
        step: usize,
    ) -> Result<Self, ReadError> {
        let seed = derive_seed(images.settings.seed, "windows", field.side() as u64);
        let mut random = ChaCha8Rng::seed_from_u64(derive_seed(seed, "step", step as u64));
        let chosen: Vec<usize> = (0..quick.windows)
            .map(|_| random.random_range(0..images.len()))
            .collect();
        let mut sources = chosen.clone();
        sources.sort_unstable();
        sources.dedup();
        let read = images.several(&sources)?;
        let mut windows = Vec::with_capacity(quick.windows);
        for index in chosen {
            let index = sources.partition_point(|&source| source < index);
            windows.push((index, random_window(&read[index], field, side, &mut random)));
        }
        Ok(Self {
            images: read,
            sources,
            windows,
        })
    }

    /// The image of a step, with every pixel. Each epoch has all images, in another order.
    pub fn whole_image(
        images: &ResizedImages<'_>,
        field: ReceptiveField,
        step: usize,
    ) -> Result<Self, ReadError> {
        let seed = derive_seed(images.settings.seed, "epochs", field.side() as u64);
        let epoch = derive_seed(seed, "epoch", (step / images.len()) as u64);
        let mut order: Vec<usize> = (0..images.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(epoch));
        let source = order[step % images.len()];
        let image = images.image(source)?;
        let window = patches_window(field, 1, [0, 0, image.height(), image.width()]);
        Ok(Self::of_image(image, source, window))
    }

    /// The windows as the networks read them, `[windows, 3, height, width]`.
    pub fn pixels(&self, border: Border) -> Tensor {
        let mut values = Vec::new();
        for (index, window) in &self.windows {
            window.read(&self.images[*index], border, &mut values);
        }
        let first = self.windows[0].1;
        Tensor::new(values, [self.windows.len(), 3, first.height, first.width])
    }
}

/// Any place whose patches are centred on pixels of the image; its first patch is centred on any pixel, so the grid has a
/// random offset.
pub(super) fn random_window(
    image: &Image,
    field: ReceptiveField,
    side: usize,
    random: &mut ChaCha8Rng,
) -> Window {
    let radius = field.radius() as isize;
    let places = |size: usize| size + 2 * field.radius() - side;
    Window {
        top: random.random_range(0..=places(image.height())) as isize - radius,
        left: random.random_range(0..=places(image.width())) as isize - radius,
        height: side,
        width: side,
    }
}
