//! From a folder of good images to a trained detector that knows where they came from.

use std::path::Path;

use pupilla_core::dataset::{Dataset, FingerprintError, SplitError, fingerprint, split};
use pupilla_core::detector::Fit;
use pupilla_core::image_source::{ImageFiles, ImageFilesError};
use pupilla_core::observer::Observer;

use super::config::StudentTeacherConfig;
use super::detector::StudentTeacher;
use super::model_file::DataManifest;
use crate::error::TrainError;

/// Share of the good images that is kept back for validation (the paper's choice of a tenth).
pub const VALIDATION_SHARE: f64 = 0.1;

/// Training on files could not begin or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitFilesError {
    /// Training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The image files.
    #[error(transparent)]
    Files(#[from] ImageFilesError),
    /// The split into training and validation.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The fingerprint of the files.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
}

/// Fits a detector on the good images of a data set, a tenth of them kept back by the seed for
/// validation, and records both in its manifest.
///
/// # Errors
/// If the settings are wrong, a file cannot be read (and `skip_unreadable` is not set), there are
/// fewer than two images, or training fails or is stopped.
pub fn fit_files(
    config: &StudentTeacherConfig,
    dataset: &Dataset,
    skip_unreadable: bool,
    observer: &mut dyn Observer,
) -> Result<StudentTeacher, FitFilesError> {
    config.check()?;
    let files = ImageFiles::open(&dataset.good, skip_unreadable, observer)?;
    let split = split(files.paths(), VALIDATION_SHARE, config.settings.seed)?;
    let data = DataManifest {
        name: dataset.name.clone(),
        fingerprint: fingerprint(files.paths(), &dataset.root)?,
        validation: split
            .validation
            .iter()
            .map(|path| file_name(path))
            .collect(),
    };
    let detector = config.fit(
        &files.select(&split.training),
        &files.select(&split.validation),
        observer,
    )?;
    Ok(detector.with_data(data))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
