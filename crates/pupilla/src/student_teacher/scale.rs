//! One scale: a teacher and its students, and what they say about an image.

use std::borrow::Cow;

use pupilla_core::image::Image;
use pupilla_nn::Tensor;
use rayon::prelude::*;

use super::scale_teacher::ScaleTeacher;
use super::tiles::{TileOfGrid, Tiling};
use crate::backbone::Positions;
use crate::device;
use crate::error::ScoreError;
use crate::input::{Border, Window};
use crate::patch_network::PatchNetwork;
use crate::receptive_field::ReceptiveField;
use crate::residual_metric::{ResidualMetric, ResidualProducts};
use crate::sampling::Sampling;
use crate::score::{Normalisation, Terms, Whitening};

/// Teacher, students and whitening of one patch size.
#[derive(Clone, Debug)]
pub(crate) struct Ensemble {
    pub teacher: ScaleTeacher,
    pub students: Vec<PatchNetwork>,
    pub whitening: Whitening,
    /// How errors are judged; `None` as published, by their plain length.
    pub metric: Option<ResidualMetric>,
}

/// A trained scale: an ensemble whose scores are normalised.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub ensemble: Ensemble,
    pub normalisation: Normalisation,
}

/// The positions of an image at which descriptors are computed: the pixels at every `stride`-th row
/// and column, and one more behind the end where the last does not fall on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub stride: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Grid {
    /// The grid of an image (already resized) for the students of a teacher.
    pub fn of(
        image: &Image,
        teacher: &ScaleTeacher,
        sampling: Sampling,
    ) -> Result<Self, ScoreError> {
        teacher.check_size([image.width(), image.height()])?;
        let stride = sampling.stride(teacher.receptive_field());
        Ok(Self::with_stride([image.width(), image.height()], stride))
    }

    /// The grid of an image of this width and height.
    pub fn with_stride([width, height]: [usize; 2], stride: usize) -> Self {
        Self {
            stride,
            rows: (height - 1).div_ceil(stride) + 1,
            columns: (width - 1).div_ceil(stride) + 1,
        }
    }

    /// Values of the grid points, `[rows, columns]`, spread over all pixels of the image by
    /// bilinear interpolation, `[height, width]`; at a grid point the value is the point's own.
    pub fn spread(&self, values: &[f32], width: usize, height: usize) -> Vec<f32> {
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

/// How an image is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    /// What stands beyond its edges.
    pub border: Border,
    /// The positions.
    pub grid: Grid,
    /// In which tiles.
    pub tiling: Tiling,
}

impl Ensemble {
    /// The patch size p.
    pub fn field(&self) -> ReceptiveField {
        self.teacher.receptive_field()
    }

    /// Regression error and predictive variance at the positions of a grid of `image`,
    /// `[rows · columns]`.
    ///
    /// # Errors
    /// If a pretrained network cannot describe the image.
    pub fn terms(&self, image: &Image, look: Look) -> Result<Terms, ScoreError> {
        self.gather(image, look, |teacher, students, positions| {
            self.judge(teacher, students, positions)
        })
    }

    /// The terms of whitened descriptors, in the metric if there is one.
    fn judge(&self, teacher: &[f32], students: &[&[f32]], positions: usize) -> Terms {
        match &self.metric {
            None => Terms::new(teacher, students, positions),
            Some(metric) => metric.terms(teacher, students),
        }
    }

    /// The same, and `e + v` as published, summed over all positions: the students' loss.
    ///
    /// # Errors
    /// As `terms`.
    pub fn judged(&self, image: &Image, look: Look) -> Result<(Terms, f64), ScoreError> {
        let mut loss = 0.0;
        let terms = self.gather(image, look, |teacher, students, positions| {
            loss += Terms::new(teacher, students, positions).sum();
            self.judge(teacher, students, positions)
        })?;
        Ok((terms, loss))
    }

    /// The terms of all tiles, from whitened descriptors of the teacher and of each student, and the number of positions.
    fn gather(
        &self,
        image: &Image,
        look: Look,
        mut judge: impl FnMut(&[f32], &[&[f32]], usize) -> Terms,
    ) -> Result<Terms, ScoreError> {
        let Grid { rows, columns, .. } = look.grid;
        let mut all = Terms {
            regression_error: vec![0.0; rows * columns],
            predictive_variance: vec![0.0; rows * columns],
        };
        self.describe(
            image,
            look,
            |[top, left, rows, columns], teacher, students| {
                let terms = judge(teacher, students, rows * columns);
                for row in 0..rows {
                    let to = (top + row) * look.grid.columns + left;
                    let from = row * columns;
                    all.regression_error[to..to + columns]
                        .copy_from_slice(&terms.regression_error[from..from + columns]);
                    all.predictive_variance[to..to + columns]
                        .copy_from_slice(&terms.predictive_variance[from..from + columns]);
                }
            },
        )?;
        Ok(all)
    }

    /// Adds the residuals of an image.
    ///
    /// # Errors
    /// As `terms`.
    pub fn add_residuals(
        &self,
        image: &Image,
        look: Look,
        products: &mut ResidualProducts,
    ) -> Result<(), ScoreError> {
        self.describe(image, look, |_, teacher, students| {
            products.add(teacher, students)
        })
    }

    /// Whitened descriptors of the teacher and of each student, tile by tile: the tile's place in the grid as top, left, rows and
    /// columns, and `[channels, rows · columns]` each.
    fn describe(
        &self,
        image: &Image,
        look: Look,
        mut tell: impl FnMut([usize; 4], &[f32], &[&[f32]]),
    ) -> Result<(), ScoreError> {
        let Look {
            border,
            grid,
            tiling,
        } = look;
        let view = self.teacher.look_at(image, border)?;
        for TileOfGrid { part, window } in tiling.tiles(grid) {
            let [_, _, rows, columns] = part;
            let input = window_tensor(image, &window, border);
            let teacher = || {
                let mut teacher = view.describe(&window, grid.stride, [rows, columns], || {
                    Cow::Borrowed(&input)
                });
                self.whitening.apply(&mut teacher);
                teacher
            };
            let student = |student: &PatchNetwork| {
                let map = student.grid(&input, grid.stride);
                map.resized([rows, columns]).into_values()
            };
            let alone = device::is_gpu() || !side_by_side(self.field(), grid.stride);
            let (teacher, students): (_, Vec<_>) = if alone {
                (teacher(), self.students.iter().map(student).collect())
            } else {
                rayon::join(teacher, || self.students.par_iter().map(student).collect())
            };
            let students: Vec<_> = students.iter().map(Vec::as_slice).collect();
            tell(part, &teacher, &students);
        }
        Ok(())
    }
}

/// Whether a scale's networks look at a tile at the same time. They do where one network's maps are so small that they do not keep
/// many threads busy by themselves; larger ones would take much memory, or much smaller tiles.
pub(crate) fn side_by_side(field: ReceptiveField, stride: usize) -> bool {
    stride > 1 && field != ReceptiveField::P17
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

    #[test]
    fn a_window_of_grid_points_has_them_for_its_patches_centres() {
        for field in ReceptiveField::ALL {
            for sampling in [Sampling::Grid, Sampling::Dense] {
                let stride = sampling.stride(field);
                let window = patches_window(field, stride, [2, 3, 4, 5]);
                let positions = windows_positions(&window, field, stride);
                assert_eq!(
                    positions.first,
                    [2 * stride, 3 * stride].map(|at| at as f32)
                );
                assert_eq!(positions.stride, stride as f32);
                assert_eq!(positions.size, [4, 5]);
            }
        }
    }
}
