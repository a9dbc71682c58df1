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
    input::{Planes, gather, gradient_rows, lane_stride, scratch_len, transform_row},
    pixels::{Target, constants, finish, pixels_len, write},
    points::MAX,
    transform::{Gradient, Input, Output, Rows, from_points, to_points, unrolled},
    weight_gradient::{add_sums, from_sums},
    weights::{Packed, Weight, pack},
};
use crate::{
    Conv2d,
    activation::Epilogue,
    disjoint::Disjoint,
    simd::{Isa, Kernel, Level, dispatch, transpose},
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

/// Most tiles of a block, for any kernel.
const MOST_TILES: usize = 256;

/// Sizes of a block of tiles, which are transformed before they are multiplied.
struct Sizes<const R: usize>;

impl<const R: usize> Sizes<R> {
    /// Tiles: as many as the second level of the caches holds with all their points, beside the pixels of the next block.
    const TILES: usize = if R + 3 < MAX { MOST_TILES } else { 192 };

    /// Floats from one row of points of the output gradient's tiles to the next: a little more than they take, lest all rows
    /// share a cache set.
    const ROW: usize = CHANNELS * TILE * Self::TILES + 80;

    /// Floats from one column of one channel to the next where its rows of tiles are no whole vectors: room for the last
    /// vector to stick out.
    const LINE: usize = Self::TILES + 16;
}

/// Most additions to a sum before it is added to its total.
const ADDITIONS: usize = 128;

/// Blocks of tiles whose input is transformed before all tasks multiply with it: some MiB, however large the image.
const BLOCKS: usize = 32;

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

    let blocks = tiles.count().div_ceil(Sizes::<R>::TILES);
    let block_len = n * n * from * Sizes::<R>::TILES;
    let mut inputs = Buffer::new(blocks.min(BLOCKS) * block_len);
    let rows = from.next_multiple_of(4);
    let out_stride = shape.out_channels.next_multiple_of(level.lanes());
    let mut sums = Buffer::new(n * n * rows * out_stride);
    sums.fill(0.0);
    for start in (0..blocks).step_by(BLOCKS) {
        let blocks = start..(start + BLOCKS).min(blocks);
        // The input's points, [blocks, rows, TILES / LANES, columns, channels, LANES], once for all tasks.
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
fn block_range<const R: usize>(tiles: &Tiles, block: usize) -> Range<usize> {
    block * Sizes::<R>::TILES..((block + 1) * Sizes::<R>::TILES).min(tiles.count())
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
        let range = block_range::<R>(&self.tiles, self.block);
        let plane = self.shape.height * self.shape.width;
        let from = self.shape.in_channels;
        let mut scratch = Buffer::new(scratch_len(Sizes::<R>::TILES));
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
                let target = self.target.as_mut_ptr().add(channel * I::LANES);
                store_points::<I, R>(gathered, range.len(), target, from);
            }
        }
    }
}

