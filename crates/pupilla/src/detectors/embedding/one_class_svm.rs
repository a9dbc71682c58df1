//! OC-SVM: negative decision value of a one-class support vector machine with a radial kernel, after a PCA (a baseline of Bergmann et
//! al., CVPR 2020).

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::matrix::Matrix;
use super::method::{EmbeddingMethod, Kept, count, named, share};
use super::principal_components::PrincipalComponents;
use super::support_vectors::{Machine, MachineTraining, TOLERANCE, scale_gamma};
use crate::error::{TrainError, check_rules};
use crate::features::grid::Grid;

/// A one-class support vector machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneClassSvm {
    /// Embeddings that it is trained on (50 000 published; see `docs/notes/detectors.md` for their time).
    pub sample: usize,
    /// Share of their variance that the PCA keeps (0.95).
    pub variance: f64,
    /// The share ν of embeddings that may lie outside (0.5, scikit-learn's default: the paper states none).
    pub nu: f64,
    /// The kernel's γ.
    pub gamma: Gamma,
}

/// γ of a radial kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gamma {
    /// One over the number of components times the variance of all values, as in scikit-learn.
    Scale,
    /// A number above 0.
    Value(f64),
}

/// A word that is no γ.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is no gamma: write \"scale\", or a number above 0")]
pub struct GammaError(String);

impl std::str::FromStr for Gamma {
    type Err = GammaError;

    fn from_str(text: &str) -> Result<Self, GammaError> {
        match (text, text.parse::<f64>()) {
            ("scale", _) => Ok(Self::Scale),
            (_, Ok(value)) if value > 0.0 && value.is_finite() => Ok(Self::Value(value)),
            _ => Err(GammaError(text.to_string())),
        }
    }
}

/// The largest γ: far below what overflows in 32 bits, where a kernel of infinity times nothing is no number.
const MOST_GAMMA: f64 = 1e12;

impl Default for OneClassSvm {
    fn default() -> Self {
        Self {
            sample: 10_000,
            variance: 0.95,
            nu: 0.5,
            gamma: Gamma::Scale,
        }
    }
}

impl EmbeddingMethod for OneClassSvm {
    type Kept = SupportVectors;
    const ON_BACKBONE: bool = false;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        let in_range = match self.gamma {
            Gamma::Scale => true,
            Gamma::Value(value) => value > 0.0 && value <= MOST_GAMMA,
        };
        check_rules([
            count("sample", self.sample),
            share("variance", self.variance),
            share("nu", self.nu),
            (
                "gamma",
                in_range,
                format!("above 0, at most {MOST_GAMMA:e}"),
            ),
        ])
    }

    fn fit(
        &self,
        features: &Features<'_>,
        _: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<SupportVectors, TrainError> {
        let (components, rows) = features.reduced(self.sample, self.variance, observer)?;
        let training = MachineTraining {
            nu: self.nu,
            gamma: match self.gamma {
                Gamma::Scale => scale_gamma(&rows, components.noise()),
                Gamma::Value(gamma) => gamma,
            },
            tolerance: TOLERANCE,
        };
        observer.start("support vectors", 1);
        let stop = observer.stop_flag();
        let machine = Machine::fit(&rows, training, &stop, |violation| {
            observer.advance(0, Some(violation));
            !observer.stop_requested()
        })?;
        observer.advance(1, None);
        observer.finish();
        Ok(SupportVectors {
            components,
            machine,
        })
    }

    fn fits(&self, sizes: &SupportVectorSizes, channels: usize) -> bool {
        (1..=channels).contains(&sizes.components)
            && sizes.vectors > 0
            && sizes.gamma > 0.0
            && sizes.gamma.is_finite()
            && sizes.offset.is_finite()
    }

    fn describe(&self, sizes: &SupportVectorSizes) -> String {
        format!(
            "{} support vectors of {} components",
            sizes.vectors, sizes.components
        )
    }
}

/// A machine after a PCA; the score is its negative decision value.
#[derive(Clone, Debug, PartialEq)]
pub struct SupportVectors {
    components: PrincipalComponents,
    machine: Machine,
}

/// Sizes and single numbers of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupportVectorSizes {
    /// Components of the PCA.
    pub components: usize,
    /// Number of support vectors.
    pub vectors: usize,
    /// The kernel's γ.
    pub gamma: f64,
    /// The offset ρ.
    pub offset: f64,
}

impl Kept for SupportVectors {
    type Sizes = SupportVectorSizes;

    fn sizes(&self) -> SupportVectorSizes {
        SupportVectorSizes {
            components: self.components.components(),
            vectors: self.machine.vectors.rows(),
            gamma: self.machine.gamma,
            offset: self.machine.offset,
        }
    }

    fn layout(sizes: &SupportVectorSizes, channels: usize, _: usize) -> Vec<(String, Vec<usize>)> {
        let [mean, directions] = PrincipalComponents::layout(sizes.components, channels);
        vec![
            mean,
            directions,
            named("support.vectors", &[sizes.vectors, sizes.components]),
            named("support.weights", &[sizes.vectors]),
        ]
    }

    fn arrays(&self) -> Vec<&[f32]> {
        let [mean, directions] = self.components.arrays();
        let machine = &self.machine;
        vec![mean, directions, machine.vectors.values(), &machine.weights]
    }

    fn read(
        sizes: &SupportVectorSizes,
        channels: usize,
        arrays: &mut dyn Iterator<Item = Vec<f32>>,
    ) -> Self {
        let components = PrincipalComponents::read(channels, arrays);
        let mut next = || arrays.next().unwrap_or_default();
        Self {
            components,
            machine: Machine {
                vectors: Matrix::new(sizes.components, next()),
                weights: next(),
                offset: sizes.offset,
                gamma: sizes.gamma,
            },
        }
    }

    fn scores(&self, _: Grid, features: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let components = self.components.apply(features, stop)?;
        self.machine.scores(&components, stop)
    }
}
