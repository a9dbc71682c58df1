//! The traits of an embedding method: its settings, and what it keeps of the features of good images.

use std::fmt::Debug;
use std::sync::Arc;

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use pupilla_files::weight_file::MAX_FILE_BYTES;

use super::FittedManifest;
use super::features::Features;
use super::matrix::Matrix;
use crate::error::TrainError;
use crate::features::grid::Grid;

/// The settings of a method; the defaults are those of its publication where it states them.
///
/// An "embedding" is the features of one position, as a row. The "sample" is the largest number of embeddings that are used, drawn at
/// random from all training images.
pub(super) trait EmbeddingMethod: Default + 'static {
    /// What it keeps.
    type Kept: Kept;

    /// Whether its publication compares a pretrained network's features, and not a teacher's descriptors.
    const ON_BACKBONE: bool = true;

    /// Deviation of the Gaussian that smooths its maps unless another is asked for, in pixels of the resized image.
    const SMOOTHING: f64 = 0.0;

    /// Checks every setting, for images that are resized by `resize` and have `channels` features a position.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    fn check(&self, resize: Resize, channels: usize) -> Result<(), TrainError>;

    /// Checks what the settings ask of the features, before they are computed.
    ///
    /// # Errors
    /// A setting that asks for more than there is.
    fn check_features(&self, _features: &Features<'_>) -> Result<(), TrainError> {
        Ok(())
    }

    /// Learns from the features of good images; `validation` are those of other good images.
    ///
    /// # Errors
    /// If an image cannot be read or described, the model would be larger than a file may be, or the observer asks to stop.
    fn fit(
        &self,
        features: &Features<'_>,
        validation: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Self::Kept, TrainError>;

    /// Whether scores are normalised by those of the validation images. Then the scores of models that learned fewer images have the
    /// same unit.
    fn is_normalised(&self) -> bool {
        false
    }

    /// Whether the sizes in a file fit these settings and `channels` features a position.
    fn fits(&self, sizes: &<Self::Kept as Kept>::Sizes, channels: usize) -> bool;

    /// The kept form, from the arrays of its layout.
    fn read(
        &self,
        sizes: &<Self::Kept as Kept>::Sizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self::Kept {
        Self::Kept::read(sizes, channels, arrays)
    }

    /// What was kept, in words: "5000 entries of 65 components".
    fn describe(&self, sizes: &<Self::Kept as Kept>::Sizes) -> String;
}

/// What a method keeps of the features of good images, and how it scores other features.
pub(super) trait Kept: Debug + Send + Sync + Sized + 'static {
    /// Sizes of its arrays, and single numbers: a form of the manifest.
    type Sizes: Into<FittedManifest>;

    /// The sizes for the manifest.
    fn sizes(&self) -> Self::Sizes;

    /// Names and shapes of its arrays, for `channels` features a position and `positions` positions of the resized image (0 if images
    /// have several sizes).
    fn layout(sizes: &Self::Sizes, channels: usize, positions: usize) -> Layout;

    /// The arrays, in the order of the layout.
    fn arrays(&self) -> Vec<&[f32]>;

    /// From the arrays, in the order of the layout.
    fn read(
        sizes: &Self::Sizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self;

    /// Whether its numbers, which may come from a damaged file, can give scores.
    fn is_valid(&self) -> bool {
        true
    }

    /// The score of each row of features, `[positions, channels]`, at the positions of a grid; higher is more anomalous.
    ///
    /// # Errors
    /// If `stop` is raised.
    fn scores(&self, grid: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped>;
}

/// A method of any kind. `sizes` is what a manifest says. If the manifest is of another method's form, that is an error.
pub(super) trait AnyMethod {
    fn on_backbone(&self) -> bool;
    fn smoothing(&self) -> f64;
    fn check(&self, resize: Resize, channels: usize) -> Result<(), TrainError>;
    fn check_features(&self, features: &Features<'_>) -> Result<(), TrainError>;
    fn fit(
        &self,
        features: &Features<'_>,
        validation: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Arc<dyn AnyKept>, TrainError>;
    fn is_normalised(&self) -> bool;
    fn fits(&self, sizes: &FittedManifest, channels: usize) -> Result<bool, &'static str>;
    fn layout(
        &self,
        sizes: &FittedManifest,
        channels: usize,
        positions: usize,
    ) -> Result<Layout, &'static str>;
    fn read(
        &self,
        sizes: &FittedManifest,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Result<Arc<dyn AnyKept>, &'static str>;
    fn describe(&self, sizes: &FittedManifest) -> Result<String, &'static str>;
}

/// What any method keeps.
pub(super) trait AnyKept: Debug + Send + Sync {
    fn sizes(&self) -> FittedManifest;
    fn layout(&self, channels: usize, positions: usize) -> Layout;
    fn arrays(&self) -> Vec<&[f32]>;
    fn is_valid(&self) -> bool;
    fn scores(&self, grid: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped>;
}

/// Names and shapes of arrays.
type Layout = Vec<(String, Vec<usize>)>;

/// The sizes that a method's manifest has.
type SizesOf<M> = <<M as EmbeddingMethod>::Kept as Kept>::Sizes;

impl<M: EmbeddingMethod> AnyMethod for M
where
    for<'a> SizesOf<M>: TryFrom<&'a FittedManifest, Error = &'static str>,
{
    fn on_backbone(&self) -> bool {
        M::ON_BACKBONE
    }

    fn smoothing(&self) -> f64 {
        M::SMOOTHING
    }

    fn check(&self, resize: Resize, channels: usize) -> Result<(), TrainError> {
        EmbeddingMethod::check(self, resize, channels)
    }

    fn check_features(&self, features: &Features<'_>) -> Result<(), TrainError> {
        EmbeddingMethod::check_features(self, features)
    }

    fn fit(
        &self,
        features: &Features<'_>,
        validation: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Arc<dyn AnyKept>, TrainError> {
        Ok(Arc::new(EmbeddingMethod::fit(
            self, features, validation, observer,
        )?))
    }

    fn is_normalised(&self) -> bool {
        EmbeddingMethod::is_normalised(self)
    }

    fn fits(&self, sizes: &FittedManifest, channels: usize) -> Result<bool, &'static str> {
        let sizes = SizesOf::<M>::try_from(sizes)?;
        Ok(EmbeddingMethod::fits(self, &sizes, channels))
    }

    fn layout(
        &self,
        sizes: &FittedManifest,
        channels: usize,
        positions: usize,
    ) -> Result<Layout, &'static str> {
        let sizes = SizesOf::<M>::try_from(sizes)?;
        Ok(<M::Kept as Kept>::layout(&sizes, channels, positions))
    }

    fn read(
        &self,
        sizes: &FittedManifest,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Result<Arc<dyn AnyKept>, &'static str> {
        let sizes = SizesOf::<M>::try_from(sizes)?;
        Ok(Arc::new(EmbeddingMethod::read(
            self, &sizes, channels, arrays,
        )))
    }

    fn describe(&self, sizes: &FittedManifest) -> Result<String, &'static str> {
        let sizes = SizesOf::<M>::try_from(sizes)?;
        Ok(EmbeddingMethod::describe(self, &sizes))
    }
}

impl<K: Kept> AnyKept for K {
    fn sizes(&self) -> FittedManifest {
        Kept::sizes(self).into()
    }

    fn layout(&self, channels: usize, positions: usize) -> Layout {
        <K as Kept>::layout(&Kept::sizes(self), channels, positions)
    }

    fn arrays(&self) -> Vec<&[f32]> {
        Kept::arrays(self)
    }

    fn is_valid(&self) -> bool {
        Kept::is_valid(self)
    }

    fn scores(&self, grid: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        Kept::scores(self, grid, features, stop)
    }
}

/// The most embeddings that are held: of 384 numbers, 3 GB.
const MOST_EMBEDDINGS: usize = 2_000_000;

/// A rule of a setting: its name, whether it holds, and what would.
pub(super) type Rule = (&'static str, bool, String);

/// A number of embeddings.
pub(super) fn count(name: &'static str, value: usize) -> Rule {
    at_most(name, value, MOST_EMBEDDINGS)
}

/// A number from 1 to `most`.
pub(super) fn at_most(name: &'static str, value: usize, most: usize) -> Rule {
    (name, (1..=most).contains(&value), format!("1 to {most}"))
}

/// A share that is not 0.
pub(super) fn share(name: &'static str, value: f64) -> Rule {
    let inside = value > 0.0 && value <= 1.0;
    (name, inside, "above 0, at most 1".to_string())
}

/// An array's name and shape in a layout.
pub(super) fn named(name: &str, shape: &[usize]) -> (String, Vec<usize>) {
    (name.to_string(), shape.to_vec())
}

/// What no model file may hold is found before the work of it.
pub(super) fn fits_a_file(setting: &'static str, numbers: u64) -> Result<(), TrainError> {
    let bytes = numbers.saturating_mul(size_of::<f32>() as u64);
    if bytes > MAX_FILE_BYTES {
        return Err(TrainError::Setting {
            setting,
            reason: format!(
                "the model would have {} MiB, more than the {} MiB that a model file may have: choose less, or resize the images to fewer pixels",
                bytes >> 20,
                MAX_FILE_BYTES >> 20
            ),
        });
    }
    Ok(())
}
