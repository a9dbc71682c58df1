//! What is in one folder: every entry is taken, or passed over and told.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DatasetError;
use crate::image::read::{has_image_extension, has_unread_image_extension};
use crate::map::result_files::is_result;

/// What the name of a mask or a label image adds to the name of its image, in lower case.
pub(super) const MASK_ENDINGS: [&str; 18] = [
    "_gt_mask",
    "_mask_gt",
    "_mask",
    "-mask",
    ".mask",
    "_masks",
    "_gt",
    "-gt",
    ".gt",
    "_label",
    "-label",
    ".label",
    "_labels",
    "_seg",
    "_groundtruth",
    "_ground_truth",
    "_annotation",
    "_anno",
];

/// The most entries that are counted below a folder that is passed over.
const MOST_COUNTED: usize = 10_000;

/// The entries of one folder in the order of their names (by bytes).
#[derive(Clone, Debug, Default)]
pub(super) struct Folder {
    pub path: PathBuf,
    pub folders: Vec<OsString>,
    pub images: Vec<PathBuf>,
    pub passed_over: PassedOver,
}

impl Folder {
    /// Lists a folder. Links are followed.
    ///
    /// # Errors
    /// [`DatasetError`] if there is no such folder, or it cannot be listed.
    pub fn list(path: &Path) -> Result<Self, DatasetError> {
        let place = |source: io::Error| {
            let path = path.to_path_buf();
            match source.kind() {
                io::ErrorKind::NotFound => DatasetError::NotFound { path, source },
                io::ErrorKind::NotADirectory => DatasetError::NotAFolder { path },
                _ => DatasetError::Io { path, source },
            }
        };
        if !std::fs::metadata(path).map_err(place)?.is_dir() {
            return Err(DatasetError::NotAFolder {
                path: path.to_path_buf(),
            });
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(place)? {
            names.push(entry.map_err(place)?.file_name());
        }
        names.sort_by(|a, b| bytes(a).cmp(bytes(b)));
        let mut folder = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        for name in names {
            let entry = path.join(&name);
            if bytes(&name).starts_with(b".") {
                folder.passed_over.hidden.push(entry);
            } else if entry.is_dir() {
                folder.folders.push(name);
            } else if has_image_extension(&entry) {
                // A link to nothing counts as a file, so that reading it says what is wrong.
                folder.images.push(entry);
            } else if has_unread_image_extension(&entry) {
                folder.passed_over.unread_images.push(entry);
            } else {
                folder.passed_over.other_files.push(entry);
            }
        }
        Ok(folder)
    }

    /// [`Self::list`]; an empty folder if the folder does not exist.
    pub fn list_if_there(path: &Path) -> Result<Self, DatasetError> {
        match Self::list(path) {
            Err(DatasetError::NotFound { .. }) => Ok(Self::default()),
            listed => listed,
        }
    }

    /// The folder of photographs: label images that lie beside their photograph, and results of an inspection, are passed over.
    pub fn photographs(path: &Path) -> Result<Self, DatasetError> {
        let mut folder = Self::list(path)?;
        let stems: BTreeSet<OsString> = folder.images.iter().map(|path| stem(path)).collect();
        let all = std::mem::take(&mut folder.images);
        for image in all {
            let original = without_ending(&stem(&image), &MASK_ENDINGS);
            if original.is_some_and(|original| stems.contains(&original)) {
                folder.passed_over.label_images.push(image);
            } else if is_result(&image) {
                folder.passed_over.results.push(image);
            } else {
                folder.images.push(image);
            }
        }
        Ok(folder)
    }

    /// The path of the folder of this name, in upper or lower case; the exact name comes first.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let exact = self.folders.iter().find(|folder| *folder == name);
        let any = || {
            let same = |folder: &&OsString| folder.eq_ignore_ascii_case(name);
            self.folders.iter().find(same)
        };
        Some(self.path.join(exact.or_else(any)?))
    }

    /// Passes over the folders in this one that are not in `taken`, and counts their images.
    pub fn pass_over_folders(&mut self, taken: &[&Path]) {
        for name in &self.folders {
            let path = self.path.join(name);
            if !taken.contains(&&*path) {
                let images = count_images(&path);
                self.passed_over.folders.push(FolderBelow { path, images });
            }
        }
    }

    /// Passes over the images in this folder, which lie beside the folders of images.
    pub fn pass_over_images(&mut self) {
        self.passed_over.beside.append(&mut self.images);
    }

    /// What lies beside the folders that are taken.
    pub fn rest(&self, taken: &[&Path]) -> PassedOver {
        let mut rest = self.clone();
        rest.pass_over_images();
        rest.pass_over_folders(taken);
        rest.passed_over
    }
}

