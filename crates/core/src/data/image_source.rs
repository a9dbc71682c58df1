//! The images of a training, by index and one at a time, so that memory does not grow with their number.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::acquisition::Acquisition;
use super::fingerprint::picture_digits;
use crate::image::read::{self, ReadError, ReadSettings};
use crate::image::{Image, Size};
use crate::observer::Observer;
use rayon::prelude::*;

/// Images by index, at their original size. The same index gives the same image every time.
pub trait ImageSource: Sync {
    /// How many images there are.
    fn len(&self) -> usize;

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image at an index below [`len`](Self::len).
    ///
    /// # Errors
    /// If its file cannot be read (any more).
    fn image(&self, index: usize) -> Result<Image, ReadError>;

    /// Width and height of that image, where possible without decoding it.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    fn size(&self, index: usize) -> Result<Size, ReadError>;

    /// A name for messages: the file's path.
    fn name(&self, index: usize) -> String;
}

impl ImageSource for Vec<Image> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn image(&self, index: usize) -> Result<Image, ReadError> {
        Ok(self[index].clone())
    }

    fn size(&self, index: usize) -> Result<Size, ReadError> {
        Ok(self[index].size())
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }
}

/// Why a set of image files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFilesError {
    /// A file cannot be read as an image.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Not one of the files can be read.
    #[error("none of the {0} images can be read")]
    NoneReadable(usize),
    /// The observer asked to stop.
    #[error("stopped on request; nothing was written")]
    Stopped,
}

/// How image files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSettings {
    /// How a file is decoded.
    pub read: ReadSettings,
    /// Whether unreadable files are reported and left out, instead of ending the work.
    pub skip_unreadable: bool,
}

/// Image files, each of another picture. Each file is decoded once before work begins, and again whenever its image is needed.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    files: Vec<ImageFile>,
    read: ReadSettings,
}

#[derive(Clone, Debug)]
struct ImageFile {
    path: PathBuf,
    size: Size,
    /// [`picture_digits`].
    picture: String,
    acquisition: Acquisition,
}

impl ImageFiles {
    /// Decodes every file once: a broken one is found now, not after an hour of training. Of files that show the same picture, in
    /// whatever encoding, the first is taken, and the observer is told of the others: copies are no further evidence.
    ///
    /// # Errors
    /// The first unreadable file, unless [`FileSettings::skip_unreadable`]: then the observer is told of such files, they are left out,
    /// and it is an error if no file remains. Also if the observer asks to stop.
    pub fn open(
        paths: &[PathBuf],
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, ImageFilesError> {
        const PIECE: usize = 32;
        let mut files = Vec::with_capacity(paths.len());
        observer.start("reading images", paths.len() as u64);
        for (piece, some) in paths.chunks(PIECE).enumerate() {
            if observer.stop_requested() {
                return Err(ImageFilesError::Stopped);
            }
            let open = |path: &PathBuf| ImageFile::open(path, &settings.read);
            let opened: Vec<_> = some.par_iter().map(open).collect();
            for (path, file) in some.iter().zip(opened) {
                match file {
                    Ok(file) => files.push(file),
                    Err(error) if settings.skip_unreadable => {
                        observer.skipped(path, &error.to_string())
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            observer.advance((piece * PIECE + some.len()) as u64, None);
        }
        observer.finish();
        if files.is_empty() {
            return Err(ImageFilesError::NoneReadable(paths.len()));
        }
        let files = without_copies(files, observer);
        let read = settings.read;
        Ok(Self { files, read })
    }

    /// The files that are taken.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// What identifies the picture of each file, see [`picture_digits`].
    pub fn pictures(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.picture.as_str())
    }

    /// How the image of each file was taken.
    pub fn acquisitions(&self) -> impl Iterator<Item = &Acquisition> {
        self.files.iter().map(|file| &file.acquisition)
    }

    /// The files whose paths are in `paths`, in the order of `paths`.
    #[must_use]
    pub fn select(&self, paths: &[PathBuf]) -> Self {
        let known: HashMap<&PathBuf, &ImageFile> =
            self.files.iter().map(|file| (&file.path, file)).collect();
        let files = paths
            .iter()
            .filter_map(|path| known.get(path).copied().cloned());
        Self {
            files: files.collect(),
            read: self.read,
        }
    }
}

impl ImageFile {
    fn open(path: &Path, settings: &ReadSettings) -> Result<Self, ReadError> {
        let (image, stored) = read::read_stored(path, settings)?;
        Ok(Self {
            acquisition: Acquisition::of(&image, &stored),
            path: path.to_path_buf(),
            size: image.size(),
            picture: picture_digits(&image),
        })
    }
}

/// The files without copies of earlier files; tells the observer of the copies.
fn without_copies(files: Vec<ImageFile>, observer: &mut dyn Observer) -> Vec<ImageFile> {
    let all = files.len();
    let mut first_of: HashMap<String, PathBuf> = HashMap::new();
    let mut example = None;
    let mut different = Vec::with_capacity(all);
    for file in files {
        if let Some(original) = first_of.get(&file.picture) {
            example.get_or_insert_with(|| (file.path.clone(), original.clone()));
        } else {
            first_of.insert(file.picture.clone(), file.path.clone());
            different.push(file);
        }
    }
    if let Some((copy, original)) = example {
        observer.warn(&format!(
            "{} of {all} images are copies of others, as {} of {}: each picture is taken once",
            all - different.len(),
            copy.display(),
            original.display()
        ));
    }
    different
}

impl ImageSource for ImageFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Image, ReadError> {
        read::read_with(&self.files[index].path, &self.read)
    }

    fn size(&self, index: usize) -> Result<Size, ReadError> {
        Ok(self.files[index].size)
    }

    fn name(&self, index: usize) -> String {
        self.files[index].path.display().to_string()
    }
}
