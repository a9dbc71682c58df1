//! How the dimensions of descriptors correlate.

use pupilla_nn::Tensor;
use rayon::prelude::*;

/// Sums over descriptors, which tell how their dimensions correlate over all batches: those of one batch of few patches correlate by
/// chance.
pub(super) struct Products {
    rows: f64,
    /// `[dimensions]`
    sums: Vec<f64>,
    /// `[dimensions, dimensions]`, those on the diagonal and right of it.
    products: Vec<f64>,
}

impl Products {
    /// Empty sums, for descriptors of this length.
    pub fn new(dimensions: usize) -> Self {
        Self {
            rows: 0.0,
            sums: vec![0.0; dimensions],
            products: vec![0.0; dimensions * dimensions],
        }
    }

    /// Adds descriptors, `[windows, dimensions, rows, columns]`.
    pub fn add(&mut self, descriptors: &Tensor) {
        let (dimensions, area) = (self.sums.len(), descriptors.area());
        self.rows += (descriptors.shape()[0] * area) as f64;
        self.products
            .par_chunks_mut(dimensions)
            .zip(&mut self.sums)
            .enumerate()
            .for_each(|(first, (products, sum))| {
                for window in descriptors.values().chunks_exact(dimensions * area) {
                    let planes = &window[first * area..];
                    let own = &planes[..area];
                    *sum += own.iter().map(|&value| f64::from(value)).sum::<f64>();
                    let products = products[first..].iter_mut();
                    for (product, other) in products.zip(planes.chunks_exact(area)) {
                        *product += dot(own, other);
                    }
                }
            });
    }

    /// Mean of each dimension.
    pub fn means(&self) -> Vec<f64> {
        let rows = self.rows.max(1.0);
        self.sums.iter().map(|sum| sum / rows).collect()
    }

    /// The covariance of two dimensions times the number of descriptors.
    pub fn covariance(&self, one: usize, other: usize) -> f64 {
        let (first, second) = (one.min(other), one.max(other));
        self.products[first * self.sums.len() + second]
            - self.sums[first] * self.sums[second] / self.rows.max(1.0)
    }

    /// The correlation matrix of the dimensions; one that does not vary correlates with none.
    pub fn correlation(&self) -> Vec<f32> {
        let count = self.sums.len();
        // Below the rounding of sums of 32-bit numbers there is no variance.
        let scale = |a: usize| match self.covariance(a, a) {
            variance if variance > 1e-10 * self.products[a * count + a] => variance.sqrt().recip(),
            _ => 0.0,
        };
        let scales: Vec<f64> = (0..count).map(scale).collect();
        let places = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let correlations = places.map(|(a, b)| self.covariance(a, b) * (scales[a] * scales[b]));
        correlations
            .map(|correlation| correlation.clamp(-1.0, 1.0) as f32)
            .collect()
    }
}

/// The sum of products, in lanes that the compiler can add at once.
fn dot(one: &[f32], other: &[f32]) -> f64 {
    let (chunks, rest) = one.as_chunks::<8>();
    let (other_chunks, other_rest) = other.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (one, other) in chunks.iter().zip(other_chunks) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(one.iter().zip(other)) {
            *lane += f64::from(a) * f64::from(b);
        }
    }
    let rest = rest.iter().zip(other_rest);
    let rest: f64 = rest.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Mean absolute value of a square matrix beside its diagonal.
pub(super) fn mean_off_diagonal(matrix: &[f32]) -> f64 {
    let count = matrix.len().isqrt();
    let beside = matrix
        .iter()
        .enumerate()
        .filter(|(at, _)| at / count != at % count);
    let total: f64 = beside.map(|(_, value)| f64::from(value.abs())).sum();
    total / (count * (count - 1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_over_batches_is_that_of_all_rows() {
        let (rows, dimensions) = (27, 5);
        // The third dimension does not vary; the last is the first, turned round.
        let number = |row: usize, column: usize| match column {
            2 => 0.5,
            4 => -((row * 7 % 12) as f32),
            _ => {
                ((row * 7 % 12) as f32).powi(column as i32 + 1)
                    + (row % (column + 2)) as f32 * f32::from(column != 0)
            }
        };
        // Rows are the positions of windows of a row each.
        let batch = |first: usize, windows: usize, area: usize| {
            let mut values = Vec::new();
            for window in 0..windows {
                let rows = || (0..area).map(|at| first + window * area + at);
                for column in 0..dimensions {
                    values.extend(rows().map(|row| number(row, column)));
                }
            }
            Tensor::new(values, [windows, dimensions, 1, area])
        };
        let mut products = Products::new(dimensions);
        assert_eq!(products.correlation(), [0.0; 25]);
        for (first, windows, area) in [(0, 2, 2), (4, 1, 19), (23, 2, 2)] {
            products.add(&batch(first, windows, area));
        }
        let found = products.correlation();
        let expected: Vec<f64> = (0..25)
            .map(|at| {
                let centred = |column: usize| -> Vec<f64> {
                    let line: Vec<f64> = (0..rows).map(|row| number(row, column).into()).collect();
                    let mean = line.iter().sum::<f64>() / rows as f64;
                    line.iter().map(|value| value - mean).collect()
                };
                let product = |one: &[f64], other: &[f64]| -> f64 {
                    one.iter().zip(other).map(|(a, b)| a * b).sum()
                };
                let (one, other) = (centred(at / dimensions), centred(at % dimensions));
                let norm = (product(&one, &one) * product(&other, &other)).sqrt();
                if norm > 0.0 {
                    product(&one, &other) / norm
                } else {
                    0.0
                }
            })
            .collect();
        for (found, expected) in found.iter().zip(&expected) {
            let apart = (f64::from(*found) - expected).abs();
            assert!(apart < 1e-6, "{found} and {expected}");
        }
        let beside = |at: &usize| at / dimensions != at % dimensions;
        let total: f64 = (0..25).filter(beside).map(|at| expected[at].abs()).sum();
        let mean = mean_off_diagonal(&found);
        assert!((mean - total / 20.0).abs() < 1e-6, "{mean}");
    }
}
