//! Large matrix products, by the `gemm` crate.

use gemm::Parallelism;

/// A matrix within a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    pub(crate) fn row_major(values: &'a [f32], row_stride: usize) -> Self {
        Self {
            values,
            row_stride,
            column_stride: 1,
        }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn check(&self, rows: usize, columns: usize) {
        assert!(
            (rows - 1) * self.row_stride + (columns - 1) * self.column_stride < self.values.len()
        );
    }
}

/// `product (+)= left · right`, with `[rows, columns, inner]` sizes (all positive) and a row-major product.
pub(crate) fn multiply(
    [rows, columns, inner]: [usize; 3],
    product: &mut [f32],
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: bool,
) {
    assert_eq!(product.len(), rows * columns);
    left.check(rows, inner);
    right.check(inner, columns);
    // SAFETY: the last element of each matrix lies within its slice (checked above), `product` is borrowed mutably
    // and so overlaps neither operand.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            product.as_mut_ptr(),
            1,
            columns as isize,
            add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
