//! The learning rate over the steps of a run.

use std::f64::consts::PI;

/// One cycle (Smith and Topin 2018, with the constants of PyTorch's `OneCycleLR`): a cosine from
/// 1/25 of `peak` up to it over the first 30 % of the steps, and down to 1/10 000 of the start.
pub(crate) fn one_cycle(step: usize, steps: usize, peak: f64) -> f64 {
    let (start, end) = (peak / 25.0, peak / 25.0 / 1e4);
    let top = (0.3 * steps as f64 - 1.0).max(0.0);
    let last = steps.saturating_sub(1) as f64;
    let step = step as f64;
    if step < top {
        cosine(start, peak, step / top)
    } else if last > top {
        cosine(peak, end, (step - top) / (last - top))
    } else {
        peak
    }
}

/// Half a cosine from `from` to `to`, of which `share` (0 to 1) is over.
pub(crate) fn cosine(from: f64, to: f64, share: f64) -> f64 {
    to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_pytorch() {
        // PyTorch's formula for max_lr 1e-3 and 20 steps, worked out in Python.
        for (step, expected) in [
            (0, 4e-5),
            (3, 6.683_281_572_999_747e-4),
            (5, 1e-3),
            (10, 7.169_430_017_913_008e-4),
            (19, 4e-9),
        ] {
            let rate = one_cycle(step, 20, 1e-3);
            assert!((rate - expected).abs() < 1e-9, "{step}: {rate}");
        }
    }

    #[test]
    fn a_run_of_one_step_has_a_rate() {
        assert_eq!(one_cycle(0, 1, 1e-3), 1e-3);
    }
}
