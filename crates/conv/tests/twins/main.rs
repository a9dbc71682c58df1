//! Every pass against a slow obvious twin in `f64`.

mod depthwise;
mod error;
mod naive;
mod passes;
mod pooled;
mod streamed;
