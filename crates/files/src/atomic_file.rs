//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file could not be written; the file that was at the path before is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// The message of the operating system.
    pub source: io::Error,
}

/// Writes `path` through a temporary file in the same folder: written, synced, then renamed.
///
/// # Errors
/// [`WriteError`] if the folder is missing or read-only, the disk is full, or `fill` fails; the
/// temporary file is removed then.
pub fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), WriteError> {
    let place = |source| WriteError {
        path: path.to_path_buf(),
        source,
    };
    let mut temporary = temporary_beside(path)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer)
        .and_then(|()| writer.flush())
        .map_err(place)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(place)?;
    temporary
        .persist(path)
        .map(drop)
        .map_err(|error| place(error.error))
}

/// [`write()`] for bytes in memory.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write(path, |file| file.write_all(bytes))
}

/// Checks whether `path` can be written. Removes the temporary files that killed runs have left beside it, which no process has locked
/// any more.
///
/// # Errors
/// [`WriteError`] if the folder is missing or read-only.
pub fn prepare(path: &Path) -> Result<(), WriteError> {
    let place = |source| WriteError {
        path: path.to_path_buf(),
        source,
    };
    // One of our own is made first: it tells whether the folder can be written.
    temporary_beside(path)?;
    for entry in std::fs::read_dir(folder_of(path)).map_err(place)?.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(PREFIX.as_bytes()) || !name.ends_with(SUFFIX.as_bytes()) {
            continue;
        }
        // Whoever writes it holds the lock. What cannot be opened, locked or removed is left alone.
        if let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

const PREFIX: &str = ".pupilla-";
const SUFFIX: &str = ".tmp";

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A locked file in the folder of `path`, which goes when it is dropped.
fn temporary_beside(path: &Path) -> Result<NamedTempFile, WriteError> {
    let folder = folder_of(path);
    if !folder.exists() {
        return Err(WriteError {
            path: path.to_path_buf(),
            source: io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the folder {} does not exist, make it first",
                    folder.display()
                ),
            ),
        });
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The usual mode of a new file (the umask still applies), not a temporary file's 0600.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    loop {
        // The message of the crate names the temporary file, of which the user knows nothing.
        let temporary = builder.tempfile_in(folder).map_err(|error| WriteError {
            path: path.to_path_buf(),
            source: error
                .raw_os_error()
                .map_or(error.kind().into(), io::Error::from_raw_os_error),
        })?;
        // A file system without locks has none to be taken for abandoned either.
        if temporary.as_file().lock().is_err() || temporary.path().exists() {
            return Ok(temporary);
        }
        // Taken away by another process between its making and its locking.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        write_bytes(&path, b"old").unwrap();
        let failed = write(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("model"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_killed_runs_left_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        for name in [".pupilla-abcdef.tmp", ".pupilla-notes", "other.tmp"] {
            std::fs::write(folder.path().join(name), b"half").unwrap();
        }
        let listing = || {
            let entries = std::fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        // One that is being written, as another process would.
        write(&path, |file| {
            file.write_all(b"half")?;
            let before = listing().len();
            prepare(&path.with_file_name("other model")).map_err(io::Error::other)?;
            assert_eq!(listing().len(), before - 1);
            Ok(())
        })
        .unwrap();
        assert_eq!(listing(), [".pupilla-notes", "model", "other.tmp"]);
        assert!(prepare(&folder.path().join("missing").join("model")).is_err());
    }
}
