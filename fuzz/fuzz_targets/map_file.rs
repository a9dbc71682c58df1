//! Bytes as the TIFF of an anomaly map.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pupilla_core::map::map_file;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("map");
    std::fs::write(&path, bytes).unwrap();
    // As `score` reads them: of the size of their image.
    let _ = map_file::read_for(&path, Path::new("image"), (37, 29));
    match map_file::read(&path) {
        Ok(map) => {
            assert!(map.scores().iter().all(|score| score.is_finite()));
            let again = FOLDER.path().join("again");
            map_file::write(&again, &map).unwrap();
            assert!(map_file::read(&again).unwrap() == map);
        }
        Err(error) => assert!(error.to_string().contains("map")),
    }
});
