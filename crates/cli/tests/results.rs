//! The results of `inspect`: they are there however a run ends, and they are neither taken for images nor written over images.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

use crate::data::{
    assert_failure, assert_success, good, listing, model, run, stderr, stdout, text,
};

/// A folder with this number of images: 00.png, 01.png, …
fn images(count: u32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("in");
    fs::create_dir(&images).unwrap();
    for index in 0..count {
        let path = images.join(format!("{index:02}.png"));
        good(index).save(path).unwrap();
    }
    (folder, images)
}

/// `inspect` with the usual model.
fn inspect(arguments: &[&str]) -> Output {
    run(&[&["inspect", text(model())], arguments].concat())
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// The first cell of each line after the heading.
fn paths_of(table: &Path) -> Vec<String> {
    let table = fs::read_to_string(table).unwrap();
    let lines = table.lines().skip(1);
    lines
        .map(|line| line.split(',').next().unwrap().to_owned())
        .collect()
}

/// Cuts a file short.
fn damage(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn the_images_before_an_unreadable_one_are_in_all_results() {
    let (folder, images) = images(4);
    damage(&images.join("03.png"));
    let at = |name: &str| folder.path().join(name);
    let [csv, whole, lines, out] = ["r.csv", "r.json", "r.jsonl", "out"].map(at);
    let before: Vec<_> = (0..3)
        .map(|index| text(&images.join(format!("{index:02}.png"))).to_owned())
        .collect();
    fs::write(&csv, "path,score,of another run\n").unwrap();
    for target in [&whole, &lines] {
        let option = format!("--json={}", text(target));
        let words = [text(&images), "--csv", text(&csv), "--out", text(&out)];
        let output = inspect(&[&words[..], &[&option]].concat());
        let named = ["03.png", "3 of 4 images", "r.csv"];
        assert_failure(&output, 1, &named);
        assert_failure(&output, 1, &[target.file_name().unwrap().to_str().unwrap()]);
        assert_eq!(paths_of(&csv), before);
        assert_eq!(listing(&out).len(), 6);
    }
    let found = json(&fs::read(&whole).unwrap());
    assert_eq!(found["complete"], false);
    assert!(found["stopped"].as_str().unwrap().contains("03.png"));
    assert_eq!(found["images"].as_array().unwrap().len(), 3);
    let lines = fs::read_to_string(&lines).unwrap();
    let lines: Vec<_> = lines.lines().map(|line| json(line.as_bytes())).collect();
    let of_lines: Vec<_> = lines.iter().map(|line| line["path"].clone()).collect();
    assert_eq!(of_lines, before);
    assert_eq!(lines[0]["threshold"], found["threshold"]);
    assert_eq!(lines[0]["score"], found["images"][0]["score"]);
    assert_eq!(
        listing(folder.path()),
        ["in", "out", "r.csv", "r.json", "r.jsonl"]
    );

    // The same on standard output, and a run that is complete.
    let output = inspect(&[text(&images), "--json"]);
    assert_failure(&output, 1, &["03.png"]);
    let found = json(&output.stdout);
    assert_eq!(found["complete"], false);
    assert_eq!(found["images"].as_array().unwrap().len(), 3);
    let output = inspect(&[text(&images), "--json", "--skip-unreadable"]);
    assert_success(&output);
    let found = json(&output.stdout);
    assert_eq!(
        [&found["complete"], &found["stopped"]],
        [&Value::from(true), &Value::Null]
    );
    let output = inspect(&[text(&images), "--json=-.jsonl", "--skip-unreadable"]);
    assert_success(&output);
    assert_eq!(stdout(&output).lines().count(), 3);
}

#[test]
fn without_room_for_more_lines_the_table_has_the_lines_before() {
    let (folder, images) = images(20);
    let csv = folder.path().join("r.csv");
    // A KiB for any file.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_pupilla")])
        .args(["inspect", text(model()), text(&images), "--csv", text(&csv)])
        .output()
        .unwrap();
    assert_failure(&output, 1, &["cannot write", "r.csv", "of 20 images"]);
    let table = fs::read_to_string(&csv).unwrap();
    let columns = |line: &str| line.split(',').count();
    assert!(table.ends_with('\n') && table.len() <= 1024, "{table}");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() > 3, "{table}");
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])));
    assert_eq!(listing(folder.path()), ["in", "r.csv"]);
}

