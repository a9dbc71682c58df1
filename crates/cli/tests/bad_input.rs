//! No panic, no half-written file, a message that names the file and what to do.

use std::fs;

use image::GrayImage;

use crate::data::{
    SHORT, assert_failure, assert_success, dataset, good, listing, model, run, stderr, text,
};

/// `train` on a folder into `m.pupilla` beside it.
fn train(parts: &std::path::Path, more: &[&str]) -> (std::process::Output, std::path::PathBuf) {
    let out = parts.with_file_name("m.pupilla");
    let mut arguments = vec!["train", text(parts), "--out", text(&out)];
    arguments.extend(SHORT);
    arguments.extend(more);
    (run(&arguments), out)
}

#[test]
fn missing_and_empty_folders() {
    let (folder, _) = dataset();
    let (output, out) = train(&folder.path().join("nowhere"), &[]);
    assert_failure(&output, 1, &["nowhere", "does not exist"]);
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (output, _) = train(&empty, &[]);
    assert_failure(&output, 1, &["empty", "no images"]);
    assert!(!out.exists());
    let output = run(&["inspect", text(model()), text(&empty)]);
    assert_failure(&output, 1, &["empty"]);
}

#[test]
fn a_data_set_without_train_good() {
    let (_folder, parts) = dataset();
    fs::rename(parts.join("train/good"), parts.join("train/fine")).unwrap();
    let (output, _) = train(&parts, &[]);
    assert_failure(
        &output,
        1,
        &["train holds no folder of good images", "--good NAME"],
    );
    fs::remove_dir_all(parts.join("train")).unwrap();
    let (output, _) = train(&parts, &[]);
    assert_failure(&output, 1, &["no good images to learn from"]);
}

#[test]
fn one_image_cannot_be_split() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    fs::create_dir(&images).unwrap();
    good(1).save(images.join("only.png")).unwrap();
    let (output, _) = train(&images, &[]);
    assert_failure(&output, 1, &["at least 2"]);
}

#[test]
fn damaged_images_fail_by_default_and_are_skipped_on_request() {
    let (_folder, parts) = dataset();
    let zero = parts.join("train/good/zero.png");
    fs::write(&zero, b"").unwrap();
    let whole = fs::read(parts.join("train/good/000.png")).unwrap();
    fs::write(parts.join("train/good/cut.png"), &whole[..whole.len() / 2]).unwrap();
    let (output, out) = train(&parts, &[]);
    assert_failure(&output, 1, &["cut.png"]);
    assert!(!out.exists());
    let (output, out) = train(&parts, &["--skip-unreadable"]);
    assert_success(&output);
    let said = stderr(&output);
    assert!(
        said.contains("cut.png") && said.contains("zero.png"),
        "{said}"
    );
    assert!(out.exists());

    fs::write(parts.join("test/square/002.png"), b"").unwrap();
    fs::copy(
        parts.join("ground_truth/square/001_mask.png"),
        parts.join("ground_truth/square/002_mask.png"),
    )
    .unwrap();
    assert_failure(
        &run(&["eval", text(&out), text(&parts)]),
        1,
        &["002.png", "empty"],
    );
    let output = run(&["eval", text(&out), text(&parts), "--skip-unreadable"]);
    assert_success(&output);
    assert!(stderr(&output).contains("002.png"));
    let folder = parts.join("test/square");
    assert_failure(
        &run(&["inspect", text(&out), text(&folder)]),
        1,
        &["002.png"],
    );
    assert_success(&run(&[
        "inspect",
        text(&out),
        text(&folder),
        "--skip-unreadable",
    ]));
}

#[test]
fn images_smaller_than_the_receptive_field() {
    let (folder, parts) = dataset();
    let small = image::imageops::thumbnail(&good(1), 20, 20);
    small.save(parts.join("train/good/small.png")).unwrap();
    let (output, out) = train(&parts, &[]);
    assert_failure(&output, 1, &["small.png", "20×20", "33"]);
    assert!(!out.exists());
    let image = folder.path().join("tiny.png");
    small.save(&image).unwrap();
    let output = run(&["inspect", text(model()), text(&image)]);
    assert_failure(&output, 1, &["tiny.png", "20×20"]);
    // Not even the folders that were made for results.
    let results = folder.path().join("results");
    let of_today = results.join("today");
    let words = ["inspect", text(model()), text(&image), "--out"];
    let inspect = || run(&[&words[..], &[text(&of_today)]].concat());
    assert_failure(&inspect(), 1, &["tiny.png"]);
    assert!(!results.exists());
    // A folder that was there stays.
    std::fs::create_dir(&results).unwrap();
    assert_failure(&inspect(), 1, &["tiny.png"]);
    assert!(results.exists() && !of_today.exists());
}

