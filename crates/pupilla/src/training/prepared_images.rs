//! Good images of a folder or in memory, split for training and validation; and the training of a detector that records where its images
//! came from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use pupilla_core::data::image_source::{FileSettings, ImageSet, ImageSetError, Listed};
use pupilla_core::data::{
    Acquisition, Acquisitions, Dataset, DatasetError, FingerprintError, Split, SplitError, split,
};
use pupilla_core::detector::Fit;
use pupilla_core::observer::Observer;
use pupilla_files::weight_file::WeightFileError;

use super::Checked;
use crate::error::TrainError;
use crate::features::ExtractorError;
use crate::manifest::{DataManifest, Trained};

/// The share of the good images that is kept back for validation: a tenth, as in the paper, and of fewer than a hundred images a fifth
/// or ten images. A tenth of few images is too few to normalise and to calibrate on (`docs/notes/thresholds.md`).
fn validation_share(images: usize) -> f64 {
    const ENOUGH: f64 = 10.0;
    (ENOUGH / images as f64).clamp(0.1, 0.2)
}

/// Training on images could not begin or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError {
    /// Training itself.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The data set has no good image.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The image files.
    #[error(transparent)]
    Files(#[from] ImageSetError),
    /// The split into training and validation.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The file of a teacher.
    #[error(transparent)]
    Teacher(#[from] WeightFileError),
    /// The pretrained network.
    #[error(transparent)]
    Extractor(#[from] ExtractorError),
    /// The fingerprint of the files.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
}

/// The good images of a data set, or in memory: a detector of any configuration is [fitted](Self::fit) on them.
///
/// ```no_run
/// use pupilla::{Config, Dataset, FileSettings, PreparedImages, Silent, StudentTeacherConfig};
///
/// let mut config = StudentTeacherConfig::built_in()?;
/// config.settings.students = 5;
/// let config = config.check()?;
/// let settings = FileSettings::default();
/// let files = PreparedImages::open(&Dataset::open("good_images")?, 0, &settings, &mut Silent)?;
/// let detector = files.fit(&config, &mut Silent)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Every file is decoded once. Of copies of a picture, one is taken. Some of the images are kept back for validation: those that the data
/// set has for it, or else images chosen by the seed: a tenth, and of fewer than a hundred images a fifth or ten images.
#[derive(Clone, Debug)]
pub struct PreparedImages {
    training: ImageSet,
    validation: ImageSet,
    data: DataManifest,
}

impl PreparedImages {
    /// Reads and splits. Tells the observer if the images differ in depth, size or colour, or use a part of their range.
    ///
    /// # Errors
    /// If a file cannot be read (and is not to be skipped), there are fewer than two images, or the observer asks to stop.
    pub fn open(
        dataset: &Dataset,
        seed: u64,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, FitError> {
        dataset.require_good()?;
        let all = [&dataset.good[..], &dataset.validation].concat();
        let images = ImageSet::open(&all, settings, observer)?;
        let from = Source {
            name: &dataset.name,
            root: &dataset.root,
            validation: &dataset.validation,
        };
        Self::of(images, from, seed, settings, observer)
    }

    /// The same for a list of images, files or in memory. Images in memory are split by their order.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_list(
        images: Listed,
        seed: u64,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, FitError> {
        let images = images.read(settings, observer)?;
        let from = Source {
            name: LIST,
            root: Path::new(""),
            validation: &[],
        };
        Self::of(images, from, seed, settings, observer)
    }

    fn of(
        images: ImageSet,
        from: Source<'_>,
        seed: u64,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, FitError> {
        let taken: Vec<Acquisition> = images.acquisitions().copied().collect();
        let acquired = Acquisitions::of(&taken, settings.read.bits);
        for warning in acquired.iter().flat_map(Acquisitions::warnings) {
            observer.warn(&warning);
        }
        let split = split_of(from.validation, &images.paths(), seed)?;
        let (training, validation) = (
            images.select(&split.training),
            images.select(&split.validation),
        );
        let mut learned: Vec<String> = training.pictures().map(str::to_string).collect();
        learned.sort_unstable();
        Ok(Self {
            data: DataManifest {
                name: from.name.to_owned(),
                fingerprint: images.fingerprint(from.root)?,
                validation: split
                    .validation
                    .iter()
                    .map(|path| file_name(path))
                    .collect(),
                learned,
                images: acquired,
            },
            training,
            validation,
        })
    }

    /// The images to learn from.
    pub fn training(&self) -> &ImageSet {
        &self.training
    }

    /// The images that are kept back.
    pub fn validation(&self) -> &ImageSet {
        &self.validation
    }

    /// Name, fingerprint and split of the images, for the manifest.
    pub fn data(&self) -> &DataManifest {
        &self.data
    }

    /// Fits a detector on the images. The detector records where its images came from.
    ///
    /// # Errors
    /// If a file cannot be read any more, or training fails or is stopped.
    pub fn fit<C, D>(
        &self,
        config: &Checked<'_, C>,
        observer: &mut dyn Observer,
    ) -> Result<D, TrainError>
    where
        for<'a> Checked<'a, C>: Fit<Detector = D, Error = TrainError>,
        D: Trained,
    {
        let detector = config.fit(&self.training, &self.validation, observer)?;
        Ok(detector.with_data(self.data.clone()))
    }
}

/// What a list of images is called where a data set has a name.
pub const LIST: &str = "a list of images";

/// Where the images are from.
struct Source<'a> {
    name: &'a str,
    /// The folder that paths are relative to.
    root: &'a Path,
    /// The paths of the data set's own validation images.
    validation: &'a [PathBuf],
}

/// The data set's own split, or one by the seed. Of copies in both parts, the one to learn from has been taken.
fn split_of(own: &[PathBuf], images: &[PathBuf], seed: u64) -> Result<Split, SplitError> {
    let own: HashSet<&PathBuf> = own.iter().collect();
    let (validation, training): (Vec<_>, Vec<_>) =
        images.iter().cloned().partition(|path| own.contains(path));
    if validation.is_empty() || training.is_empty() {
        return split(images, validation_share(images.len()), seed);
    }
    Ok(Split {
        training,
        validation,
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_of_few_images_are_kept_back() {
        for (images, kept_back) in [(10, 2), (30, 6), (50, 10), (70, 10), (100, 10), (220, 22)] {
            let found = (images as f64 * validation_share(images)).round();
            assert_eq!(found, f64::from(kept_back), "{images}");
        }
    }
}
