//! `pupilla eval`: how well a model finds the labelled defects of a data set.

use std::path::Path;

use anyhow::Context;
use pupilla_core::data::Dataset;
use pupilla_core::detector::Detector;
use pupilla_core::evaluate::test_run::{self, TestError, TestSettings};
use pupilla_core::evaluate::{Confusion, Evaluation};
use pupilla_core::map::{map_file, map_set};
use pupilla_core::report::sheet::{Sheet, SheetRow};
use pupilla_core::verdict::Rule;
use pupilla_core::verdict::attribution::Explained;

use crate::commands::inspect::{load, rule};
use crate::commands::measures;
use crate::options::Eval;
use crate::output;
use crate::progress::Progress;
use crate::report::{CURVE_SPACING, ReportRun};

pub fn run(eval: &Eval, progress: &mut Progress) -> anyhow::Result<()> {
    output::check_json(eval.json.file())?;
    let mut model = load(&eval.model, &eval.computing, 0)?;
    if !eval.scales.is_empty() {
        let students = model.student_teacher("--scales")?;
        model = students.with_scales(&eval.scales)?.into();
    }
    let dataset = Dataset::open_test(&eval.data)?;
    output::distinct(
        "--pictures and --report",
        eval.pictures.as_deref(),
        eval.report.as_deref(),
    )?;
    let folders = [&eval.maps, &eval.pictures, &eval.report];
    let folders = folders.into_iter().flatten();
    let _folders = folders
        .map(|folder| output::folder(folder))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(maps) = &eval.maps {
        let whole = |path: std::path::PathBuf| path.canonicalize().ok();
        let test = whole(eval.data.join("test"));
        if test.is_some() && whole(maps.join(&dataset.name).join("test")) == test {
            let text = format!(
                "--maps {} would write among the images of the data set: give another folder",
                maps.display()
            );
            return Err(output::Usage(text).into());
        }
    }
    let settings = TestSettings {
        fpr_limit: eval.measuring.fpr_limit,
        mask_threshold: eval.measuring.masks.threshold,
        curve_spacing: eval
            .curves
            .spacing
            .or(eval.report.as_ref().map(|_| CURVE_SPACING)),
        skip_unreadable: eval.unreadable.skip,
    };
    let rule = rule(&model, &eval.thresholds, progress);
    let heatmap = model.kind().heatmap(rule.image_threshold);
    let report = eval.report.as_ref();
    let mut report = report.map(|_| ReportRun::new(rule.clone(), heatmap, eval.report_images));
    let mut sheet = Sheet::new(heatmap).rows_per_kind(if eval.pictures.is_some() {
        eval.pictures_per_kind
    } else {
        0
    });
    let mut evaluation = evaluate(
        &model,
        &dataset,
        &settings,
        &rule,
        Pictured {
            maps: eval.maps.as_deref(),
            category: None,
            sheet: &mut sheet,
            report: report.as_mut(),
        },
        progress,
    )?;

    let json = eval.json.file();
    measures::print(&evaluation, json)?;
    if let Some(folder) = &eval.pictures {
        write_pictures(&sheet, folder, &dataset.name, &evaluation)?;
        output::line(
            json,
            format_args!("wrote {}", folder.join("index.html").display()),
        )?;
    }
    if let (Some(report), Some(folder)) = (report, &eval.report) {
        let page = report.write(folder, &model, &eval.model, &dataset, &evaluation)?;
        output::line(json, format_args!("wrote {}", page.display()))?;
        if eval.curves.spacing.is_none() {
            // They were made for the report.
            evaluation.curves = None;
        }
    }
    if let Some(target) = json {
        output::json(target, &evaluation)?;
    }
    Ok(())
}

/// Where the tested images go.
pub struct Pictured<'a> {
    /// A folder for the maps, in MVTec's layout.
    pub maps: Option<&'a Path>,
    /// What stands before the names on a sheet that shows several categories.
    pub category: Option<&'a str>,
    pub sheet: &'a mut Sheet,
    pub report: Option<&'a mut ReportRun>,
}

/// Tests a model, judges the images by a rule, and shows them.
pub fn evaluate(
    model: &impl Detector,
    dataset: &Dataset,
    settings: &TestSettings,
    rule: &Rule,
    to: Pictured<'_>,
    progress: &mut Progress,
) -> Result<Evaluation, TestError> {
    let Pictured {
        maps,
        category,
        sheet,
        mut report,
    } = to;
    let mut confusion = Confusion::new(rule.image_threshold);
    let mut evaluation = test_run::run(model, dataset, settings, progress, &mut |tested| {
        let without_parts = Explained {
            map: tested.map.clone(),
            parts: Vec::new(),
        };
        let verdict = rule.judge(&without_parts)?;
        confusion.add(tested.test.defect.is_some(), verdict.defective);
        if let Some(folder) = maps {
            let path = map_set::path_of(folder, dataset, tested.test);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|source| {
                    pupilla_files::atomic_file::WriteError {
                        path: parent.to_path_buf(),
                        source,
                    }
                })?;
            }
            map_file::write(&path, tested.map)?;
        }
        let in_category = |name: &str| match category {
            Some(category) => format!("{category}/{name}"),
            None => name.to_string(),
        };
        sheet.add(&SheetRow {
            name: &in_category(tested.name),
            defect: tested.test.defect.as_deref().map(in_category).as_deref(),
            score: tested.map.image_score(),
            image: tested.image,
            mask: tested.mask,
            map: tested.map,
        })?;
        if let Some(report) = &mut report {
            report.add(tested)?;
        }
        Ok(())
    })?;
    evaluation.confusion = Some(confusion);
    Ok(evaluation)
}

/// The page and the picture of a sheet.
pub fn write_pictures(
    sheet: &Sheet,
    folder: &Path,
    title: &str,
    evaluation: &Evaluation,
) -> anyhow::Result<()> {
    sheet
        .write_html(&folder.join("index.html"), title, evaluation)
        .context("cannot write the page")?;
    sheet
        .write_contact_sheet(&folder.join("sheet.png"), 2, 160, 2)
        .context("cannot write the picture")?;
    Ok(())
}
