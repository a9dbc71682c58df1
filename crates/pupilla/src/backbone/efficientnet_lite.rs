//! EfficientNet-Lite0 to 4 (Tan and Le, "EfficientNet", ICML 2019, as Google released it in 2020 for small devices: ReLU6, no
//! squeeze-and-excitation, first and last convolution of one width), with the names of `efficientnet_lite_pytorch`.
//!
//! Stages consist of inverted residual blocks (Sandler et al., "MobileNetV2", CVPR 2018): many channels by a 1×1 kernel, a depthwise
//! convolution, few channels again without an activation, and the block's input added where both have one shape.

use pupilla_nn::{Convolution, DepthwiseConvolution, Graph, Operation, SamePadding};

use super::architecture::{Architecture, Layer};
use super::config::EfficientNetLiteConfig;
use super::output::{Centres, Output};
use super::{BackboneError, Preprocessing};
use pupilla_files::tensor_file::TensorFile;

/// What sets the variants apart.
struct Variant {
    name: &'static str,
    /// Factors of the channels and of the blocks in a stage, in tenths.
    width: usize,
    depth: usize,
    /// Side of the images that it was trained on.
    side: usize,
}

const VARIANTS: [Variant; 5] = [
    variant("EfficientNet-Lite0", [10, 10], 224),
    variant("EfficientNet-Lite1", [10, 11], 240),
    variant("EfficientNet-Lite2", [11, 12], 260),
    variant("EfficientNet-Lite3", [12, 14], 280),
    variant("EfficientNet-Lite4", [14, 18], 300),
];

const fn variant(name: &'static str, [width, depth]: [usize; 2], side: usize) -> Variant {
    Variant {
        name,
        width,
        depth,
        side,
    }
}

/// A stage before it is scaled.
struct Stage {
    name: &'static str,
    blocks: usize,
    kernel: usize,
    /// Of its first block; the others have 1.
    stride: usize,
    /// How many times more channels a block has inside.
    expansion: usize,
    channels: usize,
}

const STAGES: [Stage; 7] = [
    stage("stage1", 1, 3, 1, 1, 16),
    stage("stage2", 2, 3, 2, 6, 24),
    stage("stage3", 2, 5, 2, 6, 40),
    stage("stage4", 3, 3, 2, 6, 80),
    stage("stage5", 3, 5, 1, 6, 112),
    stage("stage6", 4, 5, 2, 6, 192),
    stage("stage7", 1, 3, 1, 6, 320),
];

/// The outputs' names.
pub(super) const STAGE_NAMES: [&str; 7] = {
    let mut names = [""; 7];
    let mut at = 0;
    while at < STAGES.len() {
        names[at] = STAGES[at].name;
        at += 1;
    }
    names
};

const fn stage(
    name: &'static str,
    blocks: usize,
    kernel: usize,
    stride: usize,
    expansion: usize,
    channels: usize,
) -> Stage {
    Stage {
        name,
        blocks,
        kernel,
        stride,
        expansion,
        channels,
    }
}

/// Channels of the first and of the last convolution, in every variant.
const STEM: usize = 32;
const HEAD: usize = 1280;

/// TensorFlow's, as the authors set it.
const EPSILON: f64 = 1e-3;

/// More classes than any data set has: a file's claim must not decide how much memory is taken.
const MAX_CLASSES: usize = 1 << 16;

impl Variant {
    /// Channels of a stage: a multiple of 8, the nearest one unless a tenth is lost.
    fn channels(&self, stage: &Stage) -> usize {
        let scaled = stage.channels * self.width;
        let rounded = (scaled + 40) / 80 * 8;
        if 100 * rounded < 9 * scaled {
            rounded + 8
        } else {
            rounded
        }
    }

    /// Blocks in a stage: more in deeper variants, except in the first and the last stage.
    fn blocks(&self, stage: &Stage) -> usize {
        match stage.blocks {
            1 => 1,
            blocks => (blocks * self.depth).div_ceil(10),
        }
    }

    /// All blocks of the first stages.
    fn blocks_until(&self, stages: usize) -> usize {
        let stages = STAGES.iter().take(stages);
        stages.map(|stage| self.blocks(stage)).sum()
    }
}

/// Whether a file holds the larger sisters.
pub(super) fn has_squeeze_and_excitation(file: &TensorFile) -> bool {
    file.names()
        .any(|name| name.starts_with("_blocks.") && name.contains("._se_reduce."))
}

/// A map. With same padding one pixel is enough.
fn output(name: &'static str, channels: usize, stride: usize) -> Output {
    Output {
        name,
        channels,
        stride: Some(stride),
        centres: Centres::Same,
        smallest_side: 1,
    }
}

/// A convolution with batch norm after it, and ReLU6 after both or nothing.
fn layer(
    [name, batch_norm]: [String; 2],
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    activated: bool,
) -> Layer {
    let [slope, ceiling] = activation(activated);
    Layer {
        name,
        batch_norm: Some(batch_norm),
        operation: Operation::Convolution(Convolution {
            stride,
            slope,
            ceiling,
            ..Convolution::new(channels, kernel)
        }),
        linear: false,
    }
}

/// Slope and ceiling of ReLU6, or of nothing.
fn activation(activated: bool) -> [f32; 2] {
    if activated {
        [0.0, 6.0]
    } else {
        [1.0, f32::INFINITY]
    }
}

