//! What long work tells while it runs, and how it is stopped. The library never prints: it tells an [`Observer`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop, which any thread can raise, and which long work looks at often. Clones are the same flag. A flag stays raised.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks all work that looks at this flag to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether the work is asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// For `?`: ends the work if it is asked to stop.
    ///
    /// # Errors
    /// [`Stopped`] if the flag is raised.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_raised() {
            Err(Stopped)
        } else {
            Ok(())
        }
    }
}

/// An observer that tells nobody, and stops the work when the flag is raised.
impl Observer for StopFlag {
    fn stop_flag(&self) -> StopFlag {
        self.clone()
    }
}

/// Listens to long work. Every method has an empty default, so that an observer takes what it needs.
pub trait Observer {
    /// A stage of known length begins: `total` units of work, named for people ("training p=33").
    fn start(&mut self, _stage: &str, _total: u64) {}

    /// `done` of the stage's units are finished; `loss` is the current training loss where there is one.
    fn advance(&mut self, _done: u64, _loss: Option<f64>) {}

    /// The terms of the loss at a step, by name, before they are weighted.
    fn losses(&mut self, _step: u64, _terms: &[(&str, f64)]) {}

    /// The work continues from a checkpoint: the steps before it, and the seconds before it if the checkpoint has them.
    fn resumed(&mut self, _step: u64, _seconds: Option<f64>) {}

    /// The stage is over.
    fn finish(&mut self) {}

    /// Something a person should know that does not stop the work.
    fn warn(&mut self, _warning: &str) {}

    /// A file was left out, with the reason (only where the caller allowed it).
    fn skipped(&mut self, _path: &Path, _reason: &str) {}

    /// The flag that stops the work, also inside of an image. Without it, the work looks at [`stop_requested`](Self::stop_requested) alone.
    fn stop_flag(&self) -> StopFlag {
        StopFlag::default()
    }

    /// Asked between the units of long work: `true` ends it with a "stopped" error, leaving nothing half-written.
    fn stop_requested(&mut self) -> bool {
        self.stop_flag().is_raised()
    }
}

/// The work was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Stopped;

/// One stage of long work: calls `work` with the indices from 0 to `count - 1`, and tells the observer.
///
/// # Errors
/// The first error of `work`, or [`Stopped`] if the observer asks to stop.
pub fn for_each<E: From<Stopped>>(
    observer: &mut dyn Observer,
    stage: &str,
    count: usize,
    mut work: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    observer.start(stage, count as u64);
    for index in 0..count {
        if observer.stop_requested() {
            return Err(Stopped.into());
        }
        work(index)?;
        observer.advance(index as u64 + 1, None);
    }
    observer.finish();
    Ok(())
}

/// An observer that ignores every call, and never asks to stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
