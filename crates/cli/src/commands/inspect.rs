//! `pupilla inspect`: images in; scores, verdicts and heatmaps out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::student_teacher::bytes_beside;
use pupilla::{Model, Sampling};
use pupilla_core::data::{file_fingerprint, images_below};
use pupilla_core::detector::Detector;
use pupilla_core::image::{Image, Size, read};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::heatmap::{self, Heatmap};
use pupilla_core::map::map_file;
use pupilla_core::observer::Observer;
use pupilla_core::pipeline;
use pupilla_core::verdict::region::{Region, draw_regions};
use pupilla_core::verdict::{Rule, Verdict};
use serde::Serialize;

use crate::options::{Computing, GivenThresholds, Inspect, Memory};
use crate::progress::Progress;
use crate::region_table::RegionTable;
use crate::{data_set, output, region_of_interest};

/// Everything `inspect` found.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Images that score above this are called defective.
    threshold: f32,
    /// Regions are made of the pixels that score above this.
    pixel_threshold: f32,
    /// Smaller regions were left out.
    min_area: usize,
    /// The picture of the pixels that are inspected, if there is one.
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
    let out = inspect.out.as_deref();
    output::check_json(inspect.json.file())?;
    if let Some(out) = out {
        check_apart(out, &inspect.images)?;
    }
    let images = images(&inspect.images, out, progress)?;
    let memory = ImageMemory::of(&images);
    let model = load(&inspect.model, &inspect.computing, memory.beside())?;
    let heatmaps = out.map(|out| HeatmapFiles::new(out, &images)).transpose()?;
    let rule = rule_of_run(&model, inspect, progress)?;
    let mut results = Results {
        inspect,
        images: &images,
        heatmap: model.kind().heatmap(rule.image_threshold),
        rule: &rule,
        heatmaps,
        table: table(inspect)?,
        inspected: Vec::new(),
        count: 0,
        defective: 0,
    };
    memory.announce(&model, progress);
    let skipped = inspect_all(&model, &mut results, progress)?;
    results.finish(skipped)
}

/// The rule of a run, with the pixels of `--roi`.
fn rule_of_run(model: &Model, inspect: &Inspect, progress: &mut Progress) -> anyhow::Result<Rule> {
    let inspected = region_of_interest::read(inspect.roi.picture())?;
    check_roi(model, inspect, progress)?;
    Ok(Rule {
        inspected,
        ..rule(model, &inspect.thresholds, progress)
    })
}

/// The table of `--csv`, if it is wanted.
fn table(inspect: &Inspect) -> anyhow::Result<Option<RegionTable>> {
    let (json, csv) = (inspect.json.file(), inspect.csv.as_deref());
    output::distinct("--json and --csv", json, csv)?;
    let Some(path) = csv else {
        return Ok(None);
    };
    output::check_csv(path)?;
    RegionTable::new().map(Some)
}

/// An image that was judged.
struct Judged {
    index: usize,
    image: Image,
    map: AnomalyMap,
    verdict: Verdict,
}

/// Reads, judges and writes all images: the next image is read and the last result is written meanwhile. Returns the images that were
/// skipped.
fn inspect_all(
    model: &Model,
    results: &mut Results<'_>,
    progress: &mut Progress,
) -> anyhow::Result<Vec<String>> {
    let (images, rule) = (results.images, results.rule);
    let skip = results.inspect.unreadable.skip;
    let mut skipped = Vec::new();
    progress.start("inspecting", images.len() as u64);
    pipeline::run(
        images.iter().enumerate(),
        |(index, image)| Ok((index, read::read(&image.path))),
        |(index, image)| {
            if progress.stop_requested() {
                let all = images.len();
                bail!("stopped on request after {index} of {all} images");
            }
            let path = &images[index].path;
            let judged = match image {
                Ok(image) => {
                    let judged = judge(model, rule, index, image);
                    Some(judged.with_context(|| path.display().to_string())?)
                }
                Err(error) if skip => {
                    progress.skipped(path, &error.to_string());
                    skipped.push(path.display().to_string());
                    None
                }
                Err(error) => return Err(error.into()),
            };
            progress.advance(index as u64 + 1, None);
            Ok(judged)
        },
        |judged| judged.map_or(Ok(()), |judged| results.add(judged)),
    )?;
    progress.finish();
    Ok(skipped)
}

fn judge(model: &Model, rule: &Rule, index: usize, image: Image) -> anyhow::Result<Judged> {
    let explained = model.explain(&image)?;
    let verdict = rule.judge(&explained)?;
    Ok(Judged {
        index,
        image,
        map: explained.map,
        verdict,
    })
}

/// The results of a run, as they are written.
struct Results<'a> {
    inspect: &'a Inspect,
    images: &'a [Named],
    rule: &'a Rule,
    heatmap: Heatmap,
    heatmaps: Option<HeatmapFiles>,
    table: Option<RegionTable>,
    /// For the JSON alone.
    inspected: Vec<Inspected>,
    count: usize,
    defective: usize,
}

