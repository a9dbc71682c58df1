//! Every operation, its gradients and Adam's steps against what PyTorch says, see `tests/oracle/make_gradients.py`.

use pupilla_nn::{
    Adam, BatchNorm, Convolution, Cpu, DepthwiseConvolution, Engine, Graph, MaxPool, Operation,
    Optimizer, OptimizerState, Parameter, Parameters, Role, SamePadding, Tensor, Wanted,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
    adam: Vec<Steps>,
    training: Training,
}

#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    operation: Of,
    shape: [usize; 4],
    input: Vec<f32>,
    parameters: Vec<Vec<f32>>,
    output: Vec<f64>,
    output_shape: [usize; 4],
    weights: Vec<f32>,
    of_input: Vec<f64>,
    of_parameters: Vec<Vec<f64>>,
}

#[derive(Debug, Deserialize)]
struct Shape {
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    slope: f32,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
enum Of {
    Convolution(Shape),
    TransposedConvolution(Shape),
    ConvolutionMaxPool(Shape),
    /// ReLU6 after it.
    Depthwise {
        channels: usize,
        kernel: usize,
        stride: usize,
    },
    MaxPool {
        size: usize,
        stride: usize,
        padding: usize,
        partial: bool,
    },
    MaxPoolFragments,
    Weave,
    BatchNorm {
        channels: usize,
        epsilon: f64,
        slope: f32,
    },
    NormalisedConvolution {
        channels: [usize; 2],
        epsilon: f64,
        slope: f32,
        kernel: usize,
    },
    AddToItself {
        slope: f32,
    },
    ConcatenateWithItself,
    GlobalAverage,
    Sigmoid,
}

impl Shape {
    fn convolution(&self) -> Convolution {
        Convolution {
            stride: self.stride,
            padding: self.padding,
            slope: self.slope,
            ..Convolution::new(self.channels, self.kernel)
        }
    }
}

fn graph(of: &Of) -> Graph {
    match of {
        Of::Convolution(shape) => Graph::chain([Operation::Convolution(shape.convolution())]),
        Of::TransposedConvolution(shape) => {
            Graph::chain([Operation::TransposedConvolution(shape.convolution())])
        }
        Of::ConvolutionMaxPool(shape) => Graph::chain([
            Operation::Convolution(shape.convolution()),
            Operation::MaxPool(MaxPool::HALVING),
        ]),
        &Of::Depthwise {
            channels,
            kernel,
            stride,
        } => Graph::chain([Operation::DepthwiseConvolution(DepthwiseConvolution {
            channels,
            window: SamePadding { kernel, stride },
            slope: 0.0,
            ceiling: 6.0,
        })]),
        &Of::MaxPool {
            size,
            stride,
            padding,
            partial,
        } => Graph::chain([Operation::MaxPool(MaxPool {
            size,
            stride,
            padding,
            partial,
        })]),
        Of::MaxPoolFragments => Graph::chain([Operation::MaxPoolFragments]),
        Of::Weave => Graph::chain([Operation::Weave]),
        &Of::BatchNorm {
            channels,
            epsilon,
            slope,
        } => Graph::chain([Operation::BatchNorm(BatchNorm {
            channels,
            epsilon,
            affine: true,
            slope,
        })]),
        &Of::NormalisedConvolution {
            channels,
            epsilon,
            slope,
            kernel,
        } => Graph::chain([
            Operation::BatchNorm(BatchNorm {
                channels: channels[0],
                epsilon,
                affine: false,
                slope: 1.0,
            }),
            Operation::Convolution(Convolution {
                slope,
                ..Convolution::new(channels, kernel)
            }),
        ]),
        Of::AddToItself { slope } => with_sigmoid(Operation::Add { slope: *slope }),
        Of::ConcatenateWithItself => with_sigmoid(Operation::Concatenate),
        Of::GlobalAverage => Graph::chain([Operation::GlobalAverage]),
        Of::Sigmoid => Graph::chain([Operation::Sigmoid]),
    }
}

/// An operation of the input and its sigmoid.
fn with_sigmoid(operation: Operation) -> Graph {
    let mut graph = Graph::chain([Operation::Sigmoid]);
    graph.add(operation, &[Graph::INPUT, graph.output()]);
    graph
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("../oracle/gradients.json")).unwrap()
}

