//! The engine of a GPU: computes a graph node by node in Burn's tensors. Burn's automatic differentiation gives the gradients.
//!
//! This engine fuses nothing: it is the plain twin of the processor's engine. Inputs and outputs are in the processor's memory.
//! Parameters are copied to the GPU once, and again when they change.

mod columns;
mod composed;
mod node;

use burn::tensor::{Device, Tensor as DeviceTensor, TensorData};

use crate::engine::{Engine, Gradients, Moments, Parameters, Tape, Wanted};
use crate::graph::{Graph, Operation, Value};
use crate::tensor::Tensor;

/// A GPU, through Vulkan, Metal or DirectX 12.
pub(crate) struct Gpu {
    /// Without automatic differentiation.
    device: Device,
}

/// The numbers of a graph's parameters on a GPU.
pub(crate) struct Uploaded {
    device: Device,
    /// `[count]` each, without automatic differentiation.
    arrays: Vec<DeviceTensor<1>>,
}

impl Gpu {
    /// The engine of an adapter.
    pub fn new(device: Device) -> Self {
        Self { device }
    }

    fn upload(&self, parameters: &Parameters) -> Uploaded {
        let arrays = parameters.arrays().iter().map(|values| {
            let data = TensorData::new(values.clone(), [values.len()]);
            DeviceTensor::from_data(data, &self.device)
        });
        Uploaded {
            device: self.device.clone(),
            arrays: arrays.collect(),
        }
    }

    /// The numbers of each parameter, `[count]`.
    fn numbers(&self, parameters: &Parameters) -> Vec<DeviceTensor<1>> {
        let uploaded = parameters.uploaded(|| self.upload(parameters));
        if uploaded.device == self.device {
            uploaded.arrays.clone()
        } else {
            // Another GPU was chosen before.
            self.upload(parameters).arrays
        }
    }

    fn map(&self, tensor: Tensor) -> DeviceTensor<4> {
        let shape = tensor.shape();
        DeviceTensor::from_data(TensorData::new(tensor.into_values(), shape), &self.device)
    }
}

impl Engine for Gpu {
    fn outputs(
        &self,
        graph: &Graph,
        parameters: &Parameters,
        input: &Tensor,
        wanted: &[Value],
        moments: Option<&mut Vec<Moments>>,
        proceed: &dyn Fn() -> bool,
    ) -> Option<Vec<Tensor>> {
        // A GPU takes all steps at once, and runs them by itself.
        if !proceed() {
            return None;
        }
        let numbers = self.numbers(parameters);
        let mut seen = Vec::new();
        let observed = moments.is_some().then_some(&mut seen);
        let maps = run(graph, &numbers, self.map(input.clone()), wanted, observed);
        if let Some(moments) = moments {
            let of_maps = seen.into_iter();
            moments.extend(of_maps.map(|[means, variances]| read_moments(means, variances)));
        }
        Some(maps.into_iter().map(read_map).collect())
    }

    fn record<'a>(
        &self,
        graph: &'a Graph,
        parameters: &'a Parameters,
        input: &'a Tensor,
    ) -> Box<dyn Tape + 'a> {
        let numbers = self.numbers(parameters).into_iter();
        let numbers: Vec<_> = numbers.map(|of| of.autodiff().require_grad()).collect();
        let input = self.map(input.clone()).autodiff().require_grad();
        let wanted = [graph.output()];
        let map = run(graph, &numbers, input.clone(), &wanted, None).swap_remove(0);
        Box::new(Recorded {
            output: read_map(map.clone().inner()),
            map,
            input,
            numbers,
        })
    }
}

