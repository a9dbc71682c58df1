//! A folder of good images, without labels.

use std::path::Path;

use super::images_of;
use crate::data::{Dataset, DatasetError, Layout, OpenSettings};

pub(super) fn open(path: &Path, settings: &OpenSettings) -> Result<Dataset, DatasetError> {
    let mut dataset = Dataset::empty(Dataset::name_of(path), path, Layout::GoodImages);
    dataset.good = images_of(path, settings, true, &mut dataset.passed_over)?;
    Ok(dataset)
}