/// The images in `path` and in all folders below it, a folder's own images first. Hidden folders and the folders in `without` are left
/// out. Folders with the names of `others` are passed over. A folder that is reached twice, through a link, counts once.
pub(super) fn photographs_below(
    path: &Path,
    without: &[PathBuf],
    others: &dyn Fn(&OsStr) -> bool,
    passed_over: &mut PassedOver,
) -> Result<Vec<PathBuf>, DatasetError> {
    let mut seen: BTreeSet<PathBuf> = without.iter().filter_map(|path| whole(path)).collect();
    let mut images = Vec::new();
    // The next folder is the last one: a folder's folders wait in reverse order.
    let mut waiting = vec![path.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        if whole(&folder).is_some_and(|folder| !seen.insert(folder)) {
            continue;
        }
        let here = Folder::photographs(&folder)?;
        images.extend(here.images);
        passed_over.append(here.passed_over);
        for name in here.folders.iter().rev() {
            let path = folder.join(name);
            if others(name) {
                let images = count_images(&path);
                passed_over.folders.push(FolderBelow { path, images });
            } else {
                waiting.push(path);
            }
        }
    }
    Ok(images)
}

/// The images in a folder and below it, at most [`MOST_COUNTED`] entries; a folder that cannot be listed counts nothing.
pub(super) fn count_images(path: &Path) -> usize {
    let mut seen = BTreeSet::new();
    let (mut images, mut entries) = (0, 0);
    let mut waiting = vec![path.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        if entries > MOST_COUNTED || whole(&folder).is_none_or(|folder| !seen.insert(folder)) {
            continue;
        }
        if let Ok(here) = Folder::list(&folder) {
            images += here.images.len();
            entries += here.images.len() + here.folders.len() + 1;
            waiting.extend(here.folders.iter().map(|name| folder.join(name)));
        }
    }
    images
}

/// One path for one folder, however it is spelled.
fn whole(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

fn bytes(name: &OsStr) -> &[u8] {
    name.as_encoded_bytes()
}

pub(super) fn stem(path: &Path) -> OsString {
    path.file_stem().unwrap_or_default().to_os_string()
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// The name without the first of the endings that it has, in upper or lower case.
pub(super) fn without_ending(stem: &OsStr, endings: &[&str]) -> Option<OsString> {
    let text = stem.to_str()?;
    let lower = text.to_ascii_lowercase();
    endings.iter().find_map(|ending| {
        let kept = lower.strip_suffix(ending)?.len();
        (kept > 0).then(|| OsString::from(&text[..kept]))
    })
}

/// Entries of a data set's folders that are not taken as images of the data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Folders below the folders of images.
    pub folders: Vec<FolderBelow>,
    /// Images of formats that are not read, by their extension.
    pub unread_images: Vec<PathBuf>,
    /// Images whose name says that they are the mask or the label of the photograph beside them.
    pub label_images: Vec<PathBuf>,
    /// Results of an inspection ([`is_result`]).
    pub results: Vec<PathBuf>,
    /// Images to test with that have no label.
    pub unlabelled: Vec<PathBuf>,
    /// Images beside the folders of images.
    pub beside: Vec<PathBuf>,
    /// Images of defects in the part to learn from.
    pub defective: Vec<PathBuf>,
    /// Files that are no images by their extension.
    pub other_files: Vec<PathBuf>,
    /// Entries whose names begin with a dot.
    pub hidden: Vec<PathBuf>,
}

/// A folder that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderBelow {
    /// The folder.
    pub path: PathBuf,
    /// The images in it and in the folders below it; of more than ten thousand entries, those of the first.
    pub images: usize,
}

impl PassedOver {
    /// Whether every entry was taken.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The images in folders that were passed over.
    pub fn images_in_folders(&self) -> usize {
        self.folders.iter().map(|folder| folder.images).sum()
    }

    /// Adds the entries of another folder.
    pub fn append(&mut self, other: Self) {
        self.folders.extend(other.folders);
        self.unread_images.extend(other.unread_images);
        self.label_images.extend(other.label_images);
        self.results.extend(other.results);
        self.unlabelled.extend(other.unlabelled);
        self.beside.extend(other.beside);
        self.defective.extend(other.defective);
        self.other_files.extend(other.other_files);
        self.hidden.extend(other.hidden);
    }
}

