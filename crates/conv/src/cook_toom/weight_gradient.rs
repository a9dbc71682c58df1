//! The weight's gradient by F(R×R, 4×4), with the 4×4 tiles of the output gradient as the filters.
//!
//! A task takes rows of points, or a range of output channels, or both ([`weight_gradient`]) and walks over all the tiles,
//! in order, so no sum depends on how many threads there are. Sums of many blocks are made in two steps ([`runs_per_sum`]). The transformed tiles of a block would not fit into the cache with all
//! their points, but those of one *row* of points do, and its vertical transform is a single sum of pixels; so a block is
//! read once for each row, which the cache serves after the first.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    Tiles,
    input::{Planes, gather, lane_stride, scratch_len, transform_row},
    points::MAX,
    transform::{FilterGradient, Gradient, Input, Rows, from_points},
};
use crate::{
    Conv2d,
    disjoint::Disjoint,
    product::{ROW_VECTORS, Tile},
    simd::{Isa, Kernel, Level, dispatch, transpose},
    workspace::Buffer,
};

/// Tiles that are transformed before they are multiplied.
const BLOCK: usize = 96;

/// How many of `runs` runs of products are added up to one partial sum, before the partial sum is added to the total.
///
/// Every addition makes a rounding error in proportion to the sum so far. If all runs went into one sum, the errors would grow with
/// the square root of `runs`. With √`runs` runs in each partial sum, the errors grow with the fourth root.
pub(crate) fn runs_per_sum(runs: usize) -> usize {
    /// With fewer runs in a partial sum, the sums within a run lose more.
    const FEW: usize = 16;
    runs.isqrt().max(FEW)
}

pub(crate) fn weight_gradient<const R: usize>(
    level: Level,
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let n = R + 3;
    let threads = rayon::current_num_threads();
    let lanes = level.lanes();
    let vectors = shape.out_channels.div_ceil(lanes);
    // Rows of points for each thread, if they come out even: then nothing is transformed twice. Otherwise a range of output
    // channels for each, every one of which transforms all of the input; with more threads than full register tiles, rows of
    // points as well.
    let per_range = if n.is_multiple_of(threads) {
        vectors
    } else {
        vectors.div_ceil(threads).max(ROW_VECTORS.min(vectors))
    };
    let ranges = vectors.div_ceil(per_range);
    let per_group = n.div_ceil(threads.div_ceil(ranges).min(n));
    let groups = n.div_ceil(per_group);

    let rows = shape.in_channels.next_multiple_of(4);
    let out_stride = vectors * lanes;
    let blocks = Tiles::new(shape.batch, shape.output_size())
        .count()
        .div_ceil(BLOCK);
    let blocks_per_sum = runs_per_sum(blocks);
    let sums_len = n * n * rows * out_stride;
    let mut sums = Buffer::new(sums_len);
    let mut totals = (blocks > blocks_per_sum).then(|| Buffer::new(sums_len));
    let shared = Disjoint::new(&mut sums);
    let shared_totals = totals.as_deref_mut().map(Disjoint::new);
    (0..groups * ranges).into_par_iter().for_each(|task| {
        let (group, range) = (task / ranges * per_group, task % ranges * per_range);
        // SAFETY: `level` is available; each (rows of points, range of channels) belongs to one task.
        unsafe {
            dispatch(
                level,
                PointRows::<R> {
                    shape,
                    input,
                    output_gradient,
                    points: group..(group + per_group).min(n),
                    vectors: range..(range + per_range).min(vectors),
                    sums: shared,
                    totals: shared_totals,
                    blocks_per_sum,
                    rows,
                    out_stride,
                },
            );
        }
    });

    let sums = totals.as_deref().unwrap_or(&sums);
    from_sums::<R>(level, shape, sums, [rows, out_stride], weight_gradient);
}

/// Transforms sums of `[points, rows, out_stride]`, of which the first `in_channels` and `out_channels` are used, into the gradient.
pub(super) fn from_sums<const R: usize>(
    level: Level,
    shape: &Conv2d,
    sums: &[f32],
    [rows, out_stride]: [usize; 2],
    weight_gradient: &mut [f32],
) {
    let gradient = Disjoint::new(weight_gradient);
    (0..shape.in_channels).into_par_iter().for_each(|channel| {
        // SAFETY: `level` is available; each input channel belongs to one task.
        unsafe {
            dispatch(
                level,
                FromSums::<R> {
                    shape,
                    sums,
                    rows,
                    out_stride,
                    channel,
                    gradient,
                },
            );
        }
    });
}

