//! The report of tested or inspected images: one HTML page with everything in it, which needs no internet connection. It is made to be
//! shown to a customer.
//!
//! A [`Report`] takes images one by one. It keeps every score, and the pictures of the most instructive images. With the measures of a
//! test it becomes a page of figures, curves, a movable threshold and a gallery. Without labels it shows verdicts and scores alone.

pub mod comparison;
pub mod contact_sheet;
mod gallery;
mod histogram;
mod layer;
mod outline;
mod page;
pub mod patch_sheet;
mod plot;
pub mod published;
mod thumbnail;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::mask::Mask;
use crate::evaluate::Evaluation;
use crate::image::Image;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::{Heatmap, SizeMismatch};
use crate::verdict::calibration::Thresholds;
use crate::verdict::{Rule, Verdict};
use pupilla_files::atomic_file::{self, WriteError};

use gallery::Gallery;
pub use gallery::Shown;

/// A report could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Image, mask and map differ in size.
    #[error(transparent)]
    Size(#[from] SizeMismatch),
    /// A picture could not be encoded.
    #[error("cannot encode a picture of {image}: {source}")]
    Picture {
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
    /// The scores could not be written into the page.
    #[error("cannot write the scores into the page: {0}")]
    Scores(#[from] serde_json::Error),
    /// The page could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What is known about an image beside its scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label<'a> {
    /// Nothing.
    Unknown,
    /// The image shows a good part.
    Good,
    /// The image shows a defect of this type.
    Defective(&'a str),
}

impl<'a> Label<'a> {
    /// The label of a test image: its defect type, or `None` for a good image.
    pub fn of_test(defect: Option<&'a str>) -> Self {
        defect.map_or(Self::Good, Self::Defective)
    }
}

/// One image with its result. Image, mask and map have the same size.
#[derive(Clone, Copy, Debug)]
pub struct ReportImage<'a> {
    /// The name of the image.
    pub name: &'a str,
    /// Its label.
    pub label: Label<'a>,
    /// The image.
    pub image: &'a Image,
    /// Its ground-truth mask, if there is one.
    pub mask: Option<&'a Mask>,
    /// Its anomaly map.
    pub map: &'a AnomalyMap,
    /// Its verdict, by the rule of the report.
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

/// The label of an image without the defect's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Truth {
    Unknown,
    Good,
    Defective,
}

impl Truth {
    /// What the page calls an image that is accepted, and an image that is called defective.
    fn words(self) -> [&'static str; 2] {
        match self {
            Self::Unknown => ["good", "defective"],
            Self::Good => ["passed", "false alarm"],
            Self::Defective => ["missed", "found"],
        }
    }

    fn is_mistake(self, called_defective: bool) -> bool {
        match self {
            Self::Unknown => false,
            Self::Good => called_defective,
            Self::Defective => !called_defective,
        }
    }
}

/// What a report keeps of every image.
#[derive(Clone, Debug)]
struct Judged {
    name: String,
    truth: Truth,
    /// The defect's name, `good`, or nothing.
    kind: String,
    score: f32,
    /// The image is called defective by every threshold below this: its score, or the highest peak of its regions where small regions
    /// are left out.
    decisive: f32,
    regions: usize,
    /// The area of its largest region, in pixels.
    largest: usize,
}

impl Judged {
    fn is_mistake(&self, threshold: f32) -> bool {
        self.truth.is_mistake(self.decisive > threshold)
    }

    /// How much there is to learn from the image: grave mistakes first, then the images nearest to the threshold; without labels, the
    /// highest scores.
    fn interest(&self, threshold: f32) -> (bool, f32) {
        let distance = (self.decisive - threshold).abs();
        match self.is_mistake(threshold) {
            _ if self.truth == Truth::Unknown => (self.decisive > threshold, self.score),
            true => (true, distance),
            false => (false, -distance),
        }
    }
}

/// A report under construction. Its memory is bounded by the pictures that it shows, at most 16 MB, and about 100 bytes for each image.
#[derive(Clone, Debug)]
pub struct Report {
    gallery: Gallery,
    /// The threshold that the images were judged by.
    threshold: f32,
    pixel_threshold: f32,
    min_area: usize,
    judged: Vec<Judged>,
}

impl Report {
    /// An empty report of images that `rule` judges. `heatmap` is the colour scale of all maps.
    pub fn new(heatmap: Heatmap, rule: &Rule, shown: Shown) -> Self {
        Self {
            gallery: Gallery::new(heatmap, shown, rule.image_threshold),
            threshold: rule.image_threshold,
            pixel_threshold: rule.pixel_threshold,
            min_area: rule.min_area,
            judged: Vec::new(),
        }
    }

    /// Adds an image.
    ///
    /// # Errors
    /// [`ReportError`] if image, mask and map differ in size, or the picture cannot be encoded.
    pub fn add(&mut self, image: &ReportImage<'_>) -> Result<(), ReportError> {
        let verdict = image.verdict;
        let (truth, kind) = match image.label {
            Label::Unknown => (Truth::Unknown, ""),
            Label::Good => (Truth::Good, "good"),
            Label::Defective(defect) => (Truth::Defective, defect),
        };
        let regions = verdict.regions.iter().map(|found| &found.region);
        let decisive = match self.min_area {
            ..=1 => verdict.score,
            // The highest peak comes first.
            _ => regions
                .clone()
                .next()
                .map_or(f32::NEG_INFINITY, |first| first.peak),
        };
        let judged = Judged {
            name: image.name.to_owned(),
            truth,
            kind: kind.to_owned(),
            score: verdict.score,
            decisive,
            regions: verdict.regions.len(),
            largest: regions.map(|region| region.area).max().unwrap_or(0),
        };
        self.gallery.add(image, self.judged.len(), &judged)?;
        self.judged.push(judged);
        Ok(())
    }

    /// The page: readable from 320 px wide, in light and dark; all text escaped. `evaluation` has the measures of a test; `None` for
    /// images without labels.
    ///
    /// # Errors
    /// [`ReportError`] if a plot cannot be drawn.
    pub fn html(
        &self,
        about: &PageTexts,
        evaluation: Option<&Evaluation>,
    ) -> Result<String, ReportError> {
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
        evaluation: Option<&Evaluation>,
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
    use crate::verdict::attribution::{Explained, Part};

    const SCALE: Heatmap = Heatmap {
        low: 0.0,
        high: 1.0,
    };

    const SIZE: [usize; 2] = [300, 200];

    fn rule() -> Rule {
        Rule {
            image_threshold: 0.5,
            pixel_threshold: 0.5,
            min_area: 1,
            inspected: None,
        }
    }

    /// A corner that scores `score`; the rest scores 0.
    fn explained(score: f32) -> Explained {
        let [width, height] = SIZE;
        let scores = (0..width * height).map(|at| if is_corner(at) { score } else { 0.0 });
        let map = AnomalyMap::new(width, height, scores.collect());
        let whole = map.clone();
        Explained {
            map,
            parts: vec![Part::new("33", "regression_error", move || whole.clone())],
        }
    }

    fn is_corner(at: usize) -> bool {
        at % SIZE[0] < 20 && at / SIZE[0] < 20
    }

    fn add(
        report: &mut Report,
        rule: &Rule,
        name: &str,
        label: Label<'_>,
        mask: Option<&Mask>,
        score: f32,
    ) {
        let [width, height] = SIZE;
        let explained = explained(score);
        let image = ReportImage {
            name,
            label,
            image: &Image::new(width, height, vec![0.5; width * height * 3]),
            mask,
            map: &explained.map,
            verdict: &rule.judge(&explained).unwrap(),
        };
        report.add(&image).unwrap();
    }

    /// Tests images that score `scores` in one corner and 0 elsewhere, judged by a threshold of 0.5.
    fn tested(images: &[(&str, Option<&str>, f32)], shown: Shown) -> (Report, Evaluation) {
        let [width, height] = SIZE;
        let mut report = Report::new(SCALE, &rule(), shown);
        let mut evaluator = Evaluator::new(0.3, 0).unwrap().with_curves(0.01);
        for &(name, defect, score) in images {
            let truth = (0..width * height).map(|at| defect.is_some() && is_corner(at));
            let mask = Mask::new(width, height, truth.collect());
            let map = explained(score).map;
            evaluator.add(name, defect, &map, &mask).unwrap();
            let label = Label::of_test(defect);
            add(&mut report, &rule(), name, label, Some(&mask), score);
        }
        (report, evaluator.finish())
    }

    fn about(title: &str) -> PageTexts {
        PageTexts {
            title: title.to_owned(),
            category: title.to_owned(),
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
            ("cut/quiet.png", Some("\"></script><b onload='x'>"), 0.2),
            ("cut/clear.png", Some("\"></script><b onload='x'>"), 0.8),
        ];
        let (report, evaluation) = tested(&images, Shown::Most(10));
        let page = report.html(&about("<i>nut"), Some(&evaluation)).unwrap();
        for hostile in [
            "<script>alert",
            "\"></script>",
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
            "default-src 'none'; img-src data:",
            "<b>1 of 2</b> defective images found (1 missed), <b>1 of 2</b> good images rejected at the calibrated threshold 0.50",
            "badge bad\">missed<",
            "badge bad\">false alarm<",
            "badge \">found<",
            "badge \">passed<",
            "1 region<",
            "regression error 100 %",
            "ROC",
            "PRO",
            "Precision and recall",
            "0.5000 for images",
            // The outlines of the mask and of the region.
            "<g class=\"truth\"><path d=\"M0 0h20v20h-20z\"/>",
            "<g class=\"regions\"><path d=\"M0 0h20v20h-20z\"/><text",
            // The confusion matrix.
            "<td data-live=\"passed\">1</td><td class=\"mistake\" data-live=\"rejected\">1</td>",
            "<td class=\"mistake\" data-live=\"missed\">1</td><td data-live=\"found\">1</td>",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert_eq!(page.matches("<article ").count(), 4);
        assert_eq!(page.matches("<img ").count(), 8);
        // Three curves, one histogram.
        assert_eq!(page.matches("<svg role=\"img\"").count(), 4);
        assert!(!page.contains("Published figures") && !page.contains("The page shows"));
        // The worst mistake comes first, in the gallery and in the table.
        let first = |place: &str| page[page.find(place).unwrap()..].find("loud.png").unwrap();
        let clear = |place: &str| page[page.find(place).unwrap()..].find("clear.png").unwrap();
        for place in ["id=\"cards\"", "All scores"] {
            assert!(first(place) < clear(place), "{place}");
        }
    }

    #[test]
    fn the_script_gets_every_score_and_the_words_of_both_verdicts() {
        let images = [("a", None, 0.25), ("b", Some("cut"), 0.75)];
        let (report, evaluation) = tested(&images, Shown::Most(1));
        let page = report.html(&about("x"), Some(&evaluation)).unwrap();
        let json = page.split("id=\"scores\">").nth(1).unwrap();
        let json = json.split("</script>").next().unwrap();
        let scores: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(scores["threshold"], 0.5);
        assert_eq!(scores["axis"]["logarithmic"], false);
        let kinds = serde_json::json!([
            {"name": "good", "truth": "good", "decisive": [0.25]},
            {"name": "cut", "truth": "defective", "decisive": [0.75]},
        ]);
        assert_eq!(scores["kinds"], kinds);
        let good = "data-decisive=\"0.25\" data-good=\"passed\" data-defective=\"false alarm\" data-mistake=\"defective\"";
        let cut = "data-decisive=\"0.75\" data-good=\"missed\" data-defective=\"found\" data-mistake=\"good\"";
        // One of the two images has a card; both have a row.
        assert_eq!(page.matches(good).count() + page.matches(cut).count(), 3);
    }

    #[test]
    fn with_a_smallest_region_its_peak_decides() {
        let large = Rule {
            min_area: 1000,
            ..rule()
        };
        let mut report = Report::new(SCALE, &large, Shown::Most(10));
        add(&mut report, &large, "small", Label::Good, None, 0.9);
        assert_eq!(report.judged[0].decisive, f32::NEG_INFINITY);
        let page = report.html(&about("x"), None).unwrap();
        assert!(page.contains("data-decisive=\"-Infinity\"") && page.contains("[null]"));
        assert!(page.contains("0 of 1</b> good images rejected"));
        let small = Rule {
            min_area: 400,
            ..rule()
        };
        let mut report = Report::new(SCALE, &small, Shown::Most(10));
        add(
            &mut report,
            &small,
            "just large enough",
            Label::Good,
            None,
            0.9,
        );
        assert_eq!(report.judged[0].decisive, 0.9);
    }

    #[test]
    fn without_masks_there_are_no_outlines_and_measures_of_pixels_are_undefined() {
        let mut report = Report::new(SCALE, &rule(), Shown::Most(10));
        let labels = [("a", Label::Good, 0.1), ("b", Label::Defective("cut"), 0.8)];
        for (name, label, score) in labels {
            add(&mut report, &rule(), name, label, None, score);
        }
        let evaluation = Evaluation {
            images: 2,
            fpr_limit: 0.3,
            ..Evaluation::default()
        };
        let page = report.html(&about("x"), Some(&evaluation)).unwrap();
        assert!(page.contains("measures of pixels are undefined"));
        assert!(page.contains("<dt>AU-PRO</dt><dd>–</dd><dd class=\"beside\">undefined</dd>"));
        assert!(!page.contains("class=\"truth\"") && !page.contains("defect mask"));
        assert!(page.contains("1 of 1</b> defective images found"));
    }

    #[test]
    fn images_without_labels_have_verdicts_and_no_measures() {
        let mut report = Report::new(SCALE, &rule(), Shown::Most(2));
        for (name, score) in [("low", 0.1), ("high", 0.9), ("middle", 0.4)] {
            add(&mut report, &rule(), name, Label::Unknown, None, score);
        }
        let page = report.html(&about("line 3"), None).unwrap();
        assert!(page.contains("<b>1 of 3</b> images are defective at the calibrated threshold"));
        assert!(page.contains("badge bad\">defective<") && page.contains("badge \">good<"));
        assert!(page.contains("The page shows 2 of 3 images: those with the highest scores"));
        let shown = |name: &str| page.contains(&format!("data-name=\"{name}\""));
        assert!(shown("high") && shown("middle") && !shown("low"));
        for absent in [
            "AU-PRO",
            "AUROC",
            "Confusion",
            "missed",
            "false alarm",
            "label</th>",
        ] {
            let body = page[page.find("<body>").unwrap()..]
                .split("<script>")
                .next();
            assert!(!body.unwrap().contains(absent), "{absent}");
        }
        // An empty report is a page too.
        let empty = Report::new(SCALE, &rule(), Shown::Most(2));
        let page = empty.html(&about("x"), None).unwrap();
        assert!(page.contains("0 of 0") && !page.contains("<article"));
    }

    #[test]
    fn a_known_category_has_published_figures_beside_its_own() {
        let images = [("a", None, 0.1), ("b", Some("cut"), 0.8)];
        let (report, evaluation) = tested(&images, Shown::Most(10));
        let page = report.html(&about("metal_nut"), Some(&evaluation)).unwrap();
        assert!(page.contains("published, p = 33: 0.928"));
        // Up to another rate nothing was published.
        let other = Evaluation {
            fpr_limit: 0.05,
            ..evaluation
        };
        let page = report.html(&about("metal_nut"), Some(&other)).unwrap();
        assert!(!page.contains("0.928"));
    }

    #[test]
    fn when_it_is_full_mistakes_and_rare_kinds_keep_their_place() {
        let mut images = vec![("x", Some("cut"), 0.8); 10];
        images.extend([("y", Some("hole"), 0.8); 10]);
        images.extend([("wrong", None, 0.9); 3]);
        let (report, evaluation) = tested(&images, Shown::Most(8));
        let shown = |report: &Report, name: &str| {
            let cards = report.gallery.cards.iter();
            let names = cards.map(|card| &report.judged[card.index].name);
            names.filter(|other| *other == name).count()
        };
        assert_eq!((report.gallery.cards.len(), report.judged.len()), (8, 23));
        assert_eq!(shown(&report, "wrong"), 3);
        assert!(shown(&report, "x") >= 2 && shown(&report, "y") >= 2);
        let page = report.html(&about("x"), Some(&evaluation)).unwrap();
        assert!(page.contains("The page shows 8 of 23 images: the worst mistakes first"));
        assert!(page.contains("10 of 10") && page.matches("<tr data-decisive").count() == 23);
        // Among mistakes too.
        let mut missed = vec![("x", Some("cut"), 0.1); 10];
        missed.extend([("y", None, 0.9); 3]);
        let (report, _) = tested(&missed, Shown::Most(6));
        assert_eq!(shown(&report, "y"), 3);
        let (none, evaluation) = tested(&images, Shown::Most(0));
        let page = none.html(&about("x"), Some(&evaluation)).unwrap();
        assert!(!page.contains("<article"));
        let (some, _) = tested(&images, Shown::OfEachKind(2));
        let counts = ["x", "y", "wrong"].map(|name| shown(&some, name));
        assert_eq!(counts, [2, 2, 2]);
    }

    #[test]
    fn the_worst_mistakes_and_the_nearest_right_verdicts_are_shown() {
        let scores = [0.1, 0.4, 0.45, 0.3, 0.2, 0.9, 0.6, 0.7];
        let images = scores.map(|score| ("good", None, score));
        let (report, _) = tested(&images, Shown::Most(4));
        let mut shown: Vec<f32> = report
            .gallery
            .cards
            .iter()
            .map(|card| report.judged[card.index].score)
            .collect();
        shown.sort_by(f32::total_cmp);
        assert_eq!(shown, [0.45, 0.6, 0.7, 0.9]);
    }

    #[test]
    fn a_test_of_one_class_or_without_curves_is_a_page_too() {
        let (report, mut evaluation) = tested(&[("a", None, 0.1)], Shown::Most(10));
        let page = report.html(&about("x"), Some(&evaluation)).unwrap();
        assert!(page.contains("0 of 1</b> good images rejected") && !page.contains("found ("));
        evaluation.curves = None;
        report.html(&about("x"), Some(&evaluation)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = report
            .write(folder.path(), &about("x"), Some(&evaluation))
            .unwrap();
        assert_eq!(path, folder.path().join("index.html"));
        assert!(
            report
                .write(&folder.path().join("none"), &about("x"), None)
                .is_err()
        );
    }
}
