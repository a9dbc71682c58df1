//! `pupilla calibrate`: new thresholds for a model, from good images alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::manifest::{CalibrationData, CalibrationManifest, DataManifest};
use pupilla_core::data::image_source::{FileSettings, ImageFiles, ImageSource};
use pupilla_core::data::{Dataset, Layout, content_digits, file_fingerprint, fingerprint};
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::Threshold;
use pupilla_core::verdict::calibration_run::calibrate;

use crate::commands::inspect::load;
use crate::options::Calibrate;
use crate::output::{self, Usage, Weights};
use crate::progress::Progress;
use crate::{data_set, region_of_interest};

pub fn run(options: &Calibrate, progress: &mut Progress) -> anyhow::Result<()> {
    output::check_json(options.json.file())?;
    let out = options.out.as_deref().unwrap_or(&options.model);
    output::distinct("--json and the model", options.json.file(), Some(out))?;
    check_no_test_images(options)?;
    let model = load(&options.model, &options.computing, 0)?;
    let inspected = region_of_interest::read(options.roi.picture())?;
    let dataset = data_set::open(&options.good, &options.layout, progress)?;
    dataset.require_good()?;
    if dataset.layout != Layout::GoodImages {
        check_train_good(options)?;
    }
    // New thresholds in place are what the command is for.
    let in_place = output::place(out) == output::place(&options.model);
    output::check_weights(out, Weights::Model, in_place || options.replacing.force)?;
    let settings = FileSettings {
        read: model.read_settings(),
        skip_unreadable: options.unreadable.skip,
    };
    let good = [&dataset.good[..], &dataset.validation].concat();
    let files = ImageFiles::open(&good, &settings, progress)?;
    let unlike = files
        .acquisitions()
        .map(|image| model.unlike_training(image));
    data_set::warn_unlike(unlike.zip(files.paths()), files.len(), progress);
    let unseen = unseen(model.about().data, &dataset, &files)?;
    let files = match files.paths().len() - unseen.len() {
        0 => files,
        seen => {
            progress.warn(&format!(
                "the model has learned from {seen} of these images: only the {} others are taken",
                unseen.len()
            ));
            files.select(&unseen)
        }
    };
    let fingerprint = fingerprint(&files.paths(), &dataset.root)?;
    let rates = options.rates.wanted();
    let thresholds = calibrate(&model, &files, rates, inspected.as_ref(), progress)?;
    let roi = options.roi.picture().map(file_fingerprint).transpose()?;
    let calibration = CalibrationManifest {
        thresholds,
        sampling: model.sampling(),
        data: Some(CalibrationData {
            name: dataset.name,
            fingerprint,
            roi,
        }),
    };
    let before = model.about().calibration.thresholds;
    let model = model.with_calibration(calibration.clone());
    model.save(out)?;

    let json = options.json.file();
    output::line(json, format_args!("{} good images", thresholds.images))?;
    for (name, old, new) in [
        ("image", before.image, thresholds.image),
        ("pixel", before.pixel, thresholds.pixel),
    ] {
        output::line(json, told(name, old, new))?;
    }
    output::line(json, format_args!("wrote {}", out.display()))?;
    if let Some(target) = json {
        output::json(target, &calibration)?;
    }
    Ok(())
}

fn told(name: &str, old: Threshold, new: Threshold) -> String {
    format!(
        "{name} threshold {:.3} (before: {:.3}): at most {:.2} % of good {name}s are expected above it",
        new.value,
        old.value,
        100.0 * new.bound
    )
}

/// Thresholds chosen on test images would make every test with them worthless; those from images that
/// the model has learned from are too low.
fn check_no_test_images(options: &Calibrate) -> anyhow::Result<()> {
    let folder = whole(&options.good)?;
    let named = |folder: &Path, name: &str| {
        let own = folder.file_name();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    };
    let is_data_set = |folder: &Path| {
        let parts = ["train", "Train", "ground_truth"];
        parts.iter().any(|part| folder.join(part).is_dir())
    };
    if let Some((part, root)) = folder
        .parent()
        .and_then(|part| Some((part, part.parent()?)))
        && is_data_set(root)
    {
        if named(part, "test") || named(part, "test_public") {
            bail!(
                "{} belongs to the test part of a data set: thresholds from it would make its test worthless; give other good images",
                options.good.display()
            );
        }
        if named(part, "train") {
            return check_train_good(options);
        }
    }
    if is_data_set(&folder) {
        return check_train_good(options);
    }
    // The good images beside defective images are learned, and tested.
    if let Some(parent) = folder.parent()
        && let Ok(beside) = Dataset::open(parent)
        && beside.layout == Layout::LabelledFolders
        && beside
            .test
            .iter()
            .any(|test| test.path.starts_with(&folder))
    {
        return check_train_good(options);
    }
    Ok(())
}

fn check_train_good(options: &Calibrate) -> anyhow::Result<()> {
    if options.train_good {
        return Ok(());
    }
    let text = format!(
        "{} belongs to a data set, whose good images are there to learn from: give a folder of other good images, or --train-good to take those all the same",
        options.good.display()
    );
    Err(Usage(text).into())
}

fn whole(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} does not exist: check the path", path.display()))
}

/// The images that the model has not learned from.
fn unseen(
    data: Option<&DataManifest>,
    dataset: &Dataset,
    files: &ImageFiles,
) -> anyhow::Result<Vec<PathBuf>> {
    let paths = files.paths();
    let Some(data) = data else {
        return Ok(paths);
    };
    let paths = &paths;
    let unseen: Vec<PathBuf> = if data.learned.is_empty() {
        // An older file knows the images by their names and the whole folder's fingerprint alone.
        let same = data.fingerprint == fingerprint(paths, &dataset.root)?;
        let is_kept = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !same || data.validation.iter().any(|kept| *kept == name)
        };
        paths.iter().filter(is_kept).cloned().collect()
    } else {
        // An older file knows the images by the bytes of their files.
        let of_files = content_digits(paths)?;
        let is_learned = |digits: &str| {
            let known = |learned: &String| learned.as_str().cmp(digits);
            data.learned.binary_search_by(known).is_ok()
        };
        let images = paths.iter().zip(files.pictures().zip(&of_files));
        images
            .filter(|(_, (picture, of_file))| !is_learned(picture) && !is_learned(of_file))
            .map(|(path, _)| path.clone())
            .collect()
    };
    if unseen.is_empty() {
        bail!("the model has learned from every one of these images: give others");
    }
    Ok(unseen)
}
