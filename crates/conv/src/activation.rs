//! Bias and activation, where a convolution writes its output, and the leaky ReLU's gradient.

use rayon::prelude::*;

/// A leaky ReLU, limited above: `min(max(v, slope · v), ceiling)`. A NaN stays a NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activation {
    /// What values below 0 are multiplied by, within 0 … 1: 1 for no ReLU, 0 for the plain one.
    pub slope: f32,
    /// The largest output, above 0; infinity for no limit.
    pub ceiling: f32,
}

impl Activation {
    /// None at all.
    pub const NONE: Self = Self::leaky_relu(1.0);

    /// `min(max(v, 0), 6)` (Howard et al. 2017).
    pub const RELU6: Self = Self {
        slope: 0.0,
        ceiling: 6.0,
    };

    /// A leaky ReLU without a limit.
    pub const fn leaky_relu(slope: f32) -> Self {
        Self {
            slope,
            ceiling: f32::INFINITY,
        }
    }

    #[track_caller]
    pub(crate) fn check(&self) {
        let Self { slope, ceiling } = *self;
        assert!(
            (0.0..=1.0).contains(&slope),
            "the slope of a leaky ReLU must be within 0 and 1, not {slope}"
        );
        assert!(
            ceiling > 0.0,
            "the ceiling of an activation must be above 0, not {ceiling}"
        );
    }

    #[inline]
    pub(crate) fn of(&self, value: f32) -> f32 {
        let value = value.max(value * self.slope);
        // Not `min`, which would turn a NaN into the ceiling.
        if value > self.ceiling {
            self.ceiling
        } else {
            value
        }
    }
}

/// What happens to an output before it is written.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
}

impl Epilogue<'_> {
    pub(crate) const NONE: Self = Self {
        bias: None,
        activation: Activation::NONE,
    };

    #[inline]
    pub(crate) fn activate(&self, value: f32) -> f32 {
        self.activation.of(value)
    }
}

/// Limits values above.
pub(crate) fn limit(ceiling: f32, values: &mut [f32]) {
    const RUN: usize = 1 << 14;
    values.par_chunks_mut(RUN).for_each(|run| {
        for value in run {
            *value = if *value > ceiling { ceiling } else { *value };
        }
    });
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
