//! Inputs of few channels, such as images: the output and the weight's gradient.
//!
//! With three channels a product at a point is three multiplications, fewer than it takes to transform the result: a matrix
//! product that writes its results to memory first would spend most of its time there. Here the products of a tile stay in
//! registers. For the weight's gradient it is the *output's* gradient that is large, so each task takes a few of its channels
//! and transforms them once, for all points.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    TILE, Tiles,
    forward::Source,
    input::{Planes, gather, gradient_points, lane_stride, scratch_len, transform_row},
    pixels::{Target, constants, finish, pixels_len, write},
    points::MAX,
    transform::{Gradient, Input, Output, Rows, from_points},
    weight_gradient::{add_sums, from_sums},
    weights::{Packed, Weight, pack},
};
use crate::{
    Conv2d,
    activation::Epilogue,
    disjoint::Disjoint,
    simd::{Isa, Kernel, Level, dispatch},
    workspace::Buffer,
};

/// Most input channels for which these kernels are the faster ones.
pub(crate) const MOST_CHANNELS: usize = 4;

/// Vectors of tiles that a task of the forward pass transforms before it multiplies, about.
const VECTORS: usize = 4;

/// Convolves the source, of at most [`MOST_CHANNELS`] channels, into `[batch, weight.to, size − R + 1]`.
pub(crate) fn convolve<const R: usize>(
    level: Level,
    source: Source<'_>,
    weight: Weight<'_>,
    epilogue: Epilogue<'_>,
    target: Target<'_>,
) {
    let outputs = source.size.map(|size| size + 2 * source.border + 1 - R);
    let tiles = Tiles::new(source.batch, target.needed(outputs));
    let packed = pack::<R>(level, weight, 1);
    // Whole rows of tiles where they are short enough: their pixels lie side by side.
    let most = VECTORS * level.lanes();
    let row = tiles.grid[1];
    let block = if row <= most {
        most / row * row
    } else {
        row.div_ceil(row.div_ceil(most))
    };
    (0..tiles.count().div_ceil(block))
        .into_par_iter()
        .for_each(|task| {
            let start = task * block;
            // SAFETY: `level` is available, and every tile belongs to one task.
            unsafe {
                dispatch(
                    level,
                    Block::<R> {
                        tiles,
                        range: start..(start + block).min(tiles.count()),
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
        let [height, width] = self.source.size;
        let sources_len = n * n * from * lanes;
        let mut buffer = Buffer::new(sources_len + scratch_len(count).max(2 * pixels_len(lanes)));
        let sources = buffer.as_mut_ptr();
        let scratch = sources.wrapping_add(sources_len);
        // SAFETY: `dispatch` runs us where `I` exists. The regions of the buffer are as long as the strides imply; the
        // output's parts are rows of tiles of this block alone.
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
                // [vectors, columns, channels, rows, LANES]: the order in which they are read.
                for vector in 0..vectors {
                    let mut row = 0;
                    while row < n {
                        let y = transform_row::<I, Input<R>>(
                            gathered.add(row * MAX * stride + vector * I::LANES),
                            stride,
                        );
                        let mut column = 0;
                        while column < n {
                            let place = ((vector * n + column) * from + channel) * n + row;
                            I::store(sources.add(place * I::LANES), y[column]);
                            column += 1;
                        }
                        row += 1;
                    }
                }
            }
            // Two channels at a time where there are registers for both.
            let together = if I::COLUMNS == 8 { 2 } else { 1 };
            let mut first = 0;
            while first < to {
                let panel = first / I::COLUMNS * n * n * self.packed.panel_stride;
                let weights = self.packed.values.as_ptr().add(panel + first % I::COLUMNS);
                for vector in 0..vectors {
                    let source = sources.add(vector * n * n * from * I::LANES);
                    let destination = Destination {
                        target: self.target,
                        vector,
                        lanes,
                        pixels: scratch,
                    };
                    let stride = self.packed.panel_stride;
                    let own = |channel: usize| constants(&self.epilogue, channel);
                    if together == 2 {
                        let constants = [own(first), own(first + 1)];
                        products::<I, R, 2>(source, from, weights, stride, constants, destination);
                    } else {
                        let constants = [own(first)];
                        products::<I, R, 1>(source, from, weights, stride, constants, destination);
                    }
                }
                for channel in first..(first + together).min(to) {
                    write::<I>(
                        &self.tiles,
                        self.range.clone(),
                        [channel, to, together],
                        scratch.add((channel - first) * pixels_len(lanes)),
                        lanes,
                        self.target,
                    );
                }
                first += together;
            }
        }
    }
}

/// Where one vector of a block's tiles goes: the pixels of a second channel stand [`pixels_len`] behind those of the first.
#[derive(Clone, Copy)]
struct Destination<'a> {
    target: Target<'a>,
    vector: usize,
    lanes: usize,
    pixels: *mut f32,
}

/// Multiplies and transforms back one vector of tiles for `N` channels of the output, in registers: `source` holds `[columns,
/// channels, rows, LANES]` points, `weights` those of the first of the channels, which lie side by side.
#[inline(always)]
unsafe fn products<I: Isa, const R: usize, const N: usize>(
    source: *const f32,
    from: usize,
    weights: *const f32,
    point_stride: usize,
    constants: [[f32; 2]; N],
    destination: Destination<'_>,
) {
    let n = R + 3;
    // SAFETY: the caller's buffers are as large as described; the processor has `I`.
    unsafe {
        let mut vertical = [(); N].map(|()| Rows::<I, TILE>::new());
        let mut source = source;
        let mut column = 0;
        while column < n {
            let mut x = [[I::splat(0.0); MAX]; N];
            for channel in 0..from {
                let weights = weights.add(column * point_stride + channel * I::COLUMNS);
                let mut row = 0;
                while row < n {
                    let value = I::load(source.add(row * I::LANES));
                    let weights = weights.add(row * n * point_stride);
                    let mut item = 0;
                    while item < N {
                        x[item][row] =
                            I::mul_add(value, I::splat(*weights.add(item)), x[item][row]);
                        item += 1;
                    }
                    row += 1;
                }
                source = source.add(n * I::LANES);
            }
            let mut item = 0;
            while item < N {
                let y = from_points::<I, Output<R>>(&x[item]);
                vertical[item].set_column(column, &y);
                item += 1;
            }
            column += 1;
        }
        let mut item = 0;
        while item < N {
            finish::<I, R>(
                &vertical[item],
                destination.target,
                constants[item],
                destination.vector,
                destination.lanes,
                destination.pixels.add(item * pixels_len(destination.lanes)),
            );
            item += 1;
        }
    }
}

/// Output channels of a task of the weight's gradient.
const CHANNELS: usize = 8;

/// Tiles that are transformed before they are multiplied.
const TILES: usize = 128;

/// Blocks of tiles whose input is transformed before all tasks multiply with it: some MiB, however large the image.
const BLOCKS: usize = 64;

/// Floats from one point of the output gradient's tiles to the next: a little more than they take, lest all points share a
/// cache set.
const POINT: usize = CHANNELS * TILES + 16;

/// The weight's gradient for at most [`MOST_CHANNELS`] input channels.
pub(crate) fn weight_gradient<const R: usize>(
    level: Level,
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let n = R + 3;
    let mut tiles = Tiles::new(shape.batch, shape.output_size());
    // Rows of tiles in whole vectors, of which those behind the output are zero, where they are not too many: all vectors are
    // then aligned, and none holds the ends of two rows.
    let whole = tiles.grid[1].next_multiple_of(level.lanes());
    if 4 * whole <= 5 * tiles.grid[1] {
        tiles.grid[1] = whole;
    }
    let from = shape.in_channels;

    let blocks = tiles.count().div_ceil(TILES);
    let block_len = n * n * from * TILES;
    let mut inputs = Buffer::new(blocks.min(BLOCKS) * block_len);
    let rows = from.next_multiple_of(4);
    let out_stride = shape.out_channels.next_multiple_of(level.lanes());
    let mut sums = Buffer::new(n * n * rows * out_stride);
    sums.fill(0.0);
    for start in (0..blocks).step_by(BLOCKS) {
        let blocks = start..(start + BLOCKS).min(blocks);
        // The input's points, [blocks, points, channels, TILES], once for all tasks.
        inputs
            .par_chunks_exact_mut(block_len)
            .zip(blocks.clone())
            .for_each(|(target, block)| {
                // SAFETY: `level` is available.
                unsafe {
                    dispatch(
                        level,
                        InputPoints::<R> {
                            shape,
                            input,
                            tiles,
                            block,
                            target,
                        },
                    );
                }
            });
        let shared = Disjoint::new(&mut sums);
        (0..shape.out_channels.div_ceil(CHANNELS))
            .into_par_iter()
            .for_each(|task| {
                // SAFETY: `level` is available; each output channel belongs to one task.
                unsafe {
                    dispatch(
                        level,
                        ChannelSums::<R> {
                            shape,
                            output_gradient,
                            tiles,
                            blocks: blocks.clone(),
                            inputs: &inputs,
                            first: task * CHANNELS,
                            sums: shared,
                            rows,
                            out_stride,
                        },
                    );
                }
            });
    }
    from_sums::<R>(level, shape, &sums, [rows, out_stride], weight_gradient);
}

/// The tiles of one block, of which the last may have fewer.
fn block_range(tiles: &Tiles, block: usize) -> Range<usize> {
    block * TILES..((block + 1) * TILES).min(tiles.count())
}

struct InputPoints<'a, const R: usize> {
    shape: &'a Conv2d,
    input: &'a [f32],
    tiles: Tiles,
    block: usize,
    target: &'a mut [f32],
}

