//! The slow obvious twins: loops over the definition, in `f64`.

use pupilla_conv::Conv2d;

/// Random operands of one convolution.
pub struct Problem {
    pub shape: Conv2d,
    pub input: Vec<f32>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub output_gradient: Vec<f32>,
}

impl Problem {
    /// Operands with independent values, uniform in −1 … 1.
    pub fn random(shape: Conv2d, seed: u64) -> Self {
        let mut state = seed;
        let mut values = |len: usize| (0..len).map(|_| uniform(&mut state)).collect();
        Self {
            shape,
            input: values(shape.input_len()),
            weight: values(shape.weight_len()),
            bias: values(shape.out_channels),
            output_gradient: values(shape.output_len()),
        }
    }

    pub fn output(&self) -> Vec<f64> {
        let mut output = vec![0.0; self.shape.output_len()];
        self.each_product(|input, weight, out| {
            output[out] += f64::from(self.input[input]) * f64::from(self.weight[weight]);
        });
        let [rows, columns] = self.shape.output_size();
        for (plane, values) in output.chunks_exact_mut(rows * columns).enumerate() {
            let bias = f64::from(self.bias[plane % self.shape.out_channels]);
            values.iter_mut().for_each(|value| *value += bias);
        }
        output
    }

    pub fn input_gradient(&self) -> Vec<f64> {
        let mut gradient = vec![0.0; self.shape.input_len()];
        self.each_product(|input, weight, out| {
            gradient[input] +=
                f64::from(self.output_gradient[out]) * f64::from(self.weight[weight]);
        });
        gradient
    }

    pub fn weight_gradient(&self) -> Vec<f64> {
        let mut gradient = vec![0.0; self.shape.weight_len()];
        self.each_product(|input, weight, out| {
            gradient[weight] += f64::from(self.output_gradient[out]) * f64::from(self.input[input]);
        });
        gradient
    }

    pub fn bias_gradient(&self) -> Vec<f64> {
        let mut gradient = vec![0.0; self.shape.out_channels];
        let [rows, columns] = self.shape.output_size();
        for (plane, values) in self
            .output_gradient
            .chunks_exact(rows * columns)
            .enumerate()
        {
            gradient[plane % self.shape.out_channels] +=
                values.iter().copied().map(f64::from).sum::<f64>();
        }
        gradient
    }

    /// Calls `f(input index, weight index, output index)` for every product of the definition.
    fn each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        let shape = &self.shape;
        let [rows, columns] = shape.output_size();
        for b in 0..shape.batch {
            for o in 0..shape.out_channels {
                for c in 0..shape.in_channels {
                    for i in 0..shape.kernel[0] {
                        for j in 0..shape.kernel[1] {
                            let weight = ((o * shape.in_channels + c) * shape.kernel[0] + i)
                                * shape.kernel[1]
                                + j;
                            for y in 0..rows {
                                for x in 0..columns {
                                    let input = ((b * shape.in_channels + c) * shape.height
                                        + y * shape.stride[0]
                                        + i)
                                        * shape.width
                                        + x * shape.stride[1]
                                        + j;
                                    let output =
                                        ((b * shape.out_channels + o) * rows + y) * columns + x;
                                    f(input, weight, output);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// splitmix64, mapped to −1 … 1.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Largest absolute difference in units of the root mean square of the expected values.
pub fn error(actual: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let rms = (expected.iter().map(|value| value * value).sum::<f64>() / expected.len() as f64)
        .sqrt()
        .max(f64::MIN_POSITIVE);
    actual
        .iter()
        .zip(expected)
        .map(|(actual, expected)| (f64::from(*actual) - expected).abs() / rms)
        // Unlike `f64::max`, keeps a NaN.
        .fold(0.0, |worst, error| {
            if error > worst || error.is_nan() {
                error
            } else {
                worst
            }
        })
}

#[track_caller]
pub fn assert_close(pass: &str, shape: &Conv2d, actual: &[f32], expected: &[f64], tolerance: f64) {
    let error = error(actual, expected);
    assert!(
        error <= tolerance,
        "{pass} of {shape:?}: error {error:.2e} of the rms, allowed {tolerance:.2e}"
    );
}
