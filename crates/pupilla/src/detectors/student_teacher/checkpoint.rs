//! Checkpoints of a student–teacher run: the finished scales, and everything that a step changes in the scale in training.

use std::time::Instant;

use pupilla_core::observer::Observer;
use serde::{Deserialize, Serialize};

use pupilla_files::weight_file::{NamedBytes, NamedTensor, Precision};

use super::config::{Settings, StudentTeacherConfig};
use super::early_stop::{EarlyStop, LowestLoss};
use super::scoring::{Scoring, Whitening};
use super::students::{Learning, StudentsInTraining, fresh_optimizer};
use super::training::StepsTaken;
use crate::error::TrainError;
use crate::features::Extractor;
use crate::patch_network::arrays::{export, import, layout};
use crate::patch_network::{PatchNetwork, PatchNetworkConfig};
use crate::training::checkpoints::{
    Checkpoints, ReadCheckpoint, checksum, optimizer_export, optimizer_layout,
};
use crate::training::schedule::Ending;

/// `kind` of a checkpoint's file.
const KIND: &str = "student-teacher-checkpoint";

/// Before the names of what belongs to the scale in training, and to its students when their loss was lowest.
const CURRENT: &str = "current";
const BEST: &str = "best";

/// The loss of every step of the scale in training.
const LOSSES: &str = "losses";

/// A scale whose students are trained.
#[derive(Clone)]
pub(super) struct FinishedScale {
    pub students: Vec<PatchNetwork>,
    pub whitening: Whitening,
    pub taken: StepsTaken,
}

/// A scale in training.
pub(super) struct CurrentScale {
    pub whitening: Whitening,
    /// Steps that were planned when it began: a budget's are timed once.
    pub planned: usize,
    pub losses: Vec<f64>,
    pub ending: Option<Ending>,
    pub students: StudentsInTraining,
    /// `None` if no image is watched, and after the run has begun to end early.
    pub lowest: Option<LowestLoss>,
}

/// A scale in training, to be written.
pub(super) struct Snapshot<'a> {
    pub whitening: &'a Whitening,
    pub planned: usize,
    pub losses: &'a [f64],
    pub ending: Option<Ending>,
    pub students: &'a StudentsInTraining,
    pub early_stop: Option<&'a EarlyStop>,
}

/// What a run has done so far, and where it is kept.
pub(super) struct RunState<'a> {
    pub checkpoints: Option<&'a Checkpoints>,
    identity: String,
    started: Instant,
    /// Seconds that the run had taken before it was resumed.
    before: f64,
    pub finished: Vec<FinishedScale>,
    current: Option<CurrentScale>,
}

#[derive(Serialize, Deserialize)]
struct CheckpointManifest {
    /// Seconds that the run had taken so far: the rest of a budget is left.
    seconds: f64,
    finished: Vec<StepsTaken>,
    current: Option<CurrentManifest>,
}

#[derive(Serialize, Deserialize)]
struct CurrentManifest {
    planned: usize,
    ending: Option<Ending>,
    /// Steps of the students' optimisers: fewer than losses once a run has gone back to better students.
    steps: u64,
    watched: Option<WatchedManifest>,
}

#[derive(Serialize, Deserialize)]
struct WatchedManifest {
    since: usize,
    best: Option<BestManifest>,
}

#[derive(Serialize, Deserialize)]
struct BestManifest {
    loss: f64,
    /// Steps of its optimisers.
    steps: u64,
}

/// Settings, teachers and data of a run, in words that are equal for the same run only.
fn identity(config: &StudentTeacherConfig, data: &str) -> String {
    let teachers: Vec<_> = config
        .teachers
        .iter()
        .map(|teacher| {
            let weights = match teacher.extractor() {
                Extractor::PatchNetwork(teacher) => teacher.network().weights(),
                // Its manifest has the fingerprint of its file.
                Extractor::Backbone(_) => Vec::new(),
            };
            let arrays = weights
                .iter()
                .flat_map(|(weight, bias)| [&weight[..], &bias[..]]);
            (
                teacher.extractor().manifest(),
                checksum(arrays, std::iter::empty::<&[u8]>()),
            )
        })
        .collect();
    // No step depends on how errors are judged afterwards: a run may go on with another scoring.
    let settings = Settings {
        scoring: Scoring::Published,
        ..config.settings.clone()
    };
    format!("{settings:?} {teachers:?} {data}")
}

