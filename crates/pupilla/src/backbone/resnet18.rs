//! ResNet-18 (He et al., "Deep residual learning for image recognition", CVPR 2016), as torchvision
//! has it: a stem, four stages of two blocks, global average, one fully connected layer.

use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use super::config::{BackboneConfig, ResNet18Config};
use super::layers::{Activation, Convolution, Layer, Windows, average, max_pool};
use super::output::{FEATURES, Gathering, LOGITS, Output};
use super::weights::{self, NamedArray};
use super::{Backbone, BackboneError};
use crate::tensor_file::TensorFile;

pub(super) const NAME: &str = "ResNet-18";

/// The stem's output: behind the first convolution, its ReLU and the max-pooling.
const STEM: &str = "stem";

/// The stages, and the channels of each.
const STAGES: [(&str, usize); 4] = [
    ("layer1", 64),
    ("layer2", 128),
    ("layer3", 256),
    ("layer4", 512),
];

/// More classes than any data set has: a file's claim must not decide how much memory is taken.
const MAX_CLASSES: usize = 1 << 16;

impl ResNet18Config {
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

    pub(super) fn outputs(&self) -> Vec<Output> {
        let output = |name, channels, stride| Output {
            name,
            channels,
            stride,
            // Every convolution and pooling is padded by half its kernel: windows are centred, and one pixel
            // is enough for all of them.
            first_centre: 0,
            smallest_side: 1,
        };
        let mut outputs = vec![output(STEM, 64, Some(4))];
        let mut stride = 4;
        for (name, channels) in STAGES.into_iter().take(self.stages) {
            outputs.push(output(name, channels, Some(stride)));
            stride *= 2;
        }
        if self.stages == STAGES.len() {
            outputs.push(output(FEATURES, STAGES[STAGES.len() - 1].1, None));
        }
        outputs.extend(self.classes.map(|classes| output(LOGITS, classes, None)));
        outputs
    }

    /// All convolutions: the stem, then those of each block in the order of [`Block`], then `fc`.
    pub(super) fn layers(&self) -> Vec<Layer> {
        let layer = |name: String, batch_norm: String, shape: [usize; 4], stride| Layer {
            name,
            batch_norm: Some(batch_norm),
            shape,
            stride,
            padding: shape[2] / 2,
            linear: false,
        };
        let mut layers = vec![layer("conv1".into(), "bn1".into(), [64, 3, 7, 7], 2)];
        let mut before = 64;
        for (index, (stage, channels)) in STAGES.into_iter().take(self.stages).enumerate() {
            for block in 0..BLOCKS {
                let first = block == 0 && index > 0;
                let stride = if first { 2 } else { 1 };
                let name = |part: &str| format!("{stage}.{block}.{part}");
                layers.push(layer(
                    name("conv1"),
                    name("bn1"),
                    [channels, before, 3, 3],
                    stride,
                ));
                layers.push(layer(
                    name("conv2"),
                    name("bn2"),
                    [channels, channels, 3, 3],
                    1,
                ));
                if first {
                    layers.push(layer(
                        name("downsample.0"),
                        name("downsample.1"),
                        [channels, before, 1, 1],
                        stride,
                    ));
                }
                before = channels;
            }
        }
        layers.extend(self.classes.map(|classes| Layer {
            name: "fc".to_string(),
            batch_norm: None,
            shape: [classes, before, 1, 1],
            stride: 1,
            padding: 0,
            linear: true,
        }));
        layers
    }
}

/// Blocks in a stage.
const BLOCKS: usize = 2;

/// Two convolutions and a way around them.
#[derive(Clone, Debug)]
struct Block {
    first: Convolution,
    second: Convolution,
    /// Where stride or channels change, the way around is a 1×1 convolution.
    around: Option<Convolution>,
}

impl Block {
    fn apply(&self, map: Tensor<4>) -> Tensor<4> {
        let around = match &self.around {
            Some(convolution) => convolution.apply(map.clone(), Activation::None),
            None => map.clone(),
        };
        let map = self.first.apply(map, Activation::Relu);
        relu(self.second.apply(map, Activation::None) + around)
    }

