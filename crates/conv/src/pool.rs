//! 2×2 max-pooling, every second position or all of them, and its gradient.
//!
//! A window with a NaN gives NaN, and its gradient goes to the last NaN, as in PyTorch: so a broken network shows at its end.

use rayon::prelude::*;

use crate::Conv2d;

/// Pooling of planes (all channels of all images) with 2×2 windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Number of planes: batch × channels.
    pub planes: usize,
    /// Rows and columns of the input, each at least 2.
    pub size: [usize; 2],
    /// Step between windows: 2 for ordinary pooling (a last odd row or column is dropped), 1 for all offsets.
    pub stride: usize,
}

impl Pool {
    /// Ordinary pooling (stride 2) of the output of a convolution.
    pub fn after(shape: &Conv2d) -> Self {
        Self {
            planes: shape.batch * shape.out_channels,
            size: shape.output_size(),
            stride: 2,
        }
    }

    /// Rows and columns of the output.
    pub fn output_size(&self) -> [usize; 2] {
        self.size.map(|size| (size - 2) / self.stride + 1)
    }

    fn check(&self, input: &[f32], output: &[f32]) {
        assert!(
            self.size.iter().all(|size| *size >= 2) && (1..=2).contains(&self.stride),
            "2x2 pooling of planes of {:?} with stride {}",
            self.size,
            self.stride
        );
        let [rows, columns] = self.output_size();
        assert_eq!(input.len(), self.planes * self.size[0] * self.size[1]);
        assert_eq!(output.len(), self.planes * rows * columns);
    }

    /// The two rows of the input under the row `y` of the output.
    fn rows<'a>(&self, plane: &'a [f32], y: usize) -> [&'a [f32]; 2] {
        let width = self.size[1];
        let start = y * self.stride * width;
        [
            &plane[start..start + width],
            &plane[start + width..start + 2 * width],
        ]
    }
}

/// Writes the largest value of each window to `output` (`[planes, rows, columns]` as in [`Pool::output_size`]); NaN where the
/// window has one.
///
/// # Panics
/// When a length does not fit the sizes, a plane is smaller than a window, or the stride is neither 1 nor 2.
pub fn max_pool(pool: &Pool, input: &[f32], output: &mut [f32]) {
    pool.check(input, output);
    let [rows, columns] = pool.output_size();
    output
        .par_chunks_exact_mut(rows * columns)
        .zip(input.par_chunks_exact(pool.size[0] * pool.size[1]))
        .for_each(|(output, input)| {
            for (y, output) in output.chunks_exact_mut(columns).enumerate() {
                let [top, bottom] = pool.rows(input, y);
                if pool.stride == 1 {
                    for (x, value) in output.iter_mut().enumerate() {
                        *value =
                            larger(larger(top[x], top[x + 1]), larger(bottom[x], bottom[x + 1]));
                    }
                } else {
                    let windows = top.chunks_exact(2).zip(bottom.chunks_exact(2));
                    for (value, (top, bottom)) in output.iter_mut().zip(windows) {
                        *value = larger(larger(top[0], top[1]), larger(bottom[0], bottom[1]));
                    }
                }
            }
        });
}

/// Writes which of its window's four pixels (row by row) each output of [`max_pool`] was.
pub(crate) fn max_pool_winners(pool: &Pool, input: &[f32], winners: &mut [u8]) {
    let [rows, columns] = pool.output_size();
    winners
        .par_chunks_exact_mut(rows * columns)
        .zip(input.par_chunks_exact(pool.size[0] * pool.size[1]))
        .for_each(|(winners, input)| {
            for (y, winners) in winners.chunks_exact_mut(columns).enumerate() {
                let rows = pool.rows(input, y);
                for (x, winner) in winners.iter_mut().enumerate() {
                    *winner = first_largest(rows, x * pool.stride) as u8;
                }
            }
        });
}

