//! Built-in data: two small synthetic categories, drawn by code, with exact masks.
//!
//! A [woven fabric](Kind::Weave) and a [turned steel flange](Kind::Washer), each with anomaly-free
//! images to learn from and several kinds of defects to find, written as PNG files in the MVTec AD
//! layout. They let the whole system run with nothing but this library; they are no benchmark.
//!
//! Good images differ from each other as photographs do: position, rotation, light, colour cast,
//! yarns and tool marks, sensor noise. A defect is drawn into the scene before the light and the
//! noise, so the same image without it (its clean twin) is known, and the mask is the set of all
//! pixels the defect touches.
//!
//! The same settings give the same pixels on every machine: random numbers come from ChaCha8 and
//! from integer hashes, and functions such as the sine from a library in plain Rust.

mod draw;
mod washer;
mod weave;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;

use crate::observer::Observer;
use draw::{Random, normal_table};
use pupilla_files::atomic_file::{self, WriteError};

/// Width and height of every synthetic image, in pixels.
pub const SIDE: usize = 256;

/// Samples a pixel in each direction: edges are smooth because they are drawn finer than shown.
const SAMPLES: usize = 2;

/// The product that the images show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A texture: plain-woven linen, slightly irregular.
    Weave,
    /// An object: a turned steel ring with six bolt holes, in any rotation.
    Washer,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Weave, Self::Washer];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weave => "weave",
            Self::Washer => "washer",
        }
    }

    /// What can be wrong with it, in the order of the names.
    pub fn defects(self) -> &'static [Defect] {
        match self {
            Self::Weave => &[
                Defect::Cut,
                Defect::FaintSpot,
                Defect::Hole,
                Defect::Stain,
                Defect::Thread,
            ],
            Self::Washer => &[
                Defect::Burr,
                Defect::CloggedHole,
                Defect::Dent,
                Defect::Scratch,
                Defect::Stain,
            ],
        }
    }
}

/// A kind of defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Metal that stands out from the rim.
    Burr,
    /// A bolt hole full of swarf and grease.
    CloggedHole,
    /// A slit in the fabric.
    Cut,
    /// A small hollow in the metal.
    Dent,
    /// A discolouration of low contrast that covers at most 0.5 % of the image.
    FaintSpot,
    /// A torn hole in the fabric.
    Hole,
    /// A thin scratch in the metal.
    Scratch,
    /// A spill with soft edges.
    Stain,
    /// A foreign thread on the fabric.
    Thread,
}

impl Defect {
    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Burr => "burr",
            Self::CloggedHole => "clogged_hole",
            Self::Cut => "cut",
            Self::Dent => "dent",
            Self::FaintSpot => "faint_spot",
            Self::Hole => "hole",
            Self::Scratch => "scratch",
            Self::Stain => "stain",
            Self::Thread => "thread",
        }
    }
}

/// How many images are drawn, and from which seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticSettings {
    /// Anomaly-free images to learn from.
    pub train: usize,
    /// Anomaly-free images to test with.
    pub test_good: usize,
    /// Defective images to test with, of each kind of defect.
    pub test_each_defect: usize,
    /// Another seed gives other images of the same parts.
    pub seed: u64,
}

impl Default for SyntheticSettings {
    fn default() -> Self {
        Self {
            train: 40,
            test_good: 10,
            test_each_defect: 6,
            seed: 0,
        }
    }
}

/// Synthetic data could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// A folder could not be made or looked into.
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The message of the operating system.
        source: io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] WriteError),
    /// Another file lies where the data set is to be: it would become part of it.
    #[error("{} is in the way: remove it, or choose another folder", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The observer asked to stop; the images written so far are whole.
    #[error("stopped while drawing images")]
    Stopped,
}

/// Draws a data set of `kind` into the folder `root/<kind>` and returns that folder.
///
/// Files of the same names are replaced, so that a run can be repeated; any other file there is an
/// error, found before anything is written.
///
/// # Errors
/// [`SyntheticError`] if a folder or file cannot be written, another file is in the way, or the
/// observer asks to stop.
pub fn write(
    root: &Path,
    kind: Kind,
    settings: &SyntheticSettings,
    observer: &mut dyn Observer,
) -> Result<PathBuf, SyntheticError> {
    let folder = root.join(kind.name());
    let shots = shots(kind, settings);
    let files: BTreeSet<PathBuf> = shots
        .iter()
        .flat_map(|shot| [Some(shot.image_path()), shot.mask_path()])
        .flatten()
        .map(|relative| folder.join(relative))
        .collect();
    refuse_others(&folder, &files)?;
    for parent in files.iter().filter_map(|file| file.parent()) {
        std::fs::create_dir_all(parent).map_err(|source| SyntheticError::Folder {
            path: parent.to_path_buf(),
            source,
        })?;
    }
    observer.start(
        &format!("drawing {} images", kind.name()),
        shots.len() as u64,
    );
    let batch = rayon::current_num_threads() * 2;
    for (index, some) in shots.chunks(batch).enumerate() {
        if observer.stop_requested() {
            observer.finish();
            return Err(SyntheticError::Stopped);
        }
        some.par_iter()
            .try_for_each(|shot| shot.write(&folder, settings.seed))?;
        observer.advance((index * batch + some.len()) as u64, None);
    }
    observer.finish();
    Ok(folder)
}

