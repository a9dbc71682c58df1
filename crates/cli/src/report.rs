//! `eval --report`: the page, with facts about the model and the data.

use std::path::Path;

use pupilla::student_teacher::{ScaleManifest, StudentTeacherTraining};
use pupilla::{About, FileManifest, Model};
use pupilla_core::data::mask::Mask;
use pupilla_core::data::{Dataset, file_fingerprint, fingerprint};
use pupilla_core::evaluate::Evaluation;
use pupilla_core::evaluate::test_run::Tested;
use pupilla_core::map::heatmap::Heatmap;
use pupilla_core::report::{Facts, PageTexts, Report, ReportError, ReportImage};
use pupilla_core::verdict::Rule;
use serde_json::Value;

/// Distance of the points of the curves drawn: finer than a pixel of the plots.
pub const CURVE_SPACING: f64 = 0.002;

/// A report under construction, and by what its images are judged.
pub struct ReportRun {
    rule: Rule,
    report: Report,
}

impl ReportRun {
    /// A report of at most `images` images.
    pub fn new(rule: Rule, heatmap: Heatmap, images: usize) -> Self {
        let report = Report::new(heatmap, rule.image_threshold, rule.pixel_threshold, images);
        Self { rule, report }
    }

    /// Judges a tested image and adds it.
    pub fn add(&mut self, tested: &Tested<'_>) -> Result<(), ReportError> {
        let unmarked;
        let mask = match tested.mask {
            Some(mask) => mask,
            None => {
                unmarked = Mask::good(tested.map.width(), tested.map.height());
                &unmarked
            }
        };
        self.report.add(&ReportImage {
            name: tested.name,
            defect: tested.test.defect.as_deref(),
            image: tested.image,
            mask,
            map: tested.map,
            verdict: &self.rule.judge(tested.explained)?,
        })
    }

    /// Writes the page into a folder and says where.
    pub fn write(
        &self,
        folder: &Path,
        model: &Model,
        file: &Path,
        dataset: &Dataset,
        evaluation: &Evaluation,
    ) -> anyhow::Result<std::path::PathBuf> {
        let about_model = model.about();
        let manifest = model.manifest();
        let thresholds = about_model.calibration.thresholds;
        let mut warnings = Vec::new();
        if self.rule.image_threshold == thresholds.image.value {
            warnings.extend(thresholds.warnings());
        } else {
            warnings.push("The threshold was given by hand, not calibrated.".to_owned());
        }
        if let Some(data) = about_model.data.filter(|data| data.name != dataset.name) {
            warnings.push(format!(
                "The model was trained on {}, and tested here on {}.",
                data.name, dataset.name
            ));
        }
        let about = PageTexts {
            title: dataset.name.clone(),
            category: dataset.name.clone(),
            scales: published_scales(&manifest),
            min_area: self.rule.min_area,
            thresholds,
            facts: vec![
                data(&about_model, dataset, evaluation)?,
                self.model(&about_model, model, file)?,
                settings(&manifest)?,
            ],
            warnings,
        };
        Ok(self.report.write(folder, &about, evaluation)?)
    }

    fn model(&self, about: &About<'_>, model: &Model, file: &Path) -> anyhow::Result<Facts> {
        let mut facts = vec![
            ("detector", about.header.kind.clone()),
            ("file", name_of(file)),
            ("SHA-256", file_fingerprint(file)?),
            ("written by", about.header.program.clone()),
            (
                "tested by",
                format!("pupilla {}", env!("CARGO_PKG_VERSION")),
            ),
        ];
        if let FileManifest::StudentTeacher(manifest) = model.manifest() {
            facts.push(("scales", scales(&manifest.training)));
        }
        if let Some(sampling) = model.sampling() {
            facts.push(("looks at", plain(&serde_json::to_value(sampling)?)));
        }
        facts.push(("smallest region", format!("{} px", self.rule.min_area)));
        facts.push(("threads in training", about.threads.to_string()));
        Ok(group("Model", facts))
    }
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
    let (learned, of) = match about.data {
        Some(data) => (data.name.clone(), data.fingerprint.clone()),
        None => ("unknown".to_owned(), "unknown".to_owned()),
    };
    let facts = [
        (
            "SHA-256 of test",
            fingerprint(&dataset.test_files(), &dataset.root)?,
        ),
        ("mask pixels above", evaluation.mask_threshold.to_string()),
        ("learned from", learned),
        ("images learned", about.training_images.to_string()),
        ("kept back", about.validation.scores.len().to_string()),
        ("their SHA-256", of),
    ];
    Ok(group("Data", facts.into()))
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
