//! Keeping freed memory: the arrays of one training step are those of the next.

/// Asks the C library's allocator to keep large freed blocks instead of giving them back to the system.
///
/// Feature maps are larger than glibc's limit for blocks that go straight back; every step then pays for
/// new zeroed pages, which took two fifths of the processor time of a teacher's training (`docs/performance.md`). Memory stays at its peak instead. Call it once, before
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