/// Overwrites `input_gradient` with the gradient with respect to a convolution's output *before* the leaky ReLU and the pooling (stride
/// 2) after it.
///
/// `output` and `winners` are those of [`forward_max_pool`](crate::forward_max_pool), and of the length of `output_gradient`. Where
/// the output is not above 0 the gradient is multiplied by `slope`; all of it goes to the window's winner.
///
/// # Panics
/// When a length does not fit the sizes, or the stride is not 2.
pub fn activated_pool_gradient(
    pool: &Pool,
    output: &[f32],
    winners: &[u8],
    slope: f32,
    output_gradient: &[f32],
    input_gradient: &mut [f32],
) {
    pool.check(input_gradient, output_gradient);
    assert_eq!(
        pool.stride, 2,
        "winners are those of windows that do not overlap"
    );
    assert_eq!(output.len(), output_gradient.len());
    assert_eq!(winners.len(), output_gradient.len());
    let [rows, columns] = pool.output_size();
    let area = rows * columns;
    let width = pool.size[1];
    input_gradient
        .par_chunks_exact_mut(pool.size[0] * width)
        .enumerate()
        .for_each(|(plane, target)| {
            let of_plane = plane * area..(plane + 1) * area;
            let output = &output[of_plane.clone()];
            let winners = &winners[of_plane.clone()];
            let gradient = &output_gradient[of_plane];
            for (y, target) in target.chunks_exact_mut(2 * width).take(rows).enumerate() {
                let of_row = y * columns..(y + 1) * columns;
                let (output, winners) = (&output[of_row.clone()], &winners[of_row.clone()]);
                let gradient = &gradient[of_row];
                let (top, bottom) = target.split_at_mut(width);
                let windows = top.chunks_exact_mut(2).zip(bottom.chunks_exact_mut(2));
                let values = output.iter().zip(winners).zip(gradient);
                for ((top, bottom), ((output, winner), gradient)) in windows.zip(values) {
                    let gradient = if *output > 0.0 {
                        *gradient
                    } else {
                        *gradient * slope
                    };
                    let pixel = |place| if *winner == place { gradient } else { 0.0 };
                    top[0] = pixel(0);
                    top[1] = pixel(1);
                    bottom[0] = pixel(2);
                    bottom[1] = pixel(3);
                }
                // What the windows do not reach.
                if width > 2 * columns {
                    top[2 * columns] = 0.0;
                    bottom[2 * columns] = 0.0;
                }
            }
            target[2 * rows * width..].fill(0.0);
        });
}

/// Overwrites `input_gradient` with the gradient with respect to the pool's input: each window's gradient goes to its first
/// largest pixel (row by row, as in PyTorch) or its last NaN, and where windows overlap the gradients add up.
///
/// # Panics
/// As [`max_pool`].
pub fn max_pool_gradient(
    pool: &Pool,
    input: &[f32],
    output_gradient: &[f32],
    input_gradient: &mut [f32],
) {
    pool.check(input, output_gradient);
    pool.check(input_gradient, output_gradient);
    let [rows, columns] = pool.output_size();
    let width = pool.size[1];
    let plane = pool.size[0] * width;
    input_gradient
        .par_chunks_exact_mut(plane)
        .zip(input.par_chunks_exact(plane))
        .zip(output_gradient.par_chunks_exact(rows * columns))
        .for_each_init(
            || vec![0u32; columns],
            |winners, ((target, input), gradient)| {
                target.fill(0.0);
                for (y, gradient) in gradient.chunks_exact(columns).enumerate() {
                    let [top, bottom] = pool.rows(input, y);
                    for (x, winner) in winners.iter_mut().enumerate() {
                        *winner = first_largest([top, bottom], x * pool.stride);
                    }
                    // One place of the window after the other: within a pass no two windows meet.
                    for place in 0..4 {
                        let start = (y * pool.stride + place / 2) * width + place % 2;
                        let target = &mut target[start..];
                        let values = gradient.iter().zip(winners.iter());
                        if pool.stride == 1 {
                            for (target, (value, winner)) in target.iter_mut().zip(values) {
                                *target += if *winner == place as u32 { *value } else { 0.0 };
                            }
                        } else {
                            let target = target.iter_mut().step_by(2);
                            for (target, (value, winner)) in target.zip(values) {
                                *target += if *winner == place as u32 { *value } else { 0.0 };
                            }
                        }
                    }
                }
            },
        );
}

