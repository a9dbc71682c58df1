//! One step of a run: a node, or a convolution with the batch norm before it and the max-pooling after it.

use super::{
    batch_norm, convolution, depthwise, elementwise, padding, pooling, transposed_convolution,
};
use crate::engine::Moments;
use crate::graph::{BatchNorm, Convolution, Graph, MaxPool, Operation, Value};
use crate::tensor::Tensor;

/// What is computed at once.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub kind: Kind<'a>,
    sources: Vec<Value>,
    /// The value that it gives.
    pub output: Value,
    /// Index of its first parameter.
    parameters: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// A convolution.
    Convolution(convolution::Fused<'a>),
    /// Any other node.
    Node(&'a Operation),
}

/// What a forward pass keeps for the backward pass beside inputs and output.
#[derive(Debug, Default)]
pub(super) enum Kept {
    #[default]
    Nothing,
    /// Of a convolution.
    Convolution(convolution::Kept),
    /// The statistics of batch norm.
    Moments(Moments),
}

/// What a forward pass gives.
pub(super) struct Forward {
    pub output: Tensor,
    pub kept: Kept,
    /// Of the map that batch norm was given, if there is one.
    pub moments: Option<Moments>,
}

/// What a backward pass gives.
#[derive(Default)]
pub(super) struct Backward {
    /// Of each source, if wanted.
    pub sources: Vec<Option<Tensor>>,
    /// Of the parameters of these indices.
    pub parameters: Vec<(usize, Vec<f32>)>,
}

/// The steps that lead to some values, in order.
pub(super) fn steps<'a>(graph: &'a Graph, wanted: &[Value]) -> Vec<Step<'a>> {
    let nodes = graph.nodes();
    let mut needed = vec![false; nodes.len() + 1];
    let mut readers = vec![0; nodes.len() + 1];
    for value in wanted {
        needed[value.index()] = true;
        // What is wanted is read by whoever wants it, and cannot be left out.
        readers[value.index()] += 1;
    }
    for (index, node) in nodes.iter().enumerate().rev() {
        if needed[index + 1] {
            for input in &node.inputs {
                needed[input.index()] = true;
                readers[input.index()] += 1;
            }
        }
    }
    // The node that gives a value, if nothing but the asking node reads it.
    let alone = |value: Value| match value.index().checked_sub(1) {
        Some(node) if readers[value.index()] == 1 => Some(&nodes[node]),
        _ => None,
    };
    let mut absorbed = vec![false; nodes.len()];
    let first_parameters = graph.first_parameters();
    let mut steps: Vec<Step<'a>> = Vec::new();
    // From the end, so that a convolution knows what follows it.
    for (index, node) in nodes.iter().enumerate().rev() {
        if !needed[index + 1] || absorbed[index] {
            continue;
        }
        let output = Value::of_node(index);
        let mut at = index;
        let mut pooled = false;
        if let Operation::MaxPool(MaxPool::HALVING) = node.operation
            && let Some(before) = alone(node.inputs[0])
            && let Operation::Convolution(Convolution {
                stride: 1,
                ceiling: f32::INFINITY,
                ..
            }) = before.operation
        {
            at = node.inputs[0].index() - 1;
            absorbed[at] = true;
            pooled = true;
        }
        let mut sources = nodes[at].inputs.clone();
        let kind = match &nodes[at].operation {
            Operation::Convolution(shape) => {
                let mut normalised = None;
                if let Some(before) = alone(sources[0])
                    && let Operation::BatchNorm(BatchNorm {
                        epsilon,
                        affine: false,
                        slope: 1.0,
                        ..
                    }) = before.operation
                    && shape.padding == 0
                {
                    normalised = Some(epsilon);
                    absorbed[sources[0].index() - 1] = true;
                    sources = before.inputs.clone();
                }
                Kind::Convolution(convolution::Fused {
                    shape,
                    normalised,
                    pooled,
                })
            }
            operation => Kind::Node(operation),
        };
        steps.push(Step {
            kind,
            sources,
            output,
            parameters: first_parameters[at],
        });
    }
    steps.reverse();
    steps
}

