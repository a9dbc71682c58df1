//! Detectors side by side: one table, failures beside it, and a second run that goes on.

use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};
#[cfg(target_os = "linux")]
use std::thread::sleep;
#[cfg(target_os = "linux")]
use std::time::Duration;

use serde_json::Value;

use crate::data::{
    assert_failure, assert_success, dataset, run, stderr, stdout, text, write_dataset,
};

#[test]
fn detectors_are_compared_and_a_second_run_does_nothing_again() {
    let (folder, parts) = dataset();
    let out = folder.path().join("compared");
    let mut words = vec![
        "compare",
        text(&parts),
        "--out",
        text(&out),
        "--resize",
        "none",
    ];
    words.extend(["--steps", "2", "--scales", "17,33", "--seeds", "2"]);
    words.extend(["--detectors", "k-means,student-teacher,memory-bank"]);
    // What an unfinished comparison with other options has left is begun anew.
    let job = out.join("parts/student-teacher-0");
    fs::create_dir_all(&job).unwrap();
    let checkpoint = job.join("model.pupilla.checkpoint");
    fs::write(&checkpoint, "another training's").unwrap();
    fs::write(
        job.join("begun.json"),
        r#"{"program":"pupilla 0.1.0","train":["train"]}"#,
    )
    .unwrap();
    let first = run(&words);
    assert_success(&first);
    assert!(!stdout(&first).contains("failed"), "{}", stdout(&first));
    assert!(!checkpoint.exists());
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let before = read("comparison.json");
    let comparison: Value = serde_json::from_str(&before).unwrap();
    let lines = comparison["detectors"].as_array().unwrap();
    let names: Vec<_> = lines
        .iter()
        .map(|line| line["detector"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "k-means",
            "student-teacher",
            "student-teacher",
            "student-teacher",
            "memory-bank"
        ]
    );
    let scales: Vec<_> = lines[1..4]
        .iter()
        .map(|line| line["scales"].to_string())
        .collect();
    assert_eq!(scales, ["[17]", "[33]", "[17,33]"]);
    for line in lines {
        for figure in ["au_pro", "pixel_auroc", "image_auroc"] {
            assert!(
                (0.0..=1.0).contains(&line[figure].as_f64().unwrap()),
                "{line}"
            );
        }
        assert!(line["seconds_per_image"].as_f64().unwrap() > 0.0);
        assert!(line["model_bytes"].as_f64().unwrap() > 0.0);
        if cfg!(target_os = "linux") {
            assert!(line["memory_bytes"].as_f64().unwrap() > 1e6);
        }
        // The networks have one seed, the others two; one of several scales has no training of its own.
        let alone = line["detector"] == "student-teacher";
        assert_eq!(line["deviation"].is_null(), alone);
        let partial = alone && line["scales"].as_array().unwrap().len() == 1;
        assert_eq!(line["training_seconds"].is_null(), partial);
    }
    assert_eq!(read("comparison.csv").lines().count(), 6);
    assert!(read("comparison.html").contains("student-teacher, p = 17, 33"));
    // The same model that `train` writes, and what `eval` says of it.
    let model = out.join("parts/student-teacher-0/model.pupilla");
    let json = folder.path().join("eval.json");
    assert_success(&run(&[
        "eval",
        text(&model),
        text(&parts),
        "--json",
        text(&json),
    ]));
    let evaluation: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(evaluation["au_pro"], lines[3]["au_pro"]);

    let second = run(&words);
    assert_success(&second);
    assert_eq!(stdout(&second).matches("done before").count(), 5);
    assert_eq!(read("comparison.json"), before);
    // With reports, what was tested without a report is tested again; nothing is trained again.
    words.push("--reports");
    let models = || fs::metadata(&model).unwrap().modified().unwrap();
    let trained = models();
    let third = run(&words);
    assert_success(&third);
    assert_eq!(stdout(&third).matches("done before").count(), 0);
    assert_eq!(models(), trained);
    let page = read("comparison.html");
    for name in ["k-means-0", "student-teacher-0", "memory-bank-0"] {
        let report = format!("parts/{name}/report/index.html");
        assert!(
            out.join(&report).exists() && page.contains(&report),
            "{report}"
        );
    }
    let before = read("comparison.json");
    assert_eq!(stdout(&run(&words)).matches("done before").count(), 5);
    // Other options belong to another comparison, whose table must not replace this one.
    words.extend(["--fpr-limit", "0.1"]);
    assert_failure(&run(&words), 2, &["other options", "--out"]);
    assert_eq!(read("comparison.json"), before);
}

