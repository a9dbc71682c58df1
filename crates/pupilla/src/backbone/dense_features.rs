//! Features at any position of an image: the joined maps of a pretrained network, interpolated between their pixels.
//!
//! A patch descriptor sees only its patch. A deep map sees the network's receptive field, which is much larger. Enlarging the image
//! before the network sees it ([`DenseFeatures::zoom`]) makes both about equally large (as in EfficientAD, Batzner et al., WACV 2024,
//! whose backbone sees 512² where its patch network sees 256²).

use pupilla_core::image::Size;
use std::ops::RangeInclusive;

use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_image;
use pupilla_core::observer::StopFlag;
use pupilla_nn::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::summary::finite;
use super::{Backbone, BackboneConfig, BackboneError, Output};
use crate::patch_network::MAX_DESCRIPTOR_CHANNELS;

/// How many times an image may be enlarged.
pub(crate) const ZOOMS: RangeInclusive<usize> = 1..=8;

/// More pixels than this a network does not see at once: it would take several gigabytes.
pub(crate) const MAX_PIXELS: usize = 1 << 25;

/// Which maps of a network describe a position, and how they are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseFeatures {
    /// Names of the outputs, whose channels are joined in this order.
    pub outputs: Vec<String>,
    /// How many times larger than the image the network's input is, 1 to 8.
    pub zoom: usize,
    /// Whether each map is averaged over 3×3 of its pixels first (as in PatchCore, Roth et al., CVPR 2022).
    pub smooth: bool,
}

/// Positions of an image: pixel centres lie at whole numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positions {
    /// Row and column of the first position, in pixels; beyond the image, the nearest features are taken.
    pub first: [f32; 2],
    /// Distance of neighbouring positions in pixels.
    pub stride: f32,
    /// Number of rows and columns of positions.
    pub size: [usize; 2],
}

impl Positions {
    /// The same positions in the image with `margin` pixels more on every side.
    pub(crate) fn moved(&self, margin: usize) -> Self {
        Self {
            first: self.first.map(|at| at + margin as f32),
            ..*self
        }
    }
}

impl DenseFeatures {
    /// Layer 2 and layer 3 of ResNet-18, fire5 and fire9 of SqueezeNet, of stride 8 and 16; stages 1, 2, 3 and 5 of EfficientNet-Lite,
    /// of stride 2, 4, 8 and 16; or those of them that a shortened network has.
    ///
    /// # Errors
    /// [`BackboneError::NoMaps`] if the network has no map at all.
    pub fn usual(backbone: &dyn Backbone, zoom: usize) -> Result<Self, BackboneError> {
        const USUAL: [&str; 8] = [
            "layer2", "layer3", "fire5", "fire9", "stage1", "stage2", "stage3", "stage5",
        ];
        let maps: Vec<_> = backbone
            .outputs()
            .into_iter()
            .filter(|output| output.stride.is_some())
            .collect();
        let mut outputs: Vec<_> = maps
            .iter()
            .filter(|output| USUAL.contains(&output.name))
            .map(|output| output.name.to_string())
            .collect();
        if outputs.is_empty() {
            outputs.extend(maps.last().map(|output| output.name.to_string()));
        }
        if outputs.is_empty() {
            return Err(BackboneError::NoMaps {
                network: backbone.config().name(),
            });
        }
        Ok(Self {
            outputs,
            zoom,
            smooth: true,
        })
    }

