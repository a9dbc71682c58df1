//! The data sets in a folder, such as the categories of MVTec AD.

use std::path::{Path, PathBuf};

use super::{DatasetError, list};

/// `path` itself if it has a test part, else the folders in it that have one, in the order of their names.
///
/// # Errors
/// [`DatasetError`] if `path` cannot be listed, and [`DatasetError::NoTest`] if neither is the case.
pub fn categories(path: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let here = list(path)?;
    if here.has_folder("test") {
        return Ok(vec![path.to_path_buf()]);
    }
    let folders = here.folders.iter().map(|folder| path.join(folder));
    let found: Vec<_> = folders
        .filter(|folder| folder.join("test").is_dir())
        .collect();
    if found.is_empty() {
        let path = path.to_path_buf();
        return Err(DatasetError::NoTest { path });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_several_or_none() {
        let root = tempfile::tempdir().unwrap();
        let none = categories(root.path()).unwrap_err();
        assert!(matches!(none, DatasetError::NoTest { .. }), "{none}");
        for folder in ["b/test/good", "a/test/good", "c/train/good"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let expected = ["a", "b"].map(|name| root.path().join(name));
        assert_eq!(categories(root.path()).unwrap(), expected);
        assert_eq!(categories(&expected[0]).unwrap(), [expected[0].clone()]);
        assert!(categories(&root.path().join("d")).is_err());
    }
}
