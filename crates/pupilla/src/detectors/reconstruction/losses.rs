//! The losses of the networks, each with its gradient, and the maps whose means some losses are.

use pupilla_nn::Tensor;
use rayon::prelude::*;

use super::window::{window_mean, window_mean_gradient};

/// `(0.01 · L)²` and `(0.03 · L)²` for values in a range of L = 1 (Wang et al. 2004).
const STABILISERS: [f32; 2] = [1e-4, 9e-4];

/// Numbers that a thread takes at once.
const RUN: usize = 1 << 14;

/// A function of each two numbers of two tensors of one shape.
pub(super) fn zipped(one: &Tensor, other: &Tensor, of: impl Fn(f32, f32) -> f32 + Sync) -> Tensor {
    let mut output = one.clone();
    let runs = output.values_mut().par_chunks_mut(RUN);
    runs.zip(other.values().par_chunks(RUN))
        .for_each(|(run, other)| {
            for (value, other) in run.iter_mut().zip(other) {
                *value = of(*value, *other);
            }
        });
    output
}

/// The mean over the channels, `[batch, channels, height, width]` to `[batch, 1, height, width]`.
pub(super) fn channel_means(map: &Tensor) -> Tensor {
    let [batch, channels, height, width] = map.shape();
    let area = map.area();
    let mut means = Tensor::zeros([batch, 1, height, width]);
    let items = map.values().chunks_exact(channels * area);
    for (means, planes) in means.values_mut().chunks_exact_mut(area).zip(items) {
        for plane in planes.chunks_exact(area) {
            for (mean, value) in means.iter_mut().zip(plane) {
                *mean += value / channels as f32;
            }
        }
    }
    means
}

/// The sum of a function of each two numbers of two tensors of one shape, and its gradient with respect to the first. `of` gives the
/// function's value and its derivative.
fn summed(
    one: &Tensor,
    other: &Tensor,
    of: impl Fn(f32, f32) -> (f64, f32) + Sync,
) -> (f64, Tensor) {
    let mut gradient = one.clone();
    let runs = gradient.values_mut().par_chunks_mut(RUN);
    let sums = runs
        .zip(other.values().par_chunks(RUN))
        .map(|(run, other)| {
            let mut sum = 0.0;
            for (value, other) in run.iter_mut().zip(other) {
                let (term, derivative) = of(*value, *other);
                sum += term;
                *value = derivative;
            }
            sum
        });
    // The order is the same whatever thread was first.
    let sums: Vec<f64> = sums.collect();
    (sums.iter().sum(), gradient)
}

/// The structural similarity of two images at each number, and its derivatives with respect to the windows' means: of `one`, of the
/// product of both, and of the sum of their squares.
///
/// With means m, n of the two, p of the product, and q of the sum of squares, it is A·B / (C·D) for A = 2mn + c₁, B = 2(p − mn) + c₂,
/// C = m² + n² + c₁, D = q − m² − n² + c₂ (Wang et al. 2004).
fn similarities(one: &Tensor, other: &Tensor) -> [Tensor; 4] {
    let mut maps = [
        window_mean(other),
        window_mean(one),
        window_mean(&zipped(one, other, |x, y| x * y)),
        window_mean(&zipped(one, other, |x, y| x * x + y * y)),
    ];
    let [similarity, of_mean, of_product, of_squares] = maps
        .each_mut()
        .map(|map| map.values_mut().par_chunks_mut(RUN));
    let means = similarity.zip(of_mean);
    means
        .zip(of_product.zip(of_squares))
        .for_each(|((others, means), (products, squares))| {
            let means = others.iter_mut().zip(means);
            let products = products.iter_mut().zip(squares);
            for ((other, mean), (product, square)) in means.zip(products) {
                let (m, n) = (*mean, *other);
                let squares_of_means = m * m + n * n;
                let a = 2.0 * m * n + STABILISERS[0];
                let b = 2.0 * (*product - m * n) + STABILISERS[1];
                let c = squares_of_means + STABILISERS[0];
                let d = *square - squares_of_means + STABILISERS[1];
                let similarity = a * b / (c * d);
                *other = similarity;
                *mean = 2.0 * n * (b - a) / (c * d) + 2.0 * m * similarity * (1.0 / d - 1.0 / c);
                *product = 2.0 * a / (c * d);
                *square = -similarity / d;
            }
        });
    maps
}

