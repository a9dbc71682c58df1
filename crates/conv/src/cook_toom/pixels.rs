//! The last steps of the output: horizontal transform, bias, activation, pooling, and the pixels' way to their places.

use std::ops::Range;

use super::{
    TILE, Tiles,
    transform::{Output, Rows, from_points},
};
use crate::{activation::Epilogue, disjoint::Disjoint, product::LINE, simd::Isa};

/// Where the output of a convolution goes.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// `[batch, channels, rows, columns]`
    Full {
        output: Disjoint<'a>,
        /// Whether the pixels go past the caches.
        streamed: bool,
    },
    /// The largest values of 2×2 windows, `[batch, channels, rows / 2, columns / 2]`, and which of the four pixels each was.
    Pooled {
        output: Disjoint<'a>,
        winners: Option<Disjoint<'a, u8>>,
    },
}

/// Floats of an output that no cache would keep until it is read. Written past the caches, its lines need not be fetched
/// first, which takes half of the time of a layer that has few products.
pub(crate) const STREAMED: usize = 1 << 22;

impl<'a> Target<'a> {
    /// The whole output.
    pub(crate) fn full(output: &'a mut [f32]) -> Self {
        Self::Full {
            streamed: output.len() >= STREAMED,
            output: Disjoint::new(output),
        }
    }

    /// Rows and columns of outputs that are needed, of those that the convolution has.
    pub(super) fn needed(&self, size: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Full { .. } => size,
            Self::Pooled { .. } => size.map(|size| size / 2 * 2),
        }
    }
}

/// Floats of scratch memory for the pixels of a channel's tiles.
pub(super) fn pixels_len(lanes: usize) -> usize {
    TILE * TILE * lanes
}

/// Transforms one vector of tiles of one channel horizontally, after [`Rows`] took the vertical result, and leaves its pixels at
/// `vector · LANES` tiles behind `pixels`: row `r` of all tiles side by side at `r · 4 · lanes`, or, of windows, at `r · 2 ·
/// lanes` with the winners behind all rows.
///
/// # Safety
/// The processor has the instructions of `I`; `n` columns of the rows are set; `pixels` are valid for [`pixels_len`].
#[inline(always)]
pub(super) unsafe fn finish<I: Isa, const R: usize>(
    vertical: &Rows<I, TILE>,
    target: Target<'_>,
    [bias, slope]: [f32; 2],
    vector: usize,
    lanes: usize,
    pixels: *mut f32,
) {
    // SAFETY: the caller's promises.
    unsafe {
        let (bias, slope) = (I::splat(bias), I::splat(slope));
        let row = |row: usize| from_points::<I, Output<R>>(&vertical.row(row, R + 3));
        match target {
            Target::Full { .. } => {
                let mut y = 0;
                while y < TILE {
                    let values = row(y);
                    let mut line = [values[0], values[1], values[2], values[3]];
                    let mut x = 0;
                    while x < TILE {
                        let value = I::add(line[x], bias);
                        line[x] = I::leaky_relu(value, slope);
                        x += 1;
                    }
                    let line = I::interleave4(line);
                    let place = TILE * (y * lanes + vector * I::LANES);
                    let mut part = 0;
                    while part < 4 {
                        I::store(pixels.add(place + part * I::LANES), line[part]);
                        part += 1;
                    }
                    y += 1;
                }
            }
            Target::Pooled { winners, .. } => {
                let mut y = 0;
                while y < 2 {
                    let (top, bottom) = (row(2 * y), row(2 * y + 1));
                    let mut largest = [bias; 2];
                    let mut winner = [bias; 2];
                    let mut x = 0;
                    while x < 2 {
                        let window = [top[2 * x], top[2 * x + 1], bottom[2 * x], bottom[2 * x + 1]];
                        let value;
                        if winners.is_some() {
                            (value, winner[x]) = largest_and_winner::<I>(window);
                        } else {
                            value = largest_of::<I>(window);
                        }
                        // Bias and activation keep the order, so they may come after.
                        let value = I::add(value, bias);
                        largest[x] = I::leaky_relu(value, slope);
                        x += 1;
                    }
                    let place = 2 * (y * lanes + vector * I::LANES);
                    let [left, right] = I::interleave(largest[0], largest[1]);
                    I::store(pixels.add(place), left);
                    I::store(pixels.add(place + I::LANES), right);
                    if winners.is_some() {
                        let place = place + 4 * lanes;
                        let [left, right] = I::interleave(winner[0], winner[1]);
                        I::store(pixels.add(place), left);
                        I::store(pixels.add(place + I::LANES), right);
                    }
                    y += 1;
                }
            }
        }
    }
}

