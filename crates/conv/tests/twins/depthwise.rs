//! Depthwise convolutions against their definition, in `f64`.

use proptest::prelude::*;
use pupilla_conv::{
    Activation, Conv2d, Depthwise, depthwise, depthwise_input_gradient, depthwise_weight_gradient,
    forward_activated,
};

use crate::naive::{Problem, error};

/// Largest allowed error in units of the root mean square of the exact result.
const TOLERANCE: f64 = 1e-5;

/// What makes a shape.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    input: [usize; 4],
    kernel: usize,
    stride: usize,
    padding: [[usize; 2]; 2],
}

/// The kernels that are fast by far the most often, planes from one pixel to several vectors.
fn any_sizes() -> impl Strategy<Value = Sizes> {
    (
        [1..3usize, 1..10usize],
        [1..40usize, 1..70usize],
        prop_oneof![4 => Just(3usize), 4 => Just(5), 1 => 1..8usize],
        prop_oneof![4 => Just(1usize), 4 => Just(2), 1 => 3..5usize],
        [[0..6usize, 0..6usize], [0..6usize, 0..6usize]],
    )
        .prop_map(|([batch, channels], mut size, kernel, stride, padding)| {
            for (side, padding) in size.iter_mut().zip(padding) {
                *side = (*side).max(kernel.saturating_sub(padding[0] + padding[1]));
            }
            Sizes {
                input: [batch, channels, size[0], size[1]],
                kernel,
                stride,
                padding,
            }
        })
}

