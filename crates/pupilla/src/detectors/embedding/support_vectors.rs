//! The one-class support vector machine: a region that holds most of the good vectors (Schölkopf et al., *Estimating the support of a
//! high-dimensional distribution*, 2001), with a radial kernel `k(x, y) = exp(−γ ‖x − y‖²)`.
//!
//! Minimises `½ αᵀKα` over `0 ≤ αᵢ ≤ 1`, `Σ αᵢ = ν n`, by sequential minimal optimisation with second-order working sets (Fan, Chen and
//! Lin 2005; LIBSVM's choice of the problem, so that decision values are those of LIBSVM and scikit-learn). Rows of K are computed when
//! they are needed: the whole matrix of 50 000 vectors would take 10 GB.

use std::collections::VecDeque;
use std::sync::Arc;

use pupilla_core::observer::{StopFlag, Stopped};
use rayon::prelude::*;

use super::matrix::{Matrix, squared_distance};
use super::nearest::dot;

/// The violation of optimality that is left, LIBSVM's default.
pub const TOLERANCE: f64 = 1e-3;

/// Bytes of rows of K that are kept.
const CACHE_BYTES: usize = 512 << 20;

/// Curvature below which two vectors count as copies (LIBSVM's τ).
const FLAT: f64 = 1e-12;

/// Vectors in a block of kernel values.
const BLOCK: usize = 512;

/// A trained machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The vectors with `αᵢ > 0`, `[vectors, columns]`.
    pub vectors: Matrix,
    /// Their α, `[vectors]`, in `(0, 1]`.
    pub weights: Vec<f32>,
    /// The offset ρ.
    pub offset: f64,
    /// The kernel's γ.
    pub gamma: f64,
}

/// How to train a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MachineTraining {
    /// The share ν of vectors that may lie outside, in `(0, 1]`; at least that share are support vectors.
    pub nu: f64,
    /// The kernel's γ.
    pub gamma: f64,
    /// The largest violation of optimality that is left, in units of a decision value.
    pub tolerance: f64,
}

/// scikit-learn's `gamma="scale"`: one over the number of columns times the variance of all values; 1 where nothing varies, or no more
/// than by `noise`, the variance of a row's values summed up that is rounding.
pub fn scale_gamma(rows: &Matrix, noise: f64) -> f64 {
    let deviation = crate::statistics::Moments::of(rows.values()).deviation();
    let columns = rows.columns() as f64;
    if deviation.powi(2) * columns <= noise.max(1e-24) {
        return 1.0;
    }
    (1.0 / deviation).powi(2) / columns
}

impl Machine {
    /// Trains on the rows. Now and then, `watch` receives the remaining violation, and ends the training with `false`.
    ///
    /// # Errors
    /// If `watch` ends the training, or `stop` is raised.
    ///
    /// # Panics
    /// If there is no row: a programming error.
    pub fn fit(
        rows: &Matrix,
        training: MachineTraining,
        stop: &StopFlag,
        mut watch: impl FnMut(f64) -> bool,
    ) -> Result<Self, Stopped> {
        const WATCH: usize = 256;
        let mut problem = Problem::new(rows, training, stop)?;
        let most_steps = (100 * rows.rows()).max(10_000_000);
        for step in 0..most_steps {
            let (pair, violation) = problem.working_set();
            if step % WATCH == 0 && !watch(violation) {
                return Err(Stopped);
            }
            match pair {
                Some(pair) if violation > training.tolerance => problem.step(pair),
                _ => break,
            }
        }
        Ok(problem.solution())
    }

    /// The negative decision value of each query, `ρ − Σ αᵢ k(xᵢ, q)`: above 0 outside of the region, and higher the farther.
    ///
    /// # Errors
    /// If `stop` is raised.
    pub fn scores(&self, queries: &Matrix, stop: &StopFlag) -> Result<Vec<f32>, Stopped> {
        let sums = kernel_sums(queries, &self.vectors, &self.weights, self.gamma, stop)?;
        let score = |sum: f64| (self.offset - sum) as f32;
        Ok(sums.into_iter().map(score).collect())
    }
}

