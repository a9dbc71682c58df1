//! The program as its users run it: what it prints, what it writes, and what bad input gets.

mod backbone;
mod bad_input;
mod compare;
mod data;
mod detectors;
mod device;
#[cfg(unix)]
mod killed;
mod score;
mod verdicts;
mod workflow;