fn refuse_others(folder: &Path, ours: &BTreeSet<PathBuf>) -> Result<(), SyntheticError> {
    let place = |source| SyntheticError::Folder {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(place)?,
    };
    for entry in entries {
        let path = entry.map_err(place)?.path();
        if path.is_dir() {
            refuse_others(&path, ours)?;
        } else if !ours.contains(&path) {
            return Err(SyntheticError::InTheWay { path });
        }
    }
    Ok(())
}

/// Which part of the data set a picture is for; every part has its own random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Test(Option<Defect>),
}

impl Part {
    /// A number of its own, never to be changed: pictures depend on it.
    fn code(self) -> u64 {
        match self {
            Self::Train => 0,
            Self::Test(None) => 1,
            Self::Test(Some(defect)) => match defect {
                Defect::Burr => 2,
                Defect::Cut => 3,
                Defect::Dent => 4,
                Defect::FaintSpot => 5,
                Defect::Hole => 6,
                Defect::CloggedHole => 7,
                Defect::Scratch => 8,
                Defect::Stain => 9,
                Defect::Thread => 10,
            },
        }
    }
}

/// One picture to take.
#[derive(Clone, Copy, Debug)]
struct Shot {
    kind: Kind,
    part: Part,
    index: usize,
}

fn shots(kind: Kind, settings: &SyntheticSettings) -> Vec<Shot> {
    let mut counts = vec![
        (Part::Train, settings.train),
        (Part::Test(None), settings.test_good),
    ];
    for defect in kind.defects() {
        counts.push((Part::Test(Some(*defect)), settings.test_each_defect));
    }
    let of = |(part, count): (Part, usize)| (0..count).map(move |index| Shot { kind, part, index });
    counts.into_iter().flat_map(of).collect()
}

impl Shot {
    fn image_path(&self) -> PathBuf {
        let folder = match self.part {
            Part::Train => "train/good",
            Part::Test(None) => "test/good",
            Part::Test(Some(defect)) => &format!("test/{}", defect.name()),
        };
        Path::new(folder).join(format!("{:03}.png", self.index))
    }

    fn mask_path(&self) -> Option<PathBuf> {
        let Part::Test(Some(defect)) = self.part else {
            return None;
        };
        let folder = Path::new("ground_truth").join(defect.name());
        Some(folder.join(format!("{:03}_mask.png", self.index)))
    }

    fn write(&self, folder: &Path, seed: u64) -> Result<(), WriteError> {
        let picture = self.picture(seed, true);
        write_png(
            &folder.join(self.image_path()),
            &picture.rgb,
            ExtendedColorType::Rgb8,
        )?;
        match self.mask_path() {
            Some(path) => write_png(&folder.join(path), &picture.mask, ExtendedColorType::L8),
            None => Ok(()),
        }
    }

    /// Takes the picture; without its defect if `with_defect` is false: the clean twin.
    fn picture(&self, seed: u64, with_defect: bool) -> Picture {
        // Scene, defect, camera: three sequences, so that leaving out the defect moves nothing else.
        let random = |purpose: u64| {
            Random::new([
                seed,
                self.kind as u64,
                self.part.code() << 8 | purpose,
                self.index as u64,
            ])
        };
        let defect = match self.part {
            Part::Test(defect) if with_defect => defect,
            _ => None,
        };
        let (mut scene, mut flaw) = (random(0), random(1));
        let samples = match self.kind {
            Kind::Weave => {
                let scene = weave::Scene::new(&mut scene);
                let flaw = defect.map(|defect| weave::Flaw::new(defect, &mut flaw));
                sample(|x, y| scene.color(x, y, flaw.as_ref()))
            }
            Kind::Washer => {
                let scene = washer::Scene::new(&mut scene);
                let flaw = defect.map(|defect| washer::Flaw::new(defect, &scene, &mut flaw));
                sample(|x, y| scene.color(x, y, flaw.as_ref()))
            }
        };
        expose(&samples, &mut random(2))
    }
}

/// A colour in linear steps of light, and whether a defect touches it.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rgb: [f64; 3],
    touched: bool,
}

