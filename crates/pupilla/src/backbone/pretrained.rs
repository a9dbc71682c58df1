//! A network with its weights: the only implementation of [`Backbone`].

use pupilla_core::image::Size;
use pupilla_core::observer::{StopFlag, Stopped};
use pupilla_nn::{Parameters, Tensor, Value};

use super::architecture::Architecture;
use super::weights::NamedArray;
use super::{Backbone, BackboneConfig, BackboneError};

/// A pretrained network.
#[derive(Clone, Debug)]
pub(super) struct Pretrained {
    config: BackboneConfig,
    architecture: Architecture,
    parameters: Parameters,
}

impl Pretrained {
    /// The network with the numbers of its layout, whose counts have been checked.
    pub fn new(config: BackboneConfig, architecture: Architecture, arrays: Vec<Vec<f32>>) -> Self {
        Self {
            config,
            architecture,
            parameters: Parameters::new(arrays),
        }
    }

    /// The value of an output, if it exists and images of this size are large enough for it.
    fn value(&self, wanted: &str, size: Size) -> Result<Value, BackboneError> {
        let outputs = &self.architecture.outputs;
        let Some((output, value)) = outputs.iter().find(|(output, _)| output.name == wanted) else {
            let names: Vec<_> = outputs.iter().map(|(output, _)| output.name).collect();
            return Err(BackboneError::NoOutput {
                network: self.config.name(),
                wanted: wanted.to_string(),
                available: names.join(", "),
            });
        };
        if size.shorter() < output.smallest_side {
            return Err(BackboneError::TooSmall {
                size,
                output: output.name,
                needed: output.smallest_side,
            });
        }
        Ok(*value)
    }
}

impl Backbone for Pretrained {
    fn config(&self) -> BackboneConfig {
        self.config
    }

    fn maps_until(
        &self,
        input: &Tensor,
        wanted: &[&str],
        stop: &StopFlag,
    ) -> Result<Vec<Tensor>, BackboneError> {
        let shape @ [batch, channels, height, width] = input.shape();
        if batch == 0 || channels != 3 {
            return Err(BackboneError::Input { shape });
        }
        let values = wanted
            .iter()
            .map(|wanted| self.value(wanted, Size::new(width, height)))
            .collect::<Result<Vec<_>, _>>()?;
        let graph = &self.architecture.graph;
        let proceed = || !stop.is_raised();
        let outputs = graph.outputs_while(&self.parameters, input, &values, &proceed);
        outputs.ok_or(BackboneError::Stopped(Stopped))
    }

    fn arrays(&self) -> Vec<NamedArray> {
        self.architecture
            .layout()
            .zip(self.parameters.arrays())
            .map(|((name, shape), values)| NamedArray {
                name,
                shape,
                values: values.clone(),
            })
            .collect()
    }
}
