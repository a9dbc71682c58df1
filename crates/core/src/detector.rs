//! The two traits of every method: [`Fit`] for a configuration, [`Detector`] for the trained detector.
//!
//! Configuration and detector are different types on purpose: an untrained detector cannot give an anomaly map.

use crate::data::image_source::ImageSource;
use crate::image::Image;
use crate::map::anomaly_map::AnomalyMap;
use crate::observer::{Observer, StopFlag};
use crate::verdict::attribution::Explained;

/// A configuration that learns from anomaly-free images.
pub trait Fit {
    /// The trained detector.
    type Detector: Detector;
    /// Why fitting failed.
    type Error: std::error::Error;

    /// Learns from `training` images and calibrates its scores on `validation` images: both
    /// anomaly-free, at their original size, and disjoint.
    ///
    /// # Errors
    /// If the configuration contradicts itself or the images, an image cannot be read, the observer
    /// asks to stop, or training diverges.
    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<Self::Detector, Self::Error>;
}

/// A trained detector: an image in, an anomaly map out.
pub trait Detector {
    /// Why an image could not be scored.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The anomaly map of an image of any size, at its original size; higher is more anomalous.
    ///
    /// # Errors
    /// If the image, resized as in training, is too small for the detector.
    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, Self::Error>;

    /// The same map with its parts, whose sum it is; no parts if the detector cannot tell.
    ///
    /// # Errors
    /// As [`anomaly_map`](Self::anomaly_map).
    fn explain(&self, image: &Image) -> Result<Explained, Self::Error> {
        Ok(Explained {
            map: self.anomaly_map(image)?,
            parts: Vec::new(),
        })
    }
    /// [`explain`](Self::explain), given up soon after `stop` is raised. A detector that cannot stop inside of an image finishes it.
    ///
    /// # Errors
    /// As [`anomaly_map`](Self::anomaly_map), and if the work was asked to stop.
    fn explain_until(&self, image: &Image, stop: &StopFlag) -> Result<Explained, Self::Error> {
        let _ = stop;
        self.explain(image)
    }
}
