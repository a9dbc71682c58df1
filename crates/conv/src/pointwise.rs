//! 1×1 kernels: matrix products of channels, with the pixels as rows.
//!
//! Nothing is lowered. A block of pixels is copied once, for all output channels; for the weight's gradient, the output's gradient is
//! transposed, and the input is read in place.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    Conv2d,
    activation::Epilogue,
    cook_toom::{
        weight_gradient::{add_sums, runs_per_sum},
        weights::Weight,
    },
    disjoint::Disjoint,
    product::{ROW_VECTORS, Tile},
    simd::{Isa, Kernel, Level, dispatch, transpose},
    workspace::Buffer,
};

/// Vectors of pixels that a task copies before it multiplies them, at most: enough for the processor to see the next lines coming, and few
/// enough for its L2 cache.
const VECTORS: usize = 12;

/// Multiplies `[batch, weight.from, area]` into `[batch, weight.to, area]`.
pub(crate) fn convolve(
    level: Level,
    [batch, area]: [usize; 2],
    source: &[f32],
    weight: Weight<'_>,
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let packed = pack(level, weight);
    let vectors = area.div_ceil(level.lanes());
    let block = vectors.div_ceil(vectors.div_ceil(VECTORS)) * level.lanes();
    let blocks = area.div_ceil(block);
    let output = Disjoint::new(output);
    (0..batch * blocks).into_par_iter().for_each(|task| {
        let start = task % blocks * block;
        // SAFETY: `level` is available, each pixel belongs to one task.
        unsafe {
            dispatch(
                level,
                Block {
                    source,
                    image: task / blocks,
                    area,
                    pixels: start..(start + block).min(area),
                    weight,
                    packed: &packed,
                    epilogue,
                    output,
                },
            );
        }
    });
}

/// The weight in panels `[panels, from, COLUMNS]` of result channels, the last filled up with zeros.
fn pack(level: Level, weight: Weight<'_>) -> Buffer {
    let Weight {
        values,
        from,
        to,
        reversed,
    } = weight;
    let columns = level.columns();
    let mut packed = Buffer::new(to.div_ceil(columns) * from * columns);
    packed
        .par_chunks_exact_mut(from * columns)
        .enumerate()
        .for_each(|(panel, target)| {
            for (source, target) in target.chunks_exact_mut(columns).enumerate() {
                for (column, value) in target.iter_mut().enumerate() {
                    let result = panel * columns + column;
                    *value = match (result < to, reversed) {
                        (false, _) => 0.0,
                        (true, false) => values[result * from + source],
                        (true, true) => values[source * to + result],
                    };
                }
            }
        });
    packed
}

struct Block<'a> {
    source: &'a [f32],
    image: usize,
    area: usize,
    pixels: Range<usize>,
    weight: Weight<'a>,
    packed: &'a [f32],
    epilogue: Epilogue<'a>,
    output: Disjoint<'a>,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Weight { from, to, .. } = self.weight;
        let count = self.pixels.len();
        let vectors = count.div_ceil(I::LANES);
        let lanes = vectors * I::LANES;
        let left_len = from * lanes;
        let mut buffer = Buffer::new(left_len + I::COLUMNS * lanes);
        let left = buffer.as_mut_ptr();
        let products = left.wrapping_add(left_len);
        let planes = &self.source[self.image * from * self.area..][..from * self.area];
        // SAFETY: `dispatch` runs us where `I` exists. Pixels are read within their plane (masked behind its end), products
        // and their operands lie within the buffer and the packed weight, and the output's parts are this task's alone.
        unsafe {
            for channel in 0..from {
                let plane = planes.as_ptr().add(channel * self.area + self.pixels.start);
                let mut lane = 0;
                while lane < count {
                    let within = if count - lane < I::LANES {
                        count - lane
                    } else {
                        I::LANES
                    };
                    let value = I::load_within(plane.add(lane), 0, within);
                    I::store(left.add(channel * lanes + lane), value);
                    lane += I::LANES;
                }
            }
            let mut right = self.packed.as_ptr();
            let mut first = 0;
            while first < to {
                let next = right.wrapping_add(from * I::COLUMNS);
                let mut vector = 0;
                while vector < vectors {
                    let rows = (vectors - vector).min(ROW_VECTORS);
                    Tile {
                        inner: from,
                        left: left.add(vector * I::LANES),
                        left_stride: lanes,
                        right,
                        right_strides: [I::COLUMNS, 1],
                        product: products.add(vector * I::LANES),
                        product_stride: lanes,
                        add: false,
                        next: [next; 2],
                    }
                    .multiply::<I>(rows, I::COLUMNS);
                    vector += rows;
                }
                right = next;
                for channel in first..(first + I::COLUMNS).min(to) {
                    let bias = I::splat(self.epilogue.bias.map_or(0.0, |bias| bias[channel]));
                    let activation = self.epilogue.activation;
                    let slope = I::splat(activation.slope);
                    let ceiling = I::splat(activation.ceiling);
                    let row = products.add((channel - first) * lanes);
                    let mut lane = 0;
                    while lane < lanes {
                        let value = I::add(I::load(row.add(lane)), bias);
                        let value = I::min(ceiling, I::leaky_relu(value, slope));
                        I::store(row.add(lane), value);
                        lane += I::LANES;
                    }
                    let place = (self.image * to + channel) * self.area + self.pixels.start;
                    self.output
                        .part(place, count)
                        .copy_from_slice(std::slice::from_raw_parts(row, count));
                }
                first += I::COLUMNS;
            }
        }
    }
}

