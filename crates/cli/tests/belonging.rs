//! Every option of `train` with every detector: what does not apply is refused before any work, what applies is not.

use pupilla::DetectorKind::{
    AnoGan, CnnDictionary, KMeans, Mahalanobis, MemoryBank, NearestNeighbour, OneClassSvm, Padim,
    VariationalAutoencoder,
};
use pupilla::{DetectorKind, Family};

use crate::data::{run, stderr, stdout};

/// Options that every detector has.
const COMMON: [&str; 17] = [
    "--out",
    "--force",
    "--detector",
    "--resize",
    "--seed",
    "--false-reject",
    "--pixel-false-reject",
    "--skip-unreadable",
    "--json",
    "--progress",
    "--threads",
    "--device",
    "--help",
    "--good",
    "--recursive",
    "--category",
    "--bits",
];

/// Detectors that compare a pretrained network's features.
const ON_BACKBONES: [DetectorKind; 4] = [CnnDictionary, MemoryBank, Padim, Mahalanobis];

/// Those of a family, but for some.
fn family(family: Family, but: &[DetectorKind]) -> Vec<DetectorKind> {
    let kinds = DetectorKind::of_family(family);
    kinds.filter(|kind| !but.contains(kind)).collect()
}

/// What is given, and whose it is.
fn rows() -> Vec<(&'static [&'static str], Vec<DetectorKind>)> {
    let students = family(Family::StudentTeacher, &[]);
    let embedding = family(Family::Embedding, &[]);
    let reconstruction = family(Family::Reconstruction, &[]);
    let steps = [students.clone(), reconstruction.clone()].concat();
    let describing = [students.clone(), embedding.clone()].concat();
    let backbones = ON_BACKBONES.to_vec();
    vec![
        (&["--dry-run"], steps.clone()),
        (&["--resume"], steps.clone()),
        (&["--checkpoint-every", "5"], steps.clone()),
        (&["--steps", "5"], steps.clone()),
        (&["--budget", "10m"], steps.clone()),
        (&["--learning-rate", "0.001"], steps),
        (&["--scales", "17"], describing.clone()),
        (&["--teacher", "t.safetensors"], describing.clone()),
        (&["--border", "zero"], describing),
        (&["--students", "2"], students.clone()),
        (&["--preset", "paper"], students.clone()),
        (&["--preset", "paper", "--epochs", "2"], students.clone()),
        (&["--epochs", "2"], students.clone()),
        (&["--window", "99"], students.clone()),
        (&["--windows", "2"], students.clone()),
        (&["--optimizer", "adam"], students.clone()),
        (&["--batch-norm", "false"], students.clone()),
        (&["--focus", "0"], students.clone()),
        (&["--scoring", "published"], students.clone()),
        (&["--early-stop"], students.clone()),
        (&["--teacher-backbone", "w.pth"], students.clone()),
        (
            &["--teacher-backbone", "w.pth", "--backbone-zoom", "2"],
            students,
        ),
        (&["--backbone", "w.pth"], backbones.clone()),
        (
            &["--backbone", "w.pth", "--backbone-outputs", "layer2"],
            backbones.clone(),
        ),
        (
            &["--backbone", "w.pth", "--backbone-stride", "4"],
            backbones,
        ),
        (&["--sample", "100"], family(Family::Embedding, &[Padim])),
        (
            &["--variance", "0.9"],
            family(Family::Embedding, &[MemoryBank, Padim, Mahalanobis]),
        ),
        (
            &["--dictionary", "20"],
            vec![NearestNeighbour, KMeans, CnnDictionary],
        ),
        (&["--neighbours", "2"], vec![CnnDictionary]),
        (&["--nu", "0.1"], vec![OneClassSvm]),
        (&["--gamma", "scale"], vec![OneClassSvm]),
        (&["--coreset", "0.1"], vec![MemoryBank]),
        (&["--projection", "9"], vec![MemoryBank]),
        (&["--joined"], vec![MemoryBank]),
        (&["--channels", "9"], vec![Padim]),
        (&["--regularisation", "1"], vec![Padim, Mahalanobis]),
        (&["--smoothing", "1"], embedding),
        (&["--latent", "9"], reconstruction.clone()),
        (&["--batch", "3"], reconstruction),
        (&["--kl-weight", "2"], vec![VariationalAutoencoder]),
        (&["--search-steps", "9"], vec![AnoGan]),
        (&["--search-rate", "0.1"], vec![AnoGan]),
        (&["--feature-weight", "0.2"], vec![AnoGan]),
    ]
}

