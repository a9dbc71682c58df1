//! Weights of Pupilla's built-in teacher for patches of 65×65 pixels. **Their terms are not those of the code**: [`TERMS`].
//!
#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

/// The teacher's file, as `pupilla teacher train` writes it: safetensors with a manifest.
pub static TEACHER: &[u8] = include_bytes!("../teacher.safetensors");

/// The terms of [`TEACHER`].
pub const TERMS: &str = include_str!("../TERMS.md");
