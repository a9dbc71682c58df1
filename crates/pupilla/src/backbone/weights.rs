//! The numbers of a network: from a file with batch norm or without, and back out by name.

use std::collections::HashMap;

use super::BackboneError;
use super::batch_norm::BatchNorm;
use super::layers::{Convolution, Layer};
use crate::device;
use crate::tensor_file::{TensorFile, TensorFileError};

/// An array of a network on its way into a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// Its name, torchvision's: `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: Vec<f32>,
}

/// The layers with the numbers of a file; tensors that `unused` names may be in it besides.
///
/// A file with any running variance in it has batch norms, and none of its convolutions a bias;
/// without one, they are folded in already.
pub(super) fn read(
    file: &TensorFile,
    layers: Vec<Layer>,
    unused: impl Fn(&str) -> bool,
) -> Result<Vec<Convolution>, TensorFileError> {
    let folded = !file.names().any(|name| name.ends_with(".running_var"));
    let mut wanted = Vec::new();
    for layer in &layers {
        match &layer.batch_norm {
            Some(batch_norm) if !folded => {
                let [weight, _] = layer.layout();
                wanted.push(weight);
                for part in BATCH_NORM_PARTS {
                    wanted.push((format!("{batch_norm}.{part}"), vec![layer.shape[0]]));
                }
            }
            _ => wanted.extend(layer.layout()),
        }
    }
    let values = file.tensors(&wanted, |name| {
        name.ends_with(".num_batches_tracked") || unused(name)
    })?;
    let mut values: HashMap<&str, Vec<f32>> = wanted
        .iter()
        .map(|(name, _)| name.as_str())
        .zip(values)
        .collect();
    let mut take = |name: String| values.remove(name.as_str()).unwrap_or_default();

    let mut problems = Vec::new();
    let device = device::chosen();
    let convolutions = layers
        .into_iter()
        .map(|layer| {
            let mut weight = take(format!("{}.weight", layer.name));
            let bias = match &layer.batch_norm {
                Some(name) if !folded => {
                    let parts = BATCH_NORM_PARTS.map(|part| take(format!("{name}.{part}")));
                    if parts[3].iter().any(|variance| *variance < 0.0) {
                        problems.push(format!("{name}.running_var holds a negative variance"));
                    }
                    let bias = BatchNorm {
                        weight: &parts[0],
                        bias: &parts[1],
                        mean: &parts[2],
                        variance: &parts[3].iter().map(|v| v.max(0.0)).collect::<Vec<_>>(),
                    }
                    .fold(&mut weight);
                    if weight.iter().chain(&bias).any(|value| !value.is_finite()) {
                        problems.push(format!(
                            "{} becomes infinite when {name} is folded in",
                            layer.name
                        ));
                    }
                    bias
                }
                _ => take(format!("{}.bias", layer.name)),
            };
            layer.build(weight, bias, &device)
        })
        .collect();
    if problems.is_empty() {
        Ok(convolutions)
    } else {
        Err(file.error(problems))
    }
}

/// Weight, bias, mean, variance.
const BATCH_NORM_PARTS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// The layers with numbers that were listed before, in the order of their layouts.
pub(super) fn rebuild(
    network: &'static str,
    layers: Vec<Layer>,
    arrays: Vec<Vec<f32>>,
) -> Result<Vec<Convolution>, BackboneError> {
    let wrong = |reason| BackboneError::Rebuild { network, reason };
    if arrays.len() != 2 * layers.len() {
        return Err(wrong(format!(
            "{} arrays instead of {}",
            arrays.len(),
            2 * layers.len()
        )));
    }
    let device = device::chosen();
    let mut arrays = arrays.into_iter();
    layers
        .into_iter()
        .map(|layer| {
            let mut next = |(name, shape): (String, Vec<usize>)| {
                let values = arrays.next().unwrap_or_default();
                let count: usize = shape.iter().product();
                if values.len() == count {
                    Ok(values)
                } else {
                    Err(wrong(format!(
                        "{name} has {} numbers instead of {count}",
                        values.len()
                    )))
                }
            };
            let [weight, bias] = layer.layout();
            let (weight, bias) = (next(weight)?, next(bias)?);
            Ok(layer.build(weight, bias, &device))
        })
        .collect()
}
