//! A graph number by number in `f64`, and gradients by finite differences.

use pupilla_nn::{
    BatchNorm, Convolution, DepthwiseConvolution, Graph, MaxPool, Operation, Parameters,
    SamePadding, Tensor,
};

#[derive(Clone)]
struct Map {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Map {
    fn zeros(shape: [usize; 4]) -> Self {
        Self {
            shape,
            values: vec![0.0; shape.iter().product()],
        }
    }

    fn place(&self, [item, channel, row, column]: [usize; 4]) -> usize {
        let [_, channels, height, width] = self.shape;
        ((item * channels + channel) * height + row) * width + column
    }

    fn at(&self, place: [usize; 4]) -> f64 {
        self.values[self.place(place)]
    }

    /// A number of the map, or `beyond` if there is none at this row and column.
    fn around(&self, [item, channel]: [usize; 2], [row, column]: [isize; 2], beyond: f64) -> f64 {
        let inside = |at: isize, side: usize| usize::try_from(at).ok().filter(|at| *at < side);
        match (inside(row, self.shape[2]), inside(column, self.shape[3])) {
            (Some(row), Some(column)) => self.at([item, channel, row, column]),
            _ => beyond,
        }
    }

    /// From a function of each place.
    fn from(shape: [usize; 4], number: impl Fn([usize; 4]) -> f64) -> Self {
        let [batch, channels, height, width] = shape;
        let mut map = Self::zeros(shape);
        for item in 0..batch {
            for channel in 0..channels {
                for row in 0..height {
                    for column in 0..width {
                        let place = [item, channel, row, column];
                        let at = map.place(place);
                        map.values[at] = number(place);
                    }
                }
            }
        }
        map
    }
}

fn leaky(value: f64, slope: f32) -> f64 {
    if value < 0.0 {
        value * f64::from(slope)
    } else {
        value
    }
}

fn convolution(of: &Convolution, input: &Map, arrays: &[Vec<f64>]) -> Map {
    let [batch, _, height, width] = input.shape;
    let [from, to] = of.channels;
    let side = |side: usize| (side + 2 * of.padding - of.kernel) / of.stride + 1;
    Map::from(
        [batch, to, side(height), side(width)],
        |[item, out, row, column]| {
            let mut sum = if of.bias { arrays[1][out] } else { 0.0 };
            for channel in 0..from {
                for y in 0..of.kernel {
                    for x in 0..of.kernel {
                        let tap = ((out * from + channel) * of.kernel + y) * of.kernel + x;
                        let at = [row * of.stride + y, column * of.stride + x]
                            .map(|at| at as isize - of.padding as isize);
                        sum += arrays[0][tap] * input.around([item, channel], at, 0.0);
                    }
                }
            }
            leaky(sum, of.slope).min(of.ceiling.into())
        },
    )
}

/// Windows of a side as TensorFlow counts them, and the zeros before it.
fn same(of: &SamePadding, side: usize) -> [usize; 2] {
    let windows = side.div_ceil(of.stride);
    let reach = (windows - 1) * of.stride + of.kernel;
    [windows, reach.saturating_sub(side) / 2]
}

fn depthwise_convolution(of: &DepthwiseConvolution, input: &Map, arrays: &[Vec<f64>]) -> Map {
    let [batch, channels, height, width] = input.shape;
    let SamePadding { kernel, stride } = of.window;
    let [[rows, top], [columns, left]] = [height, width].map(|side| same(&of.window, side));
    Map::from(
        [batch, channels, rows, columns],
        |[item, channel, row, column]| {
            let mut sum = arrays[1][channel];
            for y in 0..kernel {
                for x in 0..kernel {
                    let at = [
                        (row * stride + y) as isize - top as isize,
                        (column * stride + x) as isize - left as isize,
                    ];
                    let tap = (channel * kernel + y) * kernel + x;
                    sum += arrays[0][tap] * input.around([item, channel], at, 0.0);
                }
            }
            leaky(sum, of.slope).min(of.ceiling.into())
        },
    )
}

fn same_padding(of: &SamePadding, input: &Map) -> Map {
    let [batch, channels, height, width] = input.shape;
    let [rows, columns] = [height, width].map(|side| {
        let [windows, _] = same(of, side);
        side.max((windows - 1) * of.stride + of.kernel)
    });
    let [top, left] = [height, width].map(|side| same(of, side)[1] as isize);
    Map::from(
        [batch, channels, rows, columns],
        |[item, channel, row, column]| {
            let at = [row as isize - top, column as isize - left];
            input.around([item, channel], at, 0.0)
        },
    )
}

fn transposed_convolution(of: &Convolution, input: &Map, arrays: &[Vec<f64>]) -> Map {
    let [batch, from, height, width] = input.shape;
    let to = of.channels[1];
    let side = |side: usize| (side - 1) * of.stride + of.kernel - 2 * of.padding;
    let mut output = Map::zeros([batch, to, side(height), side(width)]);
    for item in 0..batch {
        for channel in 0..from {
            for row in 0..height {
                for column in 0..width {
                    let value = input.at([item, channel, row, column]);
                    for out in 0..to {
                        for y in 0..of.kernel {
                            for x in 0..of.kernel {
                                let tap = ((channel * to + out) * of.kernel + y) * of.kernel + x;
                                let place = [row * of.stride + y, column * of.stride + x]
                                    .map(|at| at.checked_sub(of.padding));
                                if let [Some(row), Some(column)] = place
                                    && row < output.shape[2]
                                    && column < output.shape[3]
                                {
                                    let at = output.place([item, out, row, column]);
                                    output.values[at] += value * arrays[0][tap];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    Map::from(output.shape, |place| {
        let bias = if of.bias { arrays[1][place[1]] } else { 0.0 };
        leaky(output.at(place) + bias, of.slope).min(of.ceiling.into())
    })
}

fn max_pool(of: &MaxPool, input: &Map) -> Map {
    let [batch, channels, height, width] = input.shape;
    let shape = [batch, channels, of.windows(height), of.windows(width)];
    Map::from(shape, |[item, channel, row, column]| {
        let mut largest = f64::NEG_INFINITY;
        for y in 0..of.size {
            for x in 0..of.size {
                let at = [row * of.stride + y, column * of.stride + x]
                    .map(|at| at as isize - of.padding as isize);
                largest = largest.max(input.around([item, channel], at, f64::NEG_INFINITY));
            }
        }
        largest
    })
}

fn batch_norm(of: &BatchNorm, input: &Map, arrays: &[Vec<f64>]) -> Map {
    let [batch, channels, height, width] = input.shape;
    let count = (batch * height * width) as f64;
    let mean_of = |number: &dyn Fn(f64) -> f64, channel: usize| {
        let mut sum = 0.0;
        for item in 0..batch {
            for row in 0..height {
                for column in 0..width {
                    sum += number(input.at([item, channel, row, column]));
                }
            }
        }
        sum / count
    };
    let moments: Vec<(f64, f64)> = (0..channels)
        .map(|channel| {
            let mean = mean_of(&|x| x, channel);
            (mean, mean_of(&|x| (x - mean) * (x - mean), channel))
        })
        .collect();
    Map::from(input.shape, |place| {
        let (mean, variance) = moments[place[1]];
        let normal = (input.at(place) - mean) / (variance + of.epsilon).sqrt();
        let value = if of.affine {
            normal * arrays[0][place[1]] + arrays[1][place[1]]
        } else {
            normal
        };
        leaky(value, of.slope)
    })
}

fn node(operation: &Operation, sources: &[&Map], arrays: &[Vec<f64>]) -> Map {
    let input = sources[0];
    let [batch, channels, height, width] = input.shape;
    match operation {
        Operation::Convolution(of) => convolution(of, input, arrays),
        Operation::TransposedConvolution(of) => transposed_convolution(of, input, arrays),
        Operation::DepthwiseConvolution(of) => depthwise_convolution(of, input, arrays),
        Operation::SamePadding(of) => same_padding(of, input),
        Operation::MaxPool(of) => max_pool(of, input),
        Operation::MaxPoolFragments => {
            let shape = [4 * batch, channels, (height - 1) / 2, (width - 1) / 2];
            Map::from(shape, |[fragment, channel, row, column]| {
                let corner = [2 * row + fragment % 4 / 2, 2 * column + fragment % 2];
                let pixels = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|[down, right]| {
                    input.at([fragment / 4, channel, corner[0] + down, corner[1] + right])
                });
                pixels.into_iter().fold(f64::NEG_INFINITY, f64::max)
            })
        }
        Operation::Weave => {
            let shape = [batch / 4, channels, 2 * height, 2 * width];
            Map::from(shape, |[item, channel, row, column]| {
                let fragment = 4 * item + 2 * (row % 2) + column % 2;
                input.at([fragment, channel, row / 2, column / 2])
            })
        }
        Operation::BatchNorm(of) => batch_norm(of, input, arrays),
        Operation::Add { slope } => Map::from(input.shape, |place| {
            leaky(input.at(place) + sources[1].at(place), *slope)
        }),
        Operation::Concatenate => {
            let all = sources.iter().map(|source| source.shape[1]).sum();
            Map::from(
                [batch, all, height, width],
                |[item, channel, row, column]| {
                    let mut channel = channel;
                    for source in sources {
                        if channel < source.shape[1] {
                            return source.at([item, channel, row, column]);
                        }
                        channel -= source.shape[1];
                    }
                    unreachable!("as many channels as all have")
                },
            )
        }
        Operation::GlobalAverage => Map::from([batch, channels, 1, 1], |[item, channel, ..]| {
            let area = height * width;
            let first = input.place([item, channel, 0, 0]);
            input.values[first..first + area].iter().sum::<f64>() / area as f64
        }),
        Operation::Sigmoid => {
            Map::from(input.shape, |place| 1.0 / (1.0 + (-input.at(place)).exp()))
        }
    }
}

fn run(graph: &Graph, arrays: &[Vec<f64>], input: &Map) -> Map {
    let mut values = vec![input.clone()];
    let mut first = 0;
    for of in graph.nodes() {
        let count = of.operation.parameters().len();
        let sources: Vec<&Map> = of
            .inputs
            .iter()
            .map(|value| &values[value.index()])
            .collect();
        let value = node(&of.operation, &sources, &arrays[first..first + count]);
        values.push(value);
        first += count;
    }
    values.pop().unwrap()
}

/// A graph on an input.
pub struct Run<'a> {
    graph: &'a Graph,
    arrays: Vec<Vec<f64>>,
    input: Map,
    output: Map,
}

impl<'a> Run<'a> {
    pub fn new(graph: &'a Graph, parameters: &Parameters, input: &Tensor) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let arrays: Vec<_> = parameters.arrays().iter().map(|of| wide(of)).collect();
        let input = Map {
            shape: input.shape(),
            values: wide(input.values()),
        };
        let output = run(graph, &arrays, &input);
        Self {
            graph,
            arrays,
            input,
            output,
        }
    }

    pub fn shape(&self) -> [usize; 4] {
        self.output.shape
    }

    pub fn output(&self) -> &[f64] {
        &self.output.values
    }

    /// Of the sum of the outputs with these weights: the gradients of the input and of each parameter, each as a range. Its ends
    /// differ where a small step leads over a kink (a pooling's largest value, an activation's 0): there, rounding decides.
    pub fn gradients(mut self, weights: &[f32]) -> (Vec<[f64; 2]>, Vec<Vec<[f64; 2]>>) {
        let loss = |arrays: &[Vec<f64>], input: &Map| -> f64 {
            let output = run(self.graph, arrays, input);
            let terms = output.values.iter().zip(weights);
            terms
                .map(|(value, weight)| value * f64::from(*weight))
                .sum()
        };
        let mut of_input = Vec::new();
        for at in 0..self.input.values.len() {
            let before = self.input.values[at];
            of_input.push(range(|by| {
                self.input.values[at] = before + by;
                loss(&self.arrays, &self.input)
            }));
            self.input.values[at] = before;
        }
        let mut of_parameters = Vec::new();
        for index in 0..self.arrays.len() {
            let mut of_one = Vec::new();
            for at in 0..self.arrays[index].len() {
                let before = self.arrays[index][at];
                of_one.push(range(|by| {
                    self.arrays[index][at] = before + by;
                    loss(&self.arrays, &self.input)
                }));
                self.arrays[index][at] = before;
            }
            of_parameters.push(of_one);
        }
        (of_input, of_parameters)
    }
}

/// The range of the slopes of a function around 0: on both sides together, and on each.
fn range(mut function: impl FnMut(f64) -> f64) -> [f64; 2] {
    /// Large enough for 16 digits.
    const STEP: f64 = 1e-6;
    /// Larger than what 32 bits round away.
    const KINK: f64 = 3e-5;
    let here = function(0.0);
    let slopes = [
        (function(STEP) - function(-STEP)) / (2.0 * STEP),
        (function(KINK) - here) / KINK,
        (here - function(-KINK)) / KINK,
    ];
    let least = slopes.into_iter().fold(f64::INFINITY, f64::min);
    let most = slopes.into_iter().fold(f64::NEG_INFINITY, f64::max);
    [least, most]
}
