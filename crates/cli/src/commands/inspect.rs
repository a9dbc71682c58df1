//! `pupilla inspect`: images in; scores, verdicts and heatmaps out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::student_teacher::bytes_beside;
use pupilla::{Model, Sampling};
use pupilla_core::data::{file_fingerprint, images_below};
use pupilla_core::detector::Detector;
use pupilla_core::image::read;
use pupilla_core::map::{heatmap, map_file};
use pupilla_core::observer::Observer;
use pupilla_core::pipeline;
use pupilla_core::verdict::region::{Region, draw_regions};
use pupilla_core::verdict::{Rule, Verdict};
use serde::Serialize;

use crate::options::{Inspect, Looking, Memory, Thresholds};
use crate::progress::Progress;
use crate::region_table::RegionTable;
use crate::{output, region_of_interest};

/// Everything `inspect` found.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Images that score above this are called defective.
    threshold: f32,
    /// Regions are made of the pixels that score above this.
    pixel_threshold: f32,
    /// Smaller regions were left out.
    min_area: usize,
    /// The picture that says where to look, if one was given.
    roi: Option<String>,
    images: Vec<Inspected>,
    /// Images that could not be read, if they were to be skipped.
    skipped: Vec<String>,
}

/// One image.
#[derive(Debug, Serialize)]
struct Inspected {
    path: String,
    /// Score, verdict, where and why.
    #[serde(flatten)]
    verdict: Verdict,
    heatmap: Option<String>,
    map: Option<String>,
}

pub fn run(inspect: &Inspect, progress: &mut Progress) -> anyhow::Result<()> {
    output::check_json(inspect.json.file())?;
    let model = load(&inspect.model, &inspect.looking)?;
    let out = inspect.out.as_deref();
    if let Some(out) = out {
        check_apart(out, &inspect.images)?;
    }
    let images = images(&inspect.images, out, progress)?;
    let names = out.map(|_| names(&images)).transpose()?;
    let _folder = out.map(output::folder).transpose()?;
    let inspected = region_of_interest::read(inspect.roi.picture())?;
    check_roi(&model, inspect, progress)?;
    let rule = Rule {
        inspected,
        ..rule(&model, &inspect.thresholds, progress)
    };
    let json = inspect.json.file();
    output::distinct("--json and --csv", json, inspect.csv.as_deref())?;
    let mut table = match &inspect.csv {
        Some(path) => {
            output::check_csv(path)?;
            Some(RegionTable::new()?)
        }
        None => None,
    };
    let mut inspection = Inspection {
        threshold: rule.image_threshold,
        pixel_threshold: rule.pixel_threshold,
        min_area: rule.min_area,
        roi: inspect.roi.picture().map(|path| path.display().to_string()),
        images: Vec::new(),
        skipped: Vec::new(),
    };
    let heatmap = model.kind().heatmap(inspection.threshold);
    let model = announce_memory(model, inspect, &images, progress);
    progress.start("inspecting", images.len() as u64);
    let (found, skipped) = (&mut inspection.images, &mut inspection.skipped);
    let (mut looked_at, mut defective) = (0, 0);
    pipeline::run(
        images.iter().enumerate(),
        |(index, image)| Ok((index, &image.path, read::read(&image.path))),
        |(index, path, image)| {
            if progress.stop_requested() {
                let all = images.len();
                bail!("stopped on request after {index} of {all} images");
            }
            let judged = match image {
                Ok(image) => {
                    let explained = model.explain(&image);
                    let explained = explained.with_context(|| path.display().to_string())?;
                    let verdict = rule.judge(&explained);
                    let verdict = verdict.with_context(|| path.display().to_string())?;
                    Some((index, image, explained.map, verdict))
                }
                Err(error) if inspect.unreadable.skip => {
                    progress.skipped(path, &error.to_string());
                    skipped.push(path.display().to_string());
                    None
                }
                Err(error) => return Err(error.into()),
            };
            progress.advance(index as u64 + 1, None);
            Ok(judged)
        },
        |judged| {
            let Some((index, image, map, verdict)) = judged else {
                return Ok(());
            };
            let path = &images[index].path;
            let mut inspected = Inspected {
                path: path.display().to_string(),
                verdict,
                heatmap: None,
                map: None,
            };
            if let (Some(out), Some(names)) = (out, &names) {
                let name = out.join(&names[index]);
                let beside = |ending: &str| {
                    let mut path = name.clone().into_os_string();
                    path.push(ending);
                    PathBuf::from(path)
                };
                let _folder = name.parent().map(output::folder).transpose()?;
                let picture = beside("_heatmap.png");
                let mut drawn = heatmap.overlay(&image, &map)?;
                draw_regions(&mut drawn, &regions(&inspected.verdict), 1.0);
                heatmap::write_png(&picture, &drawn)?;
                let raw = beside("_map.tiff");
                map_file::write(&raw, &map)?;
                inspected.heatmap = Some(picture.display().to_string());
                inspected.map = Some(raw.display().to_string());
            }
            let word = if inspected.verdict.defective {
                "DEFECTIVE"
            } else {
                "good"
            };
            let score = inspected.verdict.score;
            output::line(
                json,
                format_args!("{score:>9.3}  {word:9}  {}", path.display()),
            )?;
            if let Some(table) = &mut table {
                table.add(&inspected.path, rule.image_threshold, &inspected.verdict)?;
            }
            looked_at += 1;
            defective += usize::from(inspected.verdict.defective);
            // Verdicts are kept only if they are written at the end.
            if json.is_some() {
                found.push(inspected);
            }
            Ok(())
        },
    )?;
    progress.finish();
    if looked_at == 0 {
        bail!("none of the {} images can be read", images.len());
    }
    output::line(
        json,
        format_args!(
            "{defective} of {looked_at} images are defective at the threshold {:.3}",
            inspection.threshold
        ),
    )?;
    if let (Some(table), Some(path)) = (table, &inspect.csv) {
        table.write(path)?;
    }
    if let Some(target) = json {
        output::json(target, &inspection)?;
    }
    Ok(())
}