#[test]
fn a_detector_that_fails_is_reported_and_the_others_go_on() {
    let (folder, parts) = dataset();
    let out = folder.path().join("compared");
    let mut words = vec![
        "compare",
        text(&parts),
        "--out",
        text(&out),
        "--resize",
        "none",
    ];
    words.extend(["--scales", "65", "--detectors", "student-teacher,k-means"]);
    let output = run(&words);
    assert_success(&output);
    assert!(stderr(&output).contains("student-teacher on parts failed"));
    let comparison: Value =
        serde_json::from_slice(&fs::read(out.join("comparison.json")).unwrap()).unwrap();
    assert_eq!(comparison["detectors"][0]["detector"], "k-means");
    let reason = comparison["failed"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("40×40"), "{reason}");
    let none = run(&[
        "compare",
        text(folder.path()),
        "--out",
        text(&out),
        "--detectors",
        "2-nn",
    ]);
    assert_failure(&none, 2, &["2-nn"]);
    let twice = run(&[
        "compare",
        text(&parts),
        "--out",
        text(&out),
        "--detectors",
        "padim,padim",
    ]);
    assert_failure(&twice, 2, &["twice"]);
    let mut ignored = vec!["compare", text(&parts), "--out", text(&out)];
    ignored.extend(["--detectors", "padim", "--budget", "10m"]);
    assert_failure(
        &run(&ignored),
        2,
        &["--budget", "belongs to --detectors", "not to padim"],
    );
    let wrong = run(&[
        "compare",
        text(&parts),
        "--out",
        text(&out),
        "--resize",
        "huge",
    ]);
    assert_failure(&wrong, 2, &["huge"]);
    let nothing = run(&["compare", text(&parts.join("train")), "--out", text(&out)]);
    assert_failure(&nothing, 1, &["train"]);
    let with = |out: &Path, detectors: &str, more: &[&str]| {
        let words = ["compare", text(&parts), "--out", text(out), "--detectors"];
        run(&[&words[..], &[detectors], more].concat())
    };
    let twice = with(&out, "student-teacher", &["--scales", "33,33"]);
    assert_failure(&twice, 2, &["--scales", "twice"]);
    let weights = with(&out, "padim", &["--backbone", "nowhere.safetensors"]);
    assert_failure(&weights, 1, &["nowhere.safetensors"]);
    // Results would be taken for images, or for a category.
    for inside in [parts.clone(), parts.join("new/results")] {
        let output = with(&inside, "padim", &[]);
        assert_failure(&output, 2, &["--out", "lies in the data set"]);
    }
    assert!(!parts.join("new").exists());
}

#[test]
fn networks_keep_their_own_size_where_the_one_asked_for_is_none_of_theirs() {
    let (folder, parts) = dataset();
    let out = folder.path().join("compared");
    let compare = |resize| {
        let mut words = vec!["compare", text(&parts), "--out", text(&out)];
        words.extend(["--detectors", "l2-ae,k-means", "--resize", resize]);
        words.extend(["--steps", "1", "--network-seeds", "2"]);
        run(&words)
    };
    let output = compare("40");
    assert_success(&output);
    let said = stdout(&output);
    assert!(
        said.contains("l2-ae sees images at 128×128, not --resize 40"),
        "{said}"
    );
    assert!(!said.contains("k-means sees"), "{said}");
    let comparison: Value =
        serde_json::from_slice(&fs::read(out.join("comparison.json")).unwrap()).unwrap();
    let lines = comparison["detectors"].as_array().unwrap();
    let seeds: Vec<_> = lines
        .iter()
        .map(|line| line["categories"][0]["seeds"].as_u64())
        .collect();
    assert_eq!(seeds, [Some(2), Some(1)]);
    let json = folder.path().join("info.json");
    for (model, size) in [("l2-ae-0", "128"), ("l2-ae-1", "128"), ("k-means-0", "40")] {
        let model = out.join("parts").join(model).join("model.pupilla");
        assert_success(&run(&["info", text(&model), "--json", text(&json)]));
        let manifest: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        assert_eq!(manifest["settings"]["resize"], size);
    }
    fs::remove_dir_all(&out).unwrap();
    // One that it can have is passed on.
    let output = compare("32");
    assert_success(&output);
    assert!(!stdout(&output).contains("sees images"));
}