/// What `train` says of an option: it looks at the options before it looks for the data.
fn said(kind: DetectorKind, words: &[&str]) -> String {
    said_of(&[&["--detector", kind.name()], words].concat())
}

/// The same without a detector.
fn said_of(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let out = folder.path().join("m.pupilla");
    let mut all = vec!["train", nowhere.to_str().unwrap()];
    all.extend(["--out", out.to_str().unwrap()]);
    all.extend(words);
    let output = run(&all);
    assert!(!output.status.success());
    stderr(&output)
}

#[test]
fn every_option_belongs_to_its_detectors_alone() {
    let rows = rows();
    std::thread::scope(|scope| {
        for half in DetectorKind::ALL.chunks(DetectorKind::ALL.len().div_ceil(2)) {
            let rows = &rows;
            scope.spawn(move || {
                for &kind in half {
                    for (words, owners) in rows {
                        let said = said(kind, words);
                        let refused = said.contains("belongs to --detector");
                        assert_eq!(refused, !owners.contains(&kind), "{kind} {words:?}: {said}");
                        assert!(!said.contains("unexpected"), "{kind} {words:?}: {said}");
                    }
                }
            });
        }
    });
}

#[test]
fn without_a_detector_options_of_students_choose_them() {
    // Options about the run choose nothing.
    let about_the_run = ["--dry-run", "--resume", "--checkpoint-every"];
    for (words, owners) in rows() {
        let said = said_of(words);
        let usual = [DetectorKind::default(), DetectorKind::StudentTeacher];
        let of_usual = usual.iter().any(|kind| owners.contains(kind));
        let refused = !of_usual || about_the_run.contains(&words[0]);
        assert_eq!(
            said.contains("not to memory-bank"),
            refused,
            "{words:?}: {said}"
        );
    }
    let said = said_of(&["--steps", "5", "--coreset", "0.1"]);
    assert!(
        said.contains("--coreset belongs to --detector memory-bank, not to student-teacher")
            && said.contains("or name the detector (--steps chose student-teacher)"),
        "{said}"
    );
    // The detector is not the reason here.
    let preset = said_of(&["--scales", "33", "--epochs", "2"]);
    assert!(
        preset.contains("--epochs belongs to --preset paper") && !preset.contains("chose"),
        "{preset}"
    );
    let two = said_of(&["--scales", "17,33"]);
    assert!(two.contains("nowhere"), "{two}");
    let named = said_of(&["--scales", "17,33", "--detector", "memory-bank"]);
    assert!(named.contains("one patch size"), "{named}");
}

#[test]
fn no_option_is_without_a_row() {
    let help = stdout(&run(&["train", "--help"]));
    let known: Vec<&str> = rows()
        .into_iter()
        .flat_map(|(words, _)| words)
        .copied()
        .collect();
    let options = help.lines().filter_map(|line| {
        let line = line.trim_start().trim_start_matches("-h, ");
        line.starts_with("--").then(|| {
            let end = line.find([' ', '[']).unwrap_or(line.len());
            &line[..end]
        })
    });
    let options: Vec<&str> = options.collect();
    assert!(
        options.contains(&"--latent") && options.contains(&"--out"),
        "{help}"
    );
    for option in options {
        assert!(
            COMMON.contains(&option) || known.contains(&option),
            "{option} stands in no row"
        );
    }
}
