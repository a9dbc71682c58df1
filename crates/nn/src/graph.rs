//! A network as data: operations, their inputs, their parameters.

use std::fmt;

/// A value of a graph: its input, or what one of its nodes gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(usize);

impl Value {
    /// 0 is the graph's input, `n + 1` the output of the node `n`.
    pub fn index(self) -> usize {
        self.0
    }

    /// The output of the node of this index.
    pub(crate) fn of_node(index: usize) -> Self {
        Self(index + 1)
    }
}

/// A convolution or a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Convolution {
    /// Channels of input and output.
    pub channels: [usize; 2],
    /// Side of the kernel.
    pub kernel: usize,
    /// Step between outputs. Of a transposed convolution: the distance in the output between the places to which neighbouring inputs
    /// add.
    pub stride: usize,
    /// Zeros around the input; of a transposed convolution, rows and columns that are cut off around the output.
    pub padding: usize,
    /// Whether each output channel has a number that is added.
    pub bias: bool,
    /// The slope of the leaky ReLU after it, in `[0, 1]`: 1 for no activation, 0 for the plain ReLU.
    pub slope: f32,
    /// The largest output, above 0: larger outputs are cut to it after the leaky ReLU. Infinity for no limit; 6 with slope 0 is ReLU6.
    pub ceiling: f32,
}

/// A depthwise convolution, each channel with a kernel of its own, with biases and [same padding](SamePadding).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthwiseConvolution {
    /// Channels of input and output.
    pub channels: usize,
    /// Side of the kernel, and the step between outputs.
    pub window: SamePadding,
    /// As [`Convolution::slope`].
    pub slope: f32,
    /// As [`Convolution::ceiling`].
    pub ceiling: f32,
}

/// TensorFlow's padding `SAME`: as many zeros around a map that its windows are `side / stride`, rounded up. Of an odd number of zeros,
/// the larger part stands at the bottom and at the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamePadding {
    /// Side of the windows.
    pub kernel: usize,
    /// Distance between windows.
    pub stride: usize,
}

impl SamePadding {
    /// The zeros before and after a side of a map.
    pub fn zeros(&self, side: usize) -> [usize; 2] {
        let last = side.div_ceil(self.stride).saturating_sub(1) * self.stride;
        let all = (last + self.kernel).saturating_sub(side);
        [all / 2, all - all / 2]
    }
}

impl Convolution {
    /// A valid convolution of stride 1 with a bias and no activation.
    pub fn new(channels: [usize; 2], kernel: usize) -> Self {
        Self {
            channels,
            kernel,
            stride: 1,
            padding: 0,
            bias: true,
            slope: 1.0,
            ceiling: f32::INFINITY,
        }
    }
}

/// Max-pooling in square windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Side of a window.
    pub size: usize,
    /// Distance between windows.
    pub stride: usize,
    /// Rows and columns beyond the map that windows may reach into, which count as smaller than any number; less than `size`.
    pub padding: usize,
    /// Whether a last window that the map's edge cuts off counts (PyTorch's `ceil_mode`).
    pub partial: bool,
}

impl MaxPool {
    /// 2×2 with stride 2; a last odd row or column is dropped.
    pub const HALVING: Self = Self {
        size: 2,
        stride: 2,
        padding: 0,
        partial: false,
    };

    /// Windows along a side of a map.
    pub fn windows(&self, side: usize) -> usize {
        let room = (side + 2 * self.padding).saturating_sub(self.size);
        if !self.partial {
            return room / self.stride + 1;
        }
        let windows = room.div_ceil(self.stride) + 1;
        // A window that begins beyond the map and its padding at the start does not count.
        if (windows - 1) * self.stride >= side + self.padding {
            windows - 1
        } else {
            windows
        }
    }
}

/// Batch norm with the statistics of the batch at hand (Ioffe and Szegedy 2015): for training alone, see
/// [`fold`](crate::batch_norm::fold).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Channels of input and output.
    pub channels: usize,
    /// Added to a variance.
    pub epsilon: f64,
    /// Whether each channel has a scale and an offset to learn.
    pub affine: bool,
    /// As [`Convolution::slope`].
    pub slope: f32,
}

