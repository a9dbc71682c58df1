//! ResNet-18 (He et al., "Deep residual learning for image recognition", CVPR 2016), as torchvision
//! has it: a stem, four stages of two blocks, global average, one fully connected layer.

use pupilla_nn::{Convolution, Graph, MaxPool, Operation};

use super::BackboneError;
use super::architecture::{Architecture, Layer};
use super::config::ResNet18Config;
use super::output::{Centres, Output};
use pupilla_files::tensor_file::TensorFile;

pub(super) const NAME: &str = "ResNet-18";

/// The stages, and the channels of each.
const STAGES: [(&str, usize); 4] = [
    ("layer1", 64),
    ("layer2", 128),
    ("layer3", 256),
    ("layer4", 512),
];

/// PyTorch's default.
const EPSILON: f64 = 1e-5;

/// Blocks in a stage.
const BLOCKS: usize = 2;

/// More classes than any data set has: a file's claim must not decide how much memory is taken.
const MAX_CLASSES: usize = 1 << 16;

/// An output. Every convolution and pooling is padded by half its kernel: windows are centred, and one pixel is enough for all of them.
fn output(name: &'static str, channels: usize, stride: Option<usize>) -> Output {
    Output {
        name,
        channels,
        stride,
        centres: Centres::First(0),
        smallest_side: 1,
    }
}

/// A convolution with batch norm after it; `slope` is the slope of the ReLU after both.
fn layer(
    [name, batch_norm]: [String; 2],
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    slope: f32,
) -> Layer {
    Layer {
        name,
        batch_norm: Some(batch_norm),
        operation: Operation::Convolution(Convolution {
            stride,
            padding: kernel / 2,
            slope,
            ..Convolution::new(channels, kernel)
        }),
        linear: false,
    }
}

impl ResNet18Config {
    /// As far as a file goes.
    pub(super) fn of(file: &TensorFile) -> Self {
        let any = |begin: &str| file.names().any(|name| name.starts_with(begin));
        // Up to the last stage of which there is anything.
        let last = STAGES
            .iter()
            .rposition(|(stage, _)| any(&format!("{stage}.")));
        let stages = last.map_or(0, |last| last + 1);
        // Classes that nothing leads to are of no use.
        let has_classes = stages == STAGES.len() && any("fc.");
        Self {
            stages,
            classes: has_classes.then(|| match file.shape("fc.weight") {
                Some([classes, _]) => (*classes).clamp(1, MAX_CLASSES),
                _ => 1000,
            }),
        }
    }

    pub(super) fn check(&self) -> Result<(), BackboneError> {
        let wrong = |reason: String| BackboneError::Rebuild {
            network: NAME,
            reason,
        };
        if self.stages > STAGES.len() {
            return Err(wrong(format!("{} stages instead of 0 to 4", self.stages)));
        }
        match self.classes {
            Some(_) if self.stages < STAGES.len() => {
                Err(wrong(format!("classes behind {} of 4 stages", self.stages)))
            }
            Some(classes) if !(1..=MAX_CLASSES).contains(&classes) => Err(wrong(format!(
                "{classes} classes instead of 1 to {MAX_CLASSES}"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn architecture(&self) -> Architecture {
        let mut network = Architecture::new(EPSILON);
        let names = ["conv1", "bn1"].map(String::from);
        let first = network.layer(layer(names, [3, 64], 7, 2, 0.0), Graph::INPUT);
        let pooling = MaxPool {
            size: 3,
            stride: 2,
            padding: 1,
            partial: false,
        };
        let mut map = network.graph.add(Operation::MaxPool(pooling), &[first]);
        network.outputs.push((output("stem", 64, Some(4)), map));
        let mut before = 64;
        let mut stride_of_map = 4;
        for (stage, channels) in STAGES.into_iter().take(self.stages) {
            for block in 0..BLOCKS {
                let names = |parts: [&str; 2]| parts.map(|part| format!("{stage}.{block}.{part}"));
                let stride = if before == channels { 1 } else { 2 };
                let first = layer(names(["conv1", "bn1"]), [before, channels], 3, stride, 0.0);
                let second = layer(names(["conv2", "bn2"]), [channels; 2], 3, 1, 1.0);
                let first = network.layer(first, map);
                let second = network.layer(second, first);
                // Where stride and channels change, the way around is a 1×1 convolution.
                let around = if stride == 1 {
                    map
                } else {
                    let names = names(["downsample.0", "downsample.1"]);
                    let around = layer(names, [before, channels], 1, stride, 1.0);
                    network.layer(around, map)
                };
                let sum = Operation::Add { slope: 0.0 };
                map = network.graph.add(sum, &[second, around]);
                before = channels;
                stride_of_map *= stride;
            }
            let output = output(stage, channels, Some(stride_of_map));
            network.outputs.push((output, map));
        }
        if self.stages < STAGES.len() {
            return network;
        }
        let features = network.features(map, before, 1);
        if let Some(classes) = self.classes {
            network.classes("fc", [before, classes], features);
        }
        network
    }
}
