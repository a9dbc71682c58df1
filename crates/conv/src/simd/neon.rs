//! NEON, part of every 64-bit ARM: four lanes, 32 registers.

use std::arch::aarch64::*;

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

// SAFETY of the bodies: NEON is part of the target's baseline, pointers are valid by the contract of `Isa`.
impl Isa for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const COLUMNS: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn load_within(from: *const f32, low: usize, high: usize) -> Self::V {
        let mut value = [0.0; 4];
        for (lane, element) in value.iter_mut().enumerate() {
            if (low..high).contains(&lane) {
                *element = unsafe { from.wrapping_add(lane).read() };
            }
        }
        unsafe { vld1q_f32(value.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::V) {
        unsafe { vst1q_f32(to, value) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vmaxq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn leaky_relu(value: Self::V, slope: Self::V) -> Self::V {
        unsafe { vmaxnmq_f32(vmulq_f32(value, slope), value) }
    }
    #[inline(always)]
    unsafe fn or_nan(max: Self::V, _a: Self::V, _b: Self::V) -> Self::V {
        // Unlike others', NEON's maximum is NaN where either operand is.
        max
    }
    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        unsafe {
            let mask = vornq_u32(vcgtq_f32(a, b), vceqq_f32(a, a));
            vbslq_f32(mask, then, otherwise)
        }
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn interleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        unsafe { [vzip1q_f32(a, b), vzip2q_f32(a, b)] }
    }
    #[inline(always)]
    unsafe fn uninterleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        unsafe { [vuzp1q_f32(a, b), vuzp2q_f32(a, b)] }
    }
}
