//! The layouts in which data sets come, one file each, and how a folder's layout is recognised.

mod good_images;
mod kolektor;
mod labelled_folders;
mod manifest;
mod mvtec;
mod real_iad;
mod visa;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::folder::{Folder, PassedOver, count_images, photographs_below};
use super::mask::GroundTruth;
use super::{Dataset, DatasetError, Layout, OpenSettings, TestImage};

/// The names that folders of good images have, in lower case.
const GOOD_NAMES: [&str; 7] = ["good", "ok", "normal", "nominal", "pass", "io", "gut"];

/// The names of folders whose images are surely not good, in lower case.
const BAD_NAMES: [&str; 15] = [
    "bad",
    "ng",
    "nok",
    "ko",
    "nio",
    "fail",
    "failed",
    "defect",
    "defects",
    "defective",
    "anomaly",
    "anomalies",
    "anomalous",
    "schlecht",
    "reject",
];

/// The names of folders of masks, in lower case.
const MASK_FOLDERS: [&str; 4] = ["ground_truth", "masks", "mask", "labels"];

/// Whether the name of a folder says that its images are not good.
pub(super) fn is_bad(name: &OsStr) -> bool {
    BAD_NAMES.iter().any(|bad| name.eq_ignore_ascii_case(bad))
}

fn is_of_masks(name: &OsStr) -> bool {
    MASK_FOLDERS
        .iter()
        .any(|mask| name.eq_ignore_ascii_case(mask))
}

/// The data sets at `path`, at least one.
///
/// # Errors
/// [`DatasetError`] if there is none, or something in its folders cannot be read.
pub(super) fn open(path: &Path, settings: &OpenSettings) -> Result<Vec<Dataset>, DatasetError> {
    let found = find(path, settings)?;
    for (at, dataset) in found.iter().enumerate() {
        if found[..at].iter().any(|other| other.name == dataset.name) {
            return Err(DatasetError::EqualNames {
                path: path.to_path_buf(),
                name: dataset.name.clone(),
            });
        }
        check_settings(dataset, settings)?;
    }
    Ok(found)
}

/// Whether the layout of a data set has the settings that were given.
fn check_settings(dataset: &Dataset, settings: &OpenSettings) -> Result<(), DatasetError> {
    let says_labels = [Layout::Visa, Layout::RealIad, Layout::Kolektor].contains(&dataset.layout);
    let lists_images = says_labels || dataset.layout == Layout::Manifest;
    let setting = match settings {
        OpenSettings { good: Some(_), .. } if says_labels => "a name of the folders of good images",
        OpenSettings {
            recursive: true, ..
        } if lists_images => "the folders below",
        _ => return Ok(()),
    };
    Err(DatasetError::NoSuchSetting {
        path: dataset.root.clone(),
        layout: dataset.layout,
        setting,
    })
}

fn find(path: &Path, settings: &OpenSettings) -> Result<Vec<Dataset>, DatasetError> {
    if path.is_file() && manifest::has_extension(path) {
        return manifest::open(path, settings);
    }
    let here = Folder::photographs(path)?;
    if let Some(found) = known_layout(&here, settings)? {
        return Ok(found);
    }
    if !here.images.is_empty() {
        return Ok(vec![good_images::open(path, settings)?]);
    }
    let mut categories = Vec::new();
    let mut taken = Vec::new();
    for name in &here.folders {
        let folder = Folder::photographs(&path.join(name))?;
        if let Some(found) = known_layout(&folder, settings)? {
            categories.extend(found);
            taken.push(path.join(name));
        }
    }
    if let Some(first) = categories.first_mut() {
        let mut rest = here;
        let taken: Vec<&Path> = taken.iter().map(PathBuf::as_path).collect();
        rest.pass_over_folders(&taken);
        first.passed_over.append(rest.passed_over);
        return Ok(categories);
    }
    if settings.recursive {
        let dataset = good_images::open(path, settings)?;
        if !dataset.good.is_empty() {
            return Ok(vec![dataset]);
        }
        return Err(no_images(path, dataset.passed_over));
    }
    Err(nothing_here(here))
}

/// The data sets of a folder that has a layout; `None` for a folder of images, and for a folder of anything else.
fn known_layout(
    here: &Folder,
    settings: &OpenSettings,
) -> Result<Option<Vec<Dataset>>, DatasetError> {
    if let Some(file) = manifest::in_folder(here) {
        return manifest::open(&file, settings).map(Some);
    }
    if let Some(found) = visa::open(here)? {
        return Ok(Some(found));
    }
    if let Some(found) = real_iad::open(here)? {
        return Ok(Some(found));
    }
    if let Some(found) = kolektor::open(here, settings)? {
        return Ok(Some(vec![found]));
    }
    if let Some(found) = mvtec::open(here, settings)? {
        return Ok(Some(vec![found]));
    }
    let found = labelled_folders::open(here, settings)?;
    Ok(found.map(|found| vec![found]))
}

/// Whether a folder of this name holds good images.
fn is_good(name: &OsStr, settings: &OpenSettings) -> bool {
    match &settings.good {
        Some(good) => name == OsStr::new(good),
        None => GOOD_NAMES
            .iter()
            .any(|good| name.eq_ignore_ascii_case(good)),
    }
}

