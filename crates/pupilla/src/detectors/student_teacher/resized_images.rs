//! The images of a run, at the size at which the networks see them.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::image::read::ReadError;
use pupilla_core::image::{Image, Size};
use rayon::prelude::*;

use super::config::{Settings, StudentTeacherConfig};
use super::early_stop;
use super::scale_teacher::ScaleTeacher;
use crate::error::{ScoreError, TrainError};
use crate::training::check_counts;

/// Some images of a source, resized.
pub(super) struct ResizedImages<'a> {
    source: &'a dyn ImageSource,
    /// The place of each image in the source.
    indices: Vec<usize>,
    pub settings: &'a Settings,
}

impl<'a> ResizedImages<'a> {
    /// All images of a source.
    pub fn all(source: &'a dyn ImageSource, settings: &'a Settings) -> Self {
        let indices = (0..source.len()).collect();
        Self {
            source,
            indices,
            settings,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// An image, read and resized.
    pub fn image(&self, index: usize) -> Result<Image, ReadError> {
        let image = self.source.image(self.indices[index])?;
        Ok(self.settings.resize.apply_owned(image))
    }

    /// Some images, read in parallel, in the order asked for.
    pub fn several(&self, indices: &[usize]) -> Result<Vec<Image>, ReadError> {
        indices.par_iter().map(|&index| self.image(index)).collect()
    }

    /// The size of an image before it is resized.
    pub fn original_size(&self, index: usize) -> Result<Size, ReadError> {
        self.source.size(self.indices[index])
    }

    /// The size of an image after it is resized.
    pub fn size(&self, index: usize) -> Result<Size, ReadError> {
        Ok(self.settings.resize.target_size(self.original_size(index)?))
    }

    /// The error of an image.
    pub fn wrong(&self, index: usize, source: ScoreError) -> TrainError {
        TrainError::of_image(|| self.source.name(self.indices[index]), source)
    }

    /// Checks that every teacher can describe every image, before any work.
    fn check_sizes(&self, teachers: &[ScaleTeacher]) -> Result<(), TrainError> {
        for index in 0..self.len() {
            let size = self.size(index)?;
            for teacher in teachers {
                let checked = teacher.check_size(size);
                checked.map_err(|source| self.wrong(index, source))?;
            }
        }
        Ok(())
    }
}

/// The images of a run, by their purpose.
pub(super) struct RunImages<'a> {
    /// Images to learn from.
    pub learned: ResizedImages<'a>,
    /// Images on which the loss is watched, to end the run early; none without early stopping.
    pub watched: ResizedImages<'a>,
    /// Images that give the thresholds.
    pub validation: ResizedImages<'a>,
}

impl<'a> RunImages<'a> {
    /// Takes the watched images from the training images.
    ///
    /// # Errors
    /// If there is no image, or an image that a teacher cannot describe.
    pub fn new(
        config: &'a StudentTeacherConfig,
        training: &'a dyn ImageSource,
        validation: &'a dyn ImageSource,
    ) -> Result<Self, TrainError> {
        check_counts(training, validation)?;
        let settings = &config.settings;
        let validation = ResizedImages::all(validation, settings);
        for images in [&ResizedImages::all(training, settings), &validation] {
            images.check_sizes(&config.teachers)?;
        }
        let split = early_stop::split(training.len(), settings.training.early_stop());
        let [learned, watched] = split.map(|indices| ResizedImages {
            source: training,
            indices,
            settings,
        });
        Ok(Self {
            learned,
            watched,
            validation,
        })
    }
}
