//! The image files of a data set: good images to learn from, and labelled images if there is a test part.
//!
//! [`Dataset::open`] recognises the layout of a folder: MVTec AD and its relatives, VisA, Real-IAD, KolektorSDD, folders of good and
//! defective images, a manifest (CSV or JSON Lines), and a plain folder of good images. The files of `layouts/` describe them.
//!
//! Files are taken in the order of their names (by bytes). Links are followed. What is not taken is told ([`PassedOver`]): hidden files,
//! files that are no images by their extension, folders below a folder of images, masks beside their images.

pub mod check;
pub mod image_source;
pub mod mask;

mod acquisition;
mod dataset;
mod fingerprint;
mod folder;
mod layouts;
mod split;

use std::path::{Path, PathBuf};

pub use acquisition::{Acquisition, Acquisitions, ImagesOfDepth, Range};
pub use dataset::{Dataset, DatasetError, Layout, OpenSettings, TestImage, TwoMasks};
pub use fingerprint::{
    FingerprintError, content_fingerprint, file_digest, file_fingerprint, fingerprint,
    picture_digits,
};
pub use folder::{FolderBelow, PassedOver};
pub use split::{Split, SplitError, split};

use folder::{Folder, photographs_below};

/// Images, and what lies beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFolder {
    /// The images in the order of their names; a folder's own images come before those of the folders below it.
    pub images: Vec<PathBuf>,
    /// What else lies in the folders.
    pub passed_over: PassedOver,
}

/// The images directly in the folder `path`. Masks that lie beside their image, and results of an inspection, are passed over.
///
/// # Errors
/// [`DatasetError`] if there is no such folder, it cannot be listed, or it holds no image.
pub fn images_in(path: &Path) -> Result<ImageFolder, DatasetError> {
    let mut here = Folder::photographs(path)?;
    here.pass_over_folders(&[]);
    some(path, here.images, here.passed_over)
}

/// The images in the folder `path` and in all folders below it. Hidden folders and the folders in `without` are left out. A folder that
/// is reached twice, through a link, counts once. Masks that lie beside their image, and results of an inspection, are passed over.
///
/// # Errors
/// [`DatasetError`] if there is no such folder, a folder cannot be listed, or there is no image in any of them.
pub fn images_below(path: &Path, without: &[PathBuf]) -> Result<ImageFolder, DatasetError> {
    let mut passed_over = PassedOver::default();
    let images = photographs_below(path, without, &|_| false, &mut passed_over)?;
    some(path, images, passed_over)
}

fn some(
    path: &Path,
    images: Vec<PathBuf>,
    passed_over: PassedOver,
) -> Result<ImageFolder, DatasetError> {
    if images.is_empty() {
        return Err(DatasetError::NoImages {
            path: path.to_path_buf(),
            passed_over: Box::new(passed_over),
        });
    }
    Ok(ImageFolder {
        images,
        passed_over,
    })
}

#[cfg(test)]
mod test_folder {
    /// A folder with these files in it, all empty.
    pub fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::test_folder::folder;
    use super::*;

