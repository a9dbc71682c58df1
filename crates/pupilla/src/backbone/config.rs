//! The configuration of a pretrained network: what a model file must keep beside the weights.

use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::output::Output;
use super::pretrained::Pretrained;
use super::{Backbone, BackboneError, Preprocessing, resnet18, squeezenet, weights};
use pupilla_files::tensor_file::TensorFile;

/// A network without its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "architecture")]
pub enum BackboneConfig {
    /// ResNet-18, or its first stages.
    #[serde(rename = "resnet18")]
    ResNet18(ResNet18Config),
    /// The feature part of SqueezeNet 1.1, or its beginning.
    #[serde(rename = "squeezenet1_1")]
    SqueezeNet(SqueezeNetConfig),
    /// EfficientNet-Lite, or its first stages.
    #[serde(rename = "efficientnet_lite")]
    EfficientNetLite(EfficientNetLiteConfig),
}

/// Which EfficientNet-Lite it is, and how much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetLiteConfig {
    /// 0 for Lite0, to 4 for Lite4.
    pub variant: usize,
    /// Stages of blocks after the first convolution, 1 to 7: `stage1` to `stage7`.
    pub stages: usize,
    /// Whether the last convolution and the pooled features are there, after all stages.
    pub head: bool,
    /// Classes of the layer after the pooled features, if it is there: 1000 for ImageNet.
    pub classes: Option<usize>,
}

/// How much of SqueezeNet 1.1 there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqueezeNetConfig {
    /// Fire modules after the first convolution, 0 to 8: `fire2` to `fire9` (a file of weights has at least one, by which it is
    /// recognised). Model files without this field have all modules.
    #[serde(
        default = "SqueezeNetConfig::all_fires",
        skip_serializing_if = "SqueezeNetConfig::are_all"
    )]
    pub fires: usize,
}

impl Default for SqueezeNetConfig {
    fn default() -> Self {
        Self {
            fires: Self::all_fires(),
        }
    }
}

/// How much of ResNet-18 there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet18Config {
    /// Stages after the stem, 0 to 4: `layer1` to `layer4`.
    pub stages: usize,
    /// Classes of the layer after the pooled features, if it is there: 1000 for ImageNet.
    pub classes: Option<usize>,
}

impl BackboneConfig {
    /// The network's name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResNet18(_) => resnet18::NAME,
            Self::SqueezeNet(_) => squeezenet::NAME,
            Self::EfficientNetLite(config) => config.name(),
        }
    }

    /// The network's outputs, first layer first.
    pub fn outputs(&self) -> Vec<Output> {
        let outputs = self.architecture().outputs.into_iter();
        outputs.map(|(output, _)| output).collect()
    }

    /// Names and shapes of all arrays, batch norm folded in.
    ///
    /// # Errors
    /// [`BackboneError::Rebuild`] if there is no such network.
    pub fn layout(&self) -> Result<Vec<(String, Vec<usize>)>, BackboneError> {
        self.check()?;
        Ok(self.architecture().layout().collect())
    }

    /// The network with the numbers of its arrays in the order of [`layout`](Self::layout), as
    /// [`Backbone::arrays`] gave them.
    ///
    /// # Errors
    /// [`BackboneError::Rebuild`] if there is no such network, or an array is not of its size.
    pub fn build(&self, arrays: Vec<Vec<f32>>) -> Result<Box<dyn Backbone>, BackboneError> {
        weights::check(self.name(), &self.layout()?, &arrays)?;
        Ok(Box::new(Pretrained::new(
            *self,
            self.architecture(),
            arrays,
        )))
    }

    /// The network of a file, by any name that is one network's alone: a tensor that is missing is to be named as missing.
    pub(super) fn of(file: &TensorFile) -> Option<Self> {
        let any = |part: &dyn Fn(&str) -> bool| file.names().any(part);
        if any(&|name| name.starts_with("layer1.") || name.starts_with("bn1.")) {
            Some(Self::ResNet18(ResNet18Config::of(file)))
        } else if any(&|name| name.starts_with("features.") && name.contains(".squeeze.")) {
            Some(Self::SqueezeNet(SqueezeNetConfig::of(file)))
        } else if any(&|name| name.starts_with("_blocks.") || name.starts_with("_conv_stem.")) {
            let config = EfficientNetLiteConfig::of(file);
            Some(Self::EfficientNetLite(config))
        } else {
            None
        }
    }

    /// The preprocessing that turns an image into an input.
    pub fn preprocessing(&self) -> Preprocessing {
        match self {
            Self::ResNet18(_) | Self::SqueezeNet(_) => Preprocessing::IMAGENET,
            Self::EfficientNetLite(config) => config.preprocessing(),
        }
    }

    /// Whether a tensor may be in a file and is not used.
    pub(super) fn leaves_aside(&self, name: &str) -> bool {
        match self {
            Self::ResNet18(config) => config.classes.is_none() && name.starts_with("fc."),
            Self::SqueezeNet(_) => name.starts_with("classifier."),
            Self::EfficientNetLite(config) => config.leaves_aside(name),
        }
    }

    pub(super) fn architecture(&self) -> Architecture {
        match self {
            Self::ResNet18(config) => config.architecture(),
            Self::SqueezeNet(config) => config.architecture(),
            Self::EfficientNetLite(config) => config.architecture(),
        }
    }

    fn check(&self) -> Result<(), BackboneError> {
        match self {
            Self::ResNet18(config) => config.check(),
            Self::SqueezeNet(config) => config.check(),
            Self::EfficientNetLite(config) => config.check(),
        }
    }
}
