//! The image files of a data set: good images to learn from, and labelled images if there is a test part.
//!
//! Two layouts are read. The MVTec AD layout:
//!
//! ```text
//! <name>/train/good/000.png                     anomaly-free, to learn from
//! <name>/test/good/000.png                      anomaly-free, to test
//! <name>/test/<defect>/000.png                  defective, to test
//! <name>/ground_truth/<defect>/000_mask.png     its mask (000.png and other formats are taken too)
//! ```
//!
//! (a mask in `ground_truth/good` is not needed, and must be blank),
//!
//! and a plain folder of good images, which has no test part. Files are taken in the order of their
//! names (by bytes), links are followed; hidden files, files that are no images by their extension
//! and folders where files are expected are passed over.

pub mod check;
pub mod image_source;
pub mod mask;

mod categories;
mod fingerprint;
mod split;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

pub use categories::categories;
pub use fingerprint::{
    FingerprintError, content_digits, content_fingerprint, file_digest, file_fingerprint,
    fingerprint, picture_digits,
};
pub use split::{Split, SplitError, split};
pub use survey::{Survey, survey};

use crate::image::read::has_image_extension;

/// The folder name that stands for "no defect".
const GOOD: &str = "good";

/// The image files of one data set; no file has been opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The name of its folder.
    pub name: String,
    /// Its folder, as given.
    pub root: PathBuf,
    /// Anomaly-free images to learn from, in the order of their names; at least one; empty from [`Dataset::open_test`], which does not
    /// look for them.
    pub good: Vec<PathBuf>,
    /// Labelled images to test with, in the order of their folders and names; may be empty.
    pub test: Vec<TestImage>,
}

/// One labelled image of the test part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestImage {
    /// The image.
    pub path: PathBuf,
    /// The kind of defect (its folder's name), or `None` for a good image.
    pub defect: Option<String>,
    /// The ground-truth mask: always there for a defect, rarely for a good image (whose mask must be blank).
    pub mask: Option<PathBuf>,
}

impl TestImage {
    /// Its name for people: `<defect>/<file>`, `good/<file>`.
    pub fn display_name(&self) -> String {
        let file = self.path.file_name().unwrap_or(self.path.as_os_str());
        format!("{}/{}", self.folder(), file.to_string_lossy())
    }

    /// The folder of its kind: the defect's name, or `good`.
    pub fn folder(&self) -> &str {
        self.defect.as_deref().unwrap_or(GOOD)
    }
}

/// A folder is no data set, or lacks a part. Every variant names the place and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// There is no such folder.
    #[error("{} does not exist: check the path", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// A file where a folder is expected.
    #[error("{} is not a folder: give the folder of a data set, or of good images", path.display())]
    NotAFolder {
        /// What stands there.
        path: PathBuf,
    },
    /// The system does not let us list a folder.
    #[error("cannot list {}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// A folder that should hold images has none.
    #[error("{} holds no images (PNG, JPEG, BMP, TIFF, WebP): put images there", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
    },
    /// No images here, but in folders below.
    #[error(
        "{} holds no images itself, but its folders do ({}): give one of them, or put good images into train/good",
        path.display(), folders.join(", ")
    )]
    ImagesBelow {
        /// The folder.
        path: PathBuf,
        /// The folders in it that hold images.
        folders: Vec<String>,
    },
    /// `train` without `train/good`.
    #[error("{} is missing: put the good images to learn from into it", path.display())]
    NoTrainGood {
        /// The folder that should be there.
        path: PathBuf,
    },
    /// `test` or `ground_truth` without `train`.
    #[error("{} has a test part and nothing to learn from: put good images into {}", path.display(), path.join("train").join(GOOD).display())]
    TestOnly {
        /// The folder.
        path: PathBuf,
    },
    /// The folder above several data sets.
    #[error(
        "{} holds several data sets: give one of them ({})",
        path.display(), categories.join(", ")
    )]
    SeveralDatasets {
        /// The folder.
        path: PathBuf,
        /// The data sets in it.
        categories: Vec<String>,
    },
    /// A defective test image without a mask.
    #[error("{} has no mask: put one at {}", image.display(), expected.display())]
    NoMask {
        /// The image.
        image: PathBuf,
        /// Where its mask is expected.
        expected: PathBuf,
    },
    /// A defective test image with more than one mask.
    #[error("{} has two masks, {} and {}: remove one", image.display(), first.display(), second.display())]
    TwoMasks {
        /// The image.
        image: PathBuf,
        /// One mask.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A test part is needed and is not there.
    #[error(
        "{} has no test images: put them into {} and {}",
        path.display(), path.join("test").join(GOOD).display(), path.join("test").join("<defect>").display()
    )]
    NoTest {
        /// The data set's folder.
        path: PathBuf,
    },
}

