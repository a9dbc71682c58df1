//! The layout of VisA (Zou et al., ECCV 2022):
//!
//! ```text
//! <root>/split_csv/1cls.csv                       object,split,label,image,mask
//! <root>/<object>/Data/Images/Normal/0000.JPG
//! <root>/<object>/Data/Images/Anomaly/000.JPG
//! <root>/<object>/Data/Masks/Anomaly/000.png
//! ```
//!
//! The root holds all objects. An object's folder is one data set; its split is beside the folder.

use std::path::Path;

use super::manifest::{self, Row, Split};
use crate::data::folder::Folder;
use crate::data::{Dataset, DatasetError, Layout};

/// The split of the one-class protocol.
const SPLIT: &str = "split_csv/1cls.csv";

pub(super) fn open(here: &Folder) -> Result<Option<Vec<Dataset>>, DatasetError> {
    let path = &here.path;
    let file = path.join(SPLIT);
    if file.is_file() {
        return objects(&file, path).map(Some);
    }
    if !path.join("Data").is_dir() {
        return Ok(None);
    }
    // `.` has no parent by its name.
    let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
    let Some(root) = whole.parent().filter(|root| root.join(SPLIT).is_file()) else {
        return Ok(None);
    };
    let name = Dataset::name_of(path);
    let objects = objects(&root.join(SPLIT), root)?;
    let own = objects.into_iter().find(|dataset| dataset.name == name);
    Ok(own.map(|dataset| vec![dataset]))
}

fn objects(file: &Path, root: &Path) -> Result<Vec<Dataset>, DatasetError> {
    let rows = manifest::table(file, &["object", "split", "label", "image"], |fields| {
        Ok(Row {
            path: fields.required("image")?.into(),
            split: Split::read(&fields.required("split")?)?,
            defect: (fields.required("label")? != "normal").then(|| "anomaly".to_owned()),
            mask: fields.optional("mask").map(Into::into),
            category: Some(fields.required("object")?),
        })
    })?;
    let mut objects = manifest::datasets(rows, file, root, Layout::Visa)?;
    for object in &mut objects {
        object.root = root.join(&object.name);
    }
    Ok(objects)
}
