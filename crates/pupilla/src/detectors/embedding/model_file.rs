//! The model file of these detectors, see `docs/reference/model-file.md`.

use pupilla_core::image::Size;
use std::path::Path;

use pupilla_core::image::resize::Resize;
use pupilla_files::atomic_file::WriteError;
use pupilla_files::weight_file::{self, NamedTensor, Precision, WeightFile, WeightFileError};
use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::inspect::EmbeddingDetector;
use super::{FittedManifest, Method};
use crate::detectors::kind::DetectorKind;
use crate::features::ExtractorManifest;
use crate::features::grid::Grid;
use crate::manifest::Manifest;

/// The fields that the manifest of an embedding detector adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingManifest {
    /// The settings it was fitted with.
    pub settings: Settings,
    /// What gives the features.
    pub features: ExtractorManifest,
    /// What it keeps of the features of good images.
    pub fitted: FittedManifest,
}

impl EmbeddingManifest {
    /// What it keeps, in words; `None` if its sizes do not fit its method, which loading rules out.
    pub fn kept_in_words(&self) -> Option<String> {
        self.settings.method.any().describe(&self.fitted).ok()
    }
}

/// Before the names of a patch network's arrays.
const TEACHER: &str = "teacher";

impl EmbeddingDetector {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let mut tensors = self.extractor.export(TEACHER);
        // PaDiM's positions, which are those of every image; other layouts do not ask.
        let positions = positions(&self.manifest.method);
        let layout = self.kept.layout(self.extractor.channels(), positions);
        let arrays = layout.into_iter().zip(self.kept.arrays());
        tensors.extend(arrays.map(|((name, shape), values)| NamedTensor {
            name,
            shape,
            values: values.to_vec(),
            precision: Precision::Full,
        }));
        weight_file::write(path, &self.manifest, tensors)
    }

    /// Reads a model and checks all of it.
    ///
    /// # Errors
    /// If the file is not a whole, valid model of this format version, of one of these detectors.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        let kind = DetectorKind::of_name(file.kind());
        let kind = kind.filter(|kind| Method::of(*kind).is_some());
        let expected = kind.map_or("embedding detector", DetectorKind::name);
        let manifest: Manifest<EmbeddingManifest> = file.manifest(expected)?;
        let invalid = |reason: String| file.invalid(reason);
        let channels = check(&manifest, expected).map_err(invalid)?;
        let EmbeddingManifest {
            settings,
            features,
            fitted,
        } = &manifest.method;
        let layout = features.layout(TEACHER);
        let mut wanted = layout.map_err(|error| invalid(error.to_string()))?;
        let positions = positions(&manifest.method);
        let of_kept = settings.method.any().layout(fitted, channels, positions);
        wanted.extend(of_kept.map_err(|reason| file.invalid(reason))?);
        let mut values = file.tensors(&wanted)?.into_iter();
        let extractor = features.build(&mut values);
        let kept = settings.method.any().read(fitted, channels, &mut values);
        let kept = kept.map_err(|reason| file.invalid(reason))?;
        if !kept.is_valid() {
            return Err(invalid(
                "a deviation of its normalisation is not above 0".to_string(),
            ));
        }
        Ok(Self {
            extractor: extractor.map_err(|error| invalid(error.to_string()))?,
            kept,
            manifest,
        })
    }
}

/// Positions of the square that images are resized to; 0 if they are not resized to one.
fn positions(manifest: &EmbeddingManifest) -> usize {
    let Resize::Square(side) = manifest.settings.resize else {
        return 0;
    };
    let Grid { rows, columns, .. } = Grid::new(Size::square(side), manifest.features.stride());
    rows * columns
}

/// Checks the manifest of an untrusted file, before its numbers decide over memory; gives the features a position.
fn check(manifest: &Manifest<EmbeddingManifest>, kind: &str) -> Result<usize, String> {
    manifest.check()?;
    let EmbeddingManifest {
        settings,
        features,
        fitted,
    } = &manifest.method;
    features.check()?;
    let channels = features.channels().map_err(|error| error.to_string())?;
    settings
        .check(channels)
        .map_err(|error| error.to_string())?;
    let found = settings.method.kind().name();
    if found != kind {
        return Err(format!("a {kind} with the settings of {found}"));
    }
    if !settings.method.any().fits(fitted, channels)? {
        return Err("what it has learned fits neither its settings nor its features".to_string());
    }
    Ok(channels)
}
