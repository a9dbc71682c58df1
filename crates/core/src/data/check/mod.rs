//! Looks for problems in a data set, before training and measuring.
//!
//! Decodes every image and every mask once. Finds files that cannot be read, masks that do not fit, and images that occur twice (also
//! between the training part and the test part). Finds good images that look unlike the other images (by robust statistics on
//! thumbnails: `docs/reference/evaluation.md`, the module `outliers`). Changes nothing.

mod acquisition;
mod duplicates;
mod masks;
mod outliers;
mod places;
mod summary;

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::mask::GroundTruth;
use crate::data::{Dataset, Layout, PassedOver};
use crate::image::read::ReadSettings;
use crate::observer::Observer;
use summary::ImageSummary;

/// The findings in a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetCheck {
    /// The data set's name.
    pub name: String,
    /// How its files are arranged.
    pub layout: Layout,
    /// Good images to learn from.
    pub good: usize,
    /// Images to test with.
    pub test: usize,
    /// Findings that make figures wrong or stop a run.
    pub problems: usize,
    /// Findings that are worth a look.
    pub notices: usize,
    /// Whether outliers were looked for: that takes [`OUTLIERS_NEED`] readable good images.
    pub outliers_looked_for: bool,
    /// Mask pixels above this value (of 255) counted as defective.
    pub mask_threshold: u8,
    /// What lies in the folders and was not looked at.
    pub passed_over: PassedOver,
    /// Everything, problems first.
    pub findings: Vec<Finding>,
}

/// The fewest good images among which outliers are looked for.
pub const OUTLIERS_NEED: usize = 10;

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Whether it makes figures wrong.
    pub severity: Severity,
    /// For people: what it is, and what to do.
    pub text: String,
    /// The files concerned.
    pub paths: Vec<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It stops a run, or makes figures wrong.
    Problem,
    /// It may be as intended.
    Notice,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An image cannot be read.
    UnreadableImage,
    /// The same picture to learn from and to test with.
    Leak,
    /// The same picture under two labels: good and defective, or two kinds of defects.
    Contradiction,
    /// There is no image at all, or no good image to learn from.
    NoImages,
    /// Images without a label in the test part.
    NoLabel,
    /// Some defective images have a mask, others have none.
    MissingMask,
    /// An image with two masks.
    TwoMasks,
    /// A mask cannot be read.
    UnreadableMask,
    /// A mask and its image differ in size.
    MaskSize,
    /// The mask of a defective image marks nothing.
    BlankMask,
    /// The mask of a good image marks a defect.
    MaskOfGoodImage,
    /// A mask marks every pixel.
    MaskOfEverything,
    /// The marks lie in the alpha channel, which is not read.
    MaskInAlpha,
    /// The same picture twice in one part, with one label.
    Duplicate,
    /// Masks with grey levels: the threshold decides.
    GreyMasks,
    /// Masks that belong to no image.
    MaskWithoutImage,
    /// No defective image has a mask.
    NoMasks,
    /// Masks that mark more than half of their image.
    MostlyMarked,
    /// The images to learn from differ in depth, size or colour, or use a part of their range.
    Mixed,
    /// Test images that were taken otherwise than the images to learn from.
    UnlikeTraining,
    /// There are images to test with, and none to learn from.
    NothingToLearn,
    /// A folder of good images whose name says otherwise.
    CalledBad,
    /// Images that are not taken: in folders below, in formats that are not read, or by their names.
    ImagesPassedOver,
    /// A good image that looks unlike the others.
    Outlier,
}

impl FindingKind {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::Duplicate
            | Self::GreyMasks
            | Self::MaskWithoutImage
            | Self::NoMasks
            | Self::MostlyMarked
            | Self::ImagesPassedOver
            | Self::Mixed
            | Self::NothingToLearn
            | Self::CalledBad
            | Self::UnlikeTraining
            | Self::Outlier => Severity::Notice,
            _ => Severity::Problem,
        }
    }
}

impl Finding {
    fn new(kind: FindingKind, text: String, paths: &[&Path]) -> Self {
        let paths = paths.iter().map(|path| path.display().to_string());
        Self {
            kind,
            severity: kind.severity(),
            text,
            paths: paths.collect(),
        }
    }
}

/// A data set could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetCheckError {
    /// The observer asked to stop.
    #[error("stopped on request")]
    Stopped,
}

/// How a data set is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// How image files are decoded.
    pub read: ReadSettings,
    /// Mask pixels above this value (of 255) are defective ([`Mask::read`](crate::data::mask::Mask::read)).
    pub mask_threshold: u8,
}

