//! One-dimensional transforms of vectors, unrolled from their matrices at compile time.

use std::mem::MaybeUninit;

use super::points::{self, MAX, Matrix};
use crate::simd::Isa;

/// Repeats a block for the constant index 0, 1, … below a bound of at most nine.
macro_rules! unrolled {
    ($index:ident < $bound:expr, $block:block) => {
        unrolled!(@ $index, $bound, $block, 0 1 2 3 4 5 6 7 8);
    };
    (@ $index:ident, $bound:expr, $block:block, $($value:literal)*) => {
        $({
            const $index: usize = $value;
            if $index < $bound $block
        })*
    };
}
pub(super) use unrolled;

/// A transform known at compile time.
pub(super) trait Transform {
    const ROWS: usize;
    const COLUMNS: usize;
    const MATRIX: Matrix;
}

/// Bᵀ of the kernel length `R`.
pub(super) struct Input<const R: usize>;
/// G of the kernel length `R`.
pub(super) struct Filter<const R: usize>;
/// Aᵀ of the kernel length `R`.
pub(super) struct Output<const R: usize>;
/// G′ of the kernel length `R`.
pub(super) struct Gradient<const R: usize>;
/// A′ᵀ of the kernel length `R`.
pub(super) struct FilterGradient<const R: usize>;

impl<const R: usize> Transform for Input<R> {
    const ROWS: usize = R + 3;
    const COLUMNS: usize = R + 3;
    const MATRIX: Matrix = points::input(R + 3);
}

impl<const R: usize> Transform for Filter<R> {
    const ROWS: usize = R + 3;
    const COLUMNS: usize = R;
    const MATRIX: Matrix = points::filter(R + 3, R);
}

impl<const R: usize> Transform for Output<R> {
    const ROWS: usize = 4;
    const COLUMNS: usize = R + 3;
    const MATRIX: Matrix = points::output(R + 3, 4);
}

impl<const R: usize> Transform for Gradient<R> {
    const ROWS: usize = R + 3;
    const COLUMNS: usize = 4;
    const MATRIX: Matrix = points::plain_filter(R + 3, 4);
}

impl<const R: usize> Transform for FilterGradient<R> {
    const ROWS: usize = R;
    const COLUMNS: usize = R + 3;
    const MATRIX: Matrix = points::normalised_output(R + 3, R);
}

/// Rows of vectors between the vertical and the horizontal transform. An array would be filled with zeros first, which costs
/// as much as a transform.
pub(super) struct Rows<I: Isa, const ROWS: usize>([[MaybeUninit<I::V>; MAX]; ROWS]);

impl<I: Isa, const ROWS: usize> Rows<I, ROWS> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([[MaybeUninit::uninit(); MAX]; ROWS])
    }

    /// Sets one column of the rows.
    #[inline(always)]
    pub(super) fn set_column(&mut self, column: usize, values: &[I::V; MAX]) {
        let mut row = 0;
        while row < ROWS {
            self.0[row][column].write(values[row]);
            row += 1;
        }
    }

    /// The first `columns` vectors of a row, and zeros.
    ///
    /// # Safety
    /// These columns have been set; the processor has the instructions of `I`.
    #[inline(always)]
    pub(super) unsafe fn row(&self, row: usize, columns: usize) -> [I::V; MAX] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut values = [I::splat(0.0); MAX];
            unrolled!(J < MAX, {
                if J < columns {
                    values[J] = self.0[row][J].assume_init();
                }
            });
            values
        }
    }
}

/// `sum + factor · x`, where no sum yet is zero.
#[inline(always)]
unsafe fn term<I: Isa>(sum: Option<I::V>, factor: f32, x: I::V) -> Option<I::V> {
    // SAFETY: the caller promises that the processor has the instructions of `I`.
    unsafe {
        Some(match sum {
            None if factor == 1.0 => x,
            None => I::mul(x, I::splat(factor)),
            Some(sum) if factor == 1.0 => I::add(sum, x),
            Some(sum) if factor == -1.0 => I::sub(sum, x),
            Some(sum) => I::mul_add(x, I::splat(factor), sum),
        })
    }
}

/// `MATRIX · x` for a transform whose *rows* belong to the points (Bᵀ, G, G′).
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline(always)]
pub(super) unsafe fn to_points<I: Isa, T: Transform>(x: &[I::V; MAX]) -> [I::V; MAX] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [I::splat(0.0); MAX];
        let first = (T::ROWS - 1) % 2;
        if first == 1 {
            y[0] = row::<I, T>(0, x);
        }
        y[T::ROWS - 1] = row::<I, T>(T::ROWS - 1, x);
        unrolled!(P < (T::ROWS - 1) / 2, {
            let (plus, minus) = (first + 2 * P, first + 2 * P + 1);
            let (mut even, mut odd) = (None, None);
            unrolled!(J < T::COLUMNS, {
                let factor = T::MATRIX[plus][J];
                if factor != 0.0 {
                    if T::MATRIX[minus][J] == factor {
                        even = term::<I>(even, factor, x[J]);
                    } else {
                        odd = term::<I>(odd, factor, x[J]);
                    }
                }
            });
            let even = even.unwrap_or(I::splat(0.0));
            let odd = odd.unwrap_or(I::splat(0.0));
            y[plus] = I::add(even, odd);
            y[minus] = I::sub(even, odd);
        });
        y
    }
}

#[inline(always)]
unsafe fn row<I: Isa, T: Transform>(i: usize, x: &[I::V; MAX]) -> I::V {
    // SAFETY: the caller promises that the processor has the instructions of `I`.
    unsafe {
        let mut sum = None;
        unrolled!(J < T::COLUMNS, {
            if T::MATRIX[i][J] != 0.0 {
                sum = term::<I>(sum, T::MATRIX[i][J], x[J]);
            }
        });
        sum.unwrap_or(I::splat(0.0))
    }
}

/// `MATRIX · x` for a transform whose *columns* belong to the points (Aᵀ, A′ᵀ).
///
/// # Safety
/// The processor has the instructions of `I`.
#[inline(always)]
pub(super) unsafe fn from_points<I: Isa, T: Transform>(x: &[I::V; MAX]) -> [I::V; MAX] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = [I::splat(0.0); MAX];
        let first = (T::COLUMNS - 1) % 2;
        let mut sums = [I::splat(0.0); MAX];
        let mut differences = [I::splat(0.0); MAX];
        unrolled!(P < (T::COLUMNS - 1) / 2, {
            sums[P] = I::add(x[first + 2 * P], x[first + 2 * P + 1]);
            differences[P] = I::sub(x[first + 2 * P], x[first + 2 * P + 1]);
        });
        unrolled!(K < T::ROWS, {
            let mut sum = None;
            if first == 1 && T::MATRIX[K][0] != 0.0 {
                sum = term::<I>(sum, T::MATRIX[K][0], x[0]);
            }
            unrolled!(P < (T::COLUMNS - 1) / 2, {
                let factor = T::MATRIX[K][first + 2 * P];
                let part = if T::MATRIX[K][first + 2 * P + 1] == factor {
                    sums[P]
                } else {
                    differences[P]
                };
                sum = term::<I>(sum, factor, part);
            });
            if T::MATRIX[K][T::COLUMNS - 1] != 0.0 {
                sum = term::<I>(sum, T::MATRIX[K][T::COLUMNS - 1], x[T::COLUMNS - 1]);
            }
            y[K] = sum.unwrap_or(I::splat(0.0));
        });
        y
    }
}
