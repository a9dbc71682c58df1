//! A full disk, a folder that goes away, signals at any moment: a message, the last good checkpoint, and nothing half-written.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pupilla_core::map::map_file;

use crate::data::{
    SHORT_ALONE, assert_failure, assert_success, dataset, good, listing, model, run, stderr,
    stdout, text,
};

/// Arguments of a training run that takes a moment: 8 steps of one student, a model of 13 MB.
fn training(parts: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let words = ["train", text(parts), "--out", text(out)];
    let same = ["--threads", "1"];
    let all = words.iter().chain(&SHORT_ALONE).chain(&same).chain(more);
    all.map(|word| (*word).to_string()).collect()
}

/// The program where no file may grow beyond so many KiB: what a disk says when it is full, without one.
fn with_room(kib: u32, arguments: &[String]) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    Command::new("bash")
        .args(["-c", &script, "bash", env!("CARGO_BIN_EXE_pupilla")])
        .args(arguments)
        .output()
        .unwrap()
}

fn run_words(arguments: &[String]) -> Output {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run(&words)
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    // It may have come to its end a moment ago.
    let _ = Command::new("kill").args([name, &id]).output().unwrap();
}

fn start(arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_full_disk_costs_what_was_not_yet_written_and_nothing_else() {
    let (folder, parts) = dataset();
    let at = |name: &str| folder.path().join(name);
    let (straight, out) = (at("straight"), at("out"));
    assert_success(&run_words(&training(&parts, &straight, &[])));
    let expected = fs::read(&straight).unwrap();

    // No room for a checkpoint of the scale in training: the run ends at its first.
    let every = ["--checkpoint-every", "6", "--resume"];
    let output = with_room(4000, &training(&parts, &out, &every));
    let words = ["out.checkpoint", "cannot write", "--resume"];
    assert_failure(&output, 1, &words);
    assert_eq!(listing(folder.path()), ["parts", "straight"]);

    // A checkpoint that is there stays as it is.
    let rare = ["--checkpoint-every", "1000", "--resume"];
    let output = with_room(8000, &training(&parts, &out, &rare));
    // The finished scale's has half the size of the model, which has no room.
    assert_failure(&output, 1, &["cannot write", text(&out)]);
    assert_eq!(
        listing(folder.path()),
        ["out.checkpoint", "parts", "straight"]
    );
    let kept = fs::read(at("out.checkpoint")).unwrap();
    let output = with_room(1000, &training(&parts, &out, &rare));
    assert_failure(&output, 1, &["cannot write"]);
    assert!(fs::read(at("out.checkpoint")).unwrap() == kept);

    // With room again, the run ends as if nothing had been.
    let output = run_words(&training(&parts, &out, &rare));
    assert_success(&output);
    assert!(stderr(&output).contains("resumed at step 8"));
    assert!(fs::read(&out).unwrap() == expected);
    assert_eq!(listing(folder.path()), ["out", "parts", "straight"]);
}

#[test]
fn results_that_find_no_room_are_named() {
    let (folder, parts) = dataset();
    let images = parts.join("test/square");
    let out = folder.path().join("results");
    let words = |more: &[&str]| -> Vec<String> {
        let all = ["inspect", text(model()), text(&images)];
        all.iter()
            .chain(more)
            .map(|word| (*word).to_string())
            .collect()
    };
    // A map of 40×40 numbers takes 6.4 KB.
    let output = with_room(5, &words(&["--out", text(&out)]));
    assert_failure(&output, 1, &["cannot write", "000_map.tiff"]);
    assert!(!out.exists(), "the map is the first file");
    let json = folder.path().join("found.json");
    let output = with_room(0, &words(&["--json", text(&json)]));
    assert_failure(&output, 1, &["found.json"]);
    assert_eq!(listing(folder.path()), ["parts"]);
    let csv = folder.path().join("found.csv");
    let output = with_room(0, &words(&["--csv", text(&csv)]));
    assert_failure(&output, 1, &["found.csv"]);
    assert_eq!(listing(folder.path()), ["parts"]);
    // Standard output may be full too.
    if Path::new("/dev/full").exists() {
        for more in [&[][..], &["--json", "-"]] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full");
            let output = Command::new(env!("CARGO_BIN_EXE_pupilla"))
                .args(words(more))
                .stdout(full.unwrap())
                .output()
                .unwrap();
            assert_failure(&output, 1, &["No space left"]);
        }
    }
}