/// The larger of two, `a` of equals; NaN if one is.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if beats(b, a) { b } else { a }
}

/// Whether a pixel takes the place of the largest that came before it.
#[inline(always)]
fn beats(pixel: f32, before: f32) -> bool {
    // Both sides of the `|` are evaluated, which is what vectors can do.
    (pixel > before) | pixel.is_nan()
}

/// Which pixel of the window at the column `x` of two rows is the first of its largest, or the last NaN.
#[inline(always)]
pub(crate) fn first_largest([top, bottom]: [&[f32]; 2], x: usize) -> u32 {
    let above = first_larger((top[x], 0), (top[x + 1], 1));
    let below = first_larger((bottom[x], 2), (bottom[x + 1], 3));
    first_larger(above, below).1
}

#[inline(always)]
fn first_larger(a: (f32, u32), b: (f32, u32)) -> (f32, u32) {
    if beats(b.0, a.0) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_at_both_strides() {
        #[rustfmt::skip]
        let input = [
            1.0, 5.0, 2.0,
            4.0, 3.0, 2.0,
            0.0, 9.0, 2.0,
        ];
        for (stride, maxima, gradient) in [
            (
                2,
                vec![5.0],
                vec![0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            ),
            (
                1,
                vec![5.0, 5.0, 9.0, 9.0],
                vec![0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 7.0, 0.0],
            ),
        ] {
            let pool = Pool {
                planes: 1,
                size: [3, 3],
                stride,
            };
            let mut output = vec![0.0; maxima.len()];
            max_pool(&pool, &input, &mut output);
            assert_eq!(output, maxima);
            let incoming: Vec<f32> = (1..=maxima.len()).map(|value| value as f32).collect();
            let mut target = vec![f32::NAN; 9];
            max_pool_gradient(&pool, &input, &incoming, &mut target);
            assert_eq!(target, gradient);
        }
    }

    #[test]
    fn a_nan_anywhere_in_the_window_is_the_largest() {
        for (stride, size) in [(1, [2, 2]), (2, [2, 2]), (1, [5, 37]), (2, [5, 37])] {
            for place in 0..size[0] * size[1] {
                let mut input: Vec<f32> = (0..size[0] * size[1])
                    .map(|at| ((at * 7919) % 31) as f32 - 15.0)
                    .collect();
                input[place] = f32::NAN;
                let pool = Pool {
                    planes: 1,
                    size,
                    stride,
                };
                let [rows, columns] = pool.output_size();
                let mut output = vec![0.0; rows * columns];
                max_pool(&pool, &input, &mut output);
                let mut expected = 0.0;
                for (at, value) in output.iter().enumerate() {
                    let (top, left) = (at / columns * stride, at % columns * stride);
                    let touched = (top..top + 2).contains(&(place / size[1]))
                        && (left..left + 2).contains(&(place % size[1]));
                    assert_eq!(value.is_nan(), touched, "NaN at {place}, window {at}");
                    expected += f32::from(u8::from(touched));
                }
                let mut gradient = vec![f32::NAN; input.len()];
                max_pool_gradient(&pool, &input, &vec![1.0; output.len()], &mut gradient);
                assert_eq!(
                    gradient[place], expected,
                    "the gradient of a NaN at {place}"
                );
            }
        }
    }

    #[test]
    fn of_several_nans_the_last_wins() {
        for (window, winner) in [
            ([f32::NAN, 1.0, f32::NAN, 2.0], 2),
            ([f32::NAN; 4], 3),
            ([f32::NAN, f32::NAN, f32::INFINITY, 0.0], 1),
        ] {
            assert_eq!(first_largest([&window[..2], &window[2..]], 0), winner);
        }
    }

    #[test]
    fn equal_values_give_the_gradient_to_the_first() {
        let pool = Pool {
            planes: 2,
            size: [2, 2],
            stride: 2,
        };
        let mut target = [0.0; 8];
        max_pool_gradient(&pool, &[1.0; 8], &[3.0, 4.0], &mut target);
        assert_eq!(target, [3.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
    }
}
