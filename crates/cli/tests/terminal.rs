//! The person at the terminal: names of the field, short answers, colours, and no file that is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::backbone::weights;
use crate::data::{
    SHORT_ALONE, assert_failure, assert_success, dataset, good, model, run, stderr, stdout, text,
};

/// The program with one variable of the environment.
fn with_variable(name: &str, value: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(arguments)
        .env(name, value)
        .output()
        .unwrap()
}

/// Trains in a moment, without steps.
fn train(parts: &Path, out: &Path, more: &[&str]) -> Output {
    let words = ["train", text(parts), "--out", text(out), "--resize", "none"];
    run(&[&words[..], &["--detector", "Mahalanobis"], more].concat())
}

/// A training in steps that was stopped after its first checkpoint.
fn stopped_run(parts: &Path, out: &Path) {
    let words = ["train", text(parts), "--out", text(out), "--scales", "33"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(words)
        .args(["--resize", "none", "--students", "1", "--steps", "1000000"])
        .args(["--checkpoint-every", "1", "--stop-with-input"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !checkpoint_of(out).exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert!(!out.exists());
}

fn checkpoint_of(out: &Path) -> PathBuf {
    PathBuf::from(format!("{}.checkpoint", text(out)))
}

#[test]
fn detectors_answer_to_the_names_of_the_field() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    for (name, own) in [("PatchCore", "memory-bank"), ("ssim_ae", "ssim-ae")] {
        let words = ["train", text(&parts), "--out", text(&out)];
        let output = run(&[&words[..], &["--detector", name, "--students", "2"]].concat());
        let refused = format!("not to {own}");
        assert_failure(&output, 2, &["--students belongs to", &refused]);
    }
    let output = run(&["train", text(&parts), "--detector", "patchcor"]);
    assert_failure(&output, 2, &["similar", "'patchcore'"]);
    let output = run(&["compare", text(&parts), "--out", "c", "--detectors", "padm"]);
    assert_failure(&output, 2, &["similar", "'padim'"]);
    // Another value of the library's: no detector.
    let output = run(&["info", "--device", "cpuu"]);
    assert_failure(&output, 2, &["similar", "'cpu'"]);
    let help = stdout(&run(&["train", "--help"]));
    assert!(help.contains("memory-bank") && !help.contains("one-class-svm"));
}

#[test]
fn a_model_is_replaced_with_force_alone() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    assert_success(&train(&parts, &out, &[]));
    let before = fs::read(&out).unwrap();
    let seed = ["--seed", "1"];
    assert_failure(&train(&parts, &out, &seed), 2, &["m.pupilla", "--force"]);
    // Before any work, and whatever the detector.
    let output = run(&[
        "train",
        text(&parts),
        "--out",
        text(&out),
        "--steps",
        "1000000",
    ]);
    assert_failure(&output, 2, &["m.pupilla", "--force"]);
    // Nothing to continue.
    let steps = [&SHORT_ALONE[..], &["--resume"]].concat();
    let words = ["train", text(&parts), "--out", text(&out)];
    assert_failure(&run(&[&words[..], &steps].concat()), 2, &["--force"]);
    assert!(before == fs::read(&out).unwrap());
    // Nothing is written.
    assert_success(&run(&[&words[..], &SHORT_ALONE, &["--dry-run"]].concat()));

    assert_success(&train(&parts, &out, &["--seed", "1", "--force"]));
    let after = fs::read(&out).unwrap();
    assert!(before != after);

    // The thresholds of another model.
    let others = parts.with_file_name("others");
    fs::create_dir(&others).unwrap();
    good(100).save(others.join("a.png")).unwrap();
    let other = parts.with_file_name("other.pupilla");
    fs::copy(&out, &other).unwrap();
    let words = [
        "calibrate",
        text(&out),
        text(&others),
        "--out",
        text(&other),
    ];
    assert_failure(&run(&words), 2, &["other.pupilla", "--force"]);
    assert!(after == fs::read(&other).unwrap());
    assert_success(&run(&[&words[..], &["--force"]].concat()));
    assert!(after != fs::read(&other).unwrap());
    // In place it is what the command is for.
    assert_success(&run(&["calibrate", text(&out), text(&others)]));

    // A folder that no demo has made.
    fs::write(others.join("sheet.png"), "a picture").unwrap();
    let output = run(&["demo", "--out", text(&others)]);
    assert_failure(&output, 2, &["sheet.png", "--out"]);
    assert_eq!(fs::read(others.join("sheet.png")).unwrap(), b"a picture");
}

#[test]
fn few_images_promise_what_all_of_them_show() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    let words = ["train", text(&parts), "--out", text(&out), "--resize", "40"];
    let output = run(&words);
    assert_success(&output);
    let told = stdout(&output);
    assert!(
        told.contains("5 good images learned, 1 kept back"),
        "{told}"
    );
    // Six images in three groups.
    let promise = "about 14.3 % of good parts are called defective on average, 1 in 7 (an estimate, good images left out in turn: 6)";
    let info = stdout(&run(&["info", text(&out)]));
    assert!(
        told.contains(promise) && info.contains(promise),
        "{told}{info}"
    );
    // The same command gives the same bytes.
    let before = fs::read(&out).unwrap();
    assert_success(&run(&[&words[..], &["--force"]].concat()));
    assert!(before == fs::read(&out).unwrap());
}

