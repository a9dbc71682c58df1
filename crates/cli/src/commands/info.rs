//! `pupilla info`: what a file says about itself, or what the built-in network and teachers are.

use std::path::Path;

use anyhow::Context;
use pupilla::backbone::{self, BackboneError, WeightSource};
use pupilla::manifest::CalibrationManifest;
use pupilla::teacher::TeacherManifest;
use pupilla::{About, DetectorKind, FileManifest, ReceptiveField, Resize, Teacher, UnfinishedRun};
use pupilla_files::foreign_text::shown;
use pupilla_files::weight_file::WeightFileError;
use serde_json::{Value, json};

use crate::options::Info;
use crate::output;

pub fn run(info: &Info) -> anyhow::Result<()> {
    output::check_json(info.json.file())?;
    let Some(path) = &info.file else {
        return built_in(info);
    };
    let manifest = match FileManifest::read(path) {
        Ok(manifest) => manifest,
        Err(error) => return other_file(path, error, info),
    };
    if let Some(target) = info.json.file() {
        return output::json(target, &manifest);
    }
    let text = match info.full {
        true => whole(&manifest)?,
        false => summary(path, &manifest)?,
    };
    output::line(None, text.trim_end())
}

/// What a file is that is neither a model nor a teacher.
fn other_file(path: &Path, error: WeightFileError, info: &Info) -> anyhow::Result<()> {
    let name = path.display();
    let (text, facts) = if let Some(run) = UnfinishedRun::find(path) {
        let text = format!(
            "{name} is the checkpoint of a stopped training ({run})\n\
             the command of the training with --resume goes on with it"
        );
        (
            text,
            json!({"checkpoint_of": run.trains, "steps": run.steps}),
        )
    } else {
        let network = match (backbone::load(path), &error) {
            (Ok(network), _) => network.config(),
            // Tensors of another network, or no tensors.
            (Err(other), WeightFileError::NoManifest { .. }) => return Err(other.into()),
            (Err(BackboneError::File(_)), _) => return Err(error.into()),
            (Err(other), _) => return Err(other.into()),
        };
        let text = format!(
            "{name} holds the weights of a pretrained network, {}\n\
             a detector compares the network's features: pupilla train GOOD_IMAGES --backbone {name} --out part.pupilla",
            network.name()
        );
        (text, json!({"pretrained_network": network}))
    };
    match info.json.file() {
        Some(target) => output::json(target, &facts),
        None => output::line(None, text),
    }
}

/// What a person needs to know to use a file.
fn summary(path: &Path, manifest: &FileManifest) -> anyhow::Result<String> {
    let name = path.display();
    let mut rows: Vec<(&str, String)> = Vec::new();
    let head = if let Some(about) = manifest.about() {
        let kind = DetectorKind::of_name(&about.header.kind);
        let what = kind.map_or("", DetectorKind::description);
        rows.push(("learned from", learned_from(&about, manifest)));
        let images = about.data.and_then(|data| data.images.as_ref());
        rows.extend(images.map(|images| ("its images", images.to_string())));
        rows.extend(promises(&about));
        rows.extend(kept(manifest).map(|kept| ("keeps", kept)));
        rows.push((
            "use",
            format!("pupilla inspect {name} NEW_IMAGES --out heatmaps"),
        ));
        format!("{name}: a model of {}. {what}", shown(&about.header.kind))
    } else {
        let teacher = manifest.teachers();
        let field = teacher[0].config.network.receptive_field;
        rows.push(("learned from", format!("{} images", teacher[0].images)));
        rows.push((
            "use",
            format!(
                "pupilla train GOOD_IMAGES --scales {field} --teacher {name} --out part.pupilla"
            ),
        ));
        format!("{name}: a teacher for patches of p = {field}, from which students learn")
    };
    rows.extend(networks(manifest));
    rows.push(("file", about_file(path, manifest)?));
    rows.push((
        "everything",
        format!("pupilla info {name} --full, or --json"),
    ));
    let rows = rows
        .iter()
        .map(|(what, text)| format!("  {what:14}{text}\n"));
    Ok(std::iter::once(head + "\n").chain(rows).collect())
}