/// In a line for people, as "1 folder with 10 images (day2), 2 other files (.txt)".
impl fmt::Display for PassedOver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| file_name(path)).collect()
        };
        let endings = |paths: &[PathBuf]| -> Vec<String> {
            let ending =
                |path: &PathBuf| extension(path).map_or(file_name(path), |own| format!(".{own}"));
            paths.iter().map(ending).collect()
        };
        let mut told = |count: usize, what: [&str; 2], details: Vec<String>| {
            if count > 0 {
                let what = what[usize::from(count != 1)];
                parts.push(format!("{count} {what} ({})", some(details)));
            }
        };
        let images = self.images_in_folders();
        let (with, without): (Vec<_>, Vec<_>) =
            self.folders.iter().partition(|folder| folder.images > 0);
        let paths = |folders: &[&FolderBelow]| -> Vec<PathBuf> {
            folders.iter().map(|folder| folder.path.clone()).collect()
        };
        let what = ["folder", "folders"].map(|noun| {
            let s = if images == 1 { "" } else { "s" };
            format!("{noun} with {images} image{s}")
        });
        told(with.len(), [&what[0], &what[1]], names(&paths(&with)));
        told(
            without.len(),
            ["folder without images", "folders without images"],
            names(&paths(&without)),
        );
        told(
            self.unread_images.len(),
            [
                "image of a format that is not read",
                "images of formats that are not read",
            ],
            endings(&self.unread_images),
        );
        told(
            self.label_images.len(),
            ["mask beside its image", "masks beside their images"],
            names(&self.label_images),
        );
        told(
            self.results.len(),
            ["result of an inspection", "results of an inspection"],
            names(&self.results),
        );
        told(
            self.unlabelled.len(),
            ["image without a label", "images without a label"],
            names(&self.unlabelled),
        );
        told(
            self.beside.len(),
            [
                "image beside the folders of images",
                "images beside the folders of images",
            ],
            names(&self.beside),
        );
        told(
            self.defective.len(),
            [
                "defective image of the training part",
                "defective images of the training part",
            ],
            names(&self.defective),
        );
        told(
            self.other_files.len(),
            ["other file", "other files"],
            endings(&self.other_files),
        );
        told(
            self.hidden.len(),
            ["hidden entry", "hidden entries"],
            names(&self.hidden),
        );
        formatter.write_str(&parts.join(", "))
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The first names, each once.
fn some(names: Vec<String>) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<String> = Vec::from_iter(BTreeSet::from_iter(names));
    names.truncate(SHOWN + 1);
    if names.len() > SHOWN {
        names[SHOWN] = "…".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_folder::folder;

    #[test]
    fn every_entry_is_taken_or_told() {
        let root = folder(&[
            "a.png",
            "a_label.bmp",
            "a_heatmap.png",
            "a_map.tiff",
            "c_heatmap.png",
            "b_GT.png",
            "c.jpg",
            "x.gif",
            "notes.txt",
            ".cache",
            "day2/1.png",
            "day2/deeper/2.png",
            "empty/readme",
        ]);
        let mut here = Folder::photographs(root.path()).unwrap();
        // There is no photograph `b`: the name alone says nothing.
        let names: Vec<String> = here.images.iter().map(|path| file_name(path)).collect();
        assert_eq!(names, ["a.png", "b_GT.png", "c.jpg", "c_heatmap.png"]);
        here.pass_over_folders(&[]);
        assert_eq!(
            here.passed_over.to_string(),
            "1 folder with 2 images (day2), 1 folder without images (empty), 1 image of a format that is not read (.gif), \
             1 mask beside its image (a_label.bmp), 2 results of an inspection (a_heatmap.png, a_map.tiff), \
             1 other file (.txt), 1 hidden entry (.cache)"
        );
        assert!(!here.passed_over.is_empty() && PassedOver::default().is_empty());
    }

    #[test]
    fn images_of_folders_in_folders() {
        let root = folder(&[
            "b/2.png",
            "b/x/1.png",
            "a/3.png",
            "0.png",
            ".b/4.png",
            "out/5.png",
        ]);
        let root = root.path();
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("b/x/around")).unwrap();
        let mut passed_over = PassedOver::default();
        let without = [root.join("a/../out"), root.join("nowhere")];
        let found = photographs_below(root, &without, &|_| false, &mut passed_over).unwrap();
        let names: Vec<String> = found
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["0.png", "a/3.png", "b/2.png", "b/x/1.png"]);
        assert_eq!(passed_over.to_string(), "1 hidden entry (.b)");
        let error = photographs_below(&root.join("nowhere"), &[], &|_| false, &mut passed_over);
        let error = error.unwrap_err();
        assert!(matches!(error, DatasetError::NotFound { .. }), "{error}");
    }
}
