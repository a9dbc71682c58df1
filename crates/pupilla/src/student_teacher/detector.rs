//! The fitted detector: from an image to its anomaly map.

use std::time::{Duration, Instant};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::{Detector, Fit};
use pupilla_core::image::Image;
use pupilla_core::image::resize::resize_map;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::Observer;
use pupilla_core::verdict::attribution::{Explained, Part};
use pupilla_core::verdict::calibration::{Calibrator, WantedRates};

use super::checkpoint::Progress;
use super::config::{Length, StudentTeacherConfig, Training};
use super::memory::{Need, fitting_tiles, usual_side};
use super::model_file::{ModelManifest, ScaleManifest};
use super::scale::{Ensemble, Grid, Look, Scale};
use super::scale_teacher::ScaleTeacher;
use super::tiles::Tiling;
use super::training::{Resized, Share, learning, train_students, whitening};
use super::watch;
use crate::checkpoints::Checkpoints;
use crate::error::{ScoreError, TrainError};
use crate::input::{CHANNEL_DEVIATION, CHANNEL_MEAN};
use crate::receptive_field::ReceptiveField;
use crate::record::{CalibrationManifest, ValidationManifest};
use crate::residual_metric::ResidualProducts;
use crate::sampling::Sampling;
use crate::score::{Normalisation, Scoring, Terms};
use crate::statistics::Moments;
use pupilla_files::weight_file::FileHeader;

/// A trained student–teacher detector.
#[derive(Clone, Debug)]
pub struct StudentTeacher {
    pub(super) scales: Vec<Scale>,
    pub(super) manifest: ModelManifest,
    pub(super) sampling: Sampling,
    pub(super) memory: Option<usize>,
}

