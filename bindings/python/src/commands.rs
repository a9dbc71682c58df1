//! The program's commands, with values in place of files where Python has them.

use std::ffi::OsString;
use std::path::PathBuf;

use numpy::PyReadonlyArray2;
use pupilla_cli::host::{self, Given, Images, Maps, Outcome, SettingKind};
use pupilla_core::data::image_source::Listed;
use pupilla_core::evaluate::map_run::LabelledMap;
use pyo3::prelude::*;
use pythonize::pythonize;

use crate::errors;
use crate::images::Image;
use crate::model::{Model, copied, mask};
use crate::work;

/// A setting: True or False, or a list of texts.
#[derive(FromPyObject)]
pub enum Value {
    Switch(bool),
    Values(Vec<OsString>),
}

/// Settings by their names.
type Settings = Vec<(String, Value)>;

fn given(settings: Settings) -> host::Settings {
    let given = settings.into_iter().map(|(name, value)| {
        let value = match value {
            Value::Switch(value) => Given::Switch(value),
            Value::Values(values) => Given::Values(values),
        };
        (name, value)
    });
    given.collect()
}

/// Images to learn from: a path, a list of paths, or a list of images.
#[derive(FromPyObject)]
pub enum Data<'py> {
    Folder(PathBuf),
    Files(Vec<PathBuf>),
    Held(Vec<Bound<'py, Image>>),
}

impl From<Data<'_>> for Images {
    fn from(data: Data<'_>) -> Self {
        match data {
            Data::Folder(path) => Self::Folder(path),
            Data::Files(paths) => Self::Listed(Listed::Files(paths)),
            Data::Held(images) => {
                let images = images.iter().map(|image| image.get().stored.clone());
                Self::Listed(Listed::Held(images.collect()))
            }
        }
    }
}

/// The program: `words` are its name and its arguments, `own_command` starts it. Gives the exit status.
#[pyfunction]
pub fn main(py: Python<'_>, words: Vec<OsString>, own_command: Vec<OsString>) -> u8 {
    host::start_with(own_command);
    py.detach(|| pupilla_cli::main(words))
}

/// The version of the program.
#[pyfunction]
pub fn version() -> &'static str {
    pupilla_cli::VERSION
}

/// Name, description, kind ("switch", "value" or "path") of each setting of a command, and whether it takes a list.
#[pyfunction]
pub fn settings(command: &str) -> Vec<(String, String, &'static str, bool)> {
    let settings = host::settings(command).into_iter().map(|setting| {
        let kind = match setting.kind {
            SettingKind::Switch => "switch",
            SettingKind::Value => "value",
            SettingKind::Path => "path",
        };
        (setting.name, setting.help, kind, setting.repeated)
    });
    settings.collect()
}

/// The words of the program's command line for a command with these settings.
#[pyfunction]
pub fn words(
    py: Python<'_>,
    command: &str,
    data: Vec<PathBuf>,
    settings: Settings,
) -> PyResult<Vec<OsString>> {
    let data: Vec<_> = data.iter().map(PathBuf::as_path).collect();
    let words = host::checked_words(command, &data, given(settings));
    words.map_err(|error| errors::exception(py, &error))
}

/// Trains a detector.
#[pyfunction]
pub fn train(
    py: Python<'_>,
    data: Data<'_>,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Model> {
    let (images, settings) = (data.into(), given(settings));
    let outcome = work::run(py, Some(listener), move |progress| {
        host::train(images, settings, false, progress)
    })?;
    match outcome {
        Outcome::Model(model) => Ok((*model).into()),
        Outcome::Plan(_) => unreachable!("no plan was asked for"),
    }
}

