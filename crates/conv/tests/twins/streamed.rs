//! Outputs so large that they are written past the caches.

use crate::naive::{self, Problem};
use pupilla_conv::{Conv2d, forward};

/// More than 16 MiB, in rows that start at all places of a cache line.
#[test]
fn large_outputs_match_their_twin() {
    for (channels, out_channels) in [(1, 3), (5, 3)] {
        let shape = Conv2d::new([1, channels, 1020, 1394], out_channels, [2, 2]).unwrap();
        assert!(4 * shape.output_len() >= 16 << 20);
        let problem = Problem::random(shape, 13);
        let mut output = vec![f32::NAN; shape.output_len()];
        forward(
            &shape,
            &problem.input,
            &problem.weight,
            Some(&problem.bias),
            &mut output,
        );
        naive::assert_close("forward", &shape, &output, &problem.output(), 5e-5);
    }
}
