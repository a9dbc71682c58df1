//! Images as the networks see them: squares of one size, red, green and blue planes in `[0, 1]`.

use std::borrow::Cow;
use std::sync::OnceLock;

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::config::Settings;
use crate::random::derive_seed;

/// The most bytes of resized images that are kept; others are read anew each time.
const MOST_BYTES: usize = 256 << 20;

/// The planes of a (resized) image, `[3, height, width]`, values in `[0, 1]`.
pub(super) fn planes(image: &Image) -> Vec<f32> {
    let channel = |channel| image.pixels().iter().skip(channel).step_by(3);
    (0..3).flat_map(channel).copied().collect()
}

/// Training images, read when they are needed.
pub(super) struct Pictures<'a> {
    images: &'a dyn ImageSource,
    settings: &'a Settings,
    /// The first images, as many as may be kept.
    kept: Vec<OnceLock<Vec<f32>>>,
}

impl<'a> Pictures<'a> {
    pub fn new(images: &'a dyn ImageSource, settings: &'a Settings) -> Self {
        let kept = images.len().min(MOST_BYTES / bytes(settings));
        Self {
            images,
            settings,
            kept: (0..kept).map(|_| OnceLock::new()).collect(),
        }
    }

    /// Bytes of all that will be kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept.len() * bytes(self.settings)
    }

    fn planes(&self, index: usize) -> Result<Cow<'_, [f32]>, ReadError> {
        let kept = self.kept.get(index);
        if let Some(planes) = kept.and_then(OnceLock::get) {
            return Ok(Cow::Borrowed(planes));
        }
        let image = self.settings.resize.apply_owned(self.images.image(index)?);
        let planes = planes(&image);
        Ok(match kept {
            Some(kept) => Cow::Borrowed(kept.get_or_init(|| planes)),
            None => Cow::Owned(planes),
        })
    }

    /// The images of a step, drawn at random, `[batch, 3, side, side]`. The same step has the same images each time.
    pub fn batch(&self, step: usize) -> Result<Vec<f32>, ReadError> {
        let seed = derive_seed(self.settings.seed, "images of a step", step as u64);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let chosen: Vec<usize> = (0..self.settings.training.batch)
            .map(|_| random.random_range(0..self.images.len()))
            .collect();
        let read: Vec<Cow<'_, [f32]>> = chosen
            .into_par_iter()
            .map(|index| self.planes(index))
            .collect::<Result<_, _>>()?;
        Ok(read.concat())
    }
}

fn bytes(settings: &Settings) -> usize {
    (3 * settings.side() * settings.side()).max(1) * size_of::<f32>()
}
