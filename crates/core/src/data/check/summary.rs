//! A summary of a decoded image: enough to recognise the same image, and to compare its appearance with that of other images.

use crate::image::Size;
use std::path::Path;

use super::outliers::Appearance;
use crate::data::picture_digits;
use crate::image::read::{self, ReadError};

/// The summary of an image that could be read.
pub(super) struct ImageSummary {
    /// [`picture_digits`].
    pub(super) picture: String,
    pub(super) size: Size,
    pub(super) appearance: Appearance,
}

impl ImageSummary {
    pub(super) fn read(path: &Path) -> Result<Self, ReadError> {
        let image = read::read(path)?;
        Ok(Self {
            picture: picture_digits(&image),
            size: image.size(),
            appearance: Appearance::of(&image),
        })
    }
}
