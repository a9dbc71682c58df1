//! A trained detector of any kind, and its file: what `inspect`, `eval`, `calibrate` and `info` work with.
//!
//! A new family needs a new variant here. The compiler then asks for an arm in each function.

use std::path::Path;

use pupilla_core::data::Acquisition;
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadSettings;
use pupilla_core::image::resize::Resize;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::heatmap::Heatmap;
use pupilla_core::observer::StopFlag;
use pupilla_core::verdict::Rule;
use pupilla_core::verdict::attribution::Explained;
use pupilla_files::atomic_file::WriteError;
use serde::Serialize;

use pupilla_files::weight_file::{FileHeader, WeightFile, WeightFileError};

use crate::detectors::embedding::inspect::EmbeddingDetector;
use crate::detectors::embedding::model_file::EmbeddingManifest;
use crate::detectors::kind::{DetectorKind, Family};
use crate::detectors::reconstruction::inspect::ReconstructionDetector;
use crate::detectors::reconstruction::model_file::ReconstructionManifest;
use crate::detectors::student_teacher::inspect::StudentTeacher;
use crate::detectors::student_teacher::model_file::{
    StudentTeacherManifest, StudentTeacherTraining,
};
use crate::error::ScoreError;
use crate::features::teacher::{self, TeacherManifest};
use crate::features::{BackboneManifest, Sampling, Teacher};
use crate::manifest::{CalibrationManifest, DataManifest, Manifest, Trained, ValidationManifest};

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
    /// A detector that compares features with the features of good images.
    Embedding(Box<EmbeddingDetector>),
    /// A detector that compares images with their reconstructions.
    Reconstruction(Box<ReconstructionDetector>),
}

/// The facts that the manifest of every kind of detector has.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct About<'a> {
    /// Its kind, and the program that wrote it.
    pub header: &'a FileHeader,
    /// Where its images came from, if they were files.
    pub data: Option<&'a DataManifest>,
    /// Number of images that it has learned from.
    pub training_images: usize,
    /// The scores of good images that it has not learned from.
    pub validation: &'a ValidationManifest,
    /// Its thresholds.
    pub calibration: CalibrationManifest,
    /// Number of threads of its training.
    pub threads: usize,
}

impl<'a, M, R> From<&'a Manifest<M, R>> for About<'a> {
    fn from(manifest: &'a Manifest<M, R>) -> Self {
        Self {
            header: &manifest.header,
            data: manifest.data.as_ref(),
            training_images: manifest.training_images,
            validation: &manifest.validation,
            calibration: manifest.calibration(),
            threads: manifest.threads,
        }
    }
}

/// The manifest of a teacher's or a model's file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FileManifest {
    /// Of a teacher.
    Teacher(Box<TeacherManifest>),
    /// Of a student–teacher detector.
    StudentTeacher(Box<Manifest<StudentTeacherManifest, StudentTeacherTraining>>),
    /// Of a detector that compares features.
    Embedding(Box<Manifest<EmbeddingManifest>>),
    /// Of a detector that reconstructs images.
    Reconstruction(Box<Manifest<ReconstructionManifest>>),
}

impl FileManifest {
    /// Reads the manifest of a file, after checking all of the file.
    ///
    /// # Errors
    /// If it is not a whole, valid teacher or model of this format version.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, WeightFileError> {
        let file = WeightFile::open(path.as_ref())?;
        if file.kind() == teacher::KIND {
            let teacher = Teacher::from_file(&file)?;
            Ok(Self::Teacher(Box::new(teacher.manifest().clone())))
        } else {
            Ok(Model::from_file(&file)?.manifest())
        }
    }

    /// The facts that every model has; `None` for a teacher.
    pub fn about(&self) -> Option<About<'_>> {
        match self {
            Self::Teacher(_) => None,
            Self::StudentTeacher(model) => Some((&**model).into()),
            Self::Embedding(model) => Some((&**model).into()),
            Self::Reconstruction(model) => Some((&**model).into()),
        }
    }

    /// How a model resizes images; `None` for a teacher.
    pub fn resize(&self) -> Option<Resize> {
        match self {
            Self::Teacher(_) => None,
            Self::StudentTeacher(model) => Some(model.method.settings.resize),
            Self::Embedding(model) => Some(model.method.settings.resize),
            Self::Reconstruction(model) => Some(model.method.settings.resize),
        }
    }

    /// The teacher of a teacher's file, or the teachers of a model.
    pub fn teachers(&self) -> Vec<&TeacherManifest> {
        match self {
            Self::Teacher(teacher) => vec![teacher],
            Self::StudentTeacher(model) => {
                let scales = model.training.scales.iter();
                scales
                    .filter_map(|scale| scale.teacher.patch_network())
                    .collect()
            }
            Self::Embedding(model) => model.method.features.patch_network().into_iter().collect(),
            Self::Reconstruction(_) => Vec::new(),
        }
    }

    /// The pretrained network whose features the model uses, if it uses one.
    pub fn backbone(&self) -> Option<&BackboneManifest> {
        match self {
            Self::StudentTeacher(model) => {
                let mut scales = model.training.scales.iter();
                scales.find_map(|scale| scale.teacher.backbone())
            }
            Self::Embedding(model) => model.method.features.backbone(),
            Self::Teacher(_) | Self::Reconstruction(_) => None,
        }
    }
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

