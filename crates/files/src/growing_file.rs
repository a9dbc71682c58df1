//! Files that grow while the work goes on, line by line.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::atomic_file::WriteError;

/// A file of whole lines. Until its end it is called `<name>.part`, so that a file of its own name always is the file of a run that
/// has come to an end.
#[derive(Debug)]
pub struct GrowingFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
    /// Bytes of the whole lines.
    length: u64,
}

impl GrowingFile {
    /// Begins an empty file. A part that a killed run has left is replaced.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn begin(path: &Path) -> Result<Self, WriteError> {
        let part = part_of(path);
        let place = |source| WriteError {
            path: part.clone(),
            source,
        };
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(place(error)),
            _ => {}
        }
        // A link that somebody puts there meanwhile is not followed.
        let file = File::create_new(&part).map_err(place)?;
        Ok(Self {
            path: path.to_path_buf(),
            part,
            file,
            length: 0,
        })
    }

    /// Adds whole lines. They are in the file when this returns.
    ///
    /// # Errors
    /// If the lines cannot be written, as on a full disk. Then the file has the lines before.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let written = self.file.write_all(lines);
        if let Err(source) = written {
            // What cannot be cut off stays: the first error is the one to tell.
            let _ = self.file.set_len(self.length);
            let _ = self.file.seek(SeekFrom::Start(self.length));
            return Err(WriteError {
                path: self.path.clone(),
                source,
            });
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Gives the file its name. A file that was there before is replaced.
    ///
    /// # Errors
    /// If the file cannot be renamed. Then its lines are in the part.
    pub fn end(self) -> Result<(), WriteError> {
        let Self {
            path, part, file, ..
        } = self;
        let ended = file.sync_all().and_then(|()| {
            // Windows renames no open file.
            drop(file);
            std::fs::rename(&part, &path)
        });
        ended.map_err(|source| WriteError { path, source })
    }
}

/// What a growing file is called until its end.
pub fn part_of(path: &Path) -> PathBuf {
    let mut part = OsString::from(path);
    part.push(".part");
    part.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_there_at_once_and_the_name_comes_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        std::fs::write(&path, "of another run\n").unwrap();
        std::fs::write(part_of(&path), "of a killed run\n").unwrap();
        let mut file = GrowingFile::begin(&path).unwrap();
        for lines in ["one\n", "two\nthree\n"] {
            file.append(lines.as_bytes()).unwrap();
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&part_of(&path)), "one\ntwo\nthree\n");
        assert_eq!(read(&path), "of another run\n");
        file.end().unwrap();
        assert_eq!(read(&path), "one\ntwo\nthree\n");
        assert!(!part_of(&path).exists());
        let missing = folder.path().join("missing").join("table.csv");
        assert!(GrowingFile::begin(&missing).is_err());
    }
}
