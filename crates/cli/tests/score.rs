//! `score`, which measures maps of any tool, and `check`, which looks a data set over.

use std::fs;
use std::path::Path;
use std::process::Output;

use image::{GrayImage, Luma};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::map_file;
use serde_json::Value;

use crate::data::{
    SIDE, assert_failure, assert_success, dataset, model, run, stderr, stdout, text, write_dataset,
};

fn json(output: &Output) -> Value {
    assert_success(output);
    serde_json::from_str(&stdout(output)).unwrap()
}

/// Maps of a data set of `write_dataset` in MVTec's layout; `shift` moves the scores of defects.
fn write_maps(test: &Path, shift: f32) {
    for kind in ["good", "square"] {
        fs::create_dir_all(test.join(kind)).unwrap();
        for index in 0..2_u8 {
            let scores = (0..SIDE * SIDE).map(|at| {
                let (row, column) = (at / SIDE, at % SIDE);
                let inside = (15..25).contains(&column) && (10..20).contains(&row);
                let defect = kind == "square" && inside;
                (at * 37 % 101) as f32 / 101.0 + if defect { shift } else { 0.0 }
            });
            let map = AnomalyMap::new(SIDE as usize, SIDE as usize, scores.collect());
            map_file::write(&test.join(kind).join(format!("00{index}.tiff")), &map).unwrap();
        }
    }
}

#[test]
fn maps_that_eval_wrote_score_as_eval_said() {
    let (folder, parts) = dataset();
    let maps = folder.path().join("maps");
    let mut evaluated = json(&run(&[
        "eval",
        text(model()),
        text(&parts),
        "--maps",
        text(&maps),
        "--curves",
        "--json",
    ]));
    evaluated["seconds_per_image"] = Value::Null;
    // Maps of another tool have no threshold.
    evaluated.as_object_mut().unwrap().remove("confusion");
    for maps in [&maps, &maps.join("parts")] {
        let scored = json(&run(&[
            "score",
            "--maps",
            text(maps),
            text(&parts),
            "--curves",
            "--json",
        ]));
        assert_eq!(scored, evaluated);
    }
    assert!(evaluated["curves"]["pixels"].as_array().unwrap().len() > 2);
    // The part to learn from is not needed.
    fs::remove_dir_all(parts.join("train")).unwrap();
    let output = run(&["score", "--maps", text(&maps), text(&parts)]);
    assert_success(&output);
    for words in ["AU-PRO", "px AP", "square", "all", "small (< 32² px)"] {
        assert!(stdout(&output).contains(words), "{}", stdout(&output));
    }
}

#[test]
fn a_whole_data_set_gives_each_category_and_the_mean() {
    let folder = tempfile::tempdir().unwrap();
    let (data, maps) = (folder.path().join("data"), folder.path().join("maps"));
    for (category, shift) in [("nuts", 0.3), ("bolts", 0.1)] {
        write_dataset(&data.join(category));
        write_maps(&maps.join(category).join("test"), shift);
    }
    let whole = json(&run(&[
        "score",
        "--maps",
        text(&maps),
        text(&data),
        "--json",
    ]));
    let mut sum = 0.0;
    for category in ["bolts", "nuts"] {
        let one = run(&[
            "score",
            "--maps",
            text(&maps),
            text(&data.join(category)),
            "--json",
        ]);
        let one = json(&one);
        assert_eq!(whole["categories"][category], one);
        sum += one["au_pro"].as_f64().unwrap();
    }
    assert!((whole["au_pro"].as_f64().unwrap() - sum / 2.0).abs() < 1e-12);
    assert_eq!(whole["images"], 8);
    assert_eq!(whole["per_defect"]["nuts/square"]["images"], 2);
    let output = run(&["score", "--maps", text(&maps), text(&data)]);
    let said = stdout(&output);
    assert!(said.contains("bolts") && said.contains("mean"), "{said}");
}

#[test]
fn bad_maps_are_named() {
    let (folder, parts) = dataset();
    let maps = folder.path().join("maps");
    let fails = |words: &[&str]| {
        let output = run(&["score", "--maps", text(&maps), text(&parts), "--json", "-"]);
        assert_failure(&output, 1, words);
        assert_eq!(stdout(&output), "");
    };
    fails(&["no anomaly maps of parts", "maps/parts/test"]);
    write_maps(&maps.join("test"), 1.0);
    let first = maps.join("test/good/000.tiff");
    let whole = fs::read(&first).unwrap();
    fs::write(maps.join("test/good/000.tif"), &whole).unwrap();
    fails(&["two anomaly maps", "000.tif", "000.tiff"]);
    fs::remove_file(maps.join("test/good/000.tif")).unwrap();
    map_file::write(&first, &AnomalyMap::new(8, 9, vec![0.0; 72])).unwrap();
    fails(&["000.tiff is 8×9", "is 40×40", "original"]);
    let mut scores = vec![0.0; 1600];
    scores[41] = f32::NAN;
    map_file::write(&first, &AnomalyMap::new(40, 40, scores)).unwrap();
    fails(&["000.tiff", "row 1, column 1 is NaN"]);
    GrayImage::new(40, 40)
        .save_with_format(&first, image::ImageFormat::Tiff)
        .unwrap();
    fails(&["000.tiff holds Gray(8)", "32-bit floats", "levels"]);
    fs::remove_file(&first).unwrap();
    fails(&["good/000.png has no anomaly map", "good/000.tiff"]);
    GrayImage::new(40, 40)
        .save(first.with_extension("png"))
        .unwrap();
    fails(&["has no anomaly map", "000.png", "8 bits"]);
    fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    fails(&["cannot decode", "000.tiff"]);
    fs::write(&first, &whole).unwrap();
    fs::write(maps.join("test/good/777.tiff"), &whole).unwrap();
    let output = run(&["score", "--maps", text(&maps), text(&parts)]);
    assert_success(&output);
    assert!(stderr(&output).contains("777.tiff"), "{}", stderr(&output));
    for wrong in [
        ["--fpr-limit", "0"],
        ["--mask-threshold", "255"],
        ["--curves", "0.1"],
    ] {
        let command = [&["score", "--maps", text(&maps), text(&parts)], &wrong[..]].concat();
        assert_failure(&run(&command), 2, &["error"]);
    }
}

