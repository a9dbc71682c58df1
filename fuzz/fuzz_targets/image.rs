//! Bytes as an image file.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pupilla_core::image::read::{self, Limits, ReadSettings};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// So small that what takes long is a fault.
const LIMITS: Limits = Limits {
    side: 4096,
    pixels: 1 << 20,
    file_bytes: 1 << 20,
};

fn file(bytes: &[u8]) -> std::path::PathBuf {
    let path = FOLDER.path().join("image");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn look(path: &Path) {
    let size = read::size(path);
    let settings = ReadSettings {
        limits: LIMITS,
        bits: None,
    };
    match read::read_with(path, &settings) {
        Ok(image) => {
            assert_eq!(size.unwrap(), image.size());
            assert!(image.pixels().iter().all(|value| (0.0..=1.0).contains(value)));
        }
        Err(error) => assert!(error.to_string().contains("image")),
    }
}

fuzz_target!(|bytes: &[u8]| look(&file(bytes)));
