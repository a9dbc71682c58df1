//! A data set: good images to learn from, and labelled images to test with.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::PassedOver;
use super::layouts;
use super::mask::{GroundTruth, Mask, MaskError};
use crate::image::Size;

/// The folder name that stands for "no defect" in results.
const GOOD: &str = "good";

/// The image files of one data set. Images are not opened, unless the layout says only in its masks which images are defective.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// The name of its folder, or of its category.
    pub name: String,
    /// Its folder, as given; of a manifest, the folder that paths are relative to.
    pub root: PathBuf,
    /// How its files are arranged.
    pub layout: Layout,
    /// Anomaly-free images to learn from, in the order of their names; may be empty ([`Dataset::require_good`]).
    pub good: Vec<PathBuf>,
    /// Anomaly-free images that the layout itself keeps for validation; often empty.
    pub validation: Vec<PathBuf>,
    /// Labelled images to test with, in the order of their kinds and names; may be empty ([`Dataset::require_test`]).
    pub test: Vec<TestImage>,
    /// Test images with two masks.
    pub two_masks: Vec<TwoMasks>,
    /// Masks that belong to no image.
    pub masks_without_image: Vec<PathBuf>,
    /// What else lies in the folders.
    pub passed_over: PassedOver,
}

/// One labelled image of the test part.
#[derive(Clone, Debug, PartialEq)]
pub struct TestImage {
    /// The image.
    pub path: PathBuf,
    /// Its path within its kind, often the file's name.
    pub name: PathBuf,
    /// The kind of defect, or `None` for a good image.
    pub defect: Option<String>,
    /// The ground truth: may be missing for a defect, and rarely is there for a good image (whose mask must be blank).
    pub mask: Option<GroundTruth>,
}

/// A test image with two masks, of which nobody says which one is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwoMasks {
    /// The image.
    pub image: PathBuf,
    /// One mask.
    pub first: PathBuf,
    /// Another.
    pub second: PathBuf,
}

/// How the files of a data set are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `train/good`, `test/<defect>`, `ground_truth/<defect>`: MVTec AD, MPDD, and BTech with the names `ok` and `ko`.
    MvtecAd,
    /// `train/good`, `validation/good`, `test_public/<good or bad>`, `test_public/ground_truth/bad`.
    MvtecAd2,
    /// As MVTec AD, with a folder of masks for each image, and `defects_config.json`.
    MvtecLoco,
    /// `split_csv/1cls.csv` beside the categories.
    Visa,
    /// A JSON file for each category.
    RealIad,
    /// A label image beside each image (`_label`, `_GT`).
    Kolektor,
    /// A folder of good images beside folders of defects.
    LabelledFolders,
    /// A CSV or JSON Lines file that lists the images.
    Manifest,
    /// A folder of good images.
    GoodImages,
}

impl Layout {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::MvtecAd => "MVTec AD",
            Self::MvtecAd2 => "MVTec AD 2",
            Self::MvtecLoco => "MVTec LOCO AD",
            Self::Visa => "VisA",
            Self::RealIad => "Real-IAD",
            Self::Kolektor => "a label image beside each image",
            Self::LabelledFolders => "folders of good and defective images",
            Self::Manifest => "manifest",
            Self::GoodImages => "folder of good images",
        }
    }
}

/// How a folder is read as a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenSettings {
    /// The name of the folders of good images. Without it, `good`, `ok`, `normal`, `nominal`, `pass`, `io` and `gut` are known, in upper or
    /// lower case.
    pub good: Option<String>,
    /// Take the images in all folders below a folder of images too.
    pub recursive: bool,
    /// The name of the one data set that is meant, where several are.
    pub category: Option<String>,
}

impl TestImage {
    /// Its name for people: `<defect>/<file>`, `good/<file>`.
    pub fn display_name(&self) -> String {
        format!("{}/{}", self.folder(), self.name.display())
    }

    /// The folder of its kind: the defect's name, or `good`.
    pub fn folder(&self) -> &str {
        self.defect.as_deref().unwrap_or(GOOD)
    }

    /// The ground truth of the image, which has this size; `None` for a defect whose place is not known.
    ///
    /// # Errors
    /// As [`GroundTruth::read_for`].
    pub fn read_mask(&self, threshold: u8, size: Size) -> Result<Option<Mask>, MaskError> {
        match &self.mask {
            Some(mask) => mask.read_for(threshold, &self.path, size).map(Some),
            None if self.defect.is_some() => Ok(None),
            None => Ok(Some(Mask::good(size.width, size.height))),
        }
    }

