//! The register tile of a matrix product.

use crate::simd::Isa;

/// Vectors in the rows of the largest register tile.
pub(crate) const ROW_VECTORS: usize = 3;

/// Floats of a cache line.
pub(crate) const LINE: usize = 16;

/// Operands of `product[j][row] (+)= Σ_k left[k][row] · right[k][j]`, for `vectors · LANES` rows.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Number of products to sum.
    pub(crate) inner: usize,
    /// `left[k]` starts at `left + k · left_stride`; its rows are contiguous.
    pub(crate) left: *const f32,
    pub(crate) left_stride: usize,
    /// `right[k][j]` stands at `right + k · right_strides[0] + j · right_strides[1]`.
    pub(crate) right: *const f32,
    pub(crate) right_strides: [usize; 2],
    /// `product[j]` starts at `product + j · product_stride`; its rows are contiguous.
    pub(crate) product: *mut f32,
    pub(crate) product_stride: usize,
    /// Whether to add to the product or to overwrite it.
    pub(crate) add: bool,
    /// What the next tile will read: a cache line is fetched ahead, at each of the two pointers, for each `k`.
    pub(crate) next: [*const f32; 2],
}

impl Tile {
    /// Multiplies a tile of `vectors` (1 to 3) times `columns` (4 or 8, at most [`Isa::COLUMNS`]).
    ///
    /// # Safety
    /// The processor has the instructions of `I`; all the elements of the operands are within their buffers.
    #[inline(always)]
    pub(crate) unsafe fn multiply<I: Isa>(self, vectors: usize, columns: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if I::COLUMNS == 8 && columns == 8 {
                match vectors {
                    1 => self.multiply_sized::<I, 1, 8>(),
                    2 => self.multiply_sized::<I, 2, 8>(),
                    _ => self.multiply_sized::<I, 3, 8>(),
                }
            } else {
                match vectors {
                    1 => self.multiply_sized::<I, 1, 4>(),
                    2 => self.multiply_sized::<I, 2, 4>(),
                    _ => self.multiply_sized::<I, 3, 4>(),
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_sized<I: Isa, const M: usize, const N: usize>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[I::splat(0.0); M]; N];
            let mut left = self.left;
            let mut right = self.right;
            let [mut next_left, mut next_right] = self.next;
            for _ in 0..self.inner {
                I::prefetch(next_left);
                I::prefetch(next_right);
                next_left = next_left.wrapping_add(LINE);
                next_right = next_right.wrapping_add(LINE);
                let mut rows = [I::splat(0.0); M];
                for (m, row) in rows.iter_mut().enumerate() {
                    *row = I::load(left.add(m * I::LANES));
                }
                for (n, sums) in sums.iter_mut().enumerate() {
                    let factor = I::splat(*right.add(n * self.right_strides[1]));
                    for (sum, row) in sums.iter_mut().zip(rows) {
                        *sum = I::mul_add(row, factor, *sum);
                    }
                }
                left = left.wrapping_add(self.left_stride);
                right = right.wrapping_add(self.right_strides[0]);
            }
            for (n, sums) in sums.iter().enumerate() {
                for (m, sum) in sums.iter().enumerate() {
                    let place = self.product.add(n * self.product_stride + m * I::LANES);
                    if self.add {
                        I::store(place, I::add(I::load(place), *sum));
                    } else {
                        I::store(place, *sum);
                    }
                }
            }
        }
    }
}