fn learned_from(about: &About<'_>, manifest: &FileManifest) -> String {
    let of = about
        .data
        .map_or(String::new(), |data| format!(" of {}", shown(&data.name)));
    let resized = match manifest.resize() {
        Some(Resize::Square(side)) => format!(", resized to {side}×{side} pixels"),
        Some(Resize::LongerSide(side)) => format!(", resized to {side} pixels on the longer side"),
        Some(Resize::None) | None => String::new(),
    };
    format!("{} good images{of}{resized}", about.training_images)
}

fn promises(about: &About<'_>) -> [(&'static str, String); 2] {
    let CalibrationManifest {
        thresholds, data, ..
    } = &about.calibration;
    let from = match data {
        Some(data) => format!(", calibrated on {}", shown(&data.name)),
        None => String::new(),
    };
    let (image, pixel) = (thresholds.image.value, thresholds.pixel.value);
    [
        (
            "thresholds",
            format!("image {image:.3}, pixel {pixel:.3}{from}"),
        ),
        ("promise", thresholds.promise()),
    ]
}

/// What training has left in the file.
fn kept(manifest: &FileManifest) -> Option<String> {
    match manifest {
        FileManifest::Embedding(model) => model.method.kept_in_words(),
        FileManifest::StudentTeacher(model) => {
            let scales = &model.training.scales;
            let each: Vec<_> = scales
                .iter()
                .map(|scale| {
                    format!(
                        "p = {} after {} steps",
                        scale.network.receptive_field, scale.steps
                    )
                })
                .collect();
            let students = model.method.settings.students;
            Some(format!(
                "{students} students for each of {}",
                each.join(", ")
            ))
        }
        FileManifest::Reconstruction(model) => {
            Some(format!("two networks after {} steps", model.method.steps))
        }
        FileManifest::Teacher(_) => None,
    }
}

/// The networks that give the features, and their terms.
fn networks(manifest: &FileManifest) -> Vec<(&'static str, String)> {
    let backbone = manifest.backbone().map(|backbone| {
        let text = format!("{} ({})", backbone.network.name(), shown(&backbone.file));
        (text, terms_in_short(&backbone.fingerprint))
    });
    let teachers = manifest.teachers().into_iter().map(|teacher| {
        let field = teacher.config.network.receptive_field;
        (format!("teacher for p = {field}"), shown(&teacher.data))
    });
    let each = backbone.into_iter().chain(teachers);
    each.map(|(network, terms)| ("network", format!("{network}. Terms: {terms}")))
        .collect()
}

fn terms_in_short(fingerprint: &str) -> String {
    let text = match is_built_in(fingerprint) {
        true => "Apache-2.0, commercial use is allowed",
        false => "those of its weights",
    };
    text.to_string()
}

fn about_file(path: &Path, manifest: &FileManifest) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    let program = match manifest {
        FileManifest::Teacher(teacher) => &teacher.header.program,
        _ => {
            &manifest
                .about()
                .context("the file is no model")?
                .header
                .program
        }
    };
    let size = bytes as f64 / f64::from(1 << 20);
    Ok(format!("{size:.1} MiB, written by {}", shown(program)))
}

/// Everything that a file says about itself.
fn whole(manifest: &FileManifest) -> anyhow::Result<String> {
    let value = serde_json::to_value(manifest).context("cannot show the manifest")?;
    let mut text = String::new();
    outline(&value, 0, &mut text);
    if let Some(backbone) = manifest.backbone() {
        text.push_str(&terms_of_backbone(&backbone.file, &backbone.fingerprint));
    }
    for teacher in manifest.teachers() {
        let tutor = teacher.tutor.as_ref();
        if let Some(tutor) = tutor
            && let Some(fingerprint) = &tutor.fingerprint
        {
            text.push_str(&terms_of_backbone(tutor.network.name(), fingerprint));
        }
        text.push_str(&terms(teacher));
    }
    Ok(text)
}

