//! AVX2 with FMA: eight lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Isa, Kernel};

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Runs a kernel that is compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function may only be called where AVX2 and FMA exist.
    unsafe { kernel.run::<Avx2>() }
}

// SAFETY of the bodies: the instructions exist and pointers are valid by the contract of `Isa`.
impl Isa for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const COLUMNS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_within(from: *const f32, low: usize, high: usize) -> Self::V {
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let mask = _mm256_andnot_si256(
                _mm256_cmpgt_epi32(_mm256_set1_epi32(low as i32), lane),
                _mm256_cmpgt_epi32(_mm256_set1_epi32(high as i32), lane),
            );
            _mm256_maskload_ps(from, mask)
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::V) {
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn stream(to: *mut f32, value: Self::V) {
        unsafe { _mm256_stream_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn stream_one(to: *mut f32, value: f32) {
        unsafe { _mm_stream_si32(to.cast(), value.to_bits() as i32) }
    }
    #[inline(always)]
    unsafe fn end_stream() {
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn or_nan(max: Self::V, a: Self::V, b: Self::V) -> Self::V {
        // The mask's set bits are a NaN.
        unsafe { _mm256_or_ps(max, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, b)) }
    }
    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        unsafe {
            let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
            let mask = _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
            _mm256_blendv_ps(otherwise, then, mask)
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_near(from: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn interleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        unsafe {
            let low = _mm256_unpacklo_ps(a, b);
            let high = _mm256_unpackhi_ps(a, b);
            [
                _mm256_permute2f128_ps::<0x20>(low, high),
                _mm256_permute2f128_ps::<0x31>(low, high),
            ]
        }
    }
    #[inline(always)]
    unsafe fn uninterleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        unsafe {
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0xdd>(a, b));
            [
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(even)),
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(odd)),
            ]
        }
    }
}
