//! Training and keeping a teacher.

use pupilla::backbone::{self, Backbone, BackboneConfig, DenseFeatures, ResNet18Config};
use pupilla::teacher::{
    Distillation, DistillationError, Provenance, StepLosses, TeacherConfig, TrainedTeacher, report,
    train,
};
use pupilla::{Checkpoints, ReceptiveField, Teacher, TrainError};
use pupilla_core::image::Image;
use pupilla_core::observer::{Observer, Silent};
use pupilla_files::weight_file::WeightFileError;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backbone::{safetensors, state_dict};
use crate::mutations::{header, manifest, with_manifest};
use crate::student_teacher::{images, striped, teacher};

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn advance(&mut self, _done: u64, loss: Option<f64>) {
        self.0.extend(loss);
    }
}

/// Waves of different colours, directions and lengths under noise: images that differ.
fn patterns(count: u64) -> Vec<Image> {
    let (width, height) = (150, 140);
    let pattern = |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |low: f32, high: f32| random.random_range(low..high);
        let (across, down) = (draw(-0.9, 0.9), draw(-0.9, 0.9));
        let colour = [draw(0.1, 0.9), draw(0.1, 0.9), draw(0.1, 0.9)];
        let mut pixels = Vec::new();
        for row in 0..height {
            for column in 0..width {
                let wave = (row as f32 * down + column as f32 * across).sin();
                pixels.extend(colour.map(|c| (c + 0.3 * wave + draw(-0.2, 0.2)).clamp(0.0, 1.0)));
            }
        }
        Image::new(width, height, pixels)
    };
    (0..count).map(pattern).collect()
}

/// A short run on patterns.
fn short(field: ReceptiveField, distillation: Option<Distillation>) -> TeacherConfig {
    let config = match distillation {
        Some(distillation) => TeacherConfig::distilled(field, distillation),
        None => TeacherConfig::new(field),
    };
    let window = match config.distillation {
        Some(Distillation::Features { .. } | Distillation::Logits { .. }) => field.side(),
        _ => field.side() + 12,
    };
    TeacherConfig {
        steps: 40,
        images_per_step: 4,
        window,
        held_out: 0.3,
        // Forty steps of a smaller rate leave Muon's networks where they began.
        learning_rate: 4e-3,
        ..config
    }
}

/// ResNet-18 with random weights, to layer2 or as a whole.
fn pretrained(whole: bool) -> Box<dyn Backbone> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    let config = BackboneConfig::ResNet18(ResNet18Config {
        stages: if whole { 4 } else { 2 },
        classes: whole.then_some(10),
    });
    std::fs::write(&path, safetensors(&state_dict(config))).unwrap();
    backbone::load(&path).unwrap()
}

fn dense(zoom: usize) -> Distillation {
    Distillation::Dense {
        features: DenseFeatures {
            outputs: vec!["layer1".into(), "layer2".into()],
            zoom,
            smooth: true,
        },
        context: 8,
    }
}

fn trained(
    config: &TeacherConfig,
    backbone: Option<&dyn Backbone>,
    observer: &mut dyn Observer,
) -> Result<Teacher, TrainError> {
    with_history(config, backbone, observer).map(|trained| trained.teacher)
}

fn with_history(
    config: &TeacherConfig,
    backbone: Option<&dyn Backbone>,
    observer: &mut dyn Observer,
) -> Result<TrainedTeacher, TrainError> {
    train(
        config,
        &patterns(10),
        backbone,
        &Provenance::default(),
        None,
        observer,
    )
}

#[test]
fn each_loss_falls() {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    for [triplet_weight, compactness_weight] in [[1.0, 0.0], [0.0, 0.01]] {
        let config = TeacherConfig {
            triplet_weight,
            compactness_weight,
            learning_rate: 1e-4,
            ..short(ReceptiveField::P33, None)
        };
        let mut losses = Losses::default();
        let teacher = trained(&config, None, &mut losses).unwrap();
        assert_eq!(losses.0.len(), 40);
        let (first, last) = (mean(&losses.0[..8]), mean(&losses.0[32..]));
        assert!(
            last < 0.8 * first,
            "{triplet_weight}: {first} to {last}: {:?}",
            losses.0
        );
        let held_out = teacher.manifest().held_out.unwrap();
        assert_eq!(held_out.images, 3);
        assert!((0.0..=1.0).contains(&held_out.triplets_holding));
        assert!((0.0..=1.0).contains(&held_out.mean_correlation));
        assert_eq!(held_out.distillation, None);
    }
}

