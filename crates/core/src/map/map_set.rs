//! Where the anomaly maps of a whole test part lie: the layout of MVTec's evaluation, written and found.
//!
//! ```text
//! <maps>/<category>/test/<defect or good>/000.tiff     the map of <category>/test/<defect or good>/000.png
//! <maps>/<category>/test/<defect or good>/a/000.tiff   of an image in a folder below its kind's
//! ```
//!
//! For one category `<maps>/test/…` is found too, and `.tif` beside `.tiff`, in any case. Two images that differ in
//! their extension alone keep it: `000.png.tiff`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::data::{Dataset, TestImage};

/// Why the maps of a test part are not all there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapSetError {
    /// There is no folder of maps.
    #[error(
        "there are no anomaly maps of {category}: put them into {} (or {})",
        expected.display(), other.display()
    )]
    NoFolder {
        /// The category.
        category: String,
        /// Where MVTec's layout has them.
        expected: PathBuf,
        /// Where they may lie as well.
        other: PathBuf,
    },
    /// Two folders could be meant.
    #[error("both {} and {} are there: remove one, or give the folder that is meant", one.display(), other.display())]
    TwoFolders {
        /// One of them.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// A folder cannot be listed.
    #[error("cannot list {}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// An image without a map.
    #[error("{} has no anomaly map: put it at {}{}", image.display(), expected.display(), instead_of(instead.as_deref()))]
    Missing {
        /// The image.
        image: PathBuf,
        /// Where its map is expected.
        expected: PathBuf,
        /// A file of that name in another format.
        instead: Option<PathBuf>,
    },
    /// An image with more than one map.
    #[error("{} has two anomaly maps, {} and {}: remove one", image.display(), first.display(), second.display())]
    Doubled {
        /// The image.
        image: PathBuf,
        /// One map.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
}

fn instead_of(found: Option<&Path>) -> String {
    found.map_or_else(String::new, |found| {
        format!(
            " ({} is no TIFF of 32-bit floats; pictures of 8 bits are not evaluated, as their rounding \
             changes every figure)",
            found.display()
        )
    })
}

/// The maps of a test part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSet {
    /// A file for each image of [`Dataset::test`], in its order.
    pub paths: Vec<PathBuf>,
    /// Maps that belong to no image.
    pub without_image: Vec<PathBuf>,
}

/// Where the map of an image is written: `<folder>/<category>/test/<defect or good>/<name>.tiff`.
pub fn path_of(folder: &Path, dataset: &Dataset, test: &TestImage) -> PathBuf {
    let same = |other: &&TestImage| {
        folder_of(other) == folder_of(test) && other.name.file_stem() == test.name.file_stem()
    };
    let unique = dataset.test.iter().filter(same).count() == 1;
    let mut name = name_of(test, unique).to_os_string();
    name.push(".tiff");
    folder
        .join(&dataset.name)
        .join("test")
        .join(folder_of(test))
        .join(name)
}

/// The folder of an image's map: its kind's, or a folder below.
fn folder_of(test: &TestImage) -> PathBuf {
    Path::new(test.folder()).join(test.name.parent().unwrap_or(Path::new("")))
}

/// A map's name without `.tiff`.
fn name_of(test: &TestImage, stem_is_unique: bool) -> &OsStr {
    let name = if stem_is_unique {
        test.name.file_stem()
    } else {
        test.name.file_name()
    };
    name.unwrap_or(test.name.as_os_str())
}

/// Finds the map of every test image; no file is opened.
///
/// # Errors
/// [`MapSetError`] for the first image without a map or with two, or if the folder is missing.
pub fn find(folder: &Path, dataset: &Dataset) -> Result<MapSet, MapSetError> {
    let root = test_folder(folder, &dataset.name)?;
    let mut images: BTreeMap<PathBuf, Vec<&TestImage>> = BTreeMap::new();
    for test in &dataset.test {
        images.entry(folder_of(test)).or_default().push(test);
    }
    let mut found = BTreeMap::new();
    let mut without_image = Vec::new();
    for (folder, images) in images {
        let mut files = Files::of(&root.join(folder))?;
        let mut stems: BTreeMap<&OsStr, usize> = BTreeMap::new();
        for test in &images {
            *stems.entry(name_of(test, true)).or_default() += 1;
        }
        for test in images {
            let name = name_of(test, stems[name_of(test, true)] == 1);
            found.insert(&test.path, files.take(name, test)?);
        }
        without_image.extend(files.maps.into_values().flatten());
    }
    without_image.sort();
    // The tests are visited by folder; their order is the data set's.
    let paths = dataset
        .test
        .iter()
        .filter_map(|test| found.remove(&test.path));
    Ok(MapSet {
        paths: paths.collect(),
        without_image,
    })
}

