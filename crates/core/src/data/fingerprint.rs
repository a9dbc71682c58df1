//! A fingerprint of files. It tells later whether a model has seen exactly these files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::image::Image;

/// A file could not be read for its fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct FingerprintError {
    /// The file.
    pub path: PathBuf,
    /// The message of the operating system.
    pub source: io::Error,
}

/// SHA-256, in hexadecimal digits, over names (relative to `root`, "/" between folders) and contents
/// of files: for each file, in the order of these names, the length of its name (eight bytes, little
/// endian), the name, and the SHA-256 of its content.
///
/// The same files give the same digits wherever `root` lies and in whichever order they are given.
/// A path outside `root` counts with all its components.
///
/// # Errors
/// [`FingerprintError`] for the first file, in the order of the names, that cannot be read.
pub fn fingerprint(paths: &[PathBuf], root: &Path) -> Result<String, FingerprintError> {
    let mut files: Vec<(Vec<u8>, &PathBuf)> = paths
        .iter()
        .map(|path| (relative_name(path, root), path))
        .collect();
    files.sort();
    // All are tried, so that the error named is the first and not the quickest.
    let digests: Vec<_> = files
        .par_iter()
        .map(|(_, path)| file_digest(path))
        .collect();
    let mut whole = Sha256::new();
    for ((name, _), digest) in files.iter().zip(digests) {
        add(&mut whole, name, &digest?);
    }
    Ok(hexadecimal(&whole.finalize()))
}

/// [`fingerprint`] of one file by its name alone, wherever it lies.
///
/// # Errors
/// If it cannot be read.
pub fn file_fingerprint(path: &Path) -> Result<String, FingerprintError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fingerprint(&[path.to_path_buf()], folder)
}

/// [`file_fingerprint`] of a file of this name and content that lies on no disk.
pub fn content_fingerprint(name: &str, content: &[u8]) -> String {
    let mut whole = Sha256::new();
    add(&mut whole, name.as_bytes(), &Sha256::digest(content));
    hexadecimal(&whole.finalize())
}

/// Adds a file to a fingerprint.
fn add(whole: &mut Sha256, name: &[u8], digest: &[u8]) {
    whole.update((name.len() as u64).to_le_bytes());
    whole.update(name);
    whole.update(digest);
}

fn relative_name(path: &Path, root: &Path) -> Vec<u8> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<&[u8]> = relative
        .iter()
        .map(|part| part.as_encoded_bytes())
        .collect();
    parts.join(b"/".as_slice())
}

/// SHA-256 of a file's content.
///
/// # Errors
/// If it cannot be read.
pub fn file_digest(path: &Path) -> Result<[u8; 32], FingerprintError> {
    let place = |source| FingerprintError {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(place)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(place(error)),
        }
    }
}

/// The first 16 digits of the SHA-256 of a file's content: to know an image again under another name.
///
/// # Errors
/// If it cannot be read.
pub fn content_digits(path: &Path) -> Result<String, FingerprintError> {
    Ok(hexadecimal(&file_digest(path)?[..8]))
}

/// The first 16 digits of the SHA-256 over the size and the pixels of an image, as 16-bit numbers: the same for every lossless encoding
/// of a picture.
pub fn picture_digits(image: &Image) -> String {
    let mut whole = Sha256::new();
    for side in [image.width(), image.height()] {
        whole.update((side as u64).to_le_bytes());
    }
    let mut bytes = Vec::new();
    for some in image.pixels().chunks(1 << 14) {
        bytes.clear();
        bytes.extend(some.iter().flat_map(|value| {
            let level = (value * f32::from(u16::MAX)).round() as u16;
            level.to_le_bytes()
        }));
        whole.update(&bytes);
    }
    hexadecimal(&whole.finalize()[..8])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(contents: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let paths = contents
            .iter()
            .map(|(name, content)| {
                let path = root.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, content).unwrap();
                path
            })
            .collect();
        (root, paths)
    }

    #[test]
    fn a_picture_is_its_size_and_its_pixels() {
        let image = |width, height, first| {
            let mut pixels = vec![0.25; 18];
            pixels[0] = first;
            Image::new(width, height, pixels)
        };
        let digits = picture_digits(&image(2, 3, 0.5));
        assert_eq!(digits.len(), 16);
        assert_eq!(digits, picture_digits(&image(2, 3, 0.5)));
        // Rounding of another decoder.
        assert_eq!(digits, picture_digits(&image(2, 3, 0.5 + 1e-6)));
        for other in [image(3, 2, 0.5), image(2, 3, 0.5 + 1.0 / 255.0)] {
            assert_ne!(digits, picture_digits(&other));
        }
    }

    #[test]
    fn names_and_contents_decide_and_place_and_order_do_not() {
        let (root, mut paths) = files(&[("a/x", b"1"), ("b", b"23")]);
        let one = fingerprint(&paths, root.path()).unwrap();
        paths.reverse();
        assert_eq!(fingerprint(&paths, root.path()).unwrap(), one);
        let (other, paths) = files(&[("a/x", b"1"), ("b", b"23")]);
        assert_eq!(fingerprint(&paths, other.path()).unwrap(), one);
        for changed in [
            [("a/x", b"2".as_slice()), ("b", b"23")],
            [("a/y", b"1"), ("b", b"23")],
            [("a/x", b"12"), ("b", b"3")],
        ] {
            let (root, paths) = files(&changed);
            assert_ne!(fingerprint(&paths, root.path()).unwrap(), one);
        }
    }

    /// `(printf '\1\0\0\0\0\0\0\0a'; printf abc | sha256sum | xxd -r -p) | sha256sum`
    #[test]
    fn it_is_what_its_definition_says() {
        let (root, paths) = files(&[("a", b"abc")]);
        assert_eq!(fingerprint(&paths, root.path()).unwrap(), ORACLE);
    }

    const ORACLE: &str = "fbc8c3f8d68f32a07078401639f4592e56423197062b2a80ca4d84712e59b0b9";

    #[test]
    fn a_missing_file_is_named() {
        let (root, mut paths) = files(&[("z", b"1")]);
        paths.push(root.path().join("m"));
        paths.push(root.path().join("n"));
        let error = fingerprint(&paths, root.path()).unwrap_err();
        assert!(error.path.ends_with("m"));
    }
}
