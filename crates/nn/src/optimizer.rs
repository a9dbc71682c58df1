//! How gradients become steps: Adam, and Muon with Adam.

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::engine::Parameters;
use crate::graph::{Parameter, Role};
use crate::muon;

/// How gradients become steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam (Kingma and Ba 2015) with PyTorch's constants, the paper's; weight decay is added to the gradient. Files that do
    /// not name their optimiser are from before there was a choice: theirs was Adam.
    #[default]
    Adam,
    /// Muon (Jordan et al. 2024) for the convolutions' kernels, at a scale that suits Adam's learning rates (Liu et al.
    /// 2025), and Adam for everything else. It needs a fraction of Adam's steps; ours.
    Muon,
}

/// A word that names no optimiser.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not an optimiser: choose adam or muon")]
pub struct UnknownOptimizer(String);

impl Optimizer {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Adam, Self::Muon];

    /// Its state before the first step on some parameters.
    pub fn init(self, weight_decay: f64, parameters: &[Parameter]) -> OptimizerState {
        OptimizerState::new(self, Adam::default(), weight_decay, parameters)
    }
}

impl fmt::Display for Optimizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Adam => "adam",
            Self::Muon => "muon",
        })
    }
}

impl FromStr for Optimizer {
    type Err = UnknownOptimizer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|optimizer| optimizer.to_string() == text)
            .ok_or_else(|| UnknownOptimizer(text.to_string()))
    }
}

/// The constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The share of the mean gradient, and of the mean squared gradient, that a step keeps.
    pub momenta: [f64; 2],
    /// Added to the root of the mean square.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            momenta: [0.9, 0.999],
            epsilon: 1e-8,
        }
    }
}

/// An optimiser between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerState {
    adam: Adam,
    weight_decay: f64,
    steps: u64,
    of_parameters: Vec<OfParameter>,
}

/// What is remembered of a parameter.
#[derive(Clone, Debug, PartialEq)]
enum OfParameter {
    /// Mean gradient and mean squared gradient.
    Adam([Vec<f32>; 2]),
    /// The sum of gradients, and the rows of the matrix.
    Muon { momentum: Vec<f32>, rows: usize },
}

impl OptimizerState {
    /// Before the first step, with other constants than Adam's usual ones.
    pub fn new(
        optimizer: Optimizer,
        adam: Adam,
        weight_decay: f64,
        parameters: &[Parameter],
    ) -> Self {
        let of_parameter = |parameter: &Parameter| {
            let zeros = || vec![0.0; parameter.count()];
            match (optimizer, parameter.role) {
                (Optimizer::Muon, Role::Weight) => OfParameter::Muon {
                    momentum: zeros(),
                    rows: parameter.shape[0],
                },
                _ => OfParameter::Adam([zeros(), zeros()]),
            }
        };
        Self {
            adam,
            weight_decay,
            steps: 0,
            of_parameters: parameters.iter().map(of_parameter).collect(),
        }
    }