/// Structural similarity (Wang et al. 2004) of two images around each pixel, with a Gaussian window of 11×11 pixels (deviation 1.5)
/// and population moments, a mean over the channels: 1 where they are equal, lower, down to -1, where they are not.
///
/// # Shapes
/// - `one`, `other`: `[batch, channels, height, width]`, in `[0, 1]` (values of a reconstruction may lie outside)
/// - output: `[batch, 1, height, width]`
pub(super) fn structural_similarity(one: &Tensor, other: &Tensor) -> Tensor {
    let [similarity, ..] = similarities(one, other);
    channel_means(&similarity)
}

/// 1 − the mean over batch and pixels of the structural similarity, and its gradient with respect to `one`.
pub(super) fn dissimilarity(one: &Tensor, other: &Tensor) -> (f64, Tensor) {
    let [similarity, derivatives @ ..] = similarities(one, other);
    let count = similarity.values().len() as f64;
    let sum: f64 = similarity.values().iter().copied().map(f64::from).sum();
    let [mut gradient, of_product, of_squares] =
        derivatives.map(|derivative| window_mean_gradient(&derivative));
    let share = (-1.0 / count) as f32;
    let images = one.values().par_chunks(RUN);
    let images = images.zip(other.values().par_chunks(RUN));
    let derivatives = of_product.values().par_chunks(RUN);
    let derivatives = derivatives.zip(of_squares.values().par_chunks(RUN));
    let runs = gradient.values_mut().par_chunks_mut(RUN);
    runs.zip(images.zip(derivatives))
        .for_each(|(run, ((xs, ys), (products, squares)))| {
            let images = xs.iter().zip(ys);
            let derivatives = products.iter().zip(squares);
            for (value, ((x, y), (product, square))) in run.iter_mut().zip(images.zip(derivatives))
            {
                *value = share * (*value + y * product + 2.0 * x * square);
            }
        });
    (1.0 - sum / count, gradient)
}

/// Mean over batch and numbers of the squared error, and its gradient with respect to `one`.
pub(super) fn squared_error(one: &Tensor, other: &Tensor) -> (f64, Tensor) {
    let count = one.values().len() as f64;
    let share = (2.0 / count) as f32;
    let (sum, gradient) = summed(one, other, |x, y| {
        let error = x - y;
        (f64::from(error) * f64::from(error), share * error)
    });
    (sum / count, gradient)
}

/// Weighted sum of the absolute errors, and its gradient with respect to `one`, which is 0 where they are equal.
pub(super) fn absolute_error(one: &Tensor, other: &Tensor, weight: f64) -> (f64, Tensor) {
    let (sum, gradient) = summed(one, other, |x, y| {
        let error = x - y;
        let sign = f32::from(error > 0.0) - f32::from(error < 0.0);
        (f64::from(error.abs()), weight as f32 * sign)
    });
    (weight * sum, gradient)
}

/// Mean cross-entropy of a discriminator's logits with "all are real" or "none is" (Goodfellow et al. 2014), from logits so that
/// nothing overflows, and its gradient.
///
/// # Shapes
/// `[batch, 1, 1, 1]`
pub(super) fn cross_entropy(logits: &Tensor, real: bool) -> (f64, Tensor) {
    let count = logits.values().len() as f64;
    let sign = if real { -1.0 } else { 1.0 };
    let (sum, gradient) = summed(logits, logits, |logit, _| {
        let wrong = sign * f64::from(logit);
        let softplus = wrong.max(0.0) + (-wrong.abs()).exp().ln_1p();
        let derivative = sign / (1.0 + (-wrong).exp());
        (softplus, (derivative / count) as f32)
    });
    (sum / count, gradient)
}

/// The first half of a variational encoder's output for each image: the means of a code. The second half are logarithms of variances.
///
/// # Shapes
/// `[batch, 2 latent, 1, 1]` to `[batch, latent, 1, 1]`
pub(super) fn code_means(said: &Tensor) -> Tensor {
    let [batch, numbers, ..] = said.shape();
    let items = said.values().chunks_exact(numbers);
    let means = items.flat_map(|item| &item[..numbers / 2]).copied();
    Tensor::new(means.collect(), [batch, numbers / 2, 1, 1])
}

