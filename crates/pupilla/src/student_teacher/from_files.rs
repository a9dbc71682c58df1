//! From a folder of good images to a trained detector, in one call.

use pupilla_core::data::Dataset;
use pupilla_core::observer::Observer;

use super::config::StudentTeacherConfig;
use super::detector::StudentTeacher;
use crate::prepared_files::{FitFilesError, PreparedFiles};

/// Fits a detector on the good images of a data set: [`PreparedFiles::open`] and [`PreparedFiles::fit`].
///
/// # Errors
/// Those of both.
pub fn fit_files(
    config: &StudentTeacherConfig,
    dataset: &Dataset,
    skip_unreadable: bool,
    observer: &mut dyn Observer,
) -> Result<StudentTeacher, FitFilesError> {
    config.check()?;
    let seed = config.settings.seed;
    let files = PreparedFiles::open(dataset, seed, skip_unreadable, observer)?;
    Ok(files.fit(config, observer)?)
}
