//! The program as its users run it: what it prints, what it writes, and what bad input gets.

mod backbone;
mod bad_input;
mod belonging;
mod compare;
mod copies;
mod data;
mod detectors;
mod device;
#[cfg(unix)]
mod faults;
mod field;
#[cfg(unix)]
mod hostile;
#[cfg(unix)]
mod killed;
mod library_words;
mod packages;
#[cfg(unix)]
mod results;
mod same_score;
mod score;
mod shell;
mod supply_chain;
mod terminal;
mod verdicts;
mod workflow;
