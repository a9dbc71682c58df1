//! Thresholds of a model: what training gives, what a calibration changes, and what the parts of a score add up to.

use pupilla::manifest::{CalibrationData, CalibrationManifest};
use pupilla::student_teacher::Settings;
use pupilla::{Config, ReceptiveField, StudentTeacher, StudentTeacherConfig, Trained};
use pupilla_core::detector::Detector;
use pupilla_core::observer::{Observer, Silent};
use pupilla_core::verdict::calibration::{Thresholds, WantedRates};
use pupilla_core::verdict::calibration_run::calibrate;

use crate::model_file::{edit_manifest, refusal};
use crate::student_teacher::{config, fitted, images, striped, teacher, with_defect};

#[test]
fn the_parts_of_a_map_add_up_to_it() {
    let one = config(ReceptiveField::P33, 3);
    let two = StudentTeacherConfig {
        teachers: vec![
            teacher(ReceptiveField::P17).into(),
            teacher(ReceptiveField::P33).into(),
        ],
        ..one.clone()
    };
    for (config, scales) in [(one, 1), (two, 2)] {
        let model = fitted(&config, 48, 45);
        let image = with_defect(&striped(52, 47, 9), 10, 20, 12);
        let explained = model.explain(&image).unwrap();
        assert_eq!(explained.map, model.anomaly_map(&image).unwrap());
        assert_eq!(explained.parts.len(), 2 * scales);
        let mut sum = vec![0.0f64; 52 * 47];
        for part in &explained.parts {
            let map = part.map();
            for (sum, &score) in sum.iter_mut().zip(map.scores()) {
                *sum += f64::from(score);
            }
        }
        for (&score, sum) in explained.map.scores().iter().zip(sum) {
            assert!(
                (f64::from(score) - sum).abs() <= 1e-4 * (1.0 + sum.abs()),
                "{score} {sum}"
            );
        }
    }
}

#[test]
fn a_model_without_rates_has_the_highest_validation_score_and_files_from_before_do_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let model = fitted(&config(ReceptiveField::P33, 1), 40, 40);
    assert_eq!(model.manifest().calibration, None);
    let thresholds = model.manifest().calibration().thresholds;
    assert_eq!(
        thresholds,
        Thresholds::highest(&model.manifest().validation.scores)
    );
    assert_eq!(
        thresholds.image.value,
        model.manifest().validation.threshold
    );
    assert_eq!(thresholds.pixel, thresholds.image);
    model.save(&path).unwrap();
    // A file from before rates and calibration.
    edit_manifest(&path, |manifest| {
        assert!(manifest.get("calibration").is_none());
        manifest["settings"]
            .as_object_mut()
            .unwrap()
            .remove("false_reject")
            .unwrap();
    });
    let old = StudentTeacher::load(&path).unwrap();
    assert_eq!(old.manifest(), model.manifest());
}

#[test]
fn training_keeps_to_a_rate_or_says_what_it_needs() {
    #[derive(Default)]
    struct Told(Vec<String>);
    impl Observer for Told {
        fn warn(&mut self, warning: &str) {
            self.0.push(warning.to_string());
        }
    }
    let plain = config(ReceptiveField::P33, 1);
    let mut told = Told::default();
    let all = images(6, 40, 40);
    let config = StudentTeacherConfig {
        settings: Settings {
            false_reject: WantedRates {
                images: Some("50%".parse().unwrap()),
                pixels: Some("1%".parse().unwrap()),
            },
            ..plain.settings.clone()
        },
        ..plain
    };
    let model = config
        .fit(&all[..3].to_vec(), &all[3..].to_vec(), &mut told)
        .unwrap();
    let calibration = model.manifest().calibration();
    let mut scores = model.manifest().validation.scores.clone();
    scores.sort_by(f32::total_cmp);
    // Two of four may lie above: k = 2.
    assert_eq!(calibration.thresholds.image.value, scores[1]);
    assert_eq!(calibration.thresholds.image.bound, 0.5);
    assert_eq!(calibration.data, None);
    assert!(
        told.0.len() == 1 && told.0[0].contains("needs at least 99"),
        "{:?}",
        told.0
    );
}

#[test]
fn a_calibration_changes_thresholds_alone_and_comes_back_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let model = fitted(&config(ReceptiveField::P33, 1), 40, 40);
    let image = striped(44, 41, 5);
    let map = model.anomaly_map(&image).unwrap();
    let wanted = WantedRates {
        images: Some("20%".parse().unwrap()),
        pixels: Some("30%".parse().unwrap()),
    };
    let good = images(9, 40, 40);
    let thresholds = calibrate(&model, &good, wanted, None, &mut Silent).unwrap();
    let mut scores: Vec<f32> = good
        .iter()
        .map(|image| model.anomaly_map(image).unwrap().image_score())
        .collect();
    scores.sort_by(f32::total_cmp);
    // k = 10 * 0.8.
    assert_eq!(thresholds.image.value, scores[7]);
    assert!(thresholds.pixel.value < thresholds.image.value);
    let calibration = CalibrationManifest {
        thresholds,
        sampling: Some(model.sampling()),
        data: Some(CalibrationData {
            name: "good".to_string(),
            fingerprint: "0".repeat(64),
            roi: None,
        }),
    };
    let validation = model.manifest().validation.clone();
    model
        .with_calibration(calibration.clone())
        .save(&path)
        .unwrap();
    let again = StudentTeacher::load(&path).unwrap();
    assert_eq!(again.manifest().calibration(), calibration);
    assert_eq!(again.manifest().validation, validation);
    assert_eq!(again.anomaly_map(&image).unwrap(), map);
    // A threshold that is none is refused.
    edit_manifest(&path, |manifest| {
        manifest["calibration"]["image"]["bound"] = 7.into()
    });
    assert!(refusal(&path).contains("calibrate the model again"));
}
