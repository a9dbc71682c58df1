//! The main job: train, inspect, eval, info; and that the numbers they give agree.

use std::path::Path;

use pupilla_core::map_file;
use serde_json::Value;

use crate::data::{
    SHORT, assert_success, dataset, good, listing, model, run, stderr, stdout, text,
};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn inspect_and_eval_agree_on_every_score() {
    let (folder, parts) = dataset();
    let model = text(model());
    let (maps, found, results) = (
        folder.path().join("maps"),
        folder.path().join("found.json"),
        folder.path().join("results.json"),
    );
    let pictures = folder.path().join("pictures");
    assert_success(&run(&[
        "eval",
        model,
        text(&parts),
        "--maps",
        text(&maps),
        "--pictures",
        text(&pictures),
        "--json",
        text(&results),
    ]));
    let results = json(&results);
    assert_eq!(results["images"], 4);
    assert_eq!(results["regions"], 2);
    assert_eq!(results["per_defect"]["square"]["images"], 2);
    assert_eq!(results["image_auroc"], 1.0);
    assert!(results["au_pro"].as_f64().unwrap() > 0.5, "{results}");
    assert!(results["seconds_per_image"].as_f64().unwrap() > 0.0);
    assert_eq!(listing(&pictures), ["index.html", "sheet.png"]);
    assert_eq!(listing(&maps.join("parts/test")), ["good", "square"]);

    let heatmaps = folder.path().join("heatmaps");
    let square = parts.join("test/square");
    assert_success(&run(&[
        "inspect",
        model,
        text(&square),
        "--out",
        text(&heatmaps),
        "--json",
        text(&found),
    ]));
    let found = json(&found);
    assert_eq!(
        listing(&heatmaps),
        [
            "000_heatmap.png",
            "000_map.tiff",
            "001_heatmap.png",
            "001_map.tiff"
        ]
    );
    for (index, image) in found["images"].as_array().unwrap().iter().enumerate() {
        assert_eq!(image["defective"], true);
        let name = format!("square/00{index}.png");
        let per_image = results["per_image"].as_array().unwrap();
        let same = per_image
            .iter()
            .find(|other| other["path"] == *name)
            .unwrap();
        assert_eq!(same["score"], image["score"]);
        let raw = heatmaps.join(format!("00{index}_map.tiff"));
        let written = maps.join(format!("parts/test/square/00{index}.tiff"));
        let raw = map_file::read(&raw).unwrap();
        assert_eq!(raw, map_file::read(&written).unwrap());
        // JSON has the shortest digits that give the same f32 back.
        assert_eq!(raw.image_score(), image["score"].as_f64().unwrap() as f32);
    }
}

#[test]
fn scores_do_not_depend_on_the_number_of_threads() {
    let (_folder, parts) = dataset();
    let square = parts.join("test/square");
    let of = |threads: &str| {
        let output = run(&[
            "inspect",
            text(model()),
            text(&square),
            "--threads",
            threads,
        ]);
        assert_success(&output);
        stdout(&output)
    };
    assert_eq!(of("1"), of("2"));
    assert_eq!(of("1"), of("3"));
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let (folder, parts) = dataset();
    let train = |name: &str| {
        let path = folder.path().join(name);
        let mut arguments = vec![
            "train",
            text(&parts),
            "--out",
            text(&path),
            "--threads",
            "2",
        ];
        arguments.extend(SHORT);
        assert_success(&run(&arguments));
        std::fs::read(path).unwrap()
    };
    assert!(train("one") == train("two"));
}

#[test]
fn a_plain_folder_trains_and_tells_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    std::fs::create_dir(&images).unwrap();
    for index in 0..4 {
        good(index)
            .save(images.join(format!("{index}.jpg")))
            .unwrap();
    }
    let out = folder.path().join("m.pupilla");
    let output = run(&[
        "train",
        text(&images),
        "--out",
        text(&out),
        "--resize",
        "keep:36",
        "--steps",
        "2",
        "--seed",
        "7",
        "--progress",
        "json",
        "--json",
    ]);
    assert_success(&output);
    let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(manifest["settings"]["seed"], 7);
    assert_eq!(manifest["settings"]["resize"], "keep:36");
    assert_eq!(manifest["data"]["name"], "images");
    assert_eq!(manifest["training_images"], 3);
    for line in stderr(&output).lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
    let info = run(&["info", text(&out), "--json"]);
    assert_success(&info);
    assert_eq!(
        serde_json::from_str::<Value>(&stdout(&info)).unwrap(),
        manifest
    );
    let info = stdout(&run(&["info", text(&out)]));
    assert!(
        info.contains("kind: student-teacher") && info.contains("seed: 7"),
        "{info}"
    );
}

#[test]
fn a_teacher_of_ones_own_trains_students() {
    let (folder, parts) = dataset();
    let images = parts.join("train/good");
    let teacher = folder.path().join("teacher-17.safetensors");
    assert_success(&run(&[
        "teacher",
        "train",
        text(&images),
        "--scale",
        "17",
        "--out",
        text(&teacher),
        "--steps",
        "2",
        "--images-per-step",
        "2",
        "--window",
        "17",
        "--data-terms",
        "our own photographs",
    ]));
    let info = stdout(&run(&["info", text(&teacher)]));
    assert!(info.contains("our own photographs"), "{info}");
    let out = folder.path().join("m.pupilla");
    assert_success(&run(&[
        "train",
        text(&images),
        "--out",
        text(&out),
        "--scales",
        "17,33",
        "--teacher",
        text(&teacher),
        "--resize",
        "none",
        "--steps",
        "2",
        "--students",
        "1",
    ]));
    let output = run(&[
        "inspect",
        text(&out),
        text(&parts.join("test/good")),
        "--dense",
    ]);
    assert_success(&output);
    assert_eq!(stdout(&output).lines().count(), 3);
}

#[test]
fn the_threshold_is_the_models_unless_one_is_given() {
    let (_folder, parts) = dataset();
    let square = parts.join("test/square");
    let output = run(&[
        "inspect",
        text(model()),
        text(&square),
        "--threshold",
        "1e9",
    ]);
    assert_success(&output);
    assert!(!stdout(&output).contains("DEFECTIVE"));
    let output = run(&[
        "inspect",
        text(model()),
        text(&square),
        "--threshold",
        "-1e9",
    ]);
    assert_eq!(stdout(&output).matches("DEFECTIVE").count(), 2);
}

#[test]
fn maps_of_images_that_differ_in_their_extension_alone_are_kept_apart() {
    let (folder, parts) = dataset();
    good(70).save(parts.join("test/good/000.bmp")).unwrap();
    let maps = folder.path().join("maps");
    assert_success(&run(&[
        "eval",
        text(model()),
        text(&parts),
        "--maps",
        text(&maps),
    ]));
    assert_eq!(
        listing(&maps.join("parts/test/good")),
        ["000.bmp.tiff", "000.png.tiff", "001.tiff"]
    );
}

#[test]
fn help_speaks_of_every_verb() {
    let help = stdout(&run(&["--help"]));
    for verb in ["train", "inspect", "eval", "teacher", "info", "demo"] {
        assert!(help.contains(verb), "{help}");
        let of_verb = run(&[verb, "--help"]);
        assert_success(&of_verb);
        assert!(stdout(&of_verb).len() > 100);
    }
}