#[test]
fn every_form_of_distillation_is_learned() {
    let whole = pretrained(true);
    let maps = pretrained(false);
    let field = ReceptiveField::P33;
    let side = field.side();
    for (form, backbone) in [
        (dense(1), &maps),
        (Distillation::Features { side }, &whole),
        (
            Distillation::Logits {
                side: 40,
                temperature: 3.0,
            },
            &whole,
        ),
    ] {
        let config = TeacherConfig {
            steps: 24,
            ..short(field, Some(form.clone()))
        };
        let mut observer = Losses::default();
        let trained = with_history(&config, Some(&**backbone), &mut observer).unwrap();
        let (teacher, history) = (trained.teacher, trained.history);
        assert_eq!(history.len(), 24);
        let mean = |part: &[StepLosses]| {
            let terms = part.iter().map(|losses| losses.distillation.unwrap());
            terms.sum::<f64>() / part.len() as f64
        };
        let (first, last) = (mean(&history[..8]), mean(&history[16..]));
        assert!(last < 0.9 * first, "{form:?}: {first} to {last}");
        assert!(history.iter().all(|losses| losses.triplet.is_none()));
        let manifest = teacher.manifest();
        assert_eq!(manifest.tutor.as_ref().unwrap().network, backbone.config());
        match manifest.held_out.unwrap().distillation.unwrap() {
            DistillationError::Variance { unexplained } => {
                assert!(!matches!(form, Distillation::Logits { .. }));
                assert!((0.0..1.2).contains(&unexplained), "{unexplained}");
            }
            DistillationError::Classes {
                divergence,
                agreement,
            } => {
                assert!(matches!(form, Distillation::Logits { .. }));
                assert!(divergence >= 0.0, "{divergence}");
                assert!((0.0..=1.0).contains(&agreement), "{agreement}");
            }
        }
    }
}

#[test]
fn all_losses_together_at_every_scale() {
    let backbone = pretrained(false);
    for field in ReceptiveField::ALL {
        let config = TeacherConfig {
            triplet_weight: 0.5,
            compactness_weight: 0.001,
            steps: 2,
            images_per_step: 2,
            ..short(field, Some(dense(2)))
        };
        let trained = with_history(&config, Some(&*backbone), &mut Silent).unwrap();
        for losses in trained.history {
            let weighted = losses.distillation.unwrap()
                + 0.5 * losses.triplet.unwrap()
                + config.compactness_weight * losses.compactness.unwrap();
            assert!(
                (losses.total - weighted).abs() < 1e-5 * weighted.abs(),
                "{losses:?}"
            );
        }
    }
}

/// Asks to stop once so many steps are done.
struct Stops(u64, u64);

impl Observer for Stops {
    fn losses(&mut self, step: u64, _terms: &[(&str, f64)]) {
        self.1 = step;
    }

    fn stop_requested(&mut self) -> bool {
        self.1 >= self.0
    }
}

#[derive(Default)]
struct Resumed(Option<u64>, Vec<String>);

impl Observer for Resumed {
    fn resumed(&mut self, step: u64, _seconds: Option<f64>) {
        self.0 = Some(step);
    }

