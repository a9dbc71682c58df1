//! The inner products of all rows of two matrices.

use crate::matrix::{Matrix, multiply};

/// Computes `products[i][j] = Σₖ left[i][k] · right[j][k]` on the calling thread, overwriting `products`.
///
/// # Shapes
/// - `left`: `[rows, inner]`, `right`: `[columns, inner]`, both row-major
/// - `products`: `[rows, columns]`
///
/// # Panics
/// When `inner` is 0, or the length of a slice is not the one that the others demand.
pub fn inner_products(inner: usize, left: &[f32], right: &[f32], products: &mut [f32]) {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    assert_eq!(
        [left.len(), right.len(), products.len()],
        [rows * inner, columns * inner, rows * columns],
        "[rows, inner], [columns, inner] and [rows, columns]"
    );
    if products.is_empty() {
        return;
    }
    multiply(
        [rows, columns, inner],
        products,
        Matrix::row_major(left, inner),
        Matrix::row_major(right, inner).transposed(),
        false,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_meets_every_row() {
        let left = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let right = [1.0, 0.0, -1.0, 0.5, 0.5, 0.5, 0.0, 2.0, 0.0];
        let mut products = [f32::NAN; 6];
        inner_products(3, &left, &right, &mut products);
        assert_eq!(products, [-2.0, 3.0, 4.0, -2.0, 7.5, 10.0]);
        inner_products(3, &[], &right, &mut []);
    }
}
