//! The comparison in the terminal, and as comma-separated values.

use std::path::Path;

use anyhow::Context;
use pupilla_core::report::comparison::{Comparison, Figures};
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

/// Means for people; of several categories, each one's AU-PRO below.
pub fn print(comparison: &Comparison, json: Option<&Path>) -> anyhow::Result<()> {
    let labels: Vec<String> = comparison
        .detectors
        .iter()
        .map(|line| comparison.label(line))
        .collect();
    let categories = comparison.categories();
    if categories.len() + comparison.without.len() > 1 {
        output::line(json, format_args!("means over {}", comparison.scope()))?;
    }
    let width = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0)
        .max(8);
    output::line(
        json,
        format_args!(
            "{:width$} {:>8} {:>7} {:>9} {:>11} {:>11} {:>10} {:>10} {:>8} {:>8}",
            "detector",
            "AU-PRO",
            "±",
            "published",
            "pixel AUROC",
            "image AUROC",
            "training",
            "an image",
            "memory",
            "model"
        ),
    )?;
    let three = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.3}"));
    let mebibytes = |value: Option<f64>| {
        value.map_or("-".to_string(), |value| {
            format!("{:.0} MiB", value / f64::from(1 << 20))
        })
    };
    for (line, label) in comparison.detectors.iter().zip(&labels) {
        let mean = &line.mean;
        let padding = width - label.chars().count();
        output::line(
            json,
            format_args!(
                "{label}{:padding$} {:>8} {:>7} {:>9} {:>11} {:>11} {:>10} {:>10} {:>8} {:>8}",
                "",
                three(mean.au_pro),
                three(line.deviation.and_then(|deviation| deviation.au_pro)),
                three(line.published_au_pro),
                three(mean.pixel_auroc),
                three(mean.image_auroc),
                mean.training_seconds
                    .map_or("-".to_string(), output::duration),
                mean.seconds_per_image
                    .map_or("-".to_string(), |seconds| format!("{seconds:.2} s")),
                mebibytes(mean.memory_bytes),
                mebibytes(mean.model_bytes),
            ),
        )?;
    }
    if categories.len() > 1 {
        output::line(json, "\nAU-PRO of each category:")?;
        for (line, label) in comparison.detectors.iter().zip(&labels) {
            output::line(json, format_args!("{label}"))?;
            for one in &line.categories {
                let beside = one
                    .published_au_pro
                    .map_or(String::new(), |figure| format!("  (published {figure:.3})"));
                output::line(
                    json,
                    format_args!(
                        "  {:20} {:>8}{beside}",
                        one.category,
                        three(one.mean.au_pro)
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