    fn warn(&mut self, warning: &str) {
        self.1.push(warning.to_string());
    }
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let backbone = pretrained(false);
    let config = TeacherConfig {
        steps: 7,
        images_per_step: 2,
        triplet_weight: 1.0,
        ..short(ReceptiveField::P33, Some(dense(1)))
    };
    let images = patterns(6);
    let run = |checkpoints: &Checkpoints, observer: &mut dyn Observer| {
        let provenance = Provenance::default();
        train(
            &config,
            &images,
            Some(&*backbone),
            &provenance,
            Some(checkpoints),
            observer,
        )
    };
    let saved = |teacher: &Teacher, name: &str| {
        let path = folder.path().join(name);
        teacher.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let checkpoints = |name: &str, resume| Checkpoints {
        path: folder.path().join(name),
        every: 2,
        resume,
    };
    let straight = run(&checkpoints("straight", false), &mut Silent).unwrap();
    let expected = saved(&straight.teacher, "straight.safetensors");

    // Asked to stop after a step, it leaves a checkpoint of that step; after the last one, while what was learned is being measured.
    let first = checkpoints("stopped", true);
    for after in [5, 7] {
        let _ = first.remove();
        let said = run(&first, &mut Stops(after, 0)).unwrap_err();
        assert!(
            matches!(&said, TrainError::StoppedWithCheckpoint { step, path } if (*step as u64, path) == (after, &first.path)),
            "{said}"
        );
        assert!(said.to_string().contains("can resume"), "{said}");
        let mut observer = Resumed::default();
        let resumed = run(&first, &mut observer).unwrap();
        assert_eq!(observer.0, Some(after));
        assert_eq!(resumed.history, straight.history);
        assert!(saved(&resumed.teacher, "resumed.safetensors") == expected);
    }

    // The last checkpoint is of the last step: a run killed while it was being measured goes on from there.
    let mut observer = Resumed::default();
    let again = run(&first, &mut observer).unwrap();
    assert_eq!(observer.0, Some(7));
    assert!(saved(&again.teacher, "again.safetensors") == expected);

    // Without a checkpoint a run begins, and says so.
    let mut observer = Resumed::default();
    run(&checkpoints("none", true), &mut observer).unwrap();
    assert_eq!(observer.0, None);
    assert!(observer.1[0].contains("no checkpoint"), "{:?}", observer.1);

    // Another run's, a damaged and a foreign one are refused.
    let other = TeacherConfig {
        seed: 1,
        ..config.clone()
    };
    let provenance = Provenance::default();
    let refusal = |config: &TeacherConfig| {
        train(
            config,
            &images,
            Some(&*backbone),
            &provenance,
            Some(&first),
            &mut Silent,
        )
        .unwrap_err()
        .to_string()
    };
    assert!(
        refusal(&other).contains("another version"),
        "{}",
        refusal(&other)
    );
    let mut bytes = std::fs::read(&first.path).unwrap();
    let (_, of_file) = header(&bytes);
    for (targets, reason) in [(0, "does not fit"), (5, "[128, 5]"), (1 << 30, "more than")] {
        let mut lying = manifest(&of_file);
        assert_eq!(lying["targets"], 192);
        lying["targets"] = targets.into();
        let lying = with_manifest(&bytes, &of_file, &lying);
        std::fs::write(&first.path, lying).unwrap();
        let said = refusal(&config);
        assert!(said.contains(reason), "{targets} targets: {said}");
    }
    // What a program with another engine kept is another run's.
    let mut old = manifest(&of_file);
    let identity = old["identity"].as_str().unwrap().to_string();
    assert!(identity.contains("engine 2"), "{identity}");
    old["identity"] = identity.replace(", engine 2", "").into();
    let old = with_manifest(&bytes, &of_file, &old);
    std::fs::write(&first.path, old).unwrap();
    let said = refusal(&config);
    assert!(said.contains("another version"), "{said}");
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&first.path, &bytes).unwrap();
    assert!(
        refusal(&config).contains("checksum"),
        "{}",
        refusal(&config)
    );
    std::fs::write(&first.path, &expected).unwrap();
    assert!(
        refusal(&config).contains("not a teacher-checkpoint"),
        "{}",
        refusal(&config)
    );
    std::fs::write(&first.path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(&config).contains("cut off"), "{}", refusal(&config));
    first.remove().unwrap();
    first.remove().unwrap();
    assert!(!first.path.exists());
}

