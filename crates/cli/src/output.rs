//! The output of results: text for people on standard output, JSON if it is wanted.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pupilla::{DetectorKind, teacher};
use pupilla_files::{atomic_file, weight_file};
use serde::Serialize;

/// Options that contradict each other in a way the parser cannot see.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error and its causes, each once: many messages contain their cause already.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        text
    })
}

/// Writes `value` as JSON to a file, or to standard output for `-`.
pub fn json(target: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    text.push('\n');
    if is_stdout(target) {
        io::stdout().lock().write_all(text.as_bytes())?;
    } else {
        atomic_file::write_bytes(target, text.as_bytes())?;
    }
    Ok(())
}

/// Writes a line for people, unless standard output carries JSON.
pub fn line(json: Option<&Path>, text: impl std::fmt::Display) -> anyhow::Result<()> {
    if !json.is_some_and(is_stdout) {
        writeln!(anstream::stdout().lock(), "{text}")?;
    }
    Ok(())
}

fn is_stdout(target: &Path) -> bool {
    target == Path::new("-")
}

/// Fails now if a file could not be written there after hours of work; what killed runs left there goes.
pub fn check_writable(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        anyhow::bail!("{} is a folder: give the name of a file", path.display());
    }
    if path.exists() && !path.is_file() {
        let text = format!("{} is no regular file: give another name", path.display());
        return Err(Usage(text).into());
    }
    atomic_file::prepare(path)?;
    Ok(())
}

/// Fails now if JSON could not be written to `target` later, or would replace something that is not
/// JSON: an image or a model that slipped in after `--json`.
pub fn check_json(target: Option<&Path>) -> anyhow::Result<()> {
    let Some(target) = target.filter(|target| !is_stdout(target)) else {
        return Ok(());
    };
    if target.is_file() {
        if begins_otherwise(target, b"{")? {
            let cure = "give another name";
            return Err(would_replace("--json", target, "JSON file", cure));
        }
    } else if target.exists() && !target.is_dir() {
        let text = format!("--json {}: give a file, or `-`", target.display());
        return Err(Usage(text).into());
    }
    check_writable(target)
}

/// Fails now if a table could not be written to `target` later, or would replace a file that is not a table.
pub fn check_csv(target: &Path) -> anyhow::Result<()> {
    check_alike("--csv", target, b"path,score,", "table of an inspection")
}

/// Fails now if the page of a report could not be written into a folder later, or would replace a file that is not a page.
pub fn check_page(option: &str, folder: &Path) -> anyhow::Result<()> {
    let _folder = self::folder(folder)?;
    let page = folder.join("index.html");
    check_alike(option, &page, b"<!doctype html>", "page of a report")
}

/// Makes a folder for results, which goes again with the guard if nothing was written into it.
pub fn folder(path: &Path) -> anyhow::Result<NewFolders> {
    let missing = path.ancestors().filter(|folder| !folder.exists());
    let missing = NewFolders(missing.map(Path::to_path_buf).collect());
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(missing)
}

/// Folders that were not there before, the inner ones first.
#[derive(Debug)]
#[must_use]
pub struct NewFolders(Vec<PathBuf>);

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Only empty ones can be removed in this way.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// A measure in `[0, 1]`, or that it is undefined.
pub fn measure(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_string(), |value| format!("{value:.4}"))
}

/// A time for people.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} days", whole / 86_400),
    }
}

/// Fails if two options name one file, whose second writing would take away the first; however its path is spelled.
pub fn distinct(options: &str, one: Option<&Path>, other: Option<&Path>) -> Result<(), Usage> {
    match (one, other) {
        (Some(one), Some(other)) if !is_stdout(one) && place(one) == place(other) => {
            Err(Usage(format!("{options} name the same file")))
        }
        _ => Ok(()),
    }
}

/// Where a path leads, as far as it is there.
pub fn place(path: &Path) -> PathBuf {
    if let Ok(place) = path.canonicalize() {
        return place;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match path.file_name() {
        Some(name) if folder != path => place(folder).join(name),
        _ => path.to_path_buf(),
    }
}

/// Fails if what `option` names is one of the images that are learned from or inspected.
pub fn check_no_image(
    option: &str,
    target: Option<&Path>,
    images: &[PathBuf],
) -> Result<(), Usage> {
    let Some(target) = target.filter(|target| target.is_file()) else {
        return Ok(());
    };
    let place_of_target = place(target);
    let alike = images
        .iter()
        .filter(|image| image.file_name() == place_of_target.file_name());
    for image in alike {
        if place(image) == place_of_target {
            let image = image.display();
            return Err(Usage(format!(
                "{option} would replace {image}, one of the images: give another name"
            )));
        }
    }
    Ok(())
}

/// Fails now if a model, or a teacher, could not be written to `target` later, or would replace something else that is there; or
/// something of its kind, unless `replace`.
pub fn check_weights(target: &Path, wanted: Weights, replace: bool) -> anyhow::Result<()> {
    if target.is_file() && target.metadata().is_ok_and(|about| about.len() > 0) {
        let kind = weight_file::kind_of(target)
            .with_context(|| format!("cannot read {}", target.display()))?;
        let fits = kind.as_deref().is_some_and(|kind| match wanted {
            Weights::Model => DetectorKind::of_name(kind).is_some(),
            Weights::Teacher => kind == teacher::KIND,
        });
        let named = match wanted {
            Weights::Model => "model",
            Weights::Teacher => "teacher",
        };
        if !fits {
            let cure = "give another name, or take that file away";
            return Err(would_replace("--out", target, named, cure));
        }
        if !replace {
            let target = target.display();
            let text = format!(
                "--out would replace the {named} {target}: give another name, or --force to replace it"
            );
            return Err(Usage(text).into());
        }
    }
    check_writable(target)
}

/// What is to be written.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// A trained detector.
    Model,
    /// A teacher.
    Teacher,
}

/// Fails now if `option`'s file could not be written to `target` later, or would replace something that does not begin as such files do.
pub fn check_alike(
    option: &str,
    target: &Path,
    beginning: &[u8],
    named: &str,
) -> anyhow::Result<()> {
    if target.is_file() && begins_otherwise(target, beginning)? {
        return Err(would_replace(option, target, named, "give another name"));
    }
    check_writable(target)
}

/// An option that names a file of another kind.
fn would_replace(option: &str, target: &Path, named: &str, cure: &str) -> anyhow::Error {
    let target = target.display();
    let text = format!("{option} would replace {target}, which is not a {named}: {cure}");
    Usage(text).into()
}

/// Whether a file that is not empty begins with something else.
fn begins_otherwise(path: &Path, beginning: &[u8]) -> anyhow::Result<bool> {
    let mut found = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(beginning.len() as u64).read_to_end(&mut found))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(!found.is_empty() && found != beginning)
}
