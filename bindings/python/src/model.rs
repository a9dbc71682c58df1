//! A trained detector, and what it finds in an image.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{ImageFormat, RgbImage};
use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray2};
use pupilla::{Detector, Sampling};
use pupilla_cli::host::ErrorKind;
use pupilla_core::data::Acquisition;
use pupilla_core::data::mask::Mask;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::map_file;
use pupilla_core::observer::{Observer, Stopped};
use pupilla_core::verdict::Rule;
use pupilla_core::verdict::region::{Regions, draw_regions};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pythonize::pythonize;
use serde_json::Value;

use crate::errors;
use crate::images::Image;
use crate::work;

/// A trained detector.
#[pyclass(frozen, module = "pupilla._core")]
pub struct Model(pub Arc<pupilla::Model>);

impl From<pupilla::Model> for Model {
    fn from(model: pupilla::Model) -> Self {
        Self(Arc::new(model))
    }
}

#[pymethods]
impl Model {
    /// Reads a model file.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let model = py.detach(|| pupilla::Model::load(&path));
        model.map(Self::from).map_err(|error| errors::of(py, error))
    }

    /// Reads the bytes of a model file; `name` is its name in errors.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, content: &Bound<'_, PyBytes>, name: &str) -> PyResult<Self> {
        let content = content.as_bytes().to_vec();
        let model = py.detach(|| pupilla::Model::from_bytes(Path::new(name), content));
        model.map(Self::from).map_err(|error| errors::of(py, error))
    }

    /// Writes the model; the file appears whole or not at all.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let saved = py.detach(|| self.0.save(path));
        saved.map_err(|error| errors::of(py, error))
    }

    /// The model, computing at every pixel (`dense`) or within a memory limit in bytes: settings of student-teacher.
    fn computing(&self, py: Python<'_>, dense: bool, memory: Option<usize>) -> PyResult<Self> {
        let mut model = (*self.0).clone();
        let changed = (|| {
            if dense {
                let students = model.student_teacher("dense")?;
                model = students.with_sampling(Sampling::Dense).into();
            }
            if let Some(limit) = memory {
                let students = model.student_teacher("memory")?;
                model = students.with_memory(limit).into();
            }
            Ok::<_, pupilla::DoesNotApply>(model)
        })();
        changed
            .map(Self::from)
            .map_err(|error| errors::of(py, error))
    }

    /// The name of its detector.
    #[getter]
    fn detector(&self) -> String {
        self.0.kind().to_string()
    }

    /// The image threshold.
    #[getter]
    fn threshold(&self) -> f32 {
        self.0.rule().image_threshold
    }

    /// The pixel threshold.
    #[getter]
    fn pixel_threshold(&self) -> f32 {
        self.0.rule().pixel_threshold
    }

    /// Everything about it but its arrays, as `pupilla info --json` gives it.
    fn manifest<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let manifest: Value =
            serde_json::to_value(self.0.manifest()).map_err(|error| errors::of(py, error))?;
        Ok(pythonize(py, &manifest)?)
    }

    /// Judges an image. `roi` marks the inspected pixels, `[height, width]`. Without a threshold, the model's thresholds decide.
    #[pyo3(signature = (image, threshold, pixel_threshold, min_area, roi))]
    fn inspect(
        &self,
        py: Python<'_>,
        image: &Image,
        threshold: Option<f32>,
        pixel_threshold: Option<f32>,
        min_area: usize,
        roi: Option<PyReadonlyArray2<'_, bool>>,
    ) -> PyResult<Inspection> {
        let of_model = self.0.rule();
        let rule = Rule {
            image_threshold: threshold.unwrap_or(of_model.image_threshold),
            pixel_threshold: pixel_threshold
                .or(threshold)
                .unwrap_or(of_model.pixel_threshold),
            min_area,
            inspected: roi.map(|roi| mask(py, &roi)).transpose()?,
        };
        let model = &self.0;
        let bits = model.read_settings().bits;
        let (stored, name) = (&image.stored, &image.name);
        let rule_of_work = &rule;
        let (map, verdict, unlike_training) = work::run(py, None, move |progress| {
            let (image, stored) = stored.to_image(name, bits)?;
            let stop = progress.stop_flag();
            let explained = model.explain_until(&image, &stop).map_err(|error| {
                if stop.is_raised() {
                    anyhow::Error::from(Stopped)
                } else {
                    anyhow::Error::from(error).context(name.display().to_string())
                }
            })?;
            let verdict = rule_of_work.judge(&explained)?;
            let unlike = model.unlike_training(&Acquisition::of(&image, &stored));
            Ok((explained.map, verdict, unlike))
        })?;
        let verdict: Value =
            serde_json::to_value(&verdict).map_err(|error| errors::of(py, error))?;
        Ok(Inspection {
            verdict: pythonize(py, &verdict)?.unbind(),
            map: array(py, map)?.unbind(),
            unlike_training,
            rule,
            model: Arc::clone(&self.0),
            image: Image {
                stored: Arc::clone(&image.stored),
                name: image.name.clone(),
            },
        })
    }
}

