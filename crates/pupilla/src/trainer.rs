//! The short way: a detector of any kind, trained on a folder of good images.

use pupilla_core::data::Dataset;
use pupilla_core::data::image_source::FileSettings;
use pupilla_core::detector::Fit;
use pupilla_core::image::read::ReadSettings;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::WantedRates;

use crate::detectors::DetectorConfig;
use crate::detectors::embedding::{EmbeddingConfig, Method};
use crate::detectors::kind::{DetectorKind, Family};
use crate::detectors::reconstruction::ReconstructionConfig;
use crate::detectors::student_teacher::{ScaleTeacher, StudentTeacherConfig, Training};
use crate::error::TrainError;
use crate::features::{BackboneExtractor, Extractor, Teacher};
use crate::manifest::Trained;
use crate::model::Model;
use crate::patch_network::ReceptiveField;
use crate::training::prepared_images::{FitError, PreparedImages};
use crate::training::{Checked, Config, Length};

/// What to train. A setting that is not given has the default of the detector.
///
/// ```no_run
/// use pupilla::{Dataset, DetectorKind, Length, Silent, Trainer};
///
/// let good = Dataset::open("good_images")?;
/// let model = Trainer::new().train(&good, &mut Silent)?;
///
/// let trainer = Trainer::new().detector(DetectorKind::SimilarityAutoencoder);
/// let other = trainer.length(Length::Steps(500)).seed(1).train(&good, &mut Silent)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trainer {
    detector: Option<DetectorKind>,
    backbone: Option<BackboneExtractor>,
    scales: Option<Vec<ReceptiveField>>,
    resize: Option<Resize>,
    length: Option<Length>,
    seed: u64,
    false_reject: WantedRates,
    files: FileSettings,
}

impl Trainer {
    /// The default detector with its default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which detector: without it, [`DetectorKind::default`], or students ([`DetectorKind::StudentTeacher`]) if patch sizes or a length
    /// are given.
    #[must_use]
    pub fn detector(self, detector: DetectorKind) -> Self {
        let detector = Some(detector);
        Self { detector, ..self }
    }

    /// A pretrained network that gives the features. Embedding detectors whose publication compares such features take the built-in
    /// network ([`BackboneExtractor::built_in`]) if neither a network nor patch sizes are given; other detectors take the built-in
    /// teachers.
    #[must_use]
    pub fn backbone(self, backbone: BackboneExtractor) -> Self {
        let backbone = Some(backbone);
        Self { backbone, ..self }
    }

    /// The patch sizes: one to three for students, one for a detector that compares features of patches.
    #[must_use]
    pub fn scales(self, scales: &[ReceptiveField]) -> Self {
        let scales = Some(scales.to_vec());
        Self { scales, ..self }
    }

    /// How images are resized before the networks see them.
    #[must_use]
    pub fn resize(self, resize: Resize) -> Self {
        let resize = Some(resize);
        Self { resize, ..self }
    }

    /// How long to train a detector that trains in steps.
    #[must_use]
    pub fn length(self, length: Length) -> Self {
        let length = Some(length);
        Self { length, ..self }
    }

