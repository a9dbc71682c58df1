//! Evaluating the anomaly maps of any tool, read from files.
//!
//! Maps and masks are read on all threads while the images before them are gathered; of each pixel 4 bytes are
//! kept (8 in a defect).

use crate::image::Size;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::data::mask::{Mask, MaskError};
use crate::data::{Dataset, DatasetError, TestImage};
use crate::evaluate::{Evaluation, EvaluationError, Evaluator, ScoredImage};
use crate::image::read::{self, ReadError};
use crate::map::anomaly_map::AnomalyMap;
use crate::map::map_file::{self, MapFileError};
use crate::map::map_set::{self, MapSetError};
use crate::observer::{Observer, Stopped, for_each};

/// The most pixels that are read before the next call of the observer (one image at least): bounds what is held
/// beside the gathered pixels.
const PIXELS_AT_ONCE: usize = 1 << 24;

/// The most files that are read before the next call of the observer.
const FILES_AT_ONCE: usize = 64;

/// How to evaluate maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapSettings {
    /// The false-positive rate up to which AU-PRO is integrated (0.3).
    pub fpr_limit: f64,
    /// Mask pixels above this value (of 255) are defective (0, as in MVTec's evaluation).
    pub mask_threshold: u8,
    /// Fill the evaluation's curves with points this far apart ([`Evaluator::with_curves`]).
    pub curve_spacing: Option<f64>,
}

impl Default for MapSettings {
    fn default() -> Self {
        Self {
            fpr_limit: 0.3,
            mask_threshold: 0,
            curve_spacing: None,
        }
    }
}

impl MapSettings {
    /// What gathers the evaluation.
    fn evaluator(&self) -> Result<Evaluator, EvaluationError> {
        let evaluator = Evaluator::new(self.fpr_limit, self.mask_threshold)?;
        Ok(match self.curve_spacing {
            Some(spacing) => evaluator.with_curves(spacing),
            None => evaluator,
        })
    }
}

/// Maps could not be evaluated. Each variant names the file concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapRunError {
    /// The data set has no test part.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Maps are missing or doubled.
    #[error(transparent)]
    Maps(#[from] MapSetError),
    /// An image's size cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A map cannot be read, or does not fit its image.
    #[error(transparent)]
    Map(#[from] MapFileError),
    /// A mask cannot be read, or does not fit its image.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// A map cannot be evaluated.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The maps in memory are not as many as the images.
    #[error(
        "{maps} anomaly maps for {images} test images: give one map for each image, in the order of the data set"
    )]
    Count {
        /// Number of maps.
        maps: usize,
        /// Number of test images.
        images: usize,
    },
    /// A map in memory has another size than its image.
    #[error(
        "the anomaly map of {image} is {map_size} pixels, its image {image_size}: enlarge the map to the size of the image"
    )]
    Size {
        /// The image.
        image: String,
        /// Width and height of the map.
        map_size: Size,
        /// Width and height of the image.
        image_size: Size,
    },
    /// The observer asked to stop.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Evaluates the maps in `folder` ([`map_set`] says where) against the test part of `dataset`.
