//! One module a command.

pub mod backbone;
pub mod calibrate;
pub mod check;
pub mod compare;
pub mod demo;
pub mod eval;
pub mod info;
pub mod inspect;
pub mod measures;
pub mod score;
pub mod shell;
pub mod teacher;
pub mod train;