    /// Seed of everything random (0).
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The shares of good images and good pixels that the thresholds may reject (without a share: the highest score of a validation
    /// image).
    #[must_use]
    pub fn false_reject(self, false_reject: WantedRates) -> Self {
        Self {
            false_reject,
            ..self
        }
    }

    /// Whether unreadable images are reported and left out, instead of ending the training.
    #[must_use]
    pub fn skip_unreadable(self, skip_unreadable: bool) -> Self {
        let files = FileSettings {
            skip_unreadable,
            ..self.files
        };
        Self { files, ..self }
    }

    /// The bits of a value that the camera uses, if its files have more ([`ReadSettings::bits`]). The model keeps them.
    #[must_use]
    pub fn bits(self, bits: u8) -> Self {
        let read = ReadSettings {
            bits: Some(bits),
            ..self.files.read
        };
        let files = FileSettings { read, ..self.files };
        Self { files, ..self }
    }

    /// The detector's configuration, in which every other setting can be changed.
    ///
    /// # Errors
    /// If a setting was given that the detector does not have: a pretrained network or patch sizes for a reconstruction detector, a
    /// length for a detector that does not train in steps.
    pub fn config(&self) -> Result<DetectorConfig, FitError> {
        let config = match self.kind().family() {
            Family::StudentTeacher => DetectorConfig::StudentTeacher(self.students()?),
            Family::Embedding => DetectorConfig::Embedding(Box::new(self.embedding()?)),
            Family::Reconstruction => DetectorConfig::Reconstruction(self.reconstruction()?),
        };
        Ok(config)
    }

    /// Trains on the good images of a data set, of which some are kept back for validation ([`PreparedImages`]).
    ///
    /// # Errors
    /// As [`config`](Self::config), [`PreparedImages::open`] and [`PreparedImages::fit`].
    pub fn train(&self, good: &Dataset, observer: &mut dyn Observer) -> Result<Model, FitError> {
        Ok(match self.config()? {
            DetectorConfig::StudentTeacher(config) => self.fit(&config, good, observer)?.into(),
            DetectorConfig::Embedding(config) => self.fit(&*config, good, observer)?.into(),
            DetectorConfig::Reconstruction(config) => self.fit(&config, good, observer)?.into(),
        })
    }

    fn kind(&self) -> DetectorKind {
        let of_students = self.scales.is_some() || self.length.is_some();
        let usual = if of_students {
            DetectorKind::StudentTeacher
        } else {
            DetectorKind::default()
        };
        self.detector.unwrap_or(usual)
    }

    fn fit<C: Config, D: Trained>(
        &self,
        config: &C,
        good: &Dataset,
        observer: &mut dyn Observer,
    ) -> Result<D, FitError>
    where
        for<'a> Checked<'a, C>: Fit<Detector = D, Error = TrainError>,
    {
        let config = config.check()?;
        let files = PreparedImages::open(good, self.seed, &self.files, observer)?;
        Ok(files.fit(&config, observer)?)
    }

    fn students(&self) -> Result<StudentTeacherConfig, FitError> {
        let usual = match self.backbone {
            Some(_) => StudentTeacherConfig::BACKBONE_SCALES.to_vec(),
            None => StudentTeacherConfig::usual_scales(self.length),
        };
        let scales = self.scales.as_ref().unwrap_or(&usual);
        let teacher = |&field: &ReceptiveField| match &self.backbone {
            Some(backbone) => Ok(ScaleTeacher::backbone(field, backbone.clone())),
            None => Teacher::built_in(field).map(ScaleTeacher::from),
        };
        let teachers = scales.iter().map(teacher).collect::<Result<_, _>>()?;
        let mut config = StudentTeacherConfig::new(teachers);
        let settings = &mut config.settings;
        settings.resize = self.resize.unwrap_or(settings.resize);
        settings.seed = self.seed;
        settings.false_reject = self.false_reject;
        if let (Training::Quick(quick), Some(length)) = (&mut settings.training, self.length) {
            quick.length = length;
        }
        Ok(config)
    }

    fn embedding(&self) -> Result<EmbeddingConfig, FitError> {
        if self.length.is_some() {
            return Err(self.lacks("length", "it is not trained in steps"));
        }
        let on_backbone = Method::of(self.kind()).is_some_and(|method| method.on_backbone());
        let extractor: Extractor = match (&self.backbone, self.scales.as_deref()) {
            (Some(backbone), _) => backbone.clone().into(),
            (None, None) if on_backbone => BackboneExtractor::built_in()?.into(),
            (None, None) => Teacher::built_in(EmbeddingConfig::SCALE)?.into(),
            (None, Some([field])) => Teacher::built_in(*field)?.into(),
            (None, Some(_)) => return Err(self.lacks("scales", "it looks at one patch size")),
        };
        let config = EmbeddingConfig::new(self.kind(), extractor);
        let Some(mut config) = config else {
            unreachable!("the family's kinds have a configuration")
        };
        let settings = &mut config.settings;
        settings.resize = self.resize.unwrap_or(settings.resize);
        settings.seed = self.seed;
        settings.false_reject = self.false_reject;
        Ok(config)
    }

    fn reconstruction(&self) -> Result<ReconstructionConfig, FitError> {
        if self.backbone.is_some() {
            return Err(self.lacks("backbone", "it looks at pixels"));
        }
        if self.scales.is_some() {
            return Err(self.lacks("scales", "it looks at whole images"));
        }
        let Some(mut config) = ReconstructionConfig::new(self.kind()) else {
            unreachable!("the family's kinds have a configuration")
        };
        let settings = &mut config.settings;
        settings.resize = self.resize.unwrap_or(settings.resize);
        settings.training.length = self.length.unwrap_or(settings.training.length);
        settings.seed = self.seed;
        settings.false_reject = self.false_reject;
        Ok(config)
    }

    fn lacks(&self, setting: &'static str, why: &str) -> FitError {
        let reason = format!("the detector {} does not have it: {why}", self.kind());
        TrainError::Setting { setting, reason }.into()
    }
}
