//! A data set together with all problems of its files' places.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Dataset, DatasetError, Listing, list, test_images};

/// What [`survey`] found.
#[derive(Debug)]
pub struct Survey {
    /// The images; a defective one may lack its mask here.
    pub dataset: Dataset,
    /// Defective images without a mask, and images with two.
    pub problems: Vec<DatasetError>,
    /// Files in `ground_truth` that are the mask of no image.
    pub masks_without_image: Vec<PathBuf>,
}

/// [`Dataset::open`], but a missing or doubled mask does not end it: all of them are collected.
///
/// # Errors
/// [`DatasetError`] if the folder is no data set at all.
pub fn survey(path: &Path) -> Result<Survey, DatasetError> {
    let mut dataset = match Dataset::open_good(path) {
        // A test part alone, as `pupilla score` and `eval` take it.
        Err(DatasetError::TestOnly { .. }) => Dataset {
            name: Dataset::name_of(path),
            root: path.to_path_buf(),
            good: Vec::new(),
            test: Vec::new(),
        },
        opened => opened?,
    };
    let mut problems = Vec::new();
    if path.join("test").is_dir() {
        dataset.test = test_images(path, &mut |problem| {
            problems.push(problem);
            Ok(())
        })?;
    }
    // Doubled masks have been told of.
    let doubled = problems.iter().flat_map(|problem| match problem {
        DatasetError::TwoMasks { first, second, .. } => vec![first.clone(), second.clone()],
        _ => Vec::new(),
    });
    let used: BTreeSet<PathBuf> = dataset
        .test
        .iter()
        .filter_map(|test| test.mask.clone())
        .chain(doubled)
        .collect();
    let mut masks_without_image = Vec::new();
    let truth = path.join("ground_truth");
    for folder in list_if_there(&truth)?.folders {
        let masks = list(&truth.join(folder))?.images;
        masks_without_image.extend(masks.into_iter().filter(|mask| !used.contains(mask)));
    }
    Ok(Survey {
        dataset,
        problems,
        masks_without_image,
    })
}

fn list_if_there(path: &Path) -> Result<Listing, DatasetError> {
    match list(path) {
        Err(DatasetError::NotFound { .. }) => Ok(Listing::default()),
        listed => listed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_misplaced_is_told() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "train/good/0.png",
            "test/good/0.png",
            "test/crack/0.png",
            "test/crack/1.png",
            "test/crack/2.png",
            "ground_truth/crack/1_mask.png",
            "ground_truth/crack/1.png",
            "ground_truth/crack/2_mask.png",
            "ground_truth/crack/7_mask.png",
            "ground_truth/hole/0.png",
        ] {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let found = survey(root.path()).unwrap();
        assert_eq!(found.dataset.test.len(), 4);
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("0.png has no mask"), "{problems:?}");
        assert!(problems[1].contains("two masks"), "{problems:?}");
        let strays = ["crack/7_mask.png", "hole/0.png"];
        let strays = strays.map(|name| root.path().join("ground_truth").join(name));
        assert_eq!(found.masks_without_image, strays);
    }
}
