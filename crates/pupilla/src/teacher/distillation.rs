//! Lk, the distillation loss: what a pretrained network says about patches, and how far the teacher's decoded
//! descriptors are from it.

use burn::tensor::{Tensor, TensorData, activation};
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_image;

use super::config::Distillation;
use crate::backbone::{Backbone, BackboneError, FEATURES, LOGITS, Positions};
use crate::device;
use crate::patch_network::values;
use crate::receptive_field::ReceptiveField;
use crate::statistics::{Moments, reciprocal};

/// A window of an image with what surrounds it.
pub(super) struct Cut {
    /// The window, and the context around it where the image has that; grey if its triplet is.
    image: Image,
    /// Row and column of the window's first pixel.
    corner: [usize; 2],
}

impl Cut {
    /// A square window with its first pixel (row, column) at `corner`, and so much context around it. The rest of the image is not kept:
    /// a batch has many.
    pub fn new(image: &Image, corner: [usize; 2], window: usize, context: usize) -> Self {
        let begin = corner.map(|at| at.saturating_sub(context));
        let end = |corner: usize, size: usize| (corner + window + context).min(size);
        let seen = image.crop(
            begin[0],
            begin[1],
            end(corner[0], image.height()) - begin[0],
            end(corner[1], image.width()) - begin[1],
        );
        Self {
            image: seen,
            corner: [corner[0] - begin[0], corner[1] - begin[1]],
        }
    }
}

/// A pretrained network and what of it is to be learned.
pub(super) struct Tutor<'a> {
    pub form: &'a Distillation,
    pub backbone: &'a dyn Backbone,
    pub field: ReceptiveField,
    /// Side of the windows.
    pub window: usize,
}

impl Tutor<'_> {
    /// How many numbers the network says about a patch.
    ///
    /// # Errors
    /// If the network has no such output.
    pub fn targets(&self) -> Result<usize, BackboneError> {
        let channels = |wanted: &str| {
            let outputs = self.backbone.outputs();
            match outputs.iter().find(|output| output.name == wanted) {
                Some(output) => Ok(output.channels),
                None => Err(BackboneError::NoOutput {
                    network: self.backbone.config().name(),
                    wanted: wanted.to_string(),
                    available: outputs
                        .iter()
                        .map(|output| output.name)
                        .collect::<Vec<_>>()
                        .join(", "),
                }),
            }
        };
        match self.form {
            Distillation::Features { .. } => channels(FEATURES),
            Distillation::Logits { .. } => channels(LOGITS),
            Distillation::Dense { features, .. } => features.channels(self.backbone),
        }
    }

    /// What the network says about every patch of some windows, `[windows · positions, targets]`, a window's
    /// positions next to each other.
    pub fn say(&self, cuts: &[Cut]) -> Result<Tensor<2>, BackboneError> {
        let targets = self.targets()?;
        match self.form {
            Distillation::Features { side } => self.of_patches(cuts, *side, FEATURES),
            Distillation::Logits { side, .. } => self.of_patches(cuts, *side, LOGITS),
            Distillation::Dense { features, .. } => {
                let stride = self.field.pooling_stride();
                let rows = (self.window - self.field.side()) / stride + 1;
                let mut all = Vec::with_capacity(cuts.len() * targets * rows * rows);
                for cut in cuts {
                    let positions = Positions {
                        first: cut.corner.map(|at| (at + self.field.radius()) as f32),
                        stride: stride as f32,
                        size: [rows, rows],
                    };
                    all.extend(features.describe(self.backbone, &cut.image, &positions)?);
                }
                let shape = [cuts.len(), targets, rows * rows];
                let all = Tensor::<3>::from_data(TensorData::new(all, shape), &device::chosen());
                Ok(all
                    .permute([0, 2, 1])
                    .reshape([cuts.len() * rows * rows, targets]))
            }
        }
    }

    /// An output for the whole image, of each window as an image of its own.
    fn of_patches(
        &self,
        cuts: &[Cut],
        side: usize,
        output: &'static str,
    ) -> Result<Tensor<2>, BackboneError> {
        let patches: Vec<Image> = cuts
            .iter()
            .map(|cut| {
                let [top, left] = cut.corner;
                let patch = cut.image.crop(top, left, self.window, self.window);
                if side == self.window {
                    patch
                } else {
                    resize_image(&patch, side, side)
                }
            })
            .collect();
        let patches: Vec<&Image> = patches.iter().collect();
        let input = self.backbone.preprocessing().batch(&patches)?;
        let mut maps = self.backbone.maps(input, &[output])?;
        let map = maps.remove(0);
        let [batch, channels, ..] = map.dims();
        let numbers = values(map);
        if numbers.iter().any(|value| !value.is_finite()) {
            return Err(BackboneError::NotFinite { output });
        }
        Ok(Tensor::from_data(
            TensorData::new(numbers, [batch, channels]),
            &device::chosen(),
        ))
    }
}