impl<'a> RunState<'a> {
    /// The start of a run: its first step, or the state of its checkpoint, if `resume` is set and the checkpoint exists. `data` is a
    /// fingerprint of the images.
    pub fn begin(
        config: &StudentTeacherConfig,
        networks: &[PatchNetworkConfig],
        learning: Learning,
        data: &str,
        checkpoints: Option<&'a Checkpoints>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let mut state = Self {
            checkpoints,
            identity: checkpoints.map_or(String::new(), |_| identity(config, data)),
            started: Instant::now(),
            before: 0.0,
            finished: Vec::new(),
            current: None,
        };
        let kept = match checkpoints {
            Some(checkpoints) => checkpoints.open((KIND, &state.identity), observer)?,
            None => None,
        };
        if let Some(kept) = kept {
            state.read(kept, config.settings.students, networks, learning, observer)?;
        }
        Ok(state)
    }

    /// Seconds since the run began, those before it was resumed among them.
    pub fn seconds(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// The scale in training when the checkpoint was written; once.
    pub fn take_current(&mut self) -> Option<CurrentScale> {
        self.current.take()
    }

    /// A scale is finished.
    pub fn finish(&mut self, scale: FinishedScale) -> Result<(), TrainError> {
        self.finished.push(scale);
        self.write(None)
    }

    /// The error that ends a run that was asked to stop between the steps, in work which a resumed run does again: what was finished
    /// before is safe.
    pub fn stopped_between(&self, error: TrainError) -> TrainError {
        match (error, self.checkpoints) {
            (TrainError::Stopped, Some(checkpoints)) if !self.finished.is_empty() => {
                TrainError::StoppedWithCheckpoint {
                    step: self.steps(),
                    path: checkpoints.path.clone(),
                }
            }
            (error, _) => error,
        }
    }

    /// Steps of all finished scales.
    pub fn steps(&self) -> usize {
        self.finished.iter().map(|scale| scale.taken.steps).sum()
    }

    /// Writes a checkpoint, if they are kept.
    pub fn write(&self, current: Option<Snapshot<'_>>) -> Result<(), TrainError> {
        let Some(checkpoints) = self.checkpoints else {
            return Ok(());
        };
        let step = self.steps() + current.as_ref().map_or(0, |current| current.losses.len());
        let (mut tensors, mut blobs) = (Vec::new(), Vec::new());
        for (index, scale) in self.finished.iter().enumerate() {
            let prefix = format!("finished{index}");
            for (student, network) in scale.students.iter().enumerate() {
                tensors.extend(export(
                    &student_name(&prefix, student),
                    network,
                    Precision::Full,
                ));
            }
            tensors.extend(whitening_tensors(&prefix, &scale.whitening));
        }
        let current = match current {
            None => None,
            Some(current) => {
                tensors.extend(whitening_tensors(CURRENT, current.whitening));
                blobs.push(NamedBytes {
                    name: LOSSES.to_string(),
                    bytes: current
                        .losses
                        .iter()
                        .copied()
                        .flat_map(f64::to_le_bytes)
                        .collect(),
                });
                let steps = add_students(CURRENT, current.students, &mut tensors);
                let watched = match current.early_stop.map(EarlyStop::state) {
                    None => None,
                    Some((since, None)) => Some(WatchedManifest { since, best: None }),
                    Some((since, Some((loss, students)))) => {
                        let steps = add_students(BEST, students, &mut tensors);
                        let best = Some(BestManifest { loss, steps });
                        Some(WatchedManifest { since, best })
                    }
                };
                Some(CurrentManifest {
                    planned: current.planned,
                    ending: current.ending,
                    steps,
                    watched,
                })
            }
        };
        let manifest = CheckpointManifest {
            seconds: self.seconds(),
            finished: self.finished.iter().map(|scale| scale.taken).collect(),
            current,
        };
        checkpoints.put(step, (KIND, &self.identity), manifest, tensors, &blobs)
    }

    fn read(
        &mut self,
        kept: ReadCheckpoint<CheckpointManifest>,
        students: usize,
        networks: &[PatchNetworkConfig],
        learning: Learning,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let (file, manifest) = (&kept.file, &kept.manifest);
        let of_current = networks.get(manifest.finished.len());
        if manifest.finished.len() > networks.len()
            || (manifest.current.is_some() && of_current.is_none())
        {
            return Err(file.invalid("it has more scales than the run").into());
        }
        // The arrays and bytes that such a run has, in the order in which they were written.
        let (mut wanted, mut blobs) = (Vec::new(), Vec::new());
        for (index, network) in networks.iter().take(manifest.finished.len()).enumerate() {
            let prefix = format!("finished{index}");
            for student in 0..students {
                wanted.extend(layout(&student_name(&prefix, student), network));
            }
            wanted.extend(whitening_layout(&prefix, network));
        }
        if let (Some(current), Some(network)) = (&manifest.current, of_current) {
            wanted.extend(whitening_layout(CURRENT, network));
            blobs.push(LOSSES);
            let optimizer = fresh_optimizer(*network, learning);
            let best = current
                .watched
                .as_ref()
                .and_then(|watched| watched.best.as_ref());
            for prefix in std::iter::once(CURRENT).chain(best.map(|_| BEST)) {
                for student in 0..students {
                    let name = student_name(prefix, student);
                    wanted.extend(layout(&name, network));
                    wanted.extend(optimizer_layout(&name, &optimizer));
                }
            }
        }
        let (tensors, blobs) = kept.contents(&wanted, &blobs)?;
        let (mut tensors, mut blobs) = (tensors.into_iter(), blobs.into_iter());
        for (taken, network) in manifest.finished.iter().zip(networks) {
            let students = (0..students)
                .map(|_| import(network, &mut tensors))
                .collect();
            self.finished.push(FinishedScale {
                students,
                whitening: next_whitening(&mut tensors),
                taken: *taken,
            });
        }
        if let (Some(current), Some(network)) = (&manifest.current, of_current) {
            let whitening = next_whitening(&mut tensors);
            let losses = losses(&blobs.next().unwrap_or_default())
                .filter(|losses| losses.len() <= current.planned)
                .ok_or_else(|| file.invalid("the losses do not fit"))?;
            let mut next = |steps: u64| {
                take_students(steps, students, *network, learning, &mut tensors)
                    .ok_or_else(|| file.invalid("an optimiser's state does not fit"))
            };
            let now = next(current.steps)?;
            let lowest = match &current.watched {
                None => None,
                Some(watched) => Some(LowestLoss {
                    since: watched.since,
                    best: match &watched.best {
                        None => None,
                        Some(best) => Some((best.loss, next(best.steps)?)),
                    },
                }),
            };
            self.current = Some(CurrentScale {
                whitening,
                planned: current.planned,
                losses,
                ending: current.ending,
                students: now,
                lowest,
            });
        }
        self.before = manifest.seconds;
        let current = self
            .current
            .as_ref()
            .map_or(0, |current| current.losses.len());
        observer.resumed((self.steps() + current) as u64, Some(self.before));
        Ok(())
    }
}