/// The largest of a window's pixels, NaN if one is.
#[inline(always)]
unsafe fn largest_of<I: Isa>([a, b, c, d]: [I::V; 4]) -> I::V {
    // SAFETY: the caller's promise that the instructions exist.
    unsafe { I::or_nan(I::or_nan(I::max(I::max(d, c), I::max(b, a)), a, b), c, d) }
}

/// As [`largest_of`], and which pixel it is: the first of the largest, or the last NaN.
#[inline(always)]
unsafe fn largest_and_winner<I: Isa>([a, b, c, d]: [I::V; 4]) -> (I::V, I::V) {
    // SAFETY: the caller's promise that the instructions exist.
    unsafe {
        // Values and places are chosen by the same comparisons.
        let (above, below) = (I::greater(b, a, b, a), I::greater(d, c, d, c));
        let first = I::greater(b, a, I::splat(1.0), I::splat(0.0));
        let second = I::greater(d, c, I::splat(3.0), I::splat(2.0));
        (
            I::greater(below, above, below, above),
            I::greater(below, above, second, first),
        )
    }
}

/// Bias and slope of a channel, which may be one behind the last.
#[inline(always)]
pub(super) fn constants(epilogue: &Epilogue<'_>, channel: usize) -> [f32; 2] {
    let bias = match epilogue.bias {
        Some(bias) if channel < bias.len() => bias[channel],
        _ => 0.0,
    };
    [bias, epilogue.activation.slope]
}

/// Writes the pixels of one of `channels` output channels, left as by [`finish`], without what sticks out.
///
/// The pieces of a plane that a block writes are too short for the processor to foresee the next, so the cache lines of the
/// channel that comes `ahead` channels later are asked for here.
///
/// # Safety
/// The processor has the instructions of `I`; `pixels` are valid for [`pixels_len`]; no other thread writes these tiles of the
/// channel.
#[inline(always)]
pub(super) unsafe fn write<I: Isa>(
    tiles: &Tiles,
    range: Range<usize>,
    [channel, channels, ahead]: [usize; 3],
    pixels: *const f32,
    lanes: usize,
    target: Target<'_>,
) {
    let (output, streamed, winners, side) = match target {
        Target::Full { output, streamed } => (output, streamed, None, TILE),
        Target::Pooled { output, winners } => (output, false, winners, TILE / 2),
    };
    let [rows, columns] = tiles.size.map(|size| size * side / TILE);
    let mut tile = range.start;
    while tile < range.end {
        let run = tiles.run_at(tile, range.end);
        let x = run.column * side;
        let len = (run.len * side).min(columns - x);
        for row in 0..side.min(rows - run.row * side) {
            let y = run.row * side + row;
            let place = ((run.image * channels + channel) * rows + y) * columns + x;
            // SAFETY: the caller's promises; the run lies within the range.
            unsafe {
                let source = pixels.add(side * (row * lanes + tile - range.start));
                let line = output.part(place, len);
                if streamed {
                    stream::<I>(source, line);
                    continue;
                }
                copy::<I>(source, line);
                let next = line.as_ptr().wrapping_add(ahead * rows * columns);
                let mut fetched = 0;
                while fetched < len + LINE {
                    I::prefetch(next.wrapping_add(fetched));
                    fetched += LINE;
                }
                if let Some(winners) = winners {
                    let source = std::slice::from_raw_parts(source.add(4 * lanes), len);
                    for (winner, value) in winners.part(place, len).iter_mut().zip(source) {
                        *winner = value.to_int_unchecked::<i32>() as u8;
                    }
                }
            }
        }
        tile += run.len;
    }
    if streamed {
        // SAFETY: the caller's promise.
        unsafe { I::end_stream() }
    }
}

