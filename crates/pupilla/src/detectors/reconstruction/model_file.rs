//! The model file of these detectors, see `docs/reference/model-file.md`.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_files::atomic_file::WriteError;
use pupilla_nn::Graph;
use serde::{Deserialize, Serialize};

use pupilla_files::weight_file::{self, WeightFile, WeightFileError};

use super::Method;
use super::config::Settings;
use super::inspect::ReconstructionDetector;
use super::network::{Network, graph, layout};
use crate::detectors::kind::DetectorKind;
use crate::manifest::{Manifest, Trained};

/// The fields that the manifest of a reconstruction detector adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReconstructionManifest {
    /// The settings it was trained with.
    pub settings: Settings,
    /// Steps that were run.
    pub steps: usize,
    /// Each loss by its name, a mean over the last tenth of the steps.
    pub losses: BTreeMap<String, f64>,
}

/// A trained detector's networks, in which batch norm has been folded.
fn folded_graphs(settings: &Settings) -> [Graph; 2] {
    let mut plans = settings.method.any().plans(settings.side());
    for layer in plans.iter_mut().flatten() {
        layer.normalised = false;
    }
    plans.map(|plan| graph(&plan))
}

impl ReconstructionDetector {
    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), WriteError> {
        let manifest = self.manifest();
        let named = manifest
            .method
            .settings
            .method
            .any()
            .names()
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
        let kind = DetectorKind::of_name(file.kind());
        let kind = kind.filter(|kind| Method::of(*kind).is_some());
        let expected = kind.map_or("reconstruction detector", DetectorKind::name);
        let manifest: Manifest<ReconstructionManifest> = file.manifest(expected)?;
        check(&manifest, expected).map_err(|reason| file.invalid(reason))?;
        let graphs = folded_graphs(&manifest.method.settings);
        let names = manifest.method.settings.method.any().names();
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

/// Checks the manifest of an untrusted file, before its numbers decide over memory.
fn check(manifest: &Manifest<ReconstructionManifest>, kind: &str) -> Result<(), String> {
    manifest.check()?;
    let settings = &manifest.method.settings;
    settings.check().map_err(|error| error.to_string())?;
    let found = settings.method.kind().name();
    if found != kind {
        return Err(format!("a {kind} with the settings of {found}"));
    }
    Ok(())
}
