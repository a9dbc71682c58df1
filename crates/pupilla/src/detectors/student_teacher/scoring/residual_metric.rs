//! Errors in the metric of good parts: a residual counts relative to good parts' residuals in its direction, and for descriptors of the
//! same length.
//!
//! The paper's students predict a Gaussian whose covariance is the same in every direction and at every position (§3.3). On good
//! images, neither holds. Some directions of the descriptor are predicted ten times better than others. Descriptors far from the mean
//! (edges, glitter) are predicted worse than descriptors near the mean. Here the covariance is the measured covariance `Σ`, times `1 +
//! ‖μ̄‖²/2d` for the students' mean `μ̄` of `d` components (the whitened teacher's descriptors have the length `√d` in the mean).
//! Regression error and predictive variance are then the squared lengths of residuals and of the students' distances from their mean in
//! this metric (that of Mahalanobis), and by the bias–variance decomposition their sum is the mean squared distance of a student from
//! the teacher.
//!
//! Plain slices, `[channels, positions]` in row-major order, as in [`scoring`](crate::detectors::student_teacher::scoring).
//! `docs/notes/students.md` has measurements on real and drawn data.

use nalgebra::DMatrix;
use pupilla_conv::Conv2d;
use rayon::prelude::*;

use super::Terms;
use crate::whitening::inverse_factor;

/// Added to every variance, relative to their mean. Without it, directions that hardly vary would count without bounds.
const REGULARISATION: f64 = 0.02;

/// Positions that are multiplied at a time. Zeros fill up the last block, so that a position's numbers do not depend on its tile.
const BLOCK: usize = 64;

/// Positions whose products are summed in `f32`, before the sums are in `f64`.
const PIECE: usize = 1024;

/// Sums of the products of residuals, component by component.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualProducts {
    channels: usize,
    positions: usize,
    /// `[channels, channels]`.
    sums: Vec<f64>,
}

impl ResidualProducts {
    /// Empty sums, for residuals of `channels` channels.
    ///
    /// # Panics
    /// If there is no channel.
    pub fn new(channels: usize) -> Self {
        assert!(channels > 0, "a descriptor has at least one number");
        Self {
            channels,
            positions: 0,
            sums: vec![0.0; channels * channels],
        }
    }

    /// Adds the residuals of the students' mean at some positions.
    ///
    /// # Shapes
    /// - `teacher`: `[channels, positions]`, whitened
    /// - `students`: each `[channels, positions]`
    ///
    /// # Panics
    /// If the lengths differ or there is no student.
    pub fn add(&mut self, teacher: &[f32], students: &[&[f32]]) {
        let positions = check(self.channels, teacher, students);
        let share = 1.0 / students.len() as f32;
        let residuals = |start: usize| {
            let end = (start + PIECE).min(positions);
            let mut residuals = Vec::with_capacity(self.channels * (end - start));
            for channel in 0..self.channels {
                residuals.extend((start..end).map(|position| {
                    let at = channel * positions + position;
                    let mean = students.iter().map(|student| student[at]).sum::<f32>() * share;
                    mean - teacher[at]
                }));
            }
            residuals
        };
        let starts: Vec<usize> = (0..positions).step_by(PIECE).collect();
        // Few matrices are in memory at a time; they are summed in their order, however many threads there are.
        for starts in starts.chunks(rayon::current_num_threads()) {
            let products: Vec<Vec<f32>> = starts
                .par_iter()
                .map(|&start| {
                    let residuals = residuals(start);
                    let inner = residuals.len() / self.channels;
                    let mut products = vec![0.0; self.channels * self.channels];
                    pupilla_conv::inner_products(inner, &residuals, &residuals, &mut products);
                    products
                })
                .collect();
            for products in products {
                for (sum, product) in self.sums.iter_mut().zip(products) {
                    *sum += f64::from(product);
                }
            }
        }
        self.positions += positions;
    }

    /// The metric of the added residuals. It is the plain metric if nothing was added, or all residuals were 0.
    ///
    /// # Errors
    /// If a sum is not a finite number, or so uneven that the covariance cannot be inverted.
    pub fn metric(&self) -> Result<ResidualMetric, NoMetric> {
        let count = self.channels;
        if self.sums.iter().any(|sum| !sum.is_finite()) {
            return Err(NoMetric);
        }
        let divisor = self.positions.max(1) as f64;
        let total: f64 = (0..count).map(|at| self.sums[at * count + at]).sum();
        let mean = total / count as f64 / divisor;
        // Below the smallest normal number of 32 bits its reciprocal is none of them.
        let added = if mean > f64::from(f32::MIN_POSITIVE) {
            REGULARISATION * mean
        } else {
            1.0
        };
        let covariance = DMatrix::from_fn(count, count, |row, column| {
            let own = if row == column { added } else { 0.0 };
            // Products in 32 bits are not symmetric to the last bit.
            let (row, column) = (row.max(column), row.min(column));
            self.sums[row * count + column] / divisor + own
        });
        let inverse = inverse_factor(covariance).ok_or(NoMetric)?;
        let places = (0..count).flat_map(|row| (0..count).map(move |column| (row, column)));
        let whitening = places.map(|place| inverse[place] as f32).collect();
        Ok(ResidualMetric::new(count, whitening))
    }
}

/// The residuals of good images are no finite numbers of usable size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the students' errors on good images are not numbers that can be weighed against each other"
)]
pub struct NoMetric;