#[test]
fn results_belong_to_their_images_and_not_to_the_path() {
    let (folder, parts) = dataset();
    let out = folder.path().join("compared");
    let compare = |data: &Path, more: &[&str]| {
        let words = [
            "compare",
            text(data),
            "--out",
            text(&out),
            "--resize",
            "none",
        ];
        run(&[&words[..], &["--detectors", "k-means"], more].concat())
    };
    assert_success(&compare(&parts, &["--threads", "1"]));
    let model = out.join("parts/k-means-0/model.pupilla");
    let table = out.join("comparison.json");
    let before = fs::read(&table).unwrap();
    let again = compare(&folder.path().join(".").join("parts"), &["--threads", "1"]);
    assert_success(&again);
    assert!(stdout(&again).contains("done before"));
    let threads = compare(&parts, &["--threads", "2"]);
    assert_failure(&threads, 2, &["--threads"]);
    // The mask of another square: the model stays what it was, its figures do not.
    let mask = parts.join("ground_truth/square/000_mask.png");
    let kept = fs::read(&mask).unwrap();
    image::GrayImage::from_pixel(40, 40, image::Luma([255]))
        .save(&mask)
        .unwrap();
    let other = compare(&parts, &["--threads", "1"]);
    assert_failure(&other, 2, &["other images", "finished.json"]);
    assert!(fs::read(&table).unwrap() == before);
    fs::write(&mask, kept).unwrap();
    // A training that was finished is not done again for tests that were not.
    fs::remove_file(out.join("parts/k-means-0/finished.json")).unwrap();
    let trained = fs::metadata(&model).unwrap().modified().unwrap();
    assert_success(&compare(&parts, &["--threads", "1"]));
    assert_eq!(fs::metadata(&model).unwrap().modified().unwrap(), trained);
    let figure = |table: &[u8]| -> Value {
        let table: Value = serde_json::from_slice(table).unwrap();
        table["detectors"][0]["training_seconds"].clone()
    };
    assert_eq!(figure(&fs::read(&table).unwrap()), figure(&before));
}

#[cfg(unix)]
#[test]
fn categories_have_the_names_that_they_are_given_and_broken_ones_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    for (name, elsewhere) in [("one", "a/parts"), ("two", "b/parts"), ("zero", "c/parts")] {
        let place = folder.path().join(elsewhere);
        write_dataset(&place);
        std::os::unix::fs::symlink(&place, root.join(name)).unwrap();
    }
    let masks = root.join("one/ground_truth/square");
    fs::copy(masks.join("001_mask.png"), masks.join("001.png")).unwrap();
    let out = folder.path().join("compared");
    let mut words = vec!["compare", text(&root), "--out", text(&out)];
    words.extend(["--detectors", "padim,k-means", "--resize", "40"]);
    let output = run(&words);
    assert_success(&output);
    let said = stdout(&output);
    assert!(
        said.contains("means over 2 of 3 categories, without one"),
        "{said}"
    );
    let comparison: Value =
        serde_json::from_slice(&fs::read(out.join("comparison.json")).unwrap()).unwrap();
    assert_eq!(comparison["without"], serde_json::json!(["one"]));
    for (line, name) in ["padim", "k-means"].iter().enumerate() {
        let line = &comparison["detectors"][line];
        assert_eq!(line["detector"], *name);
        let categories = line["categories"].as_array().unwrap();
        let names: Vec<_> = categories.iter().map(|one| &one["category"]).collect();
        assert_eq!(names, ["two", "zero"]);
        assert!(line["au_pro"].is_f64());
    }
    // Nothing was trained that cannot be tested.
    let failed = comparison["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 2);
    assert!(
        failed[0]["reason"]
            .as_str()
            .unwrap()
            .contains("has two masks")
    );
    assert!(!out.join("one").exists());
}

/// Whether a process has a path among its arguments.
#[cfg(target_os = "linux")]
fn is_running(with: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|words| {
            let with = text(with).as_bytes();
            words.windows(with.len()).any(|part| part == with)
        })
}

#[cfg(target_os = "linux")]
#[test]
fn a_comparison_that_is_killed_leaves_a_checkpoint_and_goes_on() {
    let (folder, parts) = dataset();
    let out = folder.path().join("compared");
    let mut words = vec![
        "compare",
        text(&parts),
        "--out",
        text(&out),
        "--threads",
        "1",
    ];
    words.extend(["--detectors", "vae", "--resize", "16", "--steps", "500"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(&words)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let job = out.join("parts/vae-0");
    let checkpoint = job.join("model.pupilla.checkpoint");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        sleep(Duration::from_millis(5));
    }
    assert_failure(&run(&words), 1, &["another comparison", "--out"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // The training's own process notices that it is alone, and stops.
    while is_running(&job) {
        sleep(Duration::from_millis(5));
    }
    assert!(checkpoint.exists() && !job.join("model.pupilla").exists());
    let output = run(&[&words[..], &["--progress", "json"]].concat());
    assert_success(&output);
    let said = stderr(&output);
    assert!(said.contains("\"resumed\""), "{said}");
    let straight = folder.path().join("straight.pupilla");
    let mut train = vec![
        "train",
        text(&parts),
        "--out",
        text(&straight),
        "--threads",
        "1",
    ];
    train.extend(["--detector", "vae", "--resize", "16", "--steps", "500"]);
    assert_success(&run(&train));
    assert!(fs::read(&straight).unwrap() == fs::read(job.join("model.pupilla")).unwrap());
}
