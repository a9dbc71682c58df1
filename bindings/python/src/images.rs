//! Images of Python: the path or the bytes of a file, or an array.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use numpy::{Element, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pupilla::Size;
use pupilla_cli::host::ErrorKind;
use pupilla_core::image::read::{self, Limits, StoredImage, Values};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

/// What the names of image files end in, in lower case, as ".png".
#[pyfunction]
pub fn image_suffixes() -> Vec<String> {
    let suffixes = read::IMAGE_EXTENSIONS.iter();
    suffixes.map(|extension| format!(".{extension}")).collect()
}

/// An image, decoded, with its values as they are stored.
#[pyclass(frozen, module = "pupilla._core")]
pub struct Image {
    pub stored: Arc<StoredImage>,
    /// The path, or what errors call the image.
    pub name: PathBuf,
}

#[pymethods]
impl Image {
    /// Reads a file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let stored = py.detach(|| read::stored(&path, &Limits::default()));
        Self::of(py, path, stored)
    }

    /// Reads the bytes of a file; `name` is its name in errors.
    #[staticmethod]
    fn decode(py: Python<'_>, content: &Bound<'_, PyBytes>, name: &str) -> PyResult<Self> {
        let (path, content) = (PathBuf::from(name), content.as_bytes().to_vec());
        let stored = py.detach(|| read::decode_bytes(&path, content, &Limits::default()));
        Self::of(py, path, stored)
    }

    /// Takes an array of uint8, uint16 or float32 values, `[height, width]` or `[height, width, 3]`, in C order; `name` is its name in
    /// errors.
    #[staticmethod]
    fn of_array(py: Python<'_>, array: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let values = |values| Self::of_values(py, array, values, name);
        if let Some(found) = contents::<u8>(array) {
            values(Values::Bits8(found))
        } else if let Some(found) = contents::<u16>(array) {
            values(Values::Bits16(found))
        } else if let Some(found) = contents::<f32>(array) {
            values(Values::Float(found))
        } else {
            let text = format!("{name} is no array of uint8, uint16 or float32 in C order");
            Err(errors::raise(py, ErrorKind::Image, &text))
        }
    }

    /// Width in pixels.
    #[getter]
    fn width(&self) -> usize {
        self.stored.size().width
    }

    /// Height in pixels.
    #[getter]
    fn height(&self) -> usize {
        self.stored.size().height
    }

    /// The path, or what errors call the image.
    #[getter]
    fn name(&self) -> String {
        self.name.display().to_string()
    }
}

impl Image {
    fn of(
        py: Python<'_>,
        name: PathBuf,
        stored: Result<StoredImage, read::ReadError>,
    ) -> PyResult<Self> {
        match stored {
            Ok(stored) => Ok(Self {
                stored: Arc::new(stored),
                name,
            }),
            Err(error) => Err(errors::of(py, error)),
        }
    }

    fn of_values(
        py: Python<'_>,
        array: &Bound<'_, PyAny>,
        values: Values,
        name: &str,
    ) -> PyResult<Self> {
        let shape: Vec<usize> = array.getattr("shape")?.extract()?;
        let stored = match shape[..] {
            [height, width] | [height, width, 3] => {
                StoredImage::of_values(Size::new(width, height), values)
            }
            _ => None,
        };
        match stored {
            Some(stored) => Ok(Self {
                stored: Arc::new(stored),
                name: Path::new(name).to_path_buf(),
            }),
            None => {
                let text = format!(
                    "{name} has the shape {shape:?}: give [height, width] or [height, width, 3], with at least one pixel"
                );
                Err(errors::raise(py, ErrorKind::Image, &text))
            }
        }
    }
}

/// The values of an array, copied, if it is of this type and in C order.
fn contents<T: Element + Copy>(array: &Bound<'_, PyAny>) -> Option<Vec<T>> {
    let array: PyReadonlyArrayDyn<'_, T> = array.extract().ok()?;
    let slice = array.as_slice().ok()?;
    array.is_c_contiguous().then(|| slice.to_vec())
}
