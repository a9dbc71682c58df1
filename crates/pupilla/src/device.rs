//! Where networks run. One place decides it, so that no code depends on a default.

use burn::tensor::Device;

/// The processor, through Burn's pure-Rust backend and our own convolution.
pub(crate) fn cpu() -> Device {
    Device::flex()
}
