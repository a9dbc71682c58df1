//! The work of every engine: run a graph, and compute the gradients of the run.

use std::fmt;
use std::sync::Arc;

use crate::device;
use crate::graph::{Graph, Value};
use crate::tensor::Tensor;

/// The numbers of a graph's parameters. Clones share them until one is changed.
#[derive(Clone, Default)]
pub struct Parameters {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    arrays: Vec<Vec<f32>>,
    #[cfg(feature = "gpu")]
    uploaded: std::sync::OnceLock<crate::gpu::Uploaded>,
}

impl Parameters {
    /// The numbers of each parameter, in the order of [`Graph::parameters`].
    pub fn new(arrays: Vec<Vec<f32>>) -> Self {
        let shared = Arc::new(Shared {
            arrays,
            #[cfg(feature = "gpu")]
            uploaded: std::sync::OnceLock::new(),
        });
        Self { shared }
    }

    /// The numbers of each parameter.
    pub fn arrays(&self) -> &[Vec<f32>] {
        &self.shared.arrays
    }

    /// The numbers, to be changed; copied before if clones share them.
    pub fn arrays_mut(&mut self) -> &mut [Vec<f32>] {
        if Arc::get_mut(&mut self.shared).is_none() {
            *self = Self::new(self.shared.arrays.clone());
        }
        match Arc::get_mut(&mut self.shared) {
            Some(shared) => {
                #[cfg(feature = "gpu")]
                shared.uploaded.take();
                &mut shared.arrays
            }
            None => unreachable!("nobody else has what was just made"),
        }
    }

    /// The same numbers on the GPU, which are copied there once.
    #[cfg(feature = "gpu")]
    pub(crate) fn uploaded(
        &self,
        upload: impl FnOnce() -> crate::gpu::Uploaded,
    ) -> &crate::gpu::Uploaded {
        self.shared.uploaded.get_or_init(upload)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: usize = self.arrays().iter().map(Vec::len).sum();
        write!(formatter, "{numbers} parameters")
    }
}

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.arrays() == other.arrays()
    }
}

/// Mean and mean square of each channel of a batch norm's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// `[channels]`
    pub means: Vec<f64>,
    /// `[channels]`
    pub squares: Vec<f64>,
}

/// Which gradients a backward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Those of all parameters.
    pub parameters: bool,
    /// That of the graph's input.
    pub input: bool,
}

impl Wanted {
    /// For a training step: only the parameters' gradients.
    pub const PARAMETERS: Self = Self {
        parameters: true,
        input: false,
    };

    /// To continue backward into the network that made the input.
    pub const INPUT: Self = Self {
        parameters: false,
        input: true,
    };

    /// Both.
    pub const ALL: Self = Self {
        parameters: true,
        input: true,
    };
}

/// The gradients of a loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// Of each parameter, in the order of [`Graph::parameters`]; empty if they were not wanted.
    pub parameters: Vec<Vec<f32>>,
    /// Of the graph's input, if it was wanted.
    pub input: Option<Tensor>,
}

impl Gradients {
    /// Adds the parameters' gradients of another batch.
    pub fn add(&mut self, other: &Self) {
        for (sum, other) in self.parameters.iter_mut().zip(&other.parameters) {
            for (sum, other) in sum.iter_mut().zip(other) {
                *sum += other;
            }
        }
    }
}

/// A device that computes graphs: the processor, or a GPU.
pub trait Engine: Send + Sync {
    /// The wanted values for an input, in the order asked for. `moments` takes the moments of every batch norm on the way, first node
    /// first. Before each step, `proceed` is asked: `false` ends the work, and there are no values.
    ///
    /// # Panics
    /// If the input does not fit the graph: callers check sizes first, where they can name the image.
    fn outputs(
        &self,
        graph: &Graph,
        parameters: &Parameters,
        input: &Tensor,
        wanted: &[Value],
        moments: Option<&mut Vec<Moments>>,
        proceed: &dyn Fn() -> bool,
    ) -> Option<Vec<Tensor>>;

    /// Runs a graph and keeps what its gradients need.
    ///
    /// # Panics
    /// As [`outputs`](Self::outputs).
    fn record<'a>(
        &self,
        graph: &'a Graph,
        parameters: &'a Parameters,
        input: &'a Tensor,
    ) -> Box<dyn Tape + 'a>;
}

/// A run of a graph with what its gradients need.
pub trait Tape {
    /// The graph's output.
    fn output(&self) -> &Tensor;

    /// The gradients, from the gradient of the output, which has the output's shape.
    ///
    /// # Panics
    /// If the shape is another.
    fn backward(self: Box<Self>, gradient: Tensor, wanted: Wanted) -> Gradients;
}

/// Work that nothing stops.
fn always() -> bool {
    true
}

/// On the [chosen](device::choose) device.
impl Graph {
    /// The graph's output for an input.
    ///
    /// # Panics
    /// As [`Engine::outputs`].
    pub fn run(&self, parameters: &Parameters, input: &Tensor) -> Tensor {
        let mut outputs = self.outputs(parameters, input, &[self.output()]);
        outputs.swap_remove(0)
    }

    /// Some of the graph's values for an input, in the order asked for; only the nodes that these values need are computed.
    ///
    /// # Panics
    /// As [`Engine::outputs`].
    pub fn outputs(
        &self,
        parameters: &Parameters,
        input: &Tensor,
        wanted: &[Value],
    ) -> Vec<Tensor> {
        let outputs = self.outputs_while(parameters, input, wanted, &always);
        outputs.unwrap_or_default()
    }

    /// [`outputs`](Self::outputs), as long as `proceed` says `true` between the steps; else `None`.
    ///
    /// # Panics
    /// As [`Engine::outputs`].
    pub fn outputs_while(
        &self,
        parameters: &Parameters,
        input: &Tensor,
        wanted: &[Value],
        proceed: &dyn Fn() -> bool,
    ) -> Option<Vec<Tensor>> {
        device::engine().outputs(self, parameters, input, wanted, None, proceed)
    }

    /// The graph's output, and the moments of the input of every batch norm.
    ///
    /// # Panics
    /// As [`Engine::outputs`].
    pub fn observe(&self, parameters: &Parameters, input: &Tensor) -> (Tensor, Vec<Moments>) {
        let mut moments = Vec::new();
        let wanted = [self.output()];
        let engine = device::engine();
        let outputs = engine.outputs(
            self,
            parameters,
            input,
            &wanted,
            Some(&mut moments),
            &always,
        );
        let mut outputs = outputs.unwrap_or_default();
        (outputs.swap_remove(0), moments)
    }

    /// Runs the graph and keeps what its gradients need.
    ///
    /// # Panics
    /// As [`Engine::outputs`].
    pub fn record<'a>(
        &'a self,
        parameters: &'a Parameters,
        input: &'a Tensor,
    ) -> Box<dyn Tape + 'a> {
        device::engine().record(self, parameters, input)
    }
}
