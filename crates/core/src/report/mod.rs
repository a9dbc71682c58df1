//! The report of a test: one HTML page with everything in it, which needs no internet connection. It is made to be shown to a customer.
//!
//! A [`Report`] takes images as they are tested and keeps thumbnails of the most instructive ones; with the
//! figures of the whole test it becomes a page of headline numbers, curves, histograms and a gallery.

pub mod comparison;
mod gallery;
mod histogram;
mod page;
pub mod patch_sheet;
mod plot;
pub mod published;
pub mod sheet;
mod thumbnail;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::mask::Mask;
use crate::evaluate::Evaluation;
use crate::image::Image;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::{Heatmap, SizeMismatch};
use crate::verdict::Verdict;
use crate::verdict::calibration::Thresholds;
use pupilla_files::atomic_file::{self, WriteError};

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
        /// The message of the encoder.
        source: ::image::ImageError,
    },
    /// A plot could not be drawn.
    #[error("cannot draw the plot of {what}: {reason}")]
    Plot {
        /// What it shows.
        what: &'static str,
        /// The message of the plotting crate.
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
    /// The name of the image.
    pub name: &'a str,
    /// Its defect type; `None` for a good image.
    pub defect: Option<&'a str>,
    /// The image.
    pub image: &'a Image,
    /// Its ground-truth mask.
    pub mask: &'a Mask,
    /// Its anomaly map.
    pub map: &'a AnomalyMap,
    /// Its verdict.
    pub verdict: &'a Verdict,
}

/// The texts of the page beside the figures.
#[derive(Clone, Debug, PartialEq)]
pub struct PageTexts {
    /// The heading, as the data set's name.
    pub title: String,
    /// The data set's name, by which published figures are found.
    pub category: String,
    /// The patch sizes of the model, which say what published figure to compare with; empty if it has
    /// none.
    pub scales: Vec<usize>,
    /// Regions of fewer pixels were left out of the verdicts.
    pub min_area: usize,
    /// The thresholds that the model has, with what they promise.
    pub thresholds: Thresholds,
    /// Groups of settings and origins, each with a heading.
    pub facts: Vec<Facts>,
    /// Warnings for people, beside the evaluation's own warnings.
    pub warnings: Vec<String>,
}

