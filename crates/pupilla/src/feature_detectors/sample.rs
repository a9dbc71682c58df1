//! Features of the training images: all of them, or a random part.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::observer::Observer;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use super::config::Settings;
use super::describer::Describer;
use super::matrix::Matrix;
use crate::error::{ScoreError, TrainError};
use crate::random::derive_seed;
use crate::student_teacher::scale::Grid;

/// Images as a describer sees them.
pub(super) struct Described<'a> {
    pub images: &'a dyn ImageSource,
    pub describer: &'a Describer,
    pub settings: &'a Settings,
}

impl Described<'_> {
    /// The positions of an image.
    pub fn grid(&self, index: usize) -> Result<Grid, TrainError> {
        let [width, height] = self.images.size(index)?;
        let size = self.settings.resize.target_size(width, height);
        let grid = self.describer.grid(size.into());
        grid.map_err(|source| self.wrong(index, source))
    }

    /// Calls `each` with the features of every image, `[positions, channels]`.
    pub fn for_each(
        &self,
        stage: &str,
        observer: &mut dyn Observer,
        mut each: impl FnMut(usize, Matrix),
    ) -> Result<(), TrainError> {
        observer.start(stage, self.images.len() as u64);
        for index in 0..self.images.len() {
            if observer.stop_requested() {
                return Err(TrainError::Stopped);
            }
            let image = self.settings.resize.apply_owned(self.images.image(index)?);
            let features = self.describer.describe(&image, self.settings.border);
            each(index, features.map_err(|source| self.wrong(index, source))?);
            observer.advance(index as u64 + 1, None);
        }
        observer.finish();
        Ok(())
    }

    fn wrong(&self, index: usize, source: ScoreError) -> TrainError {
        TrainError::Image {
            name: self.images.name(index),
            source,
        }
    }
}

/// At most `most` of the features of all images, every position equally likely, in the order of the images.
pub(super) fn sample(
    images: &Described<'_>,
    most: usize,
    observer: &mut dyn Observer,
) -> Result<Matrix, TrainError> {
    let mut first = vec![0];
    for index in 0..images.images.len() {
        let Grid { rows, columns, .. } = images.grid(index)?;
        first.push(first[index] + rows * columns);
    }
    let all = first[first.len() - 1];
    let seed = derive_seed(images.settings.seed, "sampled positions", 0);
    let chosen = choose(all, most, seed);
    let channels = images.describer.channels();
    let mut values = Vec::with_capacity(chosen.len() * channels);
    images.for_each("features", observer, |index, features| {
        let [from, to] =
            [first[index], first[index + 1]].map(|at| chosen.partition_point(|&one| one < at));
        for &position in &chosen[from..to] {
            values.extend_from_slice(features.row(position - first[index]));
        }
    })?;
    Ok(Matrix::new(channels, values))
}

/// At most `most` of so many things, ascending.
pub(super) fn choose(all: usize, most: usize, seed: u64) -> Vec<usize> {
    if most >= all {
        return (0..all).collect();
    }
    let mut chosen = index::sample(&mut ChaCha8Rng::seed_from_u64(seed), all, most).into_vec();
    chosen.sort_unstable();
    chosen
}