/// Checks a data set.
///
/// # Errors
/// [`DatasetCheckError`]; a file that cannot be read is a finding, no error.
pub fn check(
    dataset: &Dataset,
    settings: &CheckSettings,
    observer: &mut dyn Observer,
) -> Result<DatasetCheck, DatasetCheckError> {
    /// Files between two calls of the observer.
    const PIECE: usize = 32;
    let mut findings = places::find(dataset);
    let images: Vec<Labelled<'_>> = labelled(dataset).collect();
    observer.start(&format!("checking {}", dataset.name), images.len() as u64);
    let mut read_images: Vec<(&Labelled<'_>, ImageSummary)> = Vec::with_capacity(images.len());
    for (piece, some) in images.chunks(PIECE).enumerate() {
        if observer.stop_requested() {
            return Err(DatasetCheckError::Stopped);
        }
        let read: Vec<_> = some
            .par_iter()
            .map(|image| ImageSummary::read(image.path, &settings.read))
            .collect();
        for (image, read) in some.iter().zip(read) {
            match read {
                Ok(found) => read_images.push((image, found)),
                Err(error) => {
                    let text = error.to_string();
                    let kind = FindingKind::UnreadableImage;
                    findings.push(Finding::new(kind, text, &[image.path]));
                }
            }
        }
        observer.advance((piece * PIECE + some.len()) as u64, None);
    }
    observer.finish();

    findings.extend(duplicates::find(&read_images));
    findings.extend(acquisition::find(&read_images, settings.read.bits));
    findings.extend(masks::misplaced(dataset));
    findings.extend(masks::find(&read_images, settings.mask_threshold));
    let good: Vec<_> = read_images
        .iter()
        .filter(|(image, _)| image.defect.is_none())
        .map(|(image, summary)| (image.path, &summary.appearance))
        .collect();
    findings.extend(outliers::find(&good));
    findings.sort_by_key(|finding| (finding.severity, finding.kind));
    let count = |severity| {
        let same = findings.iter().filter(|one| one.severity == severity);
        same.count()
    };
    Ok(DatasetCheck {
        name: dataset.name.clone(),
        layout: dataset.layout,
        good: dataset.good.len(),
        test: dataset.test.len(),
        problems: count(Severity::Problem),
        notices: count(Severity::Notice),
        outliers_looked_for: good.len() >= OUTLIERS_NEED,
        mask_threshold: settings.mask_threshold,
        passed_over: dataset.passed_over.clone(),
        findings,
    })
}

/// An image and what its place says of it.
struct Labelled<'a> {
    path: &'a Path,
    /// To learn from, not to test with.
    training: bool,
    defect: Option<&'a str>,
    mask: Option<&'a GroundTruth>,
}

