//! The comparison as one page (`templates/comparison.html`) that needs nothing beside it.

use std::path::Path;

use askama::Template;

use super::super::ReportError;
use super::super::page::{measure, shortest};
use super::super::plot::{self, Numbered};
use super::{Compared, Comparison, Failure, Figures};
use pupilla_files::atomic_file::{self, WriteError};

/// The page could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComparisonPageError {
    /// The template.
    #[error("cannot put the page together: {0}")]
    Page(#[from] askama::Error),
    /// A plot.
    #[error(transparent)]
    Plot(#[from] ReportError),
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
    plots: Vec<Plot>,
    /// For each category, if there are several, every detector's figures.
    matrix: Vec<(&'a str, Vec<CellOfCategory<'a>>)>,
    /// For each line, the address of the report of an only category.
    reports: Vec<Option<&'a str>>,
    failed: &'a [Failure],
}

/// AU-PRO against a time.
struct Plot {
    title: &'static str,
    svg: String,
}

/// A detector on a category.
struct CellOfCategory<'a> {
    text: String,
    /// The published figure, or nothing.
    published: String,
    best: bool,
    /// The address of the report, relative to the page.
    report: Option<&'a str>,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The detector's name.
    pub label: String,
    /// The figures under the other [`HEADS`], each with what stands beside it in small print.
    pub cells: [[String; 2]; 8],
    /// Whether a figure is the best of its column, of several different figures.
    pub best: [bool; 8],
    /// What the columns are sorted by: the figures without units; `None` where there is no figure.
    pub values: [Option<f64>; 8],
}

/// Writes the page; it appears whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn write_page(comparison: &Comparison, path: &Path) -> Result<(), ComparisonPageError> {
    let categories = comparison.categories();
    let lines = comparison.rows();
    let page = Page {
        dataset: &comparison.dataset,
        fpr_limit: shortest(100.0 * comparison.fpr_limit),
        heads: HEADS,
        matrix: if categories.len() > 1 {
            matrix(comparison, &categories)
        } else {
            Vec::new()
        },
        scope: (categories.len() + comparison.without.len() > 1).then(|| comparison.scope()),
        labels: lines.iter().map(|line| line.label.clone()).collect(),
        plots: plots(comparison)?,
        reports: comparison
            .detectors
            .iter()
            .map(|line| match &line.categories[..] {
                [only] if categories.len() == 1 => only.report.as_deref(),
                _ => None,
            })
            .collect(),
        lines,
        failed: &comparison.failed,
    };
    atomic_file::write_bytes(path, page.render()?.as_bytes())?;
    Ok(())
}

/// A row for each category, with every detector's AU-PRO.
fn matrix<'a>(
    comparison: &'a Comparison,
    categories: &[&'a str],
) -> Vec<(&'a str, Vec<CellOfCategory<'a>>)> {
    let rows = categories.iter().map(|&category| {
        let cells = comparison.detectors.iter().map(|line| line.of(category));
        let cells: Vec<_> = cells.collect();
        let values: Vec<Option<f64>> = cells
            .iter()
            .map(|cell| cell.and_then(|one| one.mean.au_pro))
            .collect();
        let cells = cells
            .into_iter()
            .enumerate()
            .map(|(index, cell)| CellOfCategory {
                text: measure(values[index]),
                published: cell
                    .map_or_else(String::new, |one| share_or_nothing(one.published_au_pro)),
                best: best(&values, f64::max)[index],
                report: cell.and_then(|one| one.report.as_deref()),
            });
        (category, cells.collect())
    });
    rows.collect()
}

