//! Scratch memory, reused from call to call.
//!
//! Fresh pages cost more than the arithmetic that is done on them, so buffers go back to a list instead of to the
//! allocator. The list never holds more buffers than were in use at one time.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, TryLockError},
};

/// A cache line, to align buffers for the widest vectors.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
}

static FREE: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

/// The free buffers; `None` if another thread keeps them for long. That thread may not even exist: a process that was forked while a
/// thread held the lock finds it locked for ever. Who gets no list does without it.
fn free() -> Option<MutexGuard<'static, Vec<Vec<Line>>>> {
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        match FREE.try_lock() {
            Ok(free) => return Some(free),
            Err(TryLockError::Poisoned(free)) => return Some(free.into_inner()),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    None
}

/// A buffer of `f32` with unspecified contents, aligned to 64 bytes.
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` elements: the smallest free one that is large enough, else the largest one, grown.
    pub(crate) fn new(len: usize) -> Self {
        let needed = len.div_ceil(Line::LEN);
        let mut lines = free().map_or_else(Vec::new, |mut free| {
            let best = (0..free.len()).min_by_key(|&index| {
                let capacity = free[index].len();
                if capacity >= needed {
                    (false, capacity)
                } else {
                    (true, usize::MAX - capacity)
                }
            });
            best.map_or_else(Vec::new, |index| free.swap_remove(index))
        });
        if lines.len() < needed {
            // Not `resize`, which would copy contents that nobody wants.
            lines = Vec::new();
            lines.resize(needed, Line([0.0; Line::LEN]));
        }
        Self { lines, len }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(mut free) = free() {
            free.push(std::mem::take(&mut self.lines));
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a `Line` is sixteen `f32` without padding, all initialised, and `len` of them fit by construction.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Gives the scratch memory that is kept for the next call back to the allocator.
pub fn release_workspaces() {
    if let Some(mut free) = free() {
        free.clear();
    }
}
