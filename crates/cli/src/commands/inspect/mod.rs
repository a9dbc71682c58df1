//! `pupilla inspect`: images in; scores, verdicts and heatmaps out.

pub mod inputs;
mod names;
mod results;

use std::path::Path;

use anyhow::Context;
use pupilla::device;
use pupilla::{Model, Sampling};
use pupilla_core::data::{Acquisition, file_fingerprint};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::read::{self, Stored};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use pupilla_core::pipeline;
use pupilla_core::verdict::{Rule, Verdict};

use crate::options::{Computing, GivenThresholds, Inspect, Memory};
use crate::progress::Progress;
use crate::{output, region_of_interest};
use inputs::{ImageMemory, Named};
use results::{JsonTarget, Results};

/// The exit status of a run with `--fail-on-defect` that finds a defective image.
const DEFECT: u8 = 4;

pub fn run(inspect: &Inspect, progress: &mut Progress) -> anyhow::Result<u8> {
    let out = inspect.out.as_deref();
    check_targets(inspect)?;
    let images = inputs::list(&inspect.images, out, progress)?;
    let files = out.map(|out| names::result_files(out, &images));
    let files = files.transpose()?;
    names::check(inspect, &images, files.as_deref())?;
    let memory = ImageMemory::of(&images);
    let model = load(&inspect.model, &inspect.computing, memory.beside())?;
    let rule = rule_of_run(&model, inspect, progress)?;
    memory.announce(&model, progress);
    progress.start("inspecting", images.len() as u64);
    let printer = progress.printer();
    let mut results = Results::begin(inspect, &model, &images, &rule, files, printer)?;
    let mut skipped = Vec::new();
    // A failure of a GPU is an error like others: the results before it are written.
    let ended = device::guarded(|| inspect_all(&model, &mut results, &mut skipped, progress));
    let ended = ended.map_err(anyhow::Error::from).flatten();
    progress.clear();
    if ended.is_ok() {
        progress.finish();
    }
    let defective = results.end(skipped, ended, progress)?;
    Ok(if inspect.fail_on_defect && defective > 0 {
        DEFECT
    } else {
        crate::SUCCESS
    })
}

/// Fails now if a file of results could not be written later.
fn check_targets(inspect: &Inspect) -> anyhow::Result<()> {
    let (json, csv) = (inspect.json.file(), inspect.csv.as_deref());
    if !JsonTarget::of(inspect).is_some_and(JsonTarget::is_stdout) {
        output::check_json(json)?;
    }
    output::distinct("--json and --csv", json, csv)?;
    output::distinct("--csv and --out", csv, inspect.out.as_deref())?;
    output::distinct("--json and --out", json, inspect.out.as_deref())?;
    if csv == Some(Path::new("-")) {
        let text = "--csv -: a table goes to a file, give its name".to_owned();
        return Err(output::Usage(text).into());
    }
    if let Some(csv) = csv {
        output::check_csv(csv)?;
    }
    if let Some(out) = &inspect.out {
        inputs::check_apart(out, &inspect.images)?;
    }
    if let Some(folder) = &inspect.report {
        output::check_page("--report", folder)?;
    }
    Ok(())
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

/// An image that was judged.
struct Judged {
    index: usize,
    image: Image,
    map: AnomalyMap,
    verdict: Verdict,
    /// [`Model::unlike_training`].
    unlike_training: Option<Vec<String>>,
}

/// Reads, judges and writes all images: the next image is read and the last result is written meanwhile. `skipped` takes the images
/// that were skipped.
fn inspect_all(
    model: &Model,
    results: &mut Results<'_>,
    skipped: &mut Vec<String>,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let (images, rule) = (results.images(), results.rule());
    let skip = results.skips_unreadable();
    let stop = progress.stop_flag();
    let settings = model.read_settings();
    pipeline::run(
        images.iter().enumerate(),
        |(index, image)| {
            stop.check()?;
            Ok((index, read::read_stored(&image.path, &settings)))
        },
        |(index, image)| {
            stop.check()?;
            let path = &images[index].path;
            let judged = match image {
                Ok(image) => Some(judge(model, rule, (index, path), image, &stop)?),
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
    )
}

fn judge(
    model: &Model,
    rule: &Rule,
    (index, path): (usize, &Path),
    (image, stored): (Image, Stored),
    stop: &StopFlag,
) -> anyhow::Result<Judged> {
    let place = || path.display().to_string();
    let explained = model.explain_until(&image, stop).map_err(|error| {
        if stop.is_raised() {
            anyhow::Error::from(Stopped)
        } else {
            anyhow::Error::from(error).context(place())
        }
    })?;
    let verdict = rule.judge(&explained).with_context(place)?;
    Ok(Judged {
        index,
        unlike_training: model.unlike_training(&Acquisition::of(&image, &stored)),
        image,
        map: explained.map,
        verdict,
    })
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

/// Loads a model, with the options about positions and memory. Of the memory, the detector does not get `beside` bytes.
pub fn load(path: &Path, computing: &Computing, beside: usize) -> anyhow::Result<Model> {
    computing_as(Model::load(path)?, computing, beside)
}

/// The model with the options about positions and memory.
pub fn computing_as(
    mut model: Model,
    computing: &Computing,
    beside: usize,
) -> anyhow::Result<Model> {
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
