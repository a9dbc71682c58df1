//! Detectors that compare features: the whole way of each, on small images.

use pupilla::{Config, Trained};
use std::num::NonZeroUsize;
use std::sync::LazyLock;

use pupilla::backbone::{BackboneConfig, ResNet18Config};
use pupilla::embedding::{FittedManifest, Gamma, Method};
use pupilla::{
    BackboneExtractor, DetectorKind, EmbeddingConfig, EmbeddingDetector, Extractor, Family, Model,
    ReceptiveField, ScoreError, Teacher, TrainError,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, Silent};
use pupilla_core::verdict::calibration::WantedRates;
use pupilla_files::weight_file::WeightFileError;

use crate::backbone::{safetensors, state_dict};
use crate::model_file::edit_manifest;
use crate::student_teacher::{a_flag_stops, fitted, images, striped, teacher, with_defect};

fn kinds() -> impl Iterator<Item = DetectorKind> {
    DetectorKind::of_family(Family::Embedding)
}

/// A patch network with (nearly) random weights, made once for all tests.
fn patch_network() -> Extractor {
    static TEACHER: LazyLock<Teacher> = LazyLock::new(|| teacher(ReceptiveField::P17));
    Extractor::PatchNetwork(Box::new(TEACHER.clone()))
}

/// ResNet-18 to layer2 with invented weights.
fn pretrained() -> Extractor {
    let tensors = state_dict(BackboneConfig::ResNet18(ResNet18Config {
        stages: 2,
        classes: None,
    }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    std::fs::write(&path, safetensors(&tensors)).unwrap();
    let outputs = ["layer1", "layer2"].map(str::to_string).to_vec();
    let network = BackboneExtractor::load(&path, Some(outputs), 1).unwrap();
    network.with_stride(NonZeroUsize::new(4).unwrap()).into()
}

/// Small numbers for small images.
fn config(kind: DetectorKind, describer: Extractor) -> EmbeddingConfig {
    let mut config = EmbeddingConfig::new(kind, describer).unwrap();
    config.settings.resize = Resize::Square(40);
    config.settings.smoothing = config.settings.smoothing.min(1.0);
    match &mut config.settings.method {
        Method::NearestNeighbour(of) => of.dictionary = 200,
        Method::OneClassSvm(of) => of.sample = 200,
        Method::KMeans(of) => of.dictionary = 8,
        Method::CnnDictionary(of) => (of.dictionary, of.neighbours) = (30, 3),
        Method::MemoryBank(of) => of.coreset = 0.2,
        Method::Padim(of) => of.channels = 20,
        Method::Mahalanobis(of) => of.sample = 300,
        other => panic!("give {other:?} small numbers here"),
    }
    config
}

fn fit(config: &EmbeddingConfig) -> EmbeddingDetector {
    let all = images(6, 47, 43);
    config
        .fit(&all[..4].to_vec(), &all[4..].to_vec(), &mut Silent)
        .unwrap()
}

#[test]
fn a_defect_stands_out_whatever_the_detector() {
    let good = striped(47, 43, 77);
    let bad = with_defect(&good, 14, 18, 12);
    // One that has learned to tell patches apart: a random one need not.
    let teacher = Teacher::built_in(ReceptiveField::P17).unwrap();
    for describer in [Extractor::PatchNetwork(Box::new(teacher)), pretrained()] {
        for kind in kinds() {
            let model = fit(&config(kind, describer.clone()));
            let map = model.anomaly_map(&bad).unwrap();
            assert_eq!((map.width(), map.height()), (47, 43));
            let usual = model.anomaly_map(&good).unwrap().image_score();
            let most = usual.max(model.manifest().validation.threshold);
            assert!(
                map.image_score() > most,
                "{kind}: {} and {most}",
                map.image_score()
            );
            let scores = map.scores().iter().enumerate();
            let (at, _) = scores.max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
            let (row, column) = (at / 47, at % 47);
            assert!(
                (8..32).contains(&row) && (12..36).contains(&column),
                "{kind}: {row}, {column}"
            );
        }
    }
}

#[test]
fn a_saved_detector_scores_as_before_and_equal_runs_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let image = striped(57, 61, 4);
    let (patch_network, pretrained) = (patch_network(), pretrained());
    for (index, kind) in kinds().enumerate() {
        let describer = if index < 3 {
            &patch_network
        } else {
            &pretrained
        };
        let config = config(kind, describer.clone());
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        let before = fit(&config);
        before.save(&one).unwrap();
        fit(&config).save(&two).unwrap();
        let bytes = std::fs::read(&one).unwrap();
        assert!(bytes == std::fs::read(&two).unwrap(), "{kind}");

        let again = Model::load(&one).unwrap();
        assert_eq!(again.kind(), kind);
        let Model::Embedding(detector) = &again else {
            panic!("{kind} was read as something else");
        };
        assert_eq!(detector.manifest(), before.manifest());
        let maps = [before.anomaly_map(&image), again.anomaly_map(&image)];
        let [expected, found] = maps.map(Result::unwrap);
        assert_eq!(expected, found, "{kind}");
        let about = again.about();
        let images = (about.training_images, about.validation.scores.len());
        assert_eq!((images, about.calibration.sampling), ((4, 2), None));
        again.save(&two).unwrap();
        assert!(bytes == std::fs::read(&two).unwrap(), "{kind}");

        let mut other = config.clone();
        other.settings.seed = 1;
        fit(&other).save(&two).unwrap();
        assert!(
            bytes != std::fs::read(&two).unwrap(),
            "{kind}: another seed"
        );
    }
}

#[test]
fn images_without_variance_give_finite_maps() {
    let flat = vec![Image::new(40, 40, vec![0.5; 40 * 40 * 3]); 3];
    let (good, bad) = (&flat[0], with_defect(&flat[0], 14, 14, 12));
    for kind in kinds() {
        let config = config(kind, patch_network());
        let model = config.fit(&flat, &flat[..1].to_vec(), &mut Silent).unwrap();
        let scores = [good, &bad].map(|image| model.anomaly_map(image).unwrap().image_score());
        assert!(
            scores.iter().all(|score| score.is_finite()),
            "{kind}: {scores:?}"
        );
        assert!(scores[1] > scores[0], "{kind}: {scores:?}");
    }
}

#[test]
fn one_image_to_learn_and_one_to_validate_are_enough() {
    let one = images(1, 64, 64);
    for kind in kinds() {
        let mut config = config(kind, patch_network());
        config.settings.resize = Resize::Square(64);
        let model = config.fit(&one, &one, &mut Silent).unwrap();
        let map = model.anomaly_map(&striped(90, 30, 3)).unwrap();
        assert_eq!((map.width(), map.height()), (90, 30));
        assert!(map.scores().iter().all(|score| score.is_finite()));
        let none = config.fit(&Vec::new(), &one, &mut Silent);
        assert!(matches!(
            none,
            Err(TrainError::TooFewImages {
                purpose: "training",
                ..
            })
        ));
    }
}

#[test]
fn images_of_several_sizes_as_they_are() {
    let all = vec![striped(40, 50, 1), striped(61, 44, 2), striped(47, 47, 3)];
    for kind in kinds() {
        for describer in [patch_network(), pretrained()] {
            let mut config = config(kind, describer);
            config.settings.resize = Resize::None;
            let fitted = config.fit(&all, &all, &mut Silent);
            if kind == DetectorKind::Padim {
                let error = fitted.unwrap_err().to_string();
                assert!(
                    error.contains("resize") && error.contains("square"),
                    "{error}"
                );
                continue;
            }
            let map = fitted.unwrap().anomaly_map(&striped(70, 41, 9)).unwrap();
            assert_eq!((map.width(), map.height()), (70, 41));
        }
    }
}

#[test]
fn tiny_images_are_refused_by_patch_networks_and_seen_by_pretrained_ones() {
    let mut all = images(3, 40, 40);
    all.push(striped(16, 40, 1));
    let mut small = config(DetectorKind::MemoryBank, patch_network());
    small.settings.resize = Resize::None;
    let error = small.fit(&all, &all, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("16×40"), "{error}");
    let model = small.fit(&all[..3].to_vec(), &all[..1].to_vec(), &mut Silent);
    assert!(matches!(
        model.unwrap().anomaly_map(&striped(9, 9, 1)),
        Err(ScoreError::TooSmall { .. })
    ));
    let mut small = config(DetectorKind::MemoryBank, pretrained());
    small.settings.resize = Resize::None;
    let model = small.fit(&all, &all, &mut Silent).unwrap();
    assert_eq!(
        model.anomaly_map(&striped(1, 1, 1)).unwrap().scores().len(),
        1
    );
}

#[test]
fn more_entries_than_descriptors_are_named_with_both_numbers() {
    let all = images(2, 40, 40);
    for kind in [
        DetectorKind::NearestNeighbour,
        DetectorKind::KMeans,
        DetectorKind::CnnDictionary,
    ] {
        let mut config = config(kind, patch_network());
        match &mut config.settings.method {
            Method::NearestNeighbour(of) => of.dictionary = 243,
            Method::KMeans(of) => of.dictionary = 243,
            Method::CnnDictionary(of) => of.dictionary = 243,
            _ => unreachable!(),
        }
        match config.fit(&all, &all, &mut Silent) {
            Err(error @ TrainError::TooFewDescriptors { .. }) => {
                let text = error.to_string();
                assert!(
                    text.contains("dictionary") && text.contains("243"),
                    "{text}"
                );
                // Two images of 11×11 positions.
                assert!(text.contains("242"), "{text}");
            }
            other => panic!("{kind}: {:?}", other.err()),
        }
    }
}

/// A change to a configuration.
type Change = fn(&mut Method);

#[test]
fn settings_out_of_range_are_named() {
    let changes: [(&str, DetectorKind, Change); 11] = [
        ("sample", DetectorKind::KMeans, |method| {
            let Method::KMeans(of) = method else {
                unreachable!()
            };
            of.sample = 0;
        }),
        ("variance", DetectorKind::NearestNeighbour, |method| {
            let Method::NearestNeighbour(of) = method else {
                unreachable!()
            };
            of.variance = f64::NAN;
        }),
        ("nu", DetectorKind::OneClassSvm, |method| {
            let Method::OneClassSvm(of) = method else {
                unreachable!()
            };
            of.nu = 1.5;
        }),
        ("gamma", DetectorKind::OneClassSvm, |method| {
            let Method::OneClassSvm(of) = method else {
                unreachable!()
            };
            of.gamma = Gamma::Value(0.0);
        }),
        ("neighbours", DetectorKind::CnnDictionary, |method| {
            let Method::CnnDictionary(of) = method else {
                unreachable!()
            };
            of.neighbours = 31;
        }),
        ("coreset", DetectorKind::MemoryBank, |method| {
            let Method::MemoryBank(of) = method else {
                unreachable!()
            };
            of.coreset = 1.01;
        }),
        ("projection", DetectorKind::MemoryBank, |method| {
            let Method::MemoryBank(of) = method else {
                unreachable!()
            };
            of.projection = 0;
        }),
        ("channels", DetectorKind::Padim, |method| {
            let Method::Padim(of) = method else {
                unreachable!()
            };
            // The patch network has 128.
            of.channels = 129;
        }),
        ("regularisation", DetectorKind::Padim, |method| {
            let Method::Padim(of) = method else {
                unreachable!()
            };
            of.regularisation = 0.0;
        }),
        ("sample", DetectorKind::Mahalanobis, |method| {
            let Method::Mahalanobis(of) = method else {
                unreachable!()
            };
            of.sample = 0;
        }),
        ("regularisation", DetectorKind::Mahalanobis, |method| {
            let Method::Mahalanobis(of) = method else {
                unreachable!()
            };
            of.regularisation = 1.5;
        }),
    ];
    let all = images(2, 40, 40);
    let describer = patch_network();
    for (name, kind, change) in changes {
        let mut config = config(kind, describer.clone());
        change(&mut config.settings.method);
        match config.fit(&all, &all, &mut Silent) {
            Err(TrainError::Setting { setting, .. }) => assert_eq!(setting, name),
            other => panic!("{name}: {:?}", other.err()),
        }
    }
    let mut config = config(DetectorKind::KMeans, describer);
    config.settings.smoothing = -1.0;
    assert!(matches!(
        config.check(),
        Err(TrainError::Setting {
            setting: "smoothing",
            ..
        })
    ));
}

#[test]
fn a_wanted_rate_is_kept_and_options_of_others_do_not_apply() {
    let mut config = config(DetectorKind::Padim, pretrained());
    config.settings.false_reject = WantedRates {
        images: Some("50%".parse().unwrap()),
        pixels: None,
    };
    let model = Model::from(fit(&config));
    let thresholds = model.about().calibration.thresholds;
    assert_eq!(thresholds.image.wanted.unwrap().share(), 0.5);
    let error = model.student_teacher("dense").unwrap_err().to_string();
    assert!(
        error.contains("dense") && error.contains("padim"),
        "{error}"
    );
}

#[test]
fn an_observer_can_stop_every_detector() {
    struct Impatient(u32);
    impl Observer for Impatient {
        fn stop_requested(&mut self) -> bool {
            self.0 += 1;
            self.0 > 5
        }
    }
    let all = images(4, 40, 40);
    for kind in kinds() {
        let stopped = config(kind, patch_network()).fit(&all, &all, &mut Impatient(0));
        assert!(matches!(stopped, Err(TrainError::Stopped)), "{kind}");
    }
}

#[test]
fn a_flag_stops_every_detector_inside_of_an_image_and_changes_no_score() {
    let image = striped(40, 40, 9);
    for kind in kinds() {
        let model = fit(&config(kind, patch_network()));
        a_flag_stops(&model, &image);
    }
}

/// The error of a model file whose manifest was changed.
fn refusal(
    model: &EmbeddingDetector,
    edit: impl FnOnce(&mut serde_json::Value),
) -> WeightFileError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    model.save(&path).unwrap();
    edit_manifest(&path, edit);
    match Model::load(&path) {
        Ok(_) => panic!("a damaged file was accepted"),
        Err(error) => error,
    }
}