    /// The outputs of a network that have these names, each a map.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn of(&self, backbone: &dyn Backbone) -> Result<Vec<Output>, BackboneError> {
        self.check(&backbone.config())
    }

    /// The outputs of a network that have these names, each a map. Checks that all settings fit the network, because they may come from
    /// an untrusted file.
    ///
    /// # Errors
    /// If the network lacks an output, an output is no map or is named twice, there is no channel or there are too many, or the zoom is
    /// not 1 to 8.
    pub fn check(&self, network: &BackboneConfig) -> Result<Vec<Output>, BackboneError> {
        let wrong = |reason| BackboneError::Features {
            network: network.name(),
            reason,
        };
        if !ZOOMS.contains(&self.zoom) {
            return Err(wrong(format!(
                "the zoom is {}, not {} to {}",
                self.zoom,
                ZOOMS.start(),
                ZOOMS.end()
            )));
        }
        let available: Vec<_> = network
            .outputs()
            .into_iter()
            .filter(|output| output.stride.is_some())
            .collect();
        let outputs = self
            .outputs
            .iter()
            .map(|wanted| {
                let found = available.iter().find(|output| output.name == wanted);
                found.copied().ok_or_else(|| {
                    let names: Vec<_> = available.iter().map(|output| output.name).collect();
                    BackboneError::NoOutput {
                        network: network.name(),
                        wanted: wanted.clone(),
                        available: names.join(", "),
                    }
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut names = self.outputs.iter();
        if let Some(twice) =
            names.find(|name| self.outputs.iter().filter(|other| other == name).count() > 1)
        {
            return Err(wrong(format!("the output {twice} is named twice")));
        }
        let channels: usize = outputs.iter().map(|output| output.channels).sum();
        if !(1..=MAX_DESCRIPTOR_CHANNELS).contains(&channels) {
            return Err(wrong(format!(
                "{} outputs have {channels} channels, not 1 to {MAX_DESCRIPTOR_CHANNELS}",
                outputs.len()
            )));
        }
        Ok(outputs)
    }

    /// Length of a descriptor.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn channels(&self, backbone: &dyn Backbone) -> Result<usize, BackboneError> {
        let outputs = self.of(backbone)?;
        Ok(outputs.iter().map(|output| output.channels).sum())
    }

    /// The features of an image at some positions, `[channels, rows, columns]`. The image is seen as a
    /// whole: memory grows with it.
    ///
    /// # Errors
    /// As [`maps`](Self::maps).
    pub fn describe(
        &self,
        backbone: &dyn Backbone,
        image: &Image,
        positions: &Positions,
    ) -> Result<Vec<f32>, BackboneError> {
        let maps = self.maps(backbone, image, &StopFlag::default())?;
        Ok(maps.at(positions))
    }

    /// The network's maps of an image, to be read at any position. The image is seen as a whole: memory grows with it.
    ///
    /// # Errors
    /// As [`check`](Self::check), and if the image is too small for the network, too large once enlarged,
    /// the features are not finite, or `stop` is raised.
    pub fn maps(
        &self,
        backbone: &dyn Backbone,
        image: &Image,
        stop: &StopFlag,
    ) -> Result<FeatureMaps, BackboneError> {
        let outputs = self.of(backbone)?;
        let seen = self.seen_size(image.size())?;
        let input = if self.zoom == 1 {
            backbone.preprocessing().batch(&[image])?
        } else {
            let enlarged = resize_image(image, seen);
            backbone.preprocessing().batch(&[&enlarged])?
        };
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        let maps = backbone.maps_until(&input, &names, stop)?;
        let maps = outputs.into_iter().zip(maps);
        let maps = maps.map(|(output, map)| Ok((output, finite(output.name, map)?)));
        Ok(FeatureMaps {
            maps: maps.collect::<Result<_, BackboneError>>()?,
            seen: [seen.height, seen.width],
            zoom: self.zoom,
            smooth: self.smooth,
        })
    }

    /// The size of the network's input for an image of this size.
    ///
    /// # Errors
    /// [`BackboneError::TooLarge`].
    pub fn seen_size(&self, size: Size) -> Result<Size, BackboneError> {
        let seen = size.map(|side| side.saturating_mul(self.zoom));
        if seen.area() > MAX_PIXELS {
            let zoom = self.zoom;
            return Err(BackboneError::TooLarge { size, zoom });
        }
        Ok(seen)
    }
}

/// The maps of a network of one image, to be read at any position.
#[derive(Clone, Debug)]
pub struct FeatureMaps {
    /// Of each output, its map `[1, channels, height, width]`.
    maps: Vec<(Output, Tensor)>,
    /// Height and width of the network's input.
    seen: [usize; 2],
    zoom: usize,
    smooth: bool,
}

impl FeatureMaps {
    /// Bytes of all maps.
    pub(crate) fn bytes(&self) -> usize {
        let values: usize = self.maps.iter().map(|(_, map)| map.values().len()).sum();
        values * size_of::<f32>()
    }

    /// The features at some positions, `[channels, rows, columns]`.
    pub fn at(&self, positions: &Positions) -> Vec<f32> {
        let area = positions.size[0] * positions.size[1];
        let mut features = Vec::new();
        if area == 0 {
            return features;
        }
        for (output, map) in &self.maps {
            let [_, _, height, width] = map.shape();
            let taps = [
                self.taps(output, positions, 0, height),
                self.taps(output, positions, 1, width),
            ];
            let start = features.len();
            features.resize(start + output.channels * area, 0.0);
            features[start..]
                .par_chunks_exact_mut(area)
                .zip(map.values().par_chunks_exact(height * width))
                .for_each(|(target, plane)| read_plane(plane, width, &taps, target));
        }
        features
    }

    /// Where the positions along one axis (0: rows) lie on a map of `size` pixels.
    fn taps(&self, output: &Output, positions: &Positions, axis: usize, size: usize) -> Vec<Tap> {
        let stride = output.stride.unwrap_or(1) as f64;
        let first = output.first_centre(self.seen[axis]) as f64;
        let zoom = self.zoom as f64;
        (0..positions.size[axis])
            .map(|index| {
                let pixel =
                    f64::from(positions.first[axis]) + index as f64 * f64::from(positions.stride);
                let enlarged = (pixel + 0.5) * zoom - 0.5;
                let place = (enlarged - first) / stride;
                Tap::at(place.clamp(0.0, (size - 1) as f64), size, self.smooth)
            })
            .collect()
    }
}

/// The pixels of a map's line that a position is read from, and their weights.
struct Tap {
    first: usize,
    /// Of the pixels from `first` on; unused ones are 0.
    weights: [f32; 4],
    len: usize,
}

impl Tap {
    /// Linear interpolation at `place`, of the line itself or of its running means over three pixels
    /// (two at its ends).
    fn at(place: f64, size: usize, smooth: bool) -> Self {
        let before = (place.floor() as usize).min(size - 1);
        let after = (before + 1).min(size - 1);
        let share = place - before as f64;
        let radius = usize::from(smooth);
        let first = before.saturating_sub(radius);
        let end = (after + radius + 1).min(size);
        let mut weights = [0.0f64; 4];
        for (pixel, part) in [(before, 1.0 - share), (after, share)] {
            let window = pixel.saturating_sub(radius)..(pixel + radius + 1).min(size);
            let each = part / window.len() as f64;
            for at in window {
                weights[at - first] += each;
            }
        }
        Self {
            first,
            weights: weights.map(|weight| weight as f32),
            len: end - first,
        }
    }

    fn parts(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        (self.first..).zip(self.weights).take(self.len)
    }
}

/// Reads a plane of `width` pixels a row at rows and columns of positions.
fn read_plane(plane: &[f32], width: usize, [rows, columns]: &[Vec<Tap>; 2], target: &mut [f32]) {
    let mut line = vec![0.0f32; width];
    for (row, target) in rows.iter().zip(target.chunks_exact_mut(columns.len())) {
        line.fill(0.0);
        for (at, weight) in row.parts() {
            for (sum, value) in line.iter_mut().zip(&plane[at * width..][..width]) {
                *sum += weight * value;
            }
        }
        for (value, column) in target.iter_mut().zip(columns) {
            *value = column.parts().map(|(at, weight)| weight * line[at]).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running mean and the interpolation as two obvious steps.
    fn slow(line: &[f64], place: f64, smooth: bool) -> f64 {
        let size = line.len();
        let smoothed: Vec<f64> = (0..size)
            .map(|at| {
                let window = if smooth {
                    at.saturating_sub(1)..(at + 2).min(size)
                } else {
                    at..at + 1
                };
                line[window.clone()].iter().sum::<f64>() / window.len() as f64
            })
            .collect();
        let before = place.floor() as usize;
        let after = (before + 1).min(size - 1);
        let share = place - place.floor();
        smoothed[before] * (1.0 - share) + smoothed[after] * share
    }

    proptest::proptest! {
        #[test]
        fn a_tap_is_a_mean_and_an_interpolation(
            line in proptest::collection::vec(-1.0f64..1.0, 1..9),
            share in 0.0f64..=1.0,
            smooth: bool,
        ) {
            let place = share * (line.len() - 1) as f64;
            let tap = Tap::at(place, line.len(), smooth);
            let found: f64 = tap.parts().map(|(at, weight)| line[at] * f64::from(weight)).sum();
            let expected = slow(&line, place, smooth);
            proptest::prop_assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        }
    }

    #[test]
    fn planes_are_read_along_both_axes() {
        // A plane that is linear in both directions keeps its values.
        let plane: Vec<f32> = (0..20).map(|at| (at / 5 * 10 + at % 5) as f32).collect();
        let places = |places: &[f64], size| {
            places
                .iter()
                .map(|&place| Tap::at(place, size, false))
                .collect::<Vec<_>>()
        };
        let taps = [places(&[0.0, 1.5, 3.0], 4), places(&[0.25, 4.0], 5)];
        let mut target = vec![0.0; 6];
        read_plane(&plane, 5, &taps, &mut target);
        assert_eq!(target, [0.25, 4.0, 15.25, 19.0, 30.25, 34.0]);
    }
}
