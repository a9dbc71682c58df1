//! The comparison as one page (`templates/comparison.html`) that needs nothing beside it.

use std::path::Path;

use askama::Template;

use super::super::page::{measure, shortest};
use super::{Compared, Comparison, Failure, Figures};
use pupilla_files::atomic_file::{self, WriteError};

/// The page could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonPageError {
    /// The template.
    #[error("cannot put the page together: {0}")]
    Page(#[from] askama::Error),
    /// The file.
    #[error(transparent)]
    Write(#[from] WriteError),
}

#[derive(Template)]
#[template(path = "comparison.html")]
struct Page<'a> {
    dataset: &'a str,
    fpr_limit: String,
    heads: [&'static str; 9],
    lines: Vec<Row>,
    /// What the means are over, if there are several categories.
    scope: Option<String>,
    labels: Vec<String>,
    /// For each category, if there are several, every detector's figure and the published one.
    matrix: Vec<(&'a str, Vec<[String; 2]>)>,
    failed: &'a [Failure],
}

/// The heads of the table's columns, the detector's first.
pub const HEADS: [&str; 9] = [
    "detector",
    "AU-PRO",
    "published",
    "pixel AUROC",
    "image AUROC",
    "training",
    "an image",
    "memory",
    "model",
];

/// A detector in the table, ready for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The detector's name.
    pub label: String,
    /// The figures under the other [`HEADS`], each with what stands beside it in small print.
    pub cells: [[String; 2]; 8],
}

/// Writes the page; it appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write_page(comparison: &Comparison, path: &Path) -> Result<(), ComparisonPageError> {
    let categories = comparison.categories();
    let matrix = categories.iter().map(|&category| {
        let cells = comparison
            .detectors
            .iter()
            .map(|line| match line.of(category) {
                None => ["–".to_owned(), String::new()],
                Some(one) => [
                    measure(one.mean.au_pro),
                    share_or_nothing(one.published_au_pro),
                ],
            });
        (category, cells.collect())
    });
    let lines = comparison.rows();
    let page = Page {
        dataset: &comparison.dataset,
        fpr_limit: shortest(100.0 * comparison.fpr_limit),
        heads: HEADS,
        matrix: if categories.len() > 1 {
            matrix.collect()
        } else {
            Vec::new()
        },
        scope: (categories.len() + comparison.without.len() > 1).then(|| comparison.scope()),
        labels: lines.iter().map(|line| line.label.clone()).collect(),
        lines,
        failed: &comparison.failed,
    };
    atomic_file::write_bytes(path, page.render()?.as_bytes())?;
    Ok(())
}

impl Comparison {
    /// The table: a row for each detector.
    pub fn rows(&self) -> Vec<Row> {
        let lines = self.detectors.iter();
        lines.map(|line| Row::of(self, line)).collect()
    }
}

impl Row {
    fn of(comparison: &Comparison, line: &Compared) -> Self {
        let spread = |get: fn(&Figures) -> Option<f64>| {
            let deviation = line.deviation.as_ref().and_then(get);
            deviation.map_or(String::new(), |deviation| format!("± {deviation:.3}"))
        };
        let seconds = |seconds: Option<f64>| {
            seconds.map_or("–".to_owned(), |seconds| match seconds {
                ..10.0 => format!("{seconds:.2} s"),
                10.0..120.0 => format!("{seconds:.0} s"),
                _ => format!("{:.0} min", seconds / 60.0),
            })
        };
        let mebibytes = |bytes: Option<f64>| {
            bytes.map_or("–".to_owned(), |bytes| {
                format!("{:.0} MiB", bytes / f64::from(1 << 20))
            })
        };
        let mean = &line.mean;
        let plain = |text: String| [text, String::new()];
        Self {
            label: comparison.label(line),
            cells: [
                [measure(mean.au_pro), spread(|figures| figures.au_pro)],
                plain(measure(line.published_au_pro)),
                [
                    measure(mean.pixel_auroc),
                    spread(|figures| figures.pixel_auroc),
                ],
                [
                    measure(mean.image_auroc),
                    spread(|figures| figures.image_auroc),
                ],
                plain(seconds(mean.training_seconds)),
                plain(seconds(mean.seconds_per_image)),
                plain(mebibytes(mean.memory_bytes)),
                plain(mebibytes(mean.model_bytes)),
            ],
        }
    }
}

fn share_or_nothing(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::Tested;

    #[test]
    fn what_was_tested_stands_on_the_page_and_names_are_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("comparison.html");
        let tested: Vec<_> = ["metal_nut", "<b>"]
            .map(|category| Tested {
                category: category.into(),
                detector: "1-nn".into(),
                scales: Vec::new(),
                seed: 0,
                figures: Figures {
                    au_pro: Some(0.7351),
                    training_seconds: Some(150.0),
                    ..Figures::default()
                },
            })
            .into();
        let failed = vec![Failure {
            category: "screw".into(),
            detector: "padim".into(),
            seed: 0,
            reason: "<i>too small</i>".into(),
        }];
        let comparison = Comparison::new("parts".into(), 0.3, &tested, failed);
        write_page(&comparison, &path).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        for text in [
            "0.735",
            "0.705",
            "2 min",
            "padim",
            "30 %",
            "metal_nut",
            "2 of 3 categories, without screw",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    }
}
