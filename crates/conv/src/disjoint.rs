//! One output slice written by several threads.

use std::marker::PhantomData;

/// A mutable slice that threads share to write elements that no other thread touches.
///
/// The channels of an output lie `height × width` apart, so the part that one thread computes is seldom one contiguous
/// sub-slice, and `split_at_mut` cannot describe it.
#[derive(Clone, Copy)]
pub(crate) struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the only accesses are `part` and `pointer`, whose callers promise that no two living parts overlap; `T` is `Send`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// The elements `offset..offset + len`. Panics when they are not within the slice.
    ///
    /// # Safety
    /// No other part that contains one of these elements is alive, on any thread.
    #[inline]
    #[allow(clippy::mut_from_ref)] // The caller promises what the borrow checker cannot see.
    pub(crate) unsafe fn part(&self, offset: usize, len: usize) -> &mut [T] {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "elements {offset}..{offset}+{len} of {}",
            self.len
        );
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise, alive for `'a`.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), len) }
    }

    /// A pointer to the element `offset`, from which `reach` elements are within the slice. Panics when they are not.
    ///
    /// Using it is sound as long as no other thread touches the elements that are read or written through it.
    #[inline]
    pub(crate) fn pointer(&self, offset: usize, reach: usize) -> *mut T {
        assert!(
            offset <= self.len && reach <= self.len - offset,
            "elements {offset}..{offset}+{reach} of {}",
            self.len
        );
        self.start.wrapping_add(offset)
    }
}
