//! The report of a test: one HTML page with everything in it (no network), to be shown to a customer.
//!
//! A [`Report`] takes images as they are tested and keeps thumbnails of the most instructive ones; with the
//! figures of the whole test it becomes a page of headline numbers, curves, histograms and a gallery.

mod gallery;
mod histogram;
mod page;
mod plot;
pub mod published;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::anomaly_map::AnomalyMap;
use crate::atomic_file::{self, WriteError};
use crate::calibration::Thresholds;
use crate::evaluation::Evaluation;
use crate::heatmap::{Heatmap, SizeMismatch};
use crate::image::Image;
use crate::mask::Mask;
use crate::verdict::Verdict;

use gallery::Gallery;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Image, mask and map differ in size.
    #[error(transparent)]
    Size(#[from] SizeMismatch),
    /// A thumbnail could not be encoded.
    #[error("cannot encode a thumbnail of {image}: {source}")]
    Thumbnail {
        /// The image.
        image: String,
        /// What the encoder said.
        source: ::image::ImageError,
    },
    /// A plot could not be drawn.
    #[error("cannot draw the plot of {what}: {reason}")]
    Plot {
        /// What it shows.
        what: &'static str,
        /// What the plotting crate said.
        reason: String,
    },
    /// The page could not be put together.
    #[error("cannot put the page together: {0}")]
    Page(#[from] askama::Error),
    /// The page could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// One tested image. Image, mask and map have the same size.
#[derive(Clone, Copy, Debug)]
pub struct ReportImage<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// Its defect type; `None` for a good image.
    pub defect: Option<&'a str>,
    /// The image.
    pub image: &'a Image,
    /// Its ground-truth mask.
    pub mask: &'a Mask,
    /// Its anomaly map.
    pub map: &'a AnomalyMap,
    /// What was said about it.
    pub verdict: &'a Verdict,
}

/// What the page says beside the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// The heading, as the data set's name.
    pub title: String,
    /// The data set's name, by which published figures are found.
    pub category: String,
    /// The patch sizes of the model, which say what published figure to compare with; empty if it has
    /// none.
    pub scales: Vec<usize>,
    /// The thresholds that the model has, with what they promise.
    pub thresholds: Thresholds,
    /// Groups of settings and origins, each with a heading.
    pub facts: Vec<Facts>,
    /// What a person should know beside the evaluation's own warnings.
    pub warnings: Vec<String>,
}

/// A group of things to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What they are about.
    pub heading: String,
    /// Name and value.
    pub facts: Vec<(String, String)>,
}

/// How a verdict relates to the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Missed,
    FalseAlarm,
    Found,
    Passed,
}

impl Outcome {
    fn of(image: &ReportImage<'_>) -> Self {
        match (image.defect.is_some(), image.verdict.defective) {
            (true, false) => Self::Missed,
            (false, true) => Self::FalseAlarm,
            (true, true) => Self::Found,
            (false, false) => Self::Passed,
        }
    }

    fn is_mistake(self) -> bool {
        matches!(self, Self::Missed | Self::FalseAlarm)
    }
}

/// Images called defective, of all of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    images: usize,
    called_defective: usize,
}

/// A report under construction. Its memory is bounded by the number of images that it shows, about 50 kB
/// each.
#[derive(Clone, Debug)]
pub struct Report {
    gallery: Gallery,
    /// The threshold that the images were judged by.
    threshold: f32,
    pixel_threshold: f32,
    good: Tally,
    defects: BTreeMap<String, Tally>,
}

impl Report {
    /// An empty report that shows at most so many images, mistakes before others. `threshold` and
    /// `pixel_threshold` are those of the verdicts to come, `heatmap` the colour scale of all maps.
    pub fn new(heatmap: Heatmap, threshold: f32, pixel_threshold: f32, images: usize) -> Self {
        Self {
            gallery: Gallery::new(heatmap, images),
            threshold,
            pixel_threshold,
            good: Tally::default(),
            defects: BTreeMap::new(),
        }
    }

    /// Adds a tested image.
    ///
    /// # Errors
    /// [`ReportError`] if image, mask and map differ in size.
    pub fn add(&mut self, image: &ReportImage<'_>) -> Result<(), ReportError> {
        self.gallery.add(image)?;
        let tally = match image.defect {
            None => &mut self.good,
            Some(defect) => self.defects.entry(defect.to_owned()).or_default(),
        };
        tally.images += 1;
        tally.called_defective += usize::from(image.verdict.defective);
        Ok(())
    }

    /// The page: readable from 320 px wide, in light and dark; all text escaped.
    ///
    /// # Errors
    /// [`ReportError`] if a plot cannot be drawn.
    pub fn html(&self, about: &About, evaluation: &Evaluation) -> Result<String, ReportError> {
        page::render(self, about, evaluation)
    }

    /// Writes [`html`](Self::html) as `index.html` into a folder that exists, whole or not at all, and says
    /// where.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn write(
        &self,
        folder: &Path,
        about: &About,
        evaluation: &Evaluation,
    ) -> Result<PathBuf, ReportError> {
        let path = folder.join("index.html");
        atomic_file::write_bytes(&path, self.html(about, evaluation)?.as_bytes())?;
        Ok(path)
    }
}