impl Results<'_> {
    /// Writes the results of one image.
    fn add(&mut self, judged: Judged) -> anyhow::Result<()> {
        let path = self.images[judged.index].path.display().to_string();
        let json = self.inspect.json.file();
        let (mut heatmap, mut map) = (None, None);
        if let Some(heatmaps) = &self.heatmaps {
            let [picture, raw] = heatmaps.write(&judged, self.heatmap)?;
            (heatmap, map) = (Some(picture), Some(raw));
        }
        let verdict = judged.verdict;
        let score = verdict.score;
        let word = if verdict.defective {
            "DEFECTIVE"
        } else {
            "good"
        };
        output::line(json, format_args!("{score:>9.3}  {word:9}  {path}"))?;
        if let Some(table) = &mut self.table {
            table.add(&path, self.rule.image_threshold, &verdict)?;
        }
        self.count += 1;
        self.defective += usize::from(verdict.defective);
        if json.is_some() {
            self.inspected.push(Inspected {
                path,
                verdict,
                heatmap,
                map,
            });
        }
        Ok(())
    }

    /// Writes the results of the whole run.
    fn finish(self, skipped: Vec<String>) -> anyhow::Result<()> {
        let (count, rule) = (self.count, self.rule);
        if count == 0 {
            bail!("none of the {} images can be read", self.images.len());
        }
        let json = self.inspect.json.file();
        output::line(
            json,
            format_args!(
                "{} of {count} images are defective at the threshold {:.3}",
                self.defective, rule.image_threshold
            ),
        )?;
        if let (Some(table), Some(path)) = (self.table, &self.inspect.csv) {
            table.write(path)?;
        }
        let Some(target) = json else {
            return Ok(());
        };
        let roi = self.inspect.roi.picture();
        let inspection = Inspection {
            threshold: rule.image_threshold,
            pixel_threshold: rule.pixel_threshold,
            min_area: rule.min_area,
            roi: roi.map(|path| path.display().to_string()),
            images: self.inspected,
            skipped,
        };
        output::json(target, &inspection)
    }
}

/// The files of `--out`: a heatmap and a map of each image.
struct HeatmapFiles {
    folder: PathBuf,
    /// The name of each image's results, without their endings.
    names: Vec<PathBuf>,
    /// Removes the folder again if nothing was written.
    _guard: output::NewFolders,
}

impl HeatmapFiles {
    fn new(folder: &Path, images: &[Named]) -> anyhow::Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
            names: names(images)?,
            _guard: output::folder(folder)?,
        })
    }

    /// Writes the heatmap and the map of an image; their paths.
    fn write(&self, judged: &Judged, heatmap: Heatmap) -> anyhow::Result<[String; 2]> {
        let name = self.folder.join(&self.names[judged.index]);
        let [picture, raw] = ["_heatmap.png", "_map.tiff"].map(|ending| {
            let mut path = name.clone().into_os_string();
            path.push(ending);
            PathBuf::from(path)
        });
        let _folder = name.parent().map(output::folder).transpose()?;
        let mut drawn = heatmap.overlay(&judged.image, &judged.map)?;
        draw_regions(&mut drawn, &regions(&judged.verdict), 1.0);
        heatmap::write_png(&picture, &drawn)?;
        map_file::write(&raw, &judged.map)?;
        Ok([picture, raw].map(|path| path.display().to_string()))
    }
}

/// The rule of a run: the given thresholds, else the model's.
pub fn rule(model: &Model, given: &GivenThresholds, progress: &mut Progress) -> Rule {
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

/// What the images of a run say about its memory.
struct ImageMemory {
    /// The size of the first readable image.
    size: Option<Size>,
    count: usize,
}

impl ImageMemory {
    fn of(images: &[Named]) -> Self {
        Self {
            size: images.iter().find_map(|image| read::size(&image.path).ok()),
            count: images.len(),
        }
    }

    /// The bytes of the images that are read and written during the inspection of another image.
    fn beside(&self) -> usize {
        match self.size {
            Some(size) if self.count > 1 => bytes_beside(size),
            _ => 0,
        }
    }

    /// Prints the memory that images of the first image's size take. Only detectors with tiles have an estimate.
    fn announce(&self, model: &Model, progress: &Progress) {
        let (Model::StudentTeacher(students), Some(size)) = (model, self.size) else {
            return;
        };
        // An image that does not fit gives an error with its name later.
        if let Ok(needed) = students.memory_needed(size) {
            progress.note(&format!(
                "images of {size} take about {} MiB of memory",
                (needed + self.beside()).div_ceil(1 << 20)
            ));
        }
    }
}

/// Warns if the model's thresholds were calibrated with another `--roi` picture.
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

/// Loads a model, with the options about positions and memory. Of the memory, the detector does not get `beside` bytes.
pub fn load(path: &Path, computing: &Computing, beside: usize) -> anyhow::Result<Model> {
    let mut model = Model::load(path)?;
    if computing.dense {
        let students = model.student_teacher("--dense")?;
        model = students.with_sampling(Sampling::Dense).into();
    }
    if let Some(Memory(limit)) = computing.memory {
        let students = model.student_teacher("--memory")?;
        model = students.with_memory(limit.saturating_sub(beside)).into();
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
        let found = images_below(path, &without)?;
        data_set::tell_passed_over(&found.passed_over, None, progress);
        let below = found.images.into_iter().map(|image| {
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
