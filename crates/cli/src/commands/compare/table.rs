//! The comparison in the terminal, and as comma-separated values.

use std::path::Path;

use anyhow::Context;
use pupilla_core::report::comparison::{Comparison, Figures, HEADS};
use pupilla_files::atomic_file;

use crate::output;

/// Names of the columns of figures.
const FIGURES: [&str; 7] = [
    "au_pro",
    "pixel_auroc",
    "image_auroc",
    "training_seconds",
    "seconds_per_image",
    "memory_bytes",
    "model_bytes",
];

fn figures(of: &Figures) -> [Option<f64>; 7] {
    [
        of.au_pro,
        of.pixel_auroc,
        of.image_auroc,
        of.training_seconds,
        of.seconds_per_image,
        of.memory_bytes,
        of.model_bytes,
    ]
}

/// Means for people; of several categories, the AU-PRO of each below.
pub fn print(comparison: &Comparison, json: Option<&Path>) -> anyhow::Result<()> {
    let rows = comparison.rows();
    let categories = comparison.categories();
    if categories.len() + comparison.without.len() > 1 {
        output::line(json, format_args!("means over {}", comparison.scope()))?;
    }
    let heads = HEADS.map(String::from).to_vec();
    let texts = rows.iter().map(|row| {
        let cells = row
            .cells
            .iter()
            .map(|cell| cell.join(" ").trim_end().to_string());
        [row.label.clone()].into_iter().chain(cells).collect()
    });
    let texts: Vec<Vec<String>> = [heads].into_iter().chain(texts).collect();
    let width = |column: usize| texts.iter().map(|text| text[column].chars().count()).max();
    let widths: Vec<_> = (0..HEADS.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for text in &texts {
        let mut line = format!("{:width$}", text[0], width = widths[0]);
        for (cell, width) in text.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        output::line(json, line)?;
    }
    if categories.len() > 1 {
        output::line(json, "\nAU-PRO of each category:")?;
        let share =
            |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{value:.3}"));
        for (line, row) in comparison.detectors.iter().zip(&rows) {
            output::line(json, &row.label)?;
            for one in &line.categories {
                let beside = one
                    .published_au_pro
                    .map_or(String::new(), |figure| format!("  (published {figure:.3})"));
                output::line(
                    json,
                    format_args!(
                        "  {:20} {:>8}{beside}",
                        one.category,
                        share(one.mean.au_pro)
                    ),
                )?;
            }
        }
    }
    for failure in &comparison.failed {
        output::line(
            json,
            format_args!(
                "failed: {} on {}, seed {}: {}",
                failure.detector, failure.category, failure.seed, failure.reason
            ),
        )?;
    }
    Ok(())
}

/// A line for each detector and category, and one for the mean over several.
pub fn write_csv(comparison: &Comparison, path: &Path) -> anyhow::Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let deviations = FIGURES[..3].iter().map(|name| format!("{name}_deviation"));
    let head = [
        "detector",
        "scales",
        "category",
        "seeds",
        "published_au_pro",
    ]
    .map(String::from);
    let figures_of = FIGURES.map(String::from);
    table.write_record(head.into_iter().chain(figures_of).chain(deviations))?;
    let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for line in &comparison.detectors {
        let scales: Vec<String> = line.scales.iter().map(ToString::to_string).collect();
        let mut write = |category: &str,
                         seeds: usize,
                         published,
                         mean: &Figures,
                         deviation: Option<&Figures>| {
            let first = [
                line.detector.clone(),
                scales.join(" "),
                category.to_string(),
                seeds.to_string(),
                number(published),
            ];
            let means = figures(mean).map(number);
            let spread = (0..3).map(|at| number(deviation.and_then(|of| figures(of)[at])));
            table.write_record(first.into_iter().chain(means).chain(spread))
        };
        for one in &line.categories {
            write(
                &one.category,
                one.seeds,
                one.published_au_pro,
                &one.mean,
                one.deviation.as_ref(),
            )?;
        }
        if comparison.categories().len() > 1 {
            let seeds = line.categories.iter().map(|one| one.seeds).sum();
            write(
                "mean",
                seeds,
                line.published_au_pro,
                &line.mean,
                line.deviation.as_ref(),
            )?;
        }
    }
    let bytes = table.into_inner().context("cannot write the table")?;
    atomic_file::write_bytes(path, &bytes)?;
    Ok(())
}