    /// Changes the parameters by their gradients; `rate` is the learning rate.
    ///
    /// # Panics
    /// If there are not as many gradients, or numbers in one, as the parameters have.
    pub fn step(&mut self, rate: f64, parameters: &mut Parameters, gradients: &[Vec<f32>]) {
        self.steps += 1;
        let arrays = parameters.arrays_mut();
        assert_eq!(
            [arrays.len(), gradients.len()],
            [self.of_parameters.len(); 2],
            "each parameter has a gradient"
        );
        let (adam, weight_decay, steps) = (self.adam, self.weight_decay, self.steps);
        let parameters = self.of_parameters.iter_mut().zip(arrays);
        for ((state, values), gradient) in parameters.zip(gradients) {
            assert_eq!(values.len(), gradient.len(), "each number has a gradient");
            match state {
                OfParameter::Adam(moments) => {
                    adam_step(adam, [rate, weight_decay], steps, values, gradient, moments);
                }
                OfParameter::Muon { momentum, rows } => {
                    muon::step([rate, weight_decay], *rows, values, gradient, momentum);
                }
            }
        }
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Everything that is remembered, parameter by parameter: two arrays of each for Adam, one for Muon, of the parameter's length.
    pub fn arrays(&self) -> Vec<&[f32]> {
        self.of_parameters
            .iter()
            .flat_map(|state| match state {
                OfParameter::Adam([first, second]) => vec![&first[..], &second[..]],
                OfParameter::Muon { momentum, .. } => vec![&momentum[..]],
            })
            .collect()
    }

    /// The state after `steps` steps, with arrays that [`arrays`](Self::arrays) gave; `None` if an array has another length.
    #[must_use]
    pub fn restored(
        mut self,
        steps: u64,
        arrays: &mut impl Iterator<Item = Vec<f32>>,
    ) -> Option<Self> {
        self.steps = steps;
        let mut restore = |kept: &mut Vec<f32>| {
            let array = arrays.next().filter(|array| array.len() == kept.len())?;
            *kept = array;
            Some(())
        };
        for state in &mut self.of_parameters {
            match state {
                OfParameter::Adam([first, second]) => {
                    restore(first)?;
                    restore(second)?;
                }
                OfParameter::Muon { momentum, .. } => restore(momentum)?,
            }
        }
        Some(self)
    }
}

/// Numbers that a thread takes at once.
const RUN: usize = 1 << 14;

fn adam_step(
    adam: Adam,
    [rate, weight_decay]: [f64; 2],
    steps: u64,
    values: &mut [f32],
    gradient: &[f32],
    [first, second]: &mut [Vec<f32>; 2],
) {
    // Beyond i32's range the corrections have long been 1.
    let power = i32::try_from(steps).unwrap_or(i32::MAX);
    let corrections = adam.momenta.map(|momentum| 1.0 - momentum.powi(power));
    let [kept_first, kept_second] = adam.momenta.map(|momentum| momentum as f32);
    let [new_first, new_second] = adam.momenta.map(|momentum| (1.0 - momentum) as f32);
    let [of_first, of_second] = corrections.map(|correction| (1.0 / correction) as f32);
    let (rate, decay, epsilon) = (rate as f32, weight_decay as f32, adam.epsilon as f32);
    values
        .par_chunks_mut(RUN)
        .zip(gradient.par_chunks(RUN))
        .zip(first.par_chunks_mut(RUN).zip(second.par_chunks_mut(RUN)))
        .for_each(|((values, gradient), (first, second))| {
            let moments = first.iter_mut().zip(second);
            for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments)
            {
                let gradient = gradient + decay * *value;
                *first = kept_first * *first + new_first * gradient;
                *second = kept_second * *second + new_second * gradient * gradient;
                *value -= rate * (*first * of_first) / ((*second * of_second).sqrt() + epsilon);
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(role: Role, count: usize) -> Parameter {
        Parameter {
            role,
            shape: vec![count],
        }
    }

    #[test]
    fn adam_follows_its_published_rule() {
        let mut state = Optimizer::Adam.init(0.0, &[line(Role::Bias, 1)]);
        let mut parameters = Parameters::new(vec![vec![1.0]]);
        // The first step is the rate whatever the gradient's size.
        state.step(0.1, &mut parameters, &[vec![123.0]]);
        assert!((parameters.arrays()[0][0] - 0.9).abs() < 1e-6);
        state.step(0.1, &mut parameters, &[vec![-41.0]]);
        // m = 0.9 · 12.3 − 4.1, v = 0.999 · 15.129 + 1.681, both by their bias.
        let expected = 0.9 - 0.1 * (6.97 / 0.19) / (16.794_871f64 / 0.001_999).sqrt();
        let found = f64::from(parameters.arrays()[0][0]);
        assert!((found - expected).abs() < 1e-5, "{found}");
    }

    #[test]
    fn weight_decay_is_added_to_the_gradient() {
        let parameter = [line(Role::Bias, 2)];
        let [mut plain, mut decayed] =
            [0.0, 0.5].map(|decay| Optimizer::Adam.init(decay, &parameter));
        let start = Parameters::new(vec![vec![2.0, -4.0]]);
        let (mut one, mut other) = (start.clone(), start);
        plain.step(0.1, &mut one, &[vec![3.0 + 1.0, 1.0 - 2.0]]);
        decayed.step(0.1, &mut other, &[vec![3.0, 1.0]]);
        assert_eq!(one, other);
    }

    #[test]
    fn a_state_goes_on_where_it_was() {
        let parameters = [
            Parameter {
                role: Role::Weight,
                shape: vec![2, 3, 1, 1],
            },
            line(Role::Bias, 2),
        ];
        for optimizer in Optimizer::ALL {
            let mut state = optimizer.init(0.01, &parameters);
            let mut numbers = Parameters::new(vec![vec![0.5; 6], vec![0.0; 2]]);
            let gradients = |step: f32| {
                let line = |count: usize| (0..count).map(|at| (at as f32 * 0.7 + step).sin());
                [line(6).collect(), line(2).collect()]
            };
            for step in 0..3 {
                state.step(0.1, &mut numbers, &gradients(step as f32));
            }
            let arrays: Vec<Vec<f32>> = state.arrays().iter().map(|of| of.to_vec()).collect();
            let fresh = || optimizer.init(0.01, &parameters);
            let short = arrays.iter().take(arrays.len() - 1).cloned();
            assert_eq!(fresh().restored(3, &mut short.into_iter()), None);
            let restored = fresh().restored(state.steps(), &mut arrays.into_iter());
            let mut restored = restored.unwrap();
            assert_eq!(restored, state);
            let mut others = numbers.clone();
            state.step(0.1, &mut numbers, &gradients(9.0));
            restored.step(0.1, &mut others, &gradients(9.0));
            assert_eq!(numbers, others);
        }
    }

    #[test]
    fn kernels_alone_have_momentum() {
        let parameters = [
            Parameter {
                role: Role::Weight,
                shape: vec![2, 3, 1, 1],
            },
            line(Role::Scale, 2),
            line(Role::Bias, 2),
        ];
        let lengths = |optimizer: Optimizer| -> Vec<usize> {
            let state = optimizer.init(0.0, &parameters);
            state.arrays().iter().map(|array| array.len()).collect()
        };
        assert_eq!(lengths(Optimizer::Muon), [6, 2, 2, 2, 2]);
        assert_eq!(lengths(Optimizer::Adam), [6, 6, 2, 2, 2, 2]);
    }
}
