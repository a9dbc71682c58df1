//! Running a detector over good images to find its thresholds.

use crate::data::image_source::ImageSource;
use crate::data::mask::Mask;
use crate::detector::Detector;
use crate::image::read::ReadError;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::SizeMismatch;
use crate::observer::{Observer, Stopped, for_each};
use crate::verdict::INSPECTED;
use crate::verdict::calibration::{Calibrator, Thresholds, WantedRates};

/// A detector could not be calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// There is no good image.
    #[error("there is no good image to calibrate on")]
    NoImages,
    /// An image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The detector refused an image.
    #[error("{image}: {source}")]
    Detector {
        /// The image.
        image: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The mask of the inspected pixels does not fit an image.
    #[error("{image}: {source}")]
    Mask {
        /// The image.
        image: String,
        /// Both sizes.
        source: SizeMismatch,
    },
    /// The observer asked to stop.
    #[error("stopped on request; nothing was written")]
    Stopped,
}

impl From<Stopped> for CalibrationError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// The thresholds of a detector from good images that it has not learned from; of their pixels those count that `inspected` marks. If
/// the images are too few for a wanted rate, the observer gets a warning.
///
/// # Errors
/// [`CalibrationError`]; the first one ends the run.
pub fn calibrate<D: Detector>(
    detector: &D,
    images: &dyn ImageSource,
    wanted: WantedRates,
    inspected: Option<&Mask>,
    observer: &mut dyn Observer,
) -> Result<Thresholds, CalibrationError> {
    let stop = observer.stop_flag();
    let calibrated = calibrate_maps(
        "calibrating",
        images.len(),
        Calibrator::new(wanted, images.len()),
        inspected,
        observer,
        |index| {
            let image = images.image(index)?;
            let place = || images.name(index);
            if let Some(mask) = inspected
                && mask.size() != image.size()
            {
                return Err(CalibrationError::Mask {
                    image: place(),
                    source: SizeMismatch {
                        image: image.size(),
                        what: INSPECTED,
                        other: mask.size(),
                    },
                });
            }
            let explained = detector.explain_until(&image, &stop).map_err(|error| {
                if stop.is_raised() {
                    return CalibrationError::Stopped;
                }
                CalibrationError::Detector {
                    image: place(),
                    source: Box::new(error),
                }
            })?;
            Ok(explained.map)
        },
    )?;
    calibrated.thresholds.ok_or(CalibrationError::NoImages)
}

/// The scores of good images, and their thresholds.
#[derive(Clone, Debug)]
pub struct Calibrated {
    /// The score of each image that has an inspected pixel.
    pub scores: Vec<f32>,
    /// `None` without a score.
    pub thresholds: Option<Thresholds>,
}

/// The loop of every calibration: `map` gives the anomaly map of each of `images` good images, at the size of `inspected`. `stage`
/// names the work for people; `calibrator` is for as many images. If the images are too few for a wanted rate, the observer gets a warning.
///
/// # Errors
/// Those of `map`, or that the observer asks to stop.
pub fn calibrate_maps<E: From<Stopped>>(
    stage: &str,
    images: usize,
    mut calibrator: Calibrator,
    inspected: Option<&Mask>,
    observer: &mut dyn Observer,
    mut map: impl FnMut(usize) -> Result<AnomalyMap, E>,
) -> Result<Calibrated, E> {
    for_each(observer, stage, images, |index| {
        calibrator.add(&map(index)?, inspected);
        Ok::<_, E>(())
    })?;
    let scores = calibrator.scores().to_vec();
    let thresholds = calibrator.finish();
    for warning in thresholds.iter().flat_map(Thresholds::warnings) {
        observer.warn(&warning);
    }
    Ok(Calibrated { scores, thresholds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::observer::Silent;

    /// Scores are the red channel.
    struct Red;

    impl Detector for Red {
        type Error = std::io::Error;

        fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, Self::Error> {
            let red = image
                .pixels()
                .as_chunks::<3>()
                .0
                .iter()
                .map(|pixel| pixel[0]);
            Ok(AnomalyMap::new(
                image.width(),
                image.height(),
                red.collect(),
            ))
        }
    }

    #[test]
    fn good_images_give_thresholds_and_warnings_are_told() {
        #[derive(Default)]
        struct Told(Vec<String>);
        impl Observer for Told {
            fn warn(&mut self, warning: &str) {
                self.0.push(warning.to_string());
            }
        }
        let images: Vec<Image> = (0..5)
            .map(|n| Image::new(1, 1, vec![n as f32; 3]))
            .collect();
        let wanted = WantedRates {
            images: Some("1%".parse().unwrap()),
            pixels: None,
        };
        let mut told = Told::default();
        let thresholds = calibrate(&Red, &images, wanted, None, &mut told).unwrap();
        assert_eq!((thresholds.image.value, thresholds.images), (4.0, 5));
        assert!(
            told.0.len() == 1 && told.0[0].contains("99"),
            "{:?}",
            told.0
        );
        let none = calibrate(&Red, &Vec::new(), wanted, None, &mut Silent);
        assert!(matches!(none, Err(CalibrationError::NoImages)));
        let mask = Mask::good(2, 1);
        let wrong = calibrate(&Red, &images, wanted, Some(&mask), &mut Silent).unwrap_err();
        assert!(wrong.to_string().starts_with("image 0"), "{wrong}");
    }
}
