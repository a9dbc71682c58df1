//! One room a verb.

pub mod backbone;
pub mod calibrate;
pub mod demo;
pub mod eval;
pub mod info;
pub mod inspect;
pub mod teacher;
pub mod train;
