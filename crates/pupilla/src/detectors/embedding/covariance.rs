//! Mean and covariance of features, in 64 bits, and their products with directions.

use nalgebra::DMatrix;
use pupilla_core::observer::{StopFlag, Stopped};
use rayon::prelude::*;

use super::matrix::Matrix;

/// A deviation below this share of the mean is the rounding noise of 32-bit features: images that are all alike still have some.
pub(super) const NOISE: f64 = 1e-5;

/// Rows whose products are summed together: the order of all sums is fixed, whatever the threads.
const ROWS: usize = 1024;

/// Sums that are there at a time, each of them columns² numbers.
const SUMS: usize = 64;

/// The variance that rounding alone may give rows of this mean, over all columns.
pub(super) fn noise(mean: &[f64]) -> f64 {
    mean.iter().map(|mean| (NOISE * mean).powi(2)).sum()
}

/// The mean of each column.
///
/// # Panics
/// If there is no row: a programming error.
pub(super) fn mean(rows: &Matrix) -> Vec<f64> {
    let mut sums = vec![0.0f64; rows.columns()];
    for row in rows.iter() {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let count = rows.rows() as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// The variance of each column, divided by the number of rows.
pub(super) fn variances(rows: &Matrix, mean: &[f64]) -> Vec<f64> {
    let mut sums = vec![0.0f64; rows.columns()];
    for row in rows.iter() {
        for ((sum, value), mean) in sums.iter_mut().zip(row).zip(mean) {
            *sum += (f64::from(*value) - mean).powi(2);
        }
    }
    let count = rows.rows() as f64;
    sums.iter().map(|sum| sum / count).collect()
}

/// The covariance of the columns, divided by one less than the rows.
pub(super) fn covariance(rows: &Matrix, mean: &[f64]) -> DMatrix<f64> {
    let columns = rows.columns();
    let of_part = |rows: &[f32]| {
        let mut sums = vec![0.0f64; columns * columns];
        let mut centred = vec![0.0f64; columns];
        for row in rows.chunks_exact(columns) {
            for ((centred, value), mean) in centred.iter_mut().zip(row).zip(mean) {
                *centred = f64::from(*value) - mean;
            }
            // The upper half: the lower one mirrors it.
            for (at, (left, sums)) in centred
                .iter()
                .zip(sums.chunks_exact_mut(columns))
                .enumerate()
            {
                for (sum, right) in sums[at..].iter_mut().zip(&centred[at..]) {
                    *sum += left * right;
                }
            }
        }
        sums
    };
    let mut sums = vec![0.0f64; columns * columns];
    for rows in rows.values().chunks(SUMS * ROWS * columns) {
        let parts: Vec<Vec<f64>> = rows.par_chunks(ROWS * columns).map(of_part).collect();
        for part in parts {
            for (sum, value) in sums.iter_mut().zip(part) {
                *sum += value;
            }
        }
    }
    let divisor = rows.rows().saturating_sub(1).max(1) as f64;
    DMatrix::from_fn(columns, columns, |row, column| {
        sums[row.min(column) * columns + row.max(column)] / divisor
    })
}

/// The products of centred rows with each direction, `[rows, directions]`.
///
/// # Errors
/// If `stop` is raised.
///
/// # Panics
/// If the columns of the rows, the mean and the directions differ in number: a programming error.
pub(super) fn projected(
    rows: &Matrix,
    mean: &[f32],
    directions: &Matrix,
    stop: &StopFlag,
) -> Result<Matrix, Stopped> {
    let (columns, count) = (rows.columns(), directions.rows());
    let mut values = vec![0.0; rows.rows() * count];
    values
        .par_chunks_mut(ROWS * count)
        .zip(rows.values().par_chunks(ROWS * columns))
        .try_for_each(|(values, rows)| {
            stop.check()?;
            let centred: Vec<f32> = rows
                .chunks_exact(columns)
                .flat_map(|row| row.iter().zip(mean).map(|(value, mean)| value - mean))
                .collect();
            pupilla_conv::inner_products(columns, &centred, directions.values(), values);
            Ok(())
        })?;
    Ok(Matrix::new(count, values))
}