/// The wanted values, in the order asked for. `moments` takes means and variances, `[channels]`, of each map that batch norm is given
/// on the way.
fn run(
    graph: &Graph,
    numbers: &[DeviceTensor<1>],
    input: DeviceTensor<4>,
    wanted: &[Value],
    mut moments: Option<&mut Vec<[DeviceTensor<1>; 2]>>,
) -> Vec<DeviceTensor<4>> {
    let mut values = Values {
        maps: vec![None; graph.nodes().len() + 1],
        reads: reads(graph, wanted),
    };
    values.maps[Graph::INPUT.index()] = Some(input);
    let first_parameters = graph.first_parameters();
    for (index, node) in graph.nodes().iter().enumerate() {
        let output = Value::of_node(index).index();
        if values.reads[output] == 0 {
            continue;
        }
        let sources = node.inputs.iter().map(|value| values.read(*value));
        let mut sources: Vec<_> = sources.collect();
        let numbers = &numbers[first_parameters[index]..first_parameters[index + 1]];
        let map = match &node.operation {
            Operation::BatchNorm(norm) => {
                let (map, seen) = composed::batch_norm(norm, numbers, sources.swap_remove(0));
                if let Some(moments) = &mut moments {
                    moments.push(seen);
                }
                map
            }
            operation => node::forward(operation, numbers, sources),
        };
        values.maps[output] = Some(map);
    }
    wanted.iter().map(|value| values.read(*value)).collect()
}

/// The values of a graph that have been computed and are still needed.
struct Values {
    maps: Vec<Option<DeviceTensor<4>>>,
    /// How often each is still to be read.
    reads: Vec<usize>,
}

impl Values {
    /// A value; the last time it is forgotten.
    fn read(&mut self, value: Value) -> DeviceTensor<4> {
        let index = value.index();
        self.reads[index] -= 1;
        let map = if self.reads[index] == 0 {
            self.maps[index].take()
        } else {
            self.maps[index].clone()
        };
        match map {
            Some(map) => map,
            None => unreachable!("nodes stand in the order of their needs"),
        }
    }
}

/// How often each value is read on the way to the wanted values; the caller's reading counts too. A value that is never read is not
/// computed.
fn reads(graph: &Graph, wanted: &[Value]) -> Vec<usize> {
    let mut reads = vec![0; graph.nodes().len() + 1];
    for value in wanted {
        reads[value.index()] += 1;
    }
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        if reads[Value::of_node(index).index()] > 0 {
            for input in &node.inputs {
                reads[input.index()] += 1;
            }
        }
    }
    reads
}

/// A run whose parameters and input are tracked.
struct Recorded {
    /// What the graph gave, on the processor.
    output: Tensor,
    map: DeviceTensor<4>,
    input: DeviceTensor<4>,
    numbers: Vec<DeviceTensor<1>>,
}

impl Tape for Recorded {
    fn output(&self) -> &Tensor {
        &self.output
    }

    fn backward(self: Box<Self>, gradient: Tensor, wanted: Wanted) -> Gradients {
        let Self {
            output,
            map,
            input,
            numbers,
        } = *self;
        assert_eq!(
            gradient.shape(),
            output.shape(),
            "the gradient of an output has its shape"
        );
        let shape = gradient.shape();
        let data = TensorData::new(gradient.into_values(), shape);
        let weights = DeviceTensor::<4>::from_data(data, &map.device());
        let gradients = (map * weights).sum().backward();
        let mut parameters = Vec::new();
        if wanted.parameters {
            for of in numbers {
                parameters.push(match of.grad(&gradients) {
                    Some(gradient) => read(gradient),
                    // A parameter of a node that the output does not depend on.
                    None => vec![0.0; of.dims()[0]],
                });
            }
        }
        let of_input = wanted.input.then(|| input.grad(&gradients).map(read_map));
        Gradients {
            parameters,
            input: of_input.flatten(),
        }
    }
}

/// A tensor's numbers, row-major.
fn read<const D: usize>(tensor: DeviceTensor<D>) -> Vec<f32> {
    match tensor.into_data().try_into_vec() {
        Ok(values) => values,
        Err(error) => unreachable!("all tensors here are f32: {error:?}"),
    }
}

fn read_map(map: DeviceTensor<4>) -> Tensor {
    let shape = map.dims();
    Tensor::new(read(map), shape)
}

/// From means and variances.
fn read_moments(means: DeviceTensor<1>, variances: DeviceTensor<1>) -> Moments {
    let widened = |tensor| -> Vec<f64> { read(tensor).into_iter().map(f64::from).collect() };
    let means = widened(means);
    let pairs = widened(variances).into_iter().zip(&means);
    Moments {
        squares: pairs
            .map(|(variance, mean)| variance + mean * mean)
            .collect(),
        means,
    }
}
