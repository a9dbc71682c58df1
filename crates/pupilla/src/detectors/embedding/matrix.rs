//! Features in memory: a row for each position or entry.

use std::ops::Range;

/// `[rows, columns]`, row-major; at least one column.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Wraps `values`, `[rows, columns]`.
    ///
    /// # Panics
    /// If there is no column, or the last row is not whole: a programming error.
    pub fn new(columns: usize, values: Vec<f32>) -> Self {
        assert!(
            columns > 0 && values.len().is_multiple_of(columns),
            "[rows, columns]"
        );
        Self { columns, values }
    }

    /// From planes, `[columns, rows]`.
    pub fn transposed(planes: &[f32], columns: usize) -> Self {
        let rows = planes.len() / columns;
        let mut values = vec![0.0; planes.len()];
        for (column, plane) in planes.chunks_exact(rows.max(1)).enumerate() {
            for (row, value) in plane.iter().enumerate() {
                values[row * columns + column] = *value;
            }
        }
        Self::new(columns, values)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.columns..][..self.columns]
    }

    /// The rows, one after the other.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.columns)
    }

    /// The rows with these indices.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let chosen = rows.iter().flat_map(|&row| self.row(row));
        Self::new(self.columns, chosen.copied().collect())
    }

    /// Some columns of all rows.
    #[must_use]
    pub fn columns_in(&self, range: Range<usize>) -> Self {
        let mut values = Vec::with_capacity(self.rows() * range.len());
        for row in self.iter() {
            values.extend_from_slice(&row[range.clone()]);
        }
        Self::new(range.len(), values)
    }

    /// Each column times its weight.
    #[must_use]
    pub fn weighted(mut self, weights: &[f32]) -> Self {
        for row in self.values.chunks_exact_mut(self.columns) {
            for (value, weight) in row.iter_mut().zip(weights) {
                *value *= weight;
            }
        }
        self
    }

    /// Its values, without a copy.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// The squared Euclidean distance of two rows, summed in eight parts, which the compiler turns into vectors.
pub(super) fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (left, left_rest) = left.as_chunks::<8>();
    let (right, right_rest) = right.as_chunks::<8>();
    for (left, right) in left.iter().zip(right) {
        for at in 0..8 {
            let difference = left[at] - right[at];
            sums[at] += difference * difference;
        }
    }
    let rest = left_rest.iter().zip(right_rest);
    let rest: f32 = rest.map(|(left, right)| (left - right).powi(2)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_planes_are_the_same_numbers() {
        let matrix = Matrix::transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2);
        assert_eq!(matrix.values(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!((matrix.rows(), matrix.columns()), (3, 2));
        assert_eq!(matrix.columns_in(1..2).values(), [4.0, 5.0, 6.0]);
        assert_eq!(matrix.select(&[2, 0]).values(), [3.0, 6.0, 1.0, 4.0]);
    }

    proptest::proptest! {
        #[test]
        fn distances_are_sums_of_squares(pairs in proptest::collection::vec((-9.0f32..9.0, -9.0f32..9.0), 0..40)) {
            let (left, right): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let expected: f64 = pairs.iter().map(|(left, right)| (f64::from(*left) - f64::from(*right)).powi(2)).sum();
            let found = f64::from(squared_distance(&left, &right));
            proptest::prop_assert!((found - expected).abs() <= 1e-5 * expected.max(1.0));
        }
    }
}
