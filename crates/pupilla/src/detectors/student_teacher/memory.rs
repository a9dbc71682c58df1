//! How much memory inspection takes, and tiles that keep within a limit.
//!
//! This is an estimate. It adds the bytes of the networks' maps and of the image's own maps, counted from their shapes, to the bytes
//! that the process holds anyway. `docs/notes/performance.md` compares it with measurements.

use super::scale::{Ensemble, Scale, side_by_side};
use super::scale_teacher::ScaleTeacher;
use crate::features::Extractor;
use crate::features::grid::Grid;
use crate::features::sampling::Sampling;
use crate::features::tiles::{self, Tiling};
use crate::patch_network::{Layer, PatchNetworkConfig, ReceptiveField};
use pupilla_core::image::Size;

/// Bytes of an `f32`.
const FLOAT: usize = 4;

/// Bytes that a scale's networks may take together without a limit of the user: an image of 256×256 is then one tile, dense too. On
/// such an image, networks in turn on the whole image took 0.82 of the time of two networks at a time on its quarters.
const USUAL: usize = 320 << 20;

/// Bytes that every process holds: the program, its libraries, the memory of its threads.
const PROCESS: usize = 48 << 20;

/// Bytes for each pixel of an image after the networks (their freed blocks rarely fit again): a scale's scores, their sum, the map, a
/// part of it, its regions.
const MAPS: usize = 18;

/// Bytes for each pixel of the next image, which is read, and of the last image, which is written, during an inspection: three values a
/// pixel each, and the last image's map and picture, raw and encoded.
const BESIDE: usize = 2 * 3 * FLOAT + 2 * FLOAT + 6;

/// About how many bytes a run over several images of this size takes in addition to the bytes for one image, because the next image is
/// read and the last image is written at the same time.
pub fn bytes_beside(size: Size) -> usize {
    BESIDE * size.area()
}

/// Tiles and what inspecting with them takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Side of the largest tile, in pixels.
    pub side: usize,
    /// Bytes in all.
    pub bytes: usize,
}

/// The tiles with which an image of `original` pixels, width and height, resized to `resized`, keeps within `limit` bytes; the need of
/// the smallest tiles as the error. Without a limit, the usual tiles.
pub(super) fn fitting_tiles(
    scales: &[Scale],
    sampling: Sampling,
    original: Size,
    resized: Size,
    limit: Option<usize>,
) -> Result<Need, Need> {
    let need = |side: usize| Need {
        side,
        bytes: inspection_bytes(scales, sampling, original, resized, side),
    };
    let Some(limit) = limit else {
        let ensembles = scales.iter().map(|scale| &scale.ensemble);
        let side = ensembles.map(|ensemble| usual_side(ensemble.into(), sampling, resized));
        return Ok(need(side.min().unwrap_or(tiles::SMALLEST)));
    };
    sides()
        .map(need)
        .find(|need| need.bytes <= limit)
        .ok_or_else(|| need(tiles::SMALLEST))
}

/// Sides of tiles, largest first.
fn sides() -> impl Iterator<Item = usize> {
    (tiles::SMALLEST..=tiles::LARGEST).rev().step_by(32)
}

/// Side of the tiles in which a scale's networks see an image of this size, if memory is not limited.
pub(super) fn usual_side(networks: Networks<'_>, sampling: Sampling, resized: Size) -> usize {
    sides()
        .find(|&side| networks.tile_bytes(sampling, resized, side) <= USUAL)
        .unwrap_or(tiles::SMALLEST)
}

/// Bytes that inspecting one image takes at the most, with tiles of `side` pixels.
fn inspection_bytes(
    scales: &[Scale],
    sampling: Sampling,
    original: Size,
    resized: Size,
    side: usize,
) -> usize {
    let weights: usize = scales
        .iter()
        .map(|scale| Networks::from(&scale.ensemble).weight_bytes())
        .sum();
    // The image as it is and, if that is another, resized: three values a pixel.
    let mut images = 3 * FLOAT * original.area();
    if resized != original {
        images += 3 * FLOAT * resized.area();
    }
    // Both terms of every scale.
    let terms: usize = scales
        .iter()
        .map(|scale| {
            let stride = sampling.stride(scale.ensemble.field());
            2 * FLOAT * resized.map(|side| side.div_ceil(stride) + 1).area()
        })
        .sum();
    // What one scale's networks have freed hardly fits the next one's: 400 MiB were held where the largest scale alone made 290.
    let networks: usize = scales
        .iter()
        .map(|scale| {
            let networks = Networks::from(&scale.ensemble);
            networks.whole_image_bytes(resized) + networks.tile_bytes(sampling, resized, side)
        })
        .sum();
    let mut maps = MAPS * original.area();
    if resized != original {
        maps += 2 * FLOAT * resized.area();
    }
    PROCESS + weights + images + terms + networks + maps
}

