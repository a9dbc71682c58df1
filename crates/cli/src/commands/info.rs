//! `pupilla info`: prints the manifest of a file, or what the built-in network and teachers are.

use anyhow::Context;
use pupilla::backbone::WeightSource;
use pupilla::teacher::TeacherManifest;
use pupilla::{FileManifest, ReceptiveField, Teacher};
use serde_json::Value;

use crate::options::Info;
use crate::output;

pub fn run(info: &Info) -> anyhow::Result<()> {
    output::check_json(info.json.file())?;
    let Some(file) = &info.file else {
        return built_in(info);
    };
    let manifest = FileManifest::read(file)?;
    if let Some(target) = info.json.file() {
        return output::json(target, &manifest);
    }
    let value = serde_json::to_value(&manifest).context("cannot show the manifest")?;
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
    output::line(None, text.trim_end())
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
        let value = serde_json::to_value(manifest).context("cannot show the manifest")?;
        text.push_str(&format!(
            "built-in teacher for p = {}:\n",
            manifest.config.network.receptive_field
        ));
        outline(&value, 1, &mut text);
        text.push_str(&terms(manifest));
        text.push('\n');
    }
    output::line(None, text.trim_end())
}

/// Under which terms the weights of a pretrained network stand.
fn terms_of_backbone(name: &str, fingerprint: &str) -> String {
    let built_in = WeightSource::BuiltIn.fingerprint();
    if built_in.is_ok_and(|built_in| built_in == fingerprint) {
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