impl<const R: usize> Kernel for InputPoints<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let range = block_range(&self.tiles, self.block);
        let plane = self.shape.height * self.shape.width;
        let from = self.shape.in_channels;
        let mut scratch = Buffer::new(scratch_len(TILES));
        for channel in 0..from {
            let planes = Planes {
                values: self.input,
                image_stride: from * plane,
                offset: channel * plane,
                size: [self.shape.height, self.shape.width],
                border: 0,
                ahead: plane,
            };
            // SAFETY: `dispatch` runs us where `I` exists; the scratch memory is as long as demanded; the target has
            // TILES elements, a multiple of LANES, for each point and channel.
            unsafe {
                let gathered = gather::<I, Input<R>>(
                    planes,
                    &self.tiles,
                    range.clone(),
                    None,
                    scratch.as_mut_ptr(),
                );
                let target = self.target.as_mut_ptr().add(channel * TILES);
                store_points::<I, Input<R>>(gathered, range.len(), target, from * TILES);
            }
        }
    }
}

/// Transforms gathered tiles horizontally and stores point after point `point_stride` apart, lanes behind the last
/// tile as zeros.
#[inline(always)]
unsafe fn store_points<I: Isa, T: super::transform::Transform>(
    gathered: *const f32,
    count: usize,
    target: *mut f32,
    point_stride: usize,
) {
    let n = T::ROWS;
    let stride = lane_stride(count);
    // SAFETY: the caller's promise of sizes: `n²` points of `count` elements, rounded up to LANES.
    unsafe {
        let mut lane = 0;
        while lane < count {
            let left = if count - lane < I::LANES {
                count - lane
            } else {
                I::LANES
            };
            let mut row = 0;
            while row < n {
                let y = transform_row::<I, T>(gathered.add(row * MAX * stride + lane), stride);
                let mut column = 0;
                while column < n {
                    let place = target.add((row * n + column) * point_stride + lane);
                    I::store(place, y[column]);
                    if left < I::LANES {
                        I::store(place, I::load_within(place, 0, left));
                    }
                    column += 1;
                }
                row += 1;
            }
            lane += I::LANES;
        }
    }
}