impl Step<'_> {
    /// The values that it reads.
    pub fn sources(&self) -> &[Value] {
        &self.sources
    }

    /// Whether it learns anything.
    pub fn has_parameters(&self) -> bool {
        match self.kind {
            Kind::Convolution(_) => true,
            Kind::Node(operation) => !operation.parameters().is_empty(),
        }
    }

    /// Computes its output; keeps what the backward pass needs if there will be one.
    pub fn forward(&self, numbers: &[Vec<f32>], sources: &[&Tensor], keep: bool) -> Forward {
        let numbers = &numbers[self.parameters..];
        let plain = |output| Forward {
            output,
            kept: Kept::Nothing,
            moments: None,
        };
        match self.kind {
            Kind::Convolution(fused) => {
                let (output, kept) = fused.forward(numbers, sources[0], keep);
                let moments = kept.moments().cloned();
                Forward {
                    output,
                    kept: Kept::Convolution(kept),
                    moments,
                }
            }
            Kind::Node(Operation::BatchNorm(norm)) => {
                let moments = batch_norm::moments(sources[0]);
                Forward {
                    output: batch_norm::forward(norm, numbers, sources[0], &moments),
                    kept: Kept::Moments(moments.clone()),
                    moments: Some(moments),
                }
            }
            Kind::Node(operation) => plain(match operation {
                Operation::TransposedConvolution(shape) => {
                    transposed_convolution::forward(shape, numbers, sources[0])
                }
                Operation::DepthwiseConvolution(of) => depthwise::forward(of, numbers, sources[0]),
                Operation::SamePadding(window) => padding::padded(window, sources[0]),
                Operation::MaxPool(pool) => pooling::max_pool(pool, sources[0]),
                Operation::MaxPoolFragments => pooling::max_pool_fragments(sources[0]),
                Operation::Weave => pooling::weave(sources[0]),
                Operation::Add { slope } => elementwise::sum(sources, *slope),
                Operation::Concatenate => elementwise::concatenated(sources),
                Operation::GlobalAverage => elementwise::global_average(sources[0]),
                Operation::Sigmoid => elementwise::sigmoid(sources[0]),
                Operation::Convolution(_) | Operation::BatchNorm(_) => {
                    unreachable!("they have arms of their own")
                }
            }),
        }
    }

    /// The wanted gradients, from that of the output.
    pub fn backward(
        &self,
        numbers: &[Vec<f32>],
        (sources, output, kept): (&[&Tensor], &Tensor, Kept),
        mut gradient: Tensor,
        (of_parameters, of_sources): (bool, &[bool]),
    ) -> Backward {
        let numbers = &numbers[self.parameters..];
        let with_parameters = |source: Option<Tensor>, arrays: Vec<Vec<f32>>| Backward {
            sources: vec![source],
            parameters: (self.parameters..).zip(arrays).collect(),
        };
        let of_source = of_sources[0];
        let one = |gradient: Option<Tensor>| Backward {
            sources: vec![gradient],
            parameters: Vec::new(),
        };
        match self.kind {
            Kind::Convolution(fused) => {
                let Kept::Convolution(kept) = kept else {
                    unreachable!("what its forward pass kept")
                };
                let (source, arrays) = fused.backward(
                    numbers,
                    (sources[0], output, kept),
                    gradient,
                    [of_parameters, of_source],
                );
                with_parameters(source, arrays)
            }
            Kind::Node(Operation::TransposedConvolution(shape)) => {
                let (source, arrays) = transposed_convolution::backward(
                    shape,
                    numbers,
                    (sources[0], output),
                    gradient,
                    [of_parameters, of_source],
                );
                with_parameters(source, arrays)
            }
            Kind::Node(Operation::DepthwiseConvolution(of)) => {
                let (source, arrays) = depthwise::backward(
                    of,
                    numbers,
                    (sources[0], output),
                    gradient,
                    [of_parameters, of_source],
                );
                with_parameters(source, arrays)
            }
            Kind::Node(Operation::BatchNorm(norm)) => {
                let Kept::Moments(moments) = kept else {
                    unreachable!("what its forward pass kept")
                };
                let (source, arrays) =
                    batch_norm::backward(norm, numbers, (sources[0], output), &moments, gradient);
                let arrays = if of_parameters { arrays } else { Vec::new() };
                with_parameters(of_source.then_some(source), arrays)
            }
            Kind::Node(operation) => {
                match operation {
                    Operation::SamePadding(window) => {
                        one(of_source.then(|| padding::cropped(window, sources[0], &gradient)))
                    }
                    Operation::MaxPool(pool) => {
                        one(of_source
                            .then(|| pooling::max_pool_gradient(pool, sources[0], &gradient)))
                    }
                    Operation::MaxPoolFragments => one(of_source
                        .then(|| pooling::max_pool_fragments_gradient(sources[0], &gradient))),
                    Operation::Weave => one(of_source.then(|| pooling::unwoven(&gradient))),
                    Operation::Add { slope } => {
                        elementwise::activation_gradient(output, *slope, &mut gradient);
                        let first = of_sources[0].then(|| gradient.clone());
                        Backward {
                            sources: vec![first, of_sources[1].then_some(gradient)],
                            parameters: Vec::new(),
                        }
                    }
                    Operation::Concatenate => Backward {
                        sources: elementwise::separated(sources, &gradient)
                            .into_iter()
                            .zip(of_sources)
                            .map(|(gradient, wanted)| wanted.then_some(gradient))
                            .collect(),
                        parameters: Vec::new(),
                    },
                    Operation::GlobalAverage => one(of_source
                        .then(|| elementwise::global_average_gradient(sources[0], &gradient))),
                    Operation::Sigmoid => {
                        one(of_source.then(|| elementwise::sigmoid_gradient(output, gradient)))
                    }
                    Operation::Convolution(_)
                    | Operation::TransposedConvolution(_)
                    | Operation::DepthwiseConvolution(_)
                    | Operation::BatchNorm(_) => unreachable!("they have arms of their own"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn norm() -> Operation {
        Operation::BatchNorm(BatchNorm {
            channels: 4,
            epsilon: 1e-3,
            affine: false,
            slope: 1.0,
        })
    }

    #[test]
    fn a_convolution_takes_its_neighbours_along() {
        let convolution = Operation::Convolution(Convolution::new([4, 4], 2));
        let halving = Operation::MaxPool(MaxPool::HALVING);
        let graph = Graph::chain([convolution, halving, norm(), convolution, halving]);
        assert_eq!(steps(&graph, &[graph.output()]).len(), 2);
        // What is wanted by itself is computed by itself.
        let first = Value::of_node(0);
        assert_eq!(steps(&graph, &[first, graph.output()]).len(), 3);
        // What nothing leads to is not computed.
        assert_eq!(steps(&graph, &[first]).len(), 1);
    }
}
