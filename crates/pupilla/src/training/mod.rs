//! The parts that every training shares: the loop, the budget, the checkpoints, and the thresholds at the end.
//!
//! [`prepared_images`] (a folder, split) → the loop ([`train`]), with [`budget`], [`schedule`] and [`checkpoints`] → [`calibrate`] (the thresholds).

pub(crate) mod budget;
pub(crate) mod calibrate;
pub mod checkpoints;
pub mod prepared_images;
pub(crate) mod schedule;

pub use budget::Length;
pub use checkpoints::{Checkpoints, UnfinishedRun};

use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Fit;
use pupilla_core::observer::Observer;

use crate::device::work_beside;
use crate::error::TrainError;

/// The networks in training, and one step of them.
pub(crate) trait Trainee: Send {
    /// The input of a step.
    type Batch: Send + Sync;

    /// The name of the stage, for people.
    fn stage(&self) -> String;

    /// Steps in all. A run that ends early lowers the number.
    fn steps(&self) -> usize;

    /// Steps that have been taken.
    fn taken(&self) -> usize;

    /// Takes a step; gives the losses before it.
    fn step(&mut self, batch: &Self::Batch) -> Result<Vec<f64>, TrainError>;

    /// Records the losses of the step, which are all finite; gives the loss to show.
    fn record(&mut self, losses: Vec<f64>, observer: &mut dyn Observer) -> Result<f64, TrainError>;

    /// Which network one of a step's losses belongs to, and the highest learning rate of the run: for an error.
    fn blame(&self, loss: usize) -> (String, f64);

    /// Where checkpoints are kept, if they are.
    fn checkpoints(&self) -> Option<&Checkpoints>;

    /// Writes a checkpoint.
    fn save(&self, checkpoints: &Checkpoints) -> Result<(), TrainError>;

    /// Steps of the whole run, those of networks that are finished among them.
    fn taken_in_all(&self) -> usize {
        self.taken()
    }
}

/// Takes all remaining steps. `read` gives the batch of a step, during the computation of the step before.
///
/// # Errors
/// Those of `read` and of the trainee. A loss that is not finite ends the run, and its last checkpoint stays. A request to stop ends
/// the run after a checkpoint was written.
pub(crate) fn train<T: Trainee>(
    trainee: &mut T,
    read: &(impl Fn(usize) -> Result<T::Batch, TrainError> + Sync),
    observer: &mut dyn Observer,
) -> Result<(), TrainError> {
    observer.start(&trainee.stage(), trainee.steps() as u64);
    let mut step = trainee.taken();
    let mut next = (step < trainee.steps()).then(|| read(step));
    while let Some(batch) = next.transpose()? {
        if observer.stop_requested() {
            return Err(stopped(TrainError::Stopped, trainee));
        }
        let more = step + 1 < trainee.steps();
        let read_ahead = || more.then(|| read(step + 1));
        let losses;
        (losses, next) = work_beside(|| trainee.step(&batch), read_ahead);
        let losses = losses.map_err(|error| stopped(error, trainee))?;
        if let Some(loss) = losses.iter().position(|loss| !loss.is_finite()) {
            let (what, learning_rate) = trainee.blame(loss);
            return Err(TrainError::Diverged {
                what,
                step,
                loss: losses[loss],
                learning_rate,
            });
        }
        let shown = trainee.record(losses, observer)?;
        step += 1;
        observer.advance(step as u64, Some(shown));
        if let Some(checkpoints) = trainee.checkpoints()
            && step.is_multiple_of(checkpoints.every)
        {
            trainee.save(checkpoints)?;
        }
    }
    observer.finish();
    Ok(())
}

/// For a request to stop: writes a checkpoint, and gives the error that names it. Any other error stays as it is.
pub(crate) fn stopped(error: TrainError, trainee: &impl Trainee) -> TrainError {
    let (TrainError::Stopped, Some(checkpoints)) = (&error, trainee.checkpoints()) else {
        return error;
    };
    match trainee.save(checkpoints) {
        Err(error) => error,
        Ok(()) => TrainError::StoppedWithCheckpoint {
            step: trainee.taken_in_all(),
            path: checkpoints.path.clone(),
        },
    }
}