#[test]
fn a_reader_that_goes_away_costs_no_file() {
    let (folder, images) = images(6);
    let csv = folder.path().join("r.csv");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(["inspect", text(model()), text(&images), "--csv", text(&csv)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(paths_of(&csv).len(), 6);
}

/// A signal while the first large image is worked on ends the run: the image is in no result.
#[test]
fn a_stop_takes_effect_inside_of_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("large");
    fs::create_dir(&images).unwrap();
    let large = RgbImage::from_fn(3000, 2000, |x, y| {
        let value = ((x * 7 + y * 13) % 200) as u8;
        Rgb([value, value / 2, 255 - value])
    });
    for name in ["a.png", "b.png"] {
        large.save(images.join(name)).unwrap();
    }
    let found = folder.path().join("r.json");
    let option = format!("--json={}", text(&found));
    let (status, said) = stopped(
        &["inspect", text(model()), text(&images), &option],
        "inspecting",
    );
    assert_eq!(status, Some(130), "{said}");
    assert!(said.contains("stopped on request"), "{said}");
    let found = json(&fs::read(&found).unwrap());
    assert_eq!(found["complete"], false);
    assert_eq!(found["images"].as_array().unwrap().len(), 0);

    // A plan describes whole images too.
    let words = ["train", text(&images), "--dry-run", "--scales", "33"];
    let more = ["--resize", "none", "--steps", "5"];
    let (status, said) = stopped(&[&words[..], &more].concat(), "reading images");
    assert_eq!(status, Some(130), "{said}");
}

/// Sends SIGTERM when a stage begins. The exit status, and what was said afterwards.
fn stopped(arguments: &[&str], stage: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(arguments)
        .args(["--progress", "json", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !(line.contains("\"start\"") && line.contains(stage)) {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "no {stage}");
    }
    let id = child.id().to_string();
    let signalled = Command::new("kill").args(["-TERM", &id]).status();
    assert!(signalled.unwrap().success());
    let mut said = String::new();
    errors.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn results_are_left_out_and_an_image_of_such_a_name_is_not() {
    let (_folder, images) = images(2);
    let at = |name: &str| text(&images.join(name)).to_owned();
    let [first, second] = ["00.png", "01.png"].map(at);
    let out = ["--out", text(&images)];
    assert_success(&inspect(&[&[&*first, &*second], &out[..]].concat()));
    let results = [
        "00.png",
        "00_heatmap.png",
        "00_map.tiff",
        "01.png",
        "01_heatmap.png",
        "01_map.tiff",
    ];
    assert_eq!(listing(&images), results);
    let inspected = |output: &Output| {
        assert_success(output);
        let found = json(&output.stdout);
        found["images"].as_array().unwrap().len()
    };
    // A folder, and what a shell makes of *.png.
    let output = inspect(&[text(&images), "--json"]);
    assert_eq!(inspected(&output), 2);
    assert!(stderr(&output).contains("4 results of an inspection"));
    let all = ["00.png", "00_heatmap.png", "01.png", "01_heatmap.png"].map(at);
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    let output = inspect(&[&all[..], &out, &["--json"]].concat());
    assert_eq!(inspected(&output), 2);
    assert_eq!(listing(&images), results);
    // Named without its image, a heatmap is meant.
    let output = inspect(&[all[1], "--json"]);
    assert_eq!(inspected(&output), 1);

    // Without its map it is an image, which is inspected and not replaced.
    fs::remove_file(at("00_map.tiff")).unwrap();
    let before = fs::read(at("00_heatmap.png")).unwrap();
    let output = inspect(&[text(&images), "--json"]);
    assert_eq!(inspected(&output), 3);
    for named in [&all[..1], &all[..2]] {
        let output = inspect(&[named, &out].concat());
        assert_failure(&output, 2, &["00_heatmap.png", "would replace"]);
    }
    assert_eq!(fs::read(at("00_heatmap.png")).unwrap(), before);
}

#[test]
fn names_are_checked_before_any_work() {
    let (folder, images) = images(1);
    let first = images.join("00.png");
    let out = text(&folder.path().join("out")).to_owned();
    let csv = text(&folder.path().join("r.csv")).to_owned();
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = inspect(arguments);
        assert_failure(&output, code, words);
        assert_eq!(stdout(&output), "");
        assert_eq!(listing(folder.path()), ["in"]);
    };
    let table = images.join("table.csv");
    fs::copy(&first, &table).unwrap();
    let words = [text(&first), text(&table), "--csv", text(&table)];
    refused(&words, 2, &["--csv", "table.csv", "not a table"]);
    fs::remove_file(&table).unwrap();
    let twice = [text(&first), text(&first), "--out", &*out];
    refused(&twice, 1, &["00.png", "named twice"]);
    let same = format!("--json={csv}");
    refused(&[text(&first), "--csv", &*csv, &*same], 2, &["same file"]);
    let missing = text(&folder.path().join("found")).to_owned();
    refused(
        &[text(&first), "--json", &*missing],
        2,
        &["does not exist", "--json="],
    );
    let long = format!("{}.png", "x".repeat(245));
    fs::copy(&first, images.join(&long)).unwrap();
    let words = [text(&images), "--out", &*out, "--csv", &*csv];
    refused(&words, 1, &["_heatmap.png", "rename the image"]);
    // Without heatmaps, the name is no trouble.
    assert_success(&inspect(&[text(&images), "--csv", &*csv]));
}

#[test]
fn a_defect_has_an_exit_status_if_it_is_asked_for() {
    let (_folder, images) = images(2);
    for (threshold, status) in [("-1e9", 4), ("1e9", 0)] {
        let words = [text(&images), "--threshold", threshold];
        let output = inspect(&[&words[..], &["--fail-on-defect"]].concat());
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert_success(&inspect(&words));
    }
    damage(&images.join("01.png"));
    let words = [text(&images), "--threshold", "-1e9", "--fail-on-defect"];
    assert_failure(&inspect(&words), 1, &["01.png"]);
}
