//! `pupilla inspect`: images in; scores, verdicts and heatmaps out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::student_teacher::{Sampling, StudentTeacher};
use pupilla_core::dataset::images_in;
use pupilla_core::detector::Detector;
use pupilla_core::heatmap::{self, Heatmap};
use pupilla_core::image::read;
use pupilla_core::map_file;
use pupilla_core::observer::Observer;
use serde::Serialize;

use crate::arguments::{Inspect, Memory};
use crate::output;
use crate::progress::Progress;

/// Everything `inspect` found.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Images that score above this are called defective.
    threshold: f32,
    images: Vec<Inspected>,
    /// Images that could not be read, if they were to be skipped.
    skipped: Vec<String>,
}

/// One image.
#[derive(Debug, Serialize)]
struct Inspected {
    path: String,
    /// Maximum of the anomaly map; higher is more anomalous.
    score: f32,
    /// Whether the score lies above the threshold.
    defective: bool,
    heatmap: Option<String>,
    map: Option<String>,
}

pub fn run(inspect: &Inspect, progress: &mut Progress) -> anyhow::Result<()> {
    output::check_json(inspect.json.as_deref())?;
    let model = load(&inspect.model, inspect.dense, inspect.memory)?;
    let images = images(&inspect.images)?;
    let names = inspect.out.as_ref().map(|_| names(&images)).transpose()?;
    if let Some(out) = &inspect.out {
        output::folder(out)?;
        check_apart(out, &inspect.images)?;
    }
    if inspect.threshold.is_none() && model.sampling() != model.manifest().sampling {
        progress.warn("the model's threshold was found on a grid; scores at every pixel may differ: set --threshold");
    }
    let json = inspect.json.as_deref();
    let mut inspection = Inspection {
        threshold: inspect
            .threshold
            .unwrap_or(model.manifest().validation.threshold),
        images: Vec::with_capacity(images.len()),
        skipped: Vec::new(),
    };
    let heatmap = scale(inspection.threshold);
    progress.start("inspecting", images.len() as u64);
    for (index, path) in images.iter().enumerate() {
        if progress.stop_requested() {
            bail!(
                "stopped on request after {index} of {} images",
                images.len()
            );
        }
        let image = match read::read(path) {
            Ok(image) => image,
            Err(error) if inspect.skip_unreadable => {
                progress.skipped(path, &error.to_string());
                inspection.skipped.push(path.display().to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let map = model
            .anomaly_map(&image)
            .with_context(|| path.display().to_string())?;
        let mut inspected = Inspected {
            path: path.display().to_string(),
            score: map.image_score(),
            defective: map.image_score() > inspection.threshold,
            heatmap: None,
            map: None,
        };
        if let (Some(out), Some(names)) = (&inspect.out, &names) {
            let picture = out.join(format!("{}_heatmap.png", names[index]));
            heatmap::write_png(&picture, &heatmap.overlay(&image, &map)?)?;
            let raw = out.join(format!("{}_map.tiff", names[index]));
            map_file::write(&raw, &map)?;
            inspected.heatmap = Some(picture.display().to_string());
            inspected.map = Some(raw.display().to_string());
        }
        output::line(
            json,
            format_args!(
                "{:>9.3}  {:9}  {}",
                inspected.score,
                if inspected.defective {
                    "DEFECTIVE"
                } else {
                    "good"
                },
                path.display()
            ),
        )?;
        inspection.images.push(inspected);
        progress.advance(index as u64 + 1, None);
    }
    progress.finish();
    if inspection.images.is_empty() {
        bail!("none of the {} images can be read", images.len());
    }
    let defective = inspection
        .images
        .iter()
        .filter(|image| image.defective)
        .count();
    output::line(
        json,
        format_args!(
            "{defective} of {} images score above the threshold {:.3}",
            inspection.images.len(),
            inspection.threshold
        ),
    )?;
    if let Some(target) = json {
        output::json(target, &inspection)?;
    }
    Ok(())
}

/// A model, looking where it was told to.
pub fn load(path: &Path, dense: bool, memory: Option<Memory>) -> anyhow::Result<StudentTeacher> {
    let mut model = StudentTeacher::load(path)?;
    if dense {
        model = model.with_sampling(Sampling::Dense);
    }
    if let Some(Memory(limit)) = memory {
        model = model.with_memory(limit);
    }
    Ok(model)
}

/// Results among the images would be inspected the next time.
fn check_apart(out: &Path, inputs: &[PathBuf]) -> anyhow::Result<()> {
    let whole = |path: &Path| path.canonicalize().ok();
    if inputs
        .iter()
        .any(|input| input.is_dir() && whole(input) == whole(out))
    {
        let text = format!(
            "--out {} is a folder of images to inspect: give another",
            out.display()
        );
        return Err(output::Usage(text).into());
    }
    Ok(())
}

/// Colours that mean the same in every picture: none up to a quarter of the threshold, strongest from
/// one and a half of it on (a threshold below 1 counts as 1 here).
pub fn scale(threshold: f32) -> Heatmap {
    let unit = threshold.abs().max(1.0);
    Heatmap {
        low: threshold - 0.75 * unit,
        high: threshold + 0.5 * unit,
    }
}

/// The images named, and those in the folders named.
fn images(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in paths {
        if path.is_dir() {
            all.extend(images_in(path)?);
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

/// A name for each image's results: its file name without extension, with it where two would be
/// equal.
fn names(images: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let part = |part: Option<&std::ffi::OsStr>| part.map(OsString::from).unwrap_or_default();
    let mut stems: BTreeMap<OsString, usize> = BTreeMap::new();
    for path in images {
        *stems.entry(part(path.file_stem())).or_default() += 1;
    }
    let mut taken: BTreeMap<String, &Path> = BTreeMap::new();
    let mut names = Vec::with_capacity(images.len());
    for path in images {
        let stem = part(path.file_stem());
        let name = if stems[&stem] > 1 {
            part(path.file_name())
        } else {
            stem
        };
        let name = name.to_string_lossy().into_owned();
        if let Some(other) = taken.insert(name.clone(), path) {
            bail!(
                "{} and {} would write the same files into --out: inspect them one after the other, \
                 with two folders",
                other.display(),
                path.display()
            );
        }
        names.push(name);
    }
    Ok(names)
}
