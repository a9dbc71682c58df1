//! `pupilla info`: what a file says about itself.

use anyhow::Context;
use pupilla::manifest;
use serde_json::Value;

use crate::arguments::Info;
use crate::output;

pub fn run(info: &Info) -> anyhow::Result<()> {
    output::check_json(info.json.as_deref())?;
    let manifest = manifest::read(&info.file)?;
    if let Some(target) = info.json.as_deref() {
        return output::json(target, &manifest);
    }
    let value = serde_json::to_value(&manifest).context("cannot show the manifest")?;
    let mut text = String::new();
    outline(&value, 0, &mut text);
    output::line(None, text.trim_end())
}

/// Nested `key: value` lines; lists of plain values on one line.
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
