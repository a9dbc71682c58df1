//! Many images at once: read and resized on all cores, in the order of their paths.

use std::path::PathBuf;

use rayon::prelude::*;

use crate::image::Image;
use crate::image::read::{ReadError, read};
use crate::image::resize::Resize;
use crate::observer::Observer;

/// Not all images could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The first unreadable file, in the order of the paths.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// Every file was skipped.
    #[error("none of the {files} images could be read: the first error is \"{first}\"")]
    NoneLeft {
        /// How many files were tried.
        files: usize,
        /// The error of the first of them.
        #[source]
        first: Box<ReadError>,
    },
    /// The observer asked to stop.
    #[error("stopped while reading images")]
    Stopped,
}

/// Reads `paths` and applies `resize` to each, in parallel; the result is in the order of `paths`.
///
/// An unreadable file is the error, unless `skip_unreadable`: then the observer hears of it
/// ([`Observer::skipped`]) and it is left out. No paths give no images. Memory: the resized images,
/// and one image of original size for each thread at work.
///
/// # Errors
/// [`LoadError`]: the first unreadable file, nothing left after skipping, or a stop by the observer.
pub fn read_all(
    paths: &[PathBuf],
    resize: Resize,
    skip_unreadable: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<Image>, LoadError> {
    // Small enough for an observer to be asked often, large enough to keep every thread busy.
    let batch = rayon::current_num_threads() * 4;
    let mut images = Vec::with_capacity(paths.len());
    let mut first_error = None;
    observer.start("reading images", paths.len() as u64);
    for (index, some) in paths.chunks(batch).enumerate() {
        if observer.stop_requested() {
            observer.finish();
            return Err(LoadError::Stopped);
        }
        let read_some: Vec<Result<Image, ReadError>> = some
            .par_iter()
            .map(|path| read(path).map(|image| resize.apply_owned(image)))
            .collect();
        for result in read_some {
            match result {
                Ok(image) => images.push(image),
                Err(error) if skip_unreadable => {
                    observer.skipped(error.path(), &error.to_string());
                    first_error.get_or_insert(error);
                }
                Err(error) => {
                    observer.finish();
                    return Err(error.into());
                }
            }
        }
        observer.advance((index * batch + some.len()) as u64, None);
    }
    observer.finish();
    match first_error {
        Some(first) if images.is_empty() => Err(LoadError::NoneLeft {
            files: paths.len(),
            first: Box::new(first),
        }),
        _ => Ok(images),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;
    use std::path::Path;

    #[derive(Default)]
    struct Listener {
        skipped: Vec<PathBuf>,
        done: u64,
        stop: bool,
    }

    impl Observer for Listener {
        fn advance(&mut self, done: u64, _loss: Option<f64>) {
            self.done = done;
        }

        fn skipped(&mut self, path: &Path, reason: &str) {
            assert!(reason.contains(path.to_str().unwrap()));
            self.skipped.push(path.to_path_buf());
        }

        fn stop_requested(&mut self) -> bool {
            self.stop
        }
    }

    /// `count` grey images of one pixel value each, rising with the index; some of them broken.
    fn files(count: u8, broken: &[u8]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        let write = |index: u8| {
            let path = root.path().join(format!("{index:03}.png"));
            if broken.contains(&index) {
                std::fs::write(&path, b"").unwrap();
            } else {
                image::GrayImage::from_pixel(9, 12, image::Luma([index]))
                    .save(&path)
                    .unwrap();
            }
            path
        };
        let paths = (0..count).map(write).collect();
        (root, paths)
    }

    #[test]
    fn images_come_resized_in_the_order_of_their_paths() {
        let (_root, paths) = files(40, &[]);
        let mut listener = Listener::default();
        let images = read_all(&paths, Resize::Square(8), false, &mut listener).unwrap();
        assert_eq!((images.len(), listener.done), (40, 40));
        for (index, image) in images.iter().enumerate() {
            assert_eq!((image.width(), image.height()), (8, 8));
            let expected = index as f32 / 255.0;
            assert!((image.pixel(3, 3)[0] - expected).abs() < 1e-6);
        }
        assert!(
            read_all(&[], Resize::None, false, &mut Silent)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn the_first_unreadable_file_is_the_error_unless_skipped() {
        let (_root, paths) = files(30, &[23, 11]);
        let error = read_all(&paths, Resize::None, false, &mut Silent).unwrap_err();
        assert!(error.to_string().contains("011.png"), "{error}");
        let mut listener = Listener::default();
        let images = read_all(&paths, Resize::None, true, &mut listener).unwrap();
        assert_eq!((images.len(), listener.done), (28, 30));
        assert_eq!(listener.skipped, [paths[11].clone(), paths[23].clone()]);
    }

    #[test]
    fn nothing_left_and_a_stop_are_errors() {
        let (_root, paths) = files(2, &[0, 1]);
        let error = read_all(&paths, Resize::None, true, &mut Silent).unwrap_err();
        assert!(matches!(error, LoadError::NoneLeft { files: 2, .. }));
        let mut listener = Listener {
            stop: true,
            ..Listener::default()
        };
        let error = read_all(&paths, Resize::None, true, &mut listener).unwrap_err();
        assert!(matches!(error, LoadError::Stopped));
    }
}
