//! From planes of pixels to tiles: the transforms that read an image (Bᵀ x B and G′ y G′ᵀ).
//!
//! A run of neighbouring tiles is transformed vertically first, while its pixels still lie side by side: no shuffles, and
//! columns that two tiles share are transformed once. Then every 4th column is split off, so that a vector holds the
//! same column of neighbouring tiles, in the order of the tiles, run after run.

use std::ops::Range;

use super::{
    TILE, Tiles,
    points::MAX,
    transform::{Transform, to_points},
};
use crate::simd::Isa;

/// One channel of one batch.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    pub(super) values: &'a [f32],
    /// Elements from the channel's plane of one image to that of the next, and to its first one.
    pub(super) image_stride: usize,
    pub(super) offset: usize,
    /// Rows and columns.
    pub(super) size: [usize; 2],
    /// Rows and columns of zeros around the plane.
    pub(super) border: usize,
    /// Elements from a pixel to the one that the caller will read next in its place: pieces of planes are too short for the
    /// processor to see the next coming.
    pub(super) ahead: usize,
}

/// Floats of scratch memory for a block of up to `tiles` tiles.
pub(super) fn scratch_len(tiles: usize) -> usize {
    MAX * line_stride(tiles) + MAX * MAX * lane_stride(tiles)
}

/// Most lanes of any instruction set.
const MAX_LANES: usize = 16;

fn line_stride(tiles: usize) -> usize {
    TILE * tiles.next_multiple_of(MAX_LANES) + 4 * MAX_LANES
}

/// Elements between the columns of transformed tiles: room for the last vector to stick out.
pub(super) fn lane_stride(tiles: usize) -> usize {
    tiles.next_multiple_of(MAX_LANES) + MAX_LANES
}

/// Transforms the tiles `range` vertically and leaves, in `scratch`, vectors of the same place of successive tiles: that of
/// the row `i` and column `j` of the tile `range.start + t` stands at `result + (i · MAX + j) · lane_stride + t`.
///
/// With `only`, just that row of the transform is computed, and stands in the place of row 0.
///
/// # Safety
/// The processor has the instructions of `I`; `scratch` is valid for [`scratch_len`] elements.
#[inline(always)]
pub(super) unsafe fn gather<I: Isa, T: Transform>(
    planes: Planes<'_>,
    tiles: &Tiles,
    range: Range<usize>,
    only: Option<usize>,
    scratch: *mut f32,
) -> *const f32 {
    let line_stride = line_stride(range.len());
    let lane_stride = lane_stride(range.len());
    let rows = if only.is_some() { 1 } else { T::ROWS };
    let [height, width] = planes.size;
    // SAFETY: columns are read within the planes only (whole vectors where they are known to fit, masked ones
    // elsewhere). A run of `len` tiles writes less than `4 · len + 8 + LANES` columns of a line and reads, for its last vector of
    // tiles, less than `4 · (len + LANES) + 12 + LANES`; and it writes less than LANES lanes more than it has tiles: all within the strides.
    unsafe {
        let lanes = scratch.add(MAX * line_stride);
        let mut tile = range.start;
        while tile < range.end {
            let run = tiles.run_at(tile, range.end);
            let image = planes
                .values
                .as_ptr()
                .wrapping_add(run.image * planes.image_stride + planes.offset);
            let top = (run.row * TILE) as isize - planes.border as isize;
            let left = (run.column * TILE) as isize - planes.border as isize;
            let columns = TILE * (run.len - 1) + T::COLUMNS;
            let inside = top >= 0 && top as usize + T::COLUMNS <= height;
            let mut column = 0;
            while column < columns {
                let x = left + column as isize;
                let whole = x >= 0 && x as usize + I::LANES <= width;
                let low = if x < 0 { x.unsigned_abs() } else { 0 };
                let low = if low < I::LANES { low } else { I::LANES };
                let high = (width as isize - x).clamp(low as isize, I::LANES as isize) as usize;
                let mut pixels = [I::splat(0.0); MAX];
                let mut row = 0;
                if inside && whole {
                    let place = image.wrapping_offset(top * width as isize + x);
                    while row < T::COLUMNS {
                        let place = place.wrapping_add(row * width);
                        I::prefetch(place.wrapping_add(planes.ahead));
                        pixels[row] = I::load(place);
                        row += 1;
                    }
                } else {
                    while row < T::COLUMNS {
                        let y = top + row as isize;
                        if y >= 0 && (y as usize) < height {
                            let place = image.wrapping_offset(y * width as isize + x);
                            I::prefetch(place.wrapping_add(planes.ahead));
                            pixels[row] = I::load_within(place, low, high);
                        }
                        row += 1;
                    }
                }
                if let Some(only) = only {
                    let mut sum = I::splat(0.0);
                    let mut row = 0;
                    while row < T::COLUMNS {
                        sum = I::mul_add(pixels[row], I::splat(T::MATRIX[only][row]), sum);
                        row += 1;
                    }
                    I::store(scratch.add(column), sum);
                } else {
                    let transformed = to_points::<I, T>(&pixels);
                    let mut row = 0;
                    while row < T::ROWS {
                        I::store(scratch.add(row * line_stride + column), transformed[row]);
                        row += 1;
                    }
                }
                column += I::LANES;
            }
            let first = lanes.add(tile - range.start);
            let mut row = 0;
            while row < rows {
                let mut lane = 0;
                while lane < run.len {
                    let mut column = 0;
                    while column < T::COLUMNS {
                        let line = scratch.add(row * line_stride + TILE * lane + column);
                        let phases = I::uninterleave4([
                            I::load(line),
                            I::load(line.add(I::LANES)),
                            I::load(line.add(2 * I::LANES)),
                            I::load(line.add(3 * I::LANES)),
                        ]);
                        let mut phase = 0;
                        while phase < 4 {
                            if column + phase < T::COLUMNS {
                                let place = (row * MAX + column + phase) * lane_stride + lane;
                                I::store(first.add(place), phases[phase]);
                            }
                            phase += 1;
                        }
                        column += 4;
                    }
                    lane += I::LANES;
                }
                row += 1;
            }
            tile += run.len;
        }
        lanes
    }
}

