//! Which network it is: what a model file must know beside the weights.

use serde::{Deserialize, Serialize};

use super::layers::Layer;
use super::output::Output;
use super::{Backbone, BackboneError, resnet18, squeezenet, weights};

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
}

/// How much of SqueezeNet 1.1 there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqueezeNetConfig {
    /// Fire modules behind the first convolution, 0 to 8: `fire2` to `fire9` (a file of weights has at least one, by which it is
    /// known). Model files that do not say it have all.
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
    /// Stages behind the stem, 0 to 4: `layer1` to `layer4`.
    pub stages: usize,
    /// Classes of the layer behind the pooled features, if it is there: 1000 for ImageNet.
    pub classes: Option<usize>,
}

impl BackboneConfig {
    /// The network's name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResNet18(_) => resnet18::NAME,
            Self::SqueezeNet(_) => squeezenet::NAME,
        }
    }

    /// What the network can give, first layer first.
    pub fn outputs(&self) -> Vec<Output> {
        match self {
            Self::ResNet18(config) => config.outputs(),
            Self::SqueezeNet(config) => config.outputs(),
        }
    }

    /// Names and shapes of all arrays, batch norm folded in.
    ///
    /// # Errors
    /// [`BackboneError::Rebuild`] if there is no such network.
    pub fn layout(&self) -> Result<Vec<(String, Vec<usize>)>, BackboneError> {
        Ok(self.layers()?.iter().flat_map(Layer::layout).collect())
    }

    /// The network with the numbers of its arrays in the order of [`layout`](Self::layout), as
    /// [`Backbone::arrays`] gave them.
    ///
    /// # Errors
    /// [`BackboneError::Rebuild`] if there is no such network, or an array is not of its size.
    pub fn build(&self, arrays: Vec<Vec<f32>>) -> Result<Box<dyn Backbone>, BackboneError> {
        let layers = weights::rebuild(self.name(), self.layers()?, arrays)?;
        Ok(match self {
            Self::ResNet18(config) => Box::new(resnet18::ResNet18::new(*config, layers)),
            Self::SqueezeNet(config) => Box::new(squeezenet::SqueezeNet::new(*config, layers)),
        })
    }

    fn layers(&self) -> Result<Vec<Layer>, BackboneError> {
        match self {
            Self::ResNet18(config) => {
                config.check()?;
                Ok(config.layers())
            }
            Self::SqueezeNet(config) => {
                config.check()?;
                Ok(config.layers())
            }
        }
    }
}