impl Fit for StudentTeacherConfig {
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

impl StudentTeacherConfig {
    /// [`fit`](Fit::fit) that can be killed at any time and goes on later: it ends with the same bytes. `data` tells the images from
    /// others, as a fingerprint.
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
        // The budget, when this run began, and what those before it had taken of it.
        let budget = match &settings.training {
            Training::Quick(quick) => match quick.length {
                Length::Budget(seconds) => Some((seconds, Instant::now(), progress.seconds())),
                Length::Steps(_) => None,
            },
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
                    Some((seconds, began, before)) => {
                        // The scales share what is left; each needs time for its validation.
                        let untrained = Ensemble {
                            teacher: teacher.clone(),
                            students: vec![network.init(0); settings.students],
                            whitening: whitening.clone(),
                            metric: None,
                        };
                        let reserve =
                            validation_time(&untrained, training.len(), &validation, sampling)?;
                        let gone = before + began.elapsed().as_secs_f64();
                        let scales = self.teachers.len() - index;
                        Some(Share::new(seconds, gone, scales, reserve))
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
                teacher: teacher.manifest(),
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

        let mut calibrator = Calibrator::new(settings.false_reject, validation.len());
        for index in 0..validation.len() {
            let size = validation.images.size(index)?;
            let resized = settings.resize.target_size(size[0], size[1]);
            let of_scales = scales.iter().zip(&terms).map(|(scale, terms)| {
                let (grid, terms) = &terms[index];
                (scale, *grid, terms)
            });
            let map = combine(of_scales, resized.into());
            check_finite(&map).map_err(|source| TrainError::Image {
                name: validation.images.name(index),
                source,
            })?;
            calibrator.add(&resize_map(&map, size[0], size[1]), None);
        }
        let scores = calibrator.scores().to_vec();
        let calibration = match calibrator.finish() {
            Some(thresholds) if settings.false_reject != WantedRates::default() => {
                for warning in thresholds.warnings() {
                    observer.warn(&warning);
                }
                Some(CalibrationManifest {
                    thresholds,
                    sampling: Some(sampling),
                    data: None,
                })
            }
            _ => None,
        };
        Ok(StudentTeacher {
            scales,
            manifest: ModelManifest {
                header: FileHeader::new(super::model_file::KIND),
                settings: settings.clone(),
                channel_mean: CHANNEL_MEAN,
                channel_deviation: CHANNEL_DEVIATION,
                threads: rayon::current_num_threads(),
                sampling,
                data: None,
                training_images: training.len(),
                watched_images: watched.len(),
                scales: manifests,
                validation: ValidationManifest::new(scores),
                calibration,
            },
            sampling,
            memory: None,
        })
    }
}

impl StudentTeacherConfig {
    /// Settings, and images that every teacher can describe: wrong ones are found before any work, not after.
    pub(super) fn check_images(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
    ) -> Result<(), TrainError> {
        self.check()?;
        enough("training", training)?;
        enough("validation", validation)?;
        for images in [training, validation] {
            let settings = &self.settings;
            check_sizes(&Resized { images, settings }, &self.teachers)?;
        }
        Ok(())
    }
}

fn enough(purpose: &'static str, images: &dyn ImageSource) -> Result<(), TrainError> {
    if images.is_empty() {
        return Err(TrainError::TooFewImages {
            purpose,
            found: 0,
            needed: 1,
        });
    }
    Ok(())
}

fn check_sizes(images: &Resized<'_>, teachers: &[ScaleTeacher]) -> Result<(), TrainError> {
    for index in 0..images.len() {
        let [width, height] = images.images.size(index)?;
        let (width, height) = images.settings.resize.target_size(width, height);
        for teacher in teachers {
            teacher
                .check_size([width, height])
                .map_err(|source| images.wrong(index, source))?;
        }
    }
    Ok(())
}

/// `e` and `v` of an image at the positions of a grid.
pub(super) type ImageTerms = (Grid, Terms);

/// Looks at one of some images with one scale's ensemble: `tell` is given the image and how to look at it.
pub(super) fn look_at<T>(
    ensemble: &Ensemble,
    images: &Resized<'_>,
    index: usize,
    sampling: Sampling,
    tell: impl FnOnce(&Image, Look) -> Result<T, ScoreError>,
) -> Result<T, TrainError> {
    let wrong = |source| images.wrong(index, source);
    let image = images.image(index)?;
    let grid = Grid::of(&image, &ensemble.teacher, sampling).map_err(wrong)?;
    let size = [image.width(), image.height()];
    let side = usual_side(ensemble.into(), sampling, size);
    let look = Look {
        border: images.settings.border,
        grid,
        tiling: Tiling::new(ensemble.field(), sampling, side),
    };
    tell(&image, look).map_err(wrong)
}

/// Training images behind a metric. Not validation images: the thresholds come from those, and errors in a metric that was made of
/// themselves are smaller than those of other good images.
const METRIC_IMAGES: usize = 25;

/// How many images are looked at when the students have learned: for the metric, and to be scored.
pub(super) fn looks(training: usize, validation: usize, scoring: Scoring) -> usize {
    match scoring {
        Scoring::Published => validation,
        Scoring::Mahalanobis => validation + training.min(METRIC_IMAGES),
    }
}

/// About how long it takes to look at images when the students have learned, from the first validation image.
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

/// What one scale's ensemble says about each validation image, and the mean loss of a single student, summed over the components: by the
/// bias–variance decomposition `1/M Σ ‖μᵢ − y‖² = e + v`.
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

/// The mean of the scales' normalised scores (the paper's §3.4), at the size of the resized image.
fn combine<'a>(
    scales: impl Iterator<Item = (&'a Scale, Grid, &'a Terms)>,
    [width, height]: [usize; 2],
) -> AnomalyMap {
    let mut sum = vec![0.0f32; width * height];
    let mut count = 0.0;
    for (scale, grid, terms) in scales {
        let scores = grid.spread(&scale.normalisation.apply(terms), width, height);
        for (sum, score) in sum.iter_mut().zip(scores) {
            *sum += score;
        }
        count += 1.0;
    }
    for score in &mut sum {
        *score /= count;
    }
    AnomalyMap::new(width, height, sum)
}

/// A NaN or an infinity is found where it arises.
fn check_finite(map: &AnomalyMap) -> Result<(), ScoreError> {
    match map.scores().iter().position(|score| !score.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ScoreError::NotFinite {
            row: at / map.width(),
            column: at % map.width(),
        }),
    }
}

