//! Detectors side by side: one table, failures beside it, and a second run that goes on.

use std::fs;

use serde_json::Value;

use crate::data::{assert_failure, assert_success, dataset, run, stderr, stdout, text};

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
    assert_failure(&run(&ignored), 2, &["--budget", "none of these"]);
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
