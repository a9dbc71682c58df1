//! Label images beside photographs, as KolektorSDD and KolektorSDD2 have them:
//!
//! ```text
//! <name>/kos01/Part0.jpg           an image
//! <name>/kos01/Part0_label.bmp     its mask: black if the image is good
//!
//! <name>/train/10000.png           KolektorSDD2: two parts, masks are called 10000_GT.png
//! <name>/test/20000.png
//! ```
//!
//! The masks say which images are good, so that they are read here. Without parts, about a fifth of the good images is there to test
//! with ([`super::divide`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Labelled, divide, is_good, test_images};
use crate::data::folder::{Folder, MASK_ENDINGS, PassedOver, stem, without_ending};
use crate::data::mask::{GroundTruth, Mask, MaskError};
use crate::data::{Dataset, DatasetError, Layout, OpenSettings};

/// The kind of all defective images: the layout has no names of defects.
const DEFECT: &str = "defect";

pub(super) fn open(
    here: &Folder,
    settings: &OpenSettings,
) -> Result<Option<Dataset>, DatasetError> {
    let mut dataset = Dataset::empty(Dataset::name_of(&here.path), &here.path, Layout::Kolektor);
    let train = here.find("train").or(here.find("training"));
    let test = here.find("test").or(here.find("testing"));
    if let (Some(train), Some(test)) = (&train, &test) {
        let (train, test) = (Folder::photographs(train)?, Folder::photographs(test)?);
        if !has_labels(&train) || !has_labels(&test) {
            return Ok(None);
        }
        dataset
            .passed_over
            .append(here.rest(&[&train.path, &test.path]));
        for image in labelled(train, &mut dataset.passed_over)? {
            match image.defect {
                None => dataset.good.push(image.path),
                Some(_) => dataset.passed_over.defective.push(image.path),
            }
        }
        dataset.test = test_images(labelled(test, &mut dataset.passed_over)?);
        return Ok(Some(dataset));
    }
    let mut folders = vec![here.clone()];
    if here.images.is_empty() {
        if here.folders.iter().any(|name| is_good(name, settings)) {
            return Ok(None);
        }
        let below = here.folders.iter().map(|name| here.path.join(name));
        folders = below
            .map(|path| Folder::photographs(&path))
            .collect::<Result<_, _>>()?;
    }
    folders.retain(|folder| !folder.images.is_empty());
    if folders.is_empty() || !folders.iter().all(has_labels) {
        return Ok(None);
    }
    if here.images.is_empty() {
        let taken: Vec<&Path> = folders.iter().map(|folder| &*folder.path).collect();
        dataset.passed_over.append(here.rest(&taken));
    }
    let (mut good, mut tested) = (Vec::new(), Vec::new());
    for folder in folders {
        for image in labelled(folder, &mut dataset.passed_over)? {
            match image.defect {
                None => good.push(image.path),
                Some(_) => tested.push(image),
            }
        }
    }
    divide(good, tested, &here.path, &mut dataset);
    Ok(Some(dataset))
}

/// Whether at least half of the images have a label image beside them.
fn has_labels(folder: &Folder) -> bool {
    let labels = folder.passed_over.label_images.len();
    labels > 0 && 2 * labels >= folder.images.len()
}

/// The images of a folder with what their label images say. An image without a label image is passed over.
fn labelled(
    mut folder: Folder,
    passed_over: &mut PassedOver,
) -> Result<Vec<Labelled>, DatasetError> {
    let labels = std::mem::take(&mut folder.passed_over.label_images);
    let by_image: BTreeMap<OsString, &PathBuf> = labels
        .iter()
        .filter_map(|label| Some((without_ending(&stem(label), &MASK_ENDINGS)?, label)))
        .collect();
    let (with, without): (Vec<PathBuf>, Vec<PathBuf>) = std::mem::take(&mut folder.images)
        .into_iter()
        .partition(|image| by_image.contains_key(&stem(image)));
    folder.passed_over.unlabelled.extend(without);
    folder.pass_over_folders(&[]);
    passed_over.append(folder.passed_over);
    let read = |path: PathBuf| -> Result<Labelled, MaskError> {
        let label: &Path = by_image[&stem(&path)];
        let blank = Mask::read(label, 0)?.is_blank();
        Ok(Labelled {
            path,
            defect: (!blank).then(|| DEFECT.to_owned()),
            mask: (!blank).then(|| GroundTruth::of_mask(label.to_path_buf())),
        })
    };
    let read: Vec<_> = with.into_par_iter().map(read).collect();
    Ok(read.into_iter().collect::<Result<_, _>>()?)
}
