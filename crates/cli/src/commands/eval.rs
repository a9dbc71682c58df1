//! `pupilla eval`: how well a model finds the labelled defects of a data set.

use std::path::{Path, PathBuf};

use anyhow::Context;
use pupilla::student_teacher::StudentTeacher;
use pupilla_core::dataset::{Dataset, TestImage};
use pupilla_core::evaluation::Evaluation;
use pupilla_core::map_file;
use pupilla_core::sheet::{Sheet, SheetRow};
use pupilla_core::test_run::{self, TestError, TestSettings};

use crate::arguments::Eval;
use crate::commands::inspect::{load, rule, scale};
use crate::output;
use crate::progress::Progress;
use crate::report::{CURVE_SPACING, ReportRun};

pub fn run(eval: &Eval, progress: &mut Progress) -> anyhow::Result<()> {
    output::check_json(eval.json.as_deref())?;
    let model = load(&eval.model, eval.dense)?;
    let dataset = Dataset::open(&eval.data)?;
    dataset.require_test()?;
    output::distinct(
        "--pictures and --report",
        eval.pictures.as_deref(),
        eval.report.as_deref(),
    )?;
    for folder in [&eval.maps, &eval.pictures, &eval.report]
        .into_iter()
        .flatten()
    {
        output::folder(folder)?;
    }
    let settings = TestSettings {
        fpr_limit: eval.fpr_limit,
        mask_threshold: eval.mask_threshold,
        skip_unreadable: eval.skip_unreadable,
        curve_spacing: eval.report.as_ref().map(|_| CURVE_SPACING),
    };
    let rule = rule(&model, &eval.thresholds, progress);
    let heatmap = scale(rule.image_threshold);
    let mut report = eval
        .report
        .as_ref()
        .map(|_| ReportRun::new(rule, heatmap, eval.report_images));
    let mut sheet = Sheet::new(heatmap).rows_per_kind(if eval.pictures.is_some() {
        eval.pictures_per_kind
    } else {
        0
    });
    let mut evaluation = evaluate(
        &model,
        &dataset,
        &settings,
        eval.maps.as_deref(),
        None,
        &mut sheet,
        report.as_mut(),
        progress,
    )?;

    let json = eval.json.as_deref();
    print(&evaluation, json)?;
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
        // They were asked for by the report, not for the JSON.
        evaluation.curves = None;
    }
    if let Some(target) = json {
        output::json(target, &evaluation)?;
    }
    Ok(())
}

/// Tests a model; maps go to a folder in MVTec's layout if there is one, pictures to the sheet,
/// where `category` stands before the names if it shows several, and all to the report if there is one.
pub fn evaluate(
    model: &StudentTeacher,
    dataset: &Dataset,
    settings: &TestSettings,
    maps: Option<&Path>,
    category: Option<&str>,
    sheet: &mut Sheet,
    mut report: Option<&mut ReportRun>,
    progress: &mut Progress,
) -> Result<Evaluation, TestError> {
    test_run::run(model, dataset, settings, progress, &mut |tested| {
        if let Some(folder) = maps {
            let path = map_path(folder, dataset, tested.test);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|source| {
                    pupilla_core::atomic_file::WriteError {
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
    })
}

/// `FOLDER/<category>/test/<defect or good>/<name>.tiff`, where MVTec's evaluation looks for it.
/// Two images that differ in their extension alone keep it.
fn map_path(folder: &Path, dataset: &Dataset, test: &TestImage) -> PathBuf {
    let kind = test.defect.as_deref().unwrap_or("good");
    let same_stem = |other: &&TestImage| {
        other.defect == test.defect && other.path.file_stem() == test.path.file_stem()
    };
    let unique = dataset.test.iter().filter(same_stem).count() == 1;
    let part = if unique {
        test.path.file_stem()
    } else {
        test.path.file_name()
    };
    let mut name = part.unwrap_or(test.path.as_os_str()).to_os_string();
    name.push(".tiff");
    folder
        .join(&dataset.name)
        .join("test")
        .join(kind)
        .join(name)
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

/// The figures as a table for people.
pub fn print(evaluation: &Evaluation, json: Option<&Path>) -> anyhow::Result<()> {
    let row = |name: &str, images: usize, regions: usize, measures: [Option<f64>; 3]| {
        let [au_pro, pixel, image] = measures.map(output::measure);
        output::line(
            json,
            format_args!("{name:20} {images:>7} {regions:>8} {au_pro:>10} {pixel:>12} {image:>12}"),
        )
    };
    output::line(
        json,
        format_args!(
            "{:20} {:>7} {:>8} {:>10} {:>12} {:>12}",
            "", "images", "regions", "AU-PRO", "pixel AUROC", "image AUROC"
        ),
    )?;
    for (name, defect) in &evaluation.per_defect {
        let measures = [defect.au_pro, defect.pixel_auroc, defect.image_auroc];
        row(name, defect.images, defect.regions, measures)?;
    }
    let measures = [
        evaluation.au_pro,
        evaluation.pixel_auroc,
        evaluation.image_auroc,
    ];
    row("all", evaluation.images, evaluation.regions, measures)?;
    if let Some(seconds) = evaluation.seconds_per_image {
        output::line(json, format_args!("{seconds:.3} s an image"))?;
    }
    Ok(())
}
