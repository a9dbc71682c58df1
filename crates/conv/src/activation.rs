//! Bias and leaky ReLU, where a convolution writes its output, and the ReLU's gradient.

use rayon::prelude::*;

/// What happens to an output before it is written.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    /// Slope of the leaky ReLU below 0, at most 1: no activation.
    pub(crate) slope: f32,
}

impl Epilogue<'_> {
    pub(crate) const NONE: Self = Self {
        bias: None,
        slope: 1.0,
    };

    #[inline]
    pub(crate) fn activate(&self, value: f32) -> f32 {
        value.max(value * self.slope)
    }
}

/// Turns the gradient with respect to a leaky ReLU's *output* into that with respect to its input, in place.
///
/// `output` holds the ReLU's output, of the same length: where it is not above 0, the gradient is multiplied by `slope`
/// (positive, or 0; at 0 itself the gradient is `slope`, as in PyTorch).
///
/// # Panics
/// When the lengths differ.
pub fn leaky_relu_gradient(output: &[f32], slope: f32, gradient: &mut [f32]) {
    const RUN: usize = 1 << 14;
    assert_eq!(
        output.len(),
        gradient.len(),
        "output and gradient of a leaky ReLU differ in length"
    );
    gradient
        .par_chunks_mut(RUN)
        .zip(output.par_chunks(RUN))
        .for_each(|(gradient, output)| {
            for (gradient, output) in gradient.iter_mut().zip(output) {
                *gradient *= if *output > 0.0 { 1.0 } else { slope };
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradient_follows_the_sign_of_the_output() {
        let mut gradient = [2.0, 2.0, 2.0];
        leaky_relu_gradient(&[1.0, -1.0, 0.0], 0.25, &mut gradient);
        assert_eq!(gradient, [2.0, 0.5, 0.5]);
    }
}