#[test]
fn a_checkpoint_is_mentioned_before_it_is_replaced() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    stopped_run(&parts, &out);
    let words = ["train", text(&parts), "--out", text(&out)];
    let output = run(&[&words[..], &SHORT_ALONE].concat());
    assert_success(&output);
    let told = stderr(&output);
    for word in [
        "m.pupilla.checkpoint",
        "student-teacher",
        "steps so far: ",
        "--resume",
    ] {
        assert!(told.contains(word), "{word} is not in: {told}");
    }
    assert!(!checkpoint_of(&out).exists());

    // A model that is there does not keep a stopped run from going on; another run does not go on.
    let other = parts.with_file_name("n.pupilla");
    stopped_run(&parts, &other);
    fs::copy(model(), &other).unwrap();
    let words = ["train", text(&parts), "--out", text(&other)];
    let words = [&words[..], &SHORT_ALONE].concat();
    let output = run(&[&words[..], &["--resume"]].concat());
    assert_failure(&output, 1, &["n.pupilla.checkpoint", "other settings"]);

    // A file of that name is not a checkpoint for its name.
    fs::write(checkpoint_of(&out), "a shopping list").unwrap();
    let output = train(&parts, &out, &["--force"]);
    assert_success(&output);
    assert_eq!(stderr(&output), "");
}