/// Calls `f(input index, weight index, output index)` for every product of the definition whose input is no zero beside the planes.
fn each_product(of: &Sizes, [rows, columns]: [usize; 2], mut f: impl FnMut(usize, usize, usize)) {
    let [batch, channels, height, width] = of.input;
    for plane in 0..batch * channels {
        for y in 0..rows {
            for x in 0..columns {
                for i in 0..of.kernel {
                    for j in 0..of.kernel {
                        let row = (y * of.stride + i) as isize - of.padding[0][0] as isize;
                        let column = (x * of.stride + j) as isize - of.padding[1][0] as isize;
                        if (0..height as isize).contains(&row)
                            && (0..width as isize).contains(&column)
                        {
                            f(
                                (plane * height + row as usize) * width + column as usize,
                                (plane % channels * of.kernel + i) * of.kernel + j,
                                (plane * rows + y) * columns + x,
                            );
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn every_pass_is_that_of_the_definition(
        of in any_sizes(),
        seed: u64,
        slope in prop_oneof![Just(0.0f32), Just(0.25), Just(1.0)],
        ceiling in prop_oneof![Just(0.5f32), Just(f32::INFINITY)],
    ) {
        let shape = Depthwise::new(of.input, of.kernel, of.stride, of.padding).unwrap();
        let [batch, channels, height, width] = of.input;
        let rows = (height + of.padding[0][0] + of.padding[0][1] - of.kernel) / of.stride + 1;
        let columns = (width + of.padding[1][0] + of.padding[1][1] - of.kernel) / of.stride + 1;
        prop_assert_eq!(shape.output_size(), [rows, columns]);
        // Operands of the right lengths.
        let values = |len, seed| Problem::random(Conv2d::new([1, 1, 1, len], 1, [1, 1]).unwrap(), seed).input;
        let input = values(batch * channels * height * width, seed);
        let weight = values(channels * of.kernel * of.kernel, seed ^ 1);
        let bias = values(channels, seed ^ 2);
        let gradient = values(batch * channels * rows * columns, seed ^ 3);

        let mut expected = vec![0.0f64; gradient.len()];
        let mut expected_of_input = vec![0.0f64; input.len()];
        let mut expected_of_weight = vec![0.0f64; weight.len()];
        each_product(&of, [rows, columns], |from, tap, to| {
            let [x, w, g] = [input[from], weight[tap], gradient[to]].map(f64::from);
            expected[to] += x * w;
            expected_of_input[from] += g * w;
            expected_of_weight[tap] += g * x;
        });
        for (plane, values) in expected.chunks_exact_mut(rows * columns).enumerate() {
            for value in values {
                *value += f64::from(bias[plane % channels]);
                *value = value.max(*value * f64::from(slope)).min(f64::from(ceiling));
            }
        }

        let mut output = vec![f32::NAN; gradient.len()];
        depthwise(&shape, &input, &weight, Some(&bias), Activation { slope, ceiling }, &mut output);
        let worst = error(&output, &expected);
        prop_assert!(worst <= TOLERANCE, "{of:?}: {worst:e}");
        let mut of_input = vec![f32::NAN; input.len()];
        depthwise_input_gradient(&shape, &gradient, &weight, &mut of_input);
        let worst = error(&of_input, &expected_of_input);
        prop_assert!(worst <= TOLERANCE, "{of:?}, input gradient: {worst:e}");
        let mut of_weight = vec![f32::NAN; weight.len()];
        depthwise_weight_gradient(&shape, &input, &gradient, &mut of_weight);
        let worst = error(&of_weight, &expected_of_weight);
        prop_assert!(worst <= TOLERANCE, "{of:?}, weight gradient: {worst:e}");
    }
}

/// With every algorithm: an output above the ceiling is the ceiling, the others are what they are without one.
#[test]
fn a_ceiling_cuts_and_changes_nothing_else() {
    // Cook–Toom, 1×1, lowered, and as large as the input.
    for (channels, side, kernel, stride) in
        [(8, 20, 3, 1), (16, 9, 1, 1), (3, 17, 3, 2), (8, 3, 3, 1)]
    {
        let shape = Conv2d::new([2, channels, side, side], 16, [kernel; 2])
            .unwrap()
            .with_stride([stride; 2])
            .unwrap();
        let mut problem = Problem::random(shape, 9);
        // A NaN stays what it is.
        problem.input[0] = f32::NAN;
        let run = |activation| {
            let mut output = vec![0.0; shape.output_len()];
            let (input, weight) = (&problem.input, &problem.weight);
            forward_activated(
                &shape,
                input,
                weight,
                Some(&problem.bias),
                activation,
                &mut output,
            );
            output
        };
        let free = run(Activation::leaky_relu(0.25));
        let cut = run(Activation {
            slope: 0.25,
            ceiling: 0.5,
        });
        let above = free.iter().filter(|value| **value > 0.5).count();
        assert!(above > 0 && above < free.len(), "{shape:?}");
        for (free, cut) in free.iter().zip(&cut) {
            let expected = if *free > 0.5 { 0.5 } else { *free };
            assert_eq!(cut.to_bits(), expected.to_bits(), "{shape:?}: {free}");
        }
        assert!(cut.iter().any(|value| value.is_nan()));
    }
}

#[test]
fn a_nan_stays_one_and_touches_its_windows_alone() {
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2), (2, 1)] {
        let padding = [[1, 1]; 2];
        let shape = Depthwise::new([1, 2, 21, 21], kernel, stride, padding).unwrap();
        let mut input = vec![1.0; 2 * 21 * 21];
        input[21 * 21 + 10 * 21 + 10] = f32::NAN;
        let [rows, columns] = shape.output_size();
        let mut output = vec![0.0; 2 * rows * columns];
        let weight = vec![1.0; 2 * kernel * kernel];
        depthwise(
            &shape,
            &input,
            &weight,
            None,
            Activation::RELU6,
            &mut output,
        );
        for (at, value) in output.iter().enumerate() {
            let (plane, y, x) = (at / (rows * columns), at / columns % rows, at % columns);
            let sees = |place: usize| (place * stride..place * stride + kernel).contains(&11);
            let expected = plane == 1 && sees(y) && sees(x);
            assert_eq!(value.is_nan(), expected, "{kernel}, {stride}: {y}, {x}");
            assert!(value.is_nan() || *value <= 6.0);
        }
    }
}

#[test]
fn impossible_shapes_say_why() {
    let refused = |input, kernel, stride, padding| {
        Depthwise::new(input, kernel, stride, padding)
            .unwrap_err()
            .to_string()
    };
    let none = [[0; 2]; 2];
    assert!(refused([1, 1, 4, 4], 5, 1, none).contains("5x5 kernel does not fit into a 4x4"));
    assert!(refused([1, 1, 4, 4], 3, 0, none).contains("stride"));
    assert!(refused([1, 1, 0, 4], 3, 1, [[2; 2]; 2]).contains("positive"));
    assert!(refused([1, 0, 4, 4], 3, 1, none).contains("positive"));
    assert!(refused([1, 1, 4, 4], 3, 1, [[usize::MAX, 1], [0, 0]]).contains("address"));
    assert!(refused([usize::MAX, 2, 4, 4], 3, 1, none).contains("address"));
}
