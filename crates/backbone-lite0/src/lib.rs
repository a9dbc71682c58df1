//! Weights of EfficientNet-Lite0, the pretrained network that comes with Pupilla.
//!
#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

/// The network's file: safetensors, 16 bits, with the names of `efficientnet_lite_pytorch` and batch norm folded into the convolutions.
pub static BACKBONE: &[u8] = include_bytes!("../efficientnet_lite0.safetensors");

/// The licence of [`BACKBONE`]: Apache 2.0.
pub const LICENSE: &str = include_str!("../LICENSE-APACHE");