/// What a model finds in an image.
#[pyclass(frozen, module = "pupilla._core")]
pub struct Inspection {
    verdict: Py<PyAny>,
    map: Py<PyArray2<f32>>,
    unlike_training: Option<Vec<String>>,
    rule: Rule,
    model: Arc<pupilla::Model>,
    image: Image,
}

#[pymethods]
impl Inspection {
    /// Score, verdict, parts and regions, as the program's JSON has them.
    #[getter]
    fn verdict<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.verdict.bind(py).clone()
    }

    /// The anomaly map, `[height, width]`.
    #[getter]
    fn anomaly_map<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<f32>> {
        self.map.bind(py).clone()
    }

    /// The pixels of the regions, `[height, width]`.
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let map = self.copied_map(py)?;
        let marked: Vec<bool> = py.detach(|| {
            let labels = self.regions(&map).labels;
            labels.into_iter().map(|label| label > 0).collect()
        });
        let marked = PyArray1::from_vec(py, marked);
        Ok(marked.reshape([map.height(), map.width()])?.into_any())
    }

    /// How the image was taken otherwise than the images that the model has learned from; None if the model does not know.
    #[getter]
    fn unlike_training(&self) -> Option<Vec<String>> {
        self.unlike_training.clone()
    }

    /// The image threshold of the verdict.
    #[getter]
    fn threshold(&self) -> f32 {
        self.rule.image_threshold
    }

    /// The pixel threshold of the regions.
    #[getter]
    fn pixel_threshold(&self) -> f32 {
        self.rule.pixel_threshold
    }

    /// The path of the image, or its name in errors.
    #[getter]
    fn name(&self) -> PathBuf {
        self.image.name.clone()
    }

    /// The image with coloured scores and outlined regions, `[height, width, 3]`, as `pupilla inspect --out` draws it.
    fn heatmap<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<u8>>> {
        let picture = self.picture(py)?;
        let shape = [picture.height() as usize, picture.width() as usize, 3];
        PyArray1::from_vec(py, picture.into_raw()).reshape(shape)
    }

    /// The heatmap as a PNG.
    fn heatmap_png<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let picture = self.picture(py)?;
        let content = py.detach(|| {
            let mut content = Vec::new();
            let written = picture.write_to(&mut Cursor::new(&mut content), ImageFormat::Png);
            written.map(|()| content)
        });
        let content = content.map_err(|error| errors::of(py, error))?;
        Ok(PyBytes::new(py, &content))
    }

    /// Writes the anomaly map as a 32-bit float TIFF, as `pupilla inspect --out` does.
    fn save_map(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let map = self.copied_map(py)?;
        let written = py.detach(|| map_file::write(&path, &map));
        written.map_err(|error| errors::of(py, error))
    }
}

impl Inspection {
    fn copied_map(&self, py: Python<'_>) -> PyResult<AnomalyMap> {
        let map = self.map.bind(py).readonly();
        copied(py, &map)
    }

    fn regions(&self, map: &AnomalyMap) -> Regions {
        let rule = &self.rule;
        Regions::find(
            map,
            rule.pixel_threshold,
            rule.inspected.as_ref(),
            rule.min_area,
        )
    }

    fn picture(&self, py: Python<'_>) -> PyResult<RgbImage> {
        let map = self.copied_map(py)?;
        let (stored, name) = (&self.image.stored, &self.image.name);
        let drawn = py.detach(|| {
            let (image, _) = stored.to_image(name, self.model.read_settings().bits)?;
            let heatmap = self.model.kind().heatmap(self.rule.image_threshold);
            let mut picture = heatmap.overlay(&image, &map)?;
            draw_regions(&mut picture, &self.regions(&map).regions, 1.0);
            Ok::<_, anyhow::Error>(picture)
        });
        drawn.map_err(|error| errors::exception(py, &error))
    }
}

/// The map as an array that takes over its memory.
pub fn array(py: Python<'_>, map: AnomalyMap) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let shape = [map.height(), map.width()];
    PyArray1::from_vec(py, map.into_scores()).reshape(shape)
}

/// An anomaly map from an array.
pub fn copied(py: Python<'_>, array: &PyReadonlyArray2<'_, f32>) -> PyResult<AnomalyMap> {
    let view = array.as_array();
    let (height, width) = view.dim();
    if view.is_empty() {
        let text = "an anomaly map has no pixel: give [height, width]";
        return Err(errors::raise(py, ErrorKind::Image, text));
    }
    Ok(AnomalyMap::new(
        width,
        height,
        view.iter().copied().collect(),
    ))
}

/// A mask from an array.
pub fn mask(py: Python<'_>, array: &PyReadonlyArray2<'_, bool>) -> PyResult<Mask> {
    let view = array.as_array();
    let (height, width) = view.dim();
    if view.is_empty() {
        let text = "a mask has no pixel: give [height, width]";
        return Err(errors::raise(py, ErrorKind::Image, text));
    }
    Ok(Mask::new(width, height, view.iter().copied().collect()))
}
