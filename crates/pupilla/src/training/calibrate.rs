//! The end of a training: scores the validation images, which no step has seen, and finds the thresholds.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Detector;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::{Calibrator, Thresholds, WantedRates};
use pupilla_core::verdict::calibration_run::calibrate_maps;

use crate::error::{ScoreError, TrainError};
use crate::manifest::{CalibrationManifest, Manifest, Trained, ValidationManifest};

/// Scores the validation images with a detector that is otherwise complete, and finds its thresholds if a rate is wanted.
///
/// # Errors
/// If an image cannot be read or scored, or the observer asks to stop.
pub(crate) fn validate<D: Trained + Detector<Error = ScoreError>>(
    detector: &mut D,
    images: &dyn ImageSource,
    wanted: WantedRates,
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    let stop = observer.stop_flag();
    let map = |index: usize| {
        let explained = detector.explain_until(&images.image(index)?, &stop);
        let explained =
            explained.map_err(|source| TrainError::of_image(|| images.name(index), source));
        Ok(explained?.map)
    };
    let (scores, thresholds) = thresholds(images.len(), wanted, observer, map)?;
    record(detector.manifest_mut(), scores, thresholds);
    Ok(())
}

/// Writes scores and thresholds into a manifest.
pub(crate) fn record<M, R>(
    manifest: &mut Manifest<M, R>,
    scores: Vec<f32>,
    thresholds: Option<Thresholds>,
) {
    manifest.validation = ValidationManifest::new(scores);
    manifest.calibration = thresholds.map(|thresholds| CalibrationManifest {
        thresholds,
        sampling: manifest.sampling,
        data: None,
    });
}

/// The scores of `images` validation images, whose maps `map` gives, and the thresholds if a rate is wanted.
///
/// # Errors
/// Those of `map`, and if the observer asks to stop.
pub(crate) fn thresholds(
    images: usize,
    wanted: WantedRates,
    observer: &mut dyn Observer,
    map: impl Fn(usize) -> Result<AnomalyMap, TrainError>,
) -> Result<(Vec<f32>, Option<Thresholds>), TrainError> {
    let calibrator = Calibrator::new(wanted, images);
    let found = calibrate_maps("validation", images, calibrator, None, observer, map)?;
    let thresholds = found
        .thresholds
        .filter(|_| wanted != WantedRates::default());
    Ok((found.scores, thresholds))
}