impl StudentTeacher {
    /// Everything about the model but its weights.
    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// The positions it looks at; by default those of its calibration.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The same detector looking at other positions.
    #[must_use]
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// The same detector with only some of its scales, to find out what each contributes; the thresholds stay those of all.
    ///
    /// # Errors
    /// [`ScoreError::NoScale`] if the model lacks one of them, or none is wanted.
    pub fn with_scales(mut self, wanted: &[ReceptiveField]) -> Result<Self, ScoreError> {
        let there: Vec<_> = self
            .scales
            .iter()
            .map(|scale| scale.ensemble.field())
            .collect();
        let missing = wanted.iter().find(|field| !there.contains(field)).copied();
        if missing.is_some() || wanted.is_empty() {
            return Err(ScoreError::NoScale { missing, there });
        }
        let mut kept = there.iter().map(|field| wanted.contains(field));
        self.scales.retain(|_| kept.next() == Some(true));
        let kept = |scale: &ScaleManifest| wanted.contains(&scale.network.receptive_field);
        self.manifest.scales.retain(kept);
        Ok(self)
    }

    /// The same detector with a limit to the memory that the process takes, in bytes: it looks at smaller tiles of an
    /// image, and says the same to the last bit.
    #[must_use]
    pub fn with_memory(self, limit: usize) -> Self {
        let memory = Some(limit);
        Self { memory, ..self }
    }

    /// About how many bytes the process takes while it looks at an image of this width and height.
    ///
    /// # Errors
    /// [`ScoreError::Memory`] if even the smallest tiles exceed the limit.
    pub fn memory_needed(&self, size: [usize; 2]) -> Result<usize, ScoreError> {
        Ok(self.fitting_tiles(size)?.bytes)
    }

    fn fitting_tiles(&self, size: [usize; 2]) -> Result<Need, ScoreError> {
        let resized = self.manifest.settings.resize.target_size(size[0], size[1]);
        let tiles = fitting_tiles(
            &self.scales,
            self.sampling,
            size,
            resized.into(),
            self.memory,
        );
        tiles.map_err(|smallest| ScoreError::Memory {
            limit: self.memory.unwrap_or(0),
            needed: smallest.bytes,
        })
    }
}

impl StudentTeacher {
    /// The resized image's size, and what each scale says about it.
    fn terms(&self, image: &Image) -> Result<([usize; 2], Vec<ImageTerms>), ScoreError> {
        let settings = &self.manifest.settings;
        let tiles = self.fitting_tiles([image.width(), image.height()])?;
        let resized = settings.resize.apply(image);
        let mut terms = Vec::with_capacity(self.scales.len());
        for scale in &self.scales {
            let grid = Grid::of(&resized, &scale.ensemble.teacher, self.sampling)?;
            let tiling = Tiling::new(scale.ensemble.field(), self.sampling, tiles.side);
            let look = Look {
                border: settings.border,
                grid,
                tiling,
            };
            terms.push((grid, scale.ensemble.terms(&resized, look)?));
        }
        Ok(([resized.width(), resized.height()], terms))
    }

    /// The map of an image of `[width, height]` pixels from what each scale says about it.
    fn map(
        &self,
        resized: [usize; 2],
        terms: &[ImageTerms],
        [width, height]: [usize; 2],
    ) -> Result<AnomalyMap, ScoreError> {
        let of_scales = self
            .scales
            .iter()
            .zip(terms)
            .map(|(scale, (grid, terms))| (scale, *grid, terms));
        let map = combine(of_scales, resized);
        check_finite(&map)?;
        Ok(resize_map(&map, width, height))
    }
}

impl Detector for StudentTeacher {
    type Error = ScoreError;

    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, ScoreError> {
        let (resized, terms) = self.terms(image)?;
        self.map(resized, &terms, [image.width(), image.height()])
    }

    /// Two parts a scale: its share of the mean over scales of the normalised regression error, and of
    /// the normalised predictive variance.
    fn explain(&self, image: &Image) -> Result<Explained, ScoreError> {
        let (resized, terms) = self.terms(image)?;
        let size = [image.width(), image.height()];
        let map = self.map(resized, &terms, size)?;
        let share = 1.0 / self.scales.len() as f32;
        let mut parts = Vec::with_capacity(2 * self.scales.len());
        for (scale, (grid, terms)) in self.scales.iter().zip(terms) {
            let names = ["regression_error", "predictive_variance"];
            for (name, mut scores) in names.into_iter().zip(scale.normalisation.parts(&terms)) {
                scores.iter_mut().for_each(|score| *score *= share);
                let field = scale.ensemble.field().to_string();
                parts.push(Part::new(field, name, move || {
                    let [width, height] = resized;
                    let spread =
                        AnomalyMap::new(width, height, grid.spread(&scores, width, height));
                    resize_map(&spread, size[0], size[1])
                }));
            }
        }
        Ok(Explained { map, parts })
    }
}
