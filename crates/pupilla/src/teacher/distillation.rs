//! The features that a pretrained network gives for patches, and the units in which the teacher learns them.

use pupilla_core::image::resize::resize_image;
use pupilla_core::image::{Image, Size};
use pupilla_nn::Tensor;

use crate::backbone::{Backbone, BackboneError, FEATURES, LOGITS, Positions};
use crate::features::teacher::Distillation;
use crate::patch_network::ReceptiveField;

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

/// A pretrained network, and the features of it to learn.
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

    /// The network's features of every patch of some windows, `[windows, targets, rows, columns]`.
    pub fn say(&self, cuts: &[Cut]) -> Result<Tensor, BackboneError> {
        match self.form {
            Distillation::Features { side } => self.of_patches(cuts, *side, FEATURES),
            Distillation::Logits { side, .. } => self.of_patches(cuts, *side, LOGITS),
            Distillation::Dense { features, .. } => {
                let targets = self.targets()?;
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
                Ok(Tensor::new(all, [cuts.len(), targets, rows, rows]))
            }
        }
    }

    /// An output for the whole image, of each window as an image of its own.
    fn of_patches(
        &self,
        cuts: &[Cut],
        side: usize,
        output: &'static str,
    ) -> Result<Tensor, BackboneError> {
        let patches: Vec<Image> = cuts
            .iter()
            .map(|cut| {
                let [top, left] = cut.corner;
                let patch = cut.image.crop(top, left, self.window, self.window);
                if side == self.window {
                    patch
                } else {
                    resize_image(&patch, Size::square(side))
                }
            })
            .collect();
        let patches: Vec<&Image> = patches.iter().collect();
        let input = self.backbone.preprocessing().batch(&patches)?;
        let map = self.backbone.maps(&input, &[output])?.swap_remove(0);
        if map.values().iter().any(|value| !value.is_finite()) {
            return Err(BackboneError::NotFinite { output });
        }
        Ok(map)
    }
}
