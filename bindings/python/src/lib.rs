//! The Python module `pupilla._core`: the library and the program for the package `pupilla`, whose Python files say how they are used.
//!
//! [`images`] takes images in, [`work`] runs long calls without the interpreter's lock, [`model`] and [`data`] are the classes,
//! [`commands`] are the program's commands, and [`errors`] turns errors into exceptions.

mod commands;
mod data;
mod errors;
mod images;
mod model;
mod work;

/// The library and the program, compiled. Use the package `pupilla`.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use super::commands::{
        calibrate, check, evaluate, images, main, plan, score, score_masks, settings, train,
        version, words,
    };
    #[pymodule_export]
    use super::data::{Dataset, TestImage};
    #[pymodule_export]
    use super::images::{Image, image_suffixes};
    #[pymodule_export]
    use super::model::{Inspection, Model};
    #[pymodule_export]
    use super::work::{device, set_device, set_threads, threads};
}
