//! `pupilla demo`: the whole job on built-in data, in a few minutes.

use std::collections::BTreeMap;

use anyhow::Context;
use pupilla::student_teacher::{Quick, Settings, Training};
use pupilla::{
    Config, DetectorKind, Length, PreparedFiles, ReceptiveField, StudentTeacherConfig, Teacher,
    Trained,
};
use pupilla_core::data::Dataset;
use pupilla_core::evaluate::CategoryEvaluations;
use pupilla_core::evaluate::test_run::TestSettings;
use pupilla_core::report::sheet::Sheet;
use pupilla_core::synthetic::{self, Kind, SyntheticSettings};

use crate::commands::eval::{Pictured, evaluate, write_pictures};
use crate::commands::measures;
use crate::options::Demo;
use crate::output;
use crate::progress::Progress;

/// Steps for each of the two models: enough for clean data, and done in a minute or so.
const STEPS: usize = 160;

/// Two students instead of the usual three, for the same reason.
const STUDENTS: usize = 2;

pub fn run(demo: &Demo, progress: &mut Progress) -> anyhow::Result<()> {
    let json = demo.json.file();
    output::check_json(json)?;
    let _folder = output::folder(&demo.out)?;
    let settings = SyntheticSettings {
        seed: demo.seed.value,
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
                seed: demo.seed.value,
                training: Training::Quick(Quick {
                    length: Length::Steps(STEPS),
                    ..Quick::default()
                }),
                ..Settings::default()
            },
        };
        let config = config.check()?;
        let files = PreparedFiles::open(&dataset, config.settings.seed, false, progress)?;
        let model = files.fit(&config, progress)?;
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
    let mut sheet = Sheet::new(DetectorKind::StudentTeacher.heatmap(threshold));
    let mut categories = BTreeMap::new();
    for (dataset, model) in &trained {
        let settings = TestSettings::default();
        let to = Pictured {
            maps: None,
            category: Some(&dataset.name),
            sheet: &mut sheet,
            report: None,
        };
        let evaluation = evaluate(model, dataset, &settings, to, progress)?;
        categories.insert(dataset.name.clone(), evaluation);
    }
    let evaluation = CategoryEvaluations::new(categories);

    measures::print(&evaluation.mean, json)?;
    write_pictures(&sheet, &demo.out, "Pupilla's demo", &evaluation.mean)?;
    let page = demo.out.join("index.html");
    output::line(json, format_args!("open {} in a browser", page.display()))?;
    if let Some(target) = json {
        output::json(target, &evaluation).context("cannot write the evaluation")?;
    }
    Ok(())
}