struct ChannelSums<'a, const R: usize> {
    shape: &'a Conv2d,
    output_gradient: &'a [f32],
    tiles: Tiles,
    blocks: Range<usize>,
    /// The input's points of these blocks.
    inputs: &'a [f32],
    first: usize,
    sums: Disjoint<'a>,
    rows: usize,
    out_stride: usize,
}

impl<const R: usize> Kernel for ChannelSums<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = R + 3;
        let shape = self.shape;
        let from = shape.in_channels;
        let plane = shape.output_area();
        let channels = CHANNELS.min(shape.out_channels - self.first);
        // Rows of the plane that a block of tiles takes, about.
        let block_rows = TILES.div_ceil(self.tiles.grid[1]) * TILE * shape.output_size()[1];

        // Gradient: [points, CHANNELS, TILES], with a gap behind each point; sums of every LANES-th tile: [points, from, CHANNELS, LANES].
        let gradients_len = n * n * POINT;
        let sums_len = n * n * from * CHANNELS * I::LANES;
        // The sums of LANES blocks (TILES additions each) and, in the same order, of all of them.
        let mut buffer = Buffer::new(gradients_len + 2 * sums_len);
        buffer.fill(0.0);
        let gradients = buffer.as_mut_ptr();
        let partial = gradients.wrapping_add(gradients_len);
        let totals = partial.wrapping_add(sums_len);
        // SAFETY: `dispatch` runs us where `I` exists; the regions of the buffer are as long as described, as is `inputs`.
        unsafe {
            for block in self.blocks.clone() {
                let range = block_range(&self.tiles, block);
                let count = range.len();
                for channel in 0..channels {
                    // What comes next: this block of the next channel, or the next block of the first.
                    let ahead = if channel + 1 < channels {
                        plane
                    } else {
                        block_rows.wrapping_sub(channel * plane)
                    };
                    let planes = Planes {
                        values: self.output_gradient,
                        image_stride: shape.out_channels * plane,
                        offset: (self.first + channel) * plane,
                        size: shape.output_size(),
                        border: 0,
                        ahead,
                    };
                    let target = gradients.add(channel * TILES);
                    gradient_points::<I, Gradient<R>>(
                        planes,
                        &self.tiles,
                        range.clone(),
                        target,
                        POINT,
                    );
                }
                let inputs_of = (block - self.blocks.start) * n * n * from * TILES;
                let inputs = self.inputs.as_ptr().add(inputs_of);
                for point in 0..n * n {
                    // As many channels at a time as there are registers for their sums.
                    let mut round = 0;
                    while round < CHANNELS {
                        let operands = Operands {
                            gradients: gradients.add(point * POINT + round * TILES),
                            inputs: inputs.add(point * from * TILES),
                            sums: partial.add((point * from * CHANNELS + round) * I::LANES),
                            vectors: count.div_ceil(I::LANES),
                        };
                        round += match (I::COLUMNS, from) {
                            (_, 1) => operands.add_products::<I, 1, CHANNELS>(),
                            (8, 2) => operands.add_products::<I, 2, CHANNELS>(),
                            (8, 3) => operands.add_products::<I, 3, CHANNELS>(),
                            (_, 2) => operands.add_products::<I, 2, 4>(),
                            (_, 3) => operands.add_products::<I, 3, 4>(),
                            _ => operands.add_products::<I, MOST_CHANNELS, 4>(),
                        };
                    }
                }
                let done = block + 1 - self.blocks.start;
                if done.is_multiple_of(I::LANES) || block + 1 == self.blocks.end {
                    add_sums::<I>(partial, totals, sums_len, true);
                    std::slice::from_raw_parts_mut(partial, sums_len).fill(0.0);
                }
            }
            for point in 0..n * n {
                for from_channel in 0..from {
                    for channel in 0..channels {
                        let place = (point * from + from_channel) * CHANNELS + channel;
                        let lanes =
                            std::slice::from_raw_parts(totals.add(place * I::LANES), I::LANES);
                        let place =
                            (point * self.rows + from_channel) * self.out_stride + self.first;
                        self.sums.part(place + channel, 1)[0] += lanes.iter().sum::<f32>();
                    }
                }
            }
        }
    }
}

