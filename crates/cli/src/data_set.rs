//! The data set that a command gets: opened, and told what it is.

use std::path::{Path, PathBuf};

use pupilla_core::data::{Dataset, Layout, PassedOver};
use pupilla_core::observer::Observer;

use crate::options::DataLayout;
use crate::progress::Progress;

/// Opens the one data set at `path`.
pub fn open(path: &Path, layout: &DataLayout, progress: &mut Progress) -> anyhow::Result<Dataset> {
    let dataset = Dataset::open_with(path, &layout.settings())?;
    tell(&dataset, layout, progress);
    Ok(dataset)
}

/// Says how a data set was read, if that is not plain, and what was passed over.
pub fn tell(dataset: &Dataset, layout: &DataLayout, progress: &mut Progress) {
    if ![Layout::GoodImages, Layout::MvtecAd].contains(&dataset.layout) {
        progress.note(&format!("{}: {}", dataset.name, dataset.summary()));
    }
    if dataset.is_called_bad() {
        progress.warn(&format!(
            "the folder is called {}: are its images good?",
            dataset.name
        ));
    }
    let recursive = dataset.layout == Layout::GoodImages && !layout.settings().recursive;
    tell_passed_over(
        &dataset.passed_over,
        recursive.then_some("--recursive"),
        progress,
    );
}

/// Says which entries of the folders were passed over. `recursive` is the option that takes folders below, if there is one.
pub fn tell_passed_over(passed_over: &PassedOver, recursive: Option<&str>, progress: &Progress) {
    if passed_over.is_empty() {
        return;
    }
    let hint = match recursive {
        Some(option) if passed_over.images_in_folders() > 0 => {
            format!(" ({option} takes the folders below too)")
        }
        _ => String::new(),
    };
    progress.note(&format!("passed over: {passed_over}{hint}"));
}

/// Warns of images that were taken otherwise than those that a model has learned from; `unlike` says how, for each of all `images`.
pub fn warn_unlike(
    unlike: impl Iterator<Item = (Option<Vec<String>>, PathBuf)>,
    images: usize,
    progress: &mut Progress,
) {
    let unlike = unlike.filter_map(|(reasons, path)| Some((reasons?, path)));
    let mut unlike = unlike.filter(|(reasons, _)| !reasons.is_empty());
    if let Some((reasons, path)) = unlike.next() {
        progress.warn(&format!(
            "{} of {images} images are unlike those that the model has learned from, as {}: {}",
            unlike.count() + 1,
            path.display(),
            reasons.join("; ")
        ));
    }
}
