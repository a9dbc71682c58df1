//! Tiles: parts of an image that are described one after the other, so that memory does not grow with it. A tile has the numbers of the
//! whole image, to the last bit.
//!
//! The convolutions compute 4×4 outputs at a time, and the rounding errors of an output depend on where it lies within its block,
//! and on whether the whole block exists. So a tile begins where a block of *every* layer begins, and its window reaches as far
//! beyond its last patch as the blocks do, or to where the whole image's window ends.

use super::grid::{Grid, patches_window};
use super::input::Window;
use super::sampling::Sampling;
use crate::patch_network::{Layer, PatchNetworkConfig, ReceptiveField};

/// Outputs that a convolution computes together, along each side.
const BLOCK: usize = 4;

/// Side of the smallest tile, in pixels: two blocks of p = 65's last layer.
pub(crate) const SMALLEST: usize = 64;

/// Side of the largest tile, in pixels: larger ones are no faster.
pub(crate) const LARGEST: usize = 320;

/// How tiles lie in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiling {
    field: ReceptiveField,
    sampling: Sampling,
    /// Side of a tile in grid points.
    points: usize,
}

/// Some grid points and the pixels that their descriptors are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileOfGrid {
    /// `[top, left, rows, columns]` in grid points.
    pub part: [usize; 4],
    /// The window; its first patches are those of the part, further ones may follow on every row and column.
    pub window: Window,
}

impl Tiling {
    /// Tiles of at most `side` pixels, at least [`SMALLEST`].
    pub fn new(field: ReceptiveField, sampling: Sampling, side: usize) -> Self {
        let stride = sampling.stride(field);
        let alignment = alignment(field, stride);
        let points = side.max(SMALLEST) / stride;
        Self {
            field,
            sampling,
            points: points / alignment * alignment,
        }
    }

    /// Rows and columns of the largest tile of a grid in grid points, and its window's height and width.
    pub fn largest(&self, grid: Grid) -> ([usize; 2], [usize; 2]) {
        let longest = |points: usize| {
            let lengths = self.spans(points).into_iter().map(|(_, length)| length);
            lengths.max().unwrap_or(0)
        };
        let points = [longest(grid.rows), longest(grid.columns)];
        let mut window = [0, 0];
        for tile in self.tiles(grid) {
            window[0] = window[0].max(tile.window.height);
            window[1] = window[1].max(tile.window.width);
        }
        (points, window)
    }

    /// The tiles of a grid, row by row. Together they are the grid, each point once.
    pub fn tiles(self, grid: Grid) -> impl Iterator<Item = TileOfGrid> {
        let columns = self.spans(grid.columns);
        let rows = self.spans(grid.rows);
        rows.into_iter().flat_map(move |(top, rows)| {
            columns.clone().into_iter().map(move |(left, columns)| {
                let part = [top, left, rows, columns];
                TileOfGrid {
                    part,
                    window: self.window(part, grid),
                }
            })
        })
    }

    /// Splits `points` grid points of one side of the grid into tiles: the first point and the number of points of each tile.
    ///
    /// The tiles are as few as possible, and about equally long. The last tiles are the longest: on few points, a convolution would
    /// take another algorithm, and the last tile ends where the grid ends.
    fn spans(&self, points: usize) -> Vec<(usize, usize)> {
        let alignment = alignment(self.field, self.sampling.stride(self.field));
        let units = points.div_ceil(alignment);
        let count = points.div_ceil(self.points);
        let start = |tile: usize| (tile * units / count * alignment).min(points);
        (0..count)
            .map(|tile| (start(tile), start(tile + 1) - start(tile)))
            .collect()
    }

    fn window(&self, part: [usize; 4], grid: Grid) -> Window {
        let stride = grid.stride;
        let whole = patches_window(self.field, stride, [0, 0, grid.rows, grid.columns]);
        let own = patches_window(self.field, stride, part);
        let reach = |first: usize, points: usize, all: usize, whole: usize| {
            // Further patches until every block that reaches one of ours is whole.
            let points = (points..)
                .find(|&longer| self.blocks_are_whole(points, longer))
                .unwrap_or(points);
            if first + points >= all {
                whole - first * stride
            } else {
                (points - 1) * stride + self.field.side()
            }
        };
        let [top, left, rows, columns] = part;
        Window {
            height: reach(top, rows, grid.rows, whole.height),
            width: reach(left, columns, grid.columns, whole.width),
            ..own
        }
    }

    /// Whether in a window of `longer` patches all blocks are whole that `points` patches depend on.
    fn blocks_are_whole(&self, points: usize, longer: usize) -> bool {
        let needed = self.outputs(points);
        let there = self.outputs(longer);
        needed
            .iter()
            .zip(there)
            .all(|(needed, there)| needed.next_multiple_of(BLOCK) <= there)
    }

