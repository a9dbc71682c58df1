//! Thresholds, regions, reasons and the report, as their users meet them.

use std::path::Path;

use image::{GrayImage, Luma};
use serde_json::Value;

use crate::data::{
    SHORT, SIDE, assert_failure, assert_success, dataset, defective, good, listing, model, run,
    stderr, stdout, text,
};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A folder of good images that nobody has learned from.
fn other_good(root: &Path, count: u32) -> std::path::PathBuf {
    let folder = root.join("others");
    std::fs::create_dir(&folder).unwrap();
    for index in 0..count {
        let name = format!("{index:03}.png");
        good(100 + index).save(folder.join(name)).unwrap();
    }
    folder
}

#[test]
fn calibrate_replaces_the_thresholds_and_nothing_else() {
    let (root, _) = dataset();
    let others = other_good(root.path(), 5);
    let copy = root.path().join("m.pupilla");
    std::fs::copy(model(), &copy).unwrap();
    let before = std::fs::read(&copy).unwrap();
    let arguments = ["calibrate", text(&copy), text(&others), "--false-reject"];

    // Into another file; the model itself stays.
    let other = root.path().join("other.pupilla");
    let output = run(&[&arguments[..], &["40%", "--out", text(&other), "--json"]].concat());
    assert_success(&output);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["images"], 5);
    assert_eq!(told["image"]["wanted"], 0.4);
    assert_eq!(told["data"]["name"], "others");
    assert_eq!(told["pixel"]["value"], told["image"]["value"]);
    assert!(before == std::fs::read(&copy).unwrap());

    // k = ⌈6 · 0.6⌉ = 4 of 5.
    let found = root.path().join("found.json");
    assert_success(&run(&[
        "inspect",
        text(&other),
        text(&others),
        "--json",
        text(&found),
    ]));
    let found = json(&found);
    let images = found["images"].as_array().unwrap();
    let mut scores: Vec<f64> = images
        .iter()
        .map(|image| image["score"].as_f64().unwrap())
        .collect();
    scores.sort_by(f64::total_cmp);
    assert_eq!(found["threshold"], scores[3]);
    let rejected = images
        .iter()
        .filter(|image| image["defective"] == true)
        .count();
    assert_eq!(rejected, 1);

    // In place, with a warning that says how many images such a rate needs.
    let output = run(&[&arguments[..], &["1%"]].concat());
    assert_success(&output);
    assert!(
        stderr(&output).contains("needs at least 99 good images, there are 5"),
        "{}",
        stderr(&output)
    );
    let info = stdout(&run(&["info", text(&copy), "--json"]));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["calibration"]["image"]["value"], scores[4]);
    assert_eq!(
        info["calibration"]["data"]["fingerprint"],
        told["data"]["fingerprint"]
    );
    // The arrays are the same bytes.
    let after = std::fs::read(&copy).unwrap();
    let arrays = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(arrays(&before) == arrays(&after));
    assert!(
        listing(root.path())
            .iter()
            .all(|name| !name.ends_with(".tmp"))
    );
}

