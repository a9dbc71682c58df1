//! Batch norm with fixed statistics is a factor and an offset for each channel: both go into the
//! convolution before it.

/// The four arrays of a batch norm, `[channels]` each.
pub(super) struct BatchNorm<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub mean: &'a [f32],
    pub variance: &'a [f32],
}

impl BatchNorm<'_> {
    /// Folds it into the weight (`[channels, …]`) of the convolution before it, which has no bias of
    /// its own, and returns the new bias. `epsilon` is added to the variance. Computed in 64 bits.
    pub fn fold(&self, epsilon: f64, weight: &mut [f32]) -> Vec<f32> {
        let taps = weight.len() / self.weight.len();
        let parameters = self
            .weight
            .iter()
            .zip(self.bias)
            .zip(self.mean.iter().zip(self.variance));
        weight
            .chunks_exact_mut(taps)
            .zip(parameters)
            .map(|(row, ((&scale, &bias), (&mean, &variance)))| {
                let factor = f64::from(scale) / (f64::from(variance) + epsilon).sqrt();
                for value in row {
                    *value = (f64::from(*value) * factor) as f32;
                }
                (f64::from(bias) - f64::from(mean) * factor) as f32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folded_convolution_is_the_normalised_one() {
        let norm = BatchNorm {
            weight: &[2.0, -0.5],
            bias: &[0.25, 1.0],
            mean: &[0.5, -3.0],
            variance: &[4.0, 0.0],
        };
        let mut weight = [1.0, 3.0, -2.0, 0.5];
        let bias = norm.fold(1e-5, &mut weight);
        let input = [0.7f64, -1.1];
        for channel in 0..2 {
            let product = |row: &[f32]| -> f64 {
                row.iter().zip(input).map(|(w, x)| f64::from(*w) * x).sum()
            };
            let before = [[1.0f32, 3.0], [-2.0, 0.5]][channel];
            let variance = f64::from(norm.variance[channel]) + 1e-5;
            let expected = (product(&before) - f64::from(norm.mean[channel])) / variance.sqrt()
                * f64::from(norm.weight[channel])
                + f64::from(norm.bias[channel]);
            let found = product(&weight[2 * channel..][..2]) + f64::from(bias[channel]);
            assert!(
                (found - expected).abs() < 1e-5 * expected.abs(),
                "{found}, not {expected}"
            );
        }
    }
}