    /// The outputs of each convolution along one side of a window with `points` patches. In the dense method, where poolings are
    /// evaluated at every offset, these are the outputs of one fragment.
    fn outputs(&self, points: usize) -> Vec<usize> {
        let field = self.field;
        let stride = self.sampling.stride(field);
        let dense = self.sampling == Sampling::Dense;
        let mut size = if dense {
            points.next_multiple_of(field.pooling_stride()) + field.span() - 1
        } else {
            (points - 1) * stride + field.side()
        };
        let mut outputs = Vec::new();
        for layer in PatchNetworkConfig::new(field).layers() {
            match layer {
                Layer::Pooling => size /= 2,
                Layer::Convolution(kernel, _) => {
                    let step = if kernel == 4 && !dense {
                        stride / field.pooling_stride()
                    } else {
                        1
                    };
                    size = (size - kernel) / step + 1;
                    // With a stride there are no blocks.
                    if step == 1 {
                        outputs.push(size);
                    }
                }
            }
        }
        outputs
    }
}

/// Grid points from one beginning of a block in every layer to the next.
fn alignment(field: ReceptiveField, stride: usize) -> usize {
    (BLOCK * field.pooling_stride()).div_ceil(stride)
}

#[cfg(test)]
mod tests {
    use pupilla_core::image::{Image, Size};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::features::grid::window_tensor;
    use crate::features::input::Border;

    fn fields_and_samplings() -> impl Iterator<Item = (ReceptiveField, Sampling)> {
        ReceptiveField::ALL
            .into_iter()
            .flat_map(|field| [Sampling::Grid, Sampling::Dense].map(|sampling| (field, sampling)))
    }

    #[test]
    fn tiles_are_the_grid_each_point_once() {
        for (field, sampling) in fields_and_samplings() {
            let stride = sampling.stride(field);
            for (width, height, side) in
                [(1, 1, 64), (257, 65, 64), (700, 511, 96), (83, 2000, 128)]
            {
                let grid = Grid::new(Size::new(width, height), stride);
                let tiling = Tiling::new(field, sampling, side);
                let mut times = vec![0; grid.rows * grid.columns];
                for TileOfGrid { part, .. } in tiling.tiles(grid) {
                    let [top, left, rows, columns] = part;
                    assert!(rows.max(columns) * stride <= side);
                    for row in top..top + rows {
                        for column in left..left + columns {
                            times[row * grid.columns + column] += 1;
                        }
                    }
                }
                assert!(
                    times.iter().all(|&times| times == 1),
                    "p = {field}, {width}×{height}"
                );
            }
        }
    }

    /// Every descriptor of a tiled image has the bits that it has in the whole one.
    #[test]
    fn tiles_say_what_the_whole_image_says_to_the_last_bit() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for (field, sampling) in fields_and_samplings() {
            let stride = sampling.stride(field);
            let network = PatchNetworkConfig {
                output_channels: 16,
                ..PatchNetworkConfig::new(field)
            };
            let network = network.init(1);
            for (width, height, side) in [(150, 203, 64), (231, 97, 96), (260, 40, 128)] {
                let pixels = (0..width * height * 3).map(|_| random.random_range(0.0..1.0));
                let image = Image::new(width, height, pixels.collect());
                let grid = Grid::new(Size::new(width, height), stride);
                let all = [0, 0, grid.rows, grid.columns];
                let window = patches_window(field, stride, all);
                let border = Border::Reflect;
                let describe = |window: &Window, size| {
                    let input = window_tensor(&image, window, border);
                    network.grid(&input, stride).resized(size).into_values()
                };
                let whole = describe(&window, [grid.rows, grid.columns]);
                let mut tiles = 0;
                for TileOfGrid { part, window } in Tiling::new(field, sampling, side).tiles(grid) {
                    tiles += 1;
                    let [top, left, rows, columns] = part;
                    let tile = describe(&window, [rows, columns]);
                    for (index, value) in tile.iter().enumerate() {
                        let [channel, row, column] = [
                            index / (rows * columns),
                            index / columns % rows,
                            index % columns,
                        ];
                        let at = (channel * grid.rows + top + row) * grid.columns + left + column;
                        assert_eq!(
                            value.to_bits(),
                            whole[at].to_bits(),
                            "p = {field}, {sampling:?}, {width}×{height} in tiles of {side}: channel {channel}, row {}, column {}",
                            top + row,
                            left + column,
                        );
                    }
                }
                assert!(tiles > 1);
            }
        }
    }
}
