//! One image has one score: whichever command asks for it, with however many threads, in tiles or whole, alone or among others, from
//! the model that was just trained or from a file that was read and written again. The tolerance is 0: every bit is the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::{Rgb, RgbImage};
use pupilla::{DetectorKind, Model};
use pupilla_core::detector::Detector;
use pupilla_core::image::read;
use pupilla_core::map::map_file;
use serde_json::Value;

use crate::data::{assert_success, run, stderr, stdout, text};

/// So large that a memory limit makes several tiles of it.
const SIZE: (u32, u32) = (300, 90);

fn picture(seed: u32, defect: bool) -> RgbImage {
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        let wave = (0.7 * (x + 2 * y) as f32 + seed as f32).sin() + (0.05 * x as f32).cos();
        let value = (128.0 + 60.0 * wave) as u8;
        let inside = defect && (140..160).contains(&x) && (30..50).contains(&y);
        Rgb(if inside {
            [255; 3]
        } else {
            [value, value / 2, 255 - value]
        })
    })
}

fn write_dataset(root: &Path) {
    for (folder, count, defect) in [
        ("train/good", 5, false),
        ("test/good", 1, false),
        ("test/square", 2, true),
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
        for index in 0..count {
            let seed = index + 10 * folder.len() as u32;
            let path = root.join(folder).join(format!("{index:03}.png"));
            picture(seed, defect).save(path).unwrap();
        }
    }
    let masks = root.join("ground_truth/square");
    fs::create_dir_all(&masks).unwrap();
    for index in 0..2 {
        let mask = image::GrayImage::from_fn(SIZE.0, SIZE.1, |x, y| {
            let inside = (140..160).contains(&x) && (30..50).contains(&y);
            image::Luma([if inside { 255 } else { 0 }])
        });
        mask.save(masks.join(format!("{index:03}_mask.png")))
            .unwrap();
    }
}

/// A score's bits: JSON has the shortest digits that give the same `f32` back.
fn bits(score: &Value) -> u32 {
    (score.as_f64().unwrap() as f32).to_bits()
}

/// What `inspect` says: the bits of each score by the image's file name, and its words on standard error.
fn inspected(model: &Path, images: &[&Path], more: &[&str]) -> (BTreeMap<String, u32>, String) {
    let mut arguments = vec!["inspect", text(model)];
    arguments.extend(images.iter().map(|path| text(path)));
    arguments.extend(more);
    arguments.extend(["--json", "-"]);
    let output = run(&arguments);
    assert_success(&output);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let scores = found["images"].as_array().unwrap().iter().map(|image| {
        let path = Path::new(image["path"].as_str().unwrap());
        let name = path.file_name().unwrap().to_str().unwrap();
        (name.to_string(), bits(&image["score"]))
    });
    (scores.collect(), stderr(&output))
}

/// The scores of the images of the test part, from the JSON of `eval` or `score`.
fn tested(arguments: &[&str]) -> BTreeMap<String, u32> {
    let output = run(arguments);
    assert_success(&output);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let images = found["per_image"].as_array().unwrap().iter();
    images
        .map(|image| {
            let path = image["path"].as_str().unwrap();
            (path.replace('/', "-"), bits(&image["score"]))
        })
        .collect()
}