#[test]
fn calibrate_touches_no_test_images_and_asks_before_it_takes_train_good() {
    let (root, parts) = dataset();
    let copy = root.path().join("m.pupilla");
    std::fs::copy(model(), &copy).unwrap();
    let calibrate = |folder: &Path, more: &[&str]| {
        run(&[&["calibrate", text(&copy), text(folder)], more].concat())
    };
    let test = calibrate(&parts.join("test/good"), &[]);
    assert_failure(&test, 1, &["test/good", "test part"]);
    assert_failure(
        &calibrate(&parts.join("test/good"), &["--train-good"]),
        1,
        &["test part"],
    );
    for folder in [parts.clone(), parts.join("train/good")] {
        assert_failure(&calibrate(&folder, &[]), 2, &["--train-good"]);
    }
    assert!(std::fs::read(model()).unwrap() == std::fs::read(&copy).unwrap());
    // The model has learned from 5 of the 6, wherever they lie.
    let elsewhere = root.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for name in listing(&parts.join("train/good")) {
        let renamed = elsewhere.join(format!("other_{name}"));
        std::fs::copy(parts.join("train/good").join(name), renamed).unwrap();
    }
    for folder in [parts.clone(), parts.join("train/good"), elsewhere] {
        let output = calibrate(&folder, &["--train-good", "--json"]);
        assert_success(&output);
        assert!(
            stderr(&output).contains("has learned from 5 of these"),
            "{}",
            stderr(&output)
        );
        let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(told["images"], 1);
    }
    // A test part without a training part beside it is one all the same.
    std::fs::remove_dir_all(parts.join("train")).unwrap();
    assert_failure(&calibrate(&parts.join("test/good"), &[]), 1, &["test part"]);

    assert_failure(
        &calibrate(&root.path().join("nowhere"), &[]),
        1,
        &["nowhere"],
    );
    for rate in ["0", "100%", "-1", "many"] {
        let rate = format!("--false-reject={rate}");
        assert_failure(&calibrate(&parts, &[&rate]), 2, &["false-reject"]);
    }
}

#[test]
fn training_to_a_rate_is_recorded() {
    let (root, parts) = dataset();
    let out = root.path().join("m.pupilla");
    let mut arguments = vec!["train", text(&parts), "--out", text(&out)];
    arguments.extend(SHORT);
    arguments.extend(["--false-reject", "1%", "--json"]);
    let output = run(&arguments);
    assert_success(&output);
    assert!(
        stderr(&output).contains("needs at least 99 good images"),
        "{}",
        stderr(&output)
    );
    let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(manifest["settings"]["false_reject"]["images"], 0.01);
    assert_eq!(
        manifest["calibration"]["image"]["value"],
        manifest["validation"]["threshold"]
    );
}

#[test]
fn regions_come_with_place_size_scores_and_reasons() {
    let (root, parts) = dataset();
    let image = parts.join("test/square/000.png");
    let (found, table) = (
        root.path().join("found.json"),
        root.path().join("regions.csv"),
    );
    let inspect = |more: &[&str]| {
        let arguments = [
            "inspect",
            text(model()),
            text(&image),
            "--json",
            text(&found),
        ];
        run(&[&arguments[..], more].concat())
    };
    assert_success(&inspect(&["--csv", text(&table)]));
    let all = json(&found);
    let image_found = &all["images"][0];
    assert_eq!(image_found["defective"], true);
    let region = &image_found["regions"][0];
    assert_eq!(region["peak"], image_found["score"]);
    assert!(region["mean"].as_f64() < region["peak"].as_f64());
    let bounds = &region["box"];
    let end =
        |start: &str, size: &str| bounds[start].as_u64().unwrap() + bounds[size].as_u64().unwrap();
    // Around the square.
    assert!(
        end("left", "width") > 15 && bounds["left"].as_u64().unwrap() < 25,
        "{bounds}"
    );
    assert!(end("top", "height") <= u64::from(SIDE));
    let area = region["area"].as_u64().unwrap();
    assert!(region["contour"].as_array().unwrap().len() >= 4);
    let share = |of: &Value| {
        let terms = of["why"]["terms"].as_object().unwrap();
        assert_eq!(terms.len(), 2);
        terms
            .values()
            .map(|term| term["share"].as_f64().unwrap())
            .sum::<f64>()
    };
    assert!((share(image_found) - 1.0).abs() < 1e-9 && (share(region) - 1.0).abs() < 1e-9);
    let scale = &image_found["why"]["scales"]["33"];
    assert!((scale["share"].as_f64().unwrap() - 1.0).abs() < 1e-9);

    let lines = std::fs::read_to_string(&table).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("path,score,threshold,defective,"));
    assert_eq!(
        lines.len(),
        1 + image_found["regions"].as_array().unwrap().len()
    );
    assert!(lines[1].contains(&format!(",{area},")), "{}", lines[1]);

    // A region that is too small makes no image defective; its score is told all the same.
    assert_success(&inspect(&["--min-area", "100000"]));
    let small = json(&found);
    assert_eq!(small["images"][0]["defective"], false);
    assert_eq!(small["images"][0]["score"], image_found["score"]);
    assert_eq!(small["images"][0]["regions"].as_array().unwrap().len(), 0);
    // Thresholds given now are those that count.
    assert_success(&inspect(&["--threshold", "1e9"]));
    assert_eq!(json(&found)["images"][0]["defective"], false);
    assert_success(&inspect(&[
        "--threshold",
        "1e9",
        "--pixel-threshold",
        "-1e9",
    ]));
    let everything = json(&found);
    assert_eq!(everything["images"][0]["regions"][0]["area"], SIDE * SIDE);
}

