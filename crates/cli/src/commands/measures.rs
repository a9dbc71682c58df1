//! The figures of an evaluation as a table for people.

use std::path::Path;

use pupilla_core::evaluate::{
    CategoryEvaluations, Confusion, Evaluation, ImageMeasures, PixelMeasures,
};

use crate::output;

const HEADINGS: [&str; 8] = [
    "AU-PRO", "to 5 %", "px AUROC", "px AP", "px F1", "im AUROC", "im AP", "im F1",
];

/// A row for each defect type, one for all, and one for each region size that occurs.
pub fn print(evaluation: &Evaluation, json: Option<&Path>) -> anyhow::Result<()> {
    headings(json)?;
    for (name, defect) in &evaluation.per_defect {
        let measures = [of_pixels(&defect.pixel), of_images(&defect.image)].concat();
        row(
            json,
            name,
            &defect.images.to_string(),
            defect.regions,
            &measures,
        )?;
    }
    all(evaluation, "all", json)?;
    let sizes = evaluation.per_region_size.iter();
    for size in sizes.filter(|size| size.regions > 0) {
        let measures = of_pixels(&size.pixel);
        row(json, size.size.name(), "", size.regions, &measures)?;
    }
    if evaluation.saturated {
        let text =
            "AU-PRO is AU-sPRO here: a region is found once its saturation threshold is reached";
        output::line(json, text)?;
    }
    if let Some(confusion) = &evaluation.confusion {
        verdicts(confusion, json)?;
    }
    if let Some(seconds) = evaluation.seconds_per_image {
        output::line(json, format_args!("{seconds:.3} s an image"))?;
    }
    Ok(())
}

/// The confusion matrix.
fn verdicts(confusion: &Confusion, json: Option<&Path>) -> anyhow::Result<()> {
    let threshold = format!("threshold {:.3}", confusion.threshold);
    output::line(
        json,
        format_args!("{threshold:20} {:>9} {:>9}", "accepted", "rejected"),
    )?;
    let (good, missed) = (confusion.good_accepted, confusion.defective_missed);
    let rows = [
        (
            "good",
            good,
            confusion.good_rejected,
            confusion.false_reject_rate(),
            "rejected",
        ),
        (
            "defective",
            missed,
            confusion.defective_found,
            confusion.miss_rate(),
            "missed",
        ),
    ];
    for (name, accepted, rejected, wrong, what) in rows {
        let wrong = wrong.map_or(String::new(), |share| {
            format!("{:5.1} % {what}", 100.0 * share)
        });
        output::line(
            json,
            format_args!("{name:20} {accepted:>9} {rejected:>9}   {wrong}"),
        )?;
    }
    Ok(())
}

/// A row for each category, and the mean.
pub fn print_categories(
    evaluations: &CategoryEvaluations,
    json: Option<&Path>,
) -> anyhow::Result<()> {
    headings(json)?;
    for (name, evaluation) in &evaluations.categories {
        all(evaluation, name, json)?;
    }
    all(&evaluations.mean, "mean", json)
}

fn headings(json: Option<&Path>) -> anyhow::Result<()> {
    let mut line = format!("{:20} {:>7} {:>8}", "", "images", "regions");
    for heading in HEADINGS {
        line.push_str(&format!(" {heading:>9}"));
    }
    output::line(json, line)
}

fn all(evaluation: &Evaluation, name: &str, json: Option<&Path>) -> anyhow::Result<()> {
    let measures = [of_pixels(&evaluation.pixel), of_images(&evaluation.image)].concat();
    row(
        json,
        name,
        &evaluation.images.to_string(),
        evaluation.regions,
        &measures,
    )
}

fn of_pixels(measures: &PixelMeasures) -> Vec<Option<f64>> {
    let PixelMeasures {
        au_pro,
        au_pro_05,
        auroc,
        ap,
        f1,
        ..
    } = *measures;
    vec![au_pro, au_pro_05, auroc, ap, f1]
}

fn of_images(measures: &ImageMeasures) -> Vec<Option<f64>> {
    vec![measures.auroc, measures.ap, measures.f1]
}

fn row(
    json: Option<&Path>,
    name: &str,
    images: &str,
    regions: usize,
    measures: &[Option<f64>],
) -> anyhow::Result<()> {
    let mut line = format!("{name:20} {images:>7} {regions:>8}");
    for &measure in measures {
        line.push_str(&format!(" {:>9}", output::measure(measure)));
    }
    output::line(json, line)
}
