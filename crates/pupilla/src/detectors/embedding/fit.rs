//! Fitting: from the features of good images to a trained detector.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::observer::Observer;

use super::config::EmbeddingConfig;
use super::features::Features;
use super::inspect::EmbeddingDetector;
use super::model_file::EmbeddingManifest;
use crate::error::TrainError;
use crate::manifest::{Manifest, Nothing};
use crate::training::calibrate::validate;
use crate::training::{Checked, check_counts};

impl Fit for Checked<'_, EmbeddingConfig> {
    type Detector = EmbeddingDetector;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<EmbeddingDetector, TrainError> {
        let settings = &self.settings;
        let features = |images| Features {
            images,
            extractor: &self.extractor,
            settings,
        };
        check_counts(training, validation)?;
        // Wrong images are found before any work, not after.
        for images in [training, validation] {
            let described = features(images);
            (0..images.len()).try_for_each(|index| described.grid(index).map(|_| ()))?;
        }
        let training_images = training.len();
        let training = features(training);
        settings.method.any().check_features(&training)?;
        let kept = settings
            .method
            .any()
            .fit(&training, &features(validation), observer)?;
        let method = EmbeddingManifest {
            settings: settings.clone(),
            features: self.extractor.manifest(),
            fitted: kept.sizes(),
        };
        let kind = settings.method.kind().name();
        let mut detector = EmbeddingDetector {
            manifest: Manifest::new(kind, method, training_images, Nothing {}),
            extractor: self.extractor.clone(),
            kept,
        };
        validate(&mut detector, validation, settings.false_reject, observer)?;
        Ok(detector)
    }
}
