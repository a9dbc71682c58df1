//! The output, and with reversed weights the input gradient, by F(4×4, R×R).
//!
//! Each task takes a block of tiles through the whole computation: it transforms them for all input channels, then, a
//! chunk of output channels at a time, multiplies at every point and transforms the products back, so that they
//! never leave the cache.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    TILE, Tiles,
    input::{Planes, gather, lane_stride, scratch_len, transform_row},
    pixels::{Target, constants, finish, pixels_len, write},
    points::MAX,
    transform::{Input, Output, Rows, from_points},
    weights::{Packed, Weight, pack},
};
use crate::{
    activation::Epilogue,
    product::{LINE, ROW_VECTORS, Tile},
    simd::{Isa, Kernel, Level, dispatch},
    workspace::Buffer,
};

/// Output channels that are multiplied before their products are transformed back.
const CHUNK: usize = 32;

/// Floats by which the starts of two points' matrices differ beyond their size, lest all points share a cache set.
const SKEW: usize = 16;

/// What is convolved: `[batch, weight.from, size]`, as if a border of zeros were around each plane.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) batch: usize,
    pub(crate) size: [usize; 2],
    pub(crate) border: usize,
}

/// Convolves the source into `[batch, weight.to, size + 2·border − R + 1]`, or into that map's 2×2 windows.
pub(crate) fn convolve<const R: usize>(
    level: Level,
    source: Source<'_>,
    weight: Weight<'_>,
    epilogue: Epilogue<'_>,
    target: Target<'_>,
) {
    let outputs = source.size.map(|size| size + 2 * source.border + 1 - R);
    let tiles = Tiles::new(source.batch, target.needed(outputs));
    let packed = pack::<R>(level, weight, CHUNK / level.columns());
    let vectors = tiles.count().div_ceil(level.lanes());
    let per_block = vectors
        .div_ceil(rayon::current_num_threads())
        .clamp(1, ROW_VECTORS);
    (0..vectors.div_ceil(per_block))
        .into_par_iter()
        .for_each(|block| {
            let start = block * per_block * level.lanes();
            let end = (start + per_block * level.lanes()).min(tiles.count());
            // SAFETY: `level` is available, and every tile belongs to one block.
            unsafe {
                dispatch(
                    level,
                    Block::<R> {
                        tiles,
                        range: start..end,
                        source,
                        weight,
                        packed: &packed,
                        epilogue,
                        target,
                    },
                );
            }
        });
}

struct Block<'a, const R: usize> {
    tiles: Tiles,
    range: Range<usize>,
    source: Source<'a>,
    weight: Weight<'a>,
    packed: &'a Packed,
    epilogue: Epilogue<'a>,
    target: Target<'a>,
}

impl<const R: usize> Kernel for Block<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = R + 3;
        let Weight { from, to, .. } = self.weight;
        let count = self.range.len();
        let vectors = count.div_ceil(I::LANES);
        let lanes = vectors * I::LANES;
        let source_stride = from * lanes + SKEW;
        let chunk = to.next_multiple_of(I::COLUMNS).min(CHUNK);
        let product_stride = chunk * lanes + SKEW;
        let [height, width] = self.source.size;

        let sources_len = n * n * source_stride;
        let products_len = n * n * product_stride;
        let mut buffer =
            Buffer::new(sources_len + products_len + scratch_len(count).max(pixels_len(lanes)));
        let sources = buffer.as_mut_ptr();
        let products = sources.wrapping_add(sources_len);
        let scratch = products.wrapping_add(products_len);

        // SAFETY: `dispatch` runs us where `I` exists. The three regions of the buffer are as long as the strides imply.
        // The output's parts are rows of tiles of this block alone.
        unsafe {
            for channel in 0..from {
                let planes = Planes {
                    values: self.source.values,
                    image_stride: from * height * width,
                    offset: channel * height * width,
                    size: self.source.size,
                    border: self.source.border,
                    ahead: height * width,
                };
                let gathered =
                    gather::<I, Input<R>>(planes, &self.tiles, self.range.clone(), None, scratch);
                let stride = lane_stride(count);
                let mut row = 0;
                while row < n {
                    let mut vector = 0;
                    while vector < vectors {
                        let lane = vector * I::LANES;
                        let y = transform_row::<I, Input<R>>(
                            gathered.add(row * MAX * stride + lane),
                            stride,
                        );
                        let mut column = 0;
                        while column < n {
                            let place = (row * n + column) * source_stride + channel * lanes + lane;
                            I::store(sources.add(place), y[column]);
                            column += 1;
                        }
                        vector += 1;
                    }
                    row += 1;
                }
            }

            let mut right = self.packed.values.as_ptr();
            let mut first_panel = 0;
            while first_panel < self.packed.panels {
                let panels = self
                    .packed
                    .panels_per_chunk
                    .min(self.packed.panels - first_panel);
                for point in 0..n * n {
                    let left = sources.add(point * source_stride);
                    for panel in 0..panels {
                        let next_right = right.wrapping_add(self.packed.panel_stride);
                        Tile {
                            inner: from,
                            left,
                            left_stride: lanes,
                            right,
                            right_strides: [I::COLUMNS, 1],
                            product: products
                                .add(point * product_stride + panel * I::COLUMNS * lanes),
                            product_stride: lanes,
                            add: false,
                            // Half of these lines lie behind the next panel: the ones after it.
                            next: [
                                left.wrapping_add(source_stride + panel * from * LINE),
                                next_right,
                            ],
                        }
                        .multiply::<I>(vectors, I::COLUMNS);
                        right = next_right;
                    }
                }
                let first = first_panel * I::COLUMNS;
                for channel in first..(first + panels * I::COLUMNS).min(to) {
                    from_products::<I, R>(
                        products.add((channel - first) * lanes),
                        product_stride,
                        vectors,
                        self.target,
                        constants(&self.epilogue, channel),
                        scratch,
                    );
                    write::<I>(
                        &self.tiles,
                        self.range.clone(),
                        [channel, to, 1],
                        scratch,
                        lanes,
                        self.target,
                    );
                }
                first_panel += panels;
            }
        }
    }
}

/// Transforms the products of one channel into pixels, left as by [`finish`].
#[inline(always)]
unsafe fn from_products<I: Isa, const R: usize>(
    products: *const f32,
    point_stride: usize,
    vectors: usize,
    target: Target<'_>,
    constants: [f32; 2],
    pixels: *mut f32,
) {
    let n = R + 3;
    let lanes = vectors * I::LANES;
    // SAFETY: the caller's buffers hold `n²` points and 16 pixels for each of `lanes` tiles.
    unsafe {
        let mut vector = 0;
        while vector < vectors {
            let products = products.add(vector * I::LANES);
            let mut vertical = Rows::<I, TILE>::new();
            let mut column = 0;
            while column < n {
                let mut x = [I::splat(0.0); MAX];
                let mut row = 0;
                while row < n {
                    x[row] = I::load(products.add((row * n + column) * point_stride));
                    row += 1;
                }
                vertical.set_column(column, &from_points::<I, Output<R>>(&x));
                column += 1;
            }
            finish::<I, R>(&vertical, target, constants, vector, lanes, pixels);
            vector += 1;
        }
    }
}
