//! Training: scale by scale, from good images to the detector.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::observer::{Observer, StopFlag, for_each};
use pupilla_core::verdict::calibration::Thresholds;

use super::checkpoint::{FinishedScale, RunState};
use super::config::StudentTeacherConfig;
use super::inspect::{ImageTerms, StudentTeacher, check_finite, combine};
use super::memory::usual_side;
use super::model_file::{KIND, ScaleManifest, StudentTeacherManifest, StudentTeacherTraining};
use super::resized_images::{ResizedImages, RunImages};
use super::scale::{Ensemble, Scale, Scan};
use super::scoring::residual_metric::ResidualProducts;
use super::scoring::{Normalisation, Scoring, Terms, Whitening};
use super::teacher_statistics::whitening;
use super::training::{ScaleTraining, learning};
use crate::error::TrainError;
use crate::features::input::{CHANNEL_DEVIATION, CHANNEL_MEAN};
use crate::features::tiles::Tiling;
use crate::manifest::Manifest;
use crate::patch_network::PatchNetworkConfig;
use crate::statistics::Moments;
use crate::training::budget::Share;
use crate::training::calibrate::{record, thresholds};
use crate::training::{Checked, TrainedInSteps};

impl TrainedInSteps for StudentTeacherConfig {}

impl Fit for Checked<'_, StudentTeacherConfig> {
    type Detector = StudentTeacher;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<StudentTeacher, TrainError> {
        let images = RunImages::new(self, training, validation)?;
        let networks = self.student_networks()?;
        let learning = learning(&self.settings.training);
        let (checkpoints, data) = self.checkpoints();
        let mut run = RunState::begin(self, &networks, learning, data, checkpoints, observer)?;

        let mut scales = Vec::with_capacity(networks.len());
        for (index, &network) in networks.iter().enumerate() {
            if index == run.finished.len() {
                self.train_scale(index, network, &images, &mut run, observer)?;
            }
            let finished = run.finished[index].clone();
            let scale = self.validated_scale(index, network, finished, &images, observer);
            scales.push(scale.map_err(|error| run.stopped_between(error))?);
        }

        let found = self.thresholds(&scales, &images.validation, observer);
        let (scores, thresholds) = found.map_err(|error| run.stopped_between(error))?;
        Ok(self.detector(scales, &images, scores, thresholds))
    }
}

/// A trained scale, and its results on the validation images.
struct ValidatedScale {
    scale: Scale,
    manifest: ScaleManifest,
    /// The terms of each validation image.
    terms: Vec<ImageTerms>,
}

impl StudentTeacherConfig {
    /// The network of each scale's students.
    pub(super) fn student_networks(&self) -> Result<Vec<PatchNetworkConfig>, TrainError> {
        let networks = self.teachers.iter().map(|teacher| {
            teacher.students().map_err(|error| TrainError::Setting {
                setting: "teachers",
                reason: error.to_string(),
            })
        });
        networks.collect()
    }

    /// Trains the students of a scale, from the first step or from the state of the run's checkpoint.
    fn train_scale(
        &self,
        index: usize,
        network: PatchNetworkConfig,
        images: &RunImages<'_>,
        run: &mut RunState<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let teacher = &self.teachers[index];
        let resumed = run.take_current();
        let (whitening, share) = match &resumed {
            Some(resumed) => (resumed.whitening.clone(), None),
            None => {
                let most = self.statistics_images(images.learned.len());
                let whitening = whitening(teacher, &images.learned, most, observer)
                    .map_err(|error| run.stopped_between(error))?;
                let stop = observer.stop_flag();
                let share =
                    self.share_of_budget(index, network, &whitening, images, (run, &stop))?;
                (whitening, share)
            }
        };
        let training = ScaleTraining::new(
            teacher,
            network,
            &whitening,
            &images.learned,
            observer.stop_flag(),
        );
        let trained = training
            .in_run(run)
            .train(&images.watched, share, resumed, observer);
        let (students, taken) = trained.map_err(|error| run.stopped_between(error))?;
        run.finish(FinishedScale {
            students,
            whitening,
            taken,
        })
    }

