//! 2×2 max-pooling with stride 2 at all of its four offsets at once, and its gradient.
//!
//! Dense feature extraction (Bailer et al., "Fast Dense Feature Extraction with CNNs with Pooling Layers", BMVC 2017) continues with
//! each offset's map, a *fragment*, by itself. All four come from one reading of the map, whose rows meet the next row while they are
//! in the first cache. Pooling while the convolution writes would save that reading too, but windows cross the borders of its tiles;
//! and bands of rows would transform its weight once a band, which costs more.

use rayon::prelude::*;

use crate::{
    cook_toom::pixels::{STREAMED, copy, stream},
    disjoint::Disjoint,
    pool::{first_largest, larger},
    simd::{Isa, Kernel, Level, dispatch},
    workspace::Buffer,
};

/// Maps of odd sides, and their four fragments of equal size: `[batch, channels, rows, columns]` becomes `[batch, 4, channels, (rows −
/// 1) / 2, (columns − 1) / 2]`, where fragment `2 · top + left` has the windows whose first pixels are in the rows `top`, `top + 2`, …
/// and the columns `left`, `left + 2`, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragments {
    /// Number of images.
    pub batch: usize,
    /// Number of channels.
    pub channels: usize,
    /// Rows and columns of the map, odd and at least 3.
    pub size: [usize; 2],
}

impl Fragments {
    /// Rows and columns of each fragment.
    pub fn fragment_size(&self) -> [usize; 2] {
        self.size.map(|size| size / 2)
    }

    fn check(&self, map: &[f32], fragments: &[f32]) {
        assert!(
            self.size.iter().all(|size| *size >= 3 && size % 2 == 1),
            "the four fragments of a map of {:?} are not of equal size",
            self.size
        );
        let [rows, columns] = self.fragment_size();
        let planes = self.batch * self.channels;
        assert_eq!(map.len(), planes * self.size[0] * self.size[1]);
        assert_eq!(fragments.len(), 4 * planes * rows * columns);
    }

    /// Where a row of windows of a plane begins among the fragments: of the windows at even and at odd columns.
    fn places(&self, plane: usize, row: usize) -> [usize; 2] {
        let [rows, columns] = self.fragment_size();
        let (image, channel) = (plane / self.channels, plane % self.channels);
        [0, 1].map(|left| {
            let fragment = 4 * image + row % 2 * 2 + left;
            ((fragment * self.channels + channel) * rows + row / 2) * columns
        })
    }
}

/// Writes the largest value of each window, NaN where the window has one, to its fragment.
///
/// # Panics
/// When a length does not fit the sizes, or a side is even or less than 3.
pub fn max_pool_fragments(shape: &Fragments, map: &[f32], fragments: &mut [f32]) {
    shape.check(map, fragments);
    pool(Level::best(), shape, map, fragments, STREAMED);
}

/// As [`max_pool_fragments`]; outputs of at least `streamed` elements go past the caches.
fn pool(level: Level, shape: &Fragments, map: &[f32], fragments: &mut [f32], streamed: usize) {
    let streamed = fragments.len() >= streamed;
    let fragments = Disjoint::new(fragments);
    map.par_chunks_exact(shape.size[0] * shape.size[1])
        .enumerate()
        .for_each(|(plane, map)| {
            let task = PoolPlane {
                shape: *shape,
                plane,
                map,
                fragments,
                streamed,
            };
            // SAFETY: `level` is available.
            unsafe { dispatch(level, task) }
        });
}

struct PoolPlane<'a> {
    shape: Fragments,
    plane: usize,
    map: &'a [f32],
    fragments: Disjoint<'a>,
    streamed: bool,
}

