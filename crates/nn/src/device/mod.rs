//! Where networks run: on the processor, or on a GPU if the crate was built with its feature `gpu`. One place decides it, and nothing
//! else names a device.
//!
//! Numbers are `f32` on all of them, and what goes in and comes out is on the processor.

mod choice;
mod failure;
#[cfg(feature = "gpu")]
mod gpu;

use std::sync::{Arc, PoisonError, RwLock};

pub use choice::{DeviceChoice, UnknownDevice};
pub use failure::{DeviceError, guarded};

use crate::cpu::Cpu;
use crate::engine::Engine;

/// The GPU that was chosen last; `None` is the processor.
static GPU: RwLock<Option<Arc<dyn Engine>>> = RwLock::new(None);

/// What [`choose`] has found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChosenDevice {
    /// The device in words, as `the processor` or `NVIDIA L4 (gpu:0)`.
    pub name: String,
    /// Why it is the processor although [`DeviceChoice::Auto`] would rather have had a GPU.
    pub no_gpu: Option<DeviceError>,
}

/// Decides where all networks of this process run from now on. A GPU is opened and tried out.
///
/// # Errors
/// If a GPU is asked for and there is none of that number, it does not work, or the crate was built without the feature `gpu`.
/// [`DeviceChoice::Auto`] has no errors: it takes the processor then, and says why.
pub fn choose(choice: DeviceChoice) -> Result<ChosenDevice, DeviceError> {
    let processor = |no_gpu| ChosenDevice {
        name: "the processor".to_string(),
        no_gpu,
    };
    let opened = match choice {
        DeviceChoice::Cpu => Err(None),
        DeviceChoice::Gpu(index) => Ok(open(index, true)?),
        DeviceChoice::Auto => open(None, false).map_err(Some),
    };
    let (engine, chosen) = match opened {
        Ok((engine, name)) => (Some(engine), ChosenDevice { name, no_gpu: None }),
        Err(no_gpu) => (None, processor(no_gpu)),
    };
    *GPU.write().unwrap_or_else(PoisonError::into_inner) = engine;
    Ok(chosen)
}

#[cfg(feature = "gpu")]
use gpu::open;

/// There is no GPU to open, whichever is asked for.
#[cfg(not(feature = "gpu"))]
fn open(_index: Option<usize>, _software: bool) -> Result<(Arc<dyn Engine>, String), DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// What computes networks now.
pub fn engine() -> Arc<dyn Engine> {
    let gpu = GPU.read().unwrap_or_else(PoisonError::into_inner);
    gpu.clone().unwrap_or_else(|| Arc::new(Cpu))
}

/// Whether networks run on a GPU.
pub fn is_gpu() -> bool {
    GPU.read().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Works with networks while files are read `beside` it.
pub fn work_beside<A: Send, B: Send>(
    work: impl FnOnce() -> A + Send,
    beside: impl FnOnce() -> B + Send,
) -> (A, B) {
    if !is_gpu() {
        return rayon::join(work, beside);
    }
    // A GPU's memory belongs to the thread that took it: its work stays on the caller's.
    std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let worked = work();
        match beside.join() {
            Ok(read) => (worked, read),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
