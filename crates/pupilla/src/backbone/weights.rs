//! The weights of a network: read from a file with or without batch norm, and written by name.

use super::BackboneError;
use super::architecture::Architecture;
use super::batch_norm::BatchNorm;
use pupilla_files::tensor_file::{TensorFile, TensorFileError};

/// An array of a network on its way into a model file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// Its name in weight files: `layer1.0.conv1.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: Vec<f32>,
}

/// Weight and bias of each layer from a file; tensors that `unused` names may be in it besides.
///
/// A file with any running variance in it has batch norms, and none of its convolutions a bias;
/// without one, they are folded in already.
pub(super) fn read(
    file: &TensorFile,
    network: &Architecture,
    unused: impl Fn(&str) -> bool,
) -> Result<Vec<Vec<f32>>, TensorFileError> {
    let folded = !file.names().any(|name| name.ends_with(".running_var"));
    let mut wanted = Vec::new();
    for layer in &network.layers {
        let [weight, bias] = layer.layout();
        wanted.push(weight);
        match &layer.batch_norm {
            Some(batch_norm) if !folded => wanted.extend(
                BATCH_NORM_PARTS.map(|part| (format!("{batch_norm}.{part}"), bias.1.clone())),
            ),
            _ => wanted.push(bias),
        }
    }
    let unused = |name: &str| name.ends_with(".num_batches_tracked") || unused(name);
    let mut values = file.tensors(&wanted, unused)?.into_iter();
    let mut next = || values.next().unwrap_or_default();

    let mut problems = Vec::new();
    let mut arrays = Vec::new();
    for layer in &network.layers {
        let mut weight = next();
        let bias = match &layer.batch_norm {
            Some(name) if !folded => {
                let [scale, bias, mean, variance] = BATCH_NORM_PARTS.map(|_| next());
                if variance.iter().any(|variance| *variance < 0.0) {
                    problems.push(format!("{name}.running_var holds a negative variance"));
                }
                let bias = BatchNorm {
                    weight: &scale,
                    bias: &bias,
                    mean: &mean,
                    variance: &variance.iter().map(|v| v.max(0.0)).collect::<Vec<_>>(),
                }
                .fold(network.epsilon, &mut weight);
                if weight.iter().chain(&bias).any(|value| !value.is_finite()) {
                    problems.push(format!(
                        "{} becomes infinite when {name} is folded in",
                        layer.name
                    ));
                }
                bias
            }
            _ => next(),
        };
        arrays.extend([weight, bias]);
    }
    if problems.is_empty() {
        Ok(arrays)
    } else {
        Err(file.error(problems))
    }
}

/// Weight, bias, mean, variance.
const BATCH_NORM_PARTS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Fails unless there are as many numbers as a layout says.
pub(super) fn check(
    network: &'static str,
    layout: &[(String, Vec<usize>)],
    arrays: &[Vec<f32>],
) -> Result<(), BackboneError> {
    let wrong = |reason| BackboneError::Rebuild { network, reason };
    let (found, expected) = (arrays.len(), layout.len());
    if found != expected {
        return Err(wrong(format!("{found} arrays instead of {expected}")));
    }
    for ((name, shape), values) in layout.iter().zip(arrays) {
        let (found, expected) = (values.len(), shape.iter().product::<usize>());
        if found != expected {
            return Err(wrong(format!(
                "{name} has {found} numbers instead of {expected}"
            )));
        }
    }
    Ok(())
}
