//! Training: scale by scale, from good images to the detector.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::observer::Observer;

use super::checkpoint::Progress;
use super::config::{StudentTeacherConfig, Training};
use super::inspect::{ImageTerms, StudentTeacher, check_finite, combine};
use super::memory::usual_side;
use super::model_file::{KIND, ScaleManifest, StudentTeacherManifest, StudentTeacherTraining};
use super::scale::{Ensemble, Look, Scale};
use super::scale_teacher::ScaleTeacher;
use super::scoring::residual_metric::ResidualProducts;
use super::scoring::{Normalisation, Scoring, Terms};
use super::training::{Resized, learning, train_students, whitening};
use super::watch;
use crate::error::{ScoreError, TrainError};
use crate::features::input::{CHANNEL_DEVIATION, CHANNEL_MEAN};
use crate::features::sampling::Sampling;
use crate::features::tiles::Tiling;
use crate::manifest::Manifest;
use crate::statistics::Moments;
use crate::training::budget::Share;
use crate::training::calibrate::{record, thresholds};
use crate::training::checkpoints::Checkpoints;
use crate::training::{Checked, check_counts};

impl Fit for Checked<'_, StudentTeacherConfig> {
    type Detector = StudentTeacher;
    type Error = TrainError;

    fn fit(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<StudentTeacher, TrainError> {
        self.fit_with_checkpoints(training, validation, "", None, observer)
    }
}

impl Checked<'_, StudentTeacherConfig> {
    /// [`fit`](Fit::fit) that can be killed at any time and goes on later: it ends with the same bytes. `data` is a fingerprint of the
    /// images.
    ///
    /// # Errors
    /// As `fit`; if a checkpoint cannot be written or read, or is another run's.
    pub fn fit_with_checkpoints(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        data: &str,
        checkpoints: Option<&Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<StudentTeacher, TrainError> {
        self.check_images(training, validation)?;
        let settings = &self.settings;
        let [learned, watched] = watch::split(training, settings.training.early_stop());
        let resized = |images| Resized { images, settings };
        let (training, watched) = (resized(&learned), resized(&watched));
        let validation = resized(validation);
        let students = |teacher: &ScaleTeacher| {
            teacher.students().map_err(|error| TrainError::Setting {
                setting: "teachers",
                reason: error.to_string(),
            })
        };
        let networks = self.teachers.iter().map(students);
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        let learning = learning(&settings.training);
        let mut progress = Progress::begin(self, &networks, learning, data, checkpoints, observer)?;
        let budget = match &settings.training {
            Training::Quick(quick) => quick.length.budget(),
            Training::Paper(_) => None,
        };
        let sampling = settings.training.sampling();
        let most = self.statistics_images(training.len());

        let mut scales = Vec::new();
        let mut manifests = Vec::new();
        let mut terms = Vec::new();
        for (index, (teacher, &network)) in self.teachers.iter().zip(&networks).enumerate() {
            if index == progress.finished.len() {
                let resumed = progress.take_current();
                let whitening = match &resumed {
                    Some(resumed) => resumed.whitening.clone(),
                    None => whitening(teacher, &training, most, observer)
                        .map_err(|error| progress.stopped_between(error))?,
                };
                let share = match budget.filter(|_| resumed.is_none()) {
                    None => None,
                    Some(seconds) => {
                        // The scales share what is left; each needs time for its validation.
                        let untrained = Ensemble {
                            teacher: teacher.clone(),
                            students: vec![network.init(0); settings.students],
                            whitening: whitening.clone(),
                            metric: None,
                        };
                        let reserve =
                            validation_time(&untrained, training.len(), &validation, sampling)?;
                        let scales = self.teachers.len() - index;
                        Some(Share::new(seconds, progress.seconds(), scales, reserve))
                    }
                };
                let finished = train_students(
                    teacher,
                    network,
                    whitening,
                    [&training, &watched],
                    share,
                    (&progress, resumed),
                    observer,
                )?;
                progress.finish(finished)?;
            }
            let finished = progress.finished[index].clone();
            let mut ensemble = Ensemble {
                teacher: teacher.clone(),
                students: finished.students,
                whitening: finished.whitening,
                metric: None,
            };
            if settings.scoring == Scoring::Mahalanobis {
                let products = residual_products(&ensemble, &training, sampling, observer)
                    .map_err(|error| progress.stopped_between(error))?;
                let metric = products.metric().map_err(|source| TrainError::Metric {
                    field: ensemble.field(),
                    source,
                })?;
                ensemble.metric = Some(metric);
            }
            let (of_images, loss) = validate(&ensemble, &validation, sampling, observer)
                .map_err(|error| progress.stopped_between(error))?;
            let normalisation = normalisation(&of_images, settings.scoring);
            manifests.push(ScaleManifest {
                network,
                teacher: teacher.extractor().manifest(),
                statistics_images: most,
                steps: finished.run.steps,
                training_loss: finished.run.final_loss,
                validation_loss: loss / network.output_channels as f64,
                normalisation,
            });
            terms.push(of_images);
            scales.push(Scale {
                ensemble,
                normalisation,
            });
        }

        let (scores, found) = {
            let map = |index: usize| {
                let size = validation.images.size(index)?;
                let resized = settings.resize.target_size(size);
                let of_scales = scales.iter().zip(&terms).map(|(scale, terms)| {
                    let (grid, terms) = &terms[index];
                    (scale, *grid, terms)
                });
                let map = combine(of_scales, resized);
                check_finite(&map).map_err(|source| validation.wrong(index, source))?;
                Ok(resize_map(&map, size))
            };
            thresholds(validation.len(), settings.false_reject, observer, map)
                .map_err(|error| progress.stopped_between(error))?
        };
        let method = StudentTeacherManifest {
            settings: settings.clone(),
            channel_mean: CHANNEL_MEAN,
            channel_deviation: CHANNEL_DEVIATION,
        };
        let of_training = StudentTeacherTraining {
            watched_images: watched.len(),
            scales: manifests,
        };
        let mut manifest = Manifest::new(KIND, method, training.len(), of_training);
        manifest.sampling = Some(sampling);
        record(&mut manifest, scores, found);
        Ok(StudentTeacher {
            scales,
            manifest,
            sampling,
            memory: None,
        })
    }
}

