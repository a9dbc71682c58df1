//! From a covariance to the map in which its vectors have variance 1 in every direction.

use nalgebra::{Cholesky, DMatrix};

/// `L⁻¹` of `Σ = L Lᵀ`, lower triangular: the Mahalanobis distance is the length of `L⁻¹ (x − μ)`. `None` if the covariance cannot be
/// inverted, or a number of the result is too large for 32 bits.
pub(crate) fn inverse_factor(covariance: DMatrix<f64>) -> Option<DMatrix<f64>> {
    let count = covariance.nrows();
    let factor = Cholesky::new(covariance)?.unpack();
    let inverse = factor.solve_lower_triangular(&DMatrix::identity(count, count))?;
    let fits = inverse.iter().all(|&value| (value as f32).is_finite());
    fits.then_some(inverse)
}