/// The images of one kind in a folder, and below it if that is wanted, without folders whose names say that they hold masks or, below
/// good images, defects.
fn images_of(
    folder: &Path,
    settings: &OpenSettings,
    is_good: bool,
    passed_over: &mut PassedOver,
) -> Result<Vec<PathBuf>, DatasetError> {
    if settings.recursive {
        let others = |name: &OsStr| is_of_masks(name) || (is_good && is_bad(name));
        return photographs_below(folder, &[], &others, passed_over);
    }
    let mut here = Folder::photographs(folder)?;
    here.pass_over_folders(&[]);
    passed_over.append(here.passed_over);
    Ok(here.images)
}

/// Why a data set has no good images to learn from.
///
/// # Errors
/// If its folder cannot be listed.
pub(super) fn no_good(dataset: &Dataset) -> Result<DatasetError, DatasetError> {
    let path = dataset.root.clone();
    if dataset.layout == Layout::Manifest {
        let reason = "no image is good and of the split train".to_owned();
        return Ok(DatasetError::List { path, reason });
    }
    let here = Folder::list(&path)?;
    let Some(train) = here.find("train").or(here.find("training")) else {
        return Ok(DatasetError::TestOnly { path });
    };
    let here = Folder::list(&train)?;
    let name = |folder: &OsString| folder.to_string_lossy().into_owned();
    Ok(match here.find(GOOD_NAMES[0]) {
        Some(good) => no_images(&good, Folder::list(&good)?.passed_over),
        None => DatasetError::NoTrainGood {
            path: train,
            folders: here.folders.iter().map(name).collect(),
        },
    })
}

fn no_images(path: &Path, passed_over: PassedOver) -> DatasetError {
    DatasetError::NoImages {
        path: path.to_path_buf(),
        passed_over: Box::new(passed_over),
    }
}

/// Why a folder without images may have been given, as far as the folders in it tell.
fn nothing_here(mut here: Folder) -> DatasetError {
    let with_images = |name: &&OsString| count_images(&here.path.join(name)) > 0;
    let folders: Vec<String> = (here.folders.iter())
        .filter(with_images)
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    if folders.is_empty() {
        here.pass_over_folders(&[]);
        no_images(&here.path, here.passed_over)
    } else {
        DatasetError::ImagesBelow {
            path: here.path,
            folders,
        }
    }
}

/// A test image as a layout finds it: its kind is a defect's name, or `None`.
struct Labelled {
    path: PathBuf,
    defect: Option<String>,
    mask: Option<GroundTruth>,
}

/// The test images in the order of their kinds and paths, each with its path within its kind.
fn test_images(mut found: Vec<Labelled>) -> Vec<TestImage> {
    let folder = |image: &Labelled| image.defect.clone().unwrap_or("good".to_owned());
    found.sort_by_cached_key(|image| (folder(image), image.path.clone()));
    let mut common: BTreeMap<String, PathBuf> = BTreeMap::new();
    for image in &found {
        let parent = image.path.parent().unwrap_or(Path::new(""));
        common
            .entry(folder(image))
            .and_modify(
                |common| {
                    while !parent.starts_with(&*common) && common.pop() {}
                },
            )
            .or_insert_with(|| parent.to_path_buf());
    }
    found
        .into_iter()
        .map(|image| TestImage {
            name: name_within(&image.path, &common[&folder(&image)]),
            path: image.path,
            defect: image.defect,
            mask: image.mask,
        })
        .collect()
}

/// The path of an image within the folder of its kind. It becomes a part of the paths of results, so it never leads out of a folder:
/// the paths of a list may.
fn name_within(image: &Path, folder: &Path) -> PathBuf {
    let name = image.strip_prefix(folder).unwrap_or(image);
    let stays = |part: Component<'_>| matches!(part, Component::Normal(_));
    if name.components().all(stays) {
        return name.to_path_buf();
    }
    let digest = Sha256::digest(image.as_os_str().as_encoded_bytes());
    let digits: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Path::new(&digits).join(image.file_name().unwrap_or_default())
}

/// Divides the good images of a data set without a split: about a fifth of them, chosen by their names within `root`, is there to test
/// with, beside the `defective` images. Of several images, at least one is in each part. A new image hardly ever changes the part of
/// another.
fn divide(good: Vec<PathBuf>, defective: Vec<Labelled>, root: &Path, dataset: &mut Dataset) {
    const SHARE: f64 = 0.2;
    let place = |image: &PathBuf| {
        let name = image.strip_prefix(root).unwrap_or(image);
        let parts: Vec<&[u8]> = name.iter().map(OsStr::as_encoded_bytes).collect();
        let digest = Sha256::digest(parts.join(b"/".as_slice()));
        let head: [u8; 8] = digest[..8].try_into().unwrap_or_default();
        u64::from_be_bytes(head)
    };
    let most = (SHARE * u64::MAX as f64) as u64;
    let lowest = good.iter().map(place).min();
    let highest = good.iter().map(place).max();
    let (learned, tested): (Vec<_>, Vec<_>) = good.into_iter().partition(|image| {
        let place = Some(place(image));
        place == highest || (place > Some(most) && place != lowest)
    });
    let tested = tested.into_iter().map(|path| Labelled {
        path,
        defect: None,
        mask: None,
    });
    dataset.good = learned;
    dataset.test = test_images(defective.into_iter().chain(tested).collect());
}
