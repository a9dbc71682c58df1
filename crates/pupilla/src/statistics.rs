//! Mean and standard deviation in one pass, in `f64`, without the cancellation of Σx² − (Σx)²/n.

/// Count, mean and sum of squared distances from the mean; two of them merge exactly as if all
/// numbers had been seen by one (Welford 1962; Chan, Golub and LeVeque 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// The moments of some numbers, in two passes over the slice.
    pub fn of(values: &[f32]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let squares = values
            .iter()
            .map(|&value| (f64::from(value) - mean).powi(2))
            .sum();
        Self {
            count: values.len() as u64,
            mean,
            squares,
        }
    }

    /// The moments of both sets of numbers together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0 {
            return other;
        }
        if other.count == 0 {
            return self;
        }
        let (left, right) = (self.count as f64, other.count as f64);
        let total = left + right;
        let distance = other.mean - self.mean;
        Self {
            count: self.count + other.count,
            mean: self.mean + distance * (right / total),
            squares: self.squares + other.squares + distance * distance * (left * right / total),
        }
    }

    /// How many numbers were seen.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 for none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their standard deviation (of the population: divided by the count); 0 for none.
    pub fn deviation(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            (self.squares / self.count as f64).sqrt()
        }
    }
}

/// The reciprocal of a standard deviation. It is 0 if the deviation is only the rounding noise of 32-bit numbers around the mean, so
/// that a value that never varied counts nothing instead of becoming infinite.
pub(crate) fn reciprocal(deviation: f64, mean: f64) -> f64 {
    if deviation > 1e-6 * mean.abs() && deviation > 1e-12 {
        1.0 / deviation
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn large_offsets_do_not_cancel() {
        // Naive f32 sums of squares lose all digits here; the values are exact in f32.
        let values: Vec<f32> = (0..1000).map(|i| 1_000_000.0 + (i % 2) as f32).collect();
        let moments = Moments::of(&values[..300]).merge(Moments::of(&values[300..]));
        assert!((moments.mean() - 1_000_000.5).abs() < 1e-9);
        assert!((moments.deviation() - 0.5).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn pieces_merge_to_the_whole(values in prop::collection::vec(-1e3f32..1e3, 0..80), cut in 0usize..80) {
            let cut = cut.min(values.len());
            let whole = Moments::of(&values);
            let merged = Moments::of(&values[..cut]).merge(Moments::of(&values[cut..]));
            prop_assert_eq!(whole.count(), merged.count());
            prop_assert!((whole.mean() - merged.mean()).abs() < 1e-8);
            prop_assert!((whole.deviation() - merged.deviation()).abs() < 1e-8);
        }
    }
}
