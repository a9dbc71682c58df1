//! The images to inspect: the named images, and all images in and below the named folders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::bail;
use pupilla::Model;
use pupilla::student_teacher::bytes_beside;
use pupilla_core::data::{Dataset, OpenSettings, images_below};
use pupilla_core::image::{Size, read};
use pupilla_core::map::result_files::{is_result, results_of};

use crate::data_set;
use crate::output::Usage;
use crate::progress::Progress;

/// An image, and what its results are called.
pub struct Named {
    pub path: PathBuf,
    /// The path within the folder that was named, or the file's name.
    pub name: PathBuf,
}

/// All images, in the order in which they are named. The masks of a data set, the folder `out`, and results of former inspections are
/// left out.
pub fn list(
    paths: &[PathBuf],
    out: Option<&Path>,
    progress: &Progress,
) -> anyhow::Result<Vec<Named>> {
    let stems: BTreeSet<PathBuf> = paths
        .iter()
        .flat_map(|path| names_of_results(path))
        .collect();
    let mut all = Vec::new();
    let mut results = 0;
    for path in paths {
        if !path.is_dir() {
            // A shell's `*.png` names results too. A result that is named without its image is meant.
            let of_named = results_of(path).is_some_and(|name| stems.contains(&name));
            if of_named && is_result(path) {
                results += 1;
                continue;
            }
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            let path = path.clone();
            all.push(Named { path, name });
            continue;
        }
        let mut without: Vec<PathBuf> = out.map(Path::to_path_buf).into_iter().collect();
        for masks in folders_of_masks(path) {
            progress.note(&format!("{} holds masks: left out", masks.display()));
            without.push(masks);
        }
        let found = images_below(path, &without)?;
        data_set::tell_passed_over(&found.passed_over, None, progress);
        for image in found.images {
            let name = image.strip_prefix(path).unwrap_or(&image).to_path_buf();
            all.push(Named { path: image, name });
        }
    }
    if results > 0 {
        if all.is_empty() {
            bail!(
                "there are only heatmaps and maps of former inspections: name the images, or their folder"
            );
        }
        progress.note(&format!(
            "heatmaps and maps of former inspections are left out: {results} files"
        ));
    }
    Ok(all)
}

/// The folders of masks of the data sets in a folder, without masks that lie beside their images.
fn folders_of_masks(path: &Path) -> BTreeSet<PathBuf> {
    // A folder that is no data set has none.
    let datasets = Dataset::open_all(path, &OpenSettings::default()).unwrap_or_default();
    let parent = |file: &PathBuf| file.parent().map(Path::to_path_buf);
    let mut folders = BTreeSet::new();
    for dataset in &datasets {
        let masks = dataset.test.iter().filter_map(|test| test.mask.as_ref());
        folders.extend(masks.flat_map(|mask| mask.files()).filter_map(parent));
        folders.extend(dataset.masks_without_image.iter().filter_map(parent));
    }
    for dataset in &datasets {
        for image in dataset.test.iter().map(|test| &test.path) {
            if let Some(folder) = image.parent() {
                folders.remove(folder);
            }
        }
    }
    folders
}

/// What the results of a file are called, if they lie beside it.
fn names_of_results(path: &Path) -> [PathBuf; 2] {
    [path.with_extension(""), path.to_path_buf()]
}

/// Refuses results among the images.
pub fn check_apart(out: &Path, inputs: &[PathBuf]) -> Result<(), Usage> {
    let whole = |path: &Path| path.canonicalize().ok();
    if inputs
        .iter()
        .any(|input| input.is_dir() && whole(input) == whole(out))
    {
        return Err(Usage(format!(
            "--out {} is a folder of images to inspect: give another",
            out.display()
        )));
    }
    Ok(())
}

/// What the images of a run say about its memory.
pub struct ImageMemory {
    /// The size of the first readable image.
    size: Option<Size>,
    count: usize,
}

impl ImageMemory {
    pub fn of(images: &[Named]) -> Self {
        Self {
            size: images.iter().find_map(|image| read::size(&image.path).ok()),
            count: images.len(),
        }
    }

    /// The bytes of the images that are read and written during the inspection of another image.
    pub fn beside(&self) -> usize {
        match self.size {
            Some(size) if self.count > 1 => bytes_beside(size),
            _ => 0,
        }
    }

    /// Prints the memory that images of the first image's size take. Only detectors with tiles have an estimate.
    pub fn announce(&self, model: &Model, progress: &Progress) {
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