/// Transforms gathered tiles horizontally and stores one of `from` channels of `[rows, TILES / LANES, columns, channels, LANES]`, lanes
/// behind the last tile as zeros.
#[inline(always)]
unsafe fn store_points<I: Isa, const R: usize>(
    gathered: *const f32,
    count: usize,
    target: *mut f32,
    from: usize,
) {
    let n = R + 3;
    let stride = lane_stride(count);
    // SAFETY: the caller's promise of sizes: `n²` points of TILES elements, a multiple of LANES, for each channel.
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
                let y =
                    transform_row::<I, Input<R>>(gathered.add(row * MAX * stride + lane), stride);
                let mut column = 0;
                while column < n {
                    let vector = row * (Sizes::<R>::TILES / I::LANES) + lane / I::LANES;
                    let place = target.add((vector * n + column) * from * I::LANES);
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
        let width = shape.output_size()[1];
        let channels = CHANNELS.min(shape.out_channels - self.first);

        // Gradient: [rows, CHANNELS, TILES / LANES, TILE, LANES], with a gap behind each row; sums of every LANES-th tile: [rows,
        // CHANNELS, columns, from, LANES].
        let products_len = n * from * I::LANES;
        let sums_len = n * CHANNELS * products_len;
        // The sums of a few blocks (ADDITIONS each) and, in the same order, of all of them; one channel's [rows, TILE, LINE].
        let blocks_per_sum = ADDITIONS * I::LANES / Sizes::<R>::TILES;
        let mut buffer =
            Buffer::new(n * Sizes::<R>::ROW + 2 * sums_len + n * TILE * Sizes::<R>::LINE);
        let gradients = buffer.as_mut_ptr();
        let partial = gradients.wrapping_add(n * Sizes::<R>::ROW);
        let totals = partial.wrapping_add(sums_len);
        let scratch = totals.wrapping_add(sums_len);
        let whole = self.tiles.grid[1].is_multiple_of(I::LANES);
        // Rows of the plane that are fetched ahead while one row of points is multiplied: all of them during all rows.
        let parts = if n < 2 * TILE { TILE } else { TILE / 2 };
        // SAFETY: `dispatch` runs us where `I` exists; the regions of the buffer are as long as described, as is `inputs`.
        unsafe {
            for block in self.blocks.clone() {
                let range = block_range::<R>(&self.tiles, block);
                let vectors = range.len().div_ceil(I::LANES);
                for channel in 0..channels {
                    let planes = Planes {
                        values: self.output_gradient,
                        image_stride: shape.out_channels * plane,
                        offset: (self.first + channel) * plane,
                        size: shape.output_size(),
                        border: 0,
                        ahead: 0,
                    };
                    let target = gradients.add(channel * TILE * Sizes::<R>::TILES);
                    let (tiles, range) = (&self.tiles, range.clone());
                    if whole {
                        let strides = [Sizes::<R>::ROW, I::LANES, TILE * I::LANES];
                        gradient_rows::<I, Gradient<R>>(planes, tiles, range, target, strides);
                        continue;
                    }
                    let strides = [TILE * Sizes::<R>::LINE, Sizes::<R>::LINE, I::LANES];
                    gradient_rows::<I, Gradient<R>>(planes, tiles, range, scratch, strides);
                    for row in 0..n {
                        for vector in 0..vectors {
                            for column in 0..TILE {
                                let line = scratch.add((row * TILE + column) * Sizes::<R>::LINE);
                                let place =
                                    row * Sizes::<R>::ROW + (vector * TILE + column) * I::LANES;
                                I::store(target.add(place), I::load(line.add(vector * I::LANES)));
                            }
                        }
                    }
                }
                // Where the vectors of the next block begin, in the first channel.
                let mut next = [0; MOST_TILES];
                for (vector, place) in next[..vectors].iter_mut().enumerate() {
                    let tile = range.end + vector * I::LANES;
                    let run = self.tiles.run_at(tile, tile + 1);
                    *place = (run.image * shape.out_channels + self.first) * plane
                        + TILE * (run.row * width + run.column);
                }
                let done = block - self.blocks.start;
                let inputs = self
                    .inputs
                    .as_ptr()
                    .add(done * n * n * from * Sizes::<R>::TILES);
                for row in 0..n {
                    for channel in 0..channels {
                        let part = (row * parts).min(TILE * TILE);
                        let ahead = channel * plane + part / TILE * width + part % TILE * I::LANES;
                        let place = row * Sizes::<R>::ROW + channel * TILE * Sizes::<R>::TILES;
                        let operands = Operands {
                            gradients: gradients.add(place),
                            inputs: inputs.add(row * Sizes::<R>::TILES * n * from),
                            sums: partial.add((row * CHANNELS + channel) * products_len),
                            add: !done.is_multiple_of(blocks_per_sum),
                            next: &next[..vectors],
                            ahead: self.output_gradient.as_ptr().wrapping_add(ahead),
                            parts: if part < TILE * TILE { parts } else { 0 },
                            next_inputs: inputs.wrapping_add(
                                ((row + 1) * CHANNELS + channel) * Sizes::<R>::TILES / CHANNELS
                                    * n
                                    * from,
                            ),
                        };
                        match (I::COLUMNS, from) {
                            (8, 1) => operands.add_products::<I, R, 1, MAX>(),
                            (8, 2) => operands.add_products::<I, R, 2, MAX>(),
                            (8, 3) if n < MAX => operands.add_products::<I, R, 3, MAX>(),
                            (8, 3) => operands.add_products::<I, R, 3, 5>(),
                            (8, _) => operands.add_products::<I, R, MOST_CHANNELS, 5>(),
                            (_, 1) => operands.add_products::<I, R, 1, MAX>(),
                            (_, 2) => operands.add_products::<I, R, 2, 5>(),
                            (_, 3) => operands.add_products::<I, R, 3, 4>(),
                            _ => operands.add_products::<I, R, MOST_CHANNELS, 3>(),
                        };
                    }
                }
                if (done + 1).is_multiple_of(blocks_per_sum) || block + 1 == self.blocks.end {
                    add_sums::<I>(partial, totals, sums_len, done >= blocks_per_sum);
                }
            }
            // LANES sums at a time.
            let mut start = 0;
            while start < sums_len / I::LANES {
                transpose::<I>(totals.add(start * I::LANES), I::LANES, scratch, I::LANES);
                let mut sum = I::load(scratch);
                for lane in 1..I::LANES {
                    sum = I::add(sum, I::load(scratch.add(lane * I::LANES)));
                }
                I::store(scratch, sum);
                for index in start..(start + I::LANES).min(sums_len / I::LANES) {
                    let (place, from_channel) = (index / from, index % from);
                    let (place, column) = (place / n, place % n);
                    let (row, channel) = (place / CHANNELS, place % CHANNELS);
                    if channel < channels {
                        let point = row * n + column;
                        let place =
                            (point * self.rows + from_channel) * self.out_stride + self.first;
                        self.sums.part(place + channel, 1)[0] += *scratch.add(index - start);
                    }
                }
                start += I::LANES;
            }
        }
    }
}

