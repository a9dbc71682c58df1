//! The layout of MVTec AD, and its relatives:
//!
//! ```text
//! <name>/train/good/000.png                     anomaly-free, to learn from
//! <name>/test/good/000.png                      anomaly-free, to test with
//! <name>/test/<defect>/000.png                  defective, to test with
//! <name>/ground_truth/<defect>/000_mask.png     its mask (000.png, 000_gt.png and other formats are taken too)
//! ```
//!
//! - MPDD has the same layout. BTech has the folders `ok` and `ko`.
//! - MVTec AD 2 has `test_public` with its own `ground_truth`, and good images in `validation`.
//! - MVTec LOCO AD has a folder of masks for each image (`ground_truth/<defect>/000/000.png`): a file is a region. Its
//!   `defects_config.json` says how much of a region must be found (the saturation threshold).
//!
//! A mask in `ground_truth/good` is not needed, and must be blank.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pupilla_files::bounded_file;
use serde::Deserialize;

use super::{Labelled, images_of, is_good, test_images};
use crate::data::folder::{Folder, MASK_ENDINGS, PassedOver, stem, without_ending};
use crate::data::mask::{GroundTruth, Saturation};
use crate::data::{Dataset, DatasetError, Layout, OpenSettings, TwoMasks};

/// The file of the saturation thresholds.
const CONFIG: &str = "defects_config.json";

/// The most bytes of that file.
const MOST_CONFIG_BYTES: u64 = 1 << 20;

pub(super) fn open(
    here: &Folder,
    settings: &OpenSettings,
) -> Result<Option<Dataset>, DatasetError> {
    let public = here.find("test_public");
    let train = here.find("train").or(here.find("training"));
    let test = here.find("test").or(here.find("testing"));
    let test = test.or(public.clone());
    let truth = ["ground_truth", "masks", "mask"];
    let truth = truth.into_iter().find_map(|name| here.find(name));
    if train.is_none() && test.is_none() {
        return Ok(None);
    }
    let path = &here.path;
    let layout = match &test {
        Some(test) if Some(test) == public.as_ref() => Layout::MvtecAd2,
        _ => Layout::MvtecAd,
    };
    let mut dataset = Dataset::empty(Dataset::name_of(path), path, layout);
    let validation = here.find("validation").or(here.find("val"));
    let taken = [&train, &test, &truth, &validation];
    let taken: Vec<&Path> = taken.into_iter().flatten().map(PathBuf::as_path).collect();
    dataset.passed_over.append(here.rest(&taken));
    if let Some(train) = &train {
        dataset.good = good_images(train, settings, &mut dataset)?;
    }
    if let Some(validation) = &validation {
        dataset.validation = good_images(validation, settings, &mut dataset)?;
    }
    if let Some(test) = &test {
        read_test(test, truth, settings, &mut dataset)?;
    }
    Ok(Some(dataset))
}

/// The images in the good folders of `part`, or in `part` itself if it has no folders with images.
fn good_images(
    part: &Path,
    settings: &OpenSettings,
    dataset: &mut Dataset,
) -> Result<Vec<PathBuf>, DatasetError> {
    let mut here = Folder::photographs(part)?;
    let good = here.folders.iter().filter(|name| is_good(name, settings));
    let good: Vec<PathBuf> = good.map(|name| part.join(name)).collect();
    let taken: Vec<&Path> = good.iter().map(PathBuf::as_path).collect();
    here.pass_over_folders(&taken);
    if good.is_empty() && here.passed_over.images_in_folders() == 0 {
        dataset.passed_over.append(here.passed_over);
        return Ok(here.images);
    }
    here.pass_over_images();
    dataset.passed_over.append(here.passed_over);
    let mut images = Vec::new();
    for folder in good {
        images.extend(images_of(
            &folder,
            settings,
            true,
            &mut dataset.passed_over,
        )?);
    }
    Ok(images)
}

