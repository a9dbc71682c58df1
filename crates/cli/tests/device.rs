//! `--device`, in a program that was built without the feature `gpu` and in one that has it; GPUs themselves are tested in
//! `crates/pupilla/tests/gpu.rs`.

use std::fs;

use crate::data::{SHORT, assert_failure, assert_success, dataset, run, stderr, text};

#[test]
fn the_processor_is_a_device_like_any_other() {
    let (folder, parts) = dataset();
    let train = |name: &str, device: &[&str]| {
        let out = folder.path().join(name);
        let mut words = vec!["train", text(&parts), "--out", text(&out)];
        words.extend(SHORT);
        words.extend(device);
        (run(&words), out)
    };
    let (plain, first) = train("plain.pupilla", &[]);
    assert_success(&plain);
    let (named, second) = train("named.pupilla", &["--device", "cpu"]);
    assert_success(&named);
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn devices_that_are_none_are_refused() {
    let (_folder, parts) = dataset();
    assert_failure(
        &run(&["check", text(&parts), "--device", "cpu"]),
        2,
        &["--device", "check runs no network"],
    );
    assert_failure(
        &run(&["check", text(&parts), "--device", "cuda"]),
        2,
        &["cuda", "gpu:1"],
    );
}

#[cfg(not(feature = "gpu"))]
#[test]
fn without_the_feature_a_gpu_is_an_error_and_auto_takes_the_processor() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let train = |device| {
        let mut words = vec![
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--device",
            device,
        ];
        words.extend(SHORT);
        run(&words)
    };
    for device in ["gpu", "gpu:1"] {
        assert_failure(
            &train(device),
            1,
            &["without the feature gpu", "--features gpu"],
        );
        assert!(!out.exists());
    }
    let fallen_back = train("auto");
    assert_success(&fallen_back);
    let said = stderr(&fallen_back);
    assert!(
        said.contains("networks run on the processor") && said.contains("without the feature gpu"),
        "{said}"
    );
    assert!(out.exists());
}
