//! Plain arrays, which the compiler turns into the vectors of the target's baseline.

use super::Isa;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn zip(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

// SAFETY of the bodies: pointers are valid by the contract of `Isa`.
impl Isa for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const COLUMNS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { from.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn load_within(from: *const f32, low: usize, high: usize) -> Self::V {
        let mut value = [0.0; 4];
        for (lane, element) in value.iter_mut().enumerate() {
            if (low..high).contains(&lane) {
                *element = unsafe { from.wrapping_add(lane).read() };
            }
        }
        value
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self::V) {
        unsafe { to.cast::<[f32; 4]>().write(value) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn or_nan(max: Self::V, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|lane| {
            if a[lane].is_nan() | b[lane].is_nan() {
                f32::NAN
            } else {
                max[lane]
            }
        })
    }
    #[inline(always)]
    unsafe fn greater(a: Self::V, b: Self::V, then: Self::V, otherwise: Self::V) -> Self::V {
        std::array::from_fn(|lane| {
            if (a[lane] > b[lane]) | a[lane].is_nan() {
                then[lane]
            } else {
                otherwise[lane]
            }
        })
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Not `f32::mul_add`: without the instruction that is a call of a library function.
        zip(zip(a, b, |a, b| a * b), c, |product, c| product + c)
    }
    #[inline(always)]
    unsafe fn interleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        [[a[0], b[0], a[1], b[1]], [a[2], b[2], a[3], b[3]]]
    }
    #[inline(always)]
    unsafe fn uninterleave(a: Self::V, b: Self::V) -> [Self::V; 2] {
        [[a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]]]
    }
}
