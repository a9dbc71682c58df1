//! Text of untrusted files, made fit for a message: short, on one line, and without commands for the terminal.

/// The first hundred characters, control characters and the like escaped.
pub fn shown(text: &str) -> String {
    shown_up_to(text, 100)
}

/// [`shown`] for the first `most` characters.
pub fn shown_up_to(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == most {
            shown.push('…');
            break;
        }
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown("scale33 \"μ\""), "scale33 \"μ\"");
        assert_eq!(shown("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(shown(&"x".repeat(1 << 20)).chars().count(), 101);
    }
}
