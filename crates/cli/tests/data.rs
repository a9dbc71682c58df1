//! A tiny data set, and a way to run the program on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

/// Side of the images: a little more than p = 33.
pub const SIDE: u32 = 40;

/// Waves with a phase of their own.
pub fn good(seed: u32) -> RgbImage {
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let wave = (0.7 * (x + y) as f32 + seed as f32).sin();
        let value = (128.0 + 70.0 * wave) as u8;
        Rgb([value, value / 2, 255 - value])
    })
}

/// The same with a white square.
pub fn defective(seed: u32) -> RgbImage {
    let mut image = good(seed);
    for y in 10..20 {
        for x in 15..25 {
            image.put_pixel(x, y, Rgb([255, 255, 255]));
        }
    }
    image
}

/// The square's mask.
pub fn mask() -> GrayImage {
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let inside = (15..25).contains(&x) && (10..20).contains(&y);
        Luma([if inside { 255 } else { 0 }])
    })
}

/// A data set in the MVTec AD layout: 6 to train, 2 good and 2 defective to test.
pub fn write_dataset(root: &Path) {
    let folder = |name: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let train = folder("train/good");
    let test = folder("test/good");
    let dots = folder("test/square");
    let masks = folder("ground_truth/square");
    for index in 0..6 {
        good(index)
            .save(train.join(format!("{index:03}.png")))
            .unwrap();
    }
    for index in 0..2 {
        good(50 + index)
            .save(test.join(format!("{index:03}.png")))
            .unwrap();
        defective(60 + index)
            .save(dots.join(format!("{index:03}.png")))
            .unwrap();
        mask()
            .save(masks.join(format!("{index:03}_mask.png")))
            .unwrap();
    }
}

/// A folder with the data set in `parts`.
pub fn dataset() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    write_dataset(&parts);
    (folder, parts)
}

/// Arguments that train the quickest detector.
pub const QUICK: [&str; 6] = [
    "--detector",
    "mahalanobis",
    "--resize",
    "none",
    "--threads",
    "1",
];

/// Arguments that train in a moment.
pub const SHORT: [&str; 8] = [
    "--resize",
    "none",
    "--scales",
    "33",
    "--steps",
    "8",
    "--students",
    "2",
];

/// The same with one student.
pub const SHORT_ALONE: [&str; 8] = {
    let mut words = SHORT;
    words[7] = "1";
    words
};

/// A trained model, made once for all tests.
pub fn model() -> &'static Path {
    static MODEL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let (folder, parts) = dataset();
        let path = folder.path().join("parts.pupilla");
        let mut arguments = vec!["train", text(&parts), "--out", text(&path)];
        arguments.extend(SHORT);
        assert_success(&run(&arguments));
        (folder, path)
    });
    path
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs the program.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pupilla"))
        .args(arguments)
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// The program failed in an orderly way: the exit code, no panic, and every word in its message.
pub fn assert_failure(output: &Output, code: i32, words: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

/// Names of what lies in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
