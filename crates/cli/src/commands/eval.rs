//! `pupilla eval`: how well a model finds the labelled defects of a data set.

use std::path::{Path, PathBuf};

use pupilla::{FileSettings, Model};
use pupilla_core::data::{Dataset, Layout};
use pupilla_core::evaluate::test_run::{self, TestError, TestSettings};
use pupilla_core::evaluate::{Confusion, Evaluation};
use pupilla_core::map::{map_file, map_set};
use pupilla_core::observer::Observer;
use pupilla_core::report::contact_sheet::{ContactSheet, SheetRow};
use pupilla_core::report::{Label, Shown};
use pupilla_core::verdict::Rule;
use pupilla_files::atomic_file::WriteError;

use crate::commands::inspect::{computing_as, rule};
use crate::commands::measures;
use crate::options::Eval;
use crate::output::NewFolders;
use crate::progress::Progress;
use crate::report::{CURVE_SPACING, TestReports};
use crate::{data_set, output};

pub fn run(eval: &Eval, progress: &mut Progress) -> anyhow::Result<()> {
    let json = eval.json.file();
    output::check_json(json)?;
    let model = Model::load(&eval.model)?;
    let mut measured = measure(model, eval, progress)?;
    measures::print(&measured.evaluation, json)?;
    for page in measured.write_pages(eval)? {
        output::line(json, format_args!("wrote {}", page.display()))?;
    }
    json.map_or(Ok(()), |target| output::json(target, &measured.evaluation))
}

/// A model that was measured, and what its pages show.
pub struct Measured {
    pub evaluation: Evaluation,
    model: Model,
    dataset: Dataset,
    sheet: Option<ContactSheet>,
    reports: TestReports,
    /// The folders of the options.
    _folders: Vec<NewFolders>,
}

impl Measured {
    /// Writes the pages of the options; gives their paths. Afterwards, the evaluation has the curves that were asked for alone.
    pub fn write_pages(&mut self, eval: &Eval) -> anyhow::Result<Vec<PathBuf>> {
        if let (Some(sheet), Some(folder)) = (&self.sheet, &eval.pictures) {
            write_sheet(sheet, folder)?;
        }
        let (model, file) = (&self.model, &eval.model);
        let pages = (self.reports).write(model, file, &self.dataset, &self.evaluation)?;
        if eval.curves.spacing.is_none() {
            // They were made for the pages.
            self.evaluation.curves = None;
        }
        Ok(pages)
    }
}

/// Measures a model on the data set of the options.
pub fn measure(model: Model, eval: &Eval, progress: &mut Progress) -> anyhow::Result<Measured> {
    let mut model = computing_as(model, &eval.computing, 0)?;
    if !eval.scales.is_empty() {
        let students = model.student_teacher("--scales")?;
        model = students.with_scales(&eval.scales)?.into();
    }
    let dataset = data_set::open(&eval.data, &eval.layout, progress)?;
    dataset.require_test()?;
    output::distinct(
        "--pictures and --report",
        eval.pictures.as_deref(),
        eval.report.as_deref(),
    )?;
    for (option, folder) in [("--report", &eval.report), ("--pictures", &eval.pictures)] {
        if let Some(folder) = folder {
            output::check_page(option, folder)?;
        }
    }
    let folders = [&eval.maps, &eval.pictures, &eval.report];
    let folders = folders.into_iter().flatten();
    let _folders = folders
        .map(|folder| output::folder(folder))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(maps) = &eval.maps {
        let root = output::place(&dataset.root);
        let of_files = dataset.layout == Layout::Manifest;
        if !of_files && output::place(maps).starts_with(&root)
            || output::place(&maps.join(&dataset.name)) == root
        {
            let text = format!(
                "--maps {} would write among the images of the data set: give another folder",
                maps.display()
            );
            return Err(output::Usage(text).into());
        }
    }
    let has_pages = eval.report.is_some() || eval.pictures.is_some();
    let settings = TestSettings {
        fpr_limit: eval.measuring.fpr_limit,
        mask_threshold: eval.measuring.masks.threshold,
        curve_spacing: eval.curves.spacing.or(has_pages.then_some(CURVE_SPACING)),
        files: FileSettings {
            read: model.read_settings(),
            skip_unreadable: eval.unreadable.skip,
        },
    };
    let rule = rule(&model, &eval.thresholds, progress);
    let heatmap = model.kind().heatmap(rule.image_threshold);
    let mut reports = TestReports::new(rule.clone(), heatmap);
    if let Some(folder) = &eval.report {
        reports = reports.with(folder, Shown::Most(eval.report_images));
    }
    if let Some(folder) = &eval.pictures {
        reports = reports.with(folder, Shown::OfEachKind(eval.pictures_per_kind));
    }
    if !eval.scales.is_empty() {
        reports.warn(
            "The thresholds are those of all patch sizes of the model, the scores those of some."
                .to_owned(),
        );
    }
    let mut sheet = eval.pictures.as_ref().map(|_| ContactSheet::new(heatmap));
    let evaluation = evaluate(
        &model,
        &dataset,
        &settings,
        &rule,
        Pictured {
            maps: eval.maps.as_deref(),
            category: None,
            sheet: sheet.as_mut(),
            reports: &mut reports,
        },
        progress,
    )?;
    Ok(Measured {
        evaluation,
        model,
        dataset,
        sheet,
        reports,
        _folders,
    })
}

