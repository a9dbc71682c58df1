//! Bytes as a ground-truth mask.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pupilla_core::image::read;
use pupilla_core::data::mask::Mask;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("mask");
    std::fs::write(&path, bytes).unwrap();
    // Larger ones are refused by their sizes, which `image` looks at; here they would take long.
    if read::size(&path).is_ok_and(|size| size.area() > 1 << 20) {
        return;
    }
    match Mask::read(&path, 127) {
        Ok(mask) => {
            assert_eq!(mask.defect().len(), mask.width() * mask.height());
            let regions = mask.regions();
            let marked = mask.defect().iter().filter(|defect| **defect).count();
            assert_eq!(regions.areas.iter().sum::<usize>(), marked);
        }
        Err(error) => assert!(error.to_string().contains("mask")),
    }
});
