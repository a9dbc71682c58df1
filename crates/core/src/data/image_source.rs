//! The images of a training, by index and one at a time, so that memory does not grow with their number.

use crate::image::Size;
use std::path::PathBuf;

use crate::image::Image;
use crate::image::read::{self, ReadError};
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

/// Image files. Each file is decoded once before work begins, and again whenever its image is needed.
#[derive(Clone, Debug)]
pub struct ImageFiles {
    paths: Vec<PathBuf>,
    sizes: Vec<Size>,
}

impl ImageFiles {
    /// Decodes every file once: a broken one is found now, not after an hour of training.
    ///
    /// # Errors
    /// The first unreadable file, unless `skip_unreadable`: then the observer is told of such files, they are left out, and it is an
    /// error if no file remains. Also if the observer asks to stop.
    pub fn open(
        paths: &[PathBuf],
        skip_unreadable: bool,
        observer: &mut dyn Observer,
    ) -> Result<Self, ImageFilesError> {
        const PIECE: usize = 32;
        let mut files = Self {
            paths: Vec::with_capacity(paths.len()),
            sizes: Vec::with_capacity(paths.len()),
        };
        observer.start("reading images", paths.len() as u64);
        for (piece, some) in paths.chunks(PIECE).enumerate() {
            if observer.stop_requested() {
                return Err(ImageFilesError::Stopped);
            }
            let sizes: Vec<_> = some
                .par_iter()
                .map(|path| read::read(path).map(|image| image.size()))
                .collect();
            for (path, size) in some.iter().zip(sizes) {
                match size {
                    Ok(size) => {
                        files.paths.push(path.clone());
                        files.sizes.push(size);
                    }
                    Err(error) if skip_unreadable => observer.skipped(path, &error.to_string()),
                    Err(error) => return Err(error.into()),
                }
            }
            observer.advance((piece * PIECE + some.len()) as u64, None);
        }
        observer.finish();
        if files.paths.is_empty() {
            return Err(ImageFilesError::NoneReadable(paths.len()));
        }
        Ok(files)
    }

    /// The files that can be read.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The files whose paths are in `paths`, in the order of `paths`.
    #[must_use]
    pub fn select(&self, paths: &[PathBuf]) -> Self {
        let (paths, sizes) = paths
            .iter()
            .filter_map(|path| {
                let index = self.paths.iter().position(|known| known == path)?;
                Some((self.paths[index].clone(), self.sizes[index]))
            })
            .unzip();
        Self { paths, sizes }
    }
}

impl ImageSource for ImageFiles {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn image(&self, index: usize) -> Result<Image, ReadError> {
        read::read(&self.paths[index])
    }

    fn size(&self, index: usize) -> Result<Size, ReadError> {
        Ok(self.sizes[index])
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }
}