#[test]
fn operations_and_gradients_are_those_of_pytorch() {
    for case in oracle().cases {
        let graph = graph(&case.operation);
        let parameters = Parameters::new(case.parameters);
        let input = Tensor::new(case.input, case.shape);
        let tape = Cpu.record(&graph, &parameters, &input);
        assert_eq!(
            tape.output().shape(),
            case.output_shape,
            "{:?}",
            case.operation
        );
        let apart = crate::error(tape.output().values(), &case.output);
        assert!(apart < 1e-5, "output of {:?}: {apart}", case.operation);
        let gradient = Tensor::new(case.weights, case.output_shape);
        let gradients = tape.backward(gradient, Wanted::ALL);
        let of_input = gradients.input.unwrap();
        let found = std::iter::once(of_input.values())
            .chain(gradients.parameters.iter().map(Vec::as_slice));
        let expected = std::iter::once(&case.of_input).chain(&case.of_parameters);
        for (index, (found, expected)) in found.zip(expected).enumerate() {
            let apart = crate::error(found, expected);
            assert!(
                apart < 1e-5,
                "gradient {index} of {:?}: {apart}",
                case.operation
            );
        }
    }
}

#[derive(Deserialize)]
struct Steps {
    weight_decay: f64,
    momenta: [f64; 2],
    rate: f64,
    start: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    after: Vec<f64>,
}

#[test]
fn steps_of_adam_are_those_of_pytorch() {
    for case in oracle().adam {
        let parameter = Parameter {
            role: Role::Bias,
            shape: vec![case.start.len()],
        };
        let adam = Adam {
            momenta: case.momenta,
            ..Adam::default()
        };
        let mut state = OptimizerState::new(Optimizer::Adam, adam, case.weight_decay, &[parameter]);
        let mut parameters = Parameters::new(vec![case.start]);
        for gradient in case.gradients {
            state.step(case.rate, &mut parameters, &[gradient]);
        }
        let apart = crate::error(&parameters.arrays()[0], &case.after);
        assert!(apart < 1e-6, "{apart}");
    }
}

/// A small student and what it learns.
#[derive(Deserialize)]
struct Training {
    input: Vec<f32>,
    target: Vec<f32>,
    start: Vec<Vec<f32>>,
    losses: Vec<f64>,
    after: Vec<Vec<f64>>,
}

#[test]
fn steps_of_training_are_those_of_pytorch() {
    let case = oracle().training;
    let graph = Graph::chain([
        Operation::Convolution(Convolution {
            slope: 5e-3,
            ..Convolution::new([3, 6], 3)
        }),
        Operation::MaxPool(MaxPool::HALVING),
        Operation::BatchNorm(BatchNorm {
            channels: 6,
            epsilon: 1e-3,
            affine: false,
            slope: 1.0,
        }),
        Operation::Convolution(Convolution::new([6, 5], 2)),
    ]);
    let mut parameters = Parameters::new(case.start);
    let mut optimizer = Optimizer::Adam.init(1e-3, &graph.parameters());
    let input = Tensor::new(case.input, [2, 3, 8, 8]);
    let count = case.target.len() as f64;
    for expected in case.losses {
        let tape = Cpu.record(&graph, &parameters, &input);
        let pairs = tape.output().values().iter().zip(&case.target);
        let errors: Vec<f64> = pairs.map(|(y, t)| f64::from(y - t)).collect();
        let loss = errors.iter().map(|error| error * error).sum::<f64>() / count;
        assert!(
            (loss - expected).abs() < 1e-5 * expected,
            "{loss}, not {expected}"
        );
        let gradient = errors.iter().map(|error| (2.0 * error / count) as f32);
        let gradient = Tensor::new(gradient.collect(), tape.output().shape());
        let gradients = tape.backward(gradient, Wanted::PARAMETERS);
        optimizer.step(1e-2, &mut parameters, &gradients.parameters);
    }
    for (found, expected) in parameters.arrays().iter().zip(&case.after) {
        let apart = crate::error(found, expected);
        assert!(apart < 1e-5, "{apart}");
    }
}
