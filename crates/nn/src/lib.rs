//! Networks as data, the engines that run and differentiate them, and their optimisers.
//!
//! A [`Graph`] holds the operations and their inputs; [`Parameters`] are its numbers. An [`Engine`] computes it on the processor
//! ([`Cpu`], whose kernels are `pupilla-conv`'s) or, with the feature `gpu`, on a GPU; [`device`] chooses. [`Graph::record`] gives a
//! [`Tape`]. From the gradient of a loss with respect to the output, the tape gives all other gradients. An [`OptimizerState`] turns
//! gradients into steps.
//!
//! ```
//! use pupilla_nn::{Convolution, Graph, Operation, Optimizer, Parameters, Tensor, Wanted};
//!
//! // A 3×3 convolution with a ReLU that learns to give 1.
//! let convolution = Convolution { slope: 0.0, ..Convolution::new([1, 1], 3) };
//! let graph = Graph::chain([Operation::Convolution(convolution)]);
//! let mut parameters = Parameters::new(vec![vec![0.1; 9], vec![0.0]]);
//! let mut optimizer = Optimizer::Adam.init(0.0, &graph.parameters());
//! let input = Tensor::new(vec![0.5; 25], [1, 1, 5, 5]);
//! for _ in 0..200 {
//!     let tape = graph.record(&parameters, &input);
//!     let errors = tape.output().values().iter().map(|y| 2.0 * (y - 1.0) / 9.0).collect();
//!     let gradient = Tensor::new(errors, [1, 1, 3, 3]);
//!     let gradients = tape.backward(gradient, Wanted::PARAMETERS);
//!     optimizer.step(0.01, &mut parameters, &gradients.parameters);
//! }
//! let output = graph.run(&parameters, &input);
//! assert!(output.values().iter().all(|y| (y - 1.0).abs() < 0.01));
//! ```
#![forbid(unsafe_code)]

pub mod batch_norm;
mod cpu;
pub mod device;
mod engine;
#[cfg(feature = "gpu")]
mod gpu;
mod graph;
mod muon;
mod optimizer;
mod tensor;

pub use cpu::Cpu;
pub use engine::{Engine, Gradients, Moments, Parameters, Tape, Wanted};
pub use graph::{
    BatchNorm, Convolution, DepthwiseConvolution, Graph, MaxPool, Node, Operation, Parameter, Role,
    SamePadding, Value,
};
pub use optimizer::{Adam, Optimizer, OptimizerState, UnknownOptimizer};
pub use tensor::Tensor;
