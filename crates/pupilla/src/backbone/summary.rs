//! The outputs of a network for one image, summarised in numbers for people and programs.

use pupilla_core::image::Image;
use pupilla_nn::Tensor;

use super::output::{FEATURES, Output};
use super::{Backbone, BackboneError, MAX_PIXELS};
use crate::statistics::Moments;

/// An output on an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutputSummary {
    /// Which output.
    pub output: Output,
    /// Rows of its map.
    pub rows: usize,
    /// Columns of its map.
    pub columns: usize,
    /// Mean over all numbers of the map.
    pub mean: f64,
    /// Their (population) standard deviation.
    pub deviation: f64,
}

/// Every output of a network on an image, which is not resized.
///
/// # Errors
/// If the image is too small or too large, or an output is not finite.
pub fn summarise(
    backbone: &dyn Backbone,
    image: &Image,
) -> Result<Vec<OutputSummary>, BackboneError> {
    check_size(image)?;
    let outputs = backbone.outputs();
    let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
    let input = backbone.preprocessing().batch(&[image])?;
    let maps = backbone.maps(&input, &names)?;
    outputs
        .into_iter()
        .zip(maps)
        .map(|(output, map)| {
            let [_, _, rows, columns] = map.shape();
            let moments = Moments::of(finite(output.name, map)?.values());
            Ok(OutputSummary {
                output,
                rows,
                columns,
                mean: moments.mean(),
                deviation: moments.deviation(),
            })
        })
        .collect()
}

/// The pooled features of an image: 512 numbers, or 1280 of EfficientNet-Lite. The image is not resized.
///
/// # Errors
/// If the network has none, the image is too small or too large, or a feature is not finite.
pub fn features(backbone: &dyn Backbone, image: &Image) -> Result<Vec<f32>, BackboneError> {
    check_size(image)?;
    let input = backbone.preprocessing().batch(&[image])?;
    let maps = backbone.maps(&input, &[FEATURES])?;
    let features = maps.into_iter().next().unwrap_or_default();
    Ok(finite(FEATURES, features)?.into_values())
}

/// The network sees the whole image at once.
fn check_size(image: &Image) -> Result<(), BackboneError> {
    let size = image.size();
    if size.area() > MAX_PIXELS {
        return Err(BackboneError::TooLarge { size, zoom: 1 });
    }
    Ok(())
}

/// A map, if all of its numbers are finite.
pub(super) fn finite(output: &'static str, map: Tensor) -> Result<Tensor, BackboneError> {
    if map.values().iter().all(|value| value.is_finite()) {
        Ok(map)
    } else {
        Err(BackboneError::NotFinite { output })
    }
}
