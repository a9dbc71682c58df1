//! The layout of Real-IAD (Wang et al., CVPR 2024):
//!
//! ```text
//! <root>/realiad_1024/<category>/OK/S0001/….jpg
//! <root>/realiad_1024/<category>/NG/<defect>/S0001/….jpg and …_mask.png
//! <root>/realiad_jsons/<category>.json                        the split; also in realiad_jsons/realiad_jsons/
//! ```
//!
//! A category's folder is one data set; the folder above it holds all categories. Other splits (`realiad_jsons_sv`,
//! `realiad_jsons_fuiad_0.4`) are taken if the JSON file lies in the category's folder.

use std::path::{Path, PathBuf};

use pupilla_files::bounded_file;
use serde::Deserialize;

use super::manifest::{self, Row, Split};
use crate::data::folder::Folder;
use crate::data::{Dataset, DatasetError, Layout};

/// The most bytes of a split: the largest has 7 MB.
const MOST_BYTES: u64 = 256 << 20;

#[derive(Deserialize)]
struct File {
    meta: Meta,
    #[serde(default)]
    train: Vec<Image>,
    #[serde(default)]
    test: Vec<Image>,
}

#[derive(Deserialize)]
struct Meta {
    normal_class: String,
}

#[derive(Deserialize)]
struct Image {
    anomaly_class: String,
    image_path: PathBuf,
    #[serde(default)]
    mask_path: Option<PathBuf>,
}

pub(super) fn open(here: &Folder) -> Result<Option<Vec<Dataset>>, DatasetError> {
    if here.find("OK").is_some()
        && let Some(file) = split_of(&here.path)
    {
        return Ok(Some(vec![category(&file, &here.path)?]));
    }
    let mut found = Vec::new();
    for name in &here.folders {
        let path = here.path.join(name);
        let has_parts = || path.join("OK").is_dir();
        if has_parts()
            && let Some(file) = split_of(&path)
        {
            found.push(category(&file, &path)?);
        }
    }
    Ok(Some(found).filter(|found| !found.is_empty()))
}

/// The file with the split of a category.
fn split_of(category: &Path) -> Option<PathBuf> {
    let whole = category.canonicalize().ok()?;
    let mut name = whole.file_name()?.to_os_string();
    name.push(".json");
    let root = whole.parent()?.parent()?;
    let places = [
        whole.clone(),
        root.join("realiad_jsons"),
        root.join("realiad_jsons").join("realiad_jsons"),
    ];
    let files = places.into_iter().map(|place| place.join(&name));
    files.into_iter().find(|file| file.is_file())
}

fn category(file: &Path, folder: &Path) -> Result<Dataset, DatasetError> {
    let wrong = |reason: String| DatasetError::List {
        path: file.to_path_buf(),
        reason,
    };
    let bytes = bounded_file::read(file, MOST_BYTES).map_err(|error| wrong(error.to_string()))?;
    let split: File = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let normal = split.meta.normal_class;
    let parts = [(Split::Train, split.train), (Split::Test, split.test)];
    let rows = parts.into_iter().flat_map(|(part, images)| {
        let normal = &normal;
        images.into_iter().map(move |image| Row {
            path: image.image_path,
            split: part,
            defect: (image.anomaly_class != *normal).then_some(image.anomaly_class),
            mask: image.mask_path,
            category: Some(Dataset::name_of(folder)),
        })
    });
    let rows = rows.collect();
    let mut found = manifest::datasets(rows, file, folder, Layout::RealIad)?;
    found
        .pop()
        .ok_or_else(|| wrong("it lists no images".to_owned()))
}