impl StudentTeacherConfig {
    /// Checks that every teacher can describe every image, before any work.
    pub(super) fn check_images(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
    ) -> Result<(), TrainError> {
        check_counts(training, validation)?;
        for images in [training, validation] {
            let settings = &self.settings;
            check_sizes(&Resized { images, settings }, &self.teachers)?;
        }
        Ok(())
    }
}

fn check_sizes(images: &Resized<'_>, teachers: &[ScaleTeacher]) -> Result<(), TrainError> {
    for index in 0..images.len() {
        let size = images.images.size(index)?;
        let size = images.settings.resize.target_size(size);
        for teacher in teachers {
            teacher
                .check_size(size)
                .map_err(|source| images.wrong(index, source))?;
        }
    }
    Ok(())
}

/// Prepares one of some images for one scale's ensemble: calls `tell` with the resized image, and with its positions and tiles.
pub(super) fn look_at<T>(
    ensemble: &Ensemble,
    images: &Resized<'_>,
    index: usize,
    sampling: Sampling,
    tell: impl FnOnce(&Image, Look) -> Result<T, ScoreError>,
) -> Result<T, TrainError> {
    let wrong = |source| images.wrong(index, source);
    let image = images.image(index)?;
    let grid = ensemble.teacher.grid(&image, sampling).map_err(wrong)?;
    let size = image.size();
    let side = usual_side(ensemble.into(), sampling, size);
    let look = Look {
        border: images.settings.border,
        grid,
        tiling: Tiling::new(ensemble.field(), sampling, side),
    };
    tell(&image, look).map_err(wrong)
}

/// Training images that give a metric. Validation images do not: they give the thresholds, and a metric makes the errors of its own
/// images smaller than the errors of other good images.
const METRIC_IMAGES: usize = 25;

/// How many images the ensemble sees after the students' training: for the metric, and for the scores of validation.
pub(super) fn looks(training: usize, validation: usize, scoring: Scoring) -> usize {
    match scoring {
        Scoring::Published => validation,
        Scoring::Mahalanobis => validation + training.min(METRIC_IMAGES),
    }
}

/// About how long the [`looks`] take, from the time of the first validation image.
fn validation_time(
    ensemble: &Ensemble,
    training: usize,
    images: &Resized<'_>,
    sampling: Sampling,
) -> Result<Duration, TrainError> {
    let start = Instant::now();
    look_at(ensemble, images, 0, sampling, |image, look| {
        ensemble.terms(image, look)
    })?;
    let looks = looks(training, images.len(), images.settings.scoring);
    Ok(start.elapsed().mul_f64(looks as f64))
}

/// The residuals of the students on some images, evenly spread.
fn residual_products(
    ensemble: &Ensemble,
    images: &Resized<'_>,
    sampling: Sampling,
    observer: &mut dyn Observer,
) -> Result<ResidualProducts, TrainError> {
    let field = ensemble.field();
    let count = images.len().min(METRIC_IMAGES);
    observer.start(&format!("errors p={field}"), count as u64);
    let mut products = ResidualProducts::new(ensemble.whitening.mean.len());
    for step in 0..count {
        if observer.stop_requested() {
            return Err(TrainError::Stopped);
        }
        let index = step * images.len() / count;
        look_at(ensemble, images, index, sampling, |image, look| {
            ensemble.add_residuals(image, look, &mut products)
        })?;
        observer.advance(step as u64 + 1, None);
    }
    observer.finish();
    Ok(products)
}

/// The terms of one scale's ensemble for each validation image, and the mean loss of a single student, summed over the components: by
/// the bias–variance decomposition `1/M Σ ‖μᵢ − y‖² = e + v`.
fn validate(
    ensemble: &Ensemble,
    images: &Resized<'_>,
    sampling: Sampling,
    observer: &mut dyn Observer,
) -> Result<(Vec<ImageTerms>, f64), TrainError> {
    let field = ensemble.field();
    observer.start(&format!("validation p={field}"), images.len() as u64);
    let mut all = Vec::with_capacity(images.len());
    let (mut loss, mut positions) = (0.0, 0);
    for index in 0..images.len() {
        if observer.stop_requested() {
            return Err(TrainError::Stopped);
        }
        let (grid, (terms, of_image)) =
            look_at(ensemble, images, index, sampling, |image, look| {
                Ok((look.grid, ensemble.judged(image, look)?))
            })?;
        loss += of_image;
        positions += grid.rows * grid.columns;
        all.push((grid, terms));
        observer.advance(index as u64 + 1, None);
    }
    observer.finish();
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