/// The folder whose folders are the kinds of defects.
fn test_folder(folder: &Path, category: &str) -> Result<PathBuf, MapSetError> {
    let expected = folder.join(category).join("test");
    let other = folder.join("test");
    match (expected.is_dir(), other.is_dir()) {
        (true, false) => Ok(expected),
        (false, true) => Ok(other),
        (true, true) => Err(MapSetError::TwoFolders {
            one: expected,
            other,
        }),
        (false, false) => Err(MapSetError::NoFolder {
            category: category.to_owned(),
            expected,
            other,
        }),
    }
}

/// The files of one folder by their names without extension: TIFFs, and all others.
struct Files {
    folder: PathBuf,
    maps: BTreeMap<OsString, Vec<PathBuf>>,
    others: BTreeMap<OsString, PathBuf>,
}

impl Files {
    fn of(folder: &Path) -> Result<Self, MapSetError> {
        let mut files = Self {
            folder: folder.to_path_buf(),
            maps: BTreeMap::new(),
            others: BTreeMap::new(),
        };
        let place = |source| MapSetError::Io {
            path: folder.to_path_buf(),
            source,
        };
        let entries = match std::fs::read_dir(folder) {
            // Told as the first missing map, which names what to add.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(place)?,
        };
        for entry in entries {
            let path = entry.map_err(place)?.path();
            let Some(stem) = path.file_stem().map(OsStr::to_os_string) else {
                continue;
            };
            let extension = path.extension().map(OsStr::to_ascii_lowercase);
            if extension.is_some_and(|extension| extension == "tiff" || extension == "tif") {
                files.maps.entry(stem).or_default().push(path);
            } else {
                files.others.insert(stem, path);
            }
        }
        Ok(files)
    }

    /// The one map of this name.
    fn take(&mut self, name: &OsStr, test: &TestImage) -> Result<PathBuf, MapSetError> {
        let image = || test.path.clone();
        let mut maps = self.maps.remove(name).unwrap_or_default();
        maps.sort();
        match &mut maps[..] {
            [map] => Ok(std::mem::take(map)),
            [first, second, ..] => Err(MapSetError::Doubled {
                image: image(),
                first: std::mem::take(first),
                second: std::mem::take(second),
            }),
            [] => {
                let mut file = name.to_os_string();
                file.push(".tiff");
                Err(MapSetError::Missing {
                    image: image(),
                    expected: self.folder.join(file),
                    instead: self.others.remove(name),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }

    /// A test part of empty files.
    fn dataset() -> Dataset {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("nut");
        for name in [
            "bent/000.png",
            "bent/001.bmp",
            "bent/001.png",
            "good/000.png",
        ] {
            touch(&root.join("test").join(name));
        }
        Dataset::open(&root).unwrap()
    }

    #[test]
    fn what_is_written_is_found_in_both_layouts() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset();
        let written: Vec<_> = dataset
            .test
            .iter()
            .map(|test| path_of(folder.path(), &dataset, test))
            .collect();
        let names = [
            "bent/000.tiff",
            "bent/001.bmp.tiff",
            "bent/001.png.tiff",
            "good/000.tiff",
        ];
        for (path, name) in written.iter().zip(names) {
            assert_eq!(path, &folder.path().join("nut/test").join(name));
            touch(path);
        }
        let found = find(folder.path(), &dataset).unwrap();
        assert_eq!((&found.paths, found.without_image.len()), (&written, 0));
        // The category's own folder given.
        let found = find(&folder.path().join("nut"), &dataset).unwrap();
        assert_eq!(found.paths, written);
        let stray = folder.path().join("nut/test/good/7.tif");
        touch(&stray);
        assert_eq!(
            find(folder.path(), &dataset).unwrap().without_image,
            [stray]
        );
    }

    #[test]
    fn errors_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset();
        let error = |words: &[&str]| {
            let text = find(folder.path(), &dataset).unwrap_err().to_string();
            for word in words {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
        };
        error(&["no anomaly maps of nut", "nut/test", "(or "]);
        let at = |name: &str| folder.path().join("test").join(name);
        touch(&at("bent/000.png"));
        error(&["bent/000.png has no anomaly map", "bent/000.tiff", "8 bits"]);
        touch(&at("bent/000.TIF"));
        error(&["001.bmp has no anomaly map", "001.bmp.tiff"]);
        touch(&at("bent/000.tiff"));
        error(&["000.png has two anomaly maps", "000.TIF", "000.tiff"]);
        touch(&folder.path().join("nut/test/good/000.tiff"));
        error(&["both", "nut/test", "remove one"]);
    }
}
