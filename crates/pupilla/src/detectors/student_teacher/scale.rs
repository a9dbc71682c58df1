//! One scale: runs a teacher and its students over an image, tile by tile.

use std::borrow::Cow;

use pupilla_core::image::Image;
use pupilla_core::observer::{StopFlag, Stopped};
use rayon::prelude::*;

use super::scale_teacher::ScaleTeacher;
use super::scoring::residual_metric::{ResidualMetric, ResidualProducts};
use super::scoring::{Normalisation, Terms, Whitening};
use crate::device;
use crate::error::ScoreError;
use crate::features::extractor::View;
use crate::features::grid::{Grid, window_tensor};
use crate::features::input::Border;
use crate::features::tiles::{TileOfGrid, Tiling};
use crate::patch_network::{PatchNetwork, PatchNetworkConfig, ReceptiveField};

/// Teacher, students and whitening of one patch size.
#[derive(Clone, Debug)]
pub(crate) struct Ensemble {
    pub teacher: ScaleTeacher,
    pub students: Vec<PatchNetwork>,
    pub whitening: Whitening,
    /// The metric in which errors are judged; `None`: their plain length, as published.
    pub metric: Option<ResidualMetric>,
}

/// A trained scale: an ensemble whose scores are normalised.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub ensemble: Ensemble,
    pub normalisation: Normalisation,
}

/// How an ensemble goes over an image.
#[derive(Clone, Copy)]
pub(crate) struct Scan {
    /// The pixels beyond the edges of the image.
    pub border: Border,
    /// The positions.
    pub grid: Grid,
    /// The tiles in which the positions are described.
    pub tiling: Tiling,
}

/// The whitened descriptors of one tile, `[channels, rows · columns]` of the teacher and of each student.
struct DescribedTile {
    /// The tile's place in the grid: top, left, rows and columns.
    part: [usize; 4],
    teacher: Vec<f32>,
    students: Vec<Vec<f32>>,
}

impl DescribedTile {
    fn students(&self) -> Vec<&[f32]> {
        self.students.iter().map(Vec::as_slice).collect()
    }

    /// The terms as published.
    fn published_terms(&self) -> Terms {
        let [_, _, rows, columns] = self.part;
        Terms::new(&self.teacher, &self.students(), rows * columns)
    }
}

impl Ensemble {
    /// Untrained students of a teacher, for trials.
    pub fn untrained(
        teacher: &ScaleTeacher,
        student: PatchNetworkConfig,
        students: usize,
        whitening: Whitening,
    ) -> Self {
        Self {
            teacher: teacher.clone(),
            students: vec![student.init(0); students],
            whitening,
            metric: None,
        }
    }

    /// The patch size p.
    pub fn field(&self) -> ReceptiveField {
        self.teacher.receptive_field()
    }

    /// Regression error and predictive variance at the positions of a grid of `image`,
    /// `[rows · columns]`.
    ///
    /// # Errors
    /// If a pretrained network cannot describe the image, or `stop` is raised.
    pub fn terms(&self, image: &Image, scan: Scan, stop: &StopFlag) -> Result<Terms, ScoreError> {
        let mut terms = Terms::zeros(scan.grid);
        for tile in self.describe_tiles(image, scan, stop)? {
            let tile = tile?;
            terms.fill(scan.grid, tile.part, &self.terms_of_tile(&tile));
        }
        Ok(terms)
    }

    /// [`terms`](Self::terms), and the students' loss: `e + v` as published, summed over all positions.
    ///
    /// # Errors
    /// As `terms`.
    pub fn terms_and_loss(
        &self,
        image: &Image,
        scan: Scan,
        stop: &StopFlag,
    ) -> Result<(Terms, f64), ScoreError> {
        let (mut terms, mut loss) = (Terms::zeros(scan.grid), 0.0);
        for tile in self.describe_tiles(image, scan, stop)? {
            let tile = tile?;
            loss += tile.published_terms().sum();
            terms.fill(scan.grid, tile.part, &self.terms_of_tile(&tile));
        }
        Ok((terms, loss))
    }

    /// Adds the residuals of an image.
    ///
    /// # Errors
    /// As `terms`.
    pub fn add_residuals(
        &self,
        image: &Image,
        scan: Scan,
        products: &mut ResidualProducts,
        stop: &StopFlag,
    ) -> Result<(), ScoreError> {
        for tile in self.describe_tiles(image, scan, stop)? {
            let tile = tile?;
            products.add(&tile.teacher, &tile.students());
        }
        Ok(())
    }

    /// The terms of a tile, in the metric if there is one.
    fn terms_of_tile(&self, tile: &DescribedTile) -> Terms {
        match &self.metric {
            None => tile.published_terms(),
            Some(metric) => metric.terms(&tile.teacher, &tile.students()),
        }
    }

    /// Describes an image, tile by tile.
    fn describe_tiles<'a>(
        &'a self,
        image: &'a Image,
        scan: Scan,
        stop: &'a StopFlag,
    ) -> Result<impl Iterator<Item = Result<DescribedTile, Stopped>> + 'a, ScoreError> {
        let view = self.teacher.extractor().view(image, scan.border, stop)?;
        let tiles = scan.tiling.tiles(scan.grid);
        Ok(tiles.map(move |tile| self.describe_tile(image, &view, scan, tile, stop)))
    }

    fn describe_tile(
        &self,
        image: &Image,
        view: &View<'_>,
        scan: Scan,
        TileOfGrid { part, window }: TileOfGrid,
        stop: &StopFlag,
    ) -> Result<DescribedTile, Stopped> {
        let positions = scan.grid.positions(part);
        let input = window_tensor(image, &window, scan.border);
        let teacher = || {
            stop.check()?;
            let mut descriptors = view.describe(&positions, || Cow::Borrowed(&input));
            self.whitening.apply(&mut descriptors);
            Ok(descriptors)
        };
        let student = |student: &PatchNetwork| {
            stop.check()?;
            let map = student.grid(&input, scan.grid.stride);
            Ok(map.resized(positions.size).into_values())
        };
        let in_turn = device::is_gpu() || !side_by_side(self.field(), scan.grid.stride);
        let (teacher, students): (_, Result<_, Stopped>) = if in_turn {
            (teacher(), self.students.iter().map(student).collect())
        } else {
            rayon::join(teacher, || self.students.par_iter().map(student).collect())
        };
        Ok(DescribedTile {
            part,
            teacher: teacher?,
            students: students?,
        })
    }
}

/// Whether a scale's networks run over a tile at the same time. They do if the maps of one network are too small to keep many threads
/// busy. Larger maps of all networks would take much memory, or need much smaller tiles.
pub(crate) fn side_by_side(field: ReceptiveField, stride: usize) -> bool {
    stride > 1 && field != ReceptiveField::P17
}
