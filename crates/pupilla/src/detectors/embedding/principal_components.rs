//! Principal component analysis: the directions in which descriptors vary, and how many of them are worth keeping.

use nalgebra::SymmetricEigen;
use pupilla_core::observer::{StopFlag, Stopped};

use super::covariance::{covariance, mean, noise, projected};
use super::matrix::Matrix;
use super::method::named;

/// A rotation onto the directions of the largest variance (Pearson 1901).
#[derive(Clone, Debug, PartialEq)]
pub struct PrincipalComponents {
    /// Subtracted first, `[columns]`.
    pub mean: Vec<f32>,
    /// One direction of length 1 a row, `[components, columns]`, the largest variance first.
    pub directions: Matrix,
}

impl PrincipalComponents {
    /// Names and shapes of its arrays in a model file, for these numbers of components and features.
    pub(super) fn layout(components: usize, channels: usize) -> [(String, Vec<usize>); 2] {
        [
            named("pca.mean", &[channels]),
            named("pca.directions", &[components, channels]),
        ]
    }

    /// The arrays, in the order of the layout.
    pub(super) fn arrays(&self) -> [&[f32]; 2] {
        [&self.mean, self.directions.values()]
    }

    /// From the arrays, in the order of the layout.
    pub(super) fn read(channels: usize, arrays: &mut dyn Iterator<Item = Vec<f32>>) -> Self {
        let mut next = || arrays.next().unwrap_or_default();
        Self {
            mean: next(),
            directions: Matrix::new(channels, next()),
        }
    }

    /// The fewest components that keep this share, in `(0, 1]`, of the rows' variance. Where nothing varies but by rounding, no
    /// direction is better than another, and all are kept. Mean and covariance are computed in 64 bits.
    ///
    /// # Panics
    /// If there is no row: a programming error.
    pub fn fit(rows: &Matrix, share: f64) -> Self {
        let columns = rows.columns();
        let mean = mean(rows);
        let covariance = covariance(rows, &mean);
        let SymmetricEigen {
            eigenvalues,
            eigenvectors,
        } = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&one, &other| eigenvalues[other].total_cmp(&eigenvalues[one]));
        let variance = |at: &usize| eigenvalues[*at].max(0.0);
        let total: f64 = order.iter().map(variance).sum();
        let varies = total > noise(&mean);
        let mut kept = 0.0;
        let mut directions = Vec::new();
        for at in &order {
            let column = eigenvectors.column(*at);
            // A direction may point either way: its largest number is positive, on every machine.
            let largest = column.iter().copied().fold(0.0f64, |largest, value| {
                if value.abs() > largest.abs() {
                    value
                } else {
                    largest
                }
            });
            let sign = if largest < 0.0 { -1.0 } else { 1.0 };
            directions.extend(column.iter().map(|value| (sign * value) as f32));
            kept += variance(at);
            // Rounding must not ask for one component more.
            if varies && kept >= share * total * (1.0 - 1e-12) {
                break;
            }
        }
        Self {
            mean: mean.iter().map(|&value| value as f32).collect(),
            directions: Matrix::new(columns, directions),
        }
    }

    /// The variance that rounding alone may give the rows, over all components.
    pub fn noise(&self) -> f64 {
        let mean: Vec<f64> = self.mean.iter().map(|&value| f64::from(value)).collect();
        noise(&mean)
    }

    /// Number of components.
    pub fn components(&self) -> usize {
        self.directions.rows()
    }

    /// The rows' components, `[rows, components]`.
    ///
    /// # Errors
    /// If `stop` is raised.
    pub fn apply(&self, rows: &Matrix, stop: &StopFlag) -> Result<Matrix, Stopped> {
        projected(rows, &self.mean, &self.directions, stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_space_has_one_component() {
        let values = (-5..6).flat_map(|at| [at as f32 * 3.0 + 1.0, at as f32 * 4.0 - 2.0, 7.0]);
        let rows = Matrix::new(3, values.collect());
        let found = PrincipalComponents::fit(&rows, 0.95);
        assert_eq!(found.components(), 1);
        for (found, expected) in found.directions.values().iter().zip([0.6, 0.8, 0.0]) {
            assert!((found - expected).abs() < 1e-6);
        }
        let along = found.apply(&rows, &StopFlag::default()).unwrap();
        for (at, value) in (-5..6).zip(along.values()) {
            assert!((value - 5.0 * at as f32).abs() < 1e-5);
        }
        assert_eq!(PrincipalComponents::fit(&rows, 1.0).components(), 1);
    }

    #[test]
    fn what_varies_by_rounding_alone_keeps_all_components() {
        for rows in [1, 2, 50] {
            let mut values = [0.5, -1.0, 3.0, 0.1].repeat(rows);
            values[2] += 4.0 * f32::EPSILON;
            let rows = Matrix::new(4, values);
            let found = PrincipalComponents::fit(&rows, 0.95);
            assert_eq!(found.components(), 4);
            assert!(
                found
                    .apply(&rows, &StopFlag::default())
                    .unwrap()
                    .values()
                    .iter()
                    .all(|value| value.abs() < 1e-6)
            );
        }
    }
}
