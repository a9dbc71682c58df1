//! The vector instructions that the kernels are written in, and the choice between them at run time.
//!
//! A kernel is a [`Kernel`]: a value with a `run` that is generic over the instruction set and always inlined. [`dispatch`] runs it inside a function
//! compiled for the best instruction set of this processor, so one binary holds all the variants and runs everywhere.

mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

/// A vector of `f32` and what the kernels do with it.
///
/// # Safety
/// The functions may only be called where the processor has the instructions of the set. Pointers must be valid for
/// `LANES` elements (for [`Isa::load_within`], for the elements in the range).
pub(crate) trait Isa: Copy + 'static {
    /// The vector.
    type V: Copy;
    /// Its number of elements.
    const LANES: usize;
    /// Columns of the register tile of a matrix product, whose rows are up to three vectors: 4 or 8.
    const COLUMNS: usize;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// Loads the elements `low..high` and sets the others to zero, without touching their memory.
    unsafe fn load_within(from: *const f32, low: usize, high: usize) -> Self::V;
    unsafe fn store(to: *mut f32, value: Self::V);
    /// Stores past the caches, where the set can. `to` is aligned to the vector.
    #[inline(always)]
    unsafe fn stream(to: *mut f32, value: Self::V) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(to, value) }
    }
    /// As [`Isa::stream`], one element.
    #[inline(always)]
    unsafe fn stream_one(to: *mut f32, value: f32) {
        // SAFETY: the caller's promise.
        unsafe { to.write(value) }
    }
    /// Makes all that was streamed visible to what this thread publishes next.
    #[inline(always)]
    unsafe fn end_stream() {}
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// The larger; where one is NaN, `b` (NEON: NaN).
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; where one is NaN, `b` (NEON: NaN).
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// A leaky ReLU of slope 0 to 1; an infinity times slope 0 is no NaN but stays the infinity, as in scalar code.
    #[inline(always)]
    unsafe fn leaky_relu(value: Self::V, slope: Self::V) -> Self::V {
        // SAFETY: the caller's promise, that the processor has the instructions.
        unsafe { Self::max(Self::mul(value, slope), value) }
    }
    /// A maximum over `a`, `b` and perhaps others, NaN where one of the two is.
    unsafe fn or_nan(max: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// `then` where `a > b` or `a` is NaN, else `otherwise`.
    unsafe fn greater(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V;
    /// `a · b + c`.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Asks for a cache line that need not exist.
    #[inline(always)]
    unsafe fn prefetch(_from: *const f32) {}
    /// As [`Isa::prefetch`], not to the first level of the caches.
    #[inline(always)]
    unsafe fn prefetch_near(_from: *const f32) {}
    /// `[a0 b0 a1 b1 …]`, in two vectors.
    unsafe fn interleave(a: Self::V, b: Self::V) -> [Self::V; 2];
    /// The inverse of [`Isa::interleave`]: elements at even and at odd places.
    unsafe fn uninterleave(a: Self::V, b: Self::V) -> [Self::V; 2];

    /// `[a0 b0 c0 d0 a1 …]`, in four vectors.
    #[inline(always)]
    unsafe fn interleave4([a, b, c, d]: [Self::V; 4]) -> [Self::V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let [ac0, ac1] = Self::interleave(a, c);
            let [bd0, bd1] = Self::interleave(b, d);
            let [v0, v1] = Self::interleave(ac0, bd0);
            let [v2, v3] = Self::interleave(ac1, bd1);
            [v0, v1, v2, v3]
        }
    }

    /// The inverse of [`Isa::interleave4`].
    #[inline(always)]
    unsafe fn uninterleave4([v0, v1, v2, v3]: [Self::V; 4]) -> [Self::V; 4] {
        // SAFETY: the caller's promise.
        unsafe {
            let [ac0, bd0] = Self::uninterleave(v0, v1);
            let [ac1, bd1] = Self::uninterleave(v2, v3);
            let [a, c] = Self::uninterleave(ac0, ac1);
            let [b, d] = Self::uninterleave(bd0, bd1);
            [a, b, c, d]
        }
    }
}

/// Work that is compiled once for each instruction set.
pub(crate) trait Kernel {
    /// What the work returns.
    type Output;

    /// Does the work. Implementations are `#[inline(always)]`, as is all that they call and that must be vectorised.
    ///
    /// # Safety
    /// The processor has the instructions of `I`.
    unsafe fn run<I: Isa>(self) -> Self::Output;
}

