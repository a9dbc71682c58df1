//! Fitting: from the features of good images to what a detector keeps of them.

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::observer::Observer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::{FeatureDetectorConfig, Gamma, Method};
use super::coreset;
use super::detector::FeatureDetector;
use super::fitted::Fitted;
use super::k_means;
use super::matrix::Matrix;
use super::model_file::FeatureManifest;
use super::one_class_svm::{self, OneClassSvm};
use super::position_gaussians::{Learning, triangle};
use super::principal_components::PrincipalComponents;
use super::sample::{Described, choose, sample};
use crate::error::TrainError;
use crate::random::derive_seed;
use crate::record::{ValidationManifest, validate};
use crate::student_teacher::scale::Grid;
use pupilla_files::weight_file::{FileHeader, MAX_FILE_BYTES};

impl Fit for FeatureDetectorConfig {
    type Detector = FeatureDetector;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<FeatureDetector, TrainError> {
        self.check()?;
        for (purpose, images) in [("training", training), ("validation", validation)] {
            self.check_images(purpose, images)?;
        }
        self.check_entries(training)?;
        let fitted = self.learn(&self.described(training), observer)?;
        let mut detector = FeatureDetector {
            manifest: FeatureManifest {
                header: FileHeader::new(self.settings.method.kind().name()),
                settings: self.settings.clone(),
                features: self.describer.manifest(),
                fitted: (&fitted).into(),
                threads: rayon::current_num_threads(),
                data: None,
                training_images: training.len(),
                validation: ValidationManifest::new(Vec::new()),
                calibration: None,
            },
            describer: self.describer.clone(),
            fitted,
        };
        let wanted = self.settings.false_reject;
        let (validation, calibration) = validate(&detector, validation, wanted, observer)?;
        detector.manifest.validation = validation;
        detector.manifest.calibration = calibration;
        Ok(detector)
    }
}

impl FeatureDetectorConfig {
    fn described<'a>(&'a self, images: &'a dyn ImageSource) -> Described<'a> {
        Described {
            images,
            describer: &self.describer,
            settings: &self.settings,
        }
    }

    /// Wrong images are found before any work, not after.
    fn check_images(
        &self,
        purpose: &'static str,
        images: &dyn ImageSource,
    ) -> Result<(), TrainError> {
        if images.is_empty() {
            return Err(TrainError::TooFewImages {
                purpose,
                found: 0,
                needed: 1,
            });
        }
        let described = self.described(images);
        (0..images.len()).try_for_each(|index| described.grid(index).map(|_| ()))
    }

    /// A dictionary of more entries than there will be descriptors, too, is found before they are made.
    fn check_entries(&self, training: &dyn ImageSource) -> Result<(), TrainError> {
        let (Method::NearestNeighbour {
            sample, dictionary, ..
        }
        | Method::KMeans {
            sample, dictionary, ..
        }
        | Method::CnnDictionary {
            sample, dictionary, ..
        }) = self.settings.method
        else {
            return Ok(());
        };
        let described = self.described(training);
        let mut found = 0;
        for index in 0..training.len() {
            let Grid { rows, columns, .. } = described.grid(index)?;
            found = sample.min(found + rows * columns);
        }
        if dictionary > found {
            return Err(TrainError::TooFewDescriptors {
                setting: "dictionary",
                wanted: dictionary,
                found,
            });
        }
        Ok(())
    }

    fn seed(&self, purpose: &str) -> u64 {
        derive_seed(self.settings.seed, purpose, 0)
    }

