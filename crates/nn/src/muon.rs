//! Muon (Jordan et al. 2024): a step takes only the directions of the momentum's matrix, all with the same length.
//!
//! A kernel `[out, in, height, width]` is the matrix `[out, in · height · width]`. The published iteration multiplies this large matrix
//! ten times a step. Here the iteration runs on the small square matrix of its products, and only two multiplications use the large
//! matrix.

use rayon::prelude::*;

/// Coefficients of the quintic Newton–Schulz iteration (Jordan et al. 2024): singular values from 0.003 to 1 end
/// between 0.7 and 1.2 after five rounds.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
const ROUNDS: usize = 5;

/// The smallest divisor: a gradient of zeros stays a gradient of zeros.
const SMALLEST_NORM: f64 = 1e-7;

/// The share of the gradients before that a step keeps, after Nesterov.
const MOMENTUM: f32 = 0.95;

/// One step of a matrix of `rows` rows; weight decay shrinks the weights by its product with the learning rate.
pub(crate) fn step(
    [rate, weight_decay]: [f64; 2],
    rows: usize,
    values: &mut [f32],
    gradient: &[f32],
    momentum: &mut [f32],
) {
    let mut matrix = Vec::with_capacity(values.len());
    for (momentum, gradient) in momentum.iter_mut().zip(gradient) {
        *momentum = MOMENTUM * *momentum + gradient;
        matrix.push(MOMENTUM * *momentum + gradient);
    }
    let columns = values.len() / rows;
    let directions = orthogonal(matrix, rows);
    // Moves a weight as far as Adam does, by about the fifth of its rate (Liu et al. 2025).
    let scale = 0.2 * (rows.max(columns) as f64).sqrt();
    let kept = (1.0 - rate * weight_decay) as f32;
    let moved = (rate * scale) as f32;
    for (value, direction) in values.iter_mut().zip(directions) {
        *value = kept * *value - moved * direction;
    }
}

/// A matrix of the same singular vectors, with all singular values about 1.
///
/// The iteration `X ← aX + b(XXᵀ)X + c(XXᵀ)²X` multiplies `X` from the left by a polynomial of the square `S = XXᵀ`, and
/// `S` by that polynomial twice, so that `S` alone has to be followed.
fn orthogonal(mut matrix: Vec<f32>, rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    if rows > columns {
        let turned = orthogonal(transposed(&matrix, columns), columns);
        return transposed(&turned, rows);
    }
    let squares = matrix
        .iter()
        .map(|&value| f64::from(value) * f64::from(value));
    let norm = squares.sum::<f64>().sqrt().max(SMALLEST_NORM);
    let factor = (1.0 / norm) as f32;
    matrix.iter_mut().for_each(|value| *value *= factor);
    let [a, b, c] = COEFFICIENTS;
    // All of these are polynomials of `S`: symmetric, so that products with their transposes are products.
    let polynomial = |square: &[f32]| {
        let mut result = products(rows, square, square);
        for (at, (result, square)) in result.iter_mut().zip(square).enumerate() {
            let of_identity = if at % (rows + 1) == 0 { a } else { 0.0 };
            *result = of_identity + b * square + c * *result;
        }
        result
    };
    let mut square = products(columns, &matrix, &matrix);
    let mut last = polynomial(&square);
    let mut factor = last.clone();
    for _ in 1..ROUNDS {
        square = products(rows, &products(rows, &last, &square), &last);
        last = polynomial(&square);
        factor = products(rows, &last, &factor);
    }
    products(rows, &factor, &transposed(&matrix, columns))
}

/// The inner products of all rows of two matrices, of `inner` columns each.
fn products(inner: usize, left: &[f32], right: &[f32]) -> Vec<f32> {
    let (rows, columns) = (left.len() / inner, right.len() / inner);
    let mut result = vec![0.0; rows * columns];
    let share = rows.div_ceil(rayon::current_num_threads());
    result
        .par_chunks_mut(share * columns)
        .zip(left.par_chunks(share * inner))
        .for_each(|(result, left)| pupilla_conv::inner_products(inner, left, right, result));
    result
}

