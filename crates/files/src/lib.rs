//! Reads and writes files safely. This crate knows no network and no image.
//!
//! - [`atomic_file`]: files appear whole or not at all.
//! - [`bounded_file`]: untrusted files are opened only if they are files, and read only up to a limit.
//! - [`weight_file`]: the files of Pupilla's teachers and models, safetensors with a manifest.
//! - [`tensor_file`]: other programs' weights by name, safetensors or `.pth`; nothing is executed.
//! - [`foreign_text`]: text of untrusted files, made fit for a message.
//! - [`growing_file`]: files of whole lines that grow while the work goes on.
#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod bounded_file;
pub mod foreign_text;
pub mod growing_file;
pub mod tensor_file;
pub mod weight_file;