/// The metric of good parts' residuals.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualMetric {
    channels: usize,
    /// `L⁻¹` of `Σ = L Lᵀ`, `[channels, channels]`, lower triangular.
    whitening: Vec<f32>,
}

impl ResidualMetric {
    /// Of `L⁻¹`, `[channels, channels]`, where `L Lᵀ` is the covariance of residuals.
    ///
    /// # Panics
    /// If its length is another, or 0.
    pub fn new(channels: usize, whitening: Vec<f32>) -> Self {
        assert!(
            channels > 0 && whitening.len() == channels * channels,
            "[channels, channels]"
        );
        Self {
            channels,
            whitening,
        }
    }

    /// `L⁻¹`, `[channels, channels]`.
    pub fn whitening(&self) -> &[f32] {
        &self.whitening
    }

    /// Regression error and predictive variance at every position, in this metric.
    ///
    /// # Shapes
    /// - `teacher`: `[channels, positions]`, whitened
    /// - `students`: each `[channels, positions]`
    ///
    /// # Panics
    /// If the lengths differ or there is no student.
    pub fn terms(&self, teacher: &[f32], students: &[&[f32]]) -> Terms {
        let positions = check(self.channels, teacher, students);
        let mut terms = Terms {
            regression_error: vec![0.0; positions],
            predictive_variance: vec![0.0; positions],
        };
        let errors = terms.regression_error.par_chunks_mut(BLOCK);
        let variances = terms.predictive_variance.par_chunks_mut(BLOCK);
        errors.zip(variances).enumerate().for_each_init(
            || Scratch::new(self.channels, students.len()),
            |scratch, (block, (errors, variances))| {
                scratch.fill(teacher, students, positions, block * BLOCK, errors.len());
                self.judge(scratch, errors, variances);
            },
        );
        terms
    }

    fn judge(&self, scratch: &mut Scratch, errors: &mut [f32], variances: &mut [f32]) {
        let Scratch {
            product,
            residuals,
            judged,
            lengths,
        } = scratch;
        pupilla_conv::forward(product, residuals, &self.whitening, None, judged);
        let students = product.height;
        let share = 1.0 / students as f64;
        let (mut error, mut variance) = ([0.0; BLOCK], [0.0; BLOCK]);
        for rows in judged.chunks_exact(students * BLOCK) {
            let mut mean = [0.0; BLOCK];
            for row in rows.chunks_exact(BLOCK) {
                for (mean, value) in mean.iter_mut().zip(row) {
                    *mean += f64::from(*value);
                }
            }
            let mean = mean.map(|sum| sum * share);
            for (error, mean) in error.iter_mut().zip(&mean) {
                *error += mean * mean;
            }
            for row in rows.chunks_exact(BLOCK) {
                for ((variance, mean), value) in variance.iter_mut().zip(&mean).zip(row) {
                    let distance = f64::from(*value) - mean;
                    *variance += distance * distance;
                }
            }
        }
        let usual = 2.0 * self.channels as f64;
        for (position, (one, other)) in errors.iter_mut().zip(variances).enumerate() {
            let spread = 1.0 + lengths[position] / usual;
            *one = (error[position] / spread) as f32;
            *other = (variance[position] * share / spread) as f32;
        }
    }
}

/// What a thread needs for a block of positions.
struct Scratch {
    /// The metric's product with every student's residuals, as a 1×1 convolution.
    product: Conv2d,
    /// Each student's distance from the teacher, `[channels, students, BLOCK]`; 0 after the last position.
    residuals: Vec<f32>,
    /// The same in the metric.
    judged: Vec<f32>,
    /// `‖μ̄‖²` at each position.
    lengths: [f64; BLOCK],
}

impl Scratch {
    fn new(channels: usize, students: usize) -> Self {
        let values = vec![0.0; channels * students * BLOCK];
        Self {
            product: Conv2d::new([1, channels, students, BLOCK], channels, [1, 1])
                .expect("no size is 0, and as many numbers have just been allocated"),
            residuals: values.clone(),
            judged: values,
            lengths: [0.0; BLOCK],
        }
    }

    fn fill(
        &mut self,
        teacher: &[f32],
        students: &[&[f32]],
        positions: usize,
        start: usize,
        count: usize,
    ) {
        if count < BLOCK {
            self.residuals.fill(0.0);
        }
        let share = 1.0 / students.len() as f64;
        self.lengths = [0.0; BLOCK];
        let rows = self.residuals.chunks_exact_mut(students.len() * BLOCK);
        for (channel, rows) in rows.enumerate() {
            let place = channel * positions + start..channel * positions + start + count;
            let teacher = &teacher[place.clone()];
            let mut sums = [0.0; BLOCK];
            for (row, student) in rows.chunks_exact_mut(BLOCK).zip(students) {
                let student = &student[place.clone()];
                for ((residual, student), teacher) in row.iter_mut().zip(student).zip(teacher) {
                    *residual = student - teacher;
                }
                for (sum, student) in sums.iter_mut().zip(student) {
                    *sum += f64::from(*student);
                }
            }
            for (length, sum) in self.lengths.iter_mut().zip(sums) {
                *length += (sum * share).powi(2);
            }
        }
    }
}

/// Number of positions.
fn check(channels: usize, teacher: &[f32], students: &[&[f32]]) -> usize {
    assert!(!students.is_empty(), "an ensemble has at least one student");
    let whole = teacher.len().is_multiple_of(channels);
    let alike = students.iter().all(|other| other.len() == teacher.len());
    assert!(whole && alike, "[channels, positions]");
    teacher.len() / channels
}
