//! Memory of outputs: freed arrays are kept, the next training step uses the arrays of the last step, and all threads clear them.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// Elements from which on it pays to wake the other threads.
const SHARED: usize = 1 << 16;

/// Asks the C library's allocator to keep large freed blocks instead of giving them back to the system.
///
/// Feature maps are larger than glibc's limit for blocks that go straight back; every step then pays for
/// new zeroed pages, which took two fifths of the processor time of a teacher's training (`docs/notes/performance.md`). Memory stays at its peak instead. Call it once, before
/// any thread is started. Without effect where the allocator is not glibc's.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` takes two integers and changes only the allocator's own settings; both
    // parameters are documented, and a value it does not like is refused, not misused.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// `len` zeros, for an output that is about to be overwritten. The kernels leave no time in which one thread could clear tens of megabytes
/// while the others wait for it, so all of them do.
pub fn zeros(len: usize) -> Vec<f32> {
    if len < SHARED {
        return vec![0.0; len];
    }
    let mut values = Vec::with_capacity(len);
    let share = len.div_ceil(rayon::current_num_threads());
    values.spare_capacity_mut()[..len]
        .par_chunks_mut(share)
        .for_each(|part| part.fill(MaybeUninit::new(0.0)));
    // SAFETY: the capacity is at least `len`, and each of the `len` elements was written.
    unsafe { values.set_len(len) };
    values
}

#[cfg(test)]
mod tests {
    use super::{SHARED, zeros};

    #[test]
    fn all_are_zero() {
        for len in [0, 1, SHARED - 1, SHARED, SHARED + 1, 3 * SHARED + 7] {
            assert_eq!(zeros(len), vec![0.0; len]);
        }
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(3)
            .build()
            .unwrap();
        // The allocator may hand the same block out again.
        drop(vec![f32::NAN; 2 * SHARED + 1]);
        assert_eq!(
            threads.install(|| zeros(2 * SHARED + 1)),
            vec![0.0; 2 * SHARED + 1]
        );
    }
}