fn student_name(prefix: &str, student: usize) -> String {
    format!("{prefix}.student{student}")
}

fn whitening_tensors(prefix: &str, whitening: &Whitening) -> [NamedTensor; 2] {
    let arrays = [
        ("mean", &whitening.mean),
        ("deviation", &whitening.deviation),
    ];
    arrays.map(|(name, values)| NamedTensor {
        name: format!("{prefix}.{name}"),
        shape: vec![values.len()],
        values: values.clone(),
        precision: Precision::Full,
    })
}

fn whitening_layout(prefix: &str, network: &PatchNetworkConfig) -> [(String, Vec<usize>); 2] {
    ["mean", "deviation"].map(|name| (format!("{prefix}.{name}"), vec![network.output_channels]))
}

fn next_whitening(tensors: &mut impl Iterator<Item = Vec<f32>>) -> Whitening {
    let mut next = || tensors.next().unwrap_or_default();
    Whitening {
        mean: next(),
        deviation: next(),
    }
}

/// Adds the students' weights and what their optimisers remember; the optimisers' steps.
fn add_students(
    prefix: &str,
    students: &StudentsInTraining,
    tensors: &mut Vec<NamedTensor>,
) -> u64 {
    let mut steps = 0;
    for (index, (network, optimizer)) in students.parts().enumerate() {
        let name = student_name(prefix, index);
        tensors.extend(export(&name, &network, Precision::Full));
        tensors.extend(optimizer_export(&name, optimizer));
        steps = optimizer.steps();
    }
    steps
}

/// Students from their arrays; `None` if those are of other lengths.
fn take_students(
    steps: u64,
    students: usize,
    network: PatchNetworkConfig,
    learning: Learning,
    tensors: &mut impl Iterator<Item = Vec<f32>>,
) -> Option<StudentsInTraining> {
    let untrained = fresh_optimizer(network, learning);
    let parts = (0..students).map(|_| {
        let parameters = import(&network, tensors).parameters().clone();
        let optimizer = untrained.clone().restored(steps, tensors)?;
        Some((parameters, optimizer))
    });
    let parts = parts.collect::<Option<_>>()?;
    Some(StudentsInTraining::from_parts(network, parts, learning))
}

/// The losses from their bytes; `None` if they are no whole numbers of them, or not finite.
fn losses(bytes: &[u8]) -> Option<Vec<f64>> {
    let (numbers, rest) = bytes.as_chunks::<8>();
    let losses: Vec<f64> = numbers.iter().copied().map(f64::from_le_bytes).collect();
    (rest.is_empty() && losses.iter().all(|loss| loss.is_finite())).then_some(losses)
}
