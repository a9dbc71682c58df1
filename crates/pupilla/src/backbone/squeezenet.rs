//! The feature part of SqueezeNet 1.1 (Iandola et al., "SqueezeNet", arXiv:1602.07360, and the
//! authors' release 1.1), as torchvision has it. Layers are named as in the paper, `fire2` to `fire9`.

use burn::tensor::Tensor;

use super::config::{BackboneConfig, SqueezeNetConfig};
use super::layers::{Activation, Convolution, Layer, Windows, average, max_pool};
use super::output::{FEATURES, Gathering, Output};
use super::weights::{self, NamedArray};
use super::{Backbone, BackboneError};
use crate::tensor_file::TensorFile;

pub(super) const NAME: &str = "SqueezeNet 1.1";

/// The last output before each pooling, the last of all, and its pooled features. The sizes come
/// from three poolings that need a map of two pixels each, behind a convolution that is not padded.
const OUTPUTS: [Output; 5] = [
    output("conv1", 64, Some(2), 3),
    output("fire3", 128, Some(4), 5),
    output("fire5", 256, Some(8), 9),
    output("fire9", 512, Some(16), 17),
    output(FEATURES, 512, None, 17),
];

const fn output(
    name: &'static str,
    channels: usize,
    stride: Option<usize>,
    smallest_side: usize,
) -> Output {
    Output {
        name,
        channels,
        stride,
        // Three pixels wide windows from the corner on, at each stride.
        first_centre: match stride {
            Some(stride) => stride - 1,
            None => 0,
        },
        smallest_side,
    }
}

/// Index in torchvision's `features`, channels in, channels between, channels out; an output's name
/// where one ends, behind which a pooling stands unless it is the last.
const FIRES: [(usize, usize, usize, usize, Option<&str>); 8] = [
    (3, 64, 16, 128, None),
    (4, 128, 16, 128, Some("fire3")),
    (6, 128, 32, 256, None),
    (7, 256, 32, 256, Some("fire5")),
    (9, 256, 48, 384, None),
    (10, 384, 48, 384, None),
    (11, 384, 64, 512, None),
    (12, 512, 64, 512, Some("fire9")),
];

impl SqueezeNetConfig {
    pub(super) fn all_fires() -> usize {
        FIRES.len()
    }

    // The signature is serde's.
    pub(super) fn are_all(fires: &usize) -> bool {
        *fires == FIRES.len()
    }

    pub(super) fn check(&self) -> Result<(), BackboneError> {
        if self.fires <= FIRES.len() {
            return Ok(());
        }
        Err(BackboneError::Rebuild {
            network: NAME,
            reason: format!("{} fire modules instead of 0 to 8", self.fires),
        })
    }

    /// Those whose layers are there.
    pub(super) fn outputs(&self) -> Vec<Output> {
        let there = FIRES.iter().take(self.fires).filter_map(|fire| fire.4);
        let there: Vec<&str> = std::iter::once("conv1").chain(there).collect();
        let whole = self.fires == FIRES.len();
        let given =
            |output: &Output| there.contains(&output.name) || (whole && output.name == FEATURES);
        OUTPUTS.into_iter().filter(given).collect()
    }

    /// All convolutions: the first, then those of each fire module in the order of [`Fire`].
    pub(super) fn layers(&self) -> Vec<Layer> {
        let layer = |name: String, shape: [usize; 4], stride, padding| Layer {
            name,
            batch_norm: None,
            shape,
            stride,
            padding,
            linear: false,
        };
        let mut layers = vec![layer("features.0".into(), [64, 3, 3, 3], 2, 0)];
        for &(index, input, between, output, _) in FIRES.iter().take(self.fires) {
            let half = output / 2;
            for (part, shape, padding) in [
                ("squeeze", [between, input, 1, 1], 0),
                ("expand1x1", [half, between, 1, 1], 0),
                ("expand3x3", [half, between, 3, 3], 1),
            ] {
                layers.push(layer(format!("features.{index}.{part}"), shape, 1, padding));
            }
        }
        layers
    }
}