/// A group of things to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The subject of the group.
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
    /// An empty report that shows at most `images` images, mistakes first. `threshold` and `pixel_threshold` are the thresholds of all
    /// verdicts, `heatmap` is the colour scale of all maps.
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
    pub fn html(&self, about: &PageTexts, evaluation: &Evaluation) -> Result<String, ReportError> {
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
        about: &PageTexts,
        evaluation: &Evaluation,
    ) -> Result<PathBuf, ReportError> {
        let path = folder.join("index.html");
        atomic_file::write_bytes(&path, self.html(about, evaluation)?.as_bytes())?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Evaluator;
    use crate::verdict::Rule;
    use crate::verdict::attribution::{Explained, Part};

    const SCALE: Heatmap = Heatmap {
        low: 0.0,
        high: 1.0,
    };

    /// Tests images that score `scores` in one corner and 0 elsewhere, judged by a threshold of 0.5.
    fn tested(images: &[(&str, Option<&str>, f32)], shown: usize) -> (Report, Evaluation) {
        let (width, height) = (300, 200);
        let rule = Rule {
            image_threshold: 0.5,
            pixel_threshold: 0.5,
            min_area: 1,
            inspected: None,
        };
        let mut report = Report::new(SCALE, 0.5, 0.5, shown);
        let mut evaluator = Evaluator::new(0.3, 0).unwrap().with_curves(0.01);
        for &(name, defect, score) in images {
            let corner = |at: usize| at % width < 20 && at / width < 20;
            let scores = (0..width * height).map(|at| if corner(at) { score } else { 0.0 });
            let map = AnomalyMap::new(width, height, scores.collect());
            let whole = map.clone();
            let explained = Explained {
                map,
                parts: vec![Part::new("33", "regression_error", move || whole.clone())],
            };
            let truth = (0..width * height).map(|at| defect.is_some() && corner(at));
            let mask = Mask::new(width, height, truth.collect());
            evaluator.add(name, defect, &explained.map, &mask).unwrap();
            let image = ReportImage {
                name,
                defect,
                image: &Image::new(width, height, vec![0.5; width * height * 3]),
                mask: &mask,
                map: &explained.map,
                verdict: &rule.judge(&explained).unwrap(),
            };
            report.add(&image).unwrap();
        }
        (report, evaluator.finish())
    }

    fn about(title: &str) -> PageTexts {
        PageTexts {
            title: title.to_owned(),
            category: title.to_owned(),
            min_area: 1,
            scales: vec![33],
            thresholds: Thresholds::highest(&[0.5]),
            facts: vec![Facts {
                heading: "Settings".to_owned(),
                facts: vec![("seed".to_owned(), "<7>".to_owned())],
            }],
            warnings: vec!["<warned>".to_owned()],
        }
    }

    #[test]
    fn everything_is_on_the_page_and_names_are_escaped() {
        let images = [
            ("good/\"><script>alert(1)</script>.png", None, 0.1),
            ("good/loud.png", None, 0.9),
            ("cut/quiet.png", Some("\"><b onload='x'>"), 0.2),
            ("cut/clear.png", Some("\"><b onload='x'>"), 0.8),
        ];
        let (report, evaluation) = tested(&images, 10);
        let page = report.html(&about("<i>nut"), &evaluation).unwrap();
        for hostile in [
            "<script>alert",
            "<b onload",
            "<i>nut",
            "<7>",
            "<warned>",
            "http:",
            "https:",
            "//www",
        ] {
            // The only address is the namespace that marks an SVG as one.
            let page = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(hostile), "{hostile}");
        }
        for expected in [
            "<b>1 of 2</b> defective images found (1 missed), <b>1 of 2</b> good images rejected",
            "missed",
            "false alarm",
            "found",
            "passed",
            "1 region<",
            "regression error 100 %",
            "ROC",
            "PRO",
            "Precision and recall",
            "0.5000 for images",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert_eq!(page.matches("<article ").count(), 4);
        assert_eq!(page.matches("<img ").count(), 12);
        // Three curves, one histogram.
        assert_eq!(page.matches("<svg ").count(), 4);
        assert!(!page.contains("Published figures"));
        // The mistakes come first.
        assert!(page.find("loud.png").unwrap() < page.find("clear.png").unwrap());
    }

    #[test]
    fn a_known_category_has_published_figures_beside_its_own() {
        let (report, evaluation) = tested(&[("a", None, 0.1), ("b", Some("cut"), 0.8)], 10);
        let page = report.html(&about("metal_nut"), &evaluation).unwrap();
        assert!(page.contains("published, p = 33: 0.928"));
        // Up to another rate nothing was published.
        let other = Evaluation {
            fpr_limit: 0.05,
            ..evaluation
        };
        let page = report.html(&about("metal_nut"), &other).unwrap();
        assert!(!page.contains("0.928"));
    }

    #[test]
    fn when_it_is_full_mistakes_and_rare_kinds_keep_their_place() {
        let mut images = vec![("x", Some("cut"), 0.8); 10];
        images.extend([("y", Some("hole"), 0.8); 10]);
        images.extend([("wrong", None, 0.9); 3]);
        let (report, evaluation) = tested(&images, 8);
        let shown = |name: &str| {
            let cards = report.gallery.cards.iter();
            cards.filter(|card| card.name == name).count()
        };
        assert_eq!((report.gallery.cards.len(), report.gallery.seen), (8, 23));
        assert_eq!(shown("wrong"), 3);
        assert!(shown("x") >= 2 && shown("y") >= 2);
        let page = report.html(&about("x"), &evaluation).unwrap();
        assert!(page.contains("8 of 23, mistakes before others") && page.contains("10 of 10"));
        // Among mistakes too.
        let mut missed = vec![("x", Some("cut"), 0.1); 10];
        missed.extend([("y", None, 0.9); 3]);
        let (report, _) = tested(&missed, 6);
        let alarms = report.gallery.cards.iter().filter(|card| card.name == "y");
        assert_eq!(alarms.count(), 3);
        let (none, evaluation) = tested(&images, 0);
        assert!(
            !none
                .html(&about("x"), &evaluation)
                .unwrap()
                .contains("<article")
        );
    }

    #[test]
    fn a_test_of_one_class_or_without_curves_is_a_page_too() {
        let (report, mut evaluation) = tested(&[("a", None, 0.1)], 10);
        let page = report.html(&about("x"), &evaluation).unwrap();
        assert!(page.contains("0 of 1</b> good images rejected") && !page.contains("found ("));
        evaluation.curves = None;
        report.html(&about("x"), &evaluation).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = report
            .write(folder.path(), &about("x"), &evaluation)
            .unwrap();
        assert_eq!(path, folder.path().join("index.html"));
        assert!(
            report
                .write(&folder.path().join("none"), &about("x"), &evaluation)
                .is_err()
        );
    }
}
