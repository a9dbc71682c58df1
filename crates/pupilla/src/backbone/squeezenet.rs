//! The feature part of SqueezeNet 1.1 (Iandola et al., "SqueezeNet", arXiv:1602.07360, and the
//! authors' release 1.1), as torchvision has it. Layers are named as in the paper, `fire2` to `fire9`.

use pupilla_nn::{Convolution, Graph, MaxPool, Operation};

use super::BackboneError;
use super::architecture::{Architecture, Layer};
use super::config::SqueezeNetConfig;
use super::output::{Centres, Output};
use pupilla_files::tensor_file::TensorFile;

pub(super) const NAME: &str = "SqueezeNet 1.1";

/// Each fire module: index in torchvision's `features`, channels between, channels out; an output's name where one ends; a pooling
/// follows, except after the last.
const FIRES: [(usize, usize, usize, Option<&str>); 8] = [
    (3, 16, 128, None),
    (4, 16, 128, Some("fire3")),
    (6, 32, 256, None),
    (7, 32, 256, Some("fire5")),
    (9, 48, 384, None),
    (10, 48, 384, None),
    (11, 64, 512, None),
    (12, 64, 512, Some("fire9")),
];

/// PyTorch's default; the network has no batch norm of its own.
const EPSILON: f64 = 1e-5;

/// A map. Windows are three pixels wide and stand from the corner on, at each stride. Each pooling needs a map of two pixels, and the
/// first convolution, which is not padded, an image of three.
fn output(name: &'static str, channels: usize, stride: usize) -> Output {
    Output {
        name,
        channels,
        stride: Some(stride),
        centres: Centres::First(stride - 1),
        smallest_side: stride + 1,
    }
}

/// A convolution with a ReLU after it.
fn layer(name: String, convolution: Convolution) -> Layer {
    Layer {
        name,
        batch_norm: None,
        operation: Operation::Convolution(Convolution {
            slope: 0.0,
            ..convolution
        }),
        linear: false,
    }
}

impl SqueezeNetConfig {
    pub(super) fn all_fires() -> usize {
        FIRES.len()
    }

    // The signature is serde's.
    pub(super) fn are_all(fires: &usize) -> bool {
        *fires == FIRES.len()
    }

    /// Up to the last fire module of which there is anything in a file.
    pub(super) fn of(file: &TensorFile) -> Self {
        let last = FIRES.iter().rposition(|(index, ..)| {
            let begin = format!("features.{index}.");
            file.names().any(|name| name.starts_with(&begin))
        });
        Self {
            fires: last.map_or(0, |last| last + 1),
        }
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

    pub(super) fn architecture(&self) -> Architecture {
        let mut network = Architecture::new(EPSILON);
        let mut channels = 64;
        let mut stride = 2;
        let first = Convolution {
            stride,
            ..Convolution::new([3, channels], 3)
        };
        let mut map = network.layer(layer("features.0".into(), first), Graph::INPUT);
        network
            .outputs
            .push((output("conv1", channels, stride), map));
        let pooling = Operation::MaxPool(MaxPool {
            size: 3,
            stride: 2,
            padding: 0,
            partial: true,
        });
        let mut is_output = true;
        for (index, between, out, name) in FIRES.into_iter().take(self.fires) {
            if is_output {
                map = network.graph.add(pooling, &[map]);
                stride *= 2;
            }
            // Few channels, then many again: half by 1×1, half by 3×3 kernels.
            let mut add = |part, convolution, input| {
                let name = format!("features.{index}.{part}");
                network.layer(layer(name, convolution), input)
            };
            let squeezed = add("squeeze", Convolution::new([channels, between], 1), map);
            let narrow = Convolution::new([between, out / 2], 1);
            let wide = Convolution {
                padding: 1,
                ..Convolution::new([between, out / 2], 3)
            };
            let halves = [
                add("expand1x1", narrow, squeezed),
                add("expand3x3", wide, squeezed),
            ];
            map = network.graph.add(Operation::Concatenate, &halves);
            channels = out;
            is_output = name.is_some();
            if let Some(name) = name {
                network.outputs.push((output(name, channels, stride), map));
            }
        }
        if self.fires == FIRES.len() {
            network.features(map, channels, stride + 1);
        }
        network
    }
}