/// Codes drawn from `N(mean, exp(log_variance))`, as the encoder says them, by standard normal `noise` (Kingma and Welling 2014).
///
/// # Shapes
/// - `said`: `[batch, 2 latent, 1, 1]`, see [`code_means`]
/// - `noise`, output: `[batch, latent, 1, 1]`
pub(super) fn reparametrised(said: &Tensor, noise: &Tensor) -> Tensor {
    let mut code = code_means(said);
    let latent = code.shape()[1];
    let items = said.values().chunks_exact(2 * latent);
    let log_variances = items.flat_map(|item| &item[latent..]);
    let pairs = log_variances.zip(noise.values());
    for (value, (log_variance, noise)) in code.values_mut().iter_mut().zip(pairs) {
        *value += (0.5 * log_variance).exp() * noise;
    }
    code
}

/// The gradient of the encoder's output, from the gradient of the code, `of_code`.
///
/// # Shapes
/// As [`reparametrised`].
pub(super) fn reparametrised_gradient(said: &Tensor, noise: &Tensor, of_code: &Tensor) -> Tensor {
    let latent = of_code.shape()[1];
    let mut gradient = said.clone();
    let items = gradient.values_mut().chunks_exact_mut(2 * latent);
    let noise = noise.values().chunks_exact(latent);
    let of_code = of_code.values().chunks_exact(latent);
    for (item, (noise, of_code)) in items.zip(noise.zip(of_code)) {
        let (means, log_variances) = item.split_at_mut(latent);
        means.copy_from_slice(of_code);
        for (value, (noise, of_code)) in log_variances.iter_mut().zip(noise.iter().zip(of_code)) {
            *value = 0.5 * (0.5 * *value).exp() * noise * of_code;
        }
    }
    gradient
}