    /// Whether it shows a defect whose place is not known.
    pub fn lacks_mask(&self) -> bool {
        self.defect.is_some() && self.mask.is_none()
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
    #[error("{} is not a folder: give the folder of a data set or of good images, or a manifest (.csv, .jsonl)", path.display())]
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
    #[error(
        "{} holds no images ({}){}: put images there",
        path.display(), IMAGE_FORMATS, found(passed_over)
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        passed_over: Box<PassedOver>,
    },
    /// No images here, but in folders below.
    #[error(
        "{} holds no images itself, but its folders do ({}): give one of the folders, take the folders below too, or put good \
         images into {}",
        path.display(), folders.join(", "), path.join("train").join(GOOD).display()
    )]
    ImagesBelow {
        /// The folder.
        path: PathBuf,
        /// The folders in it that hold images.
        folders: Vec<String>,
    },
    /// `train` without a folder of good images.
    #[error("{} holds no folder of good images{}: put the good images to learn from into {}", path.display(), named(folders), path.join(GOOD).display())]
    NoTrainGood {
        /// The folder `train`.
        path: PathBuf,
        /// The folders in it.
        folders: Vec<String>,
    },
    /// A test part, and nothing to learn from.
    #[error("{} has no good images to learn from: put good images into {}", path.display(), path.join("train").join(GOOD).display())]
    TestOnly {
        /// The folder.
        path: PathBuf,
    },
    /// The place of several data sets.
    #[error(
        "{} holds several data sets: give one of them ({})",
        path.display(), categories.join(", ")
    )]
    SeveralDatasets {
        /// The folder or manifest.
        path: PathBuf,
        /// The data sets in it.
        categories: Vec<String>,
    },
    /// No data set has the name that was asked for.
    #[error(
        "{} has no data set {wanted:?}: give one of {}",
        path.display(), categories.join(", ")
    )]
    NoCategory {
        /// The folder or manifest.
        path: PathBuf,
        /// The name.
        wanted: String,
        /// The data sets in it.
        categories: Vec<String>,
    },
    /// Two data sets of one name, which their results could not tell apart.
    #[error("{} holds two data sets called {name}: rename one, or give one of them", path.display())]
    EqualNames {
        /// The folder or manifest.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A setting that the layout does not have.
    #[error("{} has the layout {}, which does not take {setting}", path.display(), layout.name())]
    NoSuchSetting {
        /// The data set's folder.
        path: PathBuf,
        /// Its layout.
        layout: Layout,
        /// The setting, in words.
        setting: &'static str,
    },
    /// A test image with more than one mask.
    #[error("{} has two masks, {} and {}: remove one", .0.image.display(), .0.first.display(), .0.second.display())]
    TwoMasks(TwoMasks),
    /// Test images without a label.
    #[error(
        "{} holds {images} images without a label: put them into {} and {}",
        path.display(), path.join(GOOD).display(), path.join("<defect>").display()
    )]
    NoLabels {
        /// The folder.
        path: PathBuf,
        /// How many.
        images: usize,
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
    /// A file that lists the images cannot be used.
    #[error("{}: {reason}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line or the field, and what to do.
        reason: String,
    },
    /// A label image, whose content says whether its image is defective, cannot be read.
    #[error(transparent)]
    Label(#[from] MaskError),
}

/// The formats that are read, for messages.
const IMAGE_FORMATS: &str = "PNG, JPEG, BMP, TIFF, WebP, PGM, PPM";

fn found(passed_over: &PassedOver) -> String {
    if passed_over.is_empty() {
        String::new()
    } else {
        format!(", but {passed_over}")
    }
}

fn named(folders: &[String]) -> String {
    if folders.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", folders.join(", "))
    }
}

