//! Bytes as another program's weights: safetensors, and the pickles of PyTorch, in a zip archive or as before 1.6. The reader alone, without the framework.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pupilla_files::tensor_file::TensorFile;

/// Puts the checksums of a zip archive right, which no chance would find.
fn with_checksums(bytes: &[u8]) -> Option<Vec<u8>> {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
    };
    let mut changed = bytes.to_vec();
    let mut at = number(bytes.len().checked_sub(6)?)?;
    while bytes.get(at..)?.starts_with(b"PK\x01\x02") {
        let (size, header) = (number(at + 24)?, number(at + 42)?);
        let lengths = number(header.checked_add(26)?)?;
        let start = header + 30 + (lengths & 0xFFFF) + (lengths >> 16);
        let content = bytes.get(start..start.checked_add(size)?)?;
        changed[at + 16..at + 20].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        let name = number(at + 28)?;
        let comment = number(at + 30)? >> 16;
        at += 46 + (name & 0xFFFF) + (name >> 16) + comment;
    }
    Some(changed)
}

fuzz_target!(|bytes: &[u8]| {
    let fixed = with_checksums(bytes).unwrap_or_else(|| bytes.to_vec());
    match TensorFile::parse(Path::new("weights"), fixed) {
        Ok(file) => {
            let all: Vec<(String, Vec<usize>)> = file
                .names()
                .filter_map(|name| {
                    let shape = file.shape(name)?;
                    let count: usize = shape.iter().product();
                    (count < 1 << 16).then(|| (name.to_string(), shape.to_vec()))
                })
                .collect();
            let few = &all[..all.len().min(100)];
            if let Ok(values) = file.tensors(few, |_| true) {
                assert!(values.iter().flatten().all(|value| value.is_finite()));
            }
        }
        Err(error) => assert!(error.to_string().contains("weights")),
    }
});
