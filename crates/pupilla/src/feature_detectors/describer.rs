//! Where features come from: the descriptors of a teacher's patch network on a grid, or a pretrained network's maps at the positions of
//! its finest.

use pupilla_core::image::Image;
use rayon::prelude::*;

use super::matrix::Matrix;
use crate::backbone::{Output, Positions};
use crate::error::ScoreError;
use crate::input::Border;
use crate::sampling::Sampling;
use crate::student_teacher::scale::{Grid, window_tensor};
use crate::student_teacher::tiles::{TileOfGrid, Tiling};
use crate::student_teacher::{BackboneManifest, BackboneTeacher, ScaleTeacherManifest};
use crate::teacher::Teacher;

/// Side of the tiles that a patch network describes one after the other.
const TILE: usize = 256;

/// What gives the features of an image.
#[derive(Clone, Debug)]
pub enum Describer {
    /// A patch network: descriptors of p×p patches at every 4th row and column (8th for p = 65).
    PatchNetwork(Box<Teacher>),
    /// A pretrained network that sees the whole image, continued beyond its edges; its maps are joined at the positions of the finest.
    Backbone(BackboneTeacher),
}

impl Describer {
    /// Everything about it but its weights.
    pub fn manifest(&self) -> ScaleTeacherManifest {
        match self {
            Self::PatchNetwork(teacher) => {
                ScaleTeacherManifest::PatchNetwork(Box::new(teacher.manifest.clone()))
            }
            Self::Backbone(teacher) => ScaleTeacherManifest::Backbone(teacher.manifest().clone()),
        }
    }

    /// Features at a position.
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::PatchNetwork(teacher) => teacher.network.config().output_channels,
            Self::Backbone(teacher) => outputs(teacher.manifest())
                .iter()
                .map(|output| output.channels)
                .sum(),
        }
    }

    /// The positions of an image of this width and height (already resized).
    ///
    /// # Errors
    /// If it cannot describe such an image.
    pub(super) fn grid(&self, size @ [width, height]: [usize; 2]) -> Result<Grid, ScoreError> {
        match self {
            Self::PatchNetwork(teacher) => {
                let field = teacher.receptive_field();
                if width.min(height) < field.side() {
                    return Err(ScoreError::TooSmall {
                        width,
                        height,
                        field,
                    });
                }
            }
            Self::Backbone(teacher) => {
                let manifest = teacher.manifest();
                let continued = size.map(|side| side.saturating_add(2 * manifest.margin));
                let seen = manifest.features.seen_size(continued);
                seen.map_err(|source| teacher.failed(source))?;
            }
        }
        Ok(Grid::with_stride(size, stride(&self.manifest())))
    }

    /// The features of an image (already resized) at the positions of its grid, `[positions, channels]`.
    ///
    /// # Errors
    /// If it cannot describe the image.
    pub(super) fn describe(&self, image: &Image, border: Border) -> Result<Matrix, ScoreError> {
        let grid = self.grid([image.width(), image.height()])?;
        match self {
            Self::PatchNetwork(teacher) => Ok(patches(teacher, image, border, grid)),
            Self::Backbone(teacher) => {
                let maps = teacher.maps(image, border)?;
                let positions = Positions {
                    first: [teacher.manifest().margin as f32; 2],
                    stride: grid.stride as f32,
                    size: [grid.rows, grid.columns],
                };
                Ok(Matrix::transposed(&maps.at(&positions), self.channels()))
            }
        }
    }
}

/// Pixels of the (resized) image between positions: every patch of a patch network's grid, every pixel of a pretrained network's finest
/// map.
pub(super) fn stride(features: &ScaleTeacherManifest) -> usize {
    match features {
        ScaleTeacherManifest::PatchNetwork(teacher) => {
            Sampling::Grid.stride(teacher.config.network.receptive_field)
        }
        ScaleTeacherManifest::Backbone(backbone) => {
            let outputs = outputs(backbone);
            let finest = outputs.iter().filter_map(|output| output.stride).min();
            (finest.unwrap_or(1) / backbone.features.zoom.max(1)).max(1)
        }
    }
}

/// The maps that are read; loading has checked that they exist.
fn outputs(backbone: &BackboneManifest) -> Vec<Output> {
    let outputs = backbone.features.check(&backbone.network);
    outputs.unwrap_or_default()
}

/// The descriptors of a patch network, tile by tile.
fn patches(teacher: &Teacher, image: &Image, border: Border, grid: Grid) -> Matrix {
    let field = teacher.receptive_field();
    let channels = teacher.network.config().output_channels;
    let mut all = vec![0.0; grid.rows * grid.columns * channels];
    for TileOfGrid { part, window } in Tiling::new(field, Sampling::Grid, TILE).tiles(grid) {
        let [top, left, rows, columns] = part;
        let input = window_tensor(image, &window, border);
        let map = teacher.network.grid(&input, grid.stride);
        let map = map.resized([rows, columns]);
        let tile = Matrix::transposed(map.values(), channels);
        all.par_chunks_mut(grid.columns * channels)
            .skip(top)
            .zip(tile.values().par_chunks(columns * channels))
            .for_each(|(line, tile)| {
                line[left * channels..][..tile.len()].copy_from_slice(tile);
            });
    }
    Matrix::new(channels, all)
}