    /// The time of a scale's steps, if the run has a budget. The scales share the rest of the budget, and each scale needs time for its
    /// validation.
    fn share_of_budget(
        &self,
        index: usize,
        network: PatchNetworkConfig,
        whitening: &Whitening,
        images: &RunImages<'_>,
        (run, stop): (&RunState<'_>, &StopFlag),
    ) -> Result<Option<Share>, TrainError> {
        let Some(budget) = self.settings.training.budget() else {
            return Ok(None);
        };
        let untrained = Ensemble::untrained(
            &self.teachers[index],
            network,
            self.settings.students,
            whitening.clone(),
        );
        let reserve = validation_time(&untrained, images, stop);
        let reserve = reserve.map_err(|error| run.stopped_between(error))?;
        let scales = self.teachers.len() - index;
        Ok(Some(Share::new(budget, run.seconds(), scales, reserve)))
    }

    /// Metric and normalisation of trained students.
    fn validated_scale(
        &self,
        index: usize,
        network: PatchNetworkConfig,
        finished: FinishedScale,
        images: &RunImages<'_>,
        observer: &mut dyn Observer,
    ) -> Result<ValidatedScale, TrainError> {
        let teacher = &self.teachers[index];
        let mut ensemble = Ensemble {
            teacher: teacher.clone(),
            students: finished.students,
            whitening: finished.whitening,
            metric: None,
        };
        if self.settings.scoring == Scoring::Mahalanobis {
            let products = residual_products(&ensemble, &images.learned, observer)?;
            let metric = products.metric().map_err(|source| TrainError::Metric {
                field: ensemble.field(),
                source,
            })?;
            ensemble.metric = Some(metric);
        }
        let (terms, loss) = validate(&ensemble, &images.validation, observer)?;
        let normalisation = normalisation(&terms, self.settings.scoring);
        Ok(ValidatedScale {
            manifest: ScaleManifest {
                network,
                teacher: teacher.extractor().manifest(),
                statistics_images: self.statistics_images(images.learned.len()),
                steps: finished.taken.steps,
                training_loss: finished.taken.final_loss,
                validation_loss: loss / network.output_channels as f64,
                normalisation,
            },
            scale: Scale {
                ensemble,
                normalisation,
            },
            terms,
        })
    }

    /// The scores of the validation images, and the thresholds if a rate is wanted.
    fn thresholds(
        &self,
        scales: &[ValidatedScale],
        validation: &ResizedImages<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<f32>, Option<Thresholds>), TrainError> {
        let map = |index: usize| {
            let of_scales = scales.iter().map(|validated| {
                let (grid, terms) = &validated.terms[index];
                (&validated.scale, *grid, terms)
            });
            let map = combine(of_scales, validation.size(index)?);
            check_finite(&map).map_err(|source| validation.wrong(index, source))?;
            Ok(resize_map(&map, validation.original_size(index)?))
        };
        let wanted = self.settings.false_reject;
        thresholds(validation.len(), wanted, observer, map)
    }

    fn detector(
        &self,
        scales: Vec<ValidatedScale>,
        images: &RunImages<'_>,
        scores: Vec<f32>,
        thresholds: Option<Thresholds>,
    ) -> StudentTeacher {
        let sampling = self.settings.training.sampling();
        let method = StudentTeacherManifest {
            settings: self.settings.clone(),
            channel_mean: CHANNEL_MEAN,
            channel_deviation: CHANNEL_DEVIATION,
        };
        let (scales, manifests) = scales
            .into_iter()
            .map(|validated| (validated.scale, validated.manifest))
            .unzip();
        let training = StudentTeacherTraining {
            watched_images: images.watched.len(),
            scales: manifests,
        };
        let mut manifest = Manifest::new(KIND, method, images.learned.len(), training);
        manifest.sampling = Some(sampling);
        record(&mut manifest, scores, thresholds);
        StudentTeacher {
            scales,
            manifest,
            sampling,
            memory: None,
        }
    }
}

/// One of some images for one scale's ensemble, with its positions and tiles.
pub(super) fn prepared(
    ensemble: &Ensemble,
    images: &ResizedImages<'_>,
    index: usize,
) -> Result<(Image, Scan), TrainError> {
    let settings = images.settings;
    let sampling = settings.training.sampling();
    let image = images.image(index)?;
    let grid = ensemble.teacher.grid(&image, sampling);
    let grid = grid.map_err(|source| images.wrong(index, source))?;
    let side = usual_side(ensemble.into(), sampling, image.size());
    let scan = Scan {
        border: settings.border,
        grid,
        tiling: Tiling::new(ensemble.field(), sampling, side),
    };
    Ok((image, scan))
}

/// Training images that give a metric. Validation images do not: they give the thresholds, and a metric makes the errors of its own
/// images smaller than the errors of other good images.
const METRIC_IMAGES: usize = 25;

/// How many images the ensemble describes after the students' training: for the metric, and for the scores of validation.
pub(super) fn images_after_training(images: &RunImages<'_>) -> usize {
    let validation = &images.validation;
    match validation.settings.scoring {
        Scoring::Published => validation.len(),
        Scoring::Mahalanobis => validation.len() + images.learned.len().min(METRIC_IMAGES),
    }
}

/// About how long the [`images_after_training`] take, from the time of the first validation image.
fn validation_time(
    ensemble: &Ensemble,
    images: &RunImages<'_>,
    stop: &StopFlag,
) -> Result<Duration, TrainError> {
    let validation = &images.validation;
    let start = Instant::now();
    let (image, scan) = prepared(ensemble, validation, 0)?;
    let terms = ensemble.terms(&image, scan, stop);
    terms.map_err(|source| validation.wrong(0, source))?;
    Ok(start
        .elapsed()
        .mul_f64(images_after_training(images) as f64))
}

/// The residuals of the students on some images, evenly spread.
fn residual_products(
    ensemble: &Ensemble,
    images: &ResizedImages<'_>,
    observer: &mut dyn Observer,
) -> Result<ResidualProducts, TrainError> {
    let count = images.len().min(METRIC_IMAGES);
    let mut products = ResidualProducts::new(ensemble.whitening.mean.len());
    let stage = format!("errors p={}", ensemble.field());
    let stop = observer.stop_flag();
    for_each(observer, &stage, count, |step| {
        let index = step * images.len() / count;
        let (image, scan) = prepared(ensemble, images, index)?;
        let added = ensemble.add_residuals(&image, scan, &mut products, &stop);
        added.map_err(|source| images.wrong(index, source))
    })?;
    Ok(products)
}

/// The terms of one scale's ensemble for each validation image, and the mean loss of a single student, summed over the components: by
/// the bias–variance decomposition `1/M Σ ‖μᵢ − y‖² = e + v`.
fn validate(
    ensemble: &Ensemble,
    images: &ResizedImages<'_>,
    observer: &mut dyn Observer,
) -> Result<(Vec<ImageTerms>, f64), TrainError> {
    let mut all = Vec::with_capacity(images.len());
    let (mut loss, mut positions) = (0.0, 0);
    let stage = format!("validation p={}", ensemble.field());
    let stop = observer.stop_flag();
    for_each(observer, &stage, images.len(), |index| {
        let (image, scan) = prepared(ensemble, images, index)?;
        let found = ensemble.terms_and_loss(&image, scan, &stop);
        let (terms, of_image) = found.map_err(|source| images.wrong(index, source))?;
        loss += of_image;
        positions += scan.grid.rows * scan.grid.columns;
        all.push((scan.grid, terms));
        Ok::<_, TrainError>(())
    })?;
    Ok((all, loss / positions as f64))
}

/// The normalisation that gives the scores of the validation images mean 0, and each term deviation 1 or their sum.
fn normalisation(images: &[ImageTerms], scoring: Scoring) -> Normalisation {
    let moments = |of: fn(&Terms) -> &[f32]| {
        images.iter().fold(Moments::default(), |all, (_, terms)| {
            all.merge(Moments::of(of(terms)))
        })
    };
    let errors = moments(|terms| &terms.regression_error);
    let variances = moments(|terms| &terms.predictive_variance);
    match scoring {
        Scoring::Published => Normalisation::new(errors, variances),
        Scoring::Mahalanobis => {
            let sums = images.iter().fold(Moments::default(), |all, (_, terms)| {
                let pairs = terms
                    .regression_error
                    .iter()
                    .zip(&terms.predictive_variance);
                let sums: Vec<f32> = pairs.map(|(error, variance)| error + variance).collect();
                all.merge(Moments::of(&sums))
            });
            Normalisation::of_sum(errors, variances, sums)
        }
    }
}
