//! Fitting: from the features of good images to a trained detector.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::calibration::WantedRates;

use super::config::EmbeddingConfig;
use super::features::{Described, Features, Images};
use super::in_turn;
use super::inspect::EmbeddingDetector;
use super::model_file::EmbeddingManifest;
use crate::error::TrainError;
use crate::manifest::{Manifest, Nothing};
use crate::training::calibrate::validate;
use crate::training::{Checked, check_counts};

impl Fit for Checked<'_, EmbeddingConfig> {
    type Detector = EmbeddingDetector;
    type Error = TrainError;

    /// Of few images, the thresholds come from all images, each scored by a model that has not learned the image.
    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<EmbeddingDetector, TrainError> {
        let settings = &self.settings;
        let method = settings.method.any();
        check_counts(training, validation)?;
        // Wrong images are found before any work, not after.
        for images in [training, validation] {
            let described = self.features(images);
            (0..images.len()).try_for_each(|index| described.grid(index).map(|_| ()))?;
        }
        method.check_features(&self.features(training))?;

        let few = in_turn::describe_few(self, [training, validation], observer)?;
        let (learned, held_back) = match &few {
            Some(few) => {
                let (learned, held_back) = few.split_at(training.len());
                (self.described(learned), self.described(held_back))
            }
            None => (self.features(training), self.features(validation)),
        };
        let kept = method.fit(&learned, &held_back, observer)?;
        let manifest = EmbeddingManifest {
            settings: settings.clone(),
            features: self.extractor.manifest(),
            fitted: kept.sizes(),
        };
        let kind = settings.method.kind().name();
        let mut detector = EmbeddingDetector {
            manifest: Manifest::new(kind, manifest, training.len(), Nothing {}),
            extractor: self.extractor.clone(),
            kept,
        };
        let Some(few) = &few else {
            validate(&mut detector, validation, settings.false_reject, observer)?;
            return Ok(detector);
        };
        validate(&mut detector, validation, WantedRates::default(), observer)?;
        in_turn::calibrate(self, few, &mut detector, observer)?;
        Ok(detector)
    }
}

impl EmbeddingConfig {
    /// The features of images.
    pub(super) fn features<'a>(&'a self, images: &'a dyn ImageSource) -> Features<'a> {
        Features {
            images: Images::Read(images),
            extractor: &self.extractor,
            settings: &self.settings,
        }
    }

    /// The features of images that are described already.
    pub(super) fn described<'a>(
        &'a self,
        images: impl IntoIterator<Item = &'a Described>,
    ) -> Features<'a> {
        Features {
            images: Images::Described(images.into_iter().collect()),
            extractor: &self.extractor,
            settings: &self.settings,
        }
    }
}
