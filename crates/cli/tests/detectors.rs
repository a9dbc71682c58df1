//! Detectors of every kind through every command, and options that do not apply.

use std::path::Path;

use pupilla::DetectorKind;
use pupilla::backbone::{BackboneConfig, ResNet18Config};
use serde_json::Value;

use crate::backbone::weights;
use crate::data::{
    SHORT, assert_failure, assert_success, dataset, model, run, stderr, stdout, text,
};

/// Options that make each small enough for six images of 40×40.
fn small(kind: DetectorKind) -> &'static [&'static str] {
    match kind {
        DetectorKind::StudentTeacher => &SHORT,
        DetectorKind::NearestNeighbour => &["--dictionary", "100"],
        DetectorKind::OneClassSvm => &["--sample", "100"],
        DetectorKind::CnnDictionary => &["--dictionary", "20", "--neighbours", "3"],
        DetectorKind::KMeans
        | DetectorKind::MemoryBank
        | DetectorKind::Padim
        | DetectorKind::Mahalanobis => &["--smoothing", "1"],
        DetectorKind::SquaredErrorAutoencoder
        | DetectorKind::SimilarityAutoencoder
        | DetectorKind::VariationalAutoencoder => &["--resize", "32", "--steps", "12"],
        DetectorKind::AnoGan => &[
            "--resize",
            "32",
            "--steps",
            "12",
            "--search-steps",
            "5",
            "--batch",
            "4",
        ],
        other => panic!("give {other} small numbers here"),
    }
}

#[test]
fn every_detector_goes_through_every_command() {
    let (folder, parts) = dataset();
    let at = |name: &str| folder.path().join(name);
    for kind in DetectorKind::ALL {
        let (file, results, report) = (at("part.pupilla"), at("results.json"), at("report"));
        let name = kind.name();
        let mut train = vec![
            "train",
            text(&parts),
            "--out",
            text(&file),
            "--force",
            "--detector",
            name,
        ];
        train.extend(small(kind));
        if !kind.is_trained_in_steps() {
            train.extend(["--resize", "40"]);
        }
        let output = run(&train);
        assert_success(&output);
        assert!(stdout(&output).contains("5 good images learned, 1 kept back"));

        assert_success(&run(&[
            "eval",
            text(&file),
            text(&parts),
            "--json",
            text(&results),
            "--report",
            text(&report),
        ]));
        let results: Value = serde_json::from_slice(&std::fs::read(&results).unwrap()).unwrap();
        assert_eq!(results["images"], 4);
        assert!(results["au_pro"].as_f64().unwrap() > 0.0, "{name}");
        let page = std::fs::read_to_string(report.join("index.html")).unwrap();
        assert!(page.contains(name));

        let output = run(&["inspect", text(&file), text(&parts.join("test/square"))]);
        assert_success(&output);
        assert!(stdout(&output).contains("of 2 images"));

        let output = run(&["calibrate", text(&file), text(&parts), "--train-good"]);
        assert_success(&output);
        // Only the one that was kept back is taken.
        assert!(stdout(&output).starts_with("1 good images"));

        let output = run(&["info", text(&file), "--json"]);
        assert_success(&output);
        let manifest: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(manifest["kind"], name);
        assert_eq!(manifest["calibration"]["images"], 1);
        assert_eq!(manifest["data"]["learned"].as_array().unwrap().len(), 5);
    }
}

#[test]
fn pretrained_weights_become_part_of_the_model() {
    let (folder, parts) = dataset();
    let network = folder.path().join("resnet18.safetensors");
    let (file, results) = (
        folder.path().join("bank.pupilla"),
        folder.path().join("results.json"),
    );
    let config = BackboneConfig::ResNet18(ResNet18Config {
        stages: 1,
        classes: None,
    });
    weights(&network, config);
    let output = run(&[
        "train",
        text(&parts),
        "--out",
        text(&file),
        "--detector",
        "memory-bank",
        "--backbone",
        text(&network),
        "--backbone-outputs",
        "layer1",
        "--resize",
        "40",
        "--false-reject",
        "50%",
    ]);
    assert_success(&output);
    std::fs::remove_file(&network).unwrap();
    let output = run(&["eval", text(&file), text(&parts), "--json", text(&results)]);
    assert_success(&output);
}

#[test]
fn options_of_other_detectors_are_refused() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let refused = |detector: &str, options: &[&str], words: &[&str]| {
        let mut train = vec![
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--detector",
            detector,
        ];
        train.extend(options);
        let output = run(&train);
        assert_failure(&output, 2, words);
        assert!(!out.exists());
    };
    let belongs = |option, owner, detector| [option, "belongs to --detector", owner, detector];
    refused(
        "1-nn",
        &["--students", "2"],
        &belongs("--students", "student-teacher", "1-nn"),
    );
    refused(
        "padim",
        &["--dry-run"],
        &belongs("--dry-run", "student-teacher", "padim"),
    );
    refused(
        "memory-bank",
        &["--nu", "0.1"],
        &belongs("--nu", "oc-svm", "memory-bank"),
    );
    refused(
        "padim",
        &["--sample", "9"],
        &belongs("--sample", "memory-bank", "padim"),
    );
    refused(
        "student-teacher",
        &["--smoothing", "4"],
        &belongs("--smoothing", "padim", "student-teacher"),
    );
    refused(
        "k-means",
        &["--backbone", "w.pth"],
        &belongs("--backbone", "cnn-dictionary", "k-means"),
    );
    refused("k-means", &["--scales", "17,33"], &["one patch size"]);
    refused(
        "vae",
        &["--border", "zero"],
        &belongs("--border", "padim", "vae"),
    );
    refused(
        "padim",
        &["--backbone", "w.pth", "--scales", "17"],
        &["cannot be used with"],
    );
    refused("oc-svm", &["--gamma", "0"], &["--gamma", "above 0"]);
    refused("oc-svm", &["--nu", "2"], &["nu: must be above 0"]);
    refused("padim", &["--resize", "keep:64"], &["resize", "square"]);
    refused("2-nn", &[], &["2-nn", "memory-bank"]);
}

