//! The images of a training, by index and one at a time, so that memory does not grow with their number.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::acquisition::Acquisition;
use super::fingerprint::{
    FingerprintError, content_digits, content_fingerprint, fingerprint, picture_digits,
};
use crate::image::read::{self, ReadError, ReadSettings, Stored, StoredImage};
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
pub enum ImageSetError {
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

/// An image that is in memory instead of in a file, with its name.
#[derive(Clone, Debug)]
pub struct HeldImage {
    /// The name, in place of a path.
    pub name: PathBuf,
    /// The image.
    pub image: Arc<StoredImage>,
}

impl HeldImage {
    /// Images whose names are their numbers, `image 0000` for the first. The names have the order of the images.
    pub fn numbered(images: impl IntoIterator<Item = Arc<StoredImage>>) -> Vec<Self> {
        let images: Vec<_> = images.into_iter().collect();
        let digits = images.len().to_string().len().max(4);
        let named = images.into_iter().enumerate().map(|(number, image)| Self {
            name: format!("image {number:0digits$}").into(),
            image,
        });
        named.collect()
    }
}

/// Images that are listed one by one instead of as a folder.
#[derive(Clone, Debug)]
pub enum Listed {
    /// Files.
    Files(Vec<PathBuf>),
    /// Images in memory, whose names are their numbers.
    Held(Vec<Arc<StoredImage>>),
}

impl Listed {
    /// Reads the images: [`ImageSet::open`] or [`ImageSet::of_images`].
    ///
    /// # Errors
    /// As these functions.
    pub fn read(
        self,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<ImageSet, ImageSetError> {
        match self {
            Self::Files(paths) => ImageSet::open(&paths, settings, observer),
            Self::Held(images) => {
                ImageSet::of_images(HeldImage::numbered(images), settings, observer)
            }
        }
    }
}

/// Images, each of another picture: files, or images in memory. Each file is decoded once before work begins, and again whenever its image
/// is needed.
#[derive(Clone, Debug)]
pub struct ImageSet {
    images: Vec<Member>,
    read: ReadSettings,
}

#[derive(Clone, Debug)]
struct Member {
    place: Place,
    size: Size,
    /// [`picture_digits`].
    picture: String,
    acquisition: Acquisition,
}

/// Where an image is.
#[derive(Clone, Debug)]
enum Place {
    File(PathBuf),
    Memory(HeldImage),
}

impl Place {
    /// The path, or the name of an image in memory.
    fn path(&self) -> &PathBuf {
        match self {
            Self::File(path) => path,
            Self::Memory(held) => &held.name,
        }
    }

    fn read(&self, settings: &ReadSettings) -> Result<(Image, Stored), ReadError> {
        match self {
            Self::File(path) => read::read_stored(path, settings),
            Self::Memory(held) => held.image.to_image(&held.name, settings.bits),
        }
    }
}

impl ImageSet {
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
    ) -> Result<Self, ImageSetError> {
        let places = paths.iter().cloned().map(Place::File).collect();
        Self::of(places, settings, observer)
    }

    /// The same for images in memory. Each has a name of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_images(
        images: Vec<HeldImage>,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, ImageSetError> {
        let places = images.into_iter().map(Place::Memory).collect();
        Self::of(places, settings, observer)
    }

    fn of(
        places: Vec<Place>,
        settings: &FileSettings,
        observer: &mut dyn Observer,
    ) -> Result<Self, ImageSetError> {
        const PIECE: usize = 32;
        let mut images = Vec::with_capacity(places.len());
        observer.start("reading images", places.len() as u64);
        for (piece, some) in places.chunks(PIECE).enumerate() {
            if observer.stop_requested() {
                return Err(ImageSetError::Stopped);
            }
            let read = |place: &Place| Member::read(place, &settings.read);
            let read: Vec<_> = some.par_iter().map(read).collect();
            for (place, image) in some.iter().zip(read) {
                match image {
                    Ok(image) => images.push(image),
                    Err(error) if settings.skip_unreadable => {
                        observer.skipped(place.path(), &error.to_string())
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            observer.advance((piece * PIECE + some.len()) as u64, None);
        }
        observer.finish();
        if images.is_empty() {
            return Err(ImageSetError::NoneReadable(places.len()));
        }
        let images = without_copies(images, observer);
        let read = settings.read;
        Ok(Self { images, read })
    }

    /// The paths of the files that are taken, or the names of the images in memory.
    pub fn paths(&self) -> Vec<PathBuf> {
        let paths = self.images.iter().map(|image| image.place.path().clone());
        paths.collect()
    }

    /// What identifies each picture, see [`picture_digits`].
    pub fn pictures(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.picture.as_str())
    }

    /// How each image was taken.
    pub fn acquisitions(&self) -> impl Iterator<Item = &Acquisition> {
        self.images.iter().map(|image| &image.acquisition)
    }

    /// The fingerprint of the files ([`fingerprint`]). An image in memory has the fingerprint of its name and its picture.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub fn fingerprint(&self, root: &Path) -> Result<String, FingerprintError> {
        let is_file = |image: &Member| matches!(image.place, Place::File(_));
        if self.images.iter().all(is_file) {
            return fingerprint(&self.paths(), root);
        }
        let content =
            |image: &Member| format!("{} {}\n", image.place.path().display(), image.picture);
        let content: String = self.images.iter().map(content).collect();
        Ok(content_fingerprint("images in memory", content.as_bytes()))
    }

    /// [`content_digits`] of each file; empty for an image in memory.
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub fn content_digits(&self) -> Result<Vec<String>, FingerprintError> {
        let of = |image: &Member| match &image.place {
            Place::File(path) => content_digits(path),
            Place::Memory(_) => Ok(String::new()),
        };
        self.images.par_iter().map(of).collect()
    }

    /// The images whose paths are in `paths`, in the order of `paths`.
    #[must_use]
    pub fn select(&self, paths: &[PathBuf]) -> Self {
        let known: HashMap<&PathBuf, &Member> = self
            .images
            .iter()
            .map(|image| (image.place.path(), image))
            .collect();
        let images = paths
            .iter()
            .filter_map(|path| known.get(path).copied().cloned());
        Self {
            images: images.collect(),
            read: self.read,
        }
    }
}

impl Member {
    fn read(place: &Place, settings: &ReadSettings) -> Result<Self, ReadError> {
        let (image, stored) = place.read(settings)?;
        Ok(Self {
            acquisition: Acquisition::of(&image, &stored),
            place: place.clone(),
            size: image.size(),
            picture: picture_digits(&image),
        })
    }
}

/// The images without copies of earlier images; tells the observer of the copies.
fn without_copies(images: Vec<Member>, observer: &mut dyn Observer) -> Vec<Member> {
    let all = images.len();
    let mut first_of: HashMap<String, PathBuf> = HashMap::new();
    let mut example = None;
    let mut different = Vec::with_capacity(all);
    for image in images {
        if let Some(original) = first_of.get(&image.picture) {
            example.get_or_insert_with(|| (image.place.path().clone(), original.clone()));
        } else {
            first_of.insert(image.picture.clone(), image.place.path().clone());
            different.push(image);
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

impl ImageSource for ImageSet {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn image(&self, index: usize) -> Result<Image, ReadError> {
        let (image, _) = self.images[index].place.read(&self.read)?;
        Ok(image)
    }

    fn size(&self, index: usize) -> Result<Size, ReadError> {
        Ok(self.images[index].size)
    }

    fn name(&self, index: usize) -> String {
        self.images[index].place.path().display().to_string()
    }
}
