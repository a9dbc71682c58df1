//! Which options belong to which detectors: what does not apply is refused, never ignored.

use pupilla::DetectorKind;
use pupilla::DetectorKind::{
    AnoGan, CnnDictionary, KMeans, MemoryBank, NearestNeighbour, OneClassSvm, Padim,
    SimilarityAutoencoder, SquaredErrorAutoencoder, StudentTeacher, VariationalAutoencoder,
};

use crate::arguments::Train;
use crate::output::Usage;

/// Those that look at a pretrained network's features, if they are given one.
const ON_BACKBONES: [DetectorKind; 3] = [CnnDictionary, MemoryBank, Padim];

/// Those that begin with a PCA.
const WITH_PCA: [DetectorKind; 4] = [NearestNeighbour, OneClassSvm, KMeans, CnnDictionary];

/// Those that are trained step by step to make images again.
const MAKERS: [DetectorKind; 4] = [
    SquaredErrorAutoencoder,
    SimilarityAutoencoder,
    VariationalAutoencoder,
    AnoGan,
];

/// All that are trained step by step.
const STEP_BY_STEP: [DetectorKind; 5] = [
    StudentTeacher,
    SquaredErrorAutoencoder,
    SimilarityAutoencoder,
    VariationalAutoencoder,
    AnoGan,
];

/// Those that compare features.
const ON_FEATURES: [DetectorKind; 6] = [
    NearestNeighbour,
    OneClassSvm,
    KMeans,
    CnnDictionary,
    MemoryBank,
    Padim,
];

/// Those that look at patches or features, beyond the edges of an image too.
const DESCRIBING: [DetectorKind; 7] = [
    StudentTeacher,
    NearestNeighbour,
    OneClassSvm,
    KMeans,
    CnnDictionary,
    MemoryBank,
    Padim,
];

/// Refuses the first option that was given and does not belong to the detector.
pub fn check(train: &Train) -> Result<(), Usage> {
    let features = &train.features;
    let students: &[DetectorKind] = &[StudentTeacher];
    let networks = &train.networks;
    let options: [(&str, bool, &[DetectorKind]); 38] = [
        ("--dry-run", train.dry_run, &STEP_BY_STEP),
        ("--resume", train.resume, &STEP_BY_STEP),
        (
            "--checkpoint-every",
            train.checkpoint_every.is_some(),
            &STEP_BY_STEP,
        ),
        ("--students", train.students.is_some(), students),
        ("--preset", train.preset.is_some(), students),
        ("--steps", train.steps.is_some(), &STEP_BY_STEP),
        ("--budget", train.budget.is_some(), &STEP_BY_STEP),
        ("--epochs", train.epochs.is_some(), students),
        (
            "--learning-rate",
            train.learning_rate.is_some(),
            &STEP_BY_STEP,
        ),
        ("--window", train.window.is_some(), students),
        ("--windows", train.windows.is_some(), students),
        ("--optimizer", train.optimizer.is_some(), students),
        ("--batch-norm", train.batch_norm.is_some(), students),
        ("--focus", train.focus.is_some(), students),
        ("--early-stop", train.early_stop.is_some(), students),
        ("--scoring", train.scoring.is_some(), students),
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
        ("--smoothing", features.smoothing.is_some(), &ON_FEATURES),
        ("--scales", train.scales.is_some(), &DESCRIBING),
        ("--teacher", !train.teachers.is_empty(), &DESCRIBING),
        ("--border", train.border.is_some(), &DESCRIBING),
        ("--latent", networks.latent.is_some(), &MAKERS),
        ("--batch", networks.batch.is_some(), &MAKERS),
        (
            "--kl-weight",
            networks.kl_weight.is_some(),
            &[VariationalAutoencoder],
        ),
        ("--search-steps", networks.search_steps.is_some(), &[AnoGan]),
        ("--search-rate", networks.search_rate.is_some(), &[AnoGan]),
        (
            "--feature-weight",
            networks.feature_weight.is_some(),
            &[AnoGan],
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