/// Mean and deviation of every target over the training images: targets are learned in units of their
/// deviation, so that the loss is a share of the variance.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetScale {
    /// `[targets]`
    pub mean: Vec<f32>,
    /// `[targets]`
    pub deviation: Vec<f32>,
}

impl TargetScale {
    /// Of rows of targets, `[rows, targets]`.
    pub fn of(rows: &[Tensor<2>]) -> Self {
        let mut moments: Vec<Moments> = Vec::new();
        for rows in rows {
            let [count, targets] = rows.dims();
            moments.resize(targets, Moments::default());
            let columns = values(rows.clone().transpose());
            for (moments, column) in moments.iter_mut().zip(columns.chunks_exact(count)) {
                *moments = moments.merge(Moments::of(column));
            }
        }
        Self {
            mean: moments.iter().map(|of| of.mean() as f32).collect(),
            deviation: moments.iter().map(|of| of.deviation() as f32).collect(),
        }
    }

    /// Targets in units of their deviation, mean 0; one that never varied is 0.
    pub fn apply(&self, targets: Tensor<2>) -> Tensor<2> {
        let device = targets.device();
        let count = self.mean.len();
        let row =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [1, count]), &device);
        let factors = self
            .mean
            .iter()
            .zip(&self.deviation)
            .map(|(&mean, &deviation)| reciprocal(deviation.into(), mean.into()) as f32)
            .collect();
        (targets - row(self.mean.clone())) * row(factors)
    }
}

/// Mean over rows and targets of the squared distance, of targets in units of their deviation.
///
/// # Shapes
/// - `decoded`, `targets`: `[rows, targets]`
pub(super) fn squared_error(decoded: Tensor<2>, targets: Tensor<2>) -> Tensor<1> {
    (decoded - targets).powi_scalar(2).mean()
}

/// Mean over the rows of `KL(softmax(targets/τ) ‖ softmax(decoded/τ))`, in nats.
///
/// # Shapes
/// - `decoded`, `targets`: `[rows, classes]`
pub(super) fn divergence(decoded: Tensor<2>, targets: Tensor<2>, temperature: f64) -> Tensor<1> {
    let rows = decoded.dims()[0];
    let learned = activation::log_softmax(decoded.div_scalar(temperature), 1);
    let wanted = activation::log_softmax(targets.div_scalar(temperature), 1);
    let terms = wanted.clone().exp() * (wanted - learned);
    terms.sum().div_scalar(rows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn rows<const N: usize, const M: usize>(rows: [[f32; M]; N]) -> Tensor<2> {
        Tensor::from_data(TensorData::from(rows), &Device::flex())
    }

    #[test]
    fn the_divergence_of_softened_classes() {
        // Worked out by hand in f64: softmax(z/τ), Σ p ln(p/q), mean over the rows.
        let wanted = [[2.0f32, 0.0, -1.0], [0.5, 0.5, 0.5]];
        let learned = [[1.0f32, 0.5, 0.0], [0.0, 1.0, -2.0]];
        for temperature in [1.0f64, 4.0] {
            let soft = |row: [f32; 3]| {
                let terms = row.map(|z| (f64::from(z) / temperature).exp());
                terms.map(|term| term / terms.iter().sum::<f64>())
            };
            let expected: f64 = wanted
                .iter()
                .zip(&learned)
                .map(|(&wanted, &learned)| {
                    let pairs = soft(wanted).into_iter().zip(soft(learned));
                    pairs.map(|(p, q)| p * (p / q).ln()).sum::<f64>()
                })
                .sum::<f64>()
                / 2.0;
            let found = divergence(rows(learned), rows(wanted), temperature).into_scalar::<f32>();
            assert!(
                (f64::from(found) - expected).abs() < 1e-6,
                "{found}, not {expected}"
            );
        }
        let same = divergence(rows(wanted), rows(wanted), 2.0).into_scalar::<f32>();
        assert!(same.abs() < 1e-7, "{same}");
    }

    #[test]
    fn targets_have_mean_0_and_deviation_1() {
        let some = rows([[1.0, 5.0, 3.0], [3.0, 5.0, 7.0]]);
        let more = rows([[5.0, 5.0, 5.0]]);
        let scale = TargetScale::of(&[some.clone(), more]);
        assert_eq!(scale.mean, [3.0, 5.0, 5.0]);
        let scaled = values(scale.apply(some));
        let unit = (1.5f32).sqrt();
        for (found, expected) in scaled.iter().zip([-unit, 0.0, -unit, 0.0, 0.0, unit]) {
            assert!((found - expected).abs() < 1e-6, "{scaled:?}");
        }
    }
}