/// The rule of a run: the given thresholds, else the model's.
pub fn rule(model: &Model, given: &Thresholds, progress: &mut Progress) -> Rule {
    let calibration = model.about().calibration;
    if given.threshold.is_none() && model.sampling() != calibration.sampling {
        let place = match calibration.sampling {
            Some(Sampling::Dense) => "at every pixel; scores on a grid",
            Some(Sampling::Grid) | None => "on a grid; scores at every pixel",
        };
        progress.warn(&format!(
            "the model's threshold was found {place} may differ: set --threshold, or use `pupilla calibrate`"
        ));
    }
    let of_model = model.rule();
    Rule {
        image_threshold: given.threshold.unwrap_or(of_model.image_threshold),
        pixel_threshold: given
            .pixel_threshold
            .or(given.threshold)
            .unwrap_or(of_model.pixel_threshold),
        min_area: given.min_area,
        ..of_model
    }
}

/// Prints the memory that images of the first image's size take. Lowers the limit of the detector by the bytes of the images that are
/// read and written meanwhile. Detectors without tiles have neither an estimate nor a limit.
fn announce_memory(
    model: Model,
    inspect: &Inspect,
    images: &[Named],
    progress: &Progress,
) -> Model {
    let Model::StudentTeacher(mut students) = model else {
        return model;
    };
    let Some(size) = images.iter().find_map(|image| read::size(&image.path).ok()) else {
        return Model::StudentTeacher(students);
    };
    let beside = match images.len() {
        1 => 0,
        _ => bytes_beside(size),
    };
    if let Some(Memory(limit)) = inspect.looking.memory {
        *students = students.with_memory(limit.saturating_sub(beside));
    }
    // Images that do not fit say so by name when their turn comes.
    if let Ok(needed) = students.memory_needed(size) {
        progress.note(&format!(
            "images of {size} take about {} MiB of memory",
            (needed + beside).div_ceil(1 << 20)
        ));
    }
    Model::StudentTeacher(students)
}

/// Warns if the model's thresholds were found looking at other pixels than now.
fn check_roi(model: &Model, inspect: &Inspect, progress: &mut Progress) -> anyhow::Result<()> {
    let now = inspect.roi.picture().map(file_fingerprint).transpose()?;
    let calibration = model.about().calibration;
    let then = calibration.data.and_then(|data| data.roi);
    if inspect.thresholds.threshold.is_none() && now != then {
        progress.warn(match (then, now) {
            (Some(_), None) => "the model's thresholds were calibrated with --roi: give the same picture here",
            (None, _) => "the model's thresholds were calibrated on whole images: calibrate with the same --roi",
            _ => "the model's thresholds were calibrated with another --roi picture: calibrate again, or give that one",
        });
    }
    Ok(())
}

/// The regions of a verdict, to be drawn.
pub fn regions(verdict: &Verdict) -> Vec<Region> {
    let regions = verdict.regions.iter();
    regions.map(|explained| explained.region.clone()).collect()
}

/// Loads a model, with the options about positions and memory.
pub fn load(path: &Path, looking: &Looking) -> anyhow::Result<Model> {
    let mut model = Model::load(path)?;
    if looking.dense {
        let students = model.student_teacher("--dense")?;
        model = students.with_sampling(Sampling::Dense).into();
    }
    if let Some(Memory(limit)) = looking.memory {
        model = model.student_teacher("--memory")?.with_memory(limit).into();
    }
    Ok(model)
}

/// Refuses results among the images: the next run would inspect them.
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

/// An image, and what its results are called.
struct Named {
    path: PathBuf,
    /// The path within the folder that was named, or the file's name.
    name: PathBuf,
}

/// The images named, and those in the folders named and below them. Results of this run and masks of a data set are left out.
fn images(
    paths: &[PathBuf],
    out: Option<&Path>,
    progress: &Progress,
) -> anyhow::Result<Vec<Named>> {
    let mut all = Vec::new();
    for path in paths {
        if !path.is_dir() {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            let path = path.clone();
            all.push(Named { path, name });
            continue;
        }
        let mut without: Vec<PathBuf> = out.map(Path::to_path_buf).into_iter().collect();
        let masks = path.join("ground_truth");
        if masks.is_dir() && path.join("test").is_dir() {
            progress.note(&format!("{} holds masks: left out", masks.display()));
            without.push(masks);
        }
        let below = images_below(path, &without)?.into_iter().map(|image| {
            let name = image.strip_prefix(path).unwrap_or(&image).to_path_buf();
            Named { path: image, name }
        });
        all.extend(below);
    }
    Ok(all)
}

/// Where each image's results go: its name without extension, with it where two would be equal.
fn names(images: &[Named]) -> anyhow::Result<Vec<PathBuf>> {
    let mut stems: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for image in images {
        *stems.entry(image.name.with_extension("")).or_default() += 1;
    }
    let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    let mut names = Vec::with_capacity(images.len());
    for Named { path, name } in images {
        let stem = name.with_extension("");
        let name = if stems[&stem] > 1 { name.clone() } else { stem };
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