/// AU-PRO against the time of training, and against the time of an image.
fn plots(comparison: &Comparison) -> Result<Vec<Plot>, ReportError> {
    type Seconds = fn(&Figures) -> Option<f64>;
    let times: [(&str, &str, Seconds); 2] = [
        (
            "AU-PRO against training time",
            "training, seconds",
            |figures| figures.training_seconds,
        ),
        (
            "AU-PRO against time per image",
            "an image, seconds",
            |figures| figures.seconds_per_image,
        ),
    ];
    let mut plots = Vec::new();
    for (title, axis, seconds) in times {
        let lines = comparison.detectors.iter().enumerate();
        let points = lines.filter_map(|(index, line)| {
            Some(Numbered {
                seconds: seconds(&line.mean).filter(|seconds| *seconds > 0.0)?,
                measure: line.mean.au_pro?,
                number: index + 1,
            })
        });
        let points: Vec<Numbered> = points.collect();
        if points.len() > 1 {
            plots.push(Plot {
                title,
                svg: plot::scatter(title, [axis, "AU-PRO"], &points)?,
            });
        }
    }
    Ok(plots)
}

/// Which figures equal the best figure; none of them if all are equal.
fn best(values: &[Option<f64>], better: fn(f64, f64) -> f64) -> Vec<bool> {
    let known = || values.iter().flatten().copied();
    let first = known().reduce(better);
    let differ = known().any(|value| Some(value) != first);
    let is_best = |value: &Option<f64>| differ && value.is_some() && *value == first;
    values.iter().map(is_best).collect()
}

impl Comparison {
    /// The table: a row for each detector.
    pub fn rows(&self) -> Vec<Row> {
        let lines = self.detectors.iter();
        let mut rows: Vec<Row> = lines.map(|line| Row::of(self, line)).collect();
        for column in 0..8 {
            let better = match HEADS[column + 1] {
                // Nobody's own figures.
                "published" => continue,
                "training" | "an image" | "memory" | "model" => f64::min,
                _ => f64::max,
            };
            let values: Vec<Option<f64>> = rows.iter().map(|row| row.values[column]).collect();
            for (row, best) in rows.iter_mut().zip(best(&values, better)) {
                row.best[column] = best;
            }
        }
        rows
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
            best: [false; 8],
            values: [
                mean.au_pro,
                line.published_au_pro,
                mean.pixel_auroc,
                mean.image_auroc,
                mean.training_seconds,
                mean.seconds_per_image,
                mean.memory_bytes,
                mean.model_bytes,
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
                report: Some("metal%20nut/1-nn-0/report/index.html".into()),
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
            "<a href=\"metal%20nut/1-nn-0/report/index.html\">0.735</a>",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("<b>") && !page.contains("<i>"), "{page}");
    }
    #[test]
    fn the_best_of_a_column_is_marked_and_quality_is_drawn_against_time() {
        let test = |detector: &str, au_pro, seconds| Tested {
            category: "nut".into(),
            detector: detector.into(),
            scales: Vec::new(),
            seed: 0,
            figures: Figures {
                au_pro: Some(au_pro),
                image_auroc: Some(1.0),
                training_seconds: Some(seconds),
                ..Figures::default()
            },
            report: None,
        };
        let tested = [
            test("padim", 0.9, 20.0),
            test("1-nn", 0.7, 3.0),
            test("vae", 0.9, 300.0),
        ];
        let comparison = Comparison::new("nut".into(), 0.3, &tested, Vec::new());
        let best: Vec<[bool; 8]> = comparison.rows().iter().map(|row| row.best).collect();
        let marked = |column: usize| best.iter().map(|row| row[column]).collect::<Vec<_>>();
        assert_eq!(marked(0), [true, false, true]);
        // All are equal.
        assert_eq!(marked(3), [false; 3]);
        assert_eq!(marked(4), [false, true, false]);
        // No figure at all.
        assert_eq!(marked(6), [false; 3]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("comparison.html");
        write_page(&comparison, &path).unwrap();
        let page = std::fs::read_to_string(&path).unwrap();
        assert_eq!(page.matches("class=\"best\"").count(), 3);
        // The time of an image is unknown: one plot.
        assert_eq!(page.matches("<svg ").count(), 1);
        assert_eq!(page.matches("<circle ").count(), 3);
    }
}