/// Pixels that are turned before they are multiplied.
const BLOCK: usize = 192;

/// The weight's gradient; `in_channels` is a multiple of 4.
pub(crate) fn weight_gradient(
    level: Level,
    shape: &Conv2d,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let lanes = level.lanes();
    let vectors = shape.out_channels.div_ceil(lanes);
    let tasks = vectors
        .div_ceil(ROW_VECTORS)
        .next_multiple_of(rayon::current_num_threads());
    let per_task = vectors.div_ceil(tasks);
    let target = Disjoint::new(weight_gradient);
    (0..vectors.div_ceil(per_task))
        .into_par_iter()
        .for_each(|task| {
            let first = task * per_task * lanes;
            // SAFETY: `level` is available, each output channel belongs to one task.
            unsafe {
                dispatch(
                    level,
                    ChannelSums {
                        shape,
                        input,
                        output_gradient,
                        channels: first..(first + per_task * lanes).min(shape.out_channels),
                        target,
                    },
                );
            }
        });
}

struct ChannelSums<'a> {
    shape: &'a Conv2d,
    input: &'a [f32],
    output_gradient: &'a [f32],
    channels: Range<usize>,
    target: Disjoint<'a>,
}

impl Kernel for ChannelSums<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let shape = self.shape;
        let area = shape.height * shape.width;
        let from = shape.in_channels;
        let vectors = self.channels.len().div_ceil(I::LANES);
        let lanes = vectors * I::LANES;

        let blocks = shape.batch * area.div_ceil(BLOCK);
        let blocks_per_sum = runs_per_sum(blocks);

        // Sums and, where one sum would take too many blocks, totals: [in channels, lanes]; gradient [BLOCK, lanes], and before it is turned [LANES, BLOCK].
        let sums_len = from * lanes;
        let turned_len = BLOCK * lanes;
        let totals_len = if blocks > blocks_per_sum { sums_len } else { 0 };
        let mut buffer = Buffer::new(sums_len + totals_len + turned_len + I::LANES * BLOCK);
        let sums = buffer.as_mut_ptr();
        let totals = sums.wrapping_add(sums_len);
        let turned = totals.wrapping_add(totals_len);
        let rows = turned.wrapping_add(turned_len);
        // SAFETY: `dispatch` runs us where `I` exists. Regions of the buffer are as long as described; the input is read
        // within whole groups of channels, which is why their number must be a multiple of 4.
        unsafe {
            let mut block = 0;
            for image in 0..shape.batch {
                let mut start = 0;
                while start < area {
                    let count = BLOCK.min(area - start);
                    for vector in 0..vectors {
                        for lane in 0..I::LANES {
                            let channel = self.channels.start + vector * I::LANES + lane;
                            let row = std::slice::from_raw_parts_mut(rows.add(lane * BLOCK), BLOCK);
                            if channel < self.channels.end {
                                let place = (image * shape.out_channels + channel) * area + start;
                                row[..count]
                                    .copy_from_slice(&self.output_gradient[place..][..count]);
                                row[count..].fill(0.0);
                            } else {
                                row.fill(0.0);
                            }
                        }
                        let mut pixel = 0;
                        while pixel < count {
                            transpose::<I>(
                                rows.add(pixel),
                                BLOCK,
                                turned.add(pixel * lanes + vector * I::LANES),
                                lanes,
                            );
                            pixel += I::LANES;
                        }
                    }
                    let planes = &self.input[image * from * area..][..from * area];
                    let mut channel = 0;
                    while channel < from {
                        let columns = if from - channel < I::COLUMNS {
                            4
                        } else {
                            I::COLUMNS
                        };
                        let right = planes.as_ptr().add(channel * area + start);
                        Tile {
                            inner: count,
                            left: turned,
                            left_stride: lanes,
                            right,
                            right_strides: [1, area],
                            product: sums.add(channel * lanes),
                            product_stride: lanes,
                            add: block % blocks_per_sum > 0,
                            next: [turned; 2],
                        }
                        .multiply::<I>(vectors, columns);
                        channel += columns;
                    }
                    start += count;
                    block += 1;
                    if totals_len > 0 && (block.is_multiple_of(blocks_per_sum) || block == blocks) {
                        add_sums::<I>(sums, totals, sums_len, block > blocks_per_sum);
                    }
                }
            }
            let sums = if totals_len > 0 { totals } else { sums };
            for channel in self.channels.clone() {
                let row = self.target.part(channel * from, from);
                for (column, value) in row.iter_mut().enumerate() {
                    *value = *sums.add(column * lanes + channel - self.channels.start);
                }
            }
        }
    }
}
