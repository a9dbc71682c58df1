//! How to train a student–teacher detector: every setting, its default, and its range.

use pupilla_core::image::resize::Resize;
use pupilla_core::verdict::calibration::WantedRates;
use serde::{Deserialize, Serialize};

use pupilla_files::weight_file::WeightFileError;
use pupilla_nn::Optimizer;

use super::scale_teacher::ScaleTeacher;
use super::scoring::Scoring;
use crate::error::{TrainError, check_rules};
use crate::features::input::Border;
use crate::features::sampling::Sampling;
use crate::features::{BackboneManifest, Teacher};
use crate::patch_network::ReceptiveField;
use crate::training::{Config, Length};

/// A student–teacher detector to be fitted.
///
/// ```
/// use pupilla::{Config, StudentTeacherConfig};
///
/// let mut config = StudentTeacherConfig::built_in()?;
/// config.settings.students = 2;
/// config.check()?;
/// config.settings.students = 0;
/// assert!(config.check().unwrap_err().to_string().contains("students"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StudentTeacherConfig {
    /// One teacher a scale; the scales' scores are averaged (the paper's §3.4). Scales that have a
    /// pretrained network for a teacher share it.
    pub teachers: Vec<ScaleTeacher>,
    /// Everything else.
    pub settings: Settings,
}

/// The settings that a model file keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// M, the number of students of a scale (3).
    pub students: usize,
    /// How images are resized before the networks see them (a square of 256, as in the paper).
    pub resize: Resize,
    /// What stands beyond the edge of an image.
    pub border: Border,
    /// How the students are trained.
    pub training: Training,
    /// Seed of everything random.
    pub seed: u64,
    /// The false-reject rates that the thresholds are calibrated to (none: the highest score of a
    /// validation image).
    #[serde(default)]
    pub false_reject: WantedRates,
    /// How errors are judged ([`Mahalanobis`](Scoring::Mahalanobis); as published in models that do not say it).
    #[serde(default = "Scoring::published")]
    pub scoring: Scoring,
}

/// The two presets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "preset", rename_all = "lowercase")]
pub enum Training {
    /// Random windows of several images a step, on the grid.
    Quick(Quick),
    /// The published procedure: one whole image a step, every pixel.
    Paper(Paper),
}

impl Training {
    /// The positions that are trained and calibrated on.
    pub fn sampling(&self) -> Sampling {
        match self {
            Self::Quick(_) => Sampling::Grid,
            Self::Paper(_) => Sampling::Dense,
        }
    }

    /// Whether runs end early.
    pub fn early_stop(&self) -> bool {
        matches!(self, Self::Quick(quick) if quick.early_stop)
    }

    /// The budget in seconds, if there is one.
    pub(super) fn budget(&self) -> Option<u64> {
        match self {
            Self::Quick(quick) => quick.length.budget(),
            Self::Paper(_) => None,
        }
    }
}

/// Settings of the quick preset; all of them ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quick {
    /// How long to train.
    pub length: Length,
    /// Windows in a step, each from an image drawn at random. One: for the same time, many small steps get further than few
    /// large ones.
    pub windows: usize,
    /// Side of a window in pixels; `None` for 49, 129 and 161 at p = 17, 33 and 65. Windows
    /// are cut down to images that are smaller.
    pub window: Option<usize>,
    /// How gradients become steps.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Largest learning rate of the one-cycle schedule.
    pub learning_rate: f64,
    /// Weight decay of the optimiser.
    pub weight_decay: f64,
    /// Batch norm after every activation in training, folded into the convolutions afterwards: students learn in fewer steps.
    pub batch_norm: bool,
    /// A position counts in the loss by this power of its error, relative to the mean of the errors: 0 counts all alike, as
    /// published; 1 lets students learn edges and glitter sooner, whose errors hide defects.
    #[serde(default)]
    pub focus: f64,
    /// Whether some training images are not learned, but watched, and a run whose loss on them has stopped falling is ended early.
    #[serde(default)]
    pub early_stop: bool,
    /// The teacher's mean and deviation are taken over at most this many training images.
    pub statistics_images: usize,
}

/// Settings of the published procedure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paper {
    /// Passes over the training images (recalled, not verified: 100).
    pub epochs: usize,
    /// Learning rate of Adam (1e-4).
    pub learning_rate: f64,
    /// Weight decay of Adam (1e-5).
    pub weight_decay: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            students: 3,
            resize: Resize::Square(256),
            border: Border::Reflect,
            training: Training::Quick(Quick::default()),
            seed: 0,
            false_reject: WantedRates::default(),
            scoring: Scoring::Mahalanobis,
        }
    }
}

impl Default for Quick {
    fn default() -> Self {
        Self {
            length: Length::Steps(QUICK_STEPS),
            windows: 1,
            window: None,
            optimizer: Optimizer::Muon,
            // Chosen by the loss on validation images: with batch norm larger steps are safe.
            learning_rate: 3e-3,
            weight_decay: 1e-5,
            batch_norm: true,
            focus: 1.0,
            // What it does to the quality of real models has not been measured yet.
            early_stop: false,
            statistics_images: 100,
        }
    }
}

/// More steps than any run needs.
const MOST_STEPS: usize = 100_000_000;

/// Steps of the quick preset: students that learn for longer come closer to the teacher on good parts, but on defects too
/// (`docs/notes/students.md` has the measurements).
pub const QUICK_STEPS: usize = 500;

impl Default for Paper {
    fn default() -> Self {
        Self {
            epochs: 100,
            learning_rate: 1e-4,
            weight_decay: 1e-5,
        }
    }
}

impl Quick {
    /// The defaults for training without batch norm, which does not stand the large learning rate.
    pub fn without_batch_norm() -> Self {
        Self {
            learning_rate: 1e-3,
            batch_norm: false,
            ..Self::default()
        }
    }