impl Kernel for PoolPlane<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let width = self.shape.size[1];
        let [_, columns] = self.shape.fragment_size();
        // The largest of pairs in a row, at even columns, then at odd ones; of the row before, then of this one.
        let stride = columns.next_multiple_of(I::LANES);
        let mut buffer = Buffer::new(4 * stride);
        let (mut before, mut pairs) = buffer.split_at_mut(2 * stride);
        let mut rows = self.map.chunks_exact(width);
        // SAFETY: `dispatch` runs us where `I` exists. The pairs are as long as `stride` implies; the fragments' parts are rows of
        // this plane, which is this task's alone.
        unsafe {
            if let Some(row) = rows.next() {
                largest_pairs::<I>(row, columns, before);
            }
            for (y, row) in rows.enumerate() {
                largest_pairs::<I>(row, columns, pairs);
                let mut x = 0;
                while x < 2 * stride {
                    let to = before.as_mut_ptr().add(x);
                    let (above, below) = (I::load(to), I::load(pairs.as_ptr().add(x)));
                    I::store(to, larger_of::<I>(above, below));
                    x += I::LANES;
                }
                for (left, place) in self.shape.places(self.plane, y).into_iter().enumerate() {
                    let from = before.as_ptr().add(left * stride);
                    let line = self.fragments.part(place, columns);
                    if self.streamed {
                        stream::<I>(from, line);
                    } else {
                        copy::<I>(from, line);
                    }
                }
                std::mem::swap(&mut before, &mut pairs);
            }
            if self.streamed {
                I::end_stream();
            }
        }
    }
}

/// Of a row of `2 · columns + 1` pixels, the larger of each pixel and its right neighbour: those at even columns, and behind them,
/// in the second half of `pairs`, those at odd ones.
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline(always)]
unsafe fn largest_pairs<I: Isa>(row: &[f32], columns: usize, pairs: &mut [f32]) {
    let row = &row[..2 * columns + 1];
    let half = pairs.len() / 2;
    let (even, odd) = pairs.split_at_mut(half);
    let (even, odd) = (&mut even[..columns], &mut odd[..columns]);
    if columns < I::LANES {
        for x in 0..columns {
            even[x] = larger(row[2 * x], row[2 * x + 1]);
            odd[x] = larger(row[2 * x + 1], row[2 * x + 2]);
        }
        return;
    }
    let mut x = 0;
    while x < columns {
        // The last vector may do some again.
        let at = if x + I::LANES <= columns {
            x
        } else {
            columns - I::LANES
        };
        // SAFETY: `at + LANES` is at most `columns`, so the last pixel that is read is `2 · columns`.
        unsafe {
            let from = row.as_ptr().add(2 * at);
            let [first, second] = I::uninterleave(I::load(from), I::load(from.add(I::LANES)));
            let from = from.add(1);
            let [_, third] = I::uninterleave(I::load(from), I::load(from.add(I::LANES)));
            I::store(even.as_mut_ptr().add(at), larger_of::<I>(first, second));
            I::store(odd.as_mut_ptr().add(at), larger_of::<I>(second, third));
        }
        x += I::LANES;
    }
}

/// The larger, NaN where one is.
#[inline(always)]
unsafe fn larger_of<I: Isa>(a: I::V, b: I::V) -> I::V {
    // SAFETY: the caller's promise that the instructions exist.
    unsafe { I::or_nan(I::max(a, b), a, b) }
}

/// Overwrites `map_gradient` with the gradient with respect to the map: each window's gradient goes to its first largest pixel (row
/// by row) or its last NaN, and the gradients of the up to four windows over a pixel add up.
///
/// # Panics
/// As [`max_pool_fragments`].
pub fn max_pool_fragments_gradient(
    shape: &Fragments,
    map: &[f32],
    fragments_gradient: &[f32],
    map_gradient: &mut [f32],
) {
    shape.check(map, fragments_gradient);
    shape.check(map_gradient, fragments_gradient);
    gradient(Level::best(), shape, map, fragments_gradient, map_gradient);
}

fn gradient(
    level: Level,
    shape: &Fragments,
    map: &[f32],
    fragments_gradient: &[f32],
    map_gradient: &mut [f32],
) {
    let area = shape.size[0] * shape.size[1];
    map_gradient
        .par_chunks_exact_mut(area)
        .zip(map.par_chunks_exact(area))
        .enumerate()
        .for_each_init(
            || (Vec::new(), Vec::new()),
            |(winners, gradients), (plane, (target, map))| {
                let task = PlaneGradient {
                    shape: *shape,
                    plane,
                    map,
                    fragments_gradient,
                    target,
                    winners,
                    gradients,
                };
                // SAFETY: `level` is available.
                unsafe { dispatch(level, task) }
            },
        );
}

struct PlaneGradient<'a> {
    shape: Fragments,
    plane: usize,
    map: &'a [f32],
    fragments_gradient: &'a [f32],
    target: &'a mut [f32],
    /// A row of windows' winners and gradients between two that no pixel has.
    winners: &'a mut Vec<u32>,
    gradients: &'a mut Vec<f32>,
}

