//! Untrusted files: opened only if they are regular files, and read only if they are not too long.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The most decoded bytes for each byte of an image file: a header that claims more is false. Deflate and LZW reach 1400, one bit of a
/// black-and-white PNG becomes eight, or 24 with a palette.
pub const MOST_DECODED: u64 = 1 << 15;

/// A file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum BoundedFileError {
    /// The message of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A folder, a pipe or a device. Reading a pipe waits for its other end, and a device has no end.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is longer than allowed.
    #[error("it has {bytes} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        allowed: u64,
    },
}

impl From<BoundedFileError> for io::Error {
    fn from(error: BoundedFileError) -> Self {
        match error {
            BoundedFileError::Io(error) => error,
            error => Self::other(error.to_string()),
        }
    }
}

/// Opens a file of at most `allowed` bytes; with its length.
///
/// # Errors
/// [`BoundedFileError`], before anything is read.
pub fn open(path: &Path, allowed: u64) -> Result<(File, u64), BoundedFileError> {
    // Asked before opening: to open a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(BoundedFileError::NotAFile);
    }
    let bytes = metadata.len();
    if bytes > allowed {
        return Err(BoundedFileError::TooLarge { bytes, allowed });
    }
    Ok((File::open(path)?, bytes))
}

/// Reads a whole file of at most `allowed` bytes.
///
/// # Errors
/// As [`open`], and if reading fails.
pub fn read(path: &Path, allowed: u64) -> Result<Vec<u8>, BoundedFileError> {
    let (file, length) = open(path, allowed)?;
    let mut bytes = Vec::with_capacity(length as usize);
    // `take`: the file may grow while it is read.
    file.take(allowed).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_only_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [7; 10]);
        let long = read(&path, 9);
        assert!(matches!(
            long,
            Err(BoundedFileError::TooLarge {
                bytes: 10,
                allowed: 9
            })
        ));
        let not_a_file = read(folder.path(), 10);
        assert!(matches!(not_a_file, Err(BoundedFileError::NotAFile)));
        let missing = read(&folder.path().join("missing"), 10);
        assert!(matches!(missing, Err(BoundedFileError::Io(_))));
        #[cfg(unix)]
        for endless in ["/dev/zero", "/dev/stdin"] {
            assert!(read(Path::new(endless), 10).is_err(), "{endless}");
        }
    }
}
