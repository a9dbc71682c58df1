//! Options whose value may be left out: the value follows after `=`. So `--json image.png` does not take the image for a file of
//! results. The next word is the value only where it can be nothing else, as in `--json found.json` or `--joined false`.

use std::ffi::OsString;
use std::path::Path;

use crate::output::Usage;

/// The words of a command line, with each such value joined to its option.
///
/// # Errors
/// If a word is probably meant as the value: a file of results that is not there yet.
pub fn joined(
    command: &clap::Command,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Usage> {
    let options = of(command);
    let mut joined: Vec<OsString> = Vec::new();
    for word in words {
        let option = joined.last().and_then(|option| {
            let known = |(name, _): &&(String, String)| option == name.as_str();
            options.iter().find(known)
        });
        if let (Some((name, kind)), Some(text)) = (option, word.to_str()) {
            if is_value(kind, text) {
                joined.pop();
                joined.push(format!("{name}={text}").into());
                continue;
            }
            if kind == "FILE" && !text.starts_with('-') && !Path::new(text).exists() {
                return Err(Usage(format!(
                    "{text} does not exist: if {name} shall write it, give {name}={text}"
                )));
            }
        }
        joined.push(word);
    }
    Ok(joined)
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
        // Images to learn from are a folder.
        "WEIGHTS" => {
            word == "built-in" || ends(&["pth", "pt", "safetensors"]) || Path::new(word).is_file()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from);
        let joined = joined(&crate::options::command(), words);
        let joined = joined.map_err(|error| error.to_string())?;
        let joined: Vec<_> = joined.iter().map(|word| word.to_str().unwrap()).collect();
        Ok(joined.join(" "))
    }

    #[test]
    fn only_what_can_be_nothing_else_is_taken_for_a_value() {
        for (line, expected) in [
            (
                "inspect m --json found.json a.png",
                "inspect m --json=found.json a.png",
            ),
            (
                "inspect m --json lines.jsonl",
                "inspect m --json=lines.jsonl",
            ),
            ("inspect m --json -", "inspect m --json=-"),
            ("inspect m --json Cargo.toml", "inspect m --json Cargo.toml"),
            (
                "inspect m --json --csv x.csv",
                "inspect m --json --csv x.csv",
            ),
            (
                "eval m d --curves 0.1 --json",
                "eval m d --curves=0.1 --json",
            ),
            ("train --joined data", "train --joined data"),
            ("train d --joined false", "train d --joined=false"),
            (
                "train --teacher-backbone data",
                "train --teacher-backbone data",
            ),
            (
                "train d --teacher-backbone w.pth",
                "train d --teacher-backbone=w.pth",
            ),
            ("score d --maps x.json", "score d --maps x.json"),
        ] {
            assert_eq!(words(line).as_deref(), Ok(expected));
        }
        let missing = words("info m --json results").unwrap_err();
        assert!(missing.contains("--json=results"), "{missing}");
    }
}
