//! `pupilla demo`: the whole job on built-in data, in a few minutes.

use std::collections::BTreeMap;

use anyhow::Context;
use pupilla::receptive_field::ReceptiveField;
use pupilla::student_teacher::{
    Length, Quick, Settings, StudentTeacherConfig, Training, fit_files,
};
use pupilla::teacher::Teacher;
use pupilla_core::dataset::Dataset;
use pupilla_core::evaluation::{DefectEvaluation, Evaluation};
use pupilla_core::sheet::Sheet;
use pupilla_core::synthetic::{self, Kind, SyntheticSettings};
use pupilla_core::test_run::TestSettings;
use serde::Serialize;

use crate::arguments::Demo;
use crate::commands::eval::{evaluate, print, write_pictures};
use crate::commands::inspect::scale;
use crate::output;
use crate::progress::Progress;

/// Steps for each of the two models: enough for clean data, and done in a minute or so.
const STEPS: usize = 300;

/// Two students instead of the usual three, for the same reason.
const STUDENTS: usize = 2;

/// What `--json` gives: an evaluation whose measures are means over the categories, as is the
/// custom for MVTec AD, with each category's own beside it.
#[derive(Debug, Serialize)]
struct DemoEvaluation {
    #[serde(flatten)]
    mean: Evaluation,
    categories: BTreeMap<String, Evaluation>,
}

pub fn run(demo: &Demo, progress: &mut Progress) -> anyhow::Result<()> {
    let json = demo.json.as_deref();
    output::check_json(json)?;
    output::folder(&demo.out)?;
    let settings = SyntheticSettings {
        seed: demo.seed,
        ..SyntheticSettings::default()
    };
    let mut trained = Vec::new();
    for kind in [Kind::Weave, Kind::Washer] {
        let folder = synthetic::write(&demo.out.join("data"), kind, &settings, progress)?;
        let dataset = Dataset::open(&folder)?;
        let config = StudentTeacherConfig {
            teachers: vec![Teacher::built_in(ReceptiveField::P33)?.into()],
            settings: Settings {
                students: STUDENTS,
                seed: demo.seed,
                training: Training::Quick(Quick {
                    length: Length::Steps(STEPS),
                    ..Quick::default()
                }),
                ..Settings::default()
            },
        };
        let model = fit_files(&config, &dataset, false, progress)?;
        let path = demo.out.join(format!("{}.pupilla", kind.name()));
        model.save(&path)?;
        output::line(json, format_args!("wrote {}", path.display()))?;
        trained.push((dataset, model));
    }

    // One colour scale for both: their scores are normalised alike.
    let threshold = trained
        .iter()
        .map(|(_, model)| model.manifest().calibration().thresholds.image.value)
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sheet = Sheet::new(scale(threshold));
    let mut categories = BTreeMap::new();
    for (dataset, model) in &trained {
        let settings = TestSettings::default();
        let name = Some(dataset.name.as_str());
        let evaluation = evaluate(model, dataset, &settings, None, name, &mut sheet, progress)?;
        categories.insert(dataset.name.clone(), evaluation);
    }
    let evaluation = DemoEvaluation {
        mean: mean(&categories),
        categories,
    };

    print(&evaluation.mean, json)?;
    write_pictures(&sheet, &demo.out, "Pupilla's demo", &evaluation.mean)?;
    let page = demo.out.join("index.html");
    output::line(json, format_args!("open {} in a browser", page.display()))?;
    if let Some(target) = json {
        output::json(target, &evaluation).context("cannot write the evaluation")?;
    }
    Ok(())
}

/// Means of the measures over categories, sums of the counts; defects are named
/// `<category>/<defect>`.
fn mean(categories: &BTreeMap<String, Evaluation>) -> Evaluation {
    let average = |measure: fn(&Evaluation) -> Option<f64>| -> Option<f64> {
        let values: Option<Vec<f64>> = categories.values().map(measure).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    let images = categories.values().map(|category| category.images).sum();
    let total_seconds: Option<f64> = categories
        .values()
        .map(|category| Some(category.seconds_per_image? * category.images as f64))
        .sum();
    let per_defect: BTreeMap<String, DefectEvaluation> = categories
        .iter()
        .flat_map(|(name, category)| {
            category
                .per_defect
                .iter()
                .map(move |(defect, figures)| (format!("{name}/{defect}"), figures.clone()))
        })
        .collect();
    let settings = TestSettings::default();
    Evaluation {
        au_pro: average(|category| category.au_pro),
        pixel_auroc: average(|category| category.pixel_auroc),
        image_auroc: average(|category| category.image_auroc),
        per_defect,
        images,
        regions: categories.values().map(|category| category.regions).sum(),
        seconds_per_image: total_seconds.map(|seconds| seconds / images as f64),
        fpr_limit: settings.fpr_limit,
        mask_threshold: settings.mask_threshold,
        warnings: categories
            .values()
            .flat_map(|category| category.warnings.clone())
            .collect(),
        per_image: Vec::new(),
    }
}