impl Dataset {
    /// Finds the images of the data set at `path`: a folder in a known layout, a folder of good images, or a manifest. A part that is
    /// missing is empty.
    ///
    /// # Errors
    /// [`DatasetError`], one variant for each thing that can be wrong with the folder.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        Self::open_with(path, &OpenSettings::default())
    }

    /// [`Dataset::open`] with settings.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(
        path: impl AsRef<Path>,
        settings: &OpenSettings,
    ) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let mut found = Self::open_all(path, settings)?;
        match (found.pop(), found.is_empty()) {
            (Some(dataset), true) => Ok(dataset),
            (last, _) => Err(DatasetError::SeveralDatasets {
                path: path.to_path_buf(),
                categories: found
                    .into_iter()
                    .chain(last)
                    .map(|dataset| dataset.name)
                    .collect(),
            }),
        }
    }

    /// The data sets at `path`: one, or the categories of a collection such as MVTec AD, in the order of their names.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_all(
        path: impl AsRef<Path>,
        settings: &OpenSettings,
    ) -> Result<Vec<Self>, DatasetError> {
        let path = path.as_ref();
        let mut found = layouts::open(path, settings)?;
        if let Some(wanted) = &settings.category {
            let names: Vec<String> = found.iter().map(|dataset| dataset.name.clone()).collect();
            found.retain(|dataset| dataset.name == *wanted);
            if found.is_empty() {
                return Err(DatasetError::NoCategory {
                    path: path.to_path_buf(),
                    wanted: wanted.clone(),
                    categories: names,
                });
            }
        }
        Ok(found)
    }

    /// A data set without images.
    pub(super) fn empty(name: String, root: &Path, layout: Layout) -> Self {
        Self {
            name,
            root: root.to_path_buf(),
            layout,
            good: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            two_masks: Vec::new(),
            masks_without_image: Vec::new(),
            passed_over: PassedOver::default(),
        }
    }

    /// The good images to learn from, of which there must be at least one.
    ///
    /// # Errors
    /// [`DatasetError`]: what is missing, and where.
    pub fn require_good(&self) -> Result<&[PathBuf], DatasetError> {
        if !self.good.is_empty() {
            return Ok(&self.good);
        }
        Err(layouts::no_good(self)?)
    }

    /// The test images, of which there must be at least one, none of them with two masks.
    ///
    /// # Errors
    /// [`DatasetError::NoTest`], [`DatasetError::NoLabels`] or [`DatasetError::TwoMasks`].
    pub fn require_test(&self) -> Result<&[TestImage], DatasetError> {
        if let Some(first) = self.two_masks.first() {
            return Err(DatasetError::TwoMasks(first.clone()));
        }
        if !self.test.is_empty() {
            return Ok(&self.test);
        }
        let unlabelled = &self.passed_over.unlabelled;
        Err(match unlabelled.first().and_then(|image| image.parent()) {
            Some(folder) if self.layout != Layout::GoodImages => DatasetError::NoLabels {
                path: folder.to_path_buf(),
                images: unlabelled.len(),
            },
            _ => DatasetError::NoTest {
                path: self.root.clone(),
            },
        })
    }

    /// The files of the test part: images, and their masks.
    pub fn test_files(&self) -> Vec<PathBuf> {
        let images = self.test.iter().map(|test| test.path.clone());
        let masks = self.test.iter().filter_map(|test| test.mask.as_ref());
        let masks = masks.flat_map(|mask| mask.files().iter().cloned());
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

    /// The defective test images whose place of the defect is not known.
    pub fn without_mask(&self) -> impl Iterator<Item = &TestImage> {
        let has_two = |test: &TestImage| self.two_masks.iter().any(|two| two.image == test.path);
        let without = self.test.iter().filter(|test| test.lacks_mask());
        without.filter(move |test| !has_two(test))
    }

    fn count_of(&self, kind: &str) -> String {
        let of_kind = |test: &&TestImage| test.defect.as_deref() == Some(kind);
        format!("{kind} {}", self.test.iter().filter(of_kind).count())
    }

    /// Whether the data set is a folder of good images by its layout, and its name says otherwise.
    pub fn is_called_bad(&self) -> bool {
        self.layout == Layout::GoodImages && layouts::is_bad(OsStr::new(&self.name))
    }

    /// In a line for people: the images, and the layout if it is more than a folder of good images.
    pub fn summary(&self) -> String {
        let defective = self.test.iter().filter(|test| test.defect.is_some());
        let defective = defective.count();
        let mut parts = vec![format!("{} good images to learn from", self.good.len())];
        if !self.validation.is_empty() {
            parts.push(format!("{} to validate with", self.validation.len()));
        }
        if !self.test.is_empty() {
            let good = self.test.len() - defective;
            let kinds = self.defects();
            let kinds: Vec<String> = kinds.iter().map(|kind| self.count_of(kind)).collect();
            let kinds = match &kinds[..] {
                [] => String::new(),
                kinds => format!(": {}", kinds.join(", ")),
            };
            parts.push(format!(
                "{} to test with ({good} good, {defective} defective{kinds})",
                self.test.len()
            ));
        }
        format!("{}: {}", self.layout.name(), parts.join(", "))
    }
}