#[test]
fn settings_that_cannot_be_are_named() {
    let maps = pretrained(false);
    let field = ReceptiveField::P33;
    let refusal = |config: TeacherConfig, backbone: Option<&dyn Backbone>| {
        trained(&config, backbone, &mut Silent)
            .unwrap_err()
            .to_string()
    };
    let plain = || short(field, None);
    let distilled = |form| short(field, Some(form));
    let temperature = |temperature| Distillation::Logits {
        side: 33,
        temperature,
    };
    let DenseFeatures { smooth, .. } = match dense(1) {
        Distillation::Dense { features, .. } => features,
        _ => unreachable!("dense"),
    };
    let layer4 = Distillation::Dense {
        features: DenseFeatures {
            outputs: vec!["layer4".into()],
            zoom: 1,
            smooth,
        },
        context: 0,
    };
    let window = TeacherConfig {
        window: 45,
        ..distilled(Distillation::Features { side: 33 })
    };
    let endless = TeacherConfig {
        window: 1 << 33,
        ..plain()
    };
    let many = TeacherConfig {
        images_per_step: 1024,
        window: 129,
        resized_sides: [129, 200],
        ..plain()
    };
    let nothing = TeacherConfig {
        triplet_weight: 0.0,
        compactness_weight: 0.0,
        ..plain()
    };
    let unused = TeacherConfig {
        distillation_weight: 0.0,
        triplet_weight: 1.0,
        ..distilled(dense(1))
    };
    let far = TeacherConfig {
        resized_sides: [2000, 2000],
        ..distilled(Distillation::Dense {
            features: DenseFeatures {
                outputs: vec!["layer1".into()],
                zoom: 8,
                smooth: true,
            },
            context: 1024,
        })
    };
    let not_a_number = TeacherConfig {
        compactness_weight: f64::NAN,
        ..plain()
    };
    for (config, backbone, words) in [
        (plain(), Some(&*maps), "what to learn"),
        (
            distilled(dense(1)),
            None,
            "pretrained network to learn from",
        ),
        (distilled(dense(0)), Some(&*maps), "zoom"),
        (distilled(dense(9)), Some(&*maps), "zoom"),
        (distilled(layer4), Some(&*maps), "no output \"layer4\""),
        (
            distilled(Distillation::Features { side: 33 }),
            Some(&*maps),
            "no output \"features\"",
        ),
        (
            distilled(temperature(2.0)),
            Some(&*maps),
            "no output \"logits\"",
        ),
        (distilled(temperature(0.5)), Some(&*maps), "temperature"),
        (
            distilled(Distillation::Features { side: 20 }),
            Some(&*maps),
            "patch side",
        ),
        (window, Some(&*maps), "window"),
        (endless, None, "window"),
        (many, None, "images per step"),
        (nothing, None, "loss weights"),
        (unused, Some(&*maps), "distillation weight"),
        (far, Some(&*maps), "context"),
        (not_a_number, None, "loss weights"),
    ] {
        let said = refusal(config, backbone);
        assert!(said.contains(words), "{words} is not in: {said}");
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_training() {
    let config = TeacherConfig {
        learning_rate: 1.0,
        batch_norm: false,
        weight_decay: 1.0,
        triplet_weight: 1e30,
        margin: 1e30,
        ..short(ReceptiveField::P33, None)
    };
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints {
        path: folder.path().join("checkpoint"),
        every: 1,
        resume: false,
    };
    let provenance = Provenance::default();
    let fails = |config: &TeacherConfig, checkpoints: &Checkpoints| {
        let images = patterns(4);
        match train(
            config,
            &images,
            None,
            &provenance,
            Some(checkpoints),
            &mut Silent,
        ) {
            // Of weights that are broken while the loss before them was fine, the file behind that step is not written.
            Err(TrainError::Diverged { step, .. }) => step,
            Err(TrainError::BrokenState { step, .. }) => step - 1,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("trained"),
        }
    };
    // What was good before it is kept, and is gone on from: to the same end.
    let good = fails(&config, &checkpoints);
    assert_eq!(checkpoints.path.exists(), good > 0);
    checkpoints.resume = true;
    assert_eq!(fails(&config, &checkpoints), good);
    // A gradient that overflows at once leaves nothing that could not be read.
    let config = TeacherConfig {
        triplet_weight: 1e38,
        ..config
    };
    checkpoints.path = folder.path().join("another");
    let good = fails(&config, &checkpoints);
    assert_eq!(checkpoints.path.exists(), good > 0);
    assert_eq!(fails(&config, &checkpoints), good);
}

#[test]
fn a_report_shows_correlation_and_neighbours() {
    let backbone = pretrained(false);
    let config = TeacherConfig {
        steps: 5,
        ..short(ReceptiveField::P33, Some(dense(1)))
    };
    let teacher = trained(&config, Some(&*backbone), &mut Silent).unwrap();
    let images = patterns(5);
    let all: Vec<usize> = (0..5).collect();
    let found = report(
        &teacher,
        &images,
        &all,
        Some(&*backbone),
        [4, 3],
        &mut Silent,
    )
    .unwrap();
    assert!(found.held_out.unwrap().distillation.is_some());
    assert_eq!(found.correlation.len(), 128 * 128);
    for row in 0..128 {
        let diagonal = found.correlation[row * 129];
        assert!((diagonal - 1.0).abs() < 1e-5, "{diagonal}");
        for column in 0..row {
            let [a, b] =
                [[row, column], [column, row]].map(|[r, c]| found.correlation[r * 128 + c]);
            assert!(a == b && a.abs() <= 1.0 + 1e-5);
        }
    }
    assert_eq!(found.neighbours.len(), 4);
    for row in &found.neighbours {
        assert_eq!(row.len(), 4);
        assert!(
            row.iter()
                .all(|patch| (patch.width(), patch.height()) == (33, 33))
        );
    }
    // The figure is that of the matrix.
    let beside = (0..128 * 128).filter(|at| at / 128 != at % 128);
    let total: f64 = beside
        .map(|at| f64::from(found.correlation[at].abs()))
        .sum();
    let mean = found.held_out.unwrap().mean_correlation;
    assert!((total / (128.0 * 127.0) - mean).abs() < 1e-6, "{mean}");
    // More rows than images: several of an image.
    let found = report(&teacher, &images, &all[..2], None, [5, 3], &mut Silent).unwrap();
    assert_eq!(found.neighbours.len(), 5);
    // Images smaller than a patch have figures, and no patches to show.
    let small = vec![striped(20, 20, 1), striped(20, 20, 2)];
    let mut observer = Resumed::default();
    let found = report(&teacher, &small, &[0, 1], None, [4, 3], &mut observer).unwrap();
    assert!(found.held_out.is_some() && found.neighbours.is_empty());
    assert!(observer.1[0].contains("2 of 2 images are smaller than a patch"));
    // Without the pretrained network, one image, none; with another network.
    let found = report(&teacher, &images, &all[..1], None, [4, 3], &mut Silent).unwrap();
    assert_eq!(found.held_out, None);
    assert_eq!(found.neighbours.len(), 1);
    assert!(report(&teacher, &images, &[], None, [4, 3], &mut Silent).is_err());
    let metric = trained(&short(ReceptiveField::P33, None), None, &mut Silent).unwrap();
    let error = report(
        &metric,
        &images,
        &all,
        Some(&*backbone),
        [4, 3],
        &mut Silent,
    );
    assert!(error.unwrap_err().to_string().contains("left out"));
}

#[test]
fn a_teacher_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    let backbone = pretrained(false);
    let distilled = TeacherConfig {
        steps: 2,
        ..short(ReceptiveField::P33, Some(dense(1)))
    };
    let distilled = trained(&distilled, Some(&*backbone), &mut Silent).unwrap();
    for teacher in ReceptiveField::ALL
        .map(teacher)
        .into_iter()
        .chain([distilled])
    {
        teacher.save(&path).unwrap();
        let again = Teacher::load(&path).unwrap();
        assert_eq!(again.manifest(), teacher.manifest());
        // A second round changes no byte: the weights were rounded before the first.
        let before = std::fs::read(&path).unwrap();
        again.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == before);
    }
}

#[test]
fn the_built_in_teachers_are_whole() {
    for field in ReceptiveField::ALL {
        let teacher = Teacher::built_in(field).unwrap();
        assert_eq!(teacher.receptive_field(), field);
        let held_out = teacher.manifest().held_out.unwrap();
        assert!(held_out.mean_correlation < 0.3, "{held_out:?}");
    }
}

#[test]
fn one_image_has_no_negative() {
    let config = TeacherConfig::new(ReceptiveField::P17);
    let provenance = Provenance::default();
    let error = train(
        &config,
        &images(1, 90, 90),
        None,
        &provenance,
        None,
        &mut Silent,
    )
    .unwrap_err();
    assert!(error.to_string().contains("at least 2"), "{error}");
}

#[test]
fn a_model_is_no_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let config = crate::student_teacher::config(ReceptiveField::P33, 1);
    crate::student_teacher::fitted(&config, 40, 40)
        .save(&path)
        .unwrap();
    let error = Teacher::load(&path).unwrap_err();
    assert!(matches!(error, WeightFileError::Kind { .. }), "{error}");
    assert!(error.to_string().contains("student-teacher"), "{error}");
}
