//! Where results go: text for people on standard output, JSON where it is asked for.

use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use pupilla_core::atomic_file;
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
        writeln!(io::stdout().lock(), "{text}")?;
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
    atomic_file::prepare(path)?;
    Ok(())
}

/// Fails now if JSON could not be written to `target` later, or would replace something that is not
/// JSON: an image or a model that slipped in behind `--json`.
pub fn check_json(target: Option<&Path>) -> anyhow::Result<()> {
    let Some(target) = target.filter(|target| !is_stdout(target)) else {
        return Ok(());
    };
    let mut first = [0u8; 1];
    if target.is_file() {
        let read = std::fs::File::open(target)
            .and_then(|mut file| file.read(&mut first))
            .with_context(|| format!("cannot read {}", target.display()))?;
        if read == 1 && first[0] != b'{' {
            let text = format!(
                "--json would replace {}, which is no JSON file: give another name, or put --json last",
                target.display()
            );
            return Err(Usage(text).into());
        }
    } else if target.exists() && !target.is_dir() {
        let text = format!("--json {}: give a file, or `-`", target.display());
        return Err(Usage(text).into());
    }
    check_writable(target)
}

/// Fails now if a table could not be written to `target` later, or would replace something that is none.
pub fn check_csv(target: &Path) -> anyhow::Result<()> {
    if target.is_file()
        && target
            .extension()
            .is_none_or(|extension| extension != "csv")
    {
        let text = format!(
            "--csv would replace {}, which is no .csv file: give another name",
            target.display()
        );
        return Err(Usage(text).into());
    }
    check_writable(target)
}

/// Makes a folder for results.
pub fn folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path)
        .with_context(|| format!("cannot make the folder {}", path.display()))
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

/// Fails if two options name one file, whose second writing would take away the first.
pub fn distinct(options: &str, one: Option<&Path>, other: Option<&Path>) -> Result<(), Usage> {
    if one.is_some() && one == other {
        return Err(Usage(format!("{options} name the same file")));
    }
    Ok(())
}