    fn names<'a>(root: &Path, paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<String> {
        let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        paths.into_iter().map(relative).collect()
    }

    /// The error of opening a folder, or of asking it for both parts.
    fn error(files: &[&str]) -> DatasetError {
        match Dataset::open(folder(files).path()) {
            Err(error) => error,
            Ok(dataset) => match (dataset.require_good(), dataset.require_test()) {
                (Err(error), _) | (_, Err(error)) => error,
                (Ok(_), Ok(_)) => panic!("{dataset:?}"),
            },
        }
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
            "ground_truth/bent/x_GT.png",
            "license.txt",
        ]);
        let set = Dataset::open(root.path()).unwrap();
        let root = root.path();
        let good = ["train/good/B.png", "train/good/a.JPG", "train/good/b.png"];
        assert_eq!(names(root, set.require_good().unwrap()), good);
        let test: Vec<_> = set.test.iter().map(|image| &image.path).collect();
        let expected = [
            "test/bent/x.png",
            "test/cut/10.bmp",
            "test/cut/9.png",
            "test/good/0.png",
        ];
        assert_eq!(names(root, test), expected);
        let masks = set.test.iter().filter_map(|image| image.mask.as_ref());
        let masks: Vec<_> = masks.flat_map(|mask| mask.files()).collect();
        let expected = [
            "ground_truth/bent/x_GT.png",
            "ground_truth/cut/10_mask.png",
            "ground_truth/cut/9.tif",
        ];
        assert_eq!(names(root, masks), expected);
        assert_eq!(set.defects(), ["bent", "cut"]);
        assert_eq!(set.test[3].defect, None);
        assert_eq!(set.test[0].display_name(), "bent/x.png");
        assert_eq!(set.name, root.file_name().unwrap().to_str().unwrap());
        assert_eq!(set.require_test().unwrap().len(), 4);
        assert_eq!(
            set.passed_over.to_string(),
            "1 folder with 1 image (deeper), 2 other files (.txt), 1 hidden entry (.hidden.png)"
        );
        let recursive = OpenSettings {
            recursive: true,
            ..OpenSettings::default()
        };
        let set = Dataset::open_with(root, &recursive).unwrap();
        assert_eq!(set.good.len(), 4);
    }

    #[test]
    fn names_of_folders_in_upper_case_and_of_other_makers() {
        for (train, test, good) in [
            ("Train", "Test", "good"),
            ("train", "test", "OK"),
            ("train", "test_public", "Normal"),
        ] {
            let files = [
                format!("{train}/{good}/a.png"),
                format!("{test}/{good}/a.png"),
                format!("{test}/ko/a.png"),
            ];
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let set = Dataset::open(folder(&files).path()).unwrap();
            assert_eq!((set.good.len(), set.test.len()), (1, 2), "{files:?}");
            assert_eq!(set.defects(), ["ko"]);
        }
        let root = folder(&["train/a/0.png", "test/a/1.png", "test/good/1.png"]);
        let named = OpenSettings {
            good: Some("a".to_owned()),
            ..OpenSettings::default()
        };
        let set = Dataset::open_with(root.path(), &named).unwrap();
        assert_eq!((set.good.len(), set.defects()), (1, vec!["good"]));
    }

    #[test]
    fn a_plain_folder_has_no_test_part() {
        let root = folder(&["2.png", "10.png", "1.webp", "more/3.png", "old/test/4.png"]);
        let set = Dataset::open(root.path()).unwrap();
        assert_eq!(names(root.path(), &set.good), ["1.webp", "10.png", "2.png"]);
        assert_eq!(
            set.passed_over.to_string(),
            "2 folders with 2 images (more, old)"
        );
        let error = set.require_test().unwrap_err();
        assert!(matches!(error, DatasetError::NoTest { .. }));
        assert_eq!(images_in(root.path()).unwrap().images, set.good);
    }

    #[test]
    fn good_and_bad_beside_each_other_have_a_test_part_of_their_own() {
        let good: Vec<String> = (0..40).map(|at| format!("good/{at:02}.png")).collect();
        let mut files: Vec<&str> = good.iter().map(String::as_str).collect();
        files.extend(["bad/0.png", "bad/1.png", "masks/bad/1_mask.png"]);
        let root = folder(&files);
        let set = Dataset::open(root.path()).unwrap();
        assert_eq!(set.layout, Layout::LabelledFolders);
        let tested = set.test.iter().filter(|image| image.defect.is_none());
        let tested: Vec<PathBuf> = tested.map(|image| image.path.clone()).collect();
        assert_eq!(set.good.len() + tested.len(), 40);
        assert!((4..=12).contains(&tested.len()), "{}", tested.len());
        assert_eq!(set.without_mask().count(), 1);
        // A new image changes the part of no other.
        std::fs::write(root.path().join("good/zz.png"), b"").unwrap();
        let more = Dataset::open(root.path()).unwrap();
        let still = |path: &PathBuf| more.test.iter().any(|image| image.path == *path);
        assert!(tested.iter().all(still));
        assert_eq!(
            more.good
                .iter()
                .filter(|path| set.good.contains(path))
                .count(),
            set.good.len()
        );
        // Of a few images, one is tested.
        let few = Dataset::open(folder(&["ok/1.png", "ok/2.png", "ng/1.png"]).path()).unwrap();
        assert_eq!((few.good.len(), few.test.len()), (1, 2));
    }

    #[test]
    fn training_images_alone_are_a_data_set() {
        let set = Dataset::open(folder(&["train/good/a.png"]).path()).unwrap();
        assert_eq!((set.good.len(), set.test.len()), (1, 0));
        let set = Dataset::open(folder(&["train/a.png", "train/b.png"]).path()).unwrap();
        assert_eq!(set.good.len(), 2);
    }

    #[test]
    fn masks_without_an_image_and_two_masks_are_told() {
        let root = folder(&[
            "train/good/0.png",
            "test/crack/0.png",
            "test/crack/1.png",
            "test/crack/2.png",
            "ground_truth/crack/1_mask.png",
            "ground_truth/crack/1.png",
            "ground_truth/crack/2_mask.png",
            "ground_truth/crack/7_mask.png",
            "ground_truth/hole/0.png",
        ]);
        let found = Dataset::open(root.path()).unwrap();
        let without: Vec<String> = found.without_mask().map(TestImage::display_name).collect();
        assert_eq!(without, ["crack/0.png"]);
        let error = found.require_test().unwrap_err();
        assert!(error.to_string().contains("1.png has two masks"), "{error}");
        let strays = ["crack/7_mask.png", "hole/0.png"];
        let strays = strays.map(|name| root.path().join("ground_truth").join(name));
        assert_eq!(found.masks_without_image, strays);
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
        let text = error(&["a.txt", "b.gif"]).to_string();
        assert!(text.contains("format that is not read (.gif)"), "{text}");
        let empty = error(&["train/good/readme.txt"]);
        assert!(
            matches!(&empty, E::NoImages { path, .. } if path.ends_with("train/good")),
            "{empty}"
        );
        let bad = error(&["train/bad/a.png", "test/good/a.png"]).to_string();
        assert!(
            bad.contains("there is bad") && bad.contains("train/good"),
            "{bad}"
        );
        assert!(matches!(error(&["test/good/a.png"]), E::TestOnly { .. }));
        let unlabelled = error(&["train/good/a.png", "test/a.png", "test/b.png"]);
        assert!(
            matches!(&unlabelled, E::NoLabels { images: 2, .. }),
            "{unlabelled}"
        );

        let several = error(&["nut/train/good/a.png", "hose/train/good/a.png", "x/y"]);
        let E::SeveralDatasets { categories, .. } = &several else {
            panic!("{several}");
        };
        assert_eq!(categories, &["hose", "nut"]);

        let below = error(&["tuesday/a.png", "monday/b.png", "empty/c.txt"]);
        let E::ImagesBelow { folders, .. } = &below else {
            panic!("{below}");
        };
        assert_eq!(folders, &["monday", "tuesday"]);
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
