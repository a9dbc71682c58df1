//! What a registry asks of a crate. `.ci/package` makes the packages.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::supply_chain::{OWN_TERMS, cargo};

/// The registry's categories that ours are of. It ignores a category that it does not know.
const CATEGORIES: [&str; 9] = [
    "algorithms",
    "command-line-utilities",
    "computer-vision",
    "filesystem",
    "mathematics",
    "multimedia::images",
    "no-std",
    "parser-implementations",
    "science",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The crates of the workspace, each with its name and the folder that it is in.
fn crates() -> Vec<(String, PathBuf, Value)> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let mut metadata: Value = serde_json::from_str(&metadata).unwrap();
    let Value::Array(packages) = metadata["packages"].take() else {
        panic!("no packages");
    };
    let described = |package: Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let name = package["name"].as_str().unwrap().to_string();
        (name, manifest.parent().unwrap().to_path_buf(), package)
    };
    packages.into_iter().map(described).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    let items = value.as_array().unwrap().iter();
    items.map(|item| item.as_str().unwrap()).collect()
}

/// A keyword as the registry takes it.
fn is_keyword(word: &str) -> bool {
    let begins = word.starts_with(|first: char| first.is_ascii_alphanumeric());
    let allowed = |one: char| one.is_ascii_alphanumeric() || "_-+".contains(one);
    begins && word.len() <= 20 && word.chars().all(allowed)
}

#[test]
fn every_crate_says_what_a_registry_asks_for() {
    assert!(is_keyword("anomaly-detection") && !is_keyword("anomaly detection"));
    let crates = crates();
    assert!(crates.len() >= 9, "{crates:?}");
    for (name, folder, package) in crates {
        let description = package["description"].as_str().unwrap_or_default();
        assert!(!description.trim().is_empty(), "{name} has no description");
        let keywords = texts(&package["keywords"]);
        assert!((1..=5).contains(&keywords.len()), "{name}: {keywords:?}");
        assert!(
            keywords.iter().all(|word| is_keyword(word)),
            "{name}: {keywords:?}"
        );
        let categories = texts(&package["categories"]);
        assert!(
            (1..=5).contains(&categories.len()),
            "{name}: {categories:?}"
        );
        for category in categories {
            assert!(
                CATEGORIES.contains(&category),
                "{name} is of the category {category}, which is not in this test's list"
            );
        }
        let readme = package["readme"].as_str();
        assert!(
            readme.is_some_and(|file| folder.join(file).is_file()),
            "{name} has the README {readme:?}"
        );
        // A registry shows the README without the repository: its links would lead nowhere.
        let text = std::fs::read_to_string(folder.join(readme.unwrap())).unwrap();
        let mut links = text.split("](").skip(1);
        let relative = links.find(|link| !link.starts_with("https://") && !link.starts_with('#'));
        assert!(relative.is_none(), "{name}: {relative:?}");
        assert!(
            package["publish"].is_null(),
            "{name} is not to be published"
        );
        for dependency in package["dependencies"].as_array().unwrap() {
            let needed = &dependency["name"];
            assert!(
                dependency["req"] != "*",
                "{name} needs {needed} in any version"
            );
        }
    }
}

#[test]
fn every_crate_has_the_text_of_its_licence() {
    for (name, folder, package) in crates() {
        if OWN_TERMS.contains(&name.as_str()) {
            assert!(package["license"].is_null(), "{name}");
            let terms = package["license_file"].as_str();
            assert!(
                terms.is_some_and(|file| folder.join(file).is_file()),
                "{name} has the terms {terms:?}"
            );
            continue;
        }
        let texts = match package["license"].as_str() {
            Some("MIT OR Apache-2.0") => &["LICENSE-MIT", "LICENSE-APACHE"][..],
            // Weights of others.
            Some("Apache-2.0") if name == "pupilla-backbone-lite0" => &["LICENSE-APACHE"],
            other => panic!("{name} has the licence {other:?}"),
        };
        for text in texts {
            let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
            assert!(
                read(folder.join(text)) == read(root().join(text)),
                "{name} has another {text} than the repository"
            );
        }
    }
}

#[test]
fn the_oldest_rust_is_the_one_that_the_tests_run_with() {
    let toolchain = std::fs::read_to_string(root().join("rust-toolchain.toml")).unwrap();
    for (name, _, package) in crates() {
        let oldest = package["rust_version"].as_str().unwrap_or_default();
        assert!(
            toolchain.contains(&format!("channel = \"{oldest}.")),
            "{name} says rust-version {oldest:?}; rust-toolchain.toml says {toolchain}"
        );
    }
}

/// A teacher that is replaced needs another card.
#[test]
fn the_cards_are_of_the_weights_beside_them() {
    for (name, folder, _) in crates() {
        if !OWN_TERMS.contains(&name.as_str()) {
            continue;
        }
        let weights = std::fs::read(folder.join("teacher.safetensors")).unwrap();
        let digest = Sha256::digest(weights);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(
            card.contains(&digest),
            "the card of {name} does not name the SHA-256 of teacher.safetensors, {digest}"
        );
    }
}