    fn learn(
        &self,
        images: &Described<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Fitted, TrainError> {
        match self.settings.method {
            Method::NearestNeighbour {
                sample,
                variance,
                dictionary,
            } => {
                let (components, rows) = self.reduced(images, sample, variance, observer)?;
                let chosen = choose(rows.rows(), dictionary, self.seed("dictionary"));
                Ok(Fitted::Dictionary {
                    components: Some(components),
                    words: rows.select(&chosen),
                    neighbours: 1,
                })
            }
            Method::KMeans {
                sample,
                variance,
                dictionary,
            } => self.centres(images, [sample, dictionary, 1], variance, observer),
            Method::CnnDictionary {
                sample,
                variance,
                dictionary,
                neighbours,
            } => self.centres(images, [sample, dictionary, neighbours], variance, observer),
            Method::OneClassSvm {
                sample,
                variance,
                nu,
                gamma,
            } => {
                let (components, rows) = self.reduced(images, sample, variance, observer)?;
                let training = one_class_svm::Training {
                    nu,
                    gamma: match gamma {
                        Gamma::Scale => one_class_svm::scale_gamma(&rows, components.noise()),
                        Gamma::Value(gamma) => gamma,
                    },
                    tolerance: one_class_svm::TOLERANCE,
                };
                observer.start("support vectors", 1);
                let machine = OneClassSvm::fit(&rows, training, |violation| {
                    observer.advance(0, Some(violation));
                    !observer.stop_requested()
                });
                let machine = machine.ok_or(TrainError::Stopped)?;
                observer.advance(1, None);
                observer.finish();
                Ok(Fitted::SupportVectors {
                    components,
                    machine,
                })
            }
            Method::MemoryBank {
                sample: most,
                coreset: share,
                projection,
            } => {
                let rows = sample(images, most, observer)?;
                let words = self.coreset(&rows, share, projection, observer)?;
                Ok(Fitted::Dictionary {
                    components: None,
                    words,
                    neighbours: 1,
                })
            }
            Method::Padim {
                channels,
                regularisation,
            } => self.gaussians(images, channels, regularisation, observer),
        }
    }

    /// A sample of descriptors behind the PCA that is found from them.
    fn reduced(
        &self,
        images: &Described<'_>,
        most: usize,
        variance: f64,
        observer: &mut dyn Observer,
    ) -> Result<(PrincipalComponents, Matrix), TrainError> {
        let rows = sample(images, most, observer)?;
        let components = PrincipalComponents::fit(&rows, variance);
        let reduced = components.apply(&rows);
        Ok((components, reduced))
    }

    /// The centres of K-means.
    fn centres(
        &self,
        images: &Described<'_>,
        [most, centres, neighbours]: [usize; 3],
        variance: f64,
        observer: &mut dyn Observer,
    ) -> Result<Fitted, TrainError> {
        let (components, rows) = self.reduced(images, most, variance, observer)?;
        let seed = self.seed("first centres");
        observer.start("first centres", centres as u64);
        let first = k_means::spread_out(&rows, centres, seed, |chosen| {
            observer.advance(chosen as u64, None);
            !observer.stop_requested()
        });
        observer.finish();
        let first = first.ok_or(TrainError::Stopped)?;
        observer.start("k-means", k_means::MOST_PASSES as u64);
        let mut passes = 0;
        let clusters = k_means::settle(&rows, first, k_means::MOST_PASSES, |inertia| {
            passes += 1;
            observer.advance(passes, Some(inertia / rows.rows() as f64));
            !observer.stop_requested()
        });
        observer.finish();
        Ok(Fitted::Dictionary {
            components: Some(components),
            words: clusters.ok_or(TrainError::Stopped)?.centres,
            neighbours,
        })
    }

    /// The features that a memory bank keeps.
    fn coreset(
        &self,
        rows: &Matrix,
        share: f64,
        projection: usize,
        observer: &mut dyn Observer,
    ) -> Result<Matrix, TrainError> {
        let count = ((share * rows.rows() as f64).ceil() as usize).clamp(1, rows.rows());
        fits_a_file("coreset", count as u64 * rows.columns() as u64)?;
        let seed = self.seed("first of the coreset");
        let first = ChaCha8Rng::seed_from_u64(seed).random_range(0..rows.rows());
        let projected = coreset::projected(rows, projection, self.seed("projection"));
        observer.start("coreset", count as u64);
        let chosen = coreset::greedy(projected.as_ref(), first, count, |chosen| {
            observer.advance(chosen as u64, None);
            !observer.stop_requested()
        });
        observer.finish();
        Ok(rows.select(&chosen.ok_or(TrainError::Stopped)?))
    }

    /// A Gaussian a position.
    fn gaussians(
        &self,
        images: &Described<'_>,
        channels: usize,
        regularisation: f64,
        observer: &mut dyn Observer,
    ) -> Result<Fitted, TrainError> {
        let Grid { rows, columns, .. } = images.grid(0)?;
        let positions = rows * columns;
        fits_a_file("channels", positions as u64 * triangle(channels) as u64)?;
        let all = self.describer.channels();
        let chosen = choose(all, channels, self.seed("channels"));
        let mut learning = Learning::new(chosen, positions);
        images.for_each("features", observer, |_, features| learning.add(&features))?;
        let gaussians = learning.finish(regularisation);
        let gaussians = gaussians.ok_or_else(|| TrainError::Setting {
            setting: "regularisation",
            reason: format!(
                "{regularisation} is too little for these images: a covariance cannot be inverted, raise it"
            ),
        })?;
        Ok(Fitted::Gaussians(gaussians))
    }
}

/// What no model file may hold would be found out after all of the work.
fn fits_a_file(setting: &'static str, numbers: u64) -> Result<(), TrainError> {
    let bytes = numbers.saturating_mul(size_of::<f32>() as u64);
    if bytes > MAX_FILE_BYTES {
        return Err(TrainError::Setting {
            setting,
            reason: format!(
                "the model would have {} MiB, more than the {} that a model file may have: choose less, or resize images to a smaller size",
                bytes >> 20,
                MAX_FILE_BYTES >> 20
            ),
        });
    }
    Ok(())
}