///
/// The same maps give the same evaluation as [`test_run::run`](crate::evaluate::test_run::run) of the detector that made
/// them, times left out. Only the headers of the images are read.
///
/// # Errors
/// [`MapRunError`]: of several files, the first in the data set's order.
pub fn run(
    folder: &Path,
    dataset: &Dataset,
    settings: &MapSettings,
    observer: &mut dyn Observer,
) -> Result<Evaluation, MapRunError> {
    let tests = dataset.require_test()?;
    let mut evaluator = settings.evaluator()?;
    let maps = map_set::find(folder, dataset)?;
    if let Some(first) = maps.without_image.first() {
        observer.warn(&format!(
            "anomaly maps that belong to no image are left out ({}), the first: {}",
            maps.without_image.len(),
            first.display()
        ));
    }
    observer.start(&format!("scoring {}", dataset.name), tests.len() as u64);
    let sizes: Vec<_> = tests
        .par_iter()
        .map(|test| read::size(&test.path))
        .collect();
    let sizes: Vec<Size> = sizes.into_iter().collect::<Result<_, _>>()?;
    let files: Vec<File<'_>> = tests
        .iter()
        .zip(maps.paths)
        .zip(sizes)
        .map(|((test, map), size)| File { test, map, size })
        .collect();
    let mut waiting = &files[..];
    while !waiting.is_empty() {
        if observer.stop_requested() {
            return Err(Stopped.into());
        }
        let (some, rest) = waiting.split_at(piece(waiting));
        let scored: Vec<_> = some
            .par_iter()
            .with_max_len(1)
            .map(|file| file.scored(settings.mask_threshold))
            .collect();
        for image in scored {
            evaluator.add_scored(image?);
        }
        waiting = rest;
        observer.advance(evaluator.images() as u64, None);
    }
    observer.finish();
    let evaluation = evaluator.finish();
    for warning in &evaluation.warnings {
        observer.warn(warning);
    }
    Ok(evaluation)
}

/// Evaluates maps in memory, one for each image of the test part of `dataset`, in the data set's order.
///
/// # Errors
/// As [`run`]; also if the maps are not as many as the images.
pub fn run_held(
    maps: &[AnomalyMap],
    dataset: &Dataset,
    settings: &MapSettings,
    observer: &mut dyn Observer,
) -> Result<Evaluation, MapRunError> {
    let tests = dataset.require_test()?;
    if maps.len() != tests.len() {
        return Err(MapRunError::Count {
            maps: maps.len(),
            images: tests.len(),
        });
    }
    let stage = format!("scoring {}", dataset.name);
    measure(
        &stage,
        maps.len(),
        settings,
        observer,
        |index, evaluator| {
            let (test, map) = (&tests[index], &maps[index]);
            let size = read::size(&test.path)?;
            let name = test.display_name();
            if map.size() != size {
                return Err(MapRunError::Size {
                    image: name,
                    map_size: map.size(),
                    image_size: size,
                });
            }
            let mask = test.read_mask(settings.mask_threshold, size)?;
            Ok(evaluator.add(&name, test.defect.as_deref(), map, mask.as_ref())?)
        },
    )
}

/// An anomaly map in memory, and what is known of its image.
#[derive(Clone, Debug)]
pub struct LabelledMap {
    /// The map.
    pub map: AnomalyMap,
    /// The kind of the defect; `None` for a good image.
    pub defect: Option<String>,
    /// The defective pixels. Without a mask, no pixel of a good image is defective, and the place of a defect is not known.
    pub mask: Option<Mask>,
}

/// Evaluates maps in memory that belong to no data set. Messages call an image by its number.
///
/// # Errors
/// [`MapRunError::Evaluation`], for the first map that does not fit its mask or is not finite. [`MapRunError::Stopped`].
pub fn run_labelled(
    maps: &[LabelledMap],
    settings: &MapSettings,
    observer: &mut dyn Observer,
) -> Result<Evaluation, MapRunError> {
    measure(
        "scoring",
        maps.len(),
        settings,
        observer,
        |index, evaluator| {
            let LabelledMap { map, defect, mask } = &maps[index];
            let good = Mask::good(map.width(), map.height());
            let mask = match (mask, defect) {
                (None, None) => Some(&good),
                (mask, _) => mask.as_ref(),
            };
            let name = format!("image {index}");
            Ok(evaluator.add(&name, defect.as_deref(), map, mask)?)
        },
    )
}

/// Gathers the images from 0 to `count - 1`, and tells the observer the warnings.
fn measure(
    stage: &str,
    count: usize,
    settings: &MapSettings,
    observer: &mut dyn Observer,
    mut add: impl FnMut(usize, &mut Evaluator) -> Result<(), MapRunError>,
) -> Result<Evaluation, MapRunError> {
    let mut evaluator = settings.evaluator()?;
    for_each(observer, stage, count, |index| add(index, &mut evaluator))?;
    let evaluation = evaluator.finish();
    for warning in &evaluation.warnings {
        observer.warn(warning);
    }
    Ok(evaluation)
}