#[test]
fn one_class_only_is_undefined_and_said() {
    let (folder, parts) = dataset();
    let maps = folder.path().join("maps");
    write_maps(&maps.join("test"), 1.0);
    fs::remove_dir_all(parts.join("test/good")).unwrap();
    fs::remove_dir_all(maps.join("test/good")).unwrap();
    let output = run(&["score", "--maps", text(&maps), text(&parts), "--json"]);
    let found = json(&output);
    assert_eq!(found["image_auroc"], Value::Null);
    assert_eq!(found["image_ap"], Value::Null);
    assert_eq!(found["au_pro"], 1.0);
    assert!(
        stderr(&output).contains("no good image"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_mask_of_a_good_image_and_grey_masks() {
    let (folder, parts) = dataset();
    let maps = folder.path().join("maps");
    write_maps(&maps.join("test"), 1.0);
    let truth = parts.join("ground_truth");
    let soft = GrayImage::from_fn(SIDE, SIDE, |x, _| Luma([x as u8 * 5]));
    soft.save(truth.join("square/000_mask.png")).unwrap();
    let output = run(&[
        "score",
        "--maps",
        text(&maps),
        text(&parts),
        "--mask-threshold",
        "127",
    ]);
    assert_success(&output);
    let said = stderr(&output);
    assert!(
        said.contains("1 of 2 masks have grey levels") && said.contains("127"),
        "{said}"
    );
    fs::create_dir(truth.join("good")).unwrap();
    soft.save(truth.join("good/001_mask.png")).unwrap();
    let output = run(&["score", "--maps", text(&maps), text(&parts)]);
    assert_failure(&output, 1, &["good/001.png is a good image", "mask"]);
}

#[test]
fn check_tells_by_its_status_whether_there_is_a_problem() {
    let (folder, parts) = dataset();
    let output = run(&["check", text(&parts)]);
    assert_success(&output);
    assert!(
        stdout(&output).contains("problems: 0"),
        "{}",
        stdout(&output)
    );
    // A notice is no problem.
    fs::copy(
        parts.join("train/good/000.png"),
        parts.join("train/good/copy.png"),
    )
    .unwrap();
    let output = run(&["check", text(&parts)]);
    assert_success(&output);
    assert!(
        stdout(&output).contains("notice: the same file 2 times"),
        "{}",
        stdout(&output)
    );
    fs::copy(
        parts.join("train/good/001.png"),
        parts.join("test/good/leak.png"),
    )
    .unwrap();
    let file = folder.path().join("found.json");
    let output = run(&["check", text(&parts), "--json", text(&file)]);
    assert_failure(&output, 3, &[]);
    assert!(
        stdout(&output).contains("problem: the same file to learn from"),
        "{}",
        stdout(&output)
    );
    let found: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&found["problems"], &found["notices"]),
        (&1.into(), &1.into())
    );
    assert_eq!(found["findings"][0]["kind"], "leak");
    assert_failure(
        &run(&["check", text(&parts.join("nowhere"))]),
        1,
        &["nowhere"],
    );

    // A folder of several.
    write_dataset(&folder.path().join("others"));
    let output = run(&["check", text(folder.path()), "--json"]);
    assert_failure(&output, 3, &[]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found["problems"], 1);
    assert_eq!(found["categories"]["others"]["problems"], 0);
}

#[test]
fn maps_of_one_category_are_not_scored_as_several() {
    let (folder, parts) = dataset();
    let both = folder.path().join("both");
    for name in ["bolt", "nut"] {
        crate::data::write_dataset(&both.join(name));
    }
    let maps = folder.path().join("maps");
    assert_success(&run(&[
        "eval",
        text(model()),
        text(&parts),
        "--maps",
        text(&maps),
    ]));
    std::fs::rename(maps.join("parts/test"), maps.join("test")).unwrap();
    std::fs::remove_dir(maps.join("parts")).unwrap();
    assert_success(&run(&["score", text(&parts), "--maps", text(&maps)]));
    let several = run(&["score", text(&both), "--maps", text(&maps)]);
    assert_failure(&several, 2, &["one category", "has several"]);
}

#[test]
fn maps_are_not_written_among_the_images_of_a_data_set() {
    let (folder, parts) = dataset();
    let before = crate::data::listing(&parts.join("test/good"));
    let output = run(&[
        "eval",
        text(model()),
        text(&parts),
        "--maps",
        text(folder.path()),
    ]);
    assert_failure(&output, 2, &["among the images"]);
    assert_eq!(crate::data::listing(&parts.join("test/good")), before);
}
