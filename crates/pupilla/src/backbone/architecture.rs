//! A network without its weights: its graph, the names of its layers in files, and its outputs.

use pupilla_nn::{Convolution, Graph, Operation, Value};

use super::output::{Centres, FEATURES, LOGITS, Output};

/// A convolution as files of weights know it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Name of the module that holds it.
    pub name: String,
    /// Name of the batch norm after it, in files where batch norm is not folded in.
    pub batch_norm: Option<String>,
    /// Its operation after batch norm is folded in: a convolution with a bias.
    pub operation: Operation,
    /// A fully connected layer, whose weight is stored as `[out_channels, in_channels]`.
    pub linear: bool,
}

impl Layer {
    /// Names and shapes of weight and bias once batch norm is folded in.
    pub fn layout(&self) -> [(String, Vec<usize>); 2] {
        let parameters = self.operation.parameters().into_iter();
        let mut shapes = parameters.map(|parameter| parameter.shape);
        let mut next = || shapes.next().unwrap_or_default();
        let mut weight = next();
        if self.linear {
            weight.truncate(2);
        }
        [
            (format!("{}.weight", self.name), weight),
            (format!("{}.bias", self.name), next()),
        ]
    }
}

/// A network without its numbers.
#[derive(Clone, Debug)]
pub(super) struct Architecture {
    /// What its batch norms add to a variance.
    pub epsilon: f64,
    /// Its graph; only convolutions have parameters.
    pub graph: Graph,
    /// All convolutions, in the graph's order.
    pub layers: Vec<Layer>,
    /// Its outputs, first layer first.
    pub outputs: Vec<(Output, Value)>,
}

impl Architecture {
    /// A network without layers; `epsilon` is what its batch norms add to a variance.
    pub fn new(epsilon: f64) -> Self {
        Self {
            epsilon,
            graph: Graph::default(),
            layers: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Adds a convolution; its value.
    pub fn layer(&mut self, layer: Layer, input: Value) -> Value {
        let operation = layer.operation;
        self.layers.push(layer);
        self.graph.add(operation, &[input])
    }

    /// Adds the fully connected layer that gives class scores from the pooled features; both are outputs.
    pub fn classes(&mut self, name: &str, [features, classes]: [usize; 2], pooled: Value) {
        let layer = Layer {
            name: name.to_string(),
            batch_norm: None,
            operation: Operation::Convolution(Convolution::new([features, classes], 1)),
            linear: true,
        };
        let logits = self.layer(layer, pooled);
        let output = Output {
            name: LOGITS,
            channels: classes,
            stride: None,
            centres: Centres::First(0),
            smallest_side: 1,
        };
        self.outputs.push((output, logits));
    }

    /// Adds the pooled features, the means of each channel of a map; their value.
    pub fn features(&mut self, map: Value, channels: usize, smallest_side: usize) -> Value {
        let features = self.graph.add(Operation::GlobalAverage, &[map]);
        let output = Output {
            name: FEATURES,
            channels,
            stride: None,
            centres: Centres::First(0),
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
