//! What the networks are trained to make small.

use burn::tensor::{Tensor, activation};

use super::window::window_mean;

/// `(0.01 · L)²` and `(0.03 · L)²` for values in a range of L = 1 (Wang et al. 2004).
const STABILISERS: [f64; 2] = [1e-4, 9e-4];

/// Structural similarity (Wang et al. 2004) of two images around each pixel, with a Gaussian window of 11×11 pixels (deviation 1.5)
/// and population moments, a mean over the channels: 1 where they are equal, lower, down to -1, where they are not.
///
/// # Shapes
/// - `one`, `other`: `[batch, channels, height, width]`, in `[0, 1]` (values of a reconstruction may lie outside)
/// - output: `[batch, 1, height, width]`
pub(crate) fn structural_similarity(one: Tensor<4>, other: Tensor<4>) -> Tensor<4> {
    let means = [window_mean(one.clone()), window_mean(other.clone())];
    let squares = means.clone().map(|mean| mean.clone() * mean);
    let product = means[0].clone() * means[1].clone();
    let covariance = window_mean(one.clone() * other.clone()) - product.clone();
    let squares_of_means = squares[0].clone() + squares[1].clone();
    let variances =
        window_mean(one.clone() * one + other.clone() * other) - squares_of_means.clone();
    let similar = (product * 2.0 + STABILISERS[0]) * (covariance * 2.0 + STABILISERS[1]);
    let scale = (squares_of_means + STABILISERS[0]) * (variances + STABILISERS[1]);
    (similar / scale).mean_dim(1)
}

/// Mean over batch and numbers of the squared error.
pub(crate) fn squared_error(one: Tensor<4>, other: Tensor<4>) -> Tensor<1> {
    let error = one - other;
    (error.clone() * error).mean()
}

/// Kullback–Leibler divergence of `N(mean, exp(log_variance))` from the standard normal, a sum over the code, a mean over the batch
/// (Kingma and Welling 2014).
///
/// # Shapes
/// Both `[batch, latent, 1, 1]`; output `[1]`, at least 0.
pub(crate) fn divergence(mean: Tensor<4>, log_variance: Tensor<4>) -> Tensor<1> {
    let batch = mean.dims()[0] as f64;
    let terms = log_variance.clone().exp() + mean.clone() * mean - log_variance - 1.0;
    terms.sum() * (0.5 / batch)
}

/// A code drawn from `N(mean, exp(log_variance))` by standard normal `noise`, with gradients of both (Kingma and Welling 2014).
///
/// # Shapes
/// All `[batch, latent, 1, 1]`.
pub(crate) fn reparametrised(
    mean: Tensor<4>,
    log_variance: Tensor<4>,
    noise: Tensor<4>,
) -> Tensor<4> {
    mean + (log_variance * 0.5).exp() * noise
}

/// Mean cross-entropy of a discriminator's logits with "all are real" or "none is" (Goodfellow et al. 2014), from logits so that
/// nothing overflows.
///
/// # Shapes
/// `[batch, 1, 1, 1]` to `[1]`.
pub(crate) fn cross_entropy(logits: Tensor<4>, real: bool) -> Tensor<1> {
    let wrong = if real { -logits } else { logits };
    activation::softplus(wrong, 1.0).mean()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::device;
    use crate::patch_network::values;
    use burn::tensor::{Device, TensorData};

    /// What scikit-image and PyTorch say, see `tests/oracle/make_network_detectors.py`.
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
        let text = include_str!("../../tests/oracle/network_detectors.json");
        serde_json::from_str(text).unwrap()
    }

    fn tensor(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
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

    fn scalar(tensor: Tensor<1>) -> f64 {
        f64::from(tensor.into_scalar::<f32>())
    }

    #[test]
    fn similarity_is_that_of_scikit_image() {
        let device = device::cpu();
        for case in oracle().similarity {
            let one = tensor(&case.one, case.shape, &device);
            let other = tensor(&case.other, case.shape, &device);
            let map = values(structural_similarity(one.clone(), other.clone()));
            assert_close(&map, &case.map, 2e-4);
            let swapped = values(structural_similarity(other, one.clone()));
            assert_close(&swapped, &case.map, 2e-4);
            let same = values(structural_similarity(one.clone(), one));
            assert_close(&same, &vec![1.0; same.len()], 1e-5);
        }
    }

    #[test]
    fn the_gradient_of_similarity_is_that_of_pytorch() {
        let device = device::cpu().autodiff();
        let case = oracle().similarity_gradient;
        let one = tensor(&case.one, case.shape, &device).require_grad();
        let other = tensor(&case.other, case.shape, &device);
        let loss = structural_similarity(one.clone(), other).mean();
        let gradients = loss.clone().backward();
        assert!((scalar(loss.inner()) - case.loss).abs() < 1e-5);
        let gradient = values(one.grad(&gradients).unwrap());
        let largest = case
            .gradient
            .iter()
            .fold(0.0f32, |max, value| max.max(value.abs()));
        assert_close(&gradient, &case.gradient, 2e-4 * largest);
    }

    #[test]
    fn codes_divergence_and_their_gradients_are_those_of_pytorch() {
        let device = device::cpu().autodiff();
        let case = oracle().variational;
        let [mean, log_variance] = [&case.mean, &case.log_variance]
            .map(|values| tensor(values, case.shape, &device).require_grad());
        let noise = tensor(&case.noise, case.shape, &device);
        let code = reparametrised(mean.clone(), log_variance.clone(), noise);
        assert_close(&values(code.clone().inner()), &case.code, 1e-5);
        let loss = divergence(mean.clone(), log_variance.clone());
        assert!((scalar(loss.clone().inner()) - case.divergence).abs() < 1e-4);
        let weight = tensor(&case.weight, case.shape, &device);
        let gradients = ((code * weight).sum() + loss).backward();
        let of = |tensor: &Tensor<4>| values(tensor.grad(&gradients).unwrap());
        assert_close(&of(&mean), &case.of_mean, 1e-5);
        assert_close(&of(&log_variance), &case.of_log_variance, 1e-5);
        // The standard normal itself is at no distance.
        let zero = tensor(&[0.0; 4], [2, 2, 1, 1], &device::cpu());
        assert_eq!(scalar(divergence(zero.clone(), zero)), 0.0);
    }

    #[test]
    fn cross_entropy_and_its_gradient_are_those_of_pytorch() {
        let device = device::cpu().autodiff();
        let case = oracle().adversarial;
        for (real, expected, gradient) in [
            (true, case.real, &case.of_real),
            (false, case.fake, &case.of_fake),
        ] {
            let logits = tensor(&case.logits, case.shape, &device).require_grad();
            let loss = cross_entropy(logits.clone(), real);
            let gradients = loss.clone().backward();
            let found = scalar(loss.inner());
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
            assert_close(&values(logits.grad(&gradients).unwrap()), gradient, 1e-5);
        }
    }
}
