//! A trained detector of any kind, and its file: what `inspect`, `eval`, `calibrate` and `info` work with.
//!
//! Another kind is another variant here, a name in [`DetectorKind`], and an arm in each function that the compiler then asks for.

use std::path::Path;

use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::heatmap::Heatmap;
use pupilla_core::verdict::Rule;
use pupilla_core::verdict::attribution::Explained;
use pupilla_files::atomic_file::WriteError;

use crate::detector_kind::DetectorKind;
use crate::error::ScoreError;
use crate::feature_detectors::FeatureDetector;
use crate::manifest::Manifest;
use crate::network_detectors::NetworkDetector;
use crate::record::{CalibrationManifest, DataManifest, ValidationManifest};
use crate::sampling::Sampling;
use crate::student_teacher::StudentTeacher;
use pupilla_files::weight_file::{FileHeader, WeightFile, WeightFileError};

/// A trained detector.
///
/// ```no_run
/// use pupilla::{Detector, Image, Model};
///
/// let model = Model::load("part.pupilla")?;
/// let image = Image::open("new_part.png")?;
/// let verdict = model.rule().judge(&model.explain(&image)?)?;
/// println!("{:.3} {} regions", verdict.score, verdict.regions.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub enum Model {
    /// Students that predict a teacher.
    StudentTeacher(Box<StudentTeacher>),
    /// One that compares features with those of good images.
    Features(Box<FeatureDetector>),
    /// One that compares images with what networks make of them.
    Network(Box<NetworkDetector>),
}

/// What every kind of detector says about itself.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// Its kind, and the program that wrote it.
    pub header: &'a FileHeader,
    /// Where its images came from, if they were files.
    pub data: Option<&'a DataManifest>,
    /// Number of images that it has learned from.
    pub training_images: usize,
    /// What it says about good images that it has not learned from.
    pub validation: &'a ValidationManifest,
    /// Its thresholds.
    pub calibration: CalibrationManifest,
    /// Number of threads of its training.
    pub threads: usize,
}

/// An option that this kind of detector does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option} belongs to student-teacher models, and this is a {kind}: leave it out")]
pub struct DoesNotApply {
    /// The option.
    pub option: &'static str,
    /// The detector.
    pub kind: DetectorKind,
}

impl From<StudentTeacher> for Model {
    fn from(detector: StudentTeacher) -> Self {
        Self::StudentTeacher(Box::new(detector))
    }
}

impl From<FeatureDetector> for Model {
    fn from(detector: FeatureDetector) -> Self {
        Self::Features(Box::new(detector))
    }
}

impl From<NetworkDetector> for Model {
    fn from(detector: NetworkDetector) -> Self {
        Self::Network(Box::new(detector))
    }
}