    fn convolutions(&self) -> impl Iterator<Item = &Convolution> {
        [&self.first, &self.second].into_iter().chain(&self.around)
    }
}

/// The network.
#[derive(Clone, Debug)]
pub(super) struct ResNet18 {
    config: ResNet18Config,
    stem: Convolution,
    stages: Vec<[Block; BLOCKS]>,
    classifier: Option<Convolution>,
}

impl ResNet18 {
    /// The network of a file, as far as the file goes.
    pub fn read(file: &TensorFile) -> Result<Self, BackboneError> {
        let failed = |source| BackboneError::Weights {
            network: NAME,
            source,
        };
        let has_fc = file.names().any(|name| name.starts_with("fc."));
        let last = STAGES
            .iter()
            .rposition(|(stage, _)| {
                let begin = format!("{stage}.");
                file.names().any(|name| name.starts_with(&begin))
            })
            .map_or(0, |index| index + 1);
        // Classes that nothing leads to are of no use, as everything behind the last stage of which there is anything.
        let has_classes = has_fc && last == STAGES.len();
        let config = ResNet18Config {
            stages: last,
            classes: has_classes.then(|| match file.shape("fc.weight") {
                Some([classes, _]) => (*classes).clamp(1, MAX_CLASSES),
                _ => 1000,
            }),
        };
        let layers = weights::read(file, config.layers(), |name| {
            !has_classes && name.starts_with("fc.")
        })
        .map_err(failed)?;
        Ok(Self::new(config, layers))
    }

    /// The network of convolutions in the order of [`ResNet18Config::layers`].
    ///
    /// # Panics
    /// If there are fewer: both callers made them from that very list.
    pub fn new(config: ResNet18Config, convolutions: Vec<Convolution>) -> Self {
        let mut convolutions = convolutions.into_iter();
        let mut next = || convolutions.next().expect("made from the list of layers");
        let stem = next();
        let stages = (0..config.stages)
            .map(|stage| {
                [0, 1].map(|block| Block {
                    first: next(),
                    second: next(),
                    around: (block == 0 && stage > 0).then(&mut next),
                })
            })
            .collect();
        Self {
            config,
            stem,
            stages,
            classifier: config.classes.map(|_| next()),
        }
    }
}

impl Backbone for ResNet18 {
    fn config(&self) -> BackboneConfig {
        BackboneConfig::ResNet18(self.config)
    }

    fn maps(&self, input: Tensor<4>, wanted: &[&str]) -> Result<Vec<Tensor<4>>, BackboneError> {
        let mut gathering = Gathering::new(NAME, &self.outputs(), wanted, &input)?;
        if gathering.is_complete() {
            return Ok(gathering.maps());
        }
        // Without automatic differentiation: a frozen network keeps nothing for a backward pass.
        let map = self.stem.apply(input.inner(), Activation::Relu);
        let mut map = max_pool(map, Windows::Centred);
        gathering.offer(STEM, &map);
        for (blocks, (name, _)) in self.stages.iter().zip(STAGES) {
            if gathering.is_complete() {
                return Ok(gathering.maps());
            }
            for block in blocks {
                map = block.apply(map);
            }
            gathering.offer(name, &map);
        }
        if gathering.is_complete() {
            return Ok(gathering.maps());
        }
        let features = average(map);
        gathering.offer(FEATURES, &features);
        if let Some(classifier) = &self.classifier {
            gathering.offer(LOGITS, &classifier.apply(features, Activation::None));
        }
        Ok(gathering.maps())
    }

    fn arrays(&self) -> Vec<NamedArray> {
        std::iter::once(&self.stem)
            .chain(self.stages.iter().flatten().flat_map(Block::convolutions))
            .chain(&self.classifier)
            .flat_map(Convolution::arrays)
            .collect()
    }
}
