//! The model file of these detectors, see `docs/reference/model-file.md`.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_files::atomic_file::WriteError;
use pupilla_nn::Graph;
use serde::{Deserialize, Serialize};

use super::architecture::{names, plans};
use super::config::{Method, Settings};
use super::detector::NetworkDetector;
use super::network::{Network, graph, layout};
use crate::detector_kind::DetectorKind;
use crate::record::{CalibrationManifest, DataManifest, ValidationManifest};
use pupilla_files::weight_file::{self, FileHeader, WeightFile, WeightFileError};

/// Everything about such a detector but its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkManifest {
    /// Kind (the detector's name), format version, program.
    #[serde(flatten)]
    pub header: FileHeader,
    /// The settings it was trained with.
    pub settings: Settings,
    /// Steps that were run.
    pub steps: usize,
    /// Each loss by its name, a mean over the last tenth of the steps.
    pub losses: BTreeMap<String, f64>,
    /// Number of threads of the training run: with the same, it repeats to the byte.
    pub threads: usize,
    /// Where the images came from, if they were files.
    pub data: Option<DataManifest>,
    /// Number of training images (without the validation images).
    pub training_images: usize,
    /// What it says about good images that it was not trained on.
    pub validation: ValidationManifest,
    /// The thresholds where they are not the highest score of a validation image; see
    /// [`calibration()`](Self::calibration()).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationManifest>,
}

impl NetworkManifest {
    /// The detector's thresholds: those stored, or the highest score of a validation image for both.
    pub fn calibration(&self) -> CalibrationManifest {
        let highest = || CalibrationManifest::highest(&self.validation, None);
        self.calibration.clone().unwrap_or_else(highest)
    }
}

/// A trained detector's networks, in which batch norm has been folded.
fn folded_graphs(settings: &Settings) -> [Graph; 2] {
    let mut plans = plans(&settings.method, settings.side());
    for layer in plans.iter_mut().flatten() {
        layer.normalised = false;
    }
    plans.map(|plan| graph(&plan))
}

impl NetworkDetector {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let manifest = self.manifest();
        let named = names(&manifest.settings.method)
            .into_iter()
            .zip(self.networks());
        let tensors = named.flat_map(|(name, network)| network.export(name));
        weight_file::write(path, manifest, tensors.collect())
    }

    /// Reads a model and checks all of it.
    ///
    /// # Errors
    /// If the file is not a whole, valid model of this format version, of one of these detectors.
    pub fn load(path: &Path) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        let kind = file.kind().parse::<DetectorKind>().ok();
        let kind = kind.filter(|kind| Method::of(*kind).is_some());
        let expected = kind.map_or("network detector", DetectorKind::name);
        let manifest: NetworkManifest = file.manifest(expected)?;
        check(&manifest, expected).map_err(|reason| file.invalid(reason))?;
        let graphs = folded_graphs(&manifest.settings);
        let names = names(&manifest.settings.method);
        let wanted: Vec<_> = names
            .into_iter()
            .zip(&graphs)
            .flat_map(|(name, graph)| layout(name, graph))
            .collect();
        let mut arrays = file.tensors(&wanted)?.into_iter();
        let networks = graphs.map(|graph| Network::with_arrays(graph, &mut arrays));
        Ok(Self::new(networks, manifest))
    }
}

/// What the manifest of an untrusted file must satisfy before its numbers decide over memory.
fn check(manifest: &NetworkManifest, kind: &str) -> Result<(), String> {
    let checked = manifest.settings.check();
    checked.map_err(|error| error.to_string())?;
    let found = manifest.settings.method.kind().name();
    if found != kind {
        return Err(format!("a {kind} with the settings of {found}"));
    }
    manifest.validation.check()?;
    if let Some(calibration) = &manifest.calibration {
        calibration.check()?;
    }
    Ok(())
}