impl Model {
    /// Reads a model of any kind and checks all of it.
    ///
    /// # Errors
    /// If the file is not a whole, valid model of this format version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::open(path.as_ref())?)
    }

    /// The same for the bytes of a file that are in memory; `path` names them in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, WeightFileError> {
        Self::from_file(&WeightFile::parse(path, bytes)?)
    }

    pub(crate) fn from_file(file: &WeightFile) -> Result<Self, WeightFileError> {
        match file.kind().parse() {
            // A file of no known kind is refused by the default's reader, which names what it holds.
            Ok(DetectorKind::StudentTeacher) | Err(_) => {
                StudentTeacher::from_file(file).map(Self::from)
            }
            Ok(
                DetectorKind::NearestNeighbour
                | DetectorKind::OneClassSvm
                | DetectorKind::KMeans
                | DetectorKind::CnnDictionary
                | DetectorKind::MemoryBank
                | DetectorKind::Padim,
            ) => FeatureDetector::from_file(file).map(Self::from),
            Ok(
                DetectorKind::SquaredErrorAutoencoder
                | DetectorKind::SimilarityAutoencoder
                | DetectorKind::VariationalAutoencoder
                | DetectorKind::AnoGan,
            ) => NetworkDetector::from_file(file).map(Self::from),
        }
    }

    /// Writes the model; the file appears whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), WriteError> {
        let path = path.as_ref();
        match self {
            Self::StudentTeacher(detector) => detector.save(path),
            Self::Features(detector) => detector.save(path),
            Self::Network(detector) => detector.save(path),
        }
    }

    /// Which kind of detector it is.
    pub fn kind(&self) -> DetectorKind {
        match self {
            Self::StudentTeacher(_) => DetectorKind::StudentTeacher,
            Self::Features(detector) => detector.manifest().settings.method.kind(),
            Self::Network(detector) => detector.manifest().settings.method.kind(),
        }
    }

    /// What every kind of detector says about itself.
    pub fn about(&self) -> About<'_> {
        // Manifests of different types that have these by the same names.
        macro_rules! about {
            ($detector:expr) => {{
                let manifest = $detector.manifest();
                About {
                    header: &manifest.header,
                    data: manifest.data.as_ref(),
                    training_images: manifest.training_images,
                    validation: &manifest.validation,
                    calibration: manifest.calibration(),
                    threads: manifest.threads,
                }
            }};
        }
        match self {
            Self::StudentTeacher(detector) => about!(detector),
            Self::Features(detector) => about!(detector),
            Self::Network(detector) => about!(detector),
        }
    }

    /// Everything about it but its numbers.
    pub fn manifest(&self) -> Manifest {
        match self {
            Self::StudentTeacher(detector) => {
                Manifest::StudentTeacher(Box::new(detector.manifest().clone()))
            }
            Self::Features(detector) => Manifest::Features(Box::new(detector.manifest().clone())),
            Self::Network(detector) => Manifest::Network(Box::new(detector.manifest().clone())),
        }
    }

    /// The positions it looks at, if it has a choice of them.
    pub fn sampling(&self) -> Option<Sampling> {
        match self {
            Self::StudentTeacher(detector) => Some(detector.sampling()),
            Self::Features(_) | Self::Network(_) => None,
        }
    }

    /// The student–teacher detector, for an option that only it has.
    ///
    /// # Errors
    /// [`DoesNotApply`], with the option's name, if it is another kind.
    pub fn student_teacher(self, option: &'static str) -> Result<StudentTeacher, DoesNotApply> {
        match self {
            Self::StudentTeacher(detector) => Ok(*detector),
            Self::Features(_) | Self::Network(_) => Err(DoesNotApply {
                option,
                kind: self.kind(),
            }),
        }
    }

    /// What the model calls defective: its own thresholds, regions of any size, anywhere in the image.
    pub fn rule(&self) -> Rule {
        let thresholds = self.about().calibration.thresholds;
        Rule {
            image_threshold: thresholds.image.value,
            pixel_threshold: thresholds.pixel.value,
            min_area: 1,
            inspected: None,
        }
    }

    /// The colours of the model's maps: those of its kind around its image threshold ([`DetectorKind::heatmap`]).
    pub fn heatmap(&self) -> Heatmap {
        self.kind().heatmap(self.rule().image_threshold)
    }

    /// The same detector with other thresholds.
    #[must_use]
    pub fn with_calibration(self, calibration: CalibrationManifest) -> Self {
        match self {
            Self::StudentTeacher(detector) => detector.with_calibration(calibration).into(),
            Self::Features(detector) => detector.with_calibration(calibration).into(),
            Self::Network(detector) => detector.with_calibration(calibration).into(),
        }
    }
}

impl Detector for Model {
    type Error = ScoreError;

    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        match self {
            Self::StudentTeacher(detector) => detector.anomaly_map(image),
            Self::Features(detector) => detector.anomaly_map(image),
            Self::Network(detector) => detector.anomaly_map(image),
        }
    }

    fn explain(&self, image: &Image) -> Result<Explained, ScoreError> {
        match self {
            Self::StudentTeacher(detector) => detector.explain(image),
            Self::Features(detector) => detector.explain(image),
            Self::Network(detector) => detector.explain(image),
        }
    }
}
