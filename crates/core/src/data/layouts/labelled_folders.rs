//! Folders of good and defective images beside each other:
//!
//! ```text
//! <name>/good/000.png                           anomaly-free (ok, normal)
//! <name>/<defect>/000.png                       defective (bad, scratch)
//! <name>/ground_truth/<defect>/000_mask.png     its mask, if there are masks
//! ```
//!
//! There is no split: about a fifth of the good images is there to test with ([`super::divide`]).
//! VisA without its split has the folders `Data/Images/Normal`, `Data/Images/Anomaly` and `Data/Masks/Anomaly`.

use std::path::{Path, PathBuf};

use super::mvtec::Masks;
use super::{Labelled, divide, images_of, is_good};
use crate::data::folder::{Folder, PassedOver};
use crate::data::{Dataset, DatasetError, Layout, OpenSettings};

pub(super) fn open(
    here: &Folder,
    settings: &OpenSettings,
) -> Result<Option<Dataset>, DatasetError> {
    let path = &here.path;
    let images = path.join("Data").join("Images");
    if images.is_dir() {
        let inner = Folder::photographs(&images)?;
        return of_folders(&inner, &path.join("Data").join("Masks"), path, settings);
    }
    let masks = ["ground_truth", "masks", "mask"];
    let masks = masks.into_iter().find_map(|name| here.find(name));
    let masks = masks.unwrap_or_else(|| path.join("ground_truth"));
    of_folders(here, &masks, path, settings)
}

fn of_folders(
    here: &Folder,
    masks: &Path,
    root: &Path,
    settings: &OpenSettings,
) -> Result<Option<Dataset>, DatasetError> {
    let mut dataset = Dataset::empty(Dataset::name_of(root), root, Layout::LabelledFolders);
    let (mut good, mut tested) = (Vec::new(), Vec::new());
    let mut taken: Vec<PathBuf> = vec![masks.to_path_buf()];
    for kind in &here.folders {
        let folder = here.path.join(kind);
        if folder == masks {
            continue;
        }
        let mut passed_over = PassedOver::default();
        let images = images_of(&folder, settings, is_good(kind, settings), &mut passed_over)?;
        if images.is_empty() {
            continue;
        }
        taken.push(folder);
        let labels = std::mem::take(&mut passed_over.label_images);
        dataset.passed_over.append(passed_over);
        if is_good(kind, settings) {
            dataset.passed_over.label_images.extend(labels);
            good.extend(images);
            continue;
        }
        let mut masks = Masks::of(&masks.join(kind))?;
        masks.add(labels);
        for path in images {
            let mask = masks.take(&path, None, &mut dataset.two_masks);
            let defect = Some(kind.to_string_lossy().into_owned());
            tested.push(Labelled { path, defect, mask });
        }
        dataset.masks_without_image.extend(masks.rest());
    }
    if good.is_empty() || tested.is_empty() {
        return Ok(None);
    }
    let taken: Vec<&Path> = taken.iter().map(PathBuf::as_path).collect();
    dataset.passed_over.append(here.rest(&taken));
    divide(good, tested, &here.path, &mut dataset);
    Ok(Some(dataset))
}
