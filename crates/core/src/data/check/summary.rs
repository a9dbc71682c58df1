//! A summary of a decoded image: enough to recognise the same image, and to compare its appearance with that of other images.

use crate::image::Size;
use std::path::Path;

use super::outliers::Appearance;
use crate::data::{Acquisition, picture_digits};
use crate::image::read::{self, ReadError, ReadSettings};

/// The summary of an image that could be read.
pub(super) struct ImageSummary {
    /// [`picture_digits`].
    pub(super) picture: String,
    pub(super) size: Size,
    pub(super) appearance: Appearance,
    pub(super) acquisition: Acquisition,
}

impl ImageSummary {
    pub(super) fn read(path: &Path, settings: &ReadSettings) -> Result<Self, ReadError> {
        let (image, stored) = read::read_stored(path, settings)?;
        Ok(Self {
            picture: picture_digits(&image),
            size: image.size(),
            appearance: Appearance::of(&image),
            acquisition: Acquisition::of(&image, &stored),
        })
    }
}