#[test]
fn info_is_short_unless_all_is_wanted() {
    let short = stdout(&run(&["info", text(model())]));
    assert!((8..=12).contains(&short.lines().count()), "{short}");
    for word in [
        "student-teacher",
        "5 good images of parts",
        "thresholds",
        "good parts are called defective",
        "teacher for p = 33",
        "pupilla inspect",
        "MiB",
        "--full",
    ] {
        assert!(short.contains(word), "{word} is not in: {short}");
    }
    let full = stdout(&run(&["info", text(model()), "--full"]));
    assert!(full.lines().count() > 40 && full.contains("fingerprint"));
    let json = stdout(&run(&["info", text(model()), "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["kind"], "student-teacher");
}

#[test]
fn info_says_what_other_files_are() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    stopped_run(&parts, &out);
    let checkpoint = checkpoint_of(&out);
    let told = stdout(&run(&["info", text(&checkpoint)]));
    assert!(told.contains("student-teacher, steps so far: "), "{told}");
    assert!(told.contains("--resume"), "{told}");
    let json = stdout(&run(&["info", text(&checkpoint), "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["checkpoint_of"], "student-teacher");
    let steps = format!("steps so far: {})", json["steps"]);
    assert!(told.contains(&steps), "{steps} is not in: {told}");

    let pretrained = parts.with_file_name("resnet18.safetensors");
    let config = pupilla::backbone::ResNet18Config {
        stages: 2,
        classes: None,
    };
    weights(
        &pretrained,
        pupilla::backbone::BackboneConfig::ResNet18(config),
    );
    let told = stdout(&run(&["info", text(&pretrained)]));
    assert!(
        told.contains("ResNet-18") && told.contains("--backbone"),
        "{told}"
    );

    let image = parts.join("train/good/000.png");
    let output = run(&["info", text(&image)]);
    assert_failure(&output, 1, &["000.png", "not a Pupilla file"]);
    let missing = run(&["info", "nowhere.pupilla"]);
    assert_failure(&missing, 1, &["nowhere.pupilla", "cannot read"]);
}

#[test]
fn the_short_help_has_what_most_people_need_and_every_help_has_examples() {
    let short = stdout(&run(&["train", "-h"]));
    let long = stdout(&run(&["train", "--help"]));
    for option in ["--out", "--force", "--detector", "--false-reject", "--json"] {
        assert!(short.contains(option) && long.contains(option), "{option}");
    }
    for option in ["--seed", "--coreset", "--students", "--progress"] {
        assert!(!short.contains(option) && long.contains(option), "{option}");
    }
    let headings = [
        "\nThresholds:",
        "\nAdvanced options:",
        "\nOptions of every command:",
    ];
    for heading in headings {
        assert!(long.contains(heading), "{heading}");
    }
    let commands = [
        "train",
        "calibrate",
        "inspect",
        "eval",
        "score",
        "check",
        "compare",
        "info",
        "backbone",
        "demo",
    ];
    let commands = commands.map(|command| vec![command]);
    let of_teacher = [vec!["teacher", "train"], vec!["teacher", "report"]];
    for command in commands.into_iter().chain(of_teacher) {
        let help = stdout(&run(&[&command[..], &["-h"]].concat()));
        let (_, examples) = help.split_once("\nExamples:\n").expect(&help);
        let begin = format!("  pupilla {}", command.join(" "));
        assert!((2..=3).contains(&examples.lines().count()), "{examples}");
        assert!(
            examples.lines().next().unwrap().starts_with(&begin),
            "{examples}"
        );
    }
}

#[test]
fn colours_are_seen_in_terminals_alone() {
    const COLOUR: char = '\u{1b}';
    let wrong = ["inspect", "nowhere.pupilla", "nowhere"];
    let plain = run(&wrong);
    assert_failure(&plain, 1, &["error: "]);
    assert!(!stderr(&plain).contains(COLOUR));
    // As in a terminal.
    let forced = with_variable("CLICOLOR_FORCE", "1", &wrong);
    assert!(stderr(&forced).contains(COLOUR), "{}", stderr(&forced));
    let help = with_variable("CLICOLOR_FORCE", "1", &["--help"]);
    assert!(stdout(&help).contains(COLOUR));
    for arguments in [&wrong[..], &["--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_pupilla"))
            .args(arguments)
            .envs([("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])
            .output()
            .unwrap();
        let told = stdout(&output) + &stderr(&output);
        assert!(!told.contains(COLOUR), "{told}");
    }
}

#[test]
fn eval_counts_verdicts_against_labels() {
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("e.json");
    let eval = |threshold: &[&str]| {
        let words = ["eval", text(model()), text(&parts), "--json", text(&out)];
        let output = run(&[&words[..], threshold].concat());
        assert_success(&output);
        let json: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
        (stdout(&output), json)
    };
    // Between the good and the defective images, which the model tells apart.
    let (_, json) = eval(&[]);
    let scores = |good: bool| {
        let images = json["per_image"].as_array().unwrap().iter();
        let images = images.filter(move |image| image["defect"].is_null() == good);
        images.map(|image| image["score"].as_f64().unwrap())
    };
    let highest_good = scores(true).fold(f64::NEG_INFINITY, f64::max);
    let lowest_bad = scores(false).fold(f64::INFINITY, f64::min);
    assert!(highest_good < lowest_bad);
    let own = &json["confusion"];
    assert_eq!(own["defective_found"], 2);
    let rejected = scores(true).filter(|score| *score > own["threshold"].as_f64().unwrap());
    assert_eq!(own["good_rejected"], rejected.count());

    let (told, json) = eval(&["--threshold", &lowest_bad.to_string()]);
    let found = &json["confusion"];
    let counts = [
        "good_accepted",
        "good_rejected",
        "defective_found",
        "defective_missed",
    ];
    assert_eq!(
        counts.map(|count| found[count].as_u64().unwrap()),
        [2, 0, 1, 1]
    );
    assert!(
        told.contains("0.0 % rejected") && told.contains("50.0 % missed"),
        "{told}"
    );
    // A region must be as large as wanted.
    let (_, json) = eval(&[
        "--threshold",
        &highest_good.to_string(),
        "--min-area",
        "100000",
    ]);
    assert_eq!(json["confusion"]["defective_missed"], 2);
}
