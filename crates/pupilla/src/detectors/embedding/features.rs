//! Features of the training images: of all positions, or of a random part of them.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::{Image, Size};
use pupilla_core::observer::{Observer, StopFlag, Stopped, for_each};
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::config::Settings;
use super::matrix::Matrix;
use super::principal_components::PrincipalComponents;
use crate::error::{ScoreError, TrainError};
use crate::features::Extractor;
use crate::features::grid::Grid;
use crate::features::input::Border;
use crate::random::derive_seed;

/// The features of an image (already resized) at the positions of a grid, `[positions, channels]`.
///
/// # Errors
/// If the extractor cannot describe the image, or `stop` is raised.
pub(super) fn describe(
    extractor: &Extractor,
    image: &Image,
    border: Border,
    grid: Grid,
    stop: &StopFlag,
) -> Result<Matrix, ScoreError> {
    let channels = extractor.channels();
    let mut all = vec![0.0; grid.rows * grid.columns * channels];
    extractor.describe(
        image,
        border,
        grid,
        stop,
        |[top, left, _, columns], planes| {
            let tile = Matrix::transposed(&planes, channels);
            all.par_chunks_mut(grid.columns * channels)
                .skip(top)
                .zip(tile.values().par_chunks(columns * channels))
                .for_each(|(line, tile)| {
                    line[left * channels..][..tile.len()].copy_from_slice(tile);
                });
        },
    )?;
    Ok(Matrix::new(channels, all))
}

/// Images as an extractor describes them.
pub(super) struct Features<'a> {
    pub images: Images<'a>,
    pub extractor: &'a Extractor,
    pub settings: &'a Settings,
}

/// The images that are described.
pub(super) enum Images<'a> {
    /// Read and described whenever they are needed.
    Read(&'a dyn ImageSource),
    /// Described before.
    Described(Vec<&'a Described>),
}

/// The features of an image, in memory.
pub(super) struct Described {
    /// The image's name for messages.
    pub name: String,
    /// The size of the image, before it is resized.
    pub size: Size,
    /// The positions.
    pub grid: Grid,
    /// `[positions, channels]`
    pub features: Matrix,
}

impl Features<'_> {
    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.images {
            Images::Read(images) => images.len(),
            Images::Described(images) => images.len(),
        }
    }

    /// Features at a position.
    pub fn channels(&self) -> usize {
        self.extractor.channels()
    }

    /// A seed for one purpose.
    pub fn seed(&self, purpose: &str) -> u64 {
        self.seed_of(purpose, 0)
    }

    /// The same for one of several equal purposes.
    pub fn seed_of(&self, purpose: &str, index: usize) -> u64 {
        derive_seed(self.settings.seed, purpose, index as u64)
    }

    /// The positions of an image.
    pub fn grid(&self, index: usize) -> Result<Grid, TrainError> {
        let images = match &self.images {
            Images::Read(images) => *images,
            Images::Described(images) => return Ok(images[index].grid),
        };
        let size = self.settings.resize.target_size(images.size(index)?);
        let grid = self.extractor.grid(size);
        grid.map_err(|source| wrong(images, index, source))
    }

    /// Positions of all images before each image, and of all at the end.
    pub fn positions_before(&self) -> Result<Vec<usize>, TrainError> {
        let mut before = vec![0];
        for index in 0..self.len() {
            let Grid { rows, columns, .. } = self.grid(index)?;
            before.push(before[index] + rows * columns);
        }
        Ok(before)
    }

    /// Calls `each` with the positions and the features of every image, `[positions, channels]`.
    pub fn for_each(
        &self,
        observer: &mut dyn Observer,
        mut each: impl FnMut(usize, Grid, Matrix) -> Result<(), Stopped>,
    ) -> Result<(), TrainError> {
        let images = match &self.images {
            Images::Read(images) => *images,
            Images::Described(images) => {
                for (index, image) in images.iter().enumerate() {
                    each(index, image.grid, image.features.clone())?;
                }
                return Ok(());
            }
        };
        let stop = observer.stop_flag();
        for_each(observer, "features", images.len(), |index| {
            let image = self.settings.resize.apply_owned(images.image(index)?);
            let grid = self.grid(index)?;
            let features = describe(self.extractor, &image, self.settings.border, grid, &stop);
            let features = features.map_err(|source| wrong(images, index, source))?;
            Ok(each(index, grid, features)?)
        })
    }

    /// At most `most` of the features of all images, every position equally likely, in the order of the images.
    pub fn sample(&self, most: usize, observer: &mut dyn Observer) -> Result<Matrix, TrainError> {
        let first = self.positions_before()?;
        let all = first[first.len() - 1];
        let chosen = choose(all, most, self.seed("sampled positions"));
        let channels = self.channels();
        let mut values = Vec::with_capacity(chosen.len() * channels);
        self.for_each(observer, |index, _, features| {
            let [from, to] =
                [first[index], first[index + 1]].map(|at| chosen.partition_point(|&one| one < at));
            for &position in &chosen[from..to] {
                values.extend_from_slice(features.row(position - first[index]));
            }
            Ok(())
        })?;
        Ok(Matrix::new(channels, values))
    }

    /// A sample, after the PCA that is found from it and keeps this share of its variance.
    pub fn reduced(
        &self,
        most: usize,
        variance: f64,
        observer: &mut dyn Observer,
    ) -> Result<(PrincipalComponents, Matrix), TrainError> {
        let rows = self.sample(most, observer)?;
        let components = PrincipalComponents::fit(&rows, variance);
        let reduced = components.apply(&rows, &observer.stop_flag())?;
        Ok((components, reduced))
    }

    /// Fails if a dictionary of `wanted` entries cannot be made of a sample of at most `most` features.
    pub fn check_entries(&self, wanted: usize, most: usize) -> Result<(), TrainError> {
        let before = self.positions_before()?;
        let found = most.min(before[before.len() - 1]);
        if wanted > found {
            return Err(TrainError::TooFewDescriptors {
                setting: "dictionary",
                wanted,
                found,
            });
        }
        Ok(())
    }
}

fn wrong(images: &dyn ImageSource, index: usize, source: ScoreError) -> TrainError {
    TrainError::of_image(|| images.name(index), source)
}

/// At most `most` indices below `all`, drawn at random, ascending.
pub(super) fn choose(all: usize, most: usize, seed: u64) -> Vec<usize> {
    if most >= all {
        return (0..all).collect();
    }
    let mut chosen = index::sample(&mut ChaCha8Rng::seed_from_u64(seed), all, most).into_vec();
    chosen.sort_unstable();
    chosen
}
