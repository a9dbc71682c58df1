//! How exact Cook–Toom is, on layers as wide as the networks': the figures that the crate's documentation states.

use crate::naive::{self, Problem};
use pupilla_conv::{Conv2d, forward, input_gradient, weight_gradient};

/// Kernel length, and the allowed largest error in units of the exact result's root mean square, two to three and a half times the
/// largest that is measured: room for other data, not for another algorithm.
const BOUNDS: [(usize, f64); 5] = [(2, 1.2e-5), (3, 2e-5), (4, 4e-5), (5, 1e-4), (6, 2e-4)];

#[test]
fn errors_stay_within_their_bounds() {
    for (kernel, bound) in BOUNDS {
        let size = kernel + 15;
        let shape = Conv2d::new([1, 128, size, size], 32, [kernel; 2]).unwrap();
        let problem = Problem::random(shape, 5);
        let mut output = vec![0.0; shape.output_len()];
        forward(
            &shape,
            &problem.input,
            &problem.weight,
            Some(&problem.bias),
            &mut output,
        );
        let mut of_input = vec![0.0; shape.input_len()];
        input_gradient(
            &shape,
            &problem.output_gradient,
            &problem.weight,
            &mut of_input,
        );
        let mut of_weight = vec![0.0; shape.weight_len()];
        weight_gradient(
            &shape,
            &problem.input,
            &problem.output_gradient,
            &mut of_weight,
        );
        let errors = [
            naive::error(&output, &problem.output()),
            naive::error(&of_input, &problem.input_gradient()),
            naive::error(&of_weight, &problem.weight_gradient()),
        ];
        println!(
            "{kernel}x{kernel}: forward {:.1e}, input gradient {:.1e}, weight gradient {:.1e}",
            errors[0], errors[1], errors[2]
        );
        assert!(
            errors.iter().all(|error| *error <= bound),
            "{kernel}x{kernel}: {errors:?}, allowed {bound:e}"
        );
    }
}

#[test]
fn plain_sums_are_nearly_exact() {
    for (kernel, stride) in [(1, 1), (5, 2), (20, 1)] {
        let shape = Conv2d::new([2, 128, 20, 20], 32, [kernel; 2])
            .and_then(|shape| shape.with_stride([stride; 2]))
            .unwrap();
        let problem = Problem::random(shape, 5);
        let mut output = vec![0.0; shape.output_len()];
        forward(
            &shape,
            &problem.input,
            &problem.weight,
            Some(&problem.bias),
            &mut output,
        );
        let error = naive::error(&output, &problem.output());
        assert!(error <= 1e-5, "{kernel}x{kernel}: {error:e}");
    }
}

/// Weight gradients of few channels and many pixels, whose sums must lose little more than those over few. One running sum over
/// all pixels exceeds the bounds, except the third.
#[test]
fn many_pixels_are_summed_as_exactly_as_few() {
    // Cook–Toom of many and of few input channels, lowered, 1×1, and as large as the input.
    for (input, out_channels, kernel, stride, bound) in [
        ([1, 5, 1501, 1501], 3, 2, 1, 4e-6),
        ([1, 4, 1501, 1501], 6, 2, 1, 2.6e-6),
        ([1, 64, 200, 200], 4, 3, 2, 4e-6),
        ([1, 16, 600, 600], 16, 1, 1, 2e-6),
        ([1_000_000, 4, 1, 1], 8, 1, 1, 2e-6),
    ] {
        let shape = Conv2d::new(input, out_channels, [kernel; 2])
            .and_then(|shape| shape.with_stride([stride; 2]))
            .unwrap();
        let problem = Problem::random(shape, 5);
        let mut gradient = vec![0.0; shape.weight_len()];
        weight_gradient(
            &shape,
            &problem.input,
            &problem.output_gradient,
            &mut gradient,
        );
        let error = naive::error(&gradient, &problem.weight_gradient());
        println!("{input:?}: {error:.1e}");
        assert!(error <= bound, "{shape:?}: {error:e}, allowed {bound:e}");
    }
}
