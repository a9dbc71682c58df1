//! Interpolation points and the transforms that they generate.
//!
//! F(m, r) needs n = m + r − 1 points. One is ∞; the others are 0 (when their number is odd) and pairs ±a, because the
//! rows of a pair differ only in the signs of every second term and so share their products. Small integers and their
//! reciprocals keep the entries, and with them the growth of rounding errors, small (Barabasz et al., 2018).

/// Largest number of points: that of a 6×6 kernel.
pub(crate) const MAX: usize = 9;

/// A transform of up to nine values into up to nine.
pub(crate) type Matrix = [[f32; MAX]; MAX];

/// The positive points of the pairs for `n` points, of those tried the ones with the smallest rms error of F(4×4, r×r).
const fn pairs(n: usize) -> [f64; 4] {
    match n {
        5 => [0.5, 1.25, 0.0, 0.0],
        6 => [0.625, 1.5, 0.0, 0.0],
        7 => [0.25, 1.0, 1.6, 0.0],
        8 => [0.5, 1.0, 2.0, 0.0],
        _ => [0.25, 2.0 / 3.0, 1.25, 2.0],
    }
}

/// The finite points: 0 if there is an odd number of them, then ±a for each pair.
const fn finite(n: usize) -> [f64; MAX] {
    let mut points = [0.0; MAX];
    let first = (n - 1) % 2;
    let mut pair = 0;
    while first + 2 * pair < n - 1 {
        points[first + 2 * pair] = pairs(n)[pair];
        points[first + 2 * pair + 1] = -pairs(n)[pair];
        pair += 1;
    }
    points
}

/// Values of a polynomial with `columns` coefficients at the `n` points (the last is ∞: the leading coefficient).
const fn evaluation(n: usize, columns: usize, normalised: bool) -> [[f64; MAX]; MAX] {
    let points = finite(n);
    let mut matrix = [[0.0; MAX]; MAX];
    let mut i = 0;
    while i < n - 1 {
        let mut scale = 1.0;
        if normalised {
            let mut k = 0;
            while k < n - 1 {
                if k != i {
                    scale /= points[i] - points[k];
                }
                k += 1;
            }
        }
        let mut j = 0;
        while j < columns {
            matrix[i][j] = scale;
            scale *= points[i];
            j += 1;
        }
        i += 1;
    }
    matrix[n - 1][columns - 1] = 1.0;
    matrix
}

const fn rounded(matrix: [[f64; MAX]; MAX], transposed: bool) -> Matrix {
    let mut result = [[0.0; MAX]; MAX];
    let mut i = 0;
    while i < MAX {
        let mut j = 0;
        while j < MAX {
            result[i][j] = if transposed {
                matrix[j][i]
            } else {
                matrix[i][j]
            } as f32;
            j += 1;
        }
        i += 1;
    }
    result
}

/// Bᵀ, n×n: row i holds the coefficients of Π (x − aₖ) over the other finite points (over all of them for ∞).
pub(crate) const fn input(n: usize) -> Matrix {
    let points = finite(n);
    let mut matrix = [[0.0; MAX]; MAX];
    let mut i = 0;
    while i < n {
        matrix[i][0] = 1.0;
        let mut degree = 0;
        let mut k = 0;
        while k < n - 1 {
            if k != i {
                // Multiply by (x − aₖ), from the leading coefficient down.
                degree += 1;
                let mut j = degree;
                while j > 0 {
                    matrix[i][j] = matrix[i][j - 1] - points[k] * matrix[i][j];
                    j -= 1;
                }
                matrix[i][0] *= -points[k];
            }
            k += 1;
        }
        i += 1;
    }
    rounded(matrix, false)
}

/// G, n×length: the weight's transform, with the normalisation that Bᵀ leaves out.
pub(crate) const fn filter(n: usize, length: usize) -> Matrix {
    rounded(evaluation(n, length, true), false)
}

/// G′, n×length: the transform of an output gradient's tile; the normalisation is left to the weight's side.
pub(crate) const fn plain_filter(n: usize, length: usize) -> Matrix {
    rounded(evaluation(n, length, false), false)
}

/// Aᵀ, length×n: from products to outputs.
pub(crate) const fn output(n: usize, length: usize) -> Matrix {
    rounded(evaluation(n, length, false), true)
}

/// A′ᵀ, length×n: from products to the weight's gradient.
pub(crate) const fn normalised_output(n: usize, length: usize) -> Matrix {
    rounded(evaluation(n, length, true), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Aᵀ[(G g) ⊙ (Bᵀ d)]` is the valid correlation of `d` with `g`, for both splits of the normalisation.
    #[test]
    fn one_dimensional_correlation() {
        for r in 2..=6 {
            let n = r + 3;
            for (m, r, g, a) in [
                (4, r, filter(n, r), output(n, 4)),
                (r, 4, plain_filter(n, 4), normalised_output(n, r)),
            ] {
                let b = input(n);
                let d: Vec<f64> = (0..n).map(|i| (i as f64 * 1.7).sin()).collect();
                let w: Vec<f64> = (0..r).map(|i| (i as f64 * 2.3).cos()).collect();
                let dot = |row: &[f32; MAX], x: &[f64]| -> f64 {
                    row.iter().zip(x).map(|(a, b)| f64::from(*a) * b).sum()
                };
                let products: Vec<f64> = (0..n).map(|i| dot(&g[i], &w) * dot(&b[i], &d)).collect();
                for k in 0..m {
                    let expected: f64 = (0..r).map(|j| d[k + j] * w[j]).sum();
                    assert!(
                        (dot(&a[k], &products) - expected).abs() < 2e-5,
                        "F({m}, {r})"
                    );
                }
            }
        }
    }
}