#[test]
fn few_images_are_left_out_in_turn_by_a_detector_that_normalises() {
    let all = images(3, 47, 43);
    let bank = config(DetectorKind::MemoryBank, pretrained());
    let fit_on = |learned: &[usize], held_back: usize| {
        let learned: Vec<Image> = learned.iter().map(|&index| all[index].clone()).collect();
        let held_back = vec![all[held_back].clone()];
        bank.fit(&learned, &held_back, &mut Silent).unwrap()
    };
    // Of three images each is a group: the score of each from a detector of the others, normalised by it.
    let highest = [([1, 2], 0), ([0, 2], 1), ([0, 1], 2)].map(|(learned, held_back)| {
        let map = fit_on(&learned, held_back).anomaly_map(&all[held_back]);
        map.unwrap().image_score()
    });
    let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let model = fit_on(&[0, 1], 2);
    let thresholds = model.manifest().calibration().thresholds;
    assert_eq!(thresholds.image.value, highest);
    assert_eq!((thresholds.images, thresholds.groups), (3, Some(3)));
    assert_eq!(thresholds.image.bound, 0.25);
    // The detector itself has not learned the third image.
    assert_eq!(model.manifest().training_images, 2);
    assert_eq!(model.manifest().validation.scores.len(), 1);

    // Without normalisation, a model of fewer images has other scores.
    let padim = fit(&config(DetectorKind::Padim, pretrained()));
    assert_eq!(padim.manifest().calibration, None);
    let mut joined = bank.clone();
    if let Method::MemoryBank(of) = &mut joined.settings.method {
        of.joined = true;
    }
    assert_eq!(fit(&joined).manifest().calibration, None);
}

