//! The library speaks its own words: options of the command line are named by the command line alone (`src/hints.rs`).

use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 5] = ["conv", "core", "files", "nn", "pupilla"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false => vec![path],
        })
        .collect()
}

/// The first option that a line of Rust names outside of comments.
fn option_in(line: &str) -> Option<&str> {
    if line.trim_start().starts_with("//") {
        return None;
    }
    let named = line.match_indices("--").find(|&(at, _)| {
        let word = line[at + 2..].starts_with(|first: char| first.is_ascii_lowercase());
        // Elsewhere two hyphens begin a property of a style sheet.
        let begins = line[..at].ends_with([' ', '"', '`']) || line[..at].ends_with(" (");
        word && begins
    });
    named.map(|(at, _)| &line[at..])
}

#[test]
fn library_texts_name_no_options() {
    assert!(option_in(r#""give --budget 80s""#).is_some_and(|text| text.starts_with("--budget")));
    for line in [
        r#"#[error("--resize is wrong")]"#,
        "with (--scales)",
        "`--seed`",
    ] {
        assert!(option_in(line).is_some(), "{line}");
    }
    for line in [
        "// with --resume",
        "color:var(--ink)",
        "a -- b",
        "{--ink:#000;--soft:#111}",
    ] {
        assert_eq!(option_in(line), None);
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources: Vec<_> = LIBRARIES
        .iter()
        .flat_map(|name| sources(&crates.join(name).join("src")))
        .collect();
    assert!(sources.len() > 100, "{sources:?}");
    for path in sources {
        for line in fs::read_to_string(&path).unwrap().lines() {
            assert_eq!(option_in(line), None, "{}", path.display());
        }
    }
}