struct PointRows<'a, const R: usize> {
    shape: &'a Conv2d,
    input: &'a [f32],
    output_gradient: &'a [f32],
    /// Rows of points.
    points: Range<usize>,
    vectors: Range<usize>,
    /// Of the blocks since the last total.
    sums: Disjoint<'a>,
    /// Of all blocks, where those are too many for one sum.
    totals: Option<Disjoint<'a>>,
    blocks_per_sum: usize,
    rows: usize,
    out_stride: usize,
}

impl<const R: usize> Kernel for PointRows<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = R + 3;
        let shape = self.shape;
        let in_plane = shape.height * shape.width;
        let out_plane = shape.output_area();
        let tiles = Tiles::new(shape.batch, shape.output_size());
        let vectors = self.vectors.len();
        let channels = vectors * I::LANES;
        // Panels of equal width, at most that of a register tile.
        let widest = vectors.div_ceil(vectors.div_ceil(ROW_VECTORS));
        let first_channel = self.vectors.start * I::LANES;

        // input: [n, rows, BLOCK]; output gradient: [n, vectors, BLOCK, LANES], and LANES channels of it before their
        // transposition: [n, LANES, BLOCK].
        let block_stride = BLOCK + 16;
        let inputs_len = n * self.rows * block_stride;
        let gradients_len = n * BLOCK * channels;
        let turned_len = n * I::LANES * BLOCK;
        let mut buffer = Buffer::new(inputs_len + gradients_len + turned_len + scratch_len(BLOCK));
        let inputs = buffer.as_mut_ptr();
        let gradients = inputs.wrapping_add(inputs_len);
        let turned = gradients.wrapping_add(gradients_len);
        let scratch = turned.wrapping_add(turned_len);

        // SAFETY: `dispatch` runs us where `I` exists. The four regions of the buffer are as long as the strides imply; the
        // sums and totals belong to this task.
        unsafe {
            std::slice::from_raw_parts_mut(inputs, inputs_len).fill(0.0);
            let mut start = 0;
            let mut block = 0;
            while start < tiles.count() {
                let range = start..(start + BLOCK).min(tiles.count());
                let count = range.len();
                let stride = lane_stride(count);
                for point_row in self.points.clone() {
                    for channel in 0..shape.in_channels {
                        let planes = Planes {
                            values: self.input,
                            image_stride: shape.in_channels * in_plane,
                            offset: channel * in_plane,
                            size: [shape.height, shape.width],
                            border: 0,
                            ahead: in_plane,
                        };
                        let row = gather::<I, Input<R>>(
                            planes,
                            &tiles,
                            range.clone(),
                            Some(point_row),
                            scratch,
                        );
                        let mut lane = 0;
                        while lane < count {
                            let y = transform_row::<I, Input<R>>(row.add(lane), stride);
                            let mut column = 0;
                            while column < n {
                                let place = (column * self.rows + channel) * block_stride + lane;
                                I::store(inputs.add(place), y[column]);
                                column += 1;
                            }
                            lane += I::LANES;
                        }
                    }
                    for vector in 0..vectors {
                        for lane_channel in 0..I::LANES {
                            let channel = first_channel + vector * I::LANES + lane_channel;
                            if channel >= shape.out_channels {
                                for column in 0..n {
                                    let place = (column * I::LANES + lane_channel) * BLOCK;
                                    std::slice::from_raw_parts_mut(turned.add(place), BLOCK)
                                        .fill(0.0);
                                }
                                continue;
                            }
                            let planes = Planes {
                                values: self.output_gradient,
                                image_stride: shape.out_channels * out_plane,
                                offset: channel * out_plane,
                                size: shape.output_size(),
                                border: 0,
                                ahead: out_plane,
                            };
                            let row = gather::<I, Gradient<R>>(
                                planes,
                                &tiles,
                                range.clone(),
                                Some(point_row),
                                scratch,
                            );
                            let mut lane = 0;
                            while lane < count {
                                let y = transform_row::<I, Gradient<R>>(row.add(lane), stride);
                                let mut column = 0;
                                while column < n {
                                    let place = (column * I::LANES + lane_channel) * BLOCK + lane;
                                    I::store(turned.add(place), y[column]);
                                    column += 1;
                                }
                                lane += I::LANES;
                            }
                        }
                        let panel = vector / widest * widest;
                        let panel_width = (vectors - panel).min(widest) * I::LANES;
                        for column in 0..n {
                            let panel_start = (column * vectors + panel) * BLOCK * I::LANES;
                            let mut lane = 0;
                            while lane < count {
                                let place =
                                    panel_start + lane * panel_width + (vector - panel) * I::LANES;
                                transpose::<I>(
                                    turned.add(column * I::LANES * BLOCK + lane),
                                    BLOCK,
                                    gradients.add(place),
                                    panel_width,
                                );
                                lane += I::LANES;
                            }
                        }
                    }
                    for column in 0..n {
                        let point = point_row * n + column;
                        let mut panel = 0;
                        while panel < vectors {
                            let panel_vectors = (vectors - panel).min(widest);
                            let left = gradients.add((column * vectors + panel) * BLOCK * I::LANES);
                            let mut channel = 0;
                            while channel < self.rows {
                                let columns = (self.rows - channel).min(I::COLUMNS);
                                let place = (point * self.rows + channel) * self.out_stride
                                    + first_channel
                                    + panel * I::LANES;
                                let reach =
                                    (columns - 1) * self.out_stride + panel_vectors * I::LANES;
                                Tile {
                                    inner: count,
                                    left,
                                    left_stride: panel_vectors * I::LANES,
                                    right: inputs
                                        .add((column * self.rows + channel) * block_stride),
                                    right_strides: [1, block_stride],
                                    product: self.sums.pointer(place, reach),
                                    product_stride: self.out_stride,
                                    add: block % self.blocks_per_sum > 0,
                                    next: [left; 2],
                                }
                                .multiply::<I>(panel_vectors, columns);
                                channel += columns;
                            }
                            panel += panel_vectors;
                        }
                    }
                }
                start += count;
                block += 1;
                if let Some(totals) = self.totals
                    && (block.is_multiple_of(self.blocks_per_sum) || start == tiles.count())
                {
                    let add = block > self.blocks_per_sum;
                    let points = self.points.start * n..self.points.end * n;
                    for row in points.start * self.rows..points.end * self.rows {
                        let place = row * self.out_stride + first_channel;
                        let total = totals.pointer(place, channels);
                        add_sums::<I>(self.sums.pointer(place, channels), total, channels, add);
                    }
                }
            }
        }
    }
}

