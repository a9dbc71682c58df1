//! Where networks run: on the processor, or on a GPU if the crate was built with its feature `gpu`. One place decides it, so
//! that no code depends on the framework's default, and nothing else names a device.
//!
//! Numbers are `f32` on all of them; sums over pixels that statistics and scores are made of are taken on the processor, from
//! numbers that were read back.

mod choice;
mod failure;
#[cfg(feature = "gpu")]
mod gpu;

use std::sync::{PoisonError, RwLock};

use burn::tensor::Device;

pub use choice::{DeviceChoice, UnknownDevice};
pub use failure::{DeviceError, guarded};

/// What was chosen last; the processor before.
static CHOSEN: RwLock<Option<Device>> = RwLock::new(None);

/// What [`choose`] has found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChosenDevice {
    /// The device in words, as `the processor` or `NVIDIA L4 (gpu:0)`.
    pub name: String,
    /// Why it is the processor although [`DeviceChoice::Auto`] would rather have had a GPU.
    pub no_gpu: Option<DeviceError>,
}

/// Decides where all networks of this process will run, before any is made or loaded: those that are there stay where they
/// are, and must not meet others. A GPU is opened and tried out.
///
/// # Errors
/// If a GPU is asked for and there is none of that number, it does not work, or the crate was built without the feature `gpu`.
/// [`DeviceChoice::Auto`] has no errors: it takes the processor then, and says why.
pub fn choose(choice: DeviceChoice) -> Result<ChosenDevice, DeviceError> {
    let (device, choice) = match choice {
        DeviceChoice::Cpu => (cpu(), processor(None)),
        DeviceChoice::Gpu(index) => {
            let (device, name) = open(index, true)?;
            let no_gpu = None;
            (device, ChosenDevice { name, no_gpu })
        }
        DeviceChoice::Auto => match open(None, false) {
            Ok((device, name)) => {
                let no_gpu = None;
                (device, ChosenDevice { name, no_gpu })
            }
            Err(error) => (cpu(), processor(Some(error))),
        },
    };
    *CHOSEN.write().unwrap_or_else(PoisonError::into_inner) = Some(device);
    Ok(choice)
}

fn processor(no_gpu: Option<DeviceError>) -> ChosenDevice {
    ChosenDevice {
        name: "the processor".to_string(),
        no_gpu,
    }
}

#[cfg(feature = "gpu")]
use gpu::open;

/// There is no GPU to open, whichever is asked for.
#[cfg(not(feature = "gpu"))]
fn open(_index: Option<usize>, _software: bool) -> Result<(Device, String), DeviceError> {
    Err(DeviceError::NotBuilt)
}

/// Where networks run.
pub fn chosen() -> Device {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    chosen.clone().unwrap_or_else(cpu)
}

/// The processor, through Burn's pure-Rust backend and our own convolution.
pub(crate) fn cpu() -> Device {
    Device::flex()
}

/// Whether this is a GPU, with automatic differentiation or without.
pub(crate) fn is_gpu(device: &Device) -> bool {
    *device != cpu()
}

/// Works with the chosen device while files are read `beside` it.
pub(crate) fn work_beside<A: Send, B: Send>(
    work: impl FnOnce() -> A + Send,
    beside: impl FnOnce() -> B + Send,
) -> (A, B) {
    if !is_gpu(&chosen()) {
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
