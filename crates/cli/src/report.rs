//! `--report`: the page, with facts about the model and the data.

use std::path::{Path, PathBuf};

use pupilla::student_teacher::{ScaleManifest, StudentTeacherTraining};
use pupilla::{About, FileManifest, Model};
use pupilla_core::data::{Dataset, file_fingerprint, fingerprint};
use pupilla_core::evaluate::Evaluation;
use pupilla_core::evaluate::test_run::Tested;
use pupilla_core::image::Image;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::heatmap::Heatmap;
use pupilla_core::report::{Facts, Label, PageTexts, Report, ReportError, ReportImage, Shown};
use pupilla_core::verdict::{Rule, Verdict};
use serde_json::Value;

use crate::output;

/// Distance of the points of the curves drawn: finer than a pixel of the plots.
pub const CURVE_SPACING: f64 = 0.002;

/// The reports of a test under construction, and by what their images are judged.
pub struct TestReports {
    rule: Rule,
    heatmap: Heatmap,
    /// Each with its folder.
    reports: Vec<(PathBuf, Report)>,
    warnings: Vec<String>,
}

impl TestReports {
    pub fn new(rule: Rule, heatmap: Heatmap) -> Self {
        Self {
            rule,
            heatmap,
            reports: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Adds a report of some of the images, which goes into a folder.
    pub fn with(mut self, folder: &Path, shown: Shown) -> Self {
        let report = Report::new(self.heatmap, &self.rule, shown);
        self.reports.push((folder.to_path_buf(), report));
        self
    }

    /// Adds a warning to the pages.
    pub fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    /// Judges a tested image and adds it.
    pub fn add(&mut self, tested: &Tested<'_>) -> Result<(), ReportError> {
        if self.reports.is_empty() {
            return Ok(());
        }
        let verdict = self.rule.judge(tested.explained)?;
        for (_, report) in &mut self.reports {
            report.add(&ReportImage {
                name: tested.name,
                label: Label::of_test(tested.test.defect.as_deref()),
                image: tested.image,
                mask: tested.mask,
                map: tested.map,
                verdict: &verdict,
            })?;
        }
        Ok(())
    }

    /// Writes the pages and says where.
    pub fn write(
        &self,
        model: &Model,
        file: &Path,
        dataset: &Dataset,
        evaluation: &Evaluation,
    ) -> anyhow::Result<Vec<PathBuf>> {
        if self.reports.is_empty() {
            return Ok(Vec::new());
        }
        let about = model.about();
        let mut texts = texts(&self.rule, model, file, dataset.name.clone())?;
        texts.scales = published_scales(&model.manifest());
        texts.facts.insert(0, data(&about, dataset, evaluation)?);
        texts.warnings.extend(self.warnings.iter().cloned());
        if let Some(data) = about.data.filter(|data| data.name != dataset.name) {
            texts.warnings.push(format!(
                "The model was trained on {}, and tested here on {}.",
                data.name, dataset.name
            ));
        }
        let mut pages = Vec::new();
        for (folder, report) in &self.reports {
            pages.push(report.write(folder, &texts, Some(evaluation))?);
        }
        Ok(pages)
    }
}

/// The report of inspected images under construction.
pub struct InspectionReport {
    rule: Rule,
    report: Report,
    images: usize,
}

impl InspectionReport {
    /// A report that shows at most `shown` images, the highest scores first. `rule` judges all images.
    pub fn new(rule: Rule, heatmap: Heatmap, shown: usize) -> Self {
        let report = Report::new(heatmap, &rule, Shown::Most(shown));
        Self {
            rule,
            report,
            images: 0,
        }
    }

    /// Adds an inspected image.
    pub fn add(
        &mut self,
        name: &str,
        image: &Image,
        map: &AnomalyMap,
        verdict: &Verdict,
    ) -> Result<(), ReportError> {
        self.images += 1;
        self.report.add(&ReportImage {
            name,
            label: Label::Unknown,
            image,
            mask: None,
            map,
            verdict,
        })
    }

    /// Writes the page into a folder and says where. `skipped` images could not be read; `early` says why the run ended before its end.
    /// The folder is made if it does not exist.
    pub fn write(
        &self,
        folder: &Path,
        title: &str,
        model: &Model,
        file: &Path,
        skipped: usize,
        early: Option<String>,
    ) -> anyhow::Result<PathBuf> {
        let _folder = output::folder(folder)?;
        let mut texts = texts(&self.rule, model, file, title.to_owned())?;
        texts.warnings.extend(early);
        let mut data = learned(&model.about());
        data.insert(0, ("images inspected", self.images.to_string()));
        data.insert(1, ("images unreadable", skipped.to_string()));
        texts.facts.insert(0, group("Data", data));
        if skipped > 0 {
            texts.warnings.push(format!(
                "{skipped} of {} images could not be read and are not on this page.",
                skipped + self.images
            ));
        }
        Ok(self.report.write(folder, &texts, None)?)
    }
}

/// The texts of every report: title, thresholds, facts about the model, its settings.
fn texts(rule: &Rule, model: &Model, file: &Path, title: String) -> anyhow::Result<PageTexts> {
    let about = model.about();
    let thresholds = about.calibration.thresholds;
    let warnings = match rule.image_threshold == thresholds.image.value {
        true => thresholds.warnings(),
        false => vec!["The threshold was given by hand, not calibrated.".to_owned()],
    };
    Ok(PageTexts {
        category: title.clone(),
        title,
        scales: Vec::new(),
        thresholds,
        facts: vec![
            about_model(rule, &about, model, file)?,
            settings(&model.manifest())?,
        ],
        warnings,
    })
}

fn about_model(
    rule: &Rule,
    about: &About<'_>,
    model: &Model,
    file: &Path,
) -> anyhow::Result<Facts> {
    let mut facts = vec![
        ("detector", about.header.kind.clone()),
        ("file", name_of(file)),
    ];
    // A host may have the model in memory alone.
    if file.is_file() {
        facts.push(("SHA-256", file_fingerprint(file)?));
    }
    facts.push(("written by", about.header.program.clone()));
    facts.push(("used by", format!("pupilla {}", env!("CARGO_PKG_VERSION"))));
    if let FileManifest::StudentTeacher(manifest) = model.manifest() {
        facts.push(("scales", scales(&manifest.training)));
    }
    if let Some(sampling) = model.sampling() {
        facts.push(("looks at", plain(&serde_json::to_value(sampling)?)));
    }
    facts.push(("smallest region", format!("{} px", rule.min_area)));
    facts.push(("threads in training", about.threads.to_string()));
    Ok(group("Model", facts))
}

fn scales(manifest: &StudentTeacherTraining) -> String {
    let scale = |scale: &ScaleManifest| {
        format!(
            "p = {} ({} steps)",
            scale.network.receptive_field, scale.steps
        )
    };
    let scales: Vec<String> = manifest.scales.iter().map(scale).collect();
    scales.join(", ")
}

/// The scales of a model whose figures may stand beside the published ones of the student–teacher method: a pretrained network as
/// teacher sees the whole image, which the published teachers do not.
fn published_scales(manifest: &FileManifest) -> Vec<usize> {
    let FileManifest::StudentTeacher(manifest) = manifest else {
        return Vec::new();
    };
    let own = |scale: &ScaleManifest| {
        let teacher = scale.teacher.patch_network();
        teacher.map(|_| scale.network.receptive_field.side())
    };
    let scales: Option<Vec<usize>> = manifest.training.scales.iter().map(own).collect();
    let mut scales = scales.unwrap_or_default();
    scales.sort_unstable();
    scales
}

/// The images that the model learned from, and those of this test.
fn data(about: &About<'_>, dataset: &Dataset, evaluation: &Evaluation) -> anyhow::Result<Facts> {
    let mut facts = vec![
        (
            "SHA-256 of test",
            fingerprint(&dataset.test_files(), &dataset.root)?,
        ),
        ("mask pixels above", evaluation.mask_threshold.to_string()),
    ];
    facts.extend(learned(about));
    Ok(group("Data", facts))
}

/// The images that the model learned from.
fn learned(about: &About<'_>) -> Vec<(&'static str, String)> {
    let (learned, of) = match about.data {
        Some(data) => (data.name.clone(), data.fingerprint.clone()),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    vec![
        ("learned from", learned),
        ("images learned", about.training_images.to_string()),
        ("kept back", about.validation.scores.len().to_string()),
        ("their SHA-256", of),
    ]
}

/// Every setting of the training run, the seed among them.
fn settings(manifest: &FileManifest) -> anyhow::Result<Facts> {
    let settings = match manifest {
        FileManifest::StudentTeacher(manifest) => serde_json::to_value(&manifest.method.settings)?,
        FileManifest::Embedding(manifest) => serde_json::to_value(&manifest.method.settings)?,
        FileManifest::Reconstruction(manifest) => serde_json::to_value(&manifest.method.settings)?,
        FileManifest::Teacher(manifest) => serde_json::to_value(&manifest.config)?,
    };
    let mut facts = Vec::new();
    flatten("", &settings, &mut facts);
    Ok(Facts {
        heading: "Settings".to_owned(),
        facts,
    })
}

fn group(heading: &str, facts: Vec<(&str, String)>) -> Facts {
    let facts = facts.into_iter();
    Facts {
        heading: heading.to_owned(),
        facts: facts
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// Nested values by the names that lead to them.
fn flatten(name: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let key = key.replace('_', " ");
                // What a setting belongs to says nothing that its name does not.
                let inner = match name {
                    "" | "training" | "method" => key,
                    outer => format!("{outer} {key}"),
                };
                flatten(&inner, value, facts);
            }
        }
        Value::Null => facts.push((name.to_owned(), "none".to_owned())),
        other => facts.push((name.to_owned(), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The name alone: a path would tell a customer where things lie.
fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pupilla::{DetectorKind, Silent, Trainer};
    use pupilla_core::detector::Detector;
    use pupilla_core::image::resize::Resize;

    /// Stripes that begin at another place for each seed.
    fn part(seed: usize) -> Image {
        let pixels = (0..40 * 40 * 3).map(|at| ((at / 3 + seed) % 7) as f32 / 6.0);
        Image::new(40, 40, pixels.collect())
    }

    #[test]
    fn inspected_images_become_a_page_without_measures() {
        let folder = tempfile::tempdir().unwrap();
        let good = folder.path().join("good");
        std::fs::create_dir(&good).unwrap();
        for seed in 0..6 {
            let picture = pupilla_core::map::heatmap::to_rgb8(&part(seed));
            let path = good.join(format!("{seed}.png"));
            pupilla_core::map::heatmap::write_png(path, &picture).unwrap();
        }
        let trainer = Trainer::new()
            .detector(DetectorKind::KMeans)
            .resize(Resize::Square(40));
        let dataset = Dataset::open(&good).unwrap();
        let model = trainer.train(&dataset, &mut Silent).unwrap();
        let file = folder.path().join("part.pupilla");
        model.save(&file).unwrap();

        let rule = model.rule();
        let heatmap = model.kind().heatmap(rule.image_threshold);
        let mut report = InspectionReport::new(rule.clone(), heatmap, 1);
        for name in ["<a>.png", "b.png"] {
            let image = part(3);
            let explained = model.explain(&image).unwrap();
            let verdict = rule.judge(&explained).unwrap();
            report.add(name, &image, &explained.map, &verdict).unwrap();
        }
        let out = folder.path().join("report");
        let page = report
            .write(&out, "line 3", &model, &file, 1, None)
            .unwrap();
        assert_eq!(page, out.join("index.html"));
        let page = std::fs::read_to_string(page).unwrap();
        for expected in [
            "<h1>line 3</h1>",
            "of 2</b> images are defective",
            "The page shows 1 of 2 images",
            "1 of 3 images could not be read",
            "<dt>detector</dt><dd>k-means</dd>",
            "&#60;a&#62;.png",
        ] {
            assert!(page.contains(expected), "{expected}");
        }
        assert!(!page.contains("AUROC"));
    }
}
