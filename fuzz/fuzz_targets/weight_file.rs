//! Bytes as a file of ours, up to its manifest and arrays: the reader alone, without the framework.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pupilla_files::weight_file::WeightFile;

fuzz_target!(|bytes: &[u8]| {
    let file = match WeightFile::parse(Path::new("model"), bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().contains("model"));
            return;
        }
    };
    for kind in ["student-teacher", "memory-bank", "teacher"] {
        let _ = file.manifest::<serde_json::Value>(kind);
    }
    let wanted = [
        ("words".to_string(), vec![2, 3]),
        ("pca.mean".to_string(), vec![4]),
    ];
    if let Ok((values, blobs)) = file.tensors_and_bytes(&wanted, &["losses"]) {
        assert!(values.iter().flatten().all(|value| value.is_finite()));
        assert_eq!((values[0].len(), blobs.len()), (6, 1));
    }
});