/// Where the tested images go.
pub struct Pictured<'a> {
    /// A folder for the maps, in MVTec's layout.
    pub maps: Option<&'a Path>,
    /// What stands before the names on a sheet that shows several categories.
    pub category: Option<&'a str>,
    pub sheet: Option<&'a mut ContactSheet>,
    pub reports: &'a mut TestReports,
}

/// Tests a model, judges the images by a rule, and shows them.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    settings: &TestSettings,
    rule: &Rule,
    to: Pictured<'_>,
    progress: &mut Progress,
) -> Result<Evaluation, TestError> {
    let Pictured {
        maps,
        category,
        mut sheet,
        reports,
    } = to;
    let mut unlike = Vec::new();
    let mut learned = 0;
    let data = model.about().data;
    let mut confusion = Confusion::new(rule.image_threshold);
    let mut evaluation = test_run::run(model, dataset, settings, progress, &mut |tested| {
        let reasons = model.unlike_training(tested.acquisition);
        unlike.push((reasons, tested.test.path.clone()));
        learned += usize::from(data.is_some_and(|data| data.has_learned(tested.image)));
        confusion.add(tested.test.defect.is_some(), rule.is_defective(tested.map)?);
        if let Some(folder) = maps {
            let path = map_set::path_of(folder, dataset, tested.test);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|source| WriteError {
                    path: parent.to_path_buf(),
                    source,
                })?;
            }
            map_file::write(&path, tested.map)?;
        }
        let in_category = |name: &str| match category {
            Some(category) => format!("{category}/{name}"),
            None => name.to_string(),
        };
        if let Some(sheet) = &mut sheet {
            let defect = tested.test.defect.as_deref().map(in_category);
            sheet.add(&SheetRow {
                name: &in_category(tested.name),
                label: Label::of_test(defect.as_deref()),
                score: tested.map.image_score(),
                image: tested.image,
                mask: tested.mask,
                map: tested.map,
            })?;
        }
        reports.add(tested)?;
        Ok(())
    })?;
    data_set::warn_unlike(unlike.into_iter(), evaluation.images, progress);
    if learned > 0 {
        progress.warn(&format!(
            "the model has learned from {learned} of the {} test images: the measures are too good",
            evaluation.images
        ));
    }
    evaluation.confusion = Some(confusion);
    Ok(evaluation)
}

/// The picture of a sheet, for documents.
pub fn write_sheet(sheet: &ContactSheet, folder: &Path) -> Result<(), WriteError> {
    sheet.write(&folder.join("sheet.png"), 2, 160)
}