/// Copies as many values as the target has, past the caches; [`Isa::end_stream`] must follow.
///
/// # Safety
/// The processor has the instructions of `I`; `source` is valid for as many elements, none of them in the target.
#[inline(always)]
pub(crate) unsafe fn stream<I: Isa>(source: *const f32, target: &mut [f32]) {
    let len = target.len();
    let to = target.as_mut_ptr();
    // SAFETY: the caller's pointer is valid for that many elements, none of them in the target.
    unsafe {
        let mut x = 0;
        while x < len && to.add(x).addr() % (I::LANES * size_of::<f32>()) != 0 {
            I::stream_one(to.add(x), *source.add(x));
            x += 1;
        }
        while x + I::LANES <= len {
            I::stream(to.add(x), I::load(source.add(x)));
            x += I::LANES;
        }
        while x < len {
            I::stream_one(to.add(x), *source.add(x));
            x += 1;
        }
    }
}

/// Copies as many values as the target has; a call of the general copy costs as much as the short lines themselves.
///
/// # Safety
/// As [`stream`].
#[inline(always)]
pub(crate) unsafe fn copy<I: Isa>(source: *const f32, target: &mut [f32]) {
    let len = target.len();
    // SAFETY: the caller's pointer is valid for that many elements, none of them in the target.
    unsafe {
        if len < I::LANES {
            target.copy_from_slice(std::slice::from_raw_parts(source, len));
            return;
        }
        let to = target.as_mut_ptr();
        let mut x = 0;
        while x + I::LANES <= len {
            I::store(to.add(x), I::load(source.add(x)));
            x += I::LANES;
        }
        let last = len - I::LANES;
        I::store(to.add(last), I::load(source.add(last)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        pool::{first_largest, larger},
        simd::{Kernel, Level, dispatch},
    };

    /// Windows of equal values, infinities and NaNs at all places, against the scalar pooling.
    struct Windows;

    impl Kernel for Windows {
        type Output = ();

        #[inline(always)]
        unsafe fn run<I: Isa>(self) {
            const VALUES: [f32; 5] = [1.0, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
            // Every lane has another window, and every window is met in some lane.
            for start in (0..VALUES.len().pow(4)).step_by(I::LANES - 1) {
                let pixels: [Vec<f32>; 4] = std::array::from_fn(|place| {
                    (start..start + I::LANES)
                        .map(|at| VALUES[at / VALUES.len().pow(place as u32) % VALUES.len()])
                        .collect()
                });
                let mut found = [(); 3].map(|()| vec![0.0; I::LANES]);
                // SAFETY: `dispatch` runs us where `I` exists; all vectors have its length.
                unsafe {
                    let window = [0, 1, 2, 3].map(|place: usize| I::load(pixels[place].as_ptr()));
                    let (largest, winner) = largest_and_winner::<I>(window);
                    let vectors = [largest_of::<I>(window), largest, winner];
                    for (found, vector) in found.iter_mut().zip(vectors) {
                        I::store(found.as_mut_ptr(), vector);
                    }
                }
                for lane in 0..I::LANES {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|place: usize| pixels[place][lane]);
                    let largest = larger(larger(a, b), larger(c, d));
                    let winner = first_largest([&[a, b], &[c, d]], 0);
                    assert_eq!(largest.is_nan(), [a, b, c, d].iter().any(|x| x.is_nan()));
                    for value in [found[0][lane], found[1][lane]] {
                        let same = value == largest || value.is_nan() && largest.is_nan();
                        assert!(same, "{a} {b} {c} {d}: {value} instead of {largest}");
                    }
                    assert_eq!(found[2][lane], winner as f32, "{a} {b} {c} {d}");
                }
            }
        }
    }

    #[test]
    fn windows_of_every_instruction_set() {
        for level in Level::available() {
            // SAFETY: available.
            unsafe { dispatch(level, Windows) }
        }
    }
}