fn labelled(dataset: &Dataset) -> impl Iterator<Item = Labelled<'_>> {
    let good = dataset.good.iter().chain(&dataset.validation);
    let training = good.map(|path| Labelled {
        path,
        training: true,
        defect: None,
        mask: None,
    });
    let test = dataset.test.iter().map(|test| Labelled {
        path: &test.path,
        training: false,
        defect: test.defect.as_deref(),
        mask: test.mask.as_ref(),
    });
    training.chain(test)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::Silent;
    use ::image::{GrayImage, Luma, Rgb, RgbImage};
    use std::fs;

    /// A smooth surface with a phase and a little noise of its own.
    fn part(seed: u32) -> RgbImage {
        RgbImage::from_fn(48, 40, |x, y| {
            let noise = (x * 7919 + y * 104_729 + seed * 1_299_709) % 13;
            let wave = (0.3 * (x + 2 * y) as f32 + seed as f32).sin();
            let value = (120.0 + 40.0 * wave) as u8 + noise as u8;
            Rgb([value, value / 2, 200 - value])
        })
    }

    fn data() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["train/good", "test/good", "test/dent", "ground_truth/dent"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for n in 0..12 {
            let save = |image: RgbImage, name: String| image.save(root.path().join(name)).unwrap();
            save(part(n), format!("train/good/{n:03}.png"));
            if n < 3 {
                save(part(100 + n), format!("test/good/{n:03}.png"));
                save(part(200 + n), format!("test/dent/{n:03}.png"));
                let mask =
                    GrayImage::from_fn(48, 40, |x, y| Luma([u8::from(x < 9 && y < 9) * 255]));
                let name = format!("ground_truth/dent/{n:03}_mask.png");
                mask.save(root.path().join(name)).unwrap();
            }
        }
        root
    }

    fn found(root: &tempfile::TempDir) -> Vec<(FindingKind, Vec<String>)> {
        let dataset = Dataset::open(root.path()).unwrap();
        let check = check(&dataset, &CheckSettings::default(), &mut Silent).unwrap();
        assert_eq!(check.problems + check.notices, check.findings.len());
        let short = |path: &String| {
            let path = Path::new(path).strip_prefix(root.path()).unwrap();
            path.to_string_lossy().replace('\\', "/")
        };
        let findings = check.findings.iter();
        findings
            .map(|finding| (finding.kind, finding.paths.iter().map(short).collect()))
            .collect()
    }

    #[test]
    fn a_good_set_has_nothing_to_tell() {
        let root = data();
        let dataset = Dataset::open(root.path()).unwrap();
        let check = check(&dataset, &CheckSettings::default(), &mut Silent).unwrap();
        assert_eq!(check.findings, []);
        assert_eq!((check.good, check.test), (12, 6));
        assert!(check.outliers_looked_for);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_files() {
        use FindingKind::*;
        let root = data();
        let at = |name: &str| root.path().join(name);
        fs::copy(at("train/good/001.png"), at("train/good/020.png")).unwrap();
        // The same pixels in other bytes, to learn from and to test with.
        part(2).save(at("test/good/002.bmp")).unwrap();
        part(200).save(at("test/good/200.png")).unwrap();
        fs::write(at("train/good/021.png"), b"").unwrap();
        // Half as bright and flat.
        RgbImage::from_pixel(48, 40, Rgb([20, 20, 20]))
            .save(at("train/good/022.png"))
            .unwrap();
        GrayImage::new(48, 40)
            .save(at("ground_truth/dent/000_mask.png"))
            .unwrap();
        GrayImage::new(40, 48)
            .save(at("ground_truth/dent/001_mask.png"))
            .unwrap();
        GrayImage::from_fn(48, 40, |x, _| Luma([x as u8 * 5]))
            .save(at("ground_truth/dent/002_mask.png"))
            .unwrap();
        part(203).save(at("test/dent/003.png")).unwrap();
        part(204).save(at("test/dent/004.png")).unwrap();
        fs::write(at("ground_truth/dent/004_mask.png"), b"no picture").unwrap();
        part(205).save(at("test/dent/005.png")).unwrap();
        for name in ["005_mask.png", "005.png", "009_mask.png"] {
            let mask = GrayImage::from_pixel(48, 40, Luma([255]));
            mask.save(at("ground_truth/dent").join(name)).unwrap();
        }
        fs::create_dir_all(at("ground_truth/good")).unwrap();
        GrayImage::from_pixel(48, 40, Luma([9]))
            .save(at("ground_truth/good/000.png"))
            .unwrap();
        let expected: Vec<(FindingKind, Vec<&str>)> = vec![
            (UnreadableImage, vec!["train/good/021.png"]),
            (Leak, vec!["train/good/002.png", "test/good/002.bmp"]),
            (
                Contradiction,
                vec!["test/dent/000.png", "test/good/200.png"],
            ),
            (MissingMask, vec!["test/dent/003.png"]),
            (
                TwoMasks,
                vec![
                    "test/dent/005.png",
                    "ground_truth/dent/005.png",
                    "ground_truth/dent/005_mask.png",
                ],
            ),
            (UnreadableMask, vec!["ground_truth/dent/004_mask.png"]),
            (MaskSize, vec!["ground_truth/dent/001_mask.png"]),
            (BlankMask, vec!["ground_truth/dent/000_mask.png"]),
            (MaskOfGoodImage, vec!["ground_truth/good/000.png"]),
            (Duplicate, vec!["train/good/001.png", "train/good/020.png"]),
            (GreyMasks, vec!["ground_truth/dent/002_mask.png"]),
            (MaskWithoutImage, vec!["ground_truth/dent/009_mask.png"]),
            (MostlyMarked, vec!["ground_truth/dent/002_mask.png"]),
            // One of the images is dark, and grey.
            (Mixed, vec![]),
            (Mixed, vec![]),
            (Outlier, vec!["train/good/022.png"]),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(kind, paths)| (kind, paths.into_iter().map(str::to_owned).collect()))
            .collect();
        let found = found(&root);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_plain_folder_is_checked_too() {
        let root = data();
        let good = root.path().join("train/good");
        let dataset = Dataset::open(&good).unwrap();
        let result = check(&dataset, &CheckSettings::default(), &mut Silent).unwrap();
        assert_eq!(
            (result.good, result.test, result.findings.len()),
            (12, 0, 0)
        );
    }
}
