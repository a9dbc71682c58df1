//! The processor's peak rate, measured, to judge kernels by.

use std::{hint::black_box, time::Instant};

use rayon::prelude::*;

use crate::simd::{Isa, Kernel, Level, dispatch};

/// Measures the rate of independent fused multiply-adds in registers, in GFLOP/s, over all threads of the current rayon
/// pool, with the instruction set that the kernels use. Takes about 0.2 s.
pub fn measured_peak() -> f64 {
    let threads = rayon::current_num_threads();
    (0..8)
        .map(|_| {
            let start = Instant::now();
            let flops: f64 = (0..threads)
                .into_par_iter()
                .with_max_len(1)
                // SAFETY: the best level is available.
                .map(|_| unsafe { dispatch(Level::best(), MultiplyAdds) })
                .sum();
            flops / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}

struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    /// Floating-point operations done.
    type Output = f64;

    #[inline(always)]
    unsafe fn run<I: Isa>(self) -> f64 {
        const STEPS: usize = 2_000_000;
        const CHAINS: usize = 12;
        // SAFETY: `dispatch` runs us where `I` exists.
        unsafe {
            let factor = I::splat(black_box(0.5));
            let mut sums = [factor; CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = I::mul_add(*sum, factor, factor);
                }
            }
            black_box(sums);
        }
        (2 * STEPS * CHAINS * I::LANES) as f64
    }
}
