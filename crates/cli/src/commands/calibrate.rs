//! `pupilla calibrate`: new thresholds for a model, from good images alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use pupilla::manifest::{CalibrationData, CalibrationManifest, DataManifest};
use pupilla::{LIST, Model};
use pupilla_core::data::image_source::{FileSettings, ImageSet, ImageSource, Listed};
use pupilla_core::data::{Dataset, Layout, file_fingerprint};
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::Threshold;
use pupilla_core::verdict::calibration_run::calibrate;

use crate::commands::inspect::computing_as;
use crate::options::Calibrate;
use crate::output::{self, Usage, Weights};
use crate::progress::Progress;
use crate::{data_set, region_of_interest};

pub fn run(options: &Calibrate, progress: &mut Progress) -> anyhow::Result<()> {
    let json = options.json.file();
    output::check_json(json)?;
    let out = options.out.as_deref().unwrap_or(&options.model);
    output::distinct("--json and the model", json, Some(out))?;
    let model = Model::load(&options.model)?;
    // New thresholds in place are what the command is for.
    let in_place = output::place(out) == output::place(&options.model);
    output::check_weights(out, Weights::Model, in_place || options.replacing.force)?;
    let before = model.about().calibration.thresholds;
    let model = calibrated(model, None, options, progress)?;
    model.save(out)?;

    let calibration = model.about().calibration;
    let thresholds = calibration.thresholds;
    output::line(json, format_args!("{} good images", thresholds.images))?;
    for (name, old, new) in [
        ("image", before.image, thresholds.image),
        ("pixel", before.pixel, thresholds.pixel),
    ] {
        output::line(json, told(name, old, new))?;
    }
    output::line(json, format_args!("wrote {}", out.display()))?;
    json.map_or(Ok(()), |target| output::json(target, &calibration))
}

/// The model with thresholds from a list of images, or else from the folder of the options: from those images that it has not learned from.
pub fn calibrated(
    model: Model,
    listed: Option<Listed>,
    options: &Calibrate,
    progress: &mut Progress,
) -> anyhow::Result<Model> {
    let model = computing_as(model, &options.computing, 0)?;
    let inspected = region_of_interest::read(options.roi.picture())?;
    let settings = FileSettings {
        read: model.read_settings(),
        skip_unreadable: options.unreadable.skip,
    };
    let (images, name, root) = match listed {
        Some(listed) => {
            let images = listed.read(&settings, progress)?;
            (images, LIST.to_owned(), PathBuf::new())
        }
        None => {
            let dataset = folder(options, progress)?;
            let good = [&dataset.good[..], &dataset.validation].concat();
            let images = ImageSet::open(&good, &settings, progress)?;
            (images, dataset.name, dataset.root)
        }
    };
    let unlike = images
        .acquisitions()
        .map(|image| model.unlike_training(image));
    data_set::warn_unlike(unlike.zip(images.paths()), images.len(), progress);
    let unseen = unseen(model.about().data, &root, &images)?;
    let seen = images.len() - unseen.len();
    if seen > 0 {
        progress.warn(&format!(
            "the model has learned from {seen} of these images: only the {} others are taken",
            unseen.len()
        ));
    }
    let images = images.select(&unseen);
    let fingerprint = images.fingerprint(&root)?;
    let rates = options.rates.wanted();
    let thresholds = calibrate(&model, &images, rates, inspected.as_ref(), progress)?;
    let roi = options.roi.picture().map(file_fingerprint).transpose()?;
    let calibration = CalibrationManifest {
        thresholds,
        sampling: model.sampling(),
        data: Some(CalibrationData {
            name,
            fingerprint,
            roi,
        }),
    };
    Ok(model.with_calibration(calibration))
}

/// The good images in the folder of the options.
fn folder(options: &Calibrate, progress: &mut Progress) -> anyhow::Result<Dataset> {
    check_no_test_images(options)?;
    let dataset = data_set::open(&options.good, &options.layout, progress)?;
    dataset.require_good()?;
    if dataset.layout != Layout::GoodImages {
        check_train_good(options)?;
    }
    Ok(dataset)
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
    root: &Path,
    images: &ImageSet,
) -> anyhow::Result<Vec<PathBuf>> {
    let paths = images.paths();
    let Some(data) = data else {
        return Ok(paths);
    };
    let paths = &paths;
    let unseen: Vec<PathBuf> = if data.learned.is_empty() {
        // An older file knows the images by their names and the whole folder's fingerprint alone.
        let same = data.fingerprint == images.fingerprint(root)?;
        let is_kept = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !same || data.validation.iter().any(|kept| *kept == name)
        };
        paths.iter().filter(is_kept).cloned().collect()
    } else {
        // An older model knows the images by the bytes of their files.
        let of_files = images.content_digits()?;
        let is_learned = |digits: &str| {
            let known = |learned: &String| learned.as_str().cmp(digits);
            data.learned.binary_search_by(known).is_ok()
        };
        let known = paths.iter().zip(images.pictures().zip(&of_files));
        known
            .filter(|(_, (picture, of_file))| !is_learned(picture) && !is_learned(of_file))
            .map(|(path, _)| path.clone())
            .collect()
    };
    if unseen.is_empty() {
        bail!("the model has learned from every one of these images: give others");
    }
    Ok(unseen)
}
