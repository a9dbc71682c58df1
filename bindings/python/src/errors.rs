//! Errors of the library as exceptions of `pupilla.errors`.

use pupilla_cli::host::{self, ErrorKind};
use pyo3::prelude::*;

/// The exception for an error.
pub fn exception(py: Python<'_>, error: &anyhow::Error) -> PyErr {
    raise(py, host::kind(error), &host::message(error))
}

/// The exception for a kind of error.
pub fn raise(py: Python<'_>, kind: ErrorKind, message: &str) -> PyErr {
    let name = match kind {
        ErrorKind::Setting => "SettingError",
        ErrorKind::Image => "ImageError",
        ErrorKind::Dataset => "DatasetError",
        ErrorKind::Model => "ModelError",
        ErrorKind::Device => "DeviceError",
        ErrorKind::Training => "TrainingError",
        ErrorKind::Inspection => "InspectionError",
        ErrorKind::Stopped | ErrorKind::Other => "PupillaError",
    };
    let class = py
        .import("pupilla.errors")
        .and_then(|errors| errors.getattr(name));
    match class.and_then(|class| class.call1((message,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// The exception for an error of the library.
pub fn of(py: Python<'_>, error: impl Into<anyhow::Error>) -> PyErr {
    exception(py, &error.into())
}