impl Kernel for PlaneGradient<'_> {
    type Output = ();

    /// Plain loops, which the compiler vectorises for `I`.
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let width = self.shape.size[1];
        let [_, columns] = self.shape.fragment_size();
        let (winners, gradients) = (self.winners, self.gradients);
        winners.clear();
        winners.resize(width + 1, u32::MAX);
        gradients.clear();
        gradients.resize(width + 1, 0.0);
        self.target[..width].fill(0.0);
        for y in 0..self.shape.size[0] - 1 {
            let start = y * width;
            let (top, bottom) = self.map[start..start + 2 * width].split_at(width);
            for (x, winner) in winners[1..width].iter_mut().enumerate() {
                *winner = first_largest([top, bottom], x);
            }
            let [even, odd] = self
                .shape
                .places(self.plane, y)
                .map(|place| &self.fragments_gradient[place..place + columns]);
            let pairs = gradients[1..width].chunks_exact_mut(2);
            for (pair, (even, odd)) in pairs.zip(even.iter().zip(odd)) {
                pair[0] = *even;
                pair[1] = *odd;
            }
            // A pixel is the left one of its own window and the right one of the window before.
            let (right, left) = (&winners[..width], &winners[1..][..width]);
            let (of_right, of_left) = (&gradients[..width], &gradients[1..][..width]);
            let (top, bottom) = self.target[start..start + 2 * width].split_at_mut(width);
            for x in 0..width {
                let won = |by_left: u32, by_right: u32| {
                    let of_left = if left[x] == by_left { of_left[x] } else { 0.0 };
                    let of_right = if right[x] == by_right {
                        of_right[x]
                    } else {
                        0.0
                    };
                    of_left + of_right
                };
                top[x] += won(0, 1);
                bottom[x] = won(2, 3);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set, with and without the caches, at places that are not aligned; one row of 3 pixels, and more than two
    /// vectors with a rest.
    #[test]
    fn every_instruction_set() {
        for size in [[3, 3], [5, 9], [7, 35], [3, 75], [9, 33]] {
            let shape = Fragments {
                batch: 2,
                channels: 3,
                size,
            };
            let [rows, columns] = shape.fragment_size();
            let area = size[0] * size[1];
            // Few values, so that some are equal, and some NaNs.
            let map: Vec<f32> = (0..6 * area)
                .map(|at| match (at * 7919) % 61 {
                    0 => f32::NAN,
                    value => (value % 7) as f32 - 3.0,
                })
                .collect();
            let incoming: Vec<f32> = (0..24 * rows * columns).map(|at| at as f32).collect();
            let mut expected = vec![0.0; incoming.len()];
            let mut expected_gradient = vec![0.0; map.len()];
            for plane in 0..6 {
                for y in 0..2 * rows {
                    for x in 0..2 * columns {
                        let fragment = plane / 3 * 4 + y % 2 * 2 + x % 2;
                        let to = ((fragment * 3 + plane % 3) * rows + y / 2) * columns + x / 2;
                        let mut winner = plane * area + y * size[1] + x;
                        for next in [winner + 1, winner + size[1], winner + size[1] + 1] {
                            if map[next] > map[winner] || map[next].is_nan() {
                                winner = next;
                            }
                        }
                        expected[to] = map[winner];
                        expected_gradient[winner] += incoming[to];
                    }
                }
            }
            for level in Level::available() {
                for (offset, streamed) in [(0, 0), (1, 0), (3, 0), (0, usize::MAX)] {
                    let mut output = vec![0.0; incoming.len() + offset];
                    pool(level, &shape, &map, &mut output[offset..], streamed);
                    for (actual, expected) in output[offset..].iter().zip(&expected) {
                        let same = actual == expected || actual.is_nan() && expected.is_nan();
                        assert!(same, "{level:?}, {size:?}: {actual}, not {expected}");
                    }
                }
                let mut output = vec![f32::NAN; map.len()];
                gradient(level, &shape, &map, &incoming, &mut output);
                assert_eq!(output, expected_gradient, "{level:?}, {size:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "not of equal size")]
    fn even_sides_are_told() {
        let shape = Fragments {
            batch: 1,
            channels: 1,
            size: [3, 4],
        };
        max_pool_fragments(&shape, &[0.0; 12], &mut [0.0; 6]);
    }
}