/// What a training would take.
#[pyfunction]
pub fn plan<'py>(
    py: Python<'py>,
    data: Data<'_>,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (images, settings) = (data.into(), given(settings));
    let outcome = work::run(py, Some(listener), move |progress| {
        host::train(images, settings, true, progress)
    })?;
    match outcome {
        Outcome::Plan(plan) => Ok(pythonize(py, &plan)?),
        Outcome::Model(_) => {
            let text = "the detector is not trained in steps: there is nothing to plan";
            Err(errors::raise(py, host::ErrorKind::Setting, text))
        }
    }
}

/// The model with new thresholds.
#[pyfunction]
pub fn calibrate(
    py: Python<'_>,
    model: &Model,
    data: Data<'_>,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Model> {
    let (images, settings) = (data.into(), given(settings));
    let model = (*model.0).clone();
    let calibrated = work::run(py, Some(listener), move |progress| {
        host::calibrate(model, images, settings, progress)
    })?;
    Ok(calibrated.into())
}

/// Measures a model on a data set: the evaluation, and the pages that were written.
#[pyfunction]
pub fn evaluate<'py>(
    py: Python<'py>,
    model: &Model,
    name: PathBuf,
    data: PathBuf,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Vec<PathBuf>)> {
    let (model, settings) = ((*model.0).clone(), given(settings));
    let (evaluation, pages) = work::run(py, Some(listener), move |progress| {
        host::evaluate(model, &name, &data, settings, progress)
    })?;
    Ok((pythonize(py, &evaluation)?, pages))
}

/// The images that the program inspects in a folder, or the file itself.
#[pyfunction]
pub fn images(
    py: Python<'_>,
    path: PathBuf,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Vec<PathBuf>> {
    work::run(py, Some(listener), move |progress| {
        host::images(&path, progress)
    })
}

/// Looks for problems of a data set.
#[pyfunction]
pub fn check<'py>(
    py: Python<'py>,
    data: PathBuf,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let settings = given(settings);
    let found = work::run(py, Some(listener), move |progress| {
        host::check(&data, settings, progress)
    })?;
    Ok(pythonize(py, &found)?)
}

/// Anomaly maps: a folder, or arrays `[height, width]` in the order of the data set.
#[derive(FromPyObject)]
pub enum GivenMaps<'py> {
    Folder(PathBuf),
    Held(Vec<PyReadonlyArray2<'py, f32>>),
}

/// Measures anomaly maps against a data set.
#[pyfunction]
pub fn score<'py>(
    py: Python<'py>,
    maps: GivenMaps<'_>,
    data: PathBuf,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let maps = match maps {
        GivenMaps::Folder(folder) => Maps::Folder(folder),
        GivenMaps::Held(maps) => {
            let maps = maps.iter().map(|map| copied(py, map));
            Maps::Held(maps.collect::<PyResult<_>>()?)
        }
    };
    let settings = given(settings);
    let evaluation = work::run(py, Some(listener), move |progress| {
        host::score(&maps, &data, settings, progress)
    })?;
    Ok(pythonize(py, &evaluation)?)
}

/// Measures anomaly maps against masks. Each image has a map, the kind of its defect (None: it is good) and a mask (None: a good image,
/// or the place of the defect is not known).
#[pyfunction]
pub fn score_masks<'py>(
    py: Python<'py>,
    maps: Vec<PyReadonlyArray2<'_, f32>>,
    defects: Vec<Option<String>>,
    masks: Vec<Option<PyReadonlyArray2<'_, bool>>>,
    settings: Settings,
    listener: &Bound<'_, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let images = maps.iter().zip(defects).zip(&masks);
    let labelled = images.map(|((map, defect), given)| {
        Ok(LabelledMap {
            map: copied(py, map)?,
            defect,
            mask: given.as_ref().map(|given| mask(py, given)).transpose()?,
        })
    });
    let labelled = labelled.collect::<PyResult<Vec<_>>>()?;
    let settings = given(settings);
    let evaluation = work::run(py, Some(listener), move |progress| {
        host::score_labelled(&labelled, settings, progress)
    })?;
    Ok(pythonize(py, &evaluation)?)
}