#[test]
fn what_lies_outside_the_region_of_interest_does_not_count() {
    let (root, parts) = dataset();
    let image = parts.join("test/square/000.png");
    let roi = root.path().join("roi.png");
    let found = root.path().join("found.json");
    let inspect = || {
        let arguments = ["inspect", text(model()), text(&image), "--roi", text(&roi)];
        run(&[
            &arguments[..],
            &["--threshold", "-1e9", "--json", text(&found)],
        ]
        .concat())
    };
    GrayImage::from_fn(SIDE, SIDE, |x, _| Luma([if x < 5 { 255 } else { 0 }]))
        .save(&roi)
        .unwrap();
    assert_success(&inspect());
    let left = json(&found);
    let region = &left["images"][0]["regions"][0];
    assert_eq!(region["box"]["width"], 5);
    assert_eq!(region["area"], 5 * SIDE);
    assert_eq!(region["peak"], left["images"][0]["score"]);
    GrayImage::new(SIDE, SIDE).save(&roi).unwrap();
    assert_failure(&inspect(), 1, &["roi.png", "paint white"]);
    GrayImage::from_pixel(7, 9, Luma([255])).save(&roi).unwrap();
    assert_failure(&inspect(), 1, &["000.png", "40×40", "7×9"]);
    std::fs::write(&roi, b"no picture").unwrap();
    assert_failure(&inspect(), 1, &["roi.png"]);
    // Neither an image nor anything else that is no table is replaced by one.
    let output = run(&["inspect", text(model()), text(&image), "--csv", text(&roi)]);
    assert_failure(&output, 2, &["--csv", "roi.png"]);
}

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let (root, parts) = dataset();
    let hostile = parts.join("test/square/<b>&'x'.png");
    defective(3).save(&hostile).unwrap();
    let mask = parts.join("ground_truth/square/<b>&'x'_mask.png");
    std::fs::copy(parts.join("ground_truth/square/000_mask.png"), mask).unwrap();
    let (report, results) = (root.path().join("report"), root.path().join("results.json"));
    let arguments = [
        "eval",
        text(model()),
        text(&parts),
        "--report",
        text(&report),
    ];
    let output = run(&[
        &arguments[..],
        &["--json", text(&results), "--threshold", "1e9"],
    ]
    .concat());
    assert_success(&output);
    assert_eq!(listing(&report), ["index.html"]);
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert!(page.contains("0 of 3</b> defective images found (3 missed)"));
    assert!(page.contains("&#60;b&#62;") && !page.contains("<b>&'x'"));
    assert!(page.contains("given by hand"));
    assert!(page.contains("seed") && page.contains("SHA-256"));
    assert_eq!(page.matches("<article ").count(), 5);
    // A path would tell where things lie.
    assert!(!page.contains(text(root.path())));
    let folder = model().parent().unwrap();
    assert!(!page.contains(text(folder)));
    assert!(json(&results).get("curves").is_none());

    let output = run(&[&arguments[..], &["--report-images", "2"]].concat());
    assert_success(&output);
    let page = std::fs::read_to_string(report.join("index.html")).unwrap();
    assert_eq!(page.matches("<article ").count(), 2);
    let output = run(&[&arguments[..], &["--pictures", text(&report)]].concat());
    assert_failure(&output, 2, &["--pictures and --report"]);
}
