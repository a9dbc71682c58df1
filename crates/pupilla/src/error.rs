//! The errors of training and of scoring.

use pupilla_core::image::Size;
use std::path::PathBuf;

use pupilla_core::image::read::ReadError;
use pupilla_core::observer::Stopped;
use pupilla_files::atomic_file::WriteError;

use pupilla_files::weight_file::WeightFileError;

use crate::backbone::BackboneError;
use crate::detectors::kind::DetectorKind;
use crate::detectors::student_teacher::scoring::residual_metric::NoMetric;
use crate::patch_network::ReceptiveField;

/// Training could not begin or could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of its range, or two contradict each other.
    #[error("{setting}: {reason}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// The reason, and what to do.
        reason: String,
    },
    /// There are too few images to learn from.
    #[error("{found} {purpose} image(s) are too few: at least {needed} are needed")]
    TooFewImages {
        /// Their purpose.
        purpose: &'static str,
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
    },
    /// A setting asks for more than the images have.
    #[error(
        "{setting}: {wanted} entries cannot be made of {found} descriptors: choose at most as many, a larger sample, or more or larger images"
    )]
    TooFewDescriptors {
        /// The setting's name.
        setting: &'static str,
        /// How many entries were asked for.
        wanted: usize,
        /// How many descriptors there are.
        found: usize,
    },
    /// An image cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An image is smaller than a patch, or the teacher cannot describe it.
    #[error("{name}: {source}")]
    Image {
        /// The image.
        name: String,
        /// The reason.
        source: ScoreError,
    },
    /// The pretrained network cannot be used, or not for this image.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The errors on good images give no metric.
    #[error("p = {field}: {source}: the students have diverged, lower the learning rate")]
    Metric {
        /// The scale.
        field: ReceptiveField,
        /// The reason.
        source: NoMetric,
    },
    /// A checkpoint cannot be written.
    #[error(
        "the checkpoint: {0}; the one before it, if there is one, is still whole: free some disk space, then resume the run from it"
    )]
    CheckpointWrite(#[from] WriteError),
    /// A checkpoint cannot be read.
    #[error("the checkpoint: {0}; a run that does not resume starts from the beginning")]
    Checkpoint(Box<WeightFileError>),
    /// A checkpoint was written by a run with other settings or other images.
    #[error("the checkpoint {} belongs to a run with other settings, images or another version: resume with the same, or start from the beginning", path.display())]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The loss became NaN or infinite.
    #[error(
        "the loss of {what} is {loss} in step {}: begin again with a lower learning rate (now {learning_rate}); the last good checkpoint, if there is one, is kept",
        step + 1
    )]
    Diverged {
        /// Which network.
        what: String,
        /// Steps that were run before it.
        step: usize,
        /// The loss.
        loss: f64,
        /// The peak learning rate of the run.
        learning_rate: f64,
    },
    /// The loss is still finite, but many times the loss of the first step.
    #[error(
        "the loss of {what} is {loss:.3e} in step {}, and was {first:.3e} at the beginning: begin again with a lower learning rate (now {learning_rate}); the last checkpoint, if there is one, is kept",
        step + 1
    )]
    Lost {
        /// Which network.
        what: String,
        /// Steps that were run before it.
        step: usize,
        /// The loss.
        loss: f64,
        /// That of the first step.
        first: f64,
        /// The peak learning rate of the run.
        learning_rate: f64,
    },
    /// A number of a network in training became NaN or infinite before a loss did.
    #[error(
        "{array} holds NaN or infinity behind step {step}: begin again with a lower learning rate; the last good checkpoint, if there is one, is kept"
    )]
    BrokenState {
        /// The array, as a checkpoint names it.
        array: String,
        /// Steps that were run.
        step: usize,
    },
    /// The time budget does not reach for the fewest steps that teach anything.
    #[error(
        "the budget is too small: {what} learns nothing in fewer than {steps} steps, which with everything beside them take about {smallest_seconds} s here; allow at least {smallest_seconds} s, or set the number of steps"
    )]
    BudgetBelowSmallest {
        /// Which detector.
        what: DetectorKind,
        /// The fewest steps.
        steps: usize,
        /// The smallest sensible budget.
        smallest_seconds: u64,
    },
    /// The observer asked to stop.
    #[error("stopped on request; nothing was written")]
    Stopped,
    /// The observer asked to stop, and the work so far is safe.
    #[error("stopped on request after step {step}: the run can resume from {}", path.display())]
    StoppedWithCheckpoint {
        /// Steps that were done.
        step: usize,
        /// The checkpoint.
        path: PathBuf,
    },
}

impl From<WeightFileError> for TrainError {
    fn from(error: WeightFileError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}

impl From<Stopped> for TrainError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// The first rule that does not hold, as an error.
pub(crate) fn check_rules<const N: usize>(
    rules: [(&'static str, bool, String); N],
) -> Result<(), TrainError> {
    for (setting, holds, reason) in rules {
        if !holds {
            return Err(TrainError::Setting {
                setting,
                reason: format!("must be {reason}"),
            });
        }
    }
    Ok(())
}

/// An image could not be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// After resizing, the image is smaller than a patch.
    #[error("{size} pixels (after resizing) are smaller than the receptive field of {needed}: use a larger image, resize to a larger size, or use a smaller scale", needed = field.side())]
    TooSmall {
        /// After resizing.
        size: Size,
        /// The patch size that does not fit.
        field: ReceptiveField,
    },
    /// The pretrained network that is the teacher cannot describe the image.
    #[error("teacher {file}: {source}")]
    Backbone {
        /// The file that its weights came from.
        file: String,
        /// Why.
        source: Box<BackboneError>,
    },
    /// The image does not fit into the memory allowed, not even in the smallest tiles.
    #[error("it takes about {} MiB of memory, and {} MiB are allowed: allow more, or train with a smaller resize", needed.div_ceil(1 << 20), limit >> 20)]
    Memory {
        /// Bytes allowed.
        limit: usize,
        /// Bytes that the smallest tiles take.
        needed: usize,
    },
    /// The features of all positions together would take too much memory.
    #[error(
        "{positions} positions of {channels} features are too many: take a larger stride, or resize the images to fewer pixels"
    )]
    TooManyPositions {
        /// Positions of the image.
        positions: usize,
        /// Features at a position.
        channels: usize,
    },
    /// Scales were asked for that the model does not have.
    #[error("{}: the model has {}", match missing { Some(field) => format!("there is no scale p = {field}"), None => "no scale is wanted".into() }, join(there))]
    NoScale {
        /// The first of them; `None` if none was asked for.
        missing: Option<ReceptiveField>,
        /// Those of the model.
        there: Vec<ReceptiveField>,
    },
    /// The work was asked to stop.
    #[error("stopped on request")]
    Stopped,
    /// A score is NaN or infinite: the model's numbers have run over.
    #[error(
        "the score at row {row}, column {column} is not a number: the model is damaged or the image extreme"
    )]
    NotFinite {
        /// Row in the resized image.
        row: usize,
        /// Column in the resized image.
        column: usize,
    },
}

impl From<Stopped> for ScoreError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl TrainError {
    /// The error of an image of the training. A request to stop is nobody's fault.
    pub(crate) fn of_image(name: impl FnOnce() -> String, source: ScoreError) -> Self {
        match source {
            ScoreError::Stopped => Self::Stopped,
            source => Self::Image {
                name: name(),
                source,
            },
        }
    }
}

fn join(fields: &[ReceptiveField]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!("p = {field}")).collect();
    fields.join(", ")
}
