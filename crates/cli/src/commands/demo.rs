//! `pupilla demo`: the whole job on built-in data, in a few minutes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use pupilla::{DetectorKind, Trainer};
use pupilla_core::data::Dataset;
use pupilla_core::evaluate::CategoryEvaluations;
use pupilla_core::evaluate::test_run::TestSettings;
use pupilla_core::report::Shown;
use pupilla_core::report::contact_sheet::ContactSheet;
use pupilla_core::synthetic::{self, Kind, SyntheticSettings};

use crate::commands::eval::{Pictured, evaluate, write_sheet};
use crate::commands::measures;
use crate::options::Demo;
use crate::output::{self, Usage};
use crate::progress::Progress;
use crate::report::{CURVE_SPACING, TestReports};

/// The most images of a report: more than the demo has.
const IMAGES: usize = 300;

pub fn run(demo: &Demo, progress: &mut Progress) -> anyhow::Result<()> {
    let json = demo.json.file();
    output::check_json(json)?;
    check_own(&demo.out)?;
    let _folder = output::folder(&demo.out)?;
    let settings = SyntheticSettings {
        seed: demo.seed.value,
        ..SyntheticSettings::default()
    };
    let mut trained = Vec::new();
    for kind in [Kind::Weave, Kind::Washer] {
        let folder = synthetic::write(&demo.out.join("data"), kind, &settings, progress)?;
        let dataset = Dataset::open(&folder)?;
        let trainer = Trainer::new().seed(demo.seed.value);
        let model = trainer.train(&dataset, progress)?;
        let path = demo.out.join(format!("{}.pupilla", kind.name()));
        model.save(&path)?;
        output::line(json, format_args!("wrote {}", path.display()))?;
        trained.push((dataset, model, path));
    }

    // One colour scale for both: their scores are normalised alike.
    let threshold = trained
        .iter()
        .map(|(_, model, _)| model.about().calibration.thresholds.image.value)
        .fold(f32::NEG_INFINITY, f32::max);
    let heatmap = DetectorKind::default().heatmap(threshold);
    let mut sheet = ContactSheet::new(heatmap);
    let mut categories = BTreeMap::new();
    let mut pages = Vec::new();
    for (dataset, model, path) in &trained {
        let folder = demo.out.join(format!("{}-report", dataset.name));
        let _folder = output::folder(&folder)?;
        let mut reports =
            TestReports::new(model.rule(), heatmap).with(&folder, Shown::Most(IMAGES));
        let settings = TestSettings {
            curve_spacing: Some(CURVE_SPACING),
            ..TestSettings::default()
        };
        let to = Pictured {
            maps: None,
            category: Some(&dataset.name),
            sheet: Some(&mut sheet),
            reports: &mut reports,
        };
        let mut evaluation = evaluate(model, dataset, &settings, &model.rule(), to, progress)?;
        pages.extend(reports.write(model, path, dataset, &evaluation)?);
        evaluation.curves = None;
        categories.insert(dataset.name.clone(), evaluation);
    }
    let evaluation = CategoryEvaluations::new(categories);

    measures::print(&evaluation.mean, json)?;
    write_sheet(&sheet, &demo.out)?;
    for page in pages {
        output::line(json, format_args!("open {} in a browser", page.display()))?;
    }
    if let Some(target) = json {
        output::json(target, &evaluation).context("cannot write the evaluation")?;
    }
    Ok(())
}

/// Fails if the demo would replace a file of a folder that no demo has made.
fn check_own(out: &Path) -> Result<(), Usage> {
    if out.join("data").join(Kind::Weave.name()).is_dir() {
        return Ok(());
    }
    let names = [
        "weave.pupilla",
        "washer.pupilla",
        "weave-report",
        "washer-report",
        "sheet.png",
    ];
    let taken = names
        .map(|name| out.join(name))
        .into_iter()
        .find(|path| path.exists());
    match taken {
        Some(path) => Err(Usage(format!(
            "--out would replace {}: give a folder of the demo's own",
            path.display()
        ))),
        None => Ok(()),
    }
}