#[test]
fn damaged_manifests_are_refused() {
    let svm = fit(&config(DetectorKind::OneClassSvm, patch_network()));
    assert!(matches!(
        svm.manifest().method.fitted,
        FittedManifest::SupportVectors(_)
    ));
    let bank = fit(&config(DetectorKind::MemoryBank, pretrained()));
    let padim = fit(&config(DetectorKind::Padim, patch_network()));
    let global = fit(&config(DetectorKind::Mahalanobis, patch_network()));
    let huge = u64::MAX >> 12;
    let refusals = [
        // The header says one detector, the settings another.
        refusal(&svm, |manifest| manifest["kind"] = "k-means".into()),
        refusal(&bank, |manifest| {
            manifest["kind"] = "student-teacher".into()
        }),
        refusal(&bank, |manifest| manifest["kind"] = "nonsense".into()),
        refusal(&svm, |manifest| {
            manifest["fitted"]["support_vectors"]["gamma"] = (-1.0).into()
        }),
        refusal(&svm, |manifest| {
            manifest["fitted"]["support_vectors"]["components"] = 0.into()
        }),
        refusal(&svm, |manifest| {
            manifest["fitted"]["support_vectors"]["vectors"] = huge.into()
        }),
        refusal(&bank, |manifest| {
            manifest["fitted"]["dictionary"]["words"] = huge.into()
        }),
        refusal(&bank, |manifest| {
            manifest["fitted"]["dictionary"]["words"] = 0.into()
        }),
        refusal(&bank, |manifest| {
            manifest["features"]["backbone"]["margin"] = huge.into()
        }),
        refusal(&bank, |manifest| {
            manifest["features"]["backbone"]["features"]["outputs"] = serde_json::json!(["layer4"])
        }),
        refusal(&bank, |manifest| {
            manifest["settings"]["smoothing"] = 1e9.into()
        }),
        refusal(&bank, |manifest| {
            manifest["validation"]["scores"] = serde_json::json!([])
        }),
        refusal(&padim, |manifest| {
            manifest["settings"]["resize"] = "none".into()
        }),
        refusal(&padim, |manifest| {
            manifest["settings"]["resize"] = "8000".into()
        }),
        refusal(&padim, |manifest| {
            manifest["fitted"]["gaussians"]["channels"][19] = 128.into()
        }),
        refusal(&padim, |manifest| {
            manifest["fitted"]["gaussians"]["channels"][0] = 100.into()
        }),
        refusal(&padim, |manifest| {
            manifest["settings"]["method"]["channels"] = 19.into()
        }),
        refusal(&global, |manifest| {
            manifest["fitted"]["global_gaussian"]["channels"] = 127.into()
        }),
        refusal(&global, |manifest| {
            manifest["fitted"]["global_gaussian"]["channels"] = huge.into()
        }),
        refusal(&global, |manifest| {
            manifest["fitted"] = serde_json::json!({ "dictionary": { "words": 8 } })
        }),
        refusal(&global, |manifest| {
            manifest["settings"]["method"]["regularisation"] = 0.into()
        }),
    ];
    for error in refusals {
        assert!(error.to_string().contains("part.pupilla"), "{error}");
    }
}

#[test]
fn a_model_of_students_is_a_model_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let students = fitted(
        &crate::student_teacher::config(ReceptiveField::P17, 1),
        40,
        40,
    );
    students.save(&path).unwrap();
    let model = Model::load(&path).unwrap();
    assert_eq!(model.kind(), DetectorKind::StudentTeacher);
    assert!(matches!(
        EmbeddingDetector::load(&path),
        Err(WeightFileError::Kind { .. })
    ));
    let image = striped(44, 41, 2);
    let maps = [students.anomaly_map(&image), model.anomaly_map(&image)];
    let [one, other] = maps.map(Result::unwrap);
    assert_eq!(one, other);
}
