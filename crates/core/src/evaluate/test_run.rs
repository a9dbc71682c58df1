//! Running a detector over the test part of a data set.

use std::time::{Duration, Instant};

use crate::data::image_source::FileSettings;
use crate::data::mask::{Mask, MaskError};
use crate::data::{Acquisition, Dataset, DatasetError, TestImage};
use crate::detector::Detector;
use crate::evaluate::{Evaluation, EvaluationError, Evaluator};
use crate::image::Image;
use crate::image::read::{self, ReadError};
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::SizeMismatch;
use crate::observer::Observer;
use crate::pipeline;
use crate::report::ReportError;
use crate::verdict::attribution::Explained;
use pupilla_files::atomic_file::WriteError;

/// How to test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TestSettings {
    /// The false-positive rate up to which AU-PRO is integrated (0.3).
    pub fpr_limit: f64,
    /// Mask pixels above this value (of 255) are defective (0, as in MVTec's evaluation).
    pub mask_threshold: u8,
    /// Fill the evaluation's curves with points this far apart ([`Evaluator::with_curves`]).
    pub curve_spacing: Option<f64>,
    /// How the files of images are read: unreadable images may be left out.
    pub files: FileSettings,
}

impl Default for TestSettings {
    fn default() -> Self {
        Self {
            fpr_limit: 0.3,
            mask_threshold: 0,
            curve_spacing: None,
            files: FileSettings::default(),
        }
    }
}

/// A data set could not be tested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestError {
    /// The data set has no test part.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// An image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A mask cannot be read, or does not fit its image.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// The detector refused an image.
    #[error("{image}: {source}")]
    Detector {
        /// The image.
        image: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// A file that `each` makes of an image cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A picture could not be put together.
    #[error(transparent)]
    Picture(#[from] SizeMismatch),
    /// The report refused an image.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Not one test image could be read.
    #[error("none of the {0} test images can be read")]
    NoneReadable(usize),
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
}

/// A test image with all that is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Tested<'a> {
    /// Its files and label.
    pub test: &'a TestImage,
    /// Its name for people: `<defect>/<file>`.
    pub name: &'a str,
    /// The image.
    pub image: &'a Image,
    /// How the image was taken.
    pub acquisition: &'a Acquisition,
    /// Its ground truth; `None` if the place of its defect is not known.
    pub mask: Option<&'a Mask>,
    /// The detector's map.
    pub map: &'a AnomalyMap,
    /// The same with its parts.
    pub explained: &'a Explained,
}

/// A test image that was read: the image, how it was taken, its ground truth.
type ReadTest = (Image, Acquisition, Option<Mask>);

/// Scores every test image of `dataset`, shows each to `each`, and evaluates.
///
/// `seconds_per_image` of the result is the mean time from decoded image to map.
///
/// # Errors
/// [`TestError`]; the first one ends the run.
pub fn run<D: Detector>(
    detector: &D,
    dataset: &Dataset,
    settings: &TestSettings,
    observer: &mut dyn Observer,
    each: &mut dyn FnMut(&Tested<'_>) -> Result<(), TestError>,
) -> Result<Evaluation, TestError> {
    let tests = dataset.require_test()?;
    let mut evaluator = Evaluator::new(settings.fpr_limit, settings.mask_threshold)?;
    if let Some(spacing) = settings.curve_spacing {
        evaluator = evaluator.with_curves(spacing);
    }
    let mut time = Duration::ZERO;
    observer.start(&format!("testing {}", dataset.name), tests.len() as u64);
    let stop = observer.stop_flag();
    // The next image and its mask are read while the detector scores an image.
    let read = |(done, test): (usize, &'_ TestImage)| {
        let read = match read::read_stored(&test.path, &settings.files.read) {
            Err(error) if settings.files.skip_unreadable => return Ok((done, Err(error))),
            Err(error) => return Err(error.into()),
            Ok((image, stored)) => {
                let mask = test.read_mask(settings.mask_threshold, image.size())?;
                let acquisition = Acquisition::of(&image, &stored);
                (image, acquisition, mask)
            }
        };
        Ok((done, Ok(read)))
    };
    let score = |(done, read): (usize, Result<ReadTest, ReadError>)| {
        if observer.stop_requested() {
            return Err(TestError::Stopped);
        }
        let test = &tests[done];
        match read {
            Err(error) => observer.skipped(&test.path, &error.to_string()),
            Ok((image, acquisition, mask)) => {
                let name = test.display_name();
                let start = Instant::now();
                let explained = detector.explain_until(&image, &stop).map_err(|error| {
                    if stop.is_raised() {
                        return TestError::Stopped;
                    }
                    TestError::Detector {
                        image: test.path.display().to_string(),
                        source: Box::new(error),
                    }
                })?;
                time += start.elapsed();
                let map = &explained.map;
                evaluator.add(&name, test.defect.as_deref(), map, mask.as_ref())?;
                each(&Tested {
                    test,
                    name: &name,
                    image: &image,
                    acquisition: &acquisition,
                    mask: mask.as_ref(),
                    map,
                    explained: &explained,
                })?;
            }
        }
        observer.advance(done as u64 + 1, None);
        Ok(())
    };
    pipeline::run(tests.iter().enumerate(), read, score, Ok)?;
    observer.finish();
    let images = evaluator.images();
    if images == 0 {
        return Err(TestError::NoneReadable(tests.len()));
    }
    let mut evaluation = evaluator.finish();
    evaluation.seconds_per_image = Some(time.as_secs_f64() / images as f64);
    for warning in &evaluation.warnings {
        observer.warn(warning);
    }
    Ok(evaluation)
}
