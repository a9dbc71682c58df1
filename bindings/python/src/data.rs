//! A data set: which images are good, which are for the test, and what is known of them.

use std::path::PathBuf;

use pupilla::OpenSettings;
use pyo3::prelude::*;

use crate::errors;

/// The images of a data set.
#[pyclass(frozen, module = "pupilla._core")]
pub struct Dataset(pupilla::Dataset);

#[pymethods]
impl Dataset {
    /// Looks into a folder or a manifest.
    #[staticmethod]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        good: Option<String>,
        recursive: bool,
        category: Option<String>,
    ) -> PyResult<Self> {
        let settings = OpenSettings {
            good,
            recursive,
            category,
        };
        let opened = py.detach(|| pupilla::Dataset::open_with(&path, &settings));
        opened.map(Self).map_err(|error| errors::of(py, error))
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Its folder.
    #[getter]
    fn root(&self) -> PathBuf {
        self.0.root.clone()
    }

    /// How its folders are laid out, in words.
    #[getter]
    fn layout(&self) -> &'static str {
        self.0.layout.name()
    }

    /// The good images to learn from.
    #[getter]
    fn good(&self) -> Vec<PathBuf> {
        self.0.good.clone()
    }

    /// The good images that the data set keeps for validation.
    #[getter]
    fn validation(&self) -> Vec<PathBuf> {
        self.0.validation.clone()
    }

    /// The images to test with.
    #[getter]
    fn test(&self) -> Vec<TestImage> {
        let test = self.0.test.iter().map(|test| TestImage {
            path: test.path.clone(),
            defect: test.defect.clone(),
            masks: match &test.mask {
                Some(mask) => mask.files().to_vec(),
                None => Vec::new(),
            },
        });
        test.collect()
    }
}

/// An image to test with.
#[pyclass(frozen, module = "pupilla._core")]
pub struct TestImage {
    /// The file.
    #[pyo3(get)]
    path: PathBuf,
    /// The kind of its defect; None for a good image.
    #[pyo3(get)]
    defect: Option<String>,
    /// The files that mark its defect.
    #[pyo3(get)]
    masks: Vec<PathBuf>,
}