/// The mean of the samples of each pixel, `[SIDE, SIDE]`; touched if one of them is.
fn sample(color: impl Fn(f64, f64) -> Sample) -> Vec<Sample> {
    let mut pixels = Vec::with_capacity(SIDE * SIDE);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let mut pixel = Sample {
                rgb: [0.0; 3],
                touched: false,
            };
            for sub in 0..SAMPLES * SAMPLES {
                let offset = |step: usize| (step as f64 + 0.5) / SAMPLES as f64;
                let x = column as f64 + offset(sub % SAMPLES);
                let y = row as f64 + offset(sub / SAMPLES);
                let one = color(x, y);
                pixel.touched |= one.touched;
                for (sum, value) in pixel.rgb.iter_mut().zip(one.rgb) {
                    *sum += value / (SAMPLES * SAMPLES) as f64;
                }
            }
            pixels.push(pixel);
        }
    }
    pixels
}

/// What is written: `[SIDE, SIDE, 3]` and, as 0 or 255, `[SIDE, SIDE]`.
#[derive(Debug, PartialEq, Eq)]
struct Picture {
    rgb: Vec<u8>,
    mask: Vec<u8>,
}

/// Light, colour cast and noise of one exposure.
fn expose(samples: &[Sample], random: &mut Random) -> Picture {
    let gain = random.between(0.93, 1.07);
    let cast = [(); 3].map(|()| random.between(0.992, 1.008));
    // Brighter towards one side by a few percent.
    let (slope_x, slope_y) = (random.between(-0.05, 0.05), random.between(-0.05, 0.05));
    let normal = normal_table();
    let mut rgb = Vec::with_capacity(samples.len() * 3);
    for (index, sample) in samples.iter().enumerate() {
        let x = (index % SIDE) as f64 / SIDE as f64 - 0.5;
        let y = (index / SIDE) as f64 / SIDE as f64 - 0.5;
        let light = gain * (1.0 + 2.0 * (slope_x * x + slope_y * y));
        let grain = 0.010 * random.normal(&normal);
        for (value, cast) in sample.rgb.iter().zip(cast) {
            let noise = grain + 0.006 * random.normal(&normal);
            let value = value * light * cast + noise;
            rgb.push((value.clamp(0.0, 1.0) * 255.0).round() as u8);
        }
    }
    let mask = samples.iter().map(|s| if s.touched { 255 } else { 0 });
    Picture {
        rgb,
        mask: mask.collect(),
    }
}