/// `Σᵢ weightᵢ · k(vectorᵢ, q)` for each query.
///
/// # Errors
/// If `stop` is raised.
fn kernel_sums(
    queries: &Matrix,
    vectors: &Matrix,
    weights: &[f32],
    gamma: f64,
    stop: &StopFlag,
) -> Result<Vec<f64>, Stopped> {
    let columns = vectors.columns();
    let norms: Vec<f32> = vectors.iter().map(|vector| dot(vector, vector)).collect();
    let gamma = gamma as f32;
    let of_blocks = queries
        .values()
        .par_chunks(BLOCK / 4 * columns)
        .map(|queries| {
            stop.check()?;
            let mut sums = vec![0.0f64; queries.len() / columns];
            let mut products = Vec::new();
            let blocks = vectors.values().chunks(BLOCK * columns);
            for ((vectors, norms), weights) in
                blocks.zip(norms.chunks(BLOCK)).zip(weights.chunks(BLOCK))
            {
                products.resize(sums.len() * norms.len(), 0.0);
                pupilla_conv::inner_products(columns, queries, vectors, &mut products);
                let products = products.chunks_exact(norms.len());
                let queries = queries.chunks_exact(columns);
                for ((sum, products), query) in sums.iter_mut().zip(products).zip(queries) {
                    let own = dot(query, query);
                    let terms = products.iter().zip(norms).zip(weights);
                    let of_block: f32 = terms
                        .map(|((product, norm), weight)| {
                            let squares = (own + norm - 2.0 * product).max(0.0);
                            weight * (-gamma * squares).exp()
                        })
                        .sum();
                    *sum += f64::from(of_block);
                }
            }
            Ok(sums)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(of_blocks.concat())
}

/// The problem on its way to the solution.
struct Problem<'a> {
    rows: &'a Matrix,
    gamma: f64,
    alpha: Vec<f64>,
    /// `Kα`
    gradient: Vec<f64>,
    cache: Cache,
}

/// Rows of K, the oldest given up first.
struct Cache {
    rows: Vec<Option<Arc<[f32]>>>,
    order: VecDeque<usize>,
    room: usize,
}

/// Two vectors between which weight moves: the first gains.
struct Pair {
    gains: usize,
    loses: usize,
}

impl<'a> Problem<'a> {
    fn new(rows: &'a Matrix, training: MachineTraining, stop: &StopFlag) -> Result<Self, Stopped> {
        let count = rows.rows();
        let total = training.nu * count as f64;
        // The first ν n vectors, the last of them in part.
        let weight = |index: usize| (total - index as f64).clamp(0.0, 1.0);
        let alpha: Vec<f64> = (0..count).map(weight).collect();
        let begun: Vec<usize> = (0..count).filter(|&index| alpha[index] > 0.0).collect();
        let weights: Vec<f32> = begun.iter().map(|&index| alpha[index] as f32).collect();
        let gradient = kernel_sums(rows, &rows.select(&begun), &weights, training.gamma, stop)?;
        Ok(Self {
            rows,
            gamma: training.gamma,
            alpha,
            gradient,
            cache: Cache {
                rows: vec![None; count],
                order: VecDeque::new(),
                room: (CACHE_BYTES / (count * size_of::<f32>())).max(2),
            },
        })
    }

    /// One row of K.
    fn row(&mut self, index: usize) -> Arc<[f32]> {
        if let Some(row) = &self.cache.rows[index] {
            return Arc::clone(row);
        }
        let (vector, gamma) = (self.rows.row(index), self.gamma as f32);
        let values = self.rows.values().par_chunks(self.rows.columns());
        let kernel = |other: &[f32]| (-gamma * squared_distance(vector, other)).exp();
        let values: Vec<f32> = values.with_min_len(1024).map(kernel).collect();
        let row: Arc<[f32]> = values.into();
        if self.cache.order.len() == self.cache.room
            && let Some(oldest) = self.cache.order.pop_front()
        {
            self.cache.rows[oldest] = None;
        }
        self.cache.order.push_back(index);
        self.cache.rows[index] = Some(Arc::clone(&row));
        row
    }

    /// The pair whose step gains most, and the largest violation of optimality.
    fn working_set(&mut self) -> (Option<Pair>, f64) {
        let mut gains: Option<usize> = None;
        let mut highest = f64::NEG_INFINITY;
        for (index, (alpha, gradient)) in self.alpha.iter().zip(&self.gradient).enumerate() {
            let better = gains.is_none_or(|best| *gradient < self.gradient[best]);
            if *alpha < 1.0 && better {
                gains = Some(index);
            }
            if *alpha > 0.0 {
                highest = highest.max(*gradient);
            }
        }
        let Some(gains) = gains else {
            return (None, 0.0);
        };
        let kernel = self.row(gains);
        let lowest = self.gradient[gains];
        let mut best: Option<(f64, usize)> = None;
        for (index, (alpha, gradient)) in self.alpha.iter().zip(&self.gradient).enumerate() {
            let fall = gradient - lowest;
            if *alpha > 0.0 && fall > 0.0 {
                let gain = fall * fall / (2.0 - 2.0 * f64::from(kernel[index])).max(FLAT);
                if best.is_none_or(|(most, _)| gain > most) {
                    best = Some((gain, index));
                }
            }
        }
        let pair = best.map(|(_, loses)| Pair { gains, loses });
        (pair, highest - lowest)
    }

    /// Moves as much weight as lowers the objective most.
    fn step(&mut self, Pair { gains, loses }: Pair) {
        let (to, from) = (self.row(gains), self.row(loses));
        let curvature = (2.0 - 2.0 * f64::from(to[loses])).max(FLAT);
        let wanted = (self.gradient[loses] - self.gradient[gains]) / curvature;
        let moved = wanted.min(1.0 - self.alpha[gains]).min(self.alpha[loses]);
        // What reaches a bound lies on it exactly.
        self.alpha[gains] = if moved == 1.0 - self.alpha[gains] {
            1.0
        } else {
            self.alpha[gains] + moved
        };
        self.alpha[loses] = if moved == self.alpha[loses] {
            0.0
        } else {
            self.alpha[loses] - moved
        };
        for (gradient, (to, from)) in self.gradient.iter_mut().zip(to.iter().zip(from.iter())) {
            *gradient += moved * f64::from(to - from);
        }
    }

    fn solution(self) -> Machine {
        let vectors: Vec<usize> = (0..self.alpha.len())
            .filter(|&index| self.alpha[index] > 0.0)
            .collect();
        Machine {
            offset: offset(&self.alpha, &self.gradient),
            weights: vectors
                .iter()
                .map(|&index| self.alpha[index] as f32)
                .collect(),
            vectors: self.rows.select(&vectors),
            gamma: self.gamma,
        }
    }
}

/// ρ: the gradient of the vectors on the region's edge, or the middle of what it may be if there are none.
fn offset(alpha: &[f64], gradient: &[f64]) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    let (mut above, mut below) = (f64::INFINITY, f64::NEG_INFINITY);
    for (alpha, gradient) in alpha.iter().zip(gradient) {
        if *alpha >= 1.0 {
            below = below.max(*gradient);
        } else if *alpha <= 0.0 {
            above = above.min(*gradient);
        } else {
            sum += gradient;
            count += 1;
        }
    }
    if count > 0 {
        return sum / count as f64;
    }
    match (above.is_finite(), below.is_finite()) {
        (true, true) => (above + below) / 2.0,
        (true, false) => above,
        _ => below,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn training(nu: f64, gamma: f64) -> MachineTraining {
        MachineTraining {
            nu,
            gamma,
            tolerance: 1e-6,
        }
    }

    #[test]
    fn a_share_lies_outside_and_what_is_far_lies_farther() {
        let never = StopFlag::default();
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let values = (0..400 * 3).map(|_| crate::random::normal(&mut random));
        let rows = Matrix::new(3, values.collect());
        for nu in [0.05, 0.3, 1.0] {
            let machine = Machine::fit(&rows, training(nu, 0.3), &never, |_| true).unwrap();
            let outside = machine
                .scores(&rows, &never)
                .unwrap()
                .iter()
                .filter(|score| **score > 1e-4)
                .count();
            assert!(outside as f64 <= nu * 400.0 + 1.0, "{outside} of ν = {nu}");
            assert!(machine.vectors.rows() as f64 >= nu * 400.0 - 1.0);
            let sum: f64 = machine
                .weights
                .iter()
                .map(|&weight| f64::from(weight))
                .sum();
            assert!((sum - nu * 400.0).abs() < 1e-2);
            let along = Matrix::new(3, vec![0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 9.0, 0.0, 0.0]);
            let scores = machine.scores(&along, &never).unwrap();
            assert!(scores[0].max(scores[1]) < scores[2]);
        }
    }

    #[test]
    fn one_vector_and_copies_of_one_are_a_region() {
        let never = StopFlag::default();
        for count in [1, 2, 30] {
            let rows = Matrix::new(2, [3.0, -1.0].repeat(count));
            let alike = Matrix::new(2, [3.0, 3.0].repeat(count));
            assert_eq!(scale_gamma(&alike, 0.0), 1.0);
            let nearly = Matrix::new(1, (0..=count).map(|at| at as f32 * 1e-6).collect());
            assert_eq!(scale_gamma(&nearly, 1e-9), 1.0);
            assert!(scale_gamma(&nearly, 0.0) > 1e9);
            let machine = Machine::fit(&rows, training(0.5, 1.0), &never, |_| true).unwrap();
            let queries = Matrix::new(2, vec![3.0, -1.0, 9.0, 9.0]);
            let scores = machine.scores(&queries, &never).unwrap();
            assert!(scores.iter().all(|score| score.is_finite()));
            assert!(scores[0] < scores[1]);
        }
        let rows = Matrix::new(1, (0..9).map(|_| random_value()).collect());
        let machine = Machine::fit(&rows, training(0.5, 1.0), &never, |_| false);
        assert_eq!(machine, Err(Stopped));
    }

    fn random_value() -> f32 {
        ChaCha8Rng::seed_from_u64(2).random_range(0.0..1.0)
    }
}
