//! AVX-512: sixteen lanes, 32 registers.

use std::arch::x86_64::*;

use super::{Isa, Kernel};

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Runs a kernel that is compiled for AVX-512.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: this function may only be called where AVX-512 exists.
    unsafe { kernel.run::<Avx512>() }
}

// SAFETY of the bodies: the instructions exist and pointers are valid by the contract of `Isa`.
impl Isa for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const COLUMNS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_within(from: *const f32, low: usize, high: usize) -> Self::V {
        let mask = ((1u32 << high) - 1) & !((1u32 << low) - 1);
        unsafe { _mm512_maskz_loadu_ps(mask as u16, from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::V) {
        unsafe { _mm512_storeu_ps(to, value) }
    }
    #[inline(always)]
    unsafe fn stream(to: *mut f32, value: Self::V) {
        unsafe { _mm512_stream_ps(to, value) }
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
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn or_nan(max: Self::V, a: Self::V, b: Self::V) -> Self::V {
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, b);
            _mm512_mask_blend_ps(nan, max, _mm512_set1_ps(f32::NAN))
        }
    }
    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        unsafe {
            let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
            let mask = greater | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_blend_ps(mask, otherwise, then)
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
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
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high =
                _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
            [
                _mm512_permutex2var_ps(a, low, b),
                _mm512_permutex2var_ps(a, high, b),
            ]
        }
    }
    #[inline(always)]
    unsafe fn uninterleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            [
                _mm512_permutex2var_ps(a, even, b),
                _mm512_permutex2var_ps(a, odd, b),
            ]
        }
    }
}