/// One point of a block of tiles, from one of the task's output channels on.
struct Operands {
    /// `[channels, TILES]`
    gradients: *const f32,
    /// `[from, TILES]`
    inputs: *const f32,
    /// `[from, CHANNELS, LANES]`
    sums: *mut f32,
    vectors: usize,
}

impl Operands {
    /// Adds the products of `FROM` input channels with `N` output channels; `N`.
    #[inline(always)]
    unsafe fn add_products<I: Isa, const FROM: usize, const N: usize>(self) -> usize {
        // SAFETY: the caller's pointers are valid for the shapes above; the processor has `I`.
        unsafe {
            let mut sums = [[I::splat(0.0); N]; FROM];
            for (from, sums) in sums.iter_mut().enumerate() {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    *sum = I::load(self.sums.add((from * CHANNELS + channel) * I::LANES));
                }
            }
            for vector in 0..self.vectors {
                let mut inputs = [I::splat(0.0); FROM];
                for (from, input) in inputs.iter_mut().enumerate() {
                    *input = I::load(self.inputs.add(from * TILES + vector * I::LANES));
                }
                let mut channel = 0;
                while channel < N {
                    let place = self.gradients.add(channel * TILES + vector * I::LANES);
                    let gradient = I::load(place);
                    let mut from = 0;
                    while from < FROM {
                        let sum = sums[from][channel];
                        sums[from][channel] = I::mul_add(inputs[from], gradient, sum);
                        from += 1;
                    }
                    channel += 1;
                }
            }
            for (from, sums) in sums.iter().enumerate() {
                for (channel, sum) in sums.iter().enumerate() {
                    I::store(self.sums.add((from * CHANNELS + channel) * I::LANES), *sum);
                }
            }
            N
        }
    }
}