#[test]
fn more_entries_than_descriptors_fail_with_both_numbers() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let train = [
        "train",
        text(&parts),
        "--out",
        text(&out),
        "--detector",
        "1-nn",
        "--resize",
        "40",
    ];
    let output = run(&train);
    // Five images of 11×11 positions, and 5000 wanted by default.
    assert_failure(&output, 1, &["dictionary", "5000", "605"]);
    assert!(!out.exists());
}

#[test]
fn networks_say_what_they_will_take_and_what_is_wrong() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let train = |detector, more: &[&str]| {
        let mut words = vec![
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--detector",
            detector,
        ];
        words.extend(more);
        run(&words)
    };
    let output = train(
        "l2-ae",
        &["--dry-run", "--resize", "16", "--steps", "7", "--json"],
    );
    assert_success(&output);
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["steps"], 7);
    assert!(plan["seconds_per_step"].as_f64().unwrap() > 0.0);

    for (detector, more, code, words) in [
        (
            "l2-ae",
            &["--resize", "100"][..],
            2,
            &["resize", "power of two from 16 to 512"][..],
        ),
        (
            "vae",
            &["--resize", "keep:64"],
            2,
            &["resize", "power of two"],
        ),
        (
            "anogan",
            &["--search-steps", "2001"],
            2,
            &["search steps", "1 to 2000"],
        ),
        (
            "ssim-ae",
            &["--latent", "2000"],
            2,
            &["latent", "1 to 1024"],
        ),
        ("anogan", &["--batch", "1"], 2, &["batch", "2 to 256"]),
        ("oc-svm", &["--nu", "NaN"], 2, &["--nu", "NaN"]),
        ("vae", &["--kl-weight", "inf"], 2, &["--kl-weight", "inf"]),
        (
            "anogan",
            &["--budget", "1s"],
            1,
            &["budget is too small", "(--budget "],
        ),
        (
            "l2-ae",
            &["--steps", "2", "--budget", "1m"],
            2,
            &["cannot be used with"],
        ),
    ] {
        assert_failure(&train(detector, more), code, words);
        assert!(!out.exists());
    }
}

#[test]
fn a_network_that_was_stopped_goes_on() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let train = |more: &[&str]| {
        let mut words = vec![
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--detector",
            "vae",
        ];
        words.extend(["--resize", "16", "--steps", "6", "--checkpoint-every", "2"]);
        words.extend(more);
        run(&words)
    };
    assert_success(&train(&[]));
    let expected = std::fs::read(&out).unwrap();
    let checkpoint = folder.path().join("m.pupilla.checkpoint");
    assert!(!checkpoint.exists());
    // Nothing to continue: a new run, which replaces the model.
    let output = train(&["--resume", "--force"]);
    assert_success(&output);
    assert!(stderr(&output).contains("there is no checkpoint"));
    assert!(std::fs::read(&out).unwrap() == expected);
}

#[test]
fn what_students_alone_can_do_is_refused_for_others() {
    let (folder, parts) = dataset();
    let file = folder.path().join("km.pupilla");
    assert_success(&run(&[
        "train",
        text(&parts),
        "--out",
        text(&file),
        "--detector",
        "k-means",
        "--resize",
        "40",
    ]));
    for (command, data) in [("eval", &parts), ("inspect", &parts.join("test/good"))] {
        for option in [&["--dense"][..], &["--memory", "1G"]] {
            let mut arguments = vec![command, text(&file), text(data)];
            arguments.extend(option);
            assert_failure(
                &run(&arguments),
                2,
                &[option[0], "student-teacher", "k-means"],
            );
        }
    }
    let output = run(&["eval", text(&file), text(&parts), "--scales", "33"]);
    assert_failure(&output, 2, &["--scales", "student-teacher", "k-means"]);
    // Without them nothing warns of another sampling.
    let output = run(&["inspect", text(&file), text(&parts.join("test/good"))]);
    assert_success(&output);
    assert_eq!(stderr(&output), "");
    assert_success(&run(&[
        "inspect",
        text(model()),
        text(&parts.join("test/good")),
        "--dense",
    ]));
}

/// A detector that is forgotten in a document.
#[test]
fn every_detector_stands_in_the_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for document in [
        "reference/command-line.md",
        "reference/model-file.md",
        "explanation/detectors.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for kind in DetectorKind::ALL {
            let quoted = [format!("`{kind}`"), format!("\"{kind}\"")];
            let stands = quoted.iter().any(|name| text.contains(name));
            assert!(stands, "{document} lacks {kind}");
        }
    }
}