/// The folder of the results is renamed while the run goes on; `root` may write anywhere, so that no permission would stop a test.
#[test]
fn a_folder_that_goes_away_takes_its_checkpoint_along_whole() {
    let (folder, parts) = dataset();
    let (here, away) = (folder.path().join("here"), folder.path().join("away"));
    fs::create_dir(&here).unwrap();
    let out = here.join("m.pupilla");
    let mut arguments = training(&parts, &out, &["--checkpoint-every", "1"]);
    let steps = arguments.iter().position(|word| word == "8").unwrap();
    arguments[steps] = "100000".to_string();
    let child = start(&arguments);
    let checkpoint = here.join("m.pupilla.checkpoint");
    while !checkpoint.exists() {
        sleep(Duration::from_millis(5));
    }
    fs::rename(&here, &away).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_failure(&output, 1, &["m.pupilla.checkpoint", "cannot write"]);
    assert_eq!(listing(folder.path()), ["away", "parts"]);
    let mut left = listing(&away);
    // One that was being written when its folder was renamed goes with the next run there.
    left.retain(|name| !name.starts_with(".pupilla-"));
    assert_eq!(left, ["m.pupilla.checkpoint"]);
    let out = away.join("m.pupilla");
    arguments[3] = text(&out).to_string();
    arguments.push("--resume".to_string());
    let child = start(&arguments);
    sleep(Duration::from_millis(500));
    signal(&child, "-TERM");
    let said = stderr(&child.wait_with_output().unwrap());
    assert!(
        !said.contains("damaged") && !said.contains("cut off"),
        "{said}"
    );
    assert_eq!(listing(&away), ["m.pupilla.checkpoint"]);
}

/// A folder that cannot be written to, found before any work. As `root`, who may, a file stands where the folder should be.
#[test]
fn a_folder_that_cannot_be_written_to() {
    let (folder, parts) = dataset();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let mut permissions = fs::metadata(&closed).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&closed, permissions).unwrap();
    if fs::write(closed.join("probe"), b"").is_ok() {
        eprintln!("this user may write to read-only folders: a file takes the folder's place");
        fs::remove_dir_all(&closed).unwrap();
        fs::write(&closed, b"").unwrap();
    }
    let out = closed.join("m.pupilla");
    let (good, more) = (parts.join("test/good"), folder.path().join("more"));
    fs::create_dir(&more).unwrap();
    crate::data::good(70).save(more.join("070.png")).unwrap();
    let mut arguments = training(&parts, &out, &[]);
    let steps = arguments.iter().position(|word| word == "8").unwrap();
    arguments[steps] = "100000".to_string();
    assert_failure(&run_words(&arguments), 1, &["cannot write", "closed"]);
    for arguments in [
        [
            "inspect",
            text(model()),
            text(&good),
            "--out",
            text(&closed.join("results")),
        ],
        ["calibrate", text(model()), text(&more), "--out", text(&out)],
        [
            "eval",
            text(model()),
            text(&parts),
            "--maps",
            text(&closed.join("maps")),
        ],
    ] {
        let output = run(&arguments);
        assert_failure(&output, 1, &["closed"]);
    }
    if closed.is_dir() {
        assert_eq!(listing(&closed), [""; 0]);
        let mut permissions = fs::metadata(&closed).unwrap().permissions();
        #[expect(
            clippy::permissions_set_readonly_false,
            reason = "the folder is removed in a moment"
        )]
        permissions.set_readonly(false);
        fs::set_permissions(&closed, permissions).unwrap();
    }
}

/// Sends a signal at moments spread over the time that the command takes, until there were enough; what came of each.
fn interrupted(arguments: &[String], moments: usize, mut check: impl FnMut(&Output)) {
    let start_of_one = Instant::now();
    let whole = run_words(arguments);
    check(&whole);
    let time = start_of_one.elapsed();
    for moment in 1..=moments {
        let child = start(arguments);
        sleep(time.mul_f64((moment as f64 * 0.618_034).fract()));
        signal(&child, if moment % 2 == 0 { "-TERM" } else { "-INT" });
        let output = child.wait_with_output().unwrap();
        let said = stderr(&output);
        match output.status.code() {
            Some(0) => {}
            Some(130) => assert!(said.contains("stopped on request"), "{said}"),
            // Before the program has begun to listen, it ends as the system does it.
            None => assert_eq!(said, ""),
            code => panic!("{code:?}: {said}"),
        }
        check(&output);
    }
}