    /// The most steps that a budget is spent on.
    pub(crate) fn most_budgeted_steps(&self) -> usize {
        match self.optimizer {
            Optimizer::Muon => QUICK_STEPS,
            // Adam's students are far from the teacher for thousands of steps.
            Optimizer::Adam => MOST_STEPS,
        }
    }

    /// Side of the windows for a patch size.
    pub(crate) fn window_side(&self, field: ReceptiveField) -> usize {
        self.window.unwrap_or(match field {
            ReceptiveField::P17 => 49,
            ReceptiveField::P33 => 129,
            ReceptiveField::P65 => 161,
        })
    }
}

impl StudentTeacherConfig {
    /// The patch sizes of [`built_in`](Self::built_in). Two find more than one on both real sets (`docs/notes/students.md`); the third takes
    /// longer than both and adds little.
    pub const SCALES: [ReceptiveField; 2] = [ReceptiveField::P33, ReceptiveField::P65];

    /// The patch sizes of students that predict a pretrained network's features. More were not measured (`docs/notes/results.md`).
    pub const BACKBONE_SCALES: [ReceptiveField; 1] = [ReceptiveField::P33];

    /// With a budget of fewer seconds the usual patch size is one: scales share a budget, and each scale describes many images before and
    /// after its steps. Two minutes do not suffice for two scales on two cores (`docs/notes/performance.md`).
    const LEAST_FOR_TWO_SCALES: u64 = 300;

    /// The patch sizes of built-in teachers for a run of this length.
    pub fn usual_scales(length: Option<Length>) -> Vec<ReceptiveField> {
        match length.and_then(Length::budget) {
            Some(seconds) if seconds < Self::LEAST_FOR_TWO_SCALES => vec![ReceptiveField::P33],
            _ => Self::SCALES.to_vec(),
        }
    }

    /// The default: the built-in teachers of [`SCALES`](Self::SCALES) and the default settings.
    ///
    /// # Errors
    /// If a built-in file is damaged, which a test rules out.
    pub fn built_in() -> Result<Self, WeightFileError> {
        let teachers = Self::SCALES.map(|field| Teacher::built_in(field).map(ScaleTeacher::from));
        Ok(Self::new(teachers.into_iter().collect::<Result<_, _>>()?))
    }

    /// The default settings with the given teachers.
    pub fn new(teachers: Vec<ScaleTeacher>) -> Self {
        Self {
            teachers,
            settings: Settings::default(),
        }
    }
}

impl Config for StudentTeacherConfig {
    fn seed(&self) -> u64 {
        self.settings.seed
    }

    fn check_settings(&self) -> Result<(), TrainError> {
        let mut fields: Vec<_> = self
            .teachers
            .iter()
            .map(ScaleTeacher::receptive_field)
            .collect();
        let count = fields.len();
        fields.sort_unstable();
        fields.dedup();
        check_rules([
            (
                "scales",
                count > 0 && fields.len() == count,
                "one to three different ones".into(),
            ),
            (
                "students",
                (1..=16).contains(&self.settings.students),
                "1 to 16".into(),
            ),
            (
                "teachers",
                share_weights(&self.teachers),
                "one pretrained network for all scales that have one".into(),
            ),
        ])?;
        match &self.settings.training {
            Training::Paper(paper) => check_rules([
                (
                    "epochs",
                    (1..=100_000).contains(&paper.epochs),
                    "1 to 100 000".into(),
                ),
                rate(paper.learning_rate),
                decay(paper.weight_decay),
            ]),
            Training::Quick(quick) => {
                let largest = fields.last().map_or(0, |field| field.side());
                check_rules([
                    (
                        "steps",
                        !matches!(quick.length, Length::Steps(steps) if !(1..=MOST_STEPS).contains(&steps)),
                        format!("1 to {MOST_STEPS}"),
                    ),
                    (
                        "windows",
                        (1..=256).contains(&quick.windows),
                        "1 to 256".into(),
                    ),
                    (
                        "window",
                        quick
                            .window
                            .is_none_or(|side| (largest..=2048).contains(&side)),
                        format!("{largest} (the largest scale) to 2048 pixels"),
                    ),
                    rate(quick.learning_rate),
                    decay(quick.weight_decay),
                    ("focus", (0.0..=4.0).contains(&quick.focus), "0 to 4".into()),
                    (
                        "statistics images",
                        quick.statistics_images > 0,
                        "at least 1".into(),
                    ),
                ])
            }
        }
    }
}

/// Whether all pretrained networks among the teachers are one.
fn share_weights(teachers: &[ScaleTeacher]) -> bool {
    let networks = teachers.iter().map(ScaleTeacher::extractor);
    let mut networks = networks.filter_map(|extractor| Some(extractor.backbone()?.manifest()));
    let first: Option<&BackboneManifest> = networks.next();
    first.is_none_or(|first| networks.all(|other| other.same_weights(first)))
}

fn rate(value: f64) -> (&'static str, bool, String) {
    (
        "learning rate",
        value > 0.0 && value <= 1.0,
        "above 0, at most 1".into(),
    )
}

fn decay(value: f64) -> (&'static str, bool, String) {
    (
        "weight decay",
        (0.0..=1.0).contains(&value),
        "0 to 1".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_budget_goes_to_one_scale() {
        let of = |length| StudentTeacherConfig::usual_scales(length).len();
        let budget = |seconds| Some(Length::Budget(seconds));
        assert_eq!([of(budget(120)), of(budget(299))], [1, 1]);
        let others = [budget(300), budget(3600), Some(Length::Steps(9)), None];
        assert_eq!(others.map(of), [2; 4]);
    }
}
