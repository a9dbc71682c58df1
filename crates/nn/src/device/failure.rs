//! The failures of a GPU, turned into errors.
//!
//! The framework queues work. It reports a failure only by a panic: where a number is read, or on a thread of the driver. [`guarded`]
//! runs a whole piece of work, and turns such panics into errors.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex, PoisonError};

use super::is_gpu;

/// Networks cannot run on the wanted device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The crate was built without the feature `gpu`.
    #[error(
        "this program was built without the feature gpu: build it with that feature, or use the processor"
    )]
    NotBuilt,
    /// No adapter was found.
    #[error(
        "there is no GPU that Vulkan, Metal or DirectX 12 reaches{}: install the card's driver (on Linux with its Vulkan part; `vulkaninfo` must list it), or use the processor",
        if *only_software { " but software that passes for one" } else { "" }
    )]
    NoGpu {
        /// Whether there is a software renderer, which [`DeviceChoice::Auto`](super::DeviceChoice::Auto) does not take.
        only_software: bool,
    },
    /// There are adapters, but not of this number.
    #[error("there is no gpu:{wanted}; there is {}", available.join(", "))]
    NoSuchGpu {
        /// What was asked for.
        wanted: usize,
        /// What there is, each as `gpu:0 (discrete)`.
        available: Vec<String>,
    },
    /// An adapter cannot be opened, or does not compute.
    #[error(
        "{adapter} does not work: {reason}; update its driver, choose another GPU, or use the processor"
    )]
    Unusable {
        /// Which.
        adapter: String,
        /// Why.
        reason: String,
    },
    /// Its memory does not suffice.
    #[error(
        "the GPU has too little memory: {reason}; close what else uses it, allow less memory for the tiles of an image, train on fewer or smaller windows, or use the processor"
    )]
    OutOfMemory {
        /// The driver's message.
        reason: String,
    },
    /// It is gone: the driver has reset it, or it was taken away.
    #[error(
        "the GPU went away: {reason}; run the same again (training can resume from its checkpoint), and if it happens again, use the processor"
    )]
    Lost {
        /// The driver's message.
        reason: String,
    },
    /// Something else went wrong while it worked.
    #[error("work on the GPU failed: {reason}; use the processor instead")]
    Failed {
        /// The panic's message, and its place.
        reason: String,
    },
}

/// Runs a piece of work. On a GPU, a panic during the work becomes an error; panics of other threads count too, and print nothing. On
/// the processor, it only runs the work.
///
/// # Errors
/// The message of a panic on a GPU.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, DeviceError> {
    if is_gpu() {
        caught(work).map_err(|said| from_panics(&said))
    } else {
        Ok(work())
    }
}

/// Runs a piece of work; if it panics, gives the messages of its panics, the first message first.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Vec<String>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    let before = take_hook();
    set_hook(Box::new(move |panic| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(panic.to_string());
    }));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    set_hook(before);
    let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    outcome.map_err(|_| said)
}

/// What panics mean; the first is the cause of the others, unless a later one is the plainer.
fn from_panics(said: &[String]) -> DeviceError {
    const MEMORY: [&str; 4] = [
        "out of memory",
        "out-of-memory",
        "out of device memory",
        "can't allocate buffer",
    ];
    const LOST: [&str; 4] = [
        "device is poisoned",
        "device was poisoned",
        "device was lost",
        "device is lost",
    ];
    let first = |phrases: &[&str]| {
        said.iter().find(|text| {
            let text = text.to_lowercase();
            phrases.iter().any(|phrase| text.contains(phrase))
        })
    };
    if let Some(text) = first(&LOST) {
        let reason = without_backtrace(text);
        DeviceError::Lost { reason }
    } else if let Some(text) = first(&MEMORY) {
        let reason = without_backtrace(text);
        DeviceError::OutOfMemory { reason }
    } else {
        let reason = said
            .first()
            .map_or_else(String::new, |text| without_backtrace(text));
        DeviceError::Failed { reason }
    }
}

/// A message in one line, without the backtrace that some carry.
pub(super) fn without_backtrace(text: &str) -> String {
    let end = text.to_lowercase().find("backtrace").unwrap_or(text.len());
    let message = text.get(..end).unwrap_or(text);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_told_apart() {
        let said = |texts: &[&str]| {
            from_panics(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert!(matches!(
            said(&["wgpu error: Out of Memory\nBacktrace:\n 0: main"]),
            DeviceError::OutOfMemory { reason } if reason == "wgpu error: Out of Memory"
        ));
        assert!(matches!(
            said(&["index out of bounds", "can't allocate buffer of size: 9"]),
            DeviceError::OutOfMemory { .. }
        ));
        assert!(matches!(
            said(&["An error\n  The device is poisoned\nCaused by:\n  Unknown: reset"]),
            DeviceError::Lost { reason } if reason == "An error The device is poisoned Caused by: Unknown: reset"
        ));
        assert!(matches!(
            said(&["first", "second"]),
            DeviceError::Failed { reason } if reason == "first"
        ));
        assert!(matches!(said(&[]), DeviceError::Failed { .. }));
    }
}
