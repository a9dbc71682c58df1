//! The anomaly map: one score for every pixel of an image.

use crate::image::Size;

/// A score for every pixel, `[height, width]` in row-major order; **higher is more anomalous**.
///
/// Values are finite; they have no fixed range (a sum of normalised scores, see the paper's §5).
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyMap {
    width: usize,
    height: usize,
    scores: Vec<f32>,
}

impl AnomalyMap {
    /// Wraps `scores`, `[height, width]` in row-major order.
    ///
    /// # Panics
    /// If a side is 0 or `scores.len() != width * height`: a programming error.
    pub fn new(width: usize, height: usize, scores: Vec<f32>) -> Self {
        assert!(width > 0 && height > 0, "a map has at least one pixel");
        assert_eq!(scores.len(), width * height, "[height, width]");
        Self {
            width,
            height,
            scores,
        }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> Size {
        Size::new(self.width, self.height)
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All scores, `[height, width]`.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// All scores, `[height, width]`, without a copy.
    pub fn into_scores(self) -> Vec<f32> {
        self.scores
    }

    /// The image's score: the maximum of the map (the convention of MVTec's evaluation).
    pub fn image_score(&self) -> f32 {
        self.scores
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max)
    }
}
