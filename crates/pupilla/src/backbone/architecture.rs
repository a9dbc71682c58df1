//! A network without its numbers: what it computes, how files name its layers, and which of its values it gives.

use pupilla_nn::{Convolution, Graph, Operation, Value};

use super::output::{FEATURES, Output};

/// A convolution as files of weights know it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Name of the module that holds it.
    pub name: String,
    /// Name of the batch norm behind it, in files where it is not folded in.
    pub batch_norm: Option<String>,
    /// What it computes once batch norm is folded in; it has a bias.
    pub convolution: Convolution,
    /// A fully connected layer, whose weight is stored as `[out_channels, in_channels]`.
    pub linear: bool,
}

impl Layer {
    /// Names and shapes of weight and bias once batch norm is folded in.
    pub fn layout(&self) -> [(String, Vec<usize>); 2] {
        let [from, to] = self.convolution.channels;
        let mut shape = vec![to, from];
        if !self.linear {
            shape.extend([self.convolution.kernel; 2]);
        }
        [
            (format!("{}.weight", self.name), shape),
            (format!("{}.bias", self.name), vec![to]),
        ]
    }
}

/// A network without its numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Architecture {
    /// What it computes; only convolutions have parameters.
    pub graph: Graph,
    /// All convolutions, in the graph's order.
    pub layers: Vec<Layer>,
    /// What it gives, first layer first.
    pub outputs: Vec<(Output, Value)>,
}

impl Architecture {
    /// Adds a convolution; its value.
    pub fn layer(&mut self, layer: Layer, input: Value) -> Value {
        let operation = Operation::Convolution(layer.convolution);
        self.layers.push(layer);
        self.graph.add(operation, &[input])
    }

    /// Adds the pooled features, the means of a map of so many channels; their value.
    pub fn features(&mut self, map: Value, channels: usize, smallest_side: usize) -> Value {
        let features = self.graph.add(Operation::GlobalAverage, &[map]);
        let output = Output {
            name: FEATURES,
            channels,
            stride: None,
            first_centre: 0,
            smallest_side,
        };
        self.outputs.push((output, features));
        features
    }

    /// Names and shapes of all arrays, in the order of the graph's parameters.
    pub fn layout(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        self.layers.iter().flat_map(Layer::layout)
    }
}