/// Fails without a training image, or without a validation image.
pub(crate) fn check_counts(
    training: &dyn ImageSource,
    validation: &dyn ImageSource,
) -> Result<(), TrainError> {
    for (purpose, images) in [("training", training), ("validation", validation)] {
        if images.is_empty() {
            return Err(TrainError::TooFewImages {
                purpose,
                found: 0,
                needed: 1,
            });
        }
    }
    Ok(())
}

/// The mean over the last tenth of a run's losses, of one step at least.
pub(crate) fn mean_of_last_tenth(losses: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = losses.len();
    let last = count.div_ceil(10);
    losses.skip(count - last).sum::<f64>() / last.max(1) as f64
}

/// The settings of a detector that is to be trained.
///
/// ```
/// use pupilla::{Config, StudentTeacherConfig};
///
/// let mut config = StudentTeacherConfig::built_in()?;
/// config.settings.students = 0;
/// assert!(config.check().unwrap_err().to_string().contains("students"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Config: Sized {
    /// Seed of everything random.
    fn seed(&self) -> u64;

    #[doc(hidden)]
    fn check_settings(&self) -> Result<(), TrainError>;

    /// Checks every setting. Only the result can be [fitted](pupilla_core::detector::Fit); a configuration that was not checked cannot.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    fn check(&self) -> Result<Checked<'_, Self>, TrainError> {
        self.check_settings()?;
        Ok(Checked {
            config: self,
            checkpoints: None,
            data: "",
        })
    }

    /// [Checks](Self::check) every setting, and [fits](Fit::fit): for images that are not files, such as a camera's.
    /// [`PreparedImages::fit`](crate::PreparedImages::fit) fits on a folder.
    ///
    /// # Errors
    /// As [`check`](Self::check) and [`Fit::fit`].
    fn fit<D>(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<D, TrainError>
    where
        for<'a> Checked<'a, Self>: Fit<Detector = D, Error = TrainError>,
    {
        self.check()?.fit(training, validation, observer)
    }
}

/// The configuration of a detector whose networks are trained in steps, so that a run can continue from a checkpoint.
pub trait TrainedInSteps: Config {}

/// A configuration whose settings have been checked, and the checkpoints of its run.
#[derive(Debug)]
pub struct Checked<'a, C> {
    config: &'a C,
    checkpoints: Option<&'a Checkpoints>,
    /// A fingerprint of the images.
    data: &'a str,
}

impl<C> Checked<'_, C> {
    /// [`Fit::fit`], whether or not the trait is in scope. (Without this method, `fit` would be [`Config::fit`] of the configuration, which
    /// knows no checkpoints.)
    ///
    /// # Errors
    /// As [`Fit::fit`].
    pub fn fit<D>(
        &self,
        training: &dyn ImageSource,
        validation: &dyn ImageSource,
        observer: &mut dyn Observer,
    ) -> Result<D, TrainError>
    where
        Self: Fit<Detector = D, Error = TrainError>,
    {
        Fit::fit(self, training, validation, observer)
    }
}

impl<'a, C: TrainedInSteps> Checked<'a, C> {
    /// The run can then be killed at any time and continue later: it ends with the same bytes. `data` is a fingerprint of the images,
    /// because a run does not continue with other images. `None` keeps no checkpoints.
    ///
    /// [`fit`](Fit::fit) also fails if a checkpoint cannot be written or read, or belongs to another run. A run whose loss is not finite
    /// ends with an error, and its last checkpoint stays.
    #[must_use]
    pub fn with_checkpoints(
        &self,
        checkpoints: impl Into<Option<&'a Checkpoints>>,
        data: &'a str,
    ) -> Self {
        Self {
            config: self.config,
            checkpoints: checkpoints.into(),
            data,
        }
    }

    /// Where checkpoints are kept, if they are, and the fingerprint of the images.
    pub(crate) fn checkpoints(&self) -> (Option<&'a Checkpoints>, &'a str) {
        (self.checkpoints, self.data)
    }
}

impl<C> std::ops::Deref for Checked<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.config
    }
}
