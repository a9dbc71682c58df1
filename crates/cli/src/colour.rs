//! The few colours of the output. They are off where nobody sees them: outside a terminal, with `NO_COLOR`, with `CLICOLOR=0`.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// For what a person must not miss: a defect, an error.
pub const ALARM: Style = AnsiColor::Red.on_default().bold();

/// For what a person should read: a warning.
pub const CAUTION: Style = AnsiColor::Yellow.on_default().bold();

/// Text in a style, for the streams of `anstream`.
pub fn styled(style: Style, text: impl Display) -> impl Display {
    format!("{style}{text}{style:#}")
}
