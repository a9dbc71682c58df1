//! What the program is built from: every crate from the registry, locked, under a licence that allows it, and no build script that
//! asks the network. `.ci/deny` checks licences and sources of all features and platforms, by the rules of `deny.toml`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Licences that a crate may be under; one of those that it offers is enough. The same list is in `deny.toml`.
const ALLOWED: [&str; 7] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "Zlib",
    "Unicode-3.0",
    // Of files, not of what they are built into: a changed one is to be published.
    "MPL-2.0",
];

/// Crates of ours that hold weights, under terms that are not those of the code: `TERMS.md` of each, allowed in `deny.toml`.
pub const OWN_TERMS: [&str; 3] = [
    "pupilla-teacher-17",
    "pupilla-teacher-33",
    "pupilla-teacher-65",
];

/// Words of a build script that asks the network, or of what it would ask with.
const NETWORK: [&str; 12] = [
    "TcpStream",
    "UdpSocket",
    "ureq",
    "reqwest",
    "minreq",
    "attohttpc",
    "hyper",
    "isahc",
    "curl",
    "wget",
    "git2",
    "download",
];

pub fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let output = Command::new(cargo)
        .args(arguments)
        // Nothing is asked for: what is not there was not needed for this build either.
        .args(["--locked", "--offline"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Names and versions of all crates of a build on this platform, its tests among them, with their licences.
fn built() -> BTreeSet<(String, String, String)> {
    let format = ["--prefix", "none", "--format", "{p}\t{l}"];
    let what = ["tree", "--workspace", "--edges", "normal,build,dev"];
    let tree = cargo(&[&what[..], &format].concat());
    let lines = tree.lines().filter_map(|line| {
        let (package, licence) = line.split_once('\t')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?);
        let licence = licence.trim_end_matches(" (*)");
        Some((
            name.into(),
            version.trim_start_matches('v').into(),
            licence.into(),
        ))
    });
    lines.collect()
}

/// Whether a licence expression (SPDX, or the older "MIT/Apache-2.0") can be met with what is allowed.
fn can_be_met(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    // Of the expressions in use, only conjunctions have parentheses, around their choices.
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']);
        part.split(" OR ").any(|one| ALLOWED.contains(&one.trim()))
    })
}

/// `docs/decisions/0009-explicit-layers.md`: a framework, which takes minutes to compile, comes with the feature `gpu` alone.
#[test]
fn the_default_build_has_no_framework() {
    for (name, ..) in built() {
        let framework = ["burn", "cubecl", "wgpu", "candle"];
        let found = framework
            .iter()
            .any(|framework| name.starts_with(framework));
        assert!(!found, "{name} is built");
    }
}

#[test]
fn licences_are_those_allowed() {
    assert!(can_be_met("MIT/Apache-2.0") && can_be_met("(GPL-3.0 OR MIT) AND Unicode-3.0"));
    assert!(!can_be_met("GPL-3.0") && !can_be_met("MIT AND GPL-3.0") && !can_be_met(""));
    let built = built();
    assert!(built.len() > 100, "{built:?}");
    for (name, version, licence) in built {
        if OWN_TERMS.contains(&name.as_str()) {
            continue;
        }
        assert!(
            can_be_met(&licence),
            "{name} {version} is under {licence:?}"
        );
    }
    let deny =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deny.toml"));
    let deny = deny.unwrap();
    for licence in ALLOWED {
        assert!(
            deny.contains(&format!("\"{licence}\"")),
            "{licence} is not in deny.toml"
        );
    }
}

#[test]
fn crates_come_from_the_registry_and_build_without_the_network() {
    let built = built();
    let is_built = |package: &Value| {
        let text = |field: &str| package[field].as_str().unwrap();
        let same = |(name, version, _): &(String, String, String)| {
            name == text("name") && version == text("version")
        };
        built.iter().any(same)
    };
    // Only what this platform takes is there for certain.
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        host,
    ]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut scripts = 0;
    for package in metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| is_built(package))
    {
        let name = &package["name"];
        // Our own crates have none; no other comes from a path or a repository.
        match package["source"].as_str() {
            Some(source) => assert!(
                source.starts_with("registry+"),
                "{name} comes from {source}"
            ),
            None => assert!(name.as_str().unwrap().starts_with("pupilla"), "{name}"),
        }
        let targets = package["targets"].as_array().unwrap().iter();
        for script in targets.filter(|target| target["kind"][0] == "custom-build") {
            scripts += 1;
            assert!(
                package["source"].is_string(),
                "{name} of our own has a build script"
            );
            let text = std::fs::read_to_string(script["src_path"].as_str().unwrap()).unwrap();
            let helpers = package["dependencies"].as_array().unwrap().iter();
            let helpers =
                helpers.filter(|helper| helper["kind"] == "build" && helper["optional"] == false);
            let helpers: Vec<&str> = helpers
                .map(|helper| helper["name"].as_str().unwrap())
                .collect();
            for word in NETWORK {
                assert!(
                    !text.contains(word),
                    "the build script of {name} has the word {word}"
                );
                assert!(
                    !helpers.iter().any(|helper| helper.contains(word)),
                    "{name} builds with {helpers:?}"
                );
            }
        }
    }
    assert!(scripts > 5, "{scripts} build scripts were looked at");
}