/// Few channels, then many again: half by 1×1, half by 3×3 kernels.
#[derive(Clone, Debug)]
struct Fire {
    squeeze: Convolution,
    expand1x1: Convolution,
    expand3x3: Convolution,
}

impl Fire {
    fn apply(&self, map: Tensor<4>) -> Tensor<4> {
        let squeezed = self.squeeze.apply(map, Activation::Relu);
        let narrow = self.expand1x1.apply(squeezed.clone(), Activation::Relu);
        let wide = self.expand3x3.apply(squeezed, Activation::Relu);
        Tensor::cat(vec![narrow, wide], 1)
    }
}

/// The network.
#[derive(Clone, Debug)]
pub(super) struct SqueezeNet {
    config: SqueezeNetConfig,
    first: Convolution,
    fires: Vec<Fire>,
}

impl SqueezeNet {
    /// The network of a file, up to the last fire module of which there is anything. A classifier may be in it too, and is not used.
    pub fn read(file: &TensorFile) -> Result<Self, BackboneError> {
        let last = FIRES.iter().rposition(|(index, ..)| {
            let begin = format!("features.{index}.");
            file.names().any(|name| name.starts_with(&begin))
        });
        let config = SqueezeNetConfig {
            fires: last.map_or(0, |last| last + 1),
        };
        let classifier = |name: &str| name.starts_with("classifier.");
        let layers = weights::read(file, config.layers(), classifier).map_err(|source| {
            BackboneError::Weights {
                network: NAME,
                source,
            }
        })?;
        Ok(Self::new(config, layers))
    }

    /// The network of convolutions in the order of [`SqueezeNetConfig::layers`].
    ///
    /// # Panics
    /// If there are fewer: both callers made them from that very list.
    pub fn new(config: SqueezeNetConfig, convolutions: Vec<Convolution>) -> Self {
        let mut convolutions = convolutions.into_iter();
        let mut next = || convolutions.next().expect("made from the list of layers");
        Self {
            config,
            first: next(),
            fires: (0..config.fires)
                .map(|_| Fire {
                    squeeze: next(),
                    expand1x1: next(),
                    expand3x3: next(),
                })
                .collect(),
        }
    }
}

impl Backbone for SqueezeNet {
    fn config(&self) -> BackboneConfig {
        BackboneConfig::SqueezeNet(self.config)
    }

    fn maps(&self, input: Tensor<4>, wanted: &[&str]) -> Result<Vec<Tensor<4>>, BackboneError> {
        let mut gathering = Gathering::new(NAME, &self.config.outputs(), wanted, &input)?;
        if gathering.is_complete() {
            return Ok(gathering.maps());
        }
        // Without automatic differentiation: a frozen network keeps nothing for a backward pass.
        let mut map = self.first.apply(input.inner(), Activation::Relu);
        gathering.offer("conv1", &map);
        // A pooling stands before the next fire module.
        let mut pooling = true;
        for (fire, (.., name)) in self.fires.iter().zip(FIRES) {
            if gathering.is_complete() {
                return Ok(gathering.maps());
            }
            if pooling {
                map = max_pool(map, Windows::FromCorner);
            }
            map = fire.apply(map);
            if let Some(name) = name {
                gathering.offer(name, &map);
            }
            pooling = name.is_some();
        }
        if !gathering.is_complete() {
            gathering.offer(FEATURES, &average(map));
        }
        Ok(gathering.maps())
    }

    fn arrays(&self) -> Vec<NamedArray> {
        std::iter::once(&self.first)
            .chain(
                self.fires
                    .iter()
                    .flat_map(|fire| [&fire.squeeze, &fire.expand1x1, &fire.expand3x3]),
            )
            .flat_map(Convolution::arrays)
            .collect()
    }
}
