//! The program `pupilla`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    pupilla_conv::keep_freed_memory();
    ExitCode::from(pupilla_cli::main(std::env::args_os()))
}
