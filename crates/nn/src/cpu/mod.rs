//! The engine of the processor: computes a graph step by step with the kernels of `pupilla-conv`.
//!
//! A step is a node, or a convolution fused with the batch norm before it and the max-pooling after it. The factors of batch norm go
//! into the convolution's weights. No map is written in between.

mod batch_norm;
mod convolution;
mod depthwise;
mod elementwise;
mod padding;
mod pooling;
mod step;
mod transposed_convolution;

use crate::engine::{Engine, Gradients, Moments, Parameters, Tape, Wanted};
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;
use step::{Kept, Step, steps};

/// The processor, through the kernels of `pupilla-conv`, on the current rayon pool. The same input, instruction set and number of
/// threads give the same bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

impl Engine for Cpu {
    fn outputs(
        &self,
        graph: &Graph,
        parameters: &Parameters,
        input: &Tensor,
        wanted: &[Value],
        mut moments: Option<&mut Vec<Moments>>,
        proceed: &dyn Fn() -> bool,
    ) -> Option<Vec<Tensor>> {
        let steps = steps(graph, wanted);
        let mut last_use = vec![0; graph.nodes().len() + 1];
        for (index, step) in steps.iter().enumerate() {
            for source in step.sources() {
                last_use[source.index()] = index;
            }
        }
        let mut values = Values::new(graph, input);
        for (index, step) in steps.iter().enumerate() {
            if !proceed() {
                return None;
            }
            let (output, seen) = {
                let sources = values.of(step.sources());
                let forward = step.forward(parameters.arrays(), &sources, false);
                (forward.output, forward.moments)
            };
            if let (Some(moments), Some(seen)) = (&mut moments, seen) {
                moments.push(seen);
            }
            values.set(step.output, output);
            for source in step.sources() {
                if last_use[source.index()] == index && !wanted.contains(source) {
                    values.forget(*source);
                }
            }
        }
        let mut wanted_values = Vec::with_capacity(wanted.len());
        for (index, value) in wanted.iter().enumerate() {
            let again = wanted[index + 1..].contains(value);
            wanted_values.push(if again {
                values.get(*value).clone()
            } else {
                values.take(*value)
            });
        }
        Some(wanted_values)
    }

    fn record<'a>(
        &self,
        graph: &'a Graph,
        parameters: &'a Parameters,
        input: &'a Tensor,
    ) -> Box<dyn Tape + 'a> {
        let steps = steps(graph, &[graph.output()]);
        let mut values = Values::new(graph, input);
        let mut kept = Vec::with_capacity(steps.len());
        for step in &steps {
            let forward = {
                let sources = values.of(step.sources());
                step.forward(parameters.arrays(), &sources, true)
            };
            values.set(step.output, forward.output);
            kept.push(forward.kept);
        }
        Box::new(Recorded {
            graph,
            parameters,
            steps,
            values,
            kept,
        })
    }
}

/// The values of a graph that have been computed and are still needed.
struct Values<'a> {
    input: &'a Tensor,
    of_nodes: Vec<Option<Tensor>>,
}

impl<'a> Values<'a> {
    fn new(graph: &Graph, input: &'a Tensor) -> Self {
        Self {
            input,
            of_nodes: vec![None; graph.nodes().len()],
        }
    }

    fn get(&self, value: Value) -> &Tensor {
        match value.index().checked_sub(1) {
            None => self.input,
            Some(node) => match &self.of_nodes[node] {
                Some(tensor) => tensor,
                None => unreachable!("steps stand in the order of their needs"),
            },
        }
    }

    fn of(&self, values: &[Value]) -> Vec<&Tensor> {
        values.iter().map(|value| self.get(*value)).collect()
    }

    fn set(&mut self, value: Value, tensor: Tensor) {
        self.of_nodes[value.index() - 1] = Some(tensor);
    }

    fn forget(&mut self, value: Value) {
        if let Some(node) = value.index().checked_sub(1) {
            self.of_nodes[node] = None;
        }
    }

    /// The value, which is not needed any more.
    fn take(&mut self, value: Value) -> Tensor {
        match value.index().checked_sub(1) {
            None => self.input.clone(),
            Some(node) => self.of_nodes[node].take().unwrap_or_default(),
        }
    }
}

/// A run with what its gradients need.
struct Recorded<'a> {
    graph: &'a Graph,
    parameters: &'a Parameters,
    steps: Vec<Step<'a>>,
    values: Values<'a>,
    kept: Vec<Kept>,
}

impl Tape for Recorded<'_> {
    fn output(&self) -> &Tensor {
        self.values.get(self.graph.output())
    }

    fn backward(self: Box<Self>, gradient: Tensor, wanted: Wanted) -> Gradients {
        let Self {
            graph,
            parameters,
            steps,
            mut values,
            mut kept,
        } = *self;
        assert_eq!(
            gradient.shape(),
            values.get(graph.output()).shape(),
            "the gradient of an output has its shape"
        );
        let needed = needed(graph, &steps, wanted);
        let mut of_values: Vec<Option<Tensor>> = vec![None; graph.nodes().len() + 1];
        of_values[graph.output().index()] = Some(gradient);
        let mut of_parameters = vec![Vec::new(); graph.parameters().len()];
        for (step, kept) in steps.iter().zip(kept.drain(..)).rev() {
            let Some(gradient) = of_values[step.output.index()].take() else {
                continue;
            };
            let backward = {
                let sources = values.of(step.sources());
                let wanted_sources: Vec<bool> = step
                    .sources()
                    .iter()
                    .map(|source| needed[source.index()])
                    .collect();
                let output = values.get(step.output);
                let numbers = parameters.arrays();
                step.backward(
                    numbers,
                    (&sources, output, kept),
                    gradient,
                    (wanted.parameters, &wanted_sources),
                )
            };
            for (source, gradient) in step.sources().iter().zip(backward.sources) {
                if let Some(gradient) = gradient {
                    let slot = &mut of_values[source.index()];
                    match slot {
                        None => *slot = Some(gradient),
                        Some(sum) => elementwise::add(sum, &gradient),
                    }
                }
            }
            for (index, gradient) in backward.parameters {
                of_parameters[index] = gradient;
            }
            // Its gradients were the last need of a value.
            values.forget(step.output);
        }
        if wanted.parameters {
            let parameters = graph.parameters();
            for (gradient, parameter) in of_parameters.iter_mut().zip(parameters) {
                // A parameter of a node that the output does not depend on.
                gradient.resize(parameter.count(), 0.0);
            }
        } else {
            of_parameters.clear();
        }
        Gradients {
            parameters: of_parameters,
            input: of_values[0].take().filter(|_| wanted.input),
        }
    }
}

/// The values whose gradients lead to something that is wanted.
fn needed(graph: &Graph, steps: &[Step<'_>], wanted: Wanted) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes().len() + 1];
    needed[0] = wanted.input;
    for step in steps {
        needed[step.output.index()] = (wanted.parameters && step.has_parameters())
            || step.sources().iter().any(|source| needed[source.index()]);
    }
    needed
}