/// One row of points of a block of tiles, in one output channel.
struct Operands<'a> {
    /// `[vectors, TILE, LANES]`
    gradients: *const f32,
    /// `[vectors, columns, from, LANES]`
    inputs: *const f32,
    /// `[columns, from, LANES]`
    sums: *mut f32,
    /// Whether to add to the sums that are there.
    add: bool,
    /// For each vector, the place of pixels that will be read later, as an offset from `ahead`: `parts` vectors of pixels.
    next: &'a [usize],
    ahead: *const f32,
    parts: usize,
    /// This channel's share of the inputs of the next row of points, as many as `inputs` for all channels together.
    next_inputs: *const f32,
}

impl Operands<'_> {
    /// Adds the products of `FROM` input channels, with `N` points at a time.
    #[inline(always)]
    unsafe fn add_products<I: Isa, const R: usize, const FROM: usize, const N: usize>(self) {
        let n = R + 3;
        let groups = n.div_ceil(N);
        // SAFETY: the caller's pointers are valid for the shapes above; the processor has `I`.
        unsafe {
            unrolled!(GROUP < groups, {
                // The first group has fewer points, where one must, which keeps pairs of points together.
                let behind = (groups - 1 - GROUP) * N;
                let first = n.saturating_sub(behind + N);
                let count = n - behind - first;
                let mut sums = [[I::splat(0.0); FROM]; MAX];
                if self.add {
                    unrolled!(P < count, {
                        let mut from = 0;
                        while from < FROM {
                            let place = (first + P) * FROM + from;
                            sums[P][from] = I::load(self.sums.add(place * I::LANES));
                            from += 1;
                        }
                    });
                }
                let mut gradients = self.gradients;
                let mut inputs = self.inputs;
                let mut next_inputs = self.next_inputs;
                for next in self.next {
                    for part in GROUP * self.parts / groups..(GROUP + 1) * self.parts / groups {
                        I::prefetch_near(self.ahead.wrapping_add(next + part * I::LANES));
                    }
                    if GROUP + 1 == groups {
                        let mut part = 0;
                        while part < (n * FROM).div_ceil(CHANNELS) {
                            I::prefetch_near(next_inputs.wrapping_add(part * I::LANES));
                            part += 1;
                        }
                        next_inputs = next_inputs.wrapping_add(n * FROM * I::LANES / CHANNELS);
                    }
                    let mut x = [I::splat(0.0); MAX];
                    let mut column = 0;
                    while column < TILE {
                        x[column] = I::load(gradients.add(column * I::LANES));
                        column += 1;
                    }
                    let y = to_points::<I, Gradient<R>>(&x);
                    unrolled!(P < count, {
                        let mut from = 0;
                        while from < FROM {
                            let input = I::load(inputs.add(((first + P) * FROM + from) * I::LANES));
                            sums[P][from] = I::mul_add(y[first + P], input, sums[P][from]);
                            from += 1;
                        }
                    });
                    gradients = gradients.add(TILE * I::LANES);
                    inputs = inputs.add(n * FROM * I::LANES);
                }
                unrolled!(P < count, {
                    let mut from = 0;
                    while from < FROM {
                        let place = (first + P) * FROM + from;
                        I::store(self.sums.add(place * I::LANES), sums[P][from]);
                        from += 1;
                    }
                });
            });
        }
    }
}