fn write_png(path: &Path, bytes: &[u8], color: ExtendedColorType) -> Result<(), WriteError> {
    atomic_file::write(path, |file| {
        PngEncoder::new(file)
            .write_image(bytes, SIDE as u32, SIDE as u32, color)
            .map_err(io::Error::other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::observer::Silent;

    fn all_defective(each: usize) -> Vec<Shot> {
        let settings = SyntheticSettings {
            train: 0,
            test_good: 0,
            test_each_defect: each,
            seed: 0,
        };
        let of = |kind| shots(kind, &settings);
        Kind::ALL.into_iter().flat_map(of).collect()
    }

    /// Whether each pixel differs between a picture and its clean twin.
    fn changed(one: &Picture, twin: &Picture) -> Vec<bool> {
        let pixels = one.rgb.chunks_exact(3).zip(twin.rgb.chunks_exact(3));
        pixels.map(|(a, b)| a != b).collect()
    }

    #[test]
    fn masks_are_where_the_picture_differs_from_its_clean_twin() {
        all_defective(2).par_iter().for_each(|shot| {
            let picture = shot.picture(0, true);
            let twin = shot.picture(0, false);
            assert!(twin.mask.iter().all(|&value| value == 0));
            let changed = changed(&picture, &twin);
            for (index, (&changed, &mask)) in changed.iter().zip(&picture.mask).enumerate() {
                assert!(!changed || mask == 255, "{shot:?} changes {index} unmasked");
            }
            let area = picture.mask.iter().filter(|&&value| value == 255).count();
            let differing = changed.iter().filter(|&&changed| changed).count();
            assert!(area >= 40, "{shot:?}: {area} pixels");
            assert!(
                differing * 10 >= area * 7,
                "{shot:?}: {differing} of {area} pixels differ"
            );
            for region in regions(&picture.mask) {
                assert!(
                    region.iter().any(|&index| changed[index]),
                    "{shot:?}: a region without a change"
                );
            }
        });
    }

    /// 8-connected regions of a mask, by flood filling.
    fn regions(mask: &[u8]) -> Vec<Vec<usize>> {
        let mut seen = vec![false; mask.len()];
        let mut regions = Vec::new();
        for start in 0..mask.len() {
            if mask[start] == 0 || seen[start] {
                continue;
            }
            let mut region = Vec::new();
            let mut stack = vec![start];
            seen[start] = true;
            while let Some(at) = stack.pop() {
                region.push(at);
                let (row, column) = (at / SIDE, at % SIDE);
                for r in row.saturating_sub(1)..(row + 2).min(SIDE) {
                    for c in column.saturating_sub(1)..(column + 2).min(SIDE) {
                        let next = r * SIDE + c;
                        if mask[next] != 0 && !seen[next] {
                            seen[next] = true;
                            stack.push(next);
                        }
                    }
                }
            }
            regions.push(region);
        }
        regions
    }

    #[test]
    fn faint_spots_are_small_and_faint() {
        for shot in all_defective(3) {
            if shot.part != Part::Test(Some(Defect::FaintSpot)) {
                continue;
            }
            let picture = shot.picture(0, true);
            let area = picture.mask.iter().filter(|&&value| value == 255).count();
            assert!(area * 200 <= SIDE * SIDE, "{shot:?}: {area} pixels");
            let twin = shot.picture(0, false);
            let sum = |picture: &Picture| -> f64 {
                let inside = picture.rgb.chunks_exact(3).zip(&picture.mask);
                inside.map(|(rgb, _)| f64::from(rgb[1])).sum()
            };
            let change = (sum(&twin) - sum(&picture)).abs() / area as f64 / 255.0;
            assert!((0.01..0.15).contains(&change), "{shot:?}: {change}");
        }
    }

    #[test]
    fn a_grey_level_threshold_does_not_find_the_defects() {
        // The grey levels of most defects lie within those of good images.
        let mut hidden = 0;
        let shots = all_defective(1);
        for shot in &shots {
            let picture = shot.picture(0, true);
            let twin = shot.picture(0, false);
            let mut good = twin.rgb.clone();
            good.sort_unstable();
            let (low, high) = (good[good.len() / 200], good[good.len() - good.len() / 200]);
            let values = picture.rgb.chunks_exact(3).zip(&picture.mask);
            let inside: Vec<u8> = values
                .filter(|(_, mask)| **mask == 255)
                .map(|(rgb, _)| rgb[1])
                .collect();
            let usual = inside.iter().filter(|v| (low..=high).contains(*v)).count();
            if usual * 2 > inside.len() {
                hidden += 1;
            }
        }
        assert!(hidden * 2 > shots.len(), "{hidden} of {}", shots.len());
    }

    #[test]
    fn the_written_folder_is_a_data_set_and_can_be_written_again() {
        let root = tempfile::tempdir().unwrap();
        let settings = SyntheticSettings {
            train: 3,
            test_good: 2,
            test_each_defect: 1,
            seed: 5,
        };
        for kind in Kind::ALL {
            let folder = write(root.path(), kind, &settings, &mut Silent).unwrap();
            let set = Dataset::open(&folder).unwrap();
            assert_eq!(set.name, kind.name());
            assert_eq!(set.good.len(), 3);
            assert_eq!(set.require_test().unwrap().len(), 2 + kind.defects().len());
            let names: Vec<_> = kind.defects().iter().map(|defect| defect.name()).collect();
            assert_eq!(set.defects(), names);
            let first = std::fs::read(&set.good[0]).unwrap();
            write(root.path(), kind, &settings, &mut Silent).unwrap();
            assert_eq!(std::fs::read(&set.good[0]).unwrap(), first);
            assert_ne!(std::fs::read(&set.good[1]).unwrap(), first);

            let stranger = folder.join("train/good/mine.png");
            std::fs::write(&stranger, b"mine").unwrap();
            let error = write(root.path(), kind, &settings, &mut Silent).unwrap_err();
            assert!(matches!(error, SyntheticError::InTheWay { path } if path == stranger));
        }
    }

    /// The pixels themselves, so that no other machine or library version changes them unseen.
    #[test]
    fn the_same_seed_gives_the_same_pixels_everywhere() {
        use sha2::{Digest, Sha256};
        let digests = [
            (Kind::Weave, Defect::Stain),
            (Kind::Washer, Defect::Scratch),
        ]
        .map(|(kind, defect)| {
            let shot = Shot {
                kind,
                part: Part::Test(Some(defect)),
                index: 0,
            };
            let picture = shot.picture(0, true);
            assert_eq!(picture, shot.picture(0, true));
            assert_ne!(picture, shot.picture(1, true));
            let digest = Sha256::digest(&picture.rgb);
            u64::from_be_bytes(digest[..8].try_into().unwrap())
        });
        assert_eq!(
            digests,
            [0x23b3_d8ac_72e0_5814, 0x3648_dc69_eac5_6806],
            "{digests:#x?}"
        );
    }

    #[test]
    fn a_stop_is_heard() {
        struct Stop;
        impl Observer for Stop {
            fn stop_requested(&mut self) -> bool {
                true
            }
        }
        let root = tempfile::tempdir().unwrap();
        let settings = SyntheticSettings::default();
        let error = write(root.path(), Kind::Weave, &settings, &mut Stop).unwrap_err();
        assert!(matches!(error, SyntheticError::Stopped));
    }
}
