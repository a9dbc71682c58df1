//! Large matrix products, by the crate `gemm-f32`.

use gemm_common::Parallelism;
use gemm_f32::gemm::f32::get_gemm_fn;

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
    // The kernels write columns: the transposed product of the exchanged, transposed operands is the same. So `gemm` does it.
    let mut sizes = [rows, columns];
    let mut strides = [1, columns as isize];
    let mut operands = [left, right];
    if columns > 1 {
        sizes.reverse();
        strides.reverse();
        operands = [right.transposed(), left.transposed()];
    }
    let [left, right] = operands;
    // SAFETY: the last element of each matrix lies within its slice (checked above), `product` is borrowed mutably
    // and so overlaps neither operand.
    unsafe {
        get_gemm_fn()(
            sizes[0],
            sizes[1],
            inner,
            product.as_mut_ptr(),
            strides[0],
            strides[1],
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