/// What the network and the teachers say that come with the program.
fn built_in(info: &Info) -> anyhow::Result<()> {
    let mut manifests = Vec::new();
    for field in ReceptiveField::ALL {
        manifests.push(Teacher::built_in(field)?.manifest().clone());
    }
    if let Some(target) = info.json.file() {
        return output::json(target, &manifests);
    }
    let mut text = String::new();
    let network = WeightSource::BuiltIn;
    if let Ok(backbone) = network.load() {
        let (name, fingerprint) = (backbone.config().name(), network.fingerprint()?);
        text.push_str(&format!(
            "built-in network {name}:\n  file: {}\n  fingerprint: {fingerprint}\n{}\n",
            network.file_name(),
            terms_of_backbone(&network.file_name(), &fingerprint)
        ));
    }
    for manifest in &manifests {
        text.push_str(&format!(
            "built-in teacher for p = {}:\n",
            manifest.config.network.receptive_field
        ));
        if info.full {
            let value = serde_json::to_value(manifest).context("cannot show the manifest")?;
            outline(&value, 1, &mut text);
            text.push_str(&terms(manifest));
            text.push('\n');
        } else {
            text.push_str(&format!("  terms: {}\n", manifest.data));
        }
    }
    if !info.full {
        text.push_str("\neverything: pupilla info --full, or --json");
    }
    output::line(None, text.trim_end())
}

fn is_built_in(fingerprint: &str) -> bool {
    let built_in = WeightSource::BuiltIn.fingerprint();
    built_in.is_ok_and(|built_in| built_in == fingerprint)
}

/// Under which terms the weights of a pretrained network stand.
fn terms_of_backbone(name: &str, fingerprint: &str) -> String {
    if is_built_in(fingerprint) {
        "\nThe weights of the built-in network have the Apache-2.0 licence. Their authors trained them on ImageNet.\n\
         They may be used commercially, and so may models that are trained with them alone.\n"
            .to_string()
    } else {
        format!("\nThe features come from {name}: the terms of its weights apply to the model.\n")
    }
}

/// Under which terms a teacher's images stood, and how to be free of them.
fn terms(teacher: &TeacherManifest) -> String {
    let field = teacher.config.network.receptive_field;
    format!(
        "\nThe teacher for p = {field} was trained on images with these terms: {}.\n\
         If they do not suit you, train one on images of your own:\n\n    \
         pupilla teacher train IMAGES --scale {field} --out teacher-{field}.safetensors\n    \
         pupilla train GOOD_IMAGES --scales {field} --teacher teacher-{field}.safetensors --out part.pupilla\n\n\
         This command learns from the built-in network too; with --without-backbone it learns from the images alone.\n",
        teacher.data.trim_end_matches('.')
    )
}

/// Longer lists are for `--json`: the hashes of all images that were learned, the moments of all channels.
const LONGEST_LIST: usize = 8;

/// Nested `key: value` lines; lists of plain values on one line, of long ones how many there are.
fn outline(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let mut entry = |key: &str, value: &Value| {
        let words = key.replace('_', " ");
        match value {
            Value::Object(_) => {
                text.push_str(&format!("{indent}{words}:\n"));
                outline(value, depth + 1, text);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    text.push_str(&format!("{indent}{words} {}:\n", index + 1));
                    outline(item, depth + 1, text);
                }
            }
            Value::Array(items) if items.len() > LONGEST_LIST => text.push_str(&format!(
                "{indent}{words}: {} values, the first {} (--json shows all)\n",
                items.len(),
                plain(&items[0])
            )),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(plain).collect();
                text.push_str(&format!("{indent}{words}: {}\n", items.join(", ")));
            }
            other => text.push_str(&format!("{indent}{words}: {}\n", plain(other))),
        }
    };
    if let Value::Object(entries) = value {
        for (key, value) in entries {
            entry(key, value);
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_lists_are_counted_and_short_ones_shown() {
        let value = json!({
            "image_hashes": ["a1", "b2", "c3", "d4", "e5", "f6", "07", "18", "29"],
            "scales": [{"patch": 33}, {"patch": 65}],
            "size": [256, 128],
            "terms": null,
        });
        let mut text = String::new();
        outline(&value, 1, &mut text);
        assert_eq!(
            text,
            "  image hashes: 9 values, the first a1 (--json shows all)\n  \
             scales 1:\n    patch: 33\n  scales 2:\n    patch: 65\n  size: 256, 128\n  terms: -\n"
        );
    }
}
