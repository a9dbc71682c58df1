//! One scale: runs a teacher and its students over an image, tile by tile.

use std::borrow::Cow;

use pupilla_core::image::Image;
use rayon::prelude::*;

use super::scale_teacher::ScaleTeacher;
use super::scoring::residual_metric::{ResidualMetric, ResidualProducts};
use super::scoring::{Normalisation, Terms, Whitening};
use crate::device;
use crate::error::ScoreError;
use crate::features::grid::{Grid, window_tensor};
use crate::features::input::Border;
use crate::features::tiles::{TileOfGrid, Tiling};
use crate::patch_network::{PatchNetwork, ReceptiveField};

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

    /// [`terms`](Self::terms), and the students' loss: `e + v` as published, summed over all positions.
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
            let positions = grid.positions(part);
            let input = window_tensor(image, &window, border);
            let teacher = || {
                let mut teacher = view.describe(&positions, || Cow::Borrowed(&input));
                self.whitening.apply(&mut teacher);
                teacher
            };
            let student = |student: &PatchNetwork| {
                let map = student.grid(&input, grid.stride);
                map.resized(positions.size).into_values()
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

/// Whether a scale's networks run over a tile at the same time. They do if the maps of one network are too small to keep many threads
/// busy. Larger maps of all networks would take much memory, or need much smaller tiles.
pub(crate) fn side_by_side(field: ReceptiveField, stride: usize) -> bool {
    stride > 1 && field != ReceptiveField::P17
}