fn read_test(
    test: &Path,
    truth: Option<PathBuf>,
    settings: &OpenSettings,
    dataset: &mut Dataset,
) -> Result<(), DatasetError> {
    let mut here = Folder::photographs(test)?;
    here.passed_over.unlabelled.append(&mut here.images);
    dataset.passed_over.append(here.passed_over);
    let own_truth = here.folders.iter().find(|name| *name == "ground_truth");
    let truth = own_truth.map(|name| test.join(name)).or(truth);
    let kinds: Vec<&OsString> = (here.folders.iter())
        .filter(|name| Some(*name) != own_truth)
        .collect();
    let mut saturation = None;
    let mut found = Vec::new();
    for kind in &kinds {
        let mut passed_over = PassedOver::default();
        let is_good = is_good(kind, settings);
        let images = images_of(&test.join(kind), settings, is_good, &mut passed_over)?;
        let mut masks = match &truth {
            Some(truth) => Masks::of(&masks_of(truth, kind)?)?,
            None => Masks::default(),
        };
        masks.add(std::mem::take(&mut passed_over.label_images));
        dataset.passed_over.append(passed_over);
        if !masks.folders.is_empty() && saturation.is_none() {
            saturation = Some(saturation_thresholds(&dataset.root)?);
            dataset.layout = Layout::MvtecLoco;
        }
        let defect = (!is_good).then(|| kind.to_string_lossy().into_owned());
        for path in images {
            let mask = masks.take(&path, saturation.as_ref(), &mut dataset.two_masks);
            let defect = defect.clone();
            found.push(Labelled { path, defect, mask });
        }
        dataset.masks_without_image.extend(masks.rest());
    }
    if let Some(truth) = truth {
        for kind in Folder::list(&truth)?.folders {
            if !kinds.iter().any(|own| own.eq_ignore_ascii_case(&kind)) {
                let masks = Masks::of(&truth.join(kind))?;
                dataset.masks_without_image.extend(masks.rest());
            }
        }
    }
    if dataset.layout == Layout::MvtecLoco {
        let used = |file: &PathBuf| file.ends_with(CONFIG);
        dataset.passed_over.other_files.retain(|file| !used(file));
    }
    dataset.test = test_images(found);
    Ok(())
}

/// The folder of the masks of a kind, whatever the case of its name.
fn masks_of(truth: &Path, kind: &OsString) -> Result<PathBuf, DatasetError> {
    let name = kind.to_string_lossy();
    let found = Folder::list_if_there(truth)?.find(&name);
    Ok(found.unwrap_or_else(|| truth.join(kind)))
}

/// The masks of one kind of defect by the name of their image; each is taken once.
#[derive(Default)]
pub(super) struct Masks {
    by_stem: BTreeMap<OsString, Vec<PathBuf>>,
    /// Folders of masks, each of them a region.
    folders: BTreeMap<OsString, Vec<PathBuf>>,
}

impl Masks {
    /// The masks in a folder; a folder that is not there has no masks.
    pub fn of(folder: &Path) -> Result<Self, DatasetError> {
        let here = Folder::list_if_there(folder)?;
        let mut masks = Self::default();
        masks.add(here.images);
        for name in here.folders {
            let files = Folder::list(&folder.join(&name))?.images;
            masks.folders.insert(name, files);
        }
        Ok(masks)
    }

    /// Adds masks from another folder, such as masks beside their images.
    pub fn add(&mut self, files: Vec<PathBuf>) {
        for file in files {
            let name = stem(&file);
            let name = without_ending(&name, &MASK_ENDINGS).unwrap_or(name);
            self.by_stem.entry(name).or_default().push(file);
        }
    }

    /// The ground truth of an image.
    pub fn take(
        &mut self,
        image: &Path,
        saturation: Option<&Arc<[Saturation]>>,
        two_masks: &mut Vec<TwoMasks>,
    ) -> Option<GroundTruth> {
        let name = stem(image);
        if let Some(files) = self.folders.remove(&name)
            && !files.is_empty()
        {
            let saturation = saturation.cloned().unwrap_or_default();
            return Some(GroundTruth::of_regions(files, saturation));
        }
        let files = self.by_stem.remove(&name)?;
        if let [first, second, ..] = &files[..] {
            two_masks.push(TwoMasks {
                image: image.to_path_buf(),
                first: first.clone(),
                second: second.clone(),
            });
            return None;
        }
        files.into_iter().next().map(GroundTruth::of_mask)
    }

    /// The masks that no image has taken.
    pub fn rest(self) -> impl Iterator<Item = PathBuf> {
        let files = self.by_stem.into_values().chain(self.folders.into_values());
        files.flatten()
    }
}

/// An entry of `defects_config.json`.
#[derive(Deserialize)]
struct DefectConfig {
    pixel_value: u8,
    saturation_threshold: f64,
    relative_saturation: bool,
}

/// The saturation thresholds beside a data set; without the file there are none.
fn saturation_thresholds(root: &Path) -> Result<Arc<[Saturation]>, DatasetError> {
    let path = root.join(CONFIG);
    if !path.is_file() {
        return Ok(Arc::default());
    }
    let wrong = |reason: String| DatasetError::List {
        path: path.clone(),
        reason,
    };
    let bytes =
        bounded_file::read(&path, MOST_CONFIG_BYTES).map_err(|error| wrong(error.to_string()))?;
    let entries: Vec<DefectConfig> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        let (threshold, relative) = (entry.saturation_threshold, entry.relative_saturation);
        if !(threshold > 0.0 && threshold.is_finite() && (!relative || threshold <= 1.0)) {
            return Err(wrong(format!(
                "the saturation threshold {threshold} of the pixel value {} is out of range",
                entry.pixel_value
            )));
        }
        found.push(Saturation {
            pixel_value: entry.pixel_value,
            threshold,
            relative,
        });
    }
    Ok(found.into())
}
