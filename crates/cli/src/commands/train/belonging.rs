//! Which options belong to which detectors: what does not apply is refused, never ignored.

use pupilla::detector_kind::DetectorKind::{
    self, CnnDictionary, KMeans, MemoryBank, NearestNeighbour, OneClassSvm, Padim, StudentTeacher,
};

use crate::arguments::Train;
use crate::output::Usage;

/// Those that look at a pretrained network's features, if they are given one.
const ON_BACKBONES: [DetectorKind; 3] = [CnnDictionary, MemoryBank, Padim];

/// Those that begin with a PCA.
const WITH_PCA: [DetectorKind; 4] = [NearestNeighbour, OneClassSvm, KMeans, CnnDictionary];

/// Refuses the first option that was given and does not belong to the detector.
pub fn check(train: &Train) -> Result<(), Usage> {
    let features = &train.features;
    let students: &[DetectorKind] = &[StudentTeacher];
    let options: [(&str, bool, &[DetectorKind]); 28] = [
        ("--dry-run", train.dry_run, students),
        ("--resume", train.resume, students),
        (
            "--checkpoint-every",
            train.checkpoint_every.is_some(),
            students,
        ),
        ("--students", train.students.is_some(), students),
        ("--preset", train.preset.is_some(), students),
        ("--steps", train.steps.is_some(), students),
        ("--budget", train.budget.is_some(), students),
        ("--epochs", train.epochs.is_some(), students),
        ("--learning-rate", train.learning_rate.is_some(), students),
        ("--window", train.window.is_some(), students),
        ("--windows", train.windows.is_some(), students),
        ("--optimizer", train.optimizer.is_some(), students),
        ("--batch-norm", train.batch_norm.is_some(), students),
        ("--focus", train.focus.is_some(), students),
        ("--early-stop", train.early_stop.is_some(), students),
        (
            "--teacher-backbone",
            train.teacher_backbone.is_some(),
            students,
        ),
        ("--backbone", features.backbone.is_some(), &ON_BACKBONES),
        (
            "--sample",
            features.sample.is_some(),
            &[
                NearestNeighbour,
                OneClassSvm,
                KMeans,
                CnnDictionary,
                MemoryBank,
            ],
        ),
        ("--variance", features.variance.is_some(), &WITH_PCA),
        (
            "--dictionary",
            features.dictionary.is_some(),
            &[NearestNeighbour, KMeans, CnnDictionary],
        ),
        (
            "--neighbours",
            features.neighbours.is_some(),
            &[CnnDictionary],
        ),
        ("--nu", features.nu.is_some(), &[OneClassSvm]),
        ("--gamma", features.gamma.is_some(), &[OneClassSvm]),
        ("--coreset", features.coreset.is_some(), &[MemoryBank]),
        ("--projection", features.projection.is_some(), &[MemoryBank]),
        ("--channels", features.channels.is_some(), &[Padim]),
        (
            "--regularisation",
            features.regularisation.is_some(),
            &[Padim],
        ),
        (
            "--smoothing",
            features.smoothing.is_some(),
            &[
                NearestNeighbour,
                OneClassSvm,
                KMeans,
                CnnDictionary,
                MemoryBank,
                Padim,
            ],
        ),
    ];
    for (option, given, detectors) in options {
        if given && !detectors.contains(&train.detector) {
            let names: Vec<_> = detectors.iter().map(|kind| kind.name()).collect();
            return Err(Usage(format!(
                "{option} belongs to --detector {}, not to {}: leave it out",
                names.join(", "),
                train.detector
            )));
        }
    }
    Ok(())
}
