//! `pupilla score`: measure anomaly maps that any tool has made.

use std::collections::BTreeMap;

use pupilla_core::data::Dataset;
use pupilla_core::evaluate::map_run::{self, MapSettings};
use pupilla_core::evaluate::{CategoryEvaluations, Evaluation};
use pupilla_core::map::map_set;
use serde::Serialize;

use crate::commands::measures;
use crate::options::Score;
use crate::progress::Progress;
use crate::{data_set, output};

pub fn run(score: &Score, progress: &mut Progress) -> anyhow::Result<()> {
    let json = score.json.file();
    output::check_json(json)?;
    let measured = measure(score, progress)?;
    match &measured {
        Measured::Of(evaluation) => measures::print(evaluation, json)?,
        Measured::OfSeveral(evaluations) => measures::print_categories(evaluations, json)?,
    }
    json.map_or(Ok(()), |target| output::json(target, &measured))
}

/// What was measured: one data set, or several.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Measured {
    Of(Box<Evaluation>),
    OfSeveral(Box<CategoryEvaluations>),
}

/// How the maps are measured.
pub fn settings(score: &Score) -> MapSettings {
    MapSettings {
        fpr_limit: score.measuring.fpr_limit,
        mask_threshold: score.measuring.masks.threshold,
        curve_spacing: score.curves.spacing,
    }
}

/// Measures the maps in the folder of the options.
pub fn measure(score: &Score, progress: &mut Progress) -> anyhow::Result<Measured> {
    let settings = settings(score);
    let datasets = Dataset::open_all(&score.data, &score.layout.settings())?;
    for dataset in &datasets {
        data_set::tell(dataset, &score.layout, progress);
    }
    if let [dataset] = &datasets[..] {
        let evaluation = map_run::run(&score.maps, dataset, &settings, progress)?;
        return Ok(Measured::Of(Box::new(evaluation)));
    }
    for dataset in &datasets {
        dataset.require_test()?;
        let alone = score.maps.join("test");
        if alone.is_dir() && !score.maps.join(&dataset.name).is_dir() {
            let text = format!(
                "{} holds the maps of one category, {} has several: put those of each into a folder of its name, {}/test",
                alone.display(),
                score.data.display(),
                dataset.name
            );
            return Err(output::Usage(text).into());
        }
        // A map that is missing is found before any work.
        map_set::find(&score.maps, dataset)?;
    }
    let mut evaluations = BTreeMap::new();
    for dataset in datasets {
        let evaluation = map_run::run(&score.maps, &dataset, &settings, progress)?;
        evaluations.insert(dataset.name, evaluation);
    }
    let evaluations = CategoryEvaluations::new(evaluations);
    Ok(Measured::OfSeveral(Box::new(evaluations)))
}
