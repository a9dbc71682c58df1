//! Evaluating the anomaly maps of any tool, read from files.
//!
//! Maps and masks are read on all threads while the images before them are gathered; of each pixel 4 bytes are
//! kept (8 in a defect).

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::dataset::{Dataset, DatasetError, TestImage};
use crate::evaluation::{Evaluation, EvaluationError, Evaluator, ScoredImage};
use crate::image::read::{self, ReadError};
use crate::map_file::{self, MapFileError};
use crate::map_set::{self, MapSetError};
use crate::mask::{Mask, MaskError};
use crate::observer::Observer;

/// The most pixels that are read before the next look at the observer (one image at least): bounds what is held
/// beside the gathered pixels.
const PIXELS_AT_ONCE: usize = 1 << 24;

/// The most files that are read before the next look at the observer.
const FILES_AT_ONCE: usize = 64;

/// How to evaluate maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSettings {
    /// The false-positive rate up to which AU-PRO is integrated (0.3).
    pub fpr_limit: f64,
    /// Mask pixels above this value (of 255) are defective (0, as in MVTec's evaluation).
    pub mask_threshold: u8,
    /// Fill the evaluation's curves with points this far apart ([`Evaluator::with_curves`]).
    pub curve_spacing: Option<f64>,
}

impl Default for MapSettings {
    fn default() -> Self {
        Self {
            fpr_limit: 0.3,
            mask_threshold: 0,
            curve_spacing: None,
        }
    }
}

/// Maps could not be evaluated. Each variant names the file concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapRunError {
    /// The data set has no test part.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Maps are missing or doubled.
    #[error(transparent)]
    Maps(#[from] MapSetError),
    /// An image's size cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A map cannot be read, or does not fit its image.
    #[error(transparent)]
    Map(#[from] MapFileError),
    /// A mask cannot be read, or does not fit its image.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A map cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
}

/// Evaluates the maps in `folder` ([`map_set`] says where) against the test part of `dataset`.
///
/// The same maps give the same evaluation as [`test_run::run`](crate::test_run::run) of the detector that made
/// them, times left out. Only the headers of the images are read.
///
/// # Errors
/// [`MapRunError`]: of several files, the first in the data set's order.
pub fn run(
    folder: &Path,
    dataset: &Dataset,
    settings: &MapSettings,
    observer: &mut dyn Observer,
) -> Result<Evaluation, MapRunError> {
    let tests = dataset.require_test()?;
    let mut evaluator = Evaluator::new(settings.fpr_limit, settings.mask_threshold)?;
    if let Some(spacing) = settings.curve_spacing {
        evaluator = evaluator.with_curves(spacing);
    }
    let maps = map_set::find(folder, dataset)?;
    if let Some(first) = maps.without_image.first() {
        observer.warn(&format!(
            "{} anomaly maps belong to no image and are left out, the first: {}",
            maps.without_image.len(),
            first.display()
        ));
    }
    observer.start(&format!("scoring {}", dataset.name), tests.len() as u64);
    let sizes: Vec<_> = tests
        .par_iter()
        .map(|test| read::size(&test.path))
        .collect();
    let sizes: Vec<(usize, usize)> = sizes.into_iter().collect::<Result<_, _>>()?;
    let files: Vec<File<'_>> = tests
        .iter()
        .zip(maps.paths)
        .zip(sizes)
        .map(|((test, map), size)| File { test, map, size })
        .collect();
    let mut waiting = &files[..];
    while !waiting.is_empty() {
        if observer.stop_requested() {
            return Err(MapRunError::Stopped);
        }
        let (some, rest) = waiting.split_at(piece(waiting));
        let scored: Vec<_> = some
            .par_iter()
            .with_max_len(1)
            .map(|file| file.scored(settings.mask_threshold))
            .collect();
        for image in scored {
            evaluator.add_scored(image?);
        }
        waiting = rest;
        observer.advance(evaluator.images() as u64, None);
    }
    observer.finish();
    let evaluation = evaluator.finish();
    for warning in &evaluation.warnings {
        observer.warn(warning);
    }
    Ok(evaluation)
}

/// A test image and its map.
struct File<'a> {
    test: &'a TestImage,
    map: PathBuf,
    size: (usize, usize),
}

impl File<'_> {
    fn scored(&self, mask_threshold: u8) -> Result<ScoredImage, MapRunError> {
        let (test, size) = (self.test, self.size);
        let map = map_file::read_for(&self.map, &test.path, size)?;
        let mask = match &test.mask {
            None => Mask::good(size.0, size.1),
            Some(path) => Mask::read_for(path, mask_threshold, &test.path, size)?,
        };
        let name = test.display_name();
        Ok(ScoredImage::new(
            &name,
            test.defect.as_deref(),
            &map,
            &mask,
        )?)
    }
}

/// How many of the files come next.
fn piece(files: &[File<'_>]) -> usize {
    let mut pixels = 0;
    let within = files.iter().take(FILES_AT_ONCE).take_while(|file| {
        pixels += file.size.0 * file.size.1;
        pixels <= PIXELS_AT_ONCE
    });
    within.count().max(1)
}
