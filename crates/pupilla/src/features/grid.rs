//! Where descriptors are computed: the positions of an image, and the windows of pixels that they need.

use pupilla_core::image::{Image, Size};
use pupilla_nn::Tensor;

use super::input::{Border, Window};
use crate::backbone::Positions;
use crate::patch_network::ReceptiveField;

/// The positions of an image at which descriptors are computed: the pixels at every `stride`-th row and column, and one position after
/// the end if the last position does not fall on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Grid {
    /// The grid of an image of this size.
    pub fn new(size: Size, stride: usize) -> Self {
        Self {
            stride,
            rows: (size.height - 1).div_ceil(stride) + 1,
            columns: (size.width - 1).div_ceil(stride) + 1,
        }
    }

    /// The positions of `rows × columns` of its points from `(top, left)` on.
    pub fn positions(&self, part: [usize; 4]) -> Positions {
        Self::part(part, self.stride)
    }

    /// The same for any grid of this stride.
    pub fn part([top, left, rows, columns]: [usize; 4], stride: usize) -> Positions {
        Positions {
            first: [top, left].map(|at| (at * stride) as f32),
            stride: stride as f32,
            size: [rows, columns],
        }
    }

    /// Values of the grid points, `[rows, columns]`, spread over all pixels of the image by
    /// bilinear interpolation, `[height, width]`; at a grid point the value is the point's own.
    pub fn spread(&self, values: &[f32], Size { width, height }: Size) -> Vec<f32> {
        if self.stride == 1 {
            return values.to_vec();
        }
        let step = 1.0 / self.stride as f32;
        let place = |pixel: usize, count: usize| {
            let before = pixel / self.stride;
            let share = (pixel % self.stride) as f32 * step;
            (before, (before + 1).min(count - 1), share)
        };
        let columns: Vec<_> = (0..width)
            .map(|column| place(column, self.columns))
            .collect();
        let mut pixels = Vec::with_capacity(width * height);
        for row in 0..height {
            let (above, below, down) = place(row, self.rows);
            let above = &values[above * self.columns..][..self.columns];
            let below = &values[below * self.columns..][..self.columns];
            pixels.extend(columns.iter().map(|&(left, right, across)| {
                let upper = above[left] + (above[right] - above[left]) * across;
                let lower = below[left] + (below[right] - below[left]) * across;
                upper + (lower - upper) * down
            }));
        }
        pixels
    }
}

/// The window that holds the patches centred on `rows × columns` grid points from `(top, left)` on.
pub(crate) fn patches_window(
    field: ReceptiveField,
    stride: usize,
    [top, left, rows, columns]: [usize; 4],
) -> Window {
    let radius = field.radius() as isize;
    Window {
        top: (top * stride) as isize - radius,
        left: (left * stride) as isize - radius,
        height: (rows - 1) * stride + field.side(),
        width: (columns - 1) * stride + field.side(),
    }
}

/// The centres of the patches in a window, in the coordinates of its image: what
/// [`patches_window`] began with, if the window came from there.
pub(crate) fn windows_positions(
    window: &Window,
    field: ReceptiveField,
    stride: usize,
) -> Positions {
    let centre = |start: isize| (start + field.radius() as isize) as f32;
    let count = |size: usize| (size - field.side()) / stride + 1;
    Positions {
        first: [centre(window.top), centre(window.left)],
        stride: stride as f32,
        size: [count(window.height), count(window.width)],
    }
}

/// The pixels under a window of an image, `[1, 3, height, width]`.
pub(crate) fn window_tensor(image: &Image, window: &Window, border: Border) -> Tensor {
    let mut planes = Vec::new();
    window.read(image, border, &mut planes);
    Tensor::new(planes, [1, 3, window.height, window.width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::sampling::Sampling;

    #[test]
    fn a_window_of_grid_points_has_them_for_its_patches_centres() {
        for field in ReceptiveField::ALL {
            for sampling in [Sampling::Grid, Sampling::Dense] {
                let stride = sampling.stride(field);
                let window = patches_window(field, stride, [2, 3, 4, 5]);
                let positions = windows_positions(&window, field, stride);
                assert_eq!(positions, Grid::part([2, 3, 4, 5], stride));
                assert_eq!(
                    positions.first,
                    [2 * stride, 3 * stride].map(|at| at as f32)
                );
                assert_eq!(positions.size, [4, 5]);
            }
        }
    }
}