/// The networks of one scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Networks<'a> {
    /// The teacher.
    pub teacher: &'a ScaleTeacher,
    /// What each student is.
    pub student: PatchNetworkConfig,
    /// How many students there are.
    pub students: usize,
}

impl<'a> From<&'a Ensemble> for Networks<'a> {
    fn from(ensemble: &'a Ensemble) -> Self {
        Self {
            teacher: &ensemble.teacher,
            student: ensemble.students[0].config(),
            students: ensemble.students.len(),
        }
    }
}

impl Networks<'_> {
    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> usize {
        self.students * student_bytes(self.student)
            + match self.teacher.extractor() {
                Extractor::PatchNetwork(teacher) => student_bytes(teacher.network().config()),
                Extractor::Backbone(backbone) => backbone.weight_bytes(),
            }
    }

    /// Bytes that a pretrained network takes on an image.
    fn whole_image_bytes(&self, resized: Size) -> usize {
        match self.teacher.extractor() {
            Extractor::PatchNetwork(_) => 0,
            Extractor::Backbone(backbone) => backbone.maps_bytes(resized),
        }
    }

    /// Bytes that patch networks take on one tile.
    fn tile_bytes(&self, sampling: Sampling, resized: Size, side: usize) -> usize {
        let field = self.teacher.receptive_field();
        let tiling = Tiling::new(field, sampling, side);
        let grid = Grid::new(resized, sampling.stride(field));
        let (points, window) = tiling.largest(grid);
        let descriptors = FLOAT * self.student.output_channels * points[0] * points[1];
        let pixels = 3 * FLOAT * window[0] * window[1];
        let networks = self.students + 1;
        let at_once = if side_by_side(field, grid.stride) {
            networks
        } else {
            1
        };
        let maps = network_bytes(self.student, sampling, window);
        pixels + networks * descriptors + at_once * maps
    }
}

/// Bytes of a patch network's weights.
pub(super) fn student_bytes(config: PatchNetworkConfig) -> usize {
    let shapes = config.weight_shapes();
    let values = shapes.iter().map(|shape| shape.iter().product::<usize>());
    FLOAT * values.sum::<usize>()
}

/// The most bytes that two neighbouring maps of a network take, on a window of height and width `window`.
fn network_bytes(config: PatchNetworkConfig, sampling: Sampling, window: [usize; 2]) -> usize {
    let dense = sampling == Sampling::Dense;
    let field: ReceptiveField = config.receptive_field;
    let mut size = window;
    let mut fragments = 1;
    let mut held = 3 * size[0] * size[1];
    let mut most = held;
    let mut layers = config.layers().into_iter().peekable();
    while let Some(layer) = layers.next() {
        let Layer::Convolution(kernel, channels) = layer else {
            continue;
        };
        let step = match (kernel, dense) {
            (4, false) => sampling.stride(field) / field.pooling_stride(),
            _ => 1,
        };
        size = size.map(|side| (side.saturating_sub(kernel) / step + 1).max(1));
        let convolved = fragments * channels * size[0] * size[1];
        let mut made = convolved;
        if layers.next_if_eq(&Layer::Pooling).is_some() {
            size = size.map(|side| (side / 2).max(1));
            if dense {
                fragments *= 4;
                most = most.max(held + convolved);
                held = convolved;
            }
            // On the grid the pooled map alone is written.
            made = fragments * channels * size[0] * size[1];
        }
        most = most.max(held + made);
        held = made;
    }
    // Fragments are woven together by copying.
    if fragments > 1 {
        most = most.max(3 * held);
    }
    FLOAT * most
}