#[test]
fn a_single_pixel_and_a_huge_image() {
    let (folder, parts) = dataset();
    let pixel = folder.path().join("pixel.png");
    image::RgbImage::new(1, 1).save(&pixel).unwrap();
    let output = run(&["inspect", text(model()), text(&pixel)]);
    assert_failure(&output, 1, &["pixel.png", "1×1"]);
    // A header that claims 30 000 × 30 000 pixels: nothing is allocated for it.
    let huge = parts.join("train/good/huge.bmp");
    let mut header = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    header.extend(30_000u32.to_le_bytes());
    header.extend(30_000u32.to_le_bytes());
    header.extend([1, 0, 24, 0]);
    header.extend([0; 24]);
    fs::write(&huge, header).unwrap();
    let output = run(&["inspect", text(model()), text(&huge)]);
    assert_failure(&output, 1, &["huge.bmp", "30000×30000"]);
    let (output, out) = train(&parts, &[]);
    assert_failure(&output, 1, &["huge.bmp", "30000"]);
    assert!(!out.exists());
}

/// Images disappear and others are cut off after the folder was listed and the work has begun.
#[test]
fn a_folder_that_changes_while_it_is_read() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let inspect = |more: &[&str]| {
        let (_folder, parts) = dataset();
        let images = parts.join("train/good");
        for index in 6..40 {
            good(index)
                .save(images.join(format!("{index:03}.png")))
                .unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
            .args(["inspect", text(model()), text(&images)])
            .args(["--progress", "json", "--threads", "1"])
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let under_way = lines.find(|line| line.as_ref().unwrap().contains("\"progress\""));
        assert!(under_way.is_some());
        fs::remove_file(images.join("038.png")).unwrap();
        fs::write(images.join("039.png"), b"\x89PNG").unwrap();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        (child.wait().unwrap().code(), rest.join("\n"))
    };
    let (code, said) = inspect(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("038.png") && !said.contains("panicked"),
        "{said}"
    );
    let (code, said) = inspect(&["--skip-unreadable"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("038.png") && said.contains("039.png"),
        "{said}"
    );
}

#[test]
fn masks_that_do_not_fit_or_are_missing() {
    let (_folder, parts) = dataset();
    let mask = parts.join("ground_truth/square/000_mask.png");
    GrayImage::new(7, 9).save(&mask).unwrap();
    let output = run(&["eval", text(model()), text(&parts)]);
    assert_failure(&output, 1, &["000_mask.png", "000.png", "7×9"]);
    fs::remove_file(&mask).unwrap();
    let output = run(&["eval", text(model()), text(&parts)]);
    assert_success(&output);
    let told = stderr(&output);
    assert!(
        told.contains("1 of 2 defective images have no mask"),
        "{told}"
    );
    // Training does not look at the test part.
    let (output, _) = train(&parts, &[]);
    assert_success(&output);
}

#[test]
fn a_blank_mask_is_a_warning() {
    let (_folder, parts) = dataset();
    GrayImage::new(40, 40)
        .save(parts.join("ground_truth/square/000_mask.png"))
        .unwrap();
    let output = run(&["eval", text(model()), text(&parts)]);
    assert_success(&output);
    assert!(
        stderr(&output).contains("square/000.png"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn files_that_are_no_models() {
    let (folder, parts) = dataset();
    let image = parts.join("train/good/000.png");
    assert_failure(
        &run(&["inspect", text(&image), text(&image)]),
        1,
        &["000.png", "not a Pupilla file"],
    );
    let cut = folder.path().join("cut.pupilla");
    let whole = fs::read(model()).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    assert_failure(
        &run(&["eval", text(&cut), text(&parts)]),
        1,
        &["cut.pupilla", "cut off"],
    );
    assert_failure(&run(&["info", text(&cut)]), 1, &["cut.pupilla"]);
    let missing = folder.path().join("missing.pupilla");
    assert_failure(
        &run(&["inspect", text(&missing), text(&image)]),
        1,
        &["missing.pupilla"],
    );
    let (output, _) = train(&parts, &["--teacher", text(model())]);
    assert_failure(&output, 1, &["student-teacher", "not a teacher"]);
}

#[test]
fn output_that_cannot_be_written_is_found_before_the_work() {
    let (folder, parts) = dataset();
    let out = folder.path().join("no such folder/m.pupilla");
    let output = run(&["train", text(&parts), "--out", text(&out)]);
    assert_failure(&output, 1, &["no such folder"]);
    assert_failure(
        &run(&["train", text(&parts), "--out", text(&parts)]),
        1,
        &["is a folder"],
    );
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    let output = run(&[
        "inspect",
        text(model()),
        text(&parts.join("test/good")),
        "--out",
        text(&file),
    ]);
    assert_failure(&output, 1, &["file"]);
}

#[test]
fn usage_errors_have_code_2() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    for wrong in [
        vec!["--scales", "34"],
        vec!["--scales", "33,33"],
        vec!["--students", "0"],
        vec!["--budget", "soon"],
        vec!["--steps", "0"],
        vec!["--steps", "5", "--budget", "1m"],
        vec!["--resize", "7"],
        vec!["--border", "mirror"],
        vec!["--learning-rate", "0"],
        vec!["--window", "20"],
        vec!["--epochs", "3"],
        vec!["--preset", "paper", "--steps", "3"],
        vec!["--preset", "paper", "--optimizer", "muon"],
        vec!["--optimizer", "sgd"],
        vec!["--focus", "5"],
        vec!["--focus", "-1"],
        vec!["--focus", "NaN"],
        vec!["--unheard-of"],
        vec!["--steps", "99999999999999"],
        vec!["--threads", "99999999"],
    ] {
        let mut arguments = vec!["train", text(&parts), "--out", text(&out)];
        arguments.extend(&wrong);
        let output = run(&arguments);
        assert_failure(&output, 2, &["error"]);
        assert!(!out.exists(), "{wrong:?}");
    }
    assert_failure(&run(&[]), 2, &["Usage"]);
    assert_failure(
        &run(&["eval", "a", "b", "--fpr-limit", "0"]),
        2,
        &["fpr-limit"],
    );
}

#[test]
fn json_never_replaces_an_image_or_a_model() {
    let (_folder, parts) = dataset();
    let image = parts.join("test/good/000.png");
    let before = fs::read(&image).unwrap();
    let other = parts.join("test/good/001.png");
    let option = format!("--json={}", text(&image));
    let output = run(&["inspect", text(model()), &option, text(&other)]);
    assert_failure(&output, 2, &["000.png", "--json"]);
    // The next word is an image, not the file of the option.
    let words = ["inspect", text(model()), "--json", text(&image)];
    let output = run(&[&words[..], &[text(&other)]].concat());
    assert_success(&output);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["images"].as_array().unwrap().len(), 2);
    assert_eq!(fs::read(&image).unwrap(), before);
    let out = parts.with_file_name("m.pupilla");
    let (output, _) = train(&parts, &[&format!("--json={}", text(&out))]);
    assert_failure(&output, 2, &["same file"]);
    let (output, out) = train(&parts, &["--json", "no such folder/x.json"]);
    assert_failure(&output, 1, &["no such folder"]);
    assert!(!out.exists(), "found before the work");
}

#[test]
fn a_small_validation_image_is_found_before_training() {
    let (_folder, parts) = dataset();
    // Whichever image the seed keeps back, all of them are looked at first.
    for index in 0..6 {
        let path = parts.join(format!("train/good/{index:03}.png"));
        let whole = fs::read(&path).unwrap();
        image::imageops::thumbnail(&good(1), 20, 20)
            .save(&path)
            .unwrap();
        let (output, _) = train(&parts, &["--progress", "json"]);
        assert_failure(&output, 1, &["20×20"]);
        assert!(!stderr(&output).contains("training"), "{}", stderr(&output));
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn results_of_the_same_name_are_not_overwritten() {
    let (folder, parts) = dataset();
    let image = parts.join("test/good/000.png");
    let other = parts.join("test/square/000.png");
    let out = folder.path().join("out");
    let output = run(&[
        "inspect",
        text(model()),
        text(&image),
        text(&other),
        "--out",
        text(&out),
    ]);
    assert_failure(&output, 1, &["000.png", "same files"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_and_the_run_goes_on_later() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let (_folder, parts) = dataset();
    let out = parts.with_file_name("m.pupilla");
    let mut child = Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args([
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--resize",
            "none",
            "--scales",
            "33",
        ])
        .args(["--steps", "1000000", "--progress", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // Training is under way.
    let training = lines.find(|line| line.as_ref().unwrap().contains("\"training 3 students"));
    assert!(training.is_some());
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let last = lines.map(Result::unwrap).last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(last.contains("stopped on request"), "{last}");
    assert!(last.contains("--resume"), "{last}");
    let folder = parts.parent().unwrap();
    assert_eq!(listing(folder), ["m.pupilla.checkpoint", "parts"]);
    // With other settings it is another run.
    let (output, _) = train(&parts, &["--resume"]);
    assert_failure(&output, 1, &["m.pupilla.checkpoint", "other settings"]);
}