/// The operation of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// A cross-correlation, `[b, in, h, w]` to `[b, out, (h + 2 padding - kernel) / stride + 1, …]`.
    Convolution(Convolution),
    /// PyTorch's `ConvTranspose2d`, `[b, in, h, w]` to `[b, out, (h - 1) stride + kernel - 2 padding, …]`.
    TransposedConvolution(Convolution),
    /// A cross-correlation of each channel by itself, `[b, c, h, w]` to `[b, c, h / stride, …]`, rounded up.
    DepthwiseConvolution(DepthwiseConvolution),
    /// Zeros around a map, for a convolution without padding.
    SamePadding(SamePadding),
    /// The largest number of each window.
    MaxPool(MaxPool),
    /// 2×2 max-pooling with stride 2 at each of its four offsets, which stand next to each other in the batch: `[b, c, h, w]`, sides
    /// odd and at least 3, to `[4 b, c, (h - 1) / 2, (w - 1) / 2]` (fast dense feature extraction, Bailer et al., BMVC 2017).
    MaxPoolFragments,
    /// The inverse of the split of `MaxPoolFragments`: `[4 b, c, h, w]` to `[b, c, 2 h, 2 w]`.
    Weave,
    /// Each channel in units of its deviation over the batch.
    BatchNorm(BatchNorm),
    /// The sum of two values of one shape, then a leaky ReLU of this slope.
    Add {
        /// As [`Convolution::slope`].
        slope: f32,
    },
    /// The channels of two or more values, one after the other.
    Concatenate,
    /// The mean of each plane, `[b, c, h, w]` to `[b, c, 1, 1]`.
    GlobalAverage,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// A node: an operation and the values that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its operation.
    pub operation: Operation,
    /// The values that it reads.
    pub inputs: Vec<Value>,
}

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A kernel, `[out, in, kernel, kernel]` (`[in, out, kernel, kernel]` of a transposed convolution and `[channels, 1, kernel, kernel]` of
    /// a depthwise one, as PyTorch has them).
    Weight,
    /// Added to each output channel, `[out]`.
    Bias,
    /// What batch norm multiplies each channel by, `[channels]`.
    Scale,
}

/// A parameter: an array of learned numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its role.
    pub role: Role,
    /// Its shape; outputs first.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A network without its numbers: nodes in an order in which each reads the input or nodes before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
}

impl Graph {
    /// The input of a graph, `[batch, channels, height, width]`.
    pub const INPUT: Value = Value(0);

    /// A graph of operations in a chain: each reads the output of the operation before it.
    pub fn chain(operations: impl IntoIterator<Item = Operation>) -> Self {
        let mut graph = Self::default();
        for operation in operations {
            graph.add(operation, &[graph.output()]);
        }
        graph
    }

    /// Adds a node; its value.
    ///
    /// # Panics
    /// If it reads a value that is not there, or another number of values than its operation does.
    pub fn add(&mut self, operation: Operation, inputs: &[Value]) -> Value {
        let fits = match operation {
            Operation::Add { .. } => inputs.len() == 2,
            Operation::Concatenate => inputs.len() >= 2,
            _ => inputs.len() == 1,
        };
        assert!(fits, "{operation:?} does not read {} values", inputs.len());
        assert!(
            inputs.iter().all(|value| value.0 <= self.nodes.len()),
            "a node reads values before it"
        );
        self.nodes.push(Node {
            operation,
            inputs: inputs.to_vec(),
        });
        self.output()
    }

    /// The output of the last node; the input of a graph without nodes.
    pub fn output(&self) -> Value {
        Value(self.nodes.len())
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn operation_mut(&mut self, node: usize) -> &mut Operation {
        &mut self.nodes[node].operation
    }

    /// The first nodes, up to the one that gives `value`.
    #[must_use]
    pub fn until(&self, value: Value) -> Self {
        Self {
            nodes: self.nodes[..value.0].to_vec(),
        }
    }

    /// The parameters of all nodes, node by node: weight and bias of a convolution, scale and bias of batch norm.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes
            .iter()
            .flat_map(|node| node.operation.parameters())
            .collect()
    }

    /// Index of the first parameter of each node, and of the first that would follow.
    pub(crate) fn first_parameters(&self) -> Vec<usize> {
        let mut first = vec![0];
        for node in &self.nodes {
            first.push(first.last().unwrap_or(&0) + node.operation.parameters().len());
        }
        first
    }
}