/// A test image and its map.
struct File<'a> {
    test: &'a TestImage,
    map: PathBuf,
    size: Size,
}

impl File<'_> {
    fn scored(&self, mask_threshold: u8) -> Result<ScoredImage, MapRunError> {
        let (test, size) = (self.test, self.size);
        let map = map_file::read_for(&self.map, &test.path, size)?;
        let mask = test.read_mask(mask_threshold, size)?;
        let name = test.display_name();
        Ok(ScoredImage::new(
            &name,
            test.defect.as_deref(),
            &map,
            mask.as_ref(),
        )?)
    }
}

/// How many of the files come next.
fn piece(files: &[File<'_>]) -> usize {
    let mut pixels = 0;
    let within = files.iter().take(FILES_AT_ONCE).take_while(|file| {
        pixels += file.size.area();
        pixels <= PIXELS_AT_ONCE
    });
    within.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;
    use ::image::{GrayImage, Luma};
    use std::fs;

    /// A data set `nut` with maps in `maps`: two kinds of defects, images of several sizes.
    fn data() -> (tempfile::TempDir, Dataset, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("nut");
        for (number, kind) in ["good", "bent", "hole", "bent", "good"].iter().enumerate() {
            let (width, height) = (20 + number as u32, 30 - number as u32);
            let image = root.join("test").join(kind).join(format!("{number}.png"));
            fs::create_dir_all(image.parent().unwrap()).unwrap();
            GrayImage::new(width, height).save(&image).unwrap();
            if *kind != "good" {
                let mask = GrayImage::from_fn(width, height, |x, y| {
                    Luma([u8::from((x + y) % 9 < 2) * 255])
                });
                let path = root.join("ground_truth").join(kind);
                fs::create_dir_all(&path).unwrap();
                mask.save(path.join(format!("{number}_mask.png"))).unwrap();
            }
        }
        let dataset = Dataset::open(&root).unwrap();
        let maps = folder.path().join("maps");
        for (number, test) in dataset.test.iter().enumerate() {
            let path = map_set::path_of(&maps, &dataset, test);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            map_file::write(&path, &map_of(test, number)).unwrap();
        }
        (folder, dataset, maps)
    }

    fn map_of(test: &TestImage, number: usize) -> AnomalyMap {
        let Size { width, height } = read::size(&test.path).unwrap();
        let score = |at: usize| ((at * 7919 + number * 31) % 23) as f32 / 4.0;
        AnomalyMap::new(width, height, (0..width * height).map(score).collect())
    }

    #[test]
    fn files_give_what_the_maps_themselves_give() {
        let (_folder, dataset, maps) = data();
        let settings = MapSettings {
            curve_spacing: Some(0.0),
            ..MapSettings::default()
        };
        let found = run(&maps, &dataset, &settings, &mut Silent).unwrap();
        let mut twin = Evaluator::new(0.3, 0).unwrap().with_curves(0.0);
        for (number, test) in dataset.test.iter().enumerate() {
            let map = map_of(test, number);
            let mask = test.read_mask(0, map.size()).unwrap();
            let name = test.display_name();
            twin.add(&name, test.defect.as_deref(), &map, mask.as_ref())
                .unwrap();
        }
        assert_eq!(found, twin.finish());
        assert_eq!((found.images, found.per_defect.len()), (5, 2));
        assert!(found.pixel.au_pro.is_some() && found.curves.unwrap().pixels.is_some());
    }

    #[test]
    fn maps_in_memory_are_measured_like_files() {
        let (_folder, dataset, maps) = data();
        let settings = MapSettings {
            curve_spacing: Some(0.0),
            ..MapSettings::default()
        };
        let held = dataset.test.iter().enumerate();
        let held: Vec<_> = held.map(|(number, test)| map_of(test, number)).collect();
        let found = run_held(&held, &dataset, &settings, &mut Silent).unwrap();
        assert_eq!(found, run(&maps, &dataset, &settings, &mut Silent).unwrap());
        let labelled: Vec<_> = dataset
            .test
            .iter()
            .zip(&held)
            .map(|(test, map)| LabelledMap {
                map: map.clone(),
                defect: test.defect.clone(),
                mask: test.read_mask(0, map.size()).unwrap(),
            })
            .collect();
        let without_data_set = run_labelled(&labelled, &settings, &mut Silent).unwrap();
        assert_eq!(without_data_set.pixel, found.pixel);
        assert_eq!(without_data_set.per_defect, found.per_defect);
        let error = |maps: &[AnomalyMap]| {
            let result = run_held(maps, &dataset, &settings, &mut Silent);
            result.unwrap_err().to_string()
        };
        assert!(error(&held[1..]).starts_with("4 anomaly maps for 5 test images"));
        let mut wrong = held.clone();
        wrong.swap(0, 1);
        assert!(error(&wrong).starts_with("the anomaly map of bent/1.png"));
        let stop = crate::observer::StopFlag::default();
        stop.raise();
        let stopped = run_held(&held, &dataset, &settings, &mut stop.clone());
        assert!(matches!(stopped, Err(MapRunError::Stopped(_))));
    }

    #[test]
    fn errors_name_the_file() {
        let (_folder, dataset, maps) = data();
        let path = map_set::path_of(&maps, &dataset, &dataset.test[0]);
        let good = fs::read(&path).unwrap();
        let error = |words: &[&str]| {
            let result = run(&maps, &dataset, &MapSettings::default(), &mut Silent);
            let text = result.unwrap_err().to_string();
            for word in words {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
        };
        let mut scores = vec![0.0; 21 * 29];
        map_file::write(&path, &AnomalyMap::new(29, 21, scores.clone())).unwrap();
        error(&["bent/1.tiff is 29×21", "bent/1.png is 21×29"]);
        scores[23] = f32::INFINITY;
        map_file::write(&path, &AnomalyMap::new(21, 29, scores)).unwrap();
        error(&["bent/1.tiff", "row 1, column 2 is inf"]);
        GrayImage::new(21, 29)
            .save_with_format(&path, ::image::ImageFormat::Tiff)
            .unwrap();
        error(&["bent/1.tiff holds Gray(8) pixels", "32-bit floats"]);
        fs::write(&path, &good).unwrap();
        let mask = &dataset.test[0].mask.as_ref().unwrap().files()[0];
        GrayImage::new(3, 3).save(mask).unwrap();
        error(&["1_mask.png is 3×3"]);
        let truth = dataset.root.join("ground_truth/good");
        fs::create_dir_all(&truth).unwrap();
        GrayImage::new(21, 29).save(mask).unwrap();
        GrayImage::from_pixel(20, 30, Luma([255]))
            .save(truth.join("0_mask.png"))
            .unwrap();
        let dataset = Dataset::open(&dataset.root).unwrap();
        let result = run(&maps, &dataset, &MapSettings::default(), &mut Silent);
        let text = result.unwrap_err().to_string();
        assert!(text.contains("good/0.png is a good image"), "{text}");
    }

    #[test]
    fn pieces_are_bounded_and_never_empty() {
        let test = TestImage {
            path: PathBuf::new(),
            name: PathBuf::new(),
            defect: None,
            mask: None,
        };
        let files = |side: usize, count: usize| -> Vec<File<'_>> {
            let file = || File {
                test: &test,
                map: PathBuf::new(),
                size: Size::square(side),
            };
            (0..count).map(|_| file()).collect()
        };
        assert_eq!(piece(&files(1024, 40)), 16);
        assert_eq!(piece(&files(8192, 3)), 1);
        assert_eq!(piece(&files(16, 1000)), FILES_AT_ONCE);
        assert_eq!(piece(&files(16, 3)), 3);
    }
}