impl From<EmbeddingDetector> for Model {
    fn from(detector: EmbeddingDetector) -> Self {
        Self::Embedding(Box::new(detector))
    }
}

impl From<ReconstructionDetector> for Model {
    fn from(detector: ReconstructionDetector) -> Self {
        Self::Reconstruction(Box::new(detector))
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
        let Some(kind) = DetectorKind::of_name(file.kind()) else {
            return Err(file.unknown_kind(&DetectorKind::ALL.map(DetectorKind::name)));
        };
        match kind.family() {
            Family::StudentTeacher => StudentTeacher::from_file(file).map(Self::from),
            Family::Embedding => EmbeddingDetector::from_file(file).map(Self::from),
            Family::Reconstruction => ReconstructionDetector::from_file(file).map(Self::from),
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
            Self::Embedding(detector) => detector.save(path),
            Self::Reconstruction(detector) => detector.save(path),
        }
    }

    /// Which kind of detector it is.
    pub fn kind(&self) -> DetectorKind {
        match self {
            Self::StudentTeacher(_) => DetectorKind::StudentTeacher,
            Self::Embedding(detector) => detector.manifest().method.settings.method.kind(),
            Self::Reconstruction(detector) => detector.manifest().method.settings.method.kind(),
        }
    }

    /// The facts that the manifest of every kind of detector has.
    pub fn about(&self) -> About<'_> {
        match self {
            Self::StudentTeacher(detector) => detector.manifest().into(),
            Self::Embedding(detector) => detector.manifest().into(),
            Self::Reconstruction(detector) => detector.manifest().into(),
        }
    }

    /// How image files are read for it: as those of its training.
    pub fn read_settings(&self) -> ReadSettings {
        let images = self.about().data.and_then(|data| data.images.as_ref());
        ReadSettings {
            bits: images.and_then(|images| images.told_bits),
            ..ReadSettings::default()
        }
    }

    /// How an image was taken otherwise than the images that the model learned from, in ways that may make a good part look defective.
    /// Empty if the image is alike; `None` if the model does not know: it is of an older version, or its images were no files.
    pub fn unlike_training(&self, image: &Acquisition) -> Option<Vec<String>> {
        let images = self.about().data?.images.as_ref()?;
        Some(images.unlike(image))
    }

    /// Its manifest: everything but its arrays.
    pub fn manifest(&self) -> FileManifest {
        match self {
            Self::StudentTeacher(detector) => {
                FileManifest::StudentTeacher(Box::new(detector.manifest().clone()))
            }
            Self::Embedding(detector) => {
                FileManifest::Embedding(Box::new(detector.manifest().clone()))
            }
            Self::Reconstruction(detector) => {
                FileManifest::Reconstruction(Box::new(detector.manifest().clone()))
            }
        }
    }

    /// The positions at which it scores, if it has a choice of them.
    pub fn sampling(&self) -> Option<Sampling> {
        match self {
            Self::StudentTeacher(detector) => Some(detector.sampling()),
            Self::Embedding(_) | Self::Reconstruction(_) => None,
        }
    }

    /// The student–teacher detector, for an option that only it has.
    ///
    /// # Errors
    /// [`DoesNotApply`], with the option's name, if it is another kind.
    pub fn student_teacher(self, option: &'static str) -> Result<StudentTeacher, DoesNotApply> {
        match self {
            Self::StudentTeacher(detector) => Ok(*detector),
            Self::Embedding(_) | Self::Reconstruction(_) => Err(DoesNotApply {
                option,
                kind: self.kind(),
            }),
        }
    }

    /// The model's rule: its own thresholds, regions of any size, anywhere in the image.
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
            Self::Embedding(detector) => detector.with_calibration(calibration).into(),
            Self::Reconstruction(detector) => detector.with_calibration(calibration).into(),
        }
    }
}

impl Detector for Model {
    type Error = ScoreError;

    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        match self {
            Self::StudentTeacher(detector) => detector.anomaly_map(image),
            Self::Embedding(detector) => detector.anomaly_map(image),
            Self::Reconstruction(detector) => detector.anomaly_map(image),
        }
    }

    fn explain(&self, image: &Image) -> Result<Explained, ScoreError> {
        match self {
            Self::StudentTeacher(detector) => detector.explain(image),
            Self::Embedding(detector) => detector.explain(image),
            Self::Reconstruction(detector) => detector.explain(image),
        }
    }

    fn explain_until(&self, image: &Image, stop: &StopFlag) -> Result<Explained, ScoreError> {
        match self {
            Self::StudentTeacher(detector) => detector.explain_until(image, stop),
            Self::Embedding(detector) => detector.explain_until(image, stop),
            Self::Reconstruction(detector) => detector.explain_until(image, stop),
        }
    }
}