/// The instruction sets, best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Level {
    /// The instruction sets of this processor, best last.
    #[allow(clippy::vec_init_then_push)] // What follows the first push depends on the target.
    pub(crate) fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        levels.push(Self::Portable);
        #[cfg(target_arch = "x86_64")]
        if !cfg!(miri) {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                levels.push(Self::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if !cfg!(miri) {
            levels.push(Self::Neon);
        }
        levels
    }

    /// The best instruction set of this processor.
    ///
    /// The environment variable `PUPILLA_SIMD` (`portable`, `avx2`, `avx512`, `neon`) asks for a lesser one.
    pub(crate) fn best() -> Self {
        static BEST: OnceLock<Level> = OnceLock::new();
        *BEST.get_or_init(|| {
            let available = Self::available();
            let wanted = std::env::var("PUPILLA_SIMD").unwrap_or_default();
            available
                .iter()
                .copied()
                .find(|level| format!("{level:?}").eq_ignore_ascii_case(&wanted))
                .unwrap_or(available[available.len() - 1])
        })
    }

    /// [`Isa::LANES`] of the set.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Self::Portable => portable::Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::LANES,
        }
    }

    /// [`Isa::COLUMNS`] of the set.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::Portable => portable::Portable::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::COLUMNS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::COLUMNS,
        }
    }
}

/// Runs a kernel with the instructions of `level`.
///
/// # Safety
/// `level` is one of [`Level::available`].
pub(crate) unsafe fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    // SAFETY: the caller promises that the processor has the instructions.
    unsafe {
        match level {
            Level::Portable => kernel.run::<portable::Portable>(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2::run(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512::run(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => kernel.run::<neon::Neon>(),
        }
    }
}

/// Transposes LANES rows of LANES elements by interleaving the first half of the rows with the second, log₂ LANES times.
///
/// # Safety
/// The processor has the instructions of `I`; both pointers are valid for LANES rows of their stride.
#[inline(always)]
pub(crate) unsafe fn transpose<I: Isa>(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: the caller's pointers are valid for LANES rows; LANES is at most 16.
    unsafe {
        let mut rows = [I::splat(0.0); 16];
        let mut row = 0;
        while row < I::LANES {
            rows[row] = I::load(from.add(row * from_stride));
            row += 1;
        }
        let mut step = 1;
        while step < I::LANES {
            let mut shuffled = rows;
            let mut row = 0;
            while row < I::LANES / 2 {
                let [low, high] = I::interleave(rows[row], rows[row + I::LANES / 2]);
                shuffled[2 * row] = low;
                shuffled[2 * row + 1] = high;
                row += 1;
            }
            rows = shuffled;
            step *= 2;
        }
        let mut row = 0;
        while row < I::LANES {
            I::store(to.add(row * to_stride), rows[row]);
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Permutations;

    impl Kernel for Permutations {
        type Output = ();

        unsafe fn run<I: Isa>(self) {
            let lanes = I::LANES;
            let values: Vec<f32> = (0..4 * lanes).map(|value| value as f32).collect();
            let mut back = vec![0.0f32; 4 * lanes];
            // SAFETY: `dispatch` runs us where `I` exists; all pointers are within the vectors.
            unsafe {
                let at = |quarter: usize| I::load(values.as_ptr().add(quarter * lanes));
                let split = I::uninterleave4([at(0), at(1), at(2), at(3)]);
                for (phase, vector) in split.into_iter().enumerate() {
                    I::store(back.as_mut_ptr(), vector);
                    for (lane, value) in back[..lanes].iter().enumerate() {
                        assert_eq!(*value, (4 * lane + phase) as f32);
                    }
                }
                for (quarter, vector) in I::interleave4(split).into_iter().enumerate() {
                    I::store(back.as_mut_ptr().add(quarter * lanes), vector);
                }
                assert_eq!(back, values);
                for low in 0..=lanes {
                    for high in low..=lanes {
                        I::store(
                            back.as_mut_ptr(),
                            I::load_within(values[1..].as_ptr(), low, high),
                        );
                        for (lane, value) in back[..lanes].iter().enumerate() {
                            let inside = (low..high).contains(&lane);
                            assert_eq!(*value, if inside { (lane + 1) as f32 } else { 0.0 });
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn permutations_of_every_instruction_set() {
        for level in Level::available() {
            // SAFETY: available.
            unsafe { dispatch(level, Permutations) }
        }
    }
}