/// The transpose of a matrix with `columns` columns.
fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    /// Side of the blocks that are turned at once, so that few cache lines are touched twice.
    const BLOCK: usize = 16;
    let rows = matrix.len() / columns;
    let mut turned = vec![0.0; matrix.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..rows.min(top + BLOCK) {
                for column in left..columns.min(left + BLOCK) {
                    turned[column * rows + row] = matrix[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `[rows, inner]` times `[inner, columns]`, one sum at a time in `f64`.
    fn product(inner: usize, left: &[f64], right: &[f64]) -> Vec<f64> {
        let (rows, columns) = (left.len() / inner, right.len() / inner);
        let sum = |row: usize, column: usize| {
            let terms = (0..inner).map(|k| left[row * inner + k] * right[k * columns + column]);
            terms.sum::<f64>()
        };
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.map(|(row, column)| sum(row, column)).collect()
    }

    /// The iteration as Jordan et al. write it, on the matrix itself.
    fn slow(matrix: &[f32], rows: usize) -> Vec<f64> {
        let columns = matrix.len() / rows;
        let norm = matrix.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        let mut x: Vec<f64> = matrix.iter().map(|&v| f64::from(v) / norm).collect();
        for _ in 0..5 {
            let turned: Vec<f64> = (0..columns)
                .flat_map(|column| (0..rows).map(move |row| (row, column)))
                .map(|(row, column)| x[row * columns + column])
                .collect();
            let square = product(columns, &x, &turned);
            let fourth = product(rows, &square, &square);
            let second = product(rows, &square, &x);
            let third = product(rows, &fourth, &x);
            for at in 0..x.len() {
                x[at] = 3.4445 * x[at] - 4.7750 * second[at] + 2.0315 * third[at];
            }
        }
        x
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn directions_are_those_of_the_published_iteration(
            rows in 1usize..24, columns in 1usize..24, seed in 0u32..1000,
        ) {
            let matrix: Vec<f32> = (0..rows * columns)
                .map(|at| ((at as f32 + 1.0) * (1.3 + seed as f32)).sin())
                .collect();
            let found = orthogonal(matrix.clone(), rows);
            for (found, expected) in found.iter().zip(slow(&matrix, rows)) {
                prop_assert!((f64::from(*found) - expected).abs() < 2e-3, "{found}, {expected}");
            }
        }
    }

    #[test]
    fn steps_have_momentum_decay_and_a_scale() {
        // A matrix of one number: its direction is the same whatever its size.
        let direction = f64::from(orthogonal(vec![1.0], 1)[0]);
        let (mut value, mut momentum) = ([2.0f32], [0.0f32]);
        step([0.1, 0.5], 1, &mut value, &[3.0], &mut momentum);
        assert_eq!(momentum, [3.0]);
        let expected = 2.0 * 0.95 - 0.1 * 0.2 * direction;
        assert!((f64::from(value[0]) - expected).abs() < 1e-6, "{value:?}");
        // 0.95 · (0.95 · 3 − 6) − 6 is below 0: the next step goes the other way.
        step([0.1, 0.0], 1, &mut value, &[-6.0], &mut momentum);
        assert!((momentum[0] + 3.15).abs() < 1e-6);
        assert!((f64::from(value[0]) - expected - 0.02 * direction).abs() < 1e-6);
    }

    #[test]
    fn a_gradient_of_zeros_leaves_the_weights() {
        let mut values = [1.0, 2.0];
        step([0.1, 0.0], 1, &mut values, &[0.0, 0.0], &mut [0.0, 0.0]);
        assert_eq!(values, [1.0, 2.0]);
    }

    #[test]
    fn a_matrix_is_turned() {
        let matrix: Vec<f32> = (0..17 * 35).map(|at| at as f32).collect();
        let turned = transposed(&matrix, 35);
        assert_eq!(turned[3 * 17 + 5], matrix[5 * 35 + 3]);
        assert_eq!(transposed(&turned, 17), matrix);
    }
}
