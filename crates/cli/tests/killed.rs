//! Runs that are killed at any moment go on with `--resume`, and end with the bytes of one that was not.
//!
//! A few kills each time the tests run; `PUPILLA_KILLS=50 cargo test --workspace killed` is the long form.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::data::{SHORT_ALONE, assert_success, dataset, listing, run, stderr, text};

fn wanted_kills() -> usize {
    match std::env::var("PUPILLA_KILLS") {
        Ok(kills) => kills.parse().unwrap(),
        Err(_) => 4,
    }
}

/// Kills `command --out OUT` once after its first checkpoint, then at moments spread over the time that a whole run takes, until there
/// were enough kills, and compares every run that came to its end. Tells how often a run went on from a checkpoint.
fn kill(folder: &Path, command: &[&str]) -> usize {
    let with_out = |out: &Path| -> Vec<String> {
        let more = ["--out", text(out), "--threads", "1"];
        command
            .iter()
            .chain(&more)
            .map(|word| (*word).to_string())
            .collect()
    };
    let straight = folder.join("straight");
    let words = with_out(&straight);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let start = Instant::now();
    assert_success(&run(&words));
    let whole = start.elapsed();
    let expected = fs::read(&straight).unwrap();

    let out = folder.join("killed");
    let mut words = with_out(&out);
    words.extend(["--resume", "--checkpoint-every", "1"].map(String::from));
    let (kills, mut killed, mut resumed) = (wanted_kills(), 0, 0);
    let mut moment = 0.0f64;
    while killed < kills {
        // Spread evenly, whatever their number (multiples of the golden ratio, modulo 1).
        moment = (moment + 0.618_034).fract();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
            .args(&words)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + whole.mul_f64(moment);
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            // The first kill waits for a checkpoint: on a busy machine, all later ones may come before or after the steps.
            let now = match killed {
                0 => listing(folder).contains(&"killed.checkpoint".to_string()),
                _ => Instant::now() >= deadline,
            };
            if now {
                child.kill().unwrap();
                killed += 1;
                break None;
            }
            sleep(Duration::from_millis(1));
        };
        let output = child.wait_with_output().unwrap();
        let said = stderr(&output);
        // One checkpoint, and what one killed process was writing: the next takes that away.
        let left = listing(folder);
        let kept = left.iter().filter(|name| name.ends_with(".checkpoint"));
        let abandoned = left.iter().filter(|name| name.starts_with(".pupilla-"));
        assert!(kept.count() <= 1 && abandoned.count() <= 1, "{left:?}");
        resumed += usize::from(said.contains("resumed at step"));
        if let Some(status) = ended {
            assert!(status.success(), "{said}");
            assert!(fs::read(&out).unwrap() == expected, "other bytes: {said}");
            fs::remove_file(&out).unwrap();
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = run(&words);
    assert_success(&output);
    assert!(fs::read(&out).unwrap() == expected);
    assert_eq!(listing(folder), ["killed", "parts", "straight"]);
    resumed + usize::from(stderr(&output).contains("resumed at step"))
}

#[test]
fn training() {
    let (folder, parts) = dataset();
    let command = [&["train", text(&parts)], &SHORT_ALONE[..]].concat();
    let resumed = kill(folder.path(), &command);
    eprintln!("{} kills, resumed {resumed} times", wanted_kills());
    assert!(resumed > 0);
}

#[test]
fn training_networks() {
    let (folder, parts) = dataset();
    let command = ["train", text(&parts), "--detector", "anogan"];
    let more = ["--resize", "16", "--steps", "12", "--batch", "2"];
    let resumed = kill(folder.path(), &[&command[..], &more].concat());
    eprintln!("{} kills, resumed {resumed} times", wanted_kills());
    assert!(resumed > 0);
}

#[test]
fn teaching() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    let command = [
        "teacher",
        "train",
        text(&images),
        "--scale",
        "33",
        "--steps",
        "8",
    ];
    let command = [&command[..], &["--window", "33", "--images-per-step", "2"]].concat();
    let resumed = kill(folder.path(), &command);
    eprintln!("{} kills, resumed {resumed} times", wanted_kills());
    assert!(resumed > 0);
}