#[test]
fn every_way_to_a_score_gives_the_same_bits() {
    for (kind, options) in [
        (
            DetectorKind::StudentTeacher,
            &["--scales", "33", "--steps", "6", "--students", "2"][..],
        ),
        (DetectorKind::MemoryBank, &["--coreset", "0.05"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (parts, model) = (at("parts"), at("part.pupilla"));
        write_dataset(&parts);
        let mut train = vec!["train", text(&parts), "--out", text(&model)];
        train.extend(["--resize", "none", "--detector", kind.name(), "--json", "-"]);
        train.extend(options);
        let output = run(&train);
        assert_success(&output);
        let manifest: Value = serde_json::from_str(&stdout(&output)).unwrap();

        // The image that training has validated on, in a folder with those of the test part.
        let validated = Path::new(manifest["data"]["validation"][0].as_str().unwrap());
        let validated = parts
            .join("train/good")
            .join(validated.file_name().unwrap());
        fs::copy(&validated, parts.join("test/good/validated.png")).unwrap();
        let line = at("line");
        fs::create_dir(&line).unwrap();
        for part in ["good", "square"] {
            for entry in fs::read_dir(parts.join("test").join(part)).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{part}-{}", entry.file_name().to_str().unwrap());
                fs::copy(entry.path(), line.join(name)).unwrap();
            }
        }
        let (expected, whole) = inspected(&model, &[&line], &[]);
        assert_eq!(expected.len(), 4);
        let scores: std::collections::BTreeSet<_> = expected.values().collect();
        assert_eq!(scores.len(), 4, "{kind}: scores that all differ");

        assert_eq!(
            bits(&manifest["validation"]["scores"][0]),
            expected["good-validated.png"],
            "{kind}: training's validation"
        );
        // One at a time, in another order, and with other numbers of threads.
        for name in expected.keys().take(2) {
            let (alone, _) = inspected(&model, &[&line.join(name)], &["--threads", "1"]);
            assert_eq!(alone[name], expected[name], "{kind}: {name} alone");
        }
        let backwards: Vec<_> = expected.keys().rev().map(|name| line.join(name)).collect();
        let backwards: Vec<&Path> = backwards.iter().map(|path| path.as_path()).collect();
        for threads in ["1", "3"] {
            let (found, _) = inspected(&model, &backwards, &["--threads", threads]);
            assert_eq!(found, expected, "{kind}: {threads} threads");
        }
        if kind == DetectorKind::StudentTeacher {
            // A little less memory than it says that it takes, so that there are tiles.
            let said = whole.split(' ').rev().nth(3).unwrap();
            let limit = format!("{}M", said.parse::<u32>().unwrap() - 6);
            let (tiled, said) = inspected(&model, &[&line], &["--memory", &limit]);
            assert_ne!(said, whole, "as many tiles as before");
            assert_eq!(tiled, expected, "{kind}: tiled");
        }

        // The maps that `inspect` and `eval` write, and `score` on them.
        let (written, maps) = (at("written"), at("maps"));
        let (found, _) = inspected(&model, &[&line], &["--out", text(&written)]);
        assert_eq!(found, expected, "{kind}: with maps written");
        let eval = ["eval", text(&model), text(&parts), "--json", "-"];
        let eval = [&eval[..], &["--maps", text(&maps)]].concat();
        assert_eq!(tested(&eval), expected, "{kind}: eval");
        let score = ["score", "--maps", text(&maps), text(&parts), "--json", "-"];
        assert_eq!(tested(&score), expected, "{kind}: score on the maps");
        let in_process = Model::load(&model).unwrap();
        let again = at("again.pupilla");
        in_process.save(&again).unwrap();
        assert!(fs::read(&again).unwrap() == fs::read(&model).unwrap());
        for (name, score) in &expected {
            let stem = name.strip_suffix(".png").unwrap();
            let map = map_file::read(&written.join(format!("{stem}_map.tiff"))).unwrap();
            assert_eq!(map.image_score().to_bits(), *score, "{kind}: {name}");
            let of_eval = maps.join("parts/test").join(stem.replacen('-', "/", 1));
            assert!(map == map_file::read(&of_eval.with_extension("tiff")).unwrap());
            let image = read::read(&line.join(name)).unwrap();
            assert!(
                map == in_process.anomaly_map(&image).unwrap(),
                "{kind}: {name}"
            );
        }

        // Read, given other thresholds and written again.
        assert_success(&run(&[
            "calibrate",
            text(&model),
            text(&parts),
            "--train-good",
        ]));
        assert!(fs::read(&again).unwrap() != fs::read(&model).unwrap());
        let (found, _) = inspected(&model, &[&line], &[]);
        assert_eq!(found, expected, "{kind}: calibrated");
    }
}
