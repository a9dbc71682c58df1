//! Files that claim more than they hold, in a process that may take little memory: whatever believed a claim would end there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use crate::data::{assert_failure, assert_success, dataset, model, text};

/// The program where it may not have more than 700 MiB of address space; a good image is inspected in that.
fn in_little_memory(arguments: &[&str]) -> Output {
    Command::new("bash")
        .args(["-c", "ulimit -v 716800; exec \"$@\"", "bash"])
        .arg(env!("CARGO_BIN_EXE_pupilla"))
        .args(arguments)
        .args(["--threads", "1"])
        .output()
        .unwrap()
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(40, 40, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(image)
        .write_to(&mut bytes, format)
        .unwrap();
    bytes.into_inner()
}

/// A WebP with an EXIF part of 4 GiB, of which four bytes are there.
fn long_exif() -> Vec<u8> {
    let mut body = b"WEBPVP8X\x0A\0\0\0\x08\0\0\0\x27\0\0\x27\0\0".to_vec();
    body.extend(&encoded(ImageFormat::WebP)[12..]);
    body.extend(b"EXIF\xF0\xFF\xFF\xFFMM\0\x2A");
    [b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat()
}

/// A BMP of 10 000 × 10 000 pixels, all of them missing.
fn large_bmp() -> Vec<u8> {
    let mut bytes = encoded(ImageFormat::Bmp);
    for side in [18, 22] {
        bytes[side..side + 4].copy_from_slice(&10_000i32.to_le_bytes());
    }
    bytes
}

#[test]
fn images_are_not_believed() {
    let (folder, parts) = dataset();
    let good = parts.join("test/good/000.png");
    assert_success(&in_little_memory(&["inspect", text(model()), text(&good)]));
    for (name, bytes) in [("exif.webp", long_exif()), ("large.bmp", large_bmp())] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = in_little_memory(&["inspect", text(model()), text(&path)]);
        assert_failure(&output, 1, &[name, "copy it again, or remove it"]);
    }
}

/// Rewrites the header of a safetensors file as text.
fn with_header(path: &Path, from: &str, to: &str) {
    let bytes = fs::read(model()).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert!(header.contains(from), "{from} is not in {header}");
    let header = header.replacen(from, to, 1);
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + length..]);
    fs::write(path, changed).unwrap();
}

#[test]
fn models_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    assert_success(&in_little_memory(&["info", text(model())]));
    for (from, to) in [
        // Arrays, networks and channels without end.
        ("\"shape\":[128]", "\"shape\":[4294967296,4294967296]"),
        ("\\\"students\\\":2", "\\\"students\\\":4000000000"),
        (
            "\\\"output_channels\\\":128",
            "\\\"output_channels\\\":4000000000",
        ),
        (
            "\\\"conv3_channels\\\":128",
            "\\\"conv3_channels\\\":4000000000",
        ),
        ("\\\"format_version\\\":2", "\\\"format_version\\\":3"),
    ] {
        with_header(&path, from, to);
        let output = in_little_memory(&["info", text(&path)]);
        assert_failure(&output, 1, &["part.pupilla"]);
    }
    // A header of nearly 2⁶⁴ bytes, and a file of 2 GiB that is one hole.
    fs::write(&path, (u64::MAX - 8).to_le_bytes()).unwrap();
    assert_failure(
        &in_little_memory(&["info", text(&path)]),
        1,
        &["part.pupilla"],
    );
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(2 << 30).unwrap();
    let output = in_little_memory(&["info", text(&path)]);
    assert_failure(&output, 1, &["part.pupilla", "2147483648 bytes"]);
    let output = in_little_memory(&["backbone", text(&path), "part.png"]);
    assert_failure(&output, 1, &["part.pupilla", "2147483648 bytes"]);
}
