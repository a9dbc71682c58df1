//! Batch norm with fixed statistics is a factor and an offset for each channel: both are folded into the neighbouring convolution, so a
//! trained network has no batch norm (Ioffe and Szegedy 2015, §3.1).

use crate::engine::{Moments, Parameters};
use crate::graph::{BatchNorm, Convolution, Graph, Operation, Value};

/// The means of the moments of several batches: what batch norm is [folded](fold) with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Of each batch norm, first node first.
    maps: Vec<Moments>,
    batches: usize,
}

impl Statistics {
    /// Adds a batch's moments, as [`Graph::observe`] gives them.
    pub fn add(&mut self, maps: Vec<Moments>) {
        self.batches += 1;
        if self.maps.is_empty() {
            self.maps = maps;
            return;
        }
        let share = 1.0 / self.batches as f64;
        for (all, new) in self.maps.iter_mut().zip(maps) {
            for (all, new) in [(&mut all.means, new.means), (&mut all.squares, new.squares)] {
                for (all, new) in all.iter_mut().zip(new) {
                    *all += (new - *all) * share;
                }
            }
        }
    }
}

/// The graph without its batch norms, and the parameters with which it computes the same values for these statistics. Without
/// statistics, mean 0 and deviation 1 are taken.
///
/// A batch norm with scale and offset goes into the convolution before it. A batch norm without them goes into the convolution after
/// it.
///
/// # Panics
/// If there is no such convolution, or the convolution after it is padded: the padding is not normalised with the map.
pub fn fold(
    graph: &Graph,
    parameters: &Parameters,
    statistics: &Statistics,
) -> (Graph, Parameters) {
    let mut folded = Graph::default();
    let mut arrays: Vec<Vec<f32>> = Vec::new();
    // Where each value of the old graph is in the new one.
    let mut places = vec![Graph::INPUT];
    // What the next convolution still has to take up.
    let mut pending: Option<Factors> = None;
    let mut old = parameters.arrays().iter();
    let mut maps = statistics.maps.iter();
    for node in graph.nodes() {
        let inputs: Vec<Value> = node
            .inputs
            .iter()
            .map(|value| places[value.index()])
            .collect();
        let mut own: Vec<Vec<f32>> = (0..node.operation.parameters().len())
            .map(|_| old.next().cloned().unwrap_or_default())
            .collect();
        let place = match node.operation {
            Operation::BatchNorm(norm) => {
                let factors = Factors::new(&norm, &own, maps.next());
                if norm.affine {
                    let last = last_convolution(&mut folded, inputs[0]);
                    let Some(convolution) = last else {
                        panic!("batch norm with a scale follows a convolution")
                    };
                    let had_bias = convolution.bias;
                    convolution.bias = true;
                    convolution.slope = norm.slope;
                    let shape = *convolution;
                    let transposed = is_transposed(&folded, inputs[0]);
                    if !had_bias {
                        arrays.push(vec![0.0; shape.channels[1]]);
                    }
                    factors.into_output(&shape, transposed, &mut arrays);
                } else {
                    assert!(norm.slope == 1.0, "its activation would be lost");
                    pending = Some(factors);
                }
                inputs[0]
            }
            Operation::Convolution(mut shape) => {
                if let Some(factors) = pending.take() {
                    assert!(shape.padding == 0, "zeros around a map are not normalised");
                    if !shape.bias {
                        shape.bias = true;
                        own.push(vec![0.0; shape.channels[1]]);
                    }
                    factors.into_input(&mut own);
                }
                arrays.extend(own);
                folded.add(Operation::Convolution(shape), &inputs)
            }
            operation => {
                assert!(
                    pending.is_none(),
                    "batch norm without a scale is followed by a convolution"
                );
                arrays.extend(own);
                folded.add(operation, &inputs)
            }
        };
        places.push(place);
    }
    (folded, Parameters::new(arrays))
}

/// The convolution that gives a value, to be changed.
fn last_convolution(graph: &mut Graph, value: Value) -> Option<&mut Convolution> {
    let node = value.index().checked_sub(1)?;
    match graph.operation_mut(node) {
        Operation::Convolution(shape) | Operation::TransposedConvolution(shape) => Some(shape),
        _ => None,
    }
}

fn is_transposed(graph: &Graph, value: Value) -> bool {
    let node = value.index().checked_sub(1).map(|at| &graph.nodes()[at]);
    node.is_some_and(|node| matches!(node.operation, Operation::TransposedConvolution(_)))
}

/// What batch norm does with fixed statistics: `(x - mean) · factor + bias` of each channel.
struct Factors {
    means: Vec<f64>,
    factors: Vec<f64>,
    biases: Vec<f64>,
}

impl Factors {
    fn new(norm: &BatchNorm, numbers: &[Vec<f32>], moments: Option<&Moments>) -> Self {
        let channels = norm.channels;
        let (scales, biases) = match numbers {
            [scales, biases] if norm.affine => (widened(scales), widened(biases)),
            _ => (vec![1.0; channels], vec![0.0; channels]),
        };
        let Some(Moments { means, squares }) = moments else {
            return Self {
                means: vec![0.0; channels],
                factors: scales,
                biases,
            };
        };
        let factors = scales.iter().zip(means.iter().zip(squares));
        let factors = factors.map(|(scale, (mean, square))| {
            scale / ((square - mean * mean).max(0.0) + norm.epsilon).sqrt()
        });
        Self {
            factors: factors.collect(),
            means: means.clone(),
            biases,
        }
    }

    /// Into the convolution that makes the map, whose weight and bias are the last two arrays.
    fn into_output(self, of: &Convolution, transposed: bool, arrays: &mut [Vec<f32>]) {
        let [.., weight, bias] = arrays else { return };
        let [from, to] = of.channels;
        for (index, kernel) in weight.chunks_exact_mut(of.kernel * of.kernel).enumerate() {
            let output = if transposed { index % to } else { index / from };
            for value in kernel {
                *value = (f64::from(*value) * self.factors[output]) as f32;
            }
        }
        for (output, bias) in bias.iter_mut().enumerate() {
            let centred = f64::from(*bias) - self.means[output];
            *bias = (centred * self.factors[output] + self.biases[output]) as f32;
        }
    }

    /// Into the convolution that reads the map, of its weight and bias.
    fn into_input(self, arrays: &mut [Vec<f32>]) {
        let [weight, bias] = arrays else { return };
        let channels = self.factors.len();
        let taps = weight.len() / (bias.len() * channels);
        for (row, bias) in weight.chunks_exact_mut(channels * taps).zip(bias) {
            let mut offset = 0.0;
            let kernels = row.chunks_exact_mut(taps).zip(&self.factors);
            for (kernel, (factor, mean)) in kernels.zip(&self.means).map(|((k, f), m)| (k, (f, m)))
            {
                for value in kernel {
                    let folded = f64::from(*value) * factor;
                    offset += folded * mean;
                    *value = folded as f32;
                }
            }
            *bias = (f64::from(*bias) - offset) as f32;
        }
    }
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}
