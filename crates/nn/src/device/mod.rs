//! The device that runs networks: the processor, or a GPU if the crate was built with the feature `gpu`. Only this module chooses it,
//! and no other code names a device.
//!
//! Every device computes in `f32`. Inputs and outputs are in the processor's memory.

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

/// The device that [`choose`] has chosen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChosenDevice {
    /// The device in words, as `the processor` or `NVIDIA L4 (gpu:0)`.
    pub name: String,
    /// Why [`DeviceChoice::Auto`] took the processor instead of a GPU.
    pub no_gpu: Option<DeviceError>,
}

/// Decides where all networks of this process run from now on. A GPU is opened and tried out.
///
/// # Errors
/// If a GPU is wanted, and no GPU has that number, the GPU does not work, or the crate was built without the feature `gpu`.
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

/// The engine that computes networks now.
pub fn engine() -> Arc<dyn Engine> {
    let gpu = GPU.read().unwrap_or_else(PoisonError::into_inner);
    gpu.clone().unwrap_or_else(|| Arc::new(Cpu))
}

/// Whether networks run on a GPU.
pub fn is_gpu() -> bool {
    GPU.read().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Runs `work` with networks and, at the same time, `beside`, which reads files; gives both results.
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