impl EfficientNetLiteConfig {
    fn variant(&self) -> &'static Variant {
        // What an untrusted file says is checked before it is used; until then a number must end no slice.
        &VARIANTS[self.variant.min(VARIANTS.len() - 1)]
    }

    pub(super) fn name(&self) -> &'static str {
        self.variant().name
    }

    pub(super) fn preprocessing(&self) -> Preprocessing {
        Preprocessing::lite(self.variant().side)
    }

    /// The variant whose layers the file has the most of (the smallest of several), up to the last stage of which there is anything.
    pub(super) fn of(file: &TensorFile) -> Self {
        let any = |begin: &str| file.names().any(|name| name.starts_with(begin));
        let last_block = file
            .names()
            .filter_map(|name| {
                name.strip_prefix("_blocks.")?
                    .split('.')
                    .next()?
                    .parse()
                    .ok()
            })
            .max()
            .unwrap_or(0);
        let has_head = any("_conv_head.") || any("_bn1.");
        let classes = match file.shape("_fc.weight") {
            Some([classes, _]) => (*classes).clamp(1, MAX_CLASSES),
            _ => 1000,
        };
        let has_classes = any("_fc.");
        let configs = (0..VARIANTS.len()).map(|variant| {
            // Up to the last stage of which there is anything.
            let stages = (1..STAGES.len())
                .find(|&stages| VARIANTS[variant].blocks_until(stages) > last_block)
                .unwrap_or(STAGES.len());
            let head = stages == STAGES.len() && (has_head || has_classes);
            Self {
                variant,
                stages,
                head,
                classes: (head && has_classes).then_some(classes),
            }
        });
        let strange = |config: &Self| {
            let architecture = config.architecture();
            let layout = architecture.layout();
            let weights = layout.filter(|(name, _)| name.ends_with(".weight"));
            let strange = weights
                .filter(|(name, shape)| file.shape(name) != Some(shape.as_slice()))
                .count();
            let known = config.variant().blocks_until(config.stages);
            let more = last_block.saturating_add(1).saturating_sub(known);
            strange.saturating_add(more)
        };
        configs.min_by_key(strange).unwrap_or(Self {
            variant: 0,
            stages: STAGES.len(),
            head: true,
            classes: None,
        })
    }

    /// Whether a tensor may be in a file and is not used: what nothing leads to.
    pub(super) fn leaves_aside(&self, name: &str) -> bool {
        let begins = |layer: &str| name.starts_with(layer);
        !self.head && (begins("_conv_head.") || begins("_bn1."))
            || self.classes.is_none() && begins("_fc.")
    }

    pub(super) fn check(&self) -> Result<(), BackboneError> {
        let wrong = |reason: String| {
            Err(BackboneError::Rebuild {
                network: self.name(),
                reason,
            })
        };
        let stages = self.stages;
        if self.variant >= VARIANTS.len() {
            return wrong(format!("variant {} instead of 0 to 4", self.variant));
        }
        if !(1..=STAGES.len()).contains(&stages) {
            return wrong(format!("{stages} stages instead of 1 to 7"));
        }
        if self.head && stages < STAGES.len() {
            return wrong(format!("pooled features after {stages} of 7 stages"));
        }
        match self.classes {
            Some(_) if !self.head => wrong("classes without pooled features".to_string()),
            Some(classes) if !(1..=MAX_CLASSES).contains(&classes) => {
                wrong(format!("{classes} classes instead of 1 to {MAX_CLASSES}"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn architecture(&self) -> Architecture {
        let variant = self.variant();
        let mut network = Architecture::new(EPSILON);
        let window = SamePadding {
            kernel: 3,
            stride: 2,
        };
        let padded = network
            .graph
            .add(Operation::SamePadding(window), &[Graph::INPUT]);
        let names = ["_conv_stem", "_bn0"].map(String::from);
        let mut map = network.layer(layer(names, [3, STEM], 3, 2, true), padded);
        let mut before = STEM;
        let mut stride_of_map = 2;
        let mut index = 0;
        for stage in STAGES.iter().take(self.stages) {
            let channels = variant.channels(stage);
            for block in 0..variant.blocks(stage) {
                let names = |parts: [&str; 2]| parts.map(|part| format!("_blocks.{index}.{part}"));
                let stride = if block == 0 { stage.stride } else { 1 };
                let inside = before * stage.expansion;
                let mut value = map;
                if stage.expansion > 1 {
                    let names = names(["_expand_conv", "_bn0"]);
                    value = network.layer(layer(names, [before, inside], 1, 1, true), value);
                }
                let [name, batch_norm] = names(["_depthwise_conv", "_bn1"]);
                let [slope, ceiling] = activation(true);
                let depthwise = Layer {
                    name,
                    batch_norm: Some(batch_norm),
                    operation: Operation::DepthwiseConvolution(DepthwiseConvolution {
                        channels: inside,
                        window: SamePadding {
                            kernel: stage.kernel,
                            stride,
                        },
                        slope,
                        ceiling,
                    }),
                    linear: false,
                };
                value = network.layer(depthwise, value);
                let names = names(["_project_conv", "_bn2"]);
                value = network.layer(layer(names, [inside, channels], 1, 1, false), value);
                if stride == 1 && before == channels {
                    let sum = Operation::Add { slope: 1.0 };
                    value = network.graph.add(sum, &[value, map]);
                }
                map = value;
                before = channels;
                stride_of_map *= stride;
                index += 1;
            }
            let output = output(stage.name, channels, stride_of_map);
            network.outputs.push((output, map));
        }
        if !self.head {
            return network;
        }
        let names = ["_conv_head", "_bn1"].map(String::from);
        let last = network.layer(layer(names, [before, HEAD], 1, 1, true), map);
        let features = network.features(last, HEAD, 1);
        if let Some(classes) = self.classes {
            network.classes("_fc", [HEAD, classes], features);
        }
        network
    }
}