/// Kullback–Leibler divergence of `N(mean, exp(log_variance))` from the standard normal, a sum over the code, a mean over the batch
/// (Kingma and Welling 2014), at least 0; and its gradient.
///
/// # Shapes
/// `said`: `[batch, 2 latent, 1, 1]`, see [`code_means`]
pub(super) fn divergence(said: &Tensor) -> (f64, Tensor) {
    let [batch, numbers, ..] = said.shape();
    let share = 1.0 / batch as f64;
    let mut gradient = said.clone();
    let mut sum = 0.0;
    for item in gradient.values_mut().chunks_exact_mut(numbers) {
        let (means, log_variances) = item.split_at_mut(numbers / 2);
        for (mean, log_variance) in means.iter_mut().zip(log_variances) {
            let (m, l) = (f64::from(*mean), f64::from(*log_variance));
            sum += 0.5 * (l.exp() + m * m - l - 1.0);
            *mean = (share * m) as f32;
            *log_variance = (0.5 * share * (l.exp() - 1.0)) as f32;
        }
    }
    (share * sum, gradient)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// What scikit-image and PyTorch say, see `tests/oracle/make_reconstruction.py`.
    #[derive(Deserialize)]
    struct Oracle {
        similarity: Vec<Similarity>,
        similarity_gradient: Gradient,
        variational: Variational,
        adversarial: Adversarial,
    }

    #[derive(Deserialize)]
    struct Similarity {
        shape: [usize; 4],
        one: Vec<f32>,
        other: Vec<f32>,
        map: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Gradient {
        shape: [usize; 4],
        one: Vec<f32>,
        other: Vec<f32>,
        loss: f64,
        gradient: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Variational {
        shape: [usize; 4],
        mean: Vec<f32>,
        log_variance: Vec<f32>,
        noise: Vec<f32>,
        code: Vec<f32>,
        divergence: f64,
        weight: Vec<f32>,
        of_mean: Vec<f32>,
        of_log_variance: Vec<f32>,
    }

    #[derive(Deserialize)]
    struct Adversarial {
        shape: [usize; 4],
        logits: Vec<f32>,
        real: f64,
        fake: f64,
        of_real: Vec<f32>,
        of_fake: Vec<f32>,
    }

    fn oracle() -> Oracle {
        let text = include_str!("../../../tests/oracle/reconstruction.json");
        serde_json::from_str(text).unwrap()
    }

    fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor {
        Tensor::new(values.to_vec(), shape)
    }

    fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= tolerance,
                "number {at}: {found} instead of {expected}"
            );
        }
    }

    #[test]
    fn similarity_is_that_of_scikit_image() {
        for case in oracle().similarity {
            let one = tensor(&case.one, case.shape);
            let other = tensor(&case.other, case.shape);
            let map = structural_similarity(&one, &other);
            assert_close(map.values(), &case.map, 2e-4);
            let swapped = structural_similarity(&other, &one);
            assert_close(swapped.values(), &case.map, 2e-4);
            let same = structural_similarity(&one, &one);
            assert_close(same.values(), &vec![1.0; case.map.len()], 1e-5);
        }
    }

    #[test]
    fn the_gradient_of_similarity_is_that_of_pytorch() {
        let case = oracle().similarity_gradient;
        let one = tensor(&case.one, case.shape);
        let other = tensor(&case.other, case.shape);
        let (loss, gradient) = dissimilarity(&one, &other);
        assert!((1.0 - loss - case.loss).abs() < 1e-5);
        let largest = case
            .gradient
            .iter()
            .fold(0.0f32, |max, value| max.max(value.abs()));
        let of_similarity: Vec<f32> = gradient.values().iter().map(|value| -value).collect();
        assert_close(&of_similarity, &case.gradient, 2e-4 * largest);
    }

    #[test]
    fn codes_divergence_and_their_gradients_are_those_of_pytorch() {
        let case = oracle().variational;
        let [batch, latent, ..] = case.shape;
        // The halves of what an encoder says of each image.
        let joined = |means: &[f32], log_variances: &[f32]| {
            let items = means.chunks(latent).zip(log_variances.chunks(latent));
            items
                .flat_map(|(means, others)| [means, others].concat())
                .collect::<Vec<f32>>()
        };
        let said = joined(&case.mean, &case.log_variance);
        let said = tensor(&said, [batch, 2 * latent, 1, 1]);
        let noise = tensor(&case.noise, case.shape);
        assert_eq!(code_means(&said), tensor(&case.mean, case.shape));
        assert_close(reparametrised(&said, &noise).values(), &case.code, 1e-5);
        let (apart, of_divergence) = divergence(&said);
        assert!((apart - case.divergence).abs() < 1e-4);
        let weight = tensor(&case.weight, case.shape);
        let of_code = reparametrised_gradient(&said, &noise, &weight);
        let found = zipped(&of_code, &of_divergence, |a, b| a + b);
        let expected = joined(&case.of_mean, &case.of_log_variance);
        assert_close(found.values(), &expected, 1e-5);
        // The standard normal itself is at no distance.
        assert_eq!(divergence(&Tensor::zeros([2, 4, 1, 1])).0, 0.0);
    }

    #[test]
    fn cross_entropy_and_its_gradient_are_those_of_pytorch() {
        let case = oracle().adversarial;
        for (real, expected, gradient) in [
            (true, case.real, &case.of_real),
            (false, case.fake, &case.of_fake),
        ] {
            let (found, of_logits) = cross_entropy(&tensor(&case.logits, case.shape), real);
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
            assert_close(of_logits.values(), gradient, 1e-5);
        }
    }

    /// Far from 0, and where images are equal.
    #[test]
    fn losses_are_numbers_wherever_they_should_be() {
        let logits = Tensor::new(vec![-1e30, 1e30], [2, 1, 1, 1]);
        for real in [true, false] {
            let (loss, gradient) = cross_entropy(&logits, real);
            assert!((loss / 5e29 - 1.0).abs() < 1e-6, "{loss}");
            // One of the two is right.
            let expected = if real { [-0.5, 0.0] } else { [0.0, 0.5] };
            assert_eq!(gradient.values(), expected);
        }
        let [one, other] =
            [[0.5, -1.0, 2.0], [0.5, 1.0, 1.0]].map(|values| tensor(&values, [1, 3, 1, 1]));
        let (loss, gradient) = absolute_error(&one, &other, 0.25);
        assert_eq!(loss, 0.75);
        assert_eq!(gradient.values(), [0.0, -0.25, 0.25]);
    }
}