impl Dataset {
    /// Finds the images of the data set in the folder `path`; a test part may be missing.
    ///
    /// # Errors
    /// [`DatasetError`], one variant for each thing that can be wrong with the folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let mut dataset = Self::open_good(path)?;
        // Without `train`, `test` has been refused.
        if path.join("test").is_dir() {
            dataset.test = test_images(path, &mut Err)?;
        }
        Ok(dataset)
    }

    /// Finds the test images alone, which is enough to evaluate maps: `train` is not read, and need not be
    /// there.
    ///
    /// # Errors
    /// [`DatasetError`], where the test part is concerned, also if there is no test image.
    pub fn open_test(path: &Path) -> Result<Self, DatasetError> {
        let here = list(path)?;
        let mut dataset = Self {
            name: Self::name_of(path),
            root: path.to_path_buf(),
            good: Vec::new(),
            test: Vec::new(),
        };
        if here.has_folder("test") {
            dataset.test = test_images(path, &mut Err)?;
        }
        dataset.require_test()?;
        Ok(dataset)
    }

    /// Finds the good images alone; a test part is not read, and need not be complete.
    ///
    /// # Errors
    /// [`DatasetError`], where the good images are concerned.
    pub fn open_good(path: &Path) -> Result<Self, DatasetError> {
        let here = list(path)?;
        let good = if here.has_folder("train") {
            training_images(path)?
        } else if here.has_folder("test") || here.has_folder("ground_truth") {
            return Err(DatasetError::TestOnly {
                path: path.to_path_buf(),
            });
        } else if here.images.is_empty() {
            return Err(explain_no_images(path, &here));
        } else {
            here.images
        };
        Ok(Self {
            name: Self::name_of(path),
            root: path.to_path_buf(),
            good,
            test: Vec::new(),
        })
    }

    /// The test images, of which there must be at least one.
    ///
    /// # Errors
    /// [`DatasetError::NoTest`].
    pub fn require_test(&self) -> Result<&[TestImage], DatasetError> {
        if self.test.is_empty() {
            return Err(DatasetError::NoTest {
                path: self.root.clone(),
            });
        }
        Ok(&self.test)
    }

    /// The files of the test part: images, and their masks.
    pub fn test_files(&self) -> Vec<PathBuf> {
        let images = self.test.iter().map(|test| test.path.clone());
        let masks = self.test.iter().filter_map(|test| test.mask.clone());
        images.chain(masks).collect()
    }

    /// The name of the data set in the folder `path`: the folder's, as it is called there.
    pub fn name_of(path: &Path) -> String {
        // "." and ".." have a name only once resolved.
        let resolved = path.file_name().map(OsStr::to_os_string).or_else(|| {
            let absolute = path.canonicalize().ok()?;
            absolute.file_name().map(OsStr::to_os_string)
        });
        resolved.map_or_else(
            || "dataset".to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// The kinds of defects in the test part, each once, in the order of their names.
    pub fn defects(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = self
            .test
            .iter()
            .filter_map(|image| image.defect.as_deref())
            .collect();
        kinds.dedup();
        kinds
    }
}

/// The images directly in the folder `path`, in the order of their names.
///
/// # Errors
/// [`DatasetError`] if there is no such folder, it cannot be listed, or it holds no image.
pub fn images_in(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let here = list(path)?;
    if here.images.is_empty() {
        return Err(explain_no_images(path, &here));
    }
    Ok(here.images)
}

/// The images in the folder `path` and in all folders below it, in the order of their names; a folder's own images come first.
/// Hidden folders and the folders in `without` are left out. A folder that is reached twice, through a link, counts once.
///
/// # Errors
/// [`DatasetError`] if there is no such folder, a folder cannot be listed, or there is no image in any of them.
pub fn images_below(path: &Path, without: &[PathBuf]) -> Result<Vec<PathBuf>, DatasetError> {
    let mut seen: BTreeSet<PathBuf> = without.iter().filter_map(|path| whole(path)).collect();
    let mut images = Vec::new();
    // The next folder is the last one: a folder's folders wait in reverse order.
    let mut waiting = vec![path.to_path_buf()];
    while let Some(folder) = waiting.pop() {
        if whole(&folder).is_some_and(|folder| !seen.insert(folder)) {
            continue;
        }
        let here = list(&folder)?;
        images.extend(here.images);
        waiting.extend(here.folders.iter().rev().map(|name| folder.join(name)));
    }
    if images.is_empty() {
        return Err(DatasetError::NoImages {
            path: path.to_path_buf(),
        });
    }
    Ok(images)
}

/// One path for one folder, however it is spelled.
fn whole(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

fn training_images(root: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let good = root.join("train").join(GOOD);
    if !good.is_dir() {
        return Err(DatasetError::NoTrainGood { path: good });
    }
    images_in(&good)
}

/// The test images under `root`; what is wrong with a mask goes to `refuse`, which ends the search or lets
/// the image stand without one.
fn test_images(
    root: &Path,
    refuse: &mut dyn FnMut(DatasetError) -> Result<(), DatasetError>,
) -> Result<Vec<TestImage>, DatasetError> {
    let test = root.join("test");
    let mut found = Vec::new();
    for folder in list(&test)?.folders {
        let images = list(&test.join(&folder))?.images;
        let masks = Masks::of(&root.join("ground_truth").join(&folder))?;
        let defect = (folder != GOOD).then(|| folder.to_string_lossy().into_owned());
        for path in images {
            let mask = match masks.find(&path) {
                Ok(mask) => Some(mask),
                Err(DatasetError::NoMask { .. }) if defect.is_none() => None,
                Err(error) => {
                    refuse(error)?;
                    None
                }
            };
            found.push(TestImage {
                path,
                defect: defect.clone(),
                mask,
            });
        }
    }
    Ok(found)
}

/// The masks of one kind of defect, by file name without extension.
struct Masks {
    folder: PathBuf,
    by_stem: BTreeMap<OsString, Vec<PathBuf>>,
}

impl Masks {
    fn of(folder: &Path) -> Result<Self, DatasetError> {
        // A missing folder is told as the first missing mask: that names what to add.
        let files = match list(folder) {
            Err(DatasetError::NotFound { .. }) => Vec::new(),
            listed => listed?.images,
        };
        let mut by_stem: BTreeMap<OsString, Vec<PathBuf>> = BTreeMap::new();
        for file in files {
            let stem = file.file_stem().unwrap_or_default().to_os_string();
            by_stem.entry(stem).or_default().push(file);
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            by_stem,
        })
    }

    fn find(&self, image: &Path) -> Result<PathBuf, DatasetError> {
        let stem = image.file_stem().unwrap_or_default();
        let mut with_suffix = stem.to_os_string();
        with_suffix.push("_mask");
        let candidates: Vec<&PathBuf> = [with_suffix.as_os_str(), stem]
            .into_iter()
            .filter_map(|stem| self.by_stem.get(stem))
            .flatten()
            .collect();
        match candidates[..] {
            [mask] => Ok(mask.clone()),
            [first, second, ..] => Err(DatasetError::TwoMasks {
                image: image.to_path_buf(),
                first: first.clone(),
                second: second.clone(),
            }),
            [] => {
                with_suffix.push(".png");
                Err(DatasetError::NoMask {
                    image: image.to_path_buf(),
                    expected: self.folder.join(with_suffix),
                })
            }
        }
    }
}

/// What is in one folder, in the order of the names; hidden entries left out.
#[derive(Default)]
struct Listing {
    folders: Vec<OsString>,
    images: Vec<PathBuf>,
}

impl Listing {
    fn has_folder(&self, name: &str) -> bool {
        self.folders.iter().any(|folder| folder == name)
    }
}

fn list(path: &Path) -> Result<Listing, DatasetError> {
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
    let mut listing = Listing::default();
    for name in names {
        if bytes(&name).starts_with(b".") {
            continue;
        }
        let entry = path.join(&name);
        // A link to nothing counts as a file, so that reading it says what is wrong.
        if entry.is_dir() {
            listing.folders.push(name);
        } else if has_image_extension(&entry) {
            listing.images.push(entry);
        }
    }
    Ok(listing)
}

fn bytes(name: &OsStr) -> &[u8] {
    name.as_encoded_bytes()
}

/// Why a folder without images may have been given, as far as the folders in it tell.
fn explain_no_images(path: &Path, here: &Listing) -> DatasetError {
    let named = |test: &dyn Fn(&Path) -> bool| -> Vec<String> {
        here.folders
            .iter()
            .filter(|folder| test(&path.join(folder)))
            .map(|folder| folder.to_string_lossy().into_owned())
            .collect()
    };
    let categories = named(&|folder| folder.join("train").is_dir());
    let folders = named(&|folder| list(folder).is_ok_and(|below| !below.images.is_empty()));
    let path = path.to_path_buf();
    if !categories.is_empty() {
        DatasetError::SeveralDatasets { path, categories }
    } else if !folders.is_empty() {
        DatasetError::ImagesBelow { path, folders }
    } else {
        DatasetError::NoImages { path }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files in it (empty ones: nothing here opens an image).
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        root
    }

    fn names<'a>(root: &Path, paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.into_iter().map(relative).collect()
    }

    fn error(files: &[&str]) -> DatasetError {
        Dataset::open(folder(files).path()).unwrap_err()
    }

    #[test]
    fn the_mvtec_layout() {
        let root = folder(&[
            "train/good/b.png",
            "train/good/a.JPG",
            "train/good/B.png",
            "train/good/notes.txt",
            "train/good/.hidden.png",
            "train/good/deeper/c.png",
            "test/good/0.png",
            "test/cut/10.bmp",
            "test/cut/9.png",
            "test/bent/x.png",
            "ground_truth/cut/10_mask.png",
            "ground_truth/cut/9.tif",
            "ground_truth/bent/x_mask.png",
            "license.txt",
        ]);
        let set = Dataset::open(root.path()).unwrap();
        let root = root.path();
        let good = ["train/good/B.png", "train/good/a.JPG", "train/good/b.png"];
        assert_eq!(names(root, &set.good), good);
        let test: Vec<_> = set.test.iter().map(|image| &image.path).collect();
        let expected = [
            "test/bent/x.png",
            "test/cut/10.bmp",
            "test/cut/9.png",
            "test/good/0.png",
        ];
        assert_eq!(names(root, test), expected);
        let masks: Vec<_> = set.test.iter().filter_map(|i| i.mask.as_ref()).collect();
        let expected = [
            "ground_truth/bent/x_mask.png",
            "ground_truth/cut/10_mask.png",
            "ground_truth/cut/9.tif",
        ];
        assert_eq!(names(root, masks), expected);
        assert_eq!(set.defects(), ["bent", "cut"]);
        assert_eq!(set.test[3].defect, None);
        assert_eq!(set.name, root.file_name().unwrap().to_str().unwrap());
        assert_eq!(set.require_test().unwrap().len(), 4);
    }

    #[test]
    fn a_plain_folder_has_no_test_part() {
        let root = folder(&["2.png", "10.png", "1.webp", "more/3.png"]);
        let set = Dataset::open(root.path()).unwrap();
        assert_eq!(names(root.path(), &set.good), ["1.webp", "10.png", "2.png"]);
        let error = set.require_test().unwrap_err();
        assert!(matches!(error, DatasetError::NoTest { .. }));
        assert_eq!(images_in(root.path()).unwrap(), set.good);
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
        let found = images_below(root, &[root.join("a/../out"), root.join("nowhere")]).unwrap();
        let expected = ["0.png", "a/3.png", "b/2.png", "b/x/1.png"];
        assert_eq!(names(root, &found), expected);
        let error = images_below(&root.join("a"), &[root.join("a")]).unwrap_err();
        assert!(matches!(error, DatasetError::NoImages { .. }), "{error}");
        let error = images_below(&root.join("nowhere"), &[]).unwrap_err();
        assert!(matches!(error, DatasetError::NotFound { .. }), "{error}");
    }

    #[test]
    fn training_images_alone_are_a_data_set() {
        let root = folder(&["train/good/a.png"]);
        let set = Dataset::open(root.path()).unwrap();
        assert_eq!((set.good.len(), set.test.len()), (1, 0));
    }

    #[test]
    fn each_mistake_has_its_own_error_with_the_place_and_a_remedy() {
        use DatasetError as E;
        let missing = Dataset::open(Path::new("no/such/folder")).unwrap_err();
        assert!(matches!(missing, E::NotFound { .. }));
        assert!(missing.to_string().contains("no/such/folder"));

        let root = folder(&["a.png"]);
        let file = Dataset::open(root.path().join("a.png")).unwrap_err();
        assert!(matches!(file, E::NotAFolder { .. }));

        assert!(matches!(error(&[]), E::NoImages { .. }));
        assert!(matches!(error(&["a.txt"]), E::NoImages { .. }));
        let empty = error(&["train/good/readme.txt"]);
        assert!(matches!(&empty, E::NoImages { path } if path.ends_with("train/good")));
        let bad = error(&["train/bad/a.png", "test/good/a.png"]);
        assert!(matches!(&bad, E::NoTrainGood { path } if path.ends_with("train/good")));
        assert!(matches!(error(&["test/good/a.png"]), E::TestOnly { .. }));

        let several = error(&["nut/train/good/a.png", "hose/train/good/a.png", "x/y"]);
        let E::SeveralDatasets { categories, .. } = &several else {
            panic!("{several}");
        };
        assert_eq!(categories, &["hose", "nut"]);

        let below = error(&["good/a.png", "monday/b.png", "empty/c.txt"]);
        let E::ImagesBelow { folders, .. } = &below else {
            panic!("{below}");
        };
        assert_eq!(folders, &["good", "monday"]);

        let no_mask = error(&["train/good/a.png", "test/cut/7.png"]);
        let text = no_mask.to_string();
        assert!(matches!(no_mask, E::NoMask { .. }));
        assert!(text.contains("test/cut/7.png") && text.contains("ground_truth/cut/7_mask.png"));

        let two = error(&[
            "train/good/a.png",
            "test/cut/7.png",
            "ground_truth/cut/7.png",
            "ground_truth/cut/7_mask.png",
        ]);
        assert!(matches!(two, E::TwoMasks { .. }));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_broken_ones_kept_to_be_named() {
        let real = folder(&["good/a.png"]);
        let root = folder(&["train/x.txt"]);
        let good = root.path().join("train/good");
        std::os::unix::fs::symlink(real.path().join("good"), &good).unwrap();
        std::os::unix::fs::symlink("nowhere", real.path().join("good/b.png")).unwrap();
        let set = Dataset::open(root.path()).unwrap();
        assert_eq!(
            names(root.path(), &set.good),
            ["train/good/a.png", "train/good/b.png"]
        );
    }
}
