//! Options whose value may be left out: the value follows after `=`, never as the next word. So `--json image.png` does not take the
//! image for a file of results.

use std::ffi::OsString;
use std::path::Path;

use crate::output::Usage;

/// Fails if the value of such an option stands as the next word: it would be taken for an image, or for something else.
pub fn check(command: &clap::Command, words: &[OsString]) -> Result<(), Usage> {
    let options = of(command);
    for pair in words.windows(2) {
        let [Some(option), Some(word)] = [&pair[0], &pair[1]].map(|word| word.to_str()) else {
            continue;
        };
        let is_value = |(name, kind): &(String, String)| name == option && is_value(kind, word);
        if options.iter().any(is_value) {
            return Err(Usage(format!("{option} {word}: write {option}={word}")));
        }
    }
    Ok(())
}

/// Names of the options of a command and those below it, with the names of their values.
fn of(command: &clap::Command) -> Vec<(String, String)> {
    let own = command.get_arguments().filter_map(|option| {
        let value = option.get_value_names()?.first()?;
        let name = option
            .get_long()
            .filter(|_| option.is_require_equals_set())?;
        Some((format!("--{name}"), value.to_string()))
    });
    own.chain(command.get_subcommands().flat_map(of)).collect()
}

/// Whether a word can only be the value of an option whose values have this name.
fn is_value(kind: &str, word: &str) -> bool {
    let ends = |endings: &[&str]| {
        let ending = Path::new(word)
            .extension()
            .and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| endings.contains(&ending))
    };
    match kind {
        "FILE" => word == "-" || ends(&["json", "jsonl", "ndjson"]),
        "BOOL" => word == "true" || word == "false",
        "SPACING" => word.parse::<f64>().is_ok(),
        "WEIGHTS" => word == "built-in" || ends(&["pth", "pt", "safetensors"]),
        _ => false,
    }
}
