//! What a network gives, by name, and the gathering of what was asked for.

use burn::tensor::Tensor;

use super::BackboneError;

/// Name of the output of pooled features: the mean of the last map over all its pixels, 512 numbers
/// for both networks.
pub const FEATURES: &str = "features";

/// Name of the output of class scores before any softmax.
pub const LOGITS: &str = "logits";

/// One output of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: &'static str,
    /// Channels of the map.
    pub channels: usize,
    /// Pixels of the image from one pixel of the map to the next; `None` for outputs that speak of the
    /// whole image.
    pub stride: Option<usize>,
    /// The image's pixel that the map's first pixel is centred on, in both directions.
    pub first_centre: usize,
    /// Side of the smallest image that gives it.
    pub smallest_side: usize,
}

/// Maps on their way out, picked up where a network passes them.
pub(super) struct Gathering<'a> {
    wanted: &'a [&'a str],
    maps: Vec<Option<Tensor<4>>>,
}

impl<'a> Gathering<'a> {
    /// Begins, if all outputs exist and the input is large enough for them.
    pub fn new(
        network: &'static str,
        outputs: &[Output],
        wanted: &'a [&'a str],
        input: &Tensor<4>,
    ) -> Result<Self, BackboneError> {
        let shape @ [batch, channels, height, width] = input.dims();
        if batch == 0 || channels != 3 {
            return Err(BackboneError::Input { shape });
        }
        for wanted in wanted {
            let Some(output) = outputs.iter().find(|output| output.name == *wanted) else {
                let names: Vec<_> = outputs.iter().map(|output| output.name).collect();
                return Err(BackboneError::NoOutput {
                    network,
                    wanted: (*wanted).to_string(),
                    available: names.join(", "),
                });
            };
            if height.min(width) < output.smallest_side {
                return Err(BackboneError::TooSmall {
                    width,
                    height,
                    output: output.name,
                    needed: output.smallest_side,
                });
            }
        }
        Ok(Self {
            wanted,
            maps: vec![None; wanted.len()],
        })
    }

    /// Takes a map if it was asked for.
    pub fn offer(&mut self, name: &str, map: &Tensor<4>) {
        for (wanted, slot) in self.wanted.iter().zip(&mut self.maps) {
            if *wanted == name {
                *slot = Some(map.clone());
            }
        }
    }

    /// Whether there is nothing more to wait for.
    pub fn is_complete(&self) -> bool {
        self.maps.iter().all(Option::is_some)
    }

    /// The maps in the order asked for.
    pub fn maps(self) -> Vec<Tensor<4>> {
        self.maps
            .into_iter()
            .map(|map| map.expect("a network offers all its outputs"))
            .collect()
    }
}