/// Adds sums to their totals, or starts these with them.
///
/// # Safety
/// The processor has the instructions of `I`; both pointers are valid for `len` elements, a multiple of LANES.
#[inline(always)]
pub(crate) unsafe fn add_sums<I: Isa>(sums: *const f32, totals: *mut f32, len: usize, add: bool) {
    let mut place = 0;
    while place < len {
        // SAFETY: the caller's promises.
        unsafe {
            let mut value = I::load(sums.add(place));
            if add {
                value = I::add(I::load(totals.add(place)), value);
            }
            I::store(totals.add(place), value);
        }
        place += I::LANES;
    }
}

/// Transforms the sums of one input channel into its kernels.
struct FromSums<'a, const R: usize> {
    shape: &'a Conv2d,
    sums: &'a [f32],
    rows: usize,
    out_stride: usize,
    channel: usize,
    gradient: Disjoint<'a>,
}

impl<const R: usize> Kernel for FromSums<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = R + 3;
        let point_stride = self.rows * self.out_stride;
        let shape = self.shape;
        let mut taps = [0.0f32; MAX * MAX * 16];
        let mut out = 0;
        while out < shape.out_channels {
            let sums = &self.sums[self.channel * self.out_stride + out..];
            assert!(sums.len() >= (n * n - 1) * point_stride + I::LANES);
            // SAFETY: `dispatch` runs us where `I` exists; loads lie within the sums (asserted), stores within `taps`.
            unsafe {
                let mut vertical = Rows::<I, MAX>::new();
                let mut column = 0;
                while column < n {
                    let mut x = [I::splat(0.0); MAX];
                    let mut row = 0;
                    while row < n {
                        x[row] = I::load(sums.as_ptr().add((row * n + column) * point_stride));
                        row += 1;
                    }
                    let y = from_points::<I, FilterGradient<R>>(&x);
                    vertical.set_column(column, &y);
                    column += 1;
                }
                let mut row = 0;
                while row < R {
                    let y = from_points::<I, FilterGradient<R>>(&vertical.row(row, n));
                    let mut column = 0;
                    while column < R {
                        let place = (row * R + column) * I::LANES;
                        I::store(taps.as_mut_ptr().add(place), y[column]);
                        column += 1;
                    }
                    row += 1;
                }
            }
            for lane in 0..I::LANES.min(shape.out_channels - out) {
                let pair = (out + lane) * shape.in_channels + self.channel;
                // SAFETY: the kernels of this input channel belong to this task.
                let kernel = unsafe { self.gradient.part(pair * R * R, R * R) };
                for (tap, value) in kernel.iter_mut().enumerate() {
                    *value = taps[tap * I::LANES + lane];
                }
            }
            out += I::LANES;
        }
    }
}