#[test]
fn signals_leave_a_checkpoint_and_nothing_else() {
    let (folder, parts) = dataset();
    let at = |name: &str| folder.path().join(name);
    let (straight, out) = (at("straight"), at("out"));
    assert_success(&run_words(&training(&parts, &straight, &[])));
    let expected = fs::read(&straight).unwrap();
    let arguments = training(&parts, &out, &["--resume", "--checkpoint-every", "3"]);
    let (mut finished, mut stopped) = (0, 0);
    interrupted(&arguments, 6, |output| {
        let mut left = listing(folder.path());
        left.retain(|name| !["parts", "straight"].contains(&name.as_str()));
        if output.status.success() {
            assert!(fs::read(&out).unwrap() == expected);
            assert_eq!(left, ["out"]);
            fs::remove_file(&out).unwrap();
            finished += 1;
        } else {
            assert!(left.is_empty() || left == ["out.checkpoint"], "{left:?}");
            stopped += usize::from(stderr(output).contains("command with --resume"));
        }
    });
    assert!(finished > 0 && stopped > 0, "{finished} and {stopped}");
    assert_success(&run_words(&arguments));
    assert!(fs::read(&out).unwrap() == expected);
}

/// What has been learned is in the log while a run goes on, when it is stopped, and behind what it goes on from.
#[test]
fn a_log_grows_with_its_run() {
    let (folder, parts) = dataset();
    let at = |name: &str| folder.path().join(name);
    let (images, out, log) = (
        parts.join("train/good"),
        at("t.safetensors"),
        at("losses.csv"),
    );
    let words = [
        "teacher",
        "train",
        text(&images),
        "--scale",
        "33",
        "--out",
        text(&out),
    ];
    let short = [
        "--steps",
        "100000",
        "--window",
        "33",
        "--images-per-step",
        "2",
    ];
    let kept = ["--log", text(&log), "--checkpoint-every", "1", "--resume"];
    let arguments: Vec<String> = [&words[..], &short, &kept]
        .concat()
        .iter()
        .map(|word| (*word).to_string())
        .collect();
    let lines = || -> Vec<String> {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    };
    let run_to = |count: usize, how: &str| {
        let child = start(&arguments);
        while lines().len() < count {
            sleep(Duration::from_millis(5));
        }
        signal(&child, how);
        child.wait_with_output().unwrap()
    };
    let stopped = stderr(&run_to(4, "-TERM"));
    assert!(stopped.contains("command with --resume"), "{stopped}");
    let first = lines();
    let whole = |lines: &[String]| {
        assert_eq!(lines[0], "step,distillation,triplet,compactness,total");
        for (step, line) in lines.iter().enumerate().skip(1) {
            assert!(line.starts_with(&format!("{step},")), "{line}");
        }
    };
    whole(&first);
    // Killed: the last line may be cut off, and is written again by the run that goes on.
    run_to(first.len() + 3, "-KILL");
    run_to(lines().len() + 3, "-TERM");
    let last = lines();
    whole(&last);
    assert_eq!(last[..first.len()], first);
}

#[test]
fn signals_leave_whole_results() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    for index in 6..20 {
        good(index)
            .save(images.join(format!("{index:03}.png")))
            .unwrap();
    }
    let out = folder.path().join("results");
    let json = folder.path().join("found.json");
    let words = ["inspect", text(model()), text(&images), "--threads", "1"];
    let more = ["--out", text(&out), "--json", text(&json)];
    let arguments: Vec<String> = words
        .iter()
        .chain(&more)
        .map(|word| (*word).to_string())
        .collect();
    interrupted(&arguments, 6, |output| {
        let names = if out.exists() {
            listing(&out)
        } else {
            Vec::new()
        };
        for name in &names {
            if name.ends_with("_map.tiff") {
                map_file::read(&out.join(name)).unwrap();
            } else {
                assert!(name.ends_with("_heatmap.png"), "{name}");
                image::open(out.join(name)).unwrap();
            }
        }
        let success = output.status.success();
        if success || json.exists() {
            let found: serde_json::Value =
                serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
            assert_eq!(found["complete"], success, "{}", stdout(output));
            let inspected = found["images"].as_array().unwrap().len();
            assert!(names.len() >= 2 * inspected, "{names:?}");
        }
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        let _ = fs::remove_file(&json);
        assert_eq!(listing(folder.path()), ["parts"]);
    });
}