impl Operation {
    /// Its parameters.
    pub fn parameters(&self) -> Vec<Parameter> {
        let line = |role, count| Parameter {
            role,
            shape: vec![count],
        };
        let kernel = |outer, inner, side| Parameter {
            role: Role::Weight,
            shape: vec![outer, inner, side, side],
        };
        match *self {
            Self::Convolution(Convolution {
                channels: [from, to],
                kernel: side,
                bias,
                ..
            }) => std::iter::once(kernel(to, from, side))
                .chain(bias.then(|| line(Role::Bias, to)))
                .collect(),
            Self::TransposedConvolution(Convolution {
                channels: [from, to],
                kernel: side,
                bias,
                ..
            }) => std::iter::once(kernel(from, to, side))
                .chain(bias.then(|| line(Role::Bias, to)))
                .collect(),
            Self::DepthwiseConvolution(DepthwiseConvolution {
                channels, window, ..
            }) => vec![
                kernel(channels, 1, window.kernel),
                line(Role::Bias, channels),
            ],
            Self::BatchNorm(BatchNorm {
                channels,
                affine: true,
                ..
            }) => vec![line(Role::Scale, channels), line(Role::Bias, channels)],
            _ => Vec::new(),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let convolution = |formatter: &mut fmt::Formatter<'_>, name: &str, of: &Convolution| {
            let [from, to] = of.channels;
            write!(
                formatter,
                "{name} {from} → {to}, {0}×{0}, stride {1}, padding {2}",
                of.kernel, of.stride, of.padding
            )
        };
        match self {
            Self::Convolution(of) => convolution(formatter, "convolution", of),
            Self::TransposedConvolution(of) => convolution(formatter, "transposed convolution", of),
            Self::DepthwiseConvolution(of) => write!(
                formatter,
                "depthwise convolution of {} channels, {1}×{1}, stride {2}",
                of.channels, of.window.kernel, of.window.stride
            ),
            Self::SamePadding(_) => formatter.write_str("same padding"),
            Self::MaxPool(pool) => write!(
                formatter,
                "max-pooling {0}×{0}, stride {1}",
                pool.size, pool.stride
            ),
            Self::MaxPoolFragments => formatter.write_str("max-pooling 2×2 at every offset"),
            Self::Weave => formatter.write_str("weaving of fragments"),
            Self::BatchNorm(norm) => write!(formatter, "batch norm of {} channels", norm.channels),
            Self::Add { .. } => formatter.write_str("sum"),
            Self::Concatenate => formatter.write_str("concatenation"),
            Self::GlobalAverage => formatter.write_str("global average"),
            Self::Sigmoid => formatter.write_str("sigmoid"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_pytorch() {
        // `torch.nn.MaxPool2d(3, 2, padding, ceil_mode)` on sides of 1 to 8.
        let count = |padding, partial, side| {
            let pool = MaxPool {
                size: 3,
                stride: 2,
                padding,
                partial,
            };
            pool.windows(side)
        };
        let centred: Vec<_> = (1..9).map(|side| count(1, false, side)).collect();
        assert_eq!(centred, [1, 1, 2, 2, 3, 3, 4, 4]);
        let partial: Vec<_> = (2..9).map(|side| count(0, true, side)).collect();
        assert_eq!(partial, [1, 1, 2, 2, 3, 3, 4]);
    }

    #[test]
    fn same_padding_is_that_of_tensorflow() {
        // What `tf.nn.conv2d(…, padding="SAME")` puts around sides of 1 to 5.
        let zeros = |kernel, stride, sides: [usize; 5]| {
            sides.map(|side| SamePadding { kernel, stride }.zeros(side))
        };
        let sides = [1, 2, 3, 4, 5];
        assert_eq!(zeros(3, 1, sides), [[1, 1]; 5]);
        let [odd, even] = [[1, 1], [0, 1]];
        assert_eq!(zeros(3, 2, sides), [odd, even, odd, even, odd]);
        let [odd, even] = [[2, 2], [1, 2]];
        assert_eq!(zeros(5, 2, sides), [odd, even, odd, even, odd]);
        assert_eq!(zeros(1, 2, sides), [[0, 0]; 5]);
    }

    #[test]
    fn parameters_are_in_the_order_of_the_nodes() {
        let graph = Graph::chain([
            Operation::Convolution(Convolution {
                bias: false,
                ..Convolution::new([3, 4], 5)
            }),
            Operation::BatchNorm(BatchNorm {
                channels: 4,
                epsilon: 1e-5,
                affine: true,
                slope: 0.0,
            }),
            Operation::TransposedConvolution(Convolution::new([4, 2], 3)),
        ]);
        let shapes: Vec<_> = graph.parameters().into_iter().map(|of| of.shape).collect();
        assert_eq!(
            shapes,
            [
                vec![4, 3, 5, 5],
                vec![4],
                vec![4],
                vec![4, 2, 3, 3],
                vec![2]
            ]
        );
        assert_eq!(graph.first_parameters(), [0, 1, 3, 5]);
    }

    #[test]
    #[should_panic(expected = "does not read 1 values")]
    fn a_sum_has_two_parts() {
        Graph::chain([Operation::Add { slope: 1.0 }]);
    }
}
