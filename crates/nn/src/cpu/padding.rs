//! Zeros around a map, and the gradient of the map inside them.

use crate::graph::SamePadding;
use crate::tensor::Tensor;

/// Before and after rows and columns.
pub(super) fn zeros(window: &SamePadding, map: &Tensor) -> [[usize; 2]; 2] {
    let [.., height, width] = map.shape();
    [height, width].map(|side| window.zeros(side))
}

/// The map between its zeros.
pub(super) fn padded(window: &SamePadding, map: &Tensor) -> Tensor {
    map.padded_by(zeros(window, map))
}

/// The gradient of a map from that of the padded one.
pub(super) fn cropped(window: &SamePadding, map: &Tensor, gradient: &Tensor) -> Tensor {
    gradient.cropped_by(zeros(window, map))
}