/// Transforms one row of gathered tiles horizontally, one vector of them.
///
/// # Safety
/// `row` points to the first column of a vector of tiles within the result of [`gather`] for `tiles` tiles.
#[inline(always)]
pub(super) unsafe fn transform_row<I: Isa, T: Transform>(
    row: *const f32,
    lane_stride: usize,
) -> [I::V; MAX] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut columns = [I::splat(0.0); MAX];
        let mut column = 0;
        while column < T::COLUMNS {
            columns[column] = I::load(row.add(column * lane_stride));
            column += 1;
        }
        to_points::<I, T>(&columns)
    }
}

/// Transforms the tiles `range` of an output's gradient, which do not overlap, vertically: the row `i` and column `j` of the tile
/// `range.start + t` stands at `target + i · row + j · column + t / LANES · vector + t mod LANES` for the strides `[row, column, vector]`,
/// and zeros up to the next whole vector.
///
/// Tiles without a common pixel can be split into columns first, which leaves all the rest to registers.
///
/// # Safety
/// The processor has the instructions of `I`; `target` is valid for those places of LANES elements more than there are tiles;
/// nothing else stands in them yet. `vector` is LANES, unless rows of tiles are whole vectors.
#[inline(always)]
pub(super) unsafe fn gradient_rows<I: Isa, T: Transform>(
    planes: Planes<'_>,
    tiles: &Tiles,
    range: Range<usize>,
    target: *mut f32,
    [row_stride, column_stride, vector_stride]: [usize; 3],
) {
    debug_assert!(T::COLUMNS == TILE && planes.border == 0);
    let n = T::ROWS;
    let [height, width] = planes.size;
    let left_over = range.len() % I::LANES;
    let last = range.len() - left_over;
    // SAFETY: pixels are read within the plane (masked at its right end, rows below it not at all), points are written
    // where the caller promises.
    unsafe {
        let mut tile = range.start;
        while tile < range.end {
            let run = tiles.run_at(tile, range.end);
            let top = run.row * TILE;
            let rows = if height - top < TILE {
                height - top
            } else {
                TILE
            };
            let line = planes
                .values
                .as_ptr()
                .add(run.image * planes.image_stride + planes.offset + top * width);
            let mut lane = 0;
            while lane < run.len {
                let x = (run.column + lane) * TILE;
                let mut columns = [[I::splat(0.0); MAX]; TILE];
                let place = line.wrapping_add(x);
                if x + TILE * I::LANES <= width && rows == TILE {
                    let mut row = 0;
                    while row < TILE {
                        let place = place.wrapping_add(row * width);
                        let mut parts = [I::splat(0.0); 4];
                        let mut part = 0;
                        while part < 4 {
                            parts[part] = I::load(place.wrapping_add(part * I::LANES));
                            part += 1;
                        }
                        split_row::<I>(&mut columns, row, parts);
                        row += 1;
                    }
                } else {
                    let left = width.saturating_sub(x);
                    let within =
                        [0, 1, 2, 3].map(|part| left.saturating_sub(part * I::LANES).min(I::LANES));
                    let mut row = 0;
                    while row < TILE {
                        if row < rows {
                            let place = place.wrapping_add(row * width);
                            let mut parts = [I::splat(0.0); 4];
                            let mut part = 0;
                            while part < 4 {
                                let place = place.wrapping_add(part * I::LANES);
                                parts[part] = I::load_within(place, 0, within[part]);
                                part += 1;
                            }
                            split_row::<I>(&mut columns, row, parts);
                        }
                        row += 1;
                    }
                }
                let place = tile - range.start + lane;
                let first = target.add(place / I::LANES * vector_stride + place % I::LANES);
                let mut column = 0;
                while column < TILE {
                    let y = to_points::<I, T>(&columns[column]);
                    let mut row = 0;
                    while row < n {
                        I::store(first.add(row * row_stride + column * column_stride), y[row]);
                        row += 1;
                    }
                    column += 1;
                }
                lane += I::LANES;
            }
            tile += run.len;
        }
        if left_over > 0 {
            let last = target.add(last / I::LANES * vector_stride);
            for row in 0..n {
                for column in 0..TILE {
                    let place = last.add(row * row_stride + column * column_stride);
                    I::store(place, I::load_within(place, 0, left_over));
                }
            }
        }
    }
}

/// Splits a row of pixels of LANES tiles into the tiles' columns.
#[inline(always)]
unsafe fn split_row<I: Isa>(columns: &mut [[I::V; MAX]; TILE], row: usize, parts: [I::V; 4]) {
    // SAFETY: the caller promises that the processor has the instructions of `I`.
    let split = unsafe { I::uninterleave4(parts) };
    let mut column = 0;
    while column < TILE {
        columns[column][row] = split[column];
        column += 1;
    }
}
