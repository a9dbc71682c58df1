//! Numbers at their edges: images without variance, components that never vary, scores without deviation, numbers too large and too
//! small. Nothing becomes NaN unseen, and what does is named where it arises.

use pupilla::{Config, Trained};
use std::path::Path;

use pupilla::student_teacher::Training;
use pupilla::{
    Length, ReceptiveField, ScoreError, StudentTeacher, StudentTeacherConfig, Teacher, TrainError,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::observer::Silent;
use pupilla_core::verdict::attribution::Explained;
use safetensors::SafeTensors;

use crate::golden::{load, picture, stored_models};
use crate::model_file::edit_manifest;
use crate::student_teacher::{config, fitted, images, striped, teacher, with_defect};

fn flat(value: f32) -> Image {
    Image::new(40, 40, vec![value; 40 * 40 * 3])
}

/// Values of 0 and 1 alone, as an overexposed camera gives them.
fn saturated(seed: usize) -> Image {
    let pixel = |at: usize| f32::from(u8::from((at * (at + seed) / 7).is_multiple_of(3)));
    Image::new(40, 40, (0..40 * 40 * 3).map(pixel).collect())
}

fn is_finite(model: &StudentTeacher, image: &Image) -> bool {
    let map = model.anomaly_map(image).unwrap();
    map.scores().iter().all(|score| score.is_finite())
}

#[test]
fn flat_black_white_and_saturated_images_are_learned_and_inspected() {
    let extremes = [flat(0.0), flat(1.0), saturated(1)];
    let config = config(ReceptiveField::P33, 2);
    for learned in &extremes {
        // The validation image is a single one.
        let all = vec![learned.clone(); 3];
        let model = config.fit(&all, &all[..1].to_vec(), &mut Silent).unwrap();
        let manifest = model.manifest();
        assert!(manifest.training.scales[0].training_loss.is_finite());
        assert!(manifest.training.scales[0].validation_loss.is_finite());
        assert!(manifest.validation.threshold.is_finite());
        for image in extremes.iter().chain([&striped(40, 40, 1)]) {
            assert!(is_finite(&model, image));
        }
    }
    // A model of ordinary images sees them too.
    let model = fitted(&config, 40, 40);
    for image in &extremes {
        assert!(is_finite(&model, image));
    }
}

/// The bytes of a tensor in a safetensors file, to be changed.
fn edit_tensor(path: &Path, name: &str, edit: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (from, to) = metadata.info(name).unwrap().data_offsets;
    edit(&mut bytes[8 + header..][from..to]);
    std::fs::write(path, bytes).unwrap();
}

/// A teacher one of whose components is the same for every patch: σ is 0, and it counts nothing.
#[test]
fn a_component_of_the_teacher_that_never_varies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher");
    teacher(ReceptiveField::P33).save(&path).unwrap();
    // The first output channel of the last convolution, in 16 bits.
    edit_tensor(&path, "teacher.conv4.weight", |bytes| {
        bytes[..2 * 256 * 4 * 4].fill(0);
    });
    let config = StudentTeacherConfig {
        teachers: vec![Teacher::load(&path).unwrap().into()],
        ..config(ReceptiveField::P33, 3)
    };
    let model = fitted(&config, 40, 40);
    let saved = folder.path().join("model");
    model.save(&saved).unwrap();
    let bytes = std::fs::read(&saved).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let deviation = file.tensor("scale33.whitening.deviation").unwrap();
    let deviations = deviation.data().chunks_exact(4);
    let deviations: Vec<f32> = deviations
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    // The rounding noise of a constant, and ordinary numbers.
    assert!(
        deviations[0] < 1e-6 && deviations[1] > 1e-4,
        "{deviations:?}"
    );
    let good = striped(40, 40, 5);
    let scores = [&good, &with_defect(&good, 10, 10, 12)]
        .map(|image| model.anomaly_map(image).unwrap().image_score());
    assert!(scores.iter().all(|score| score.is_finite()), "{scores:?}");
}

/// A term without deviation on the validation images counts nothing; without either, every score is 0.
#[test]
fn scores_without_deviation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let model = fitted(&config(ReceptiveField::P33, 2), 40, 40);
    model.save(&path).unwrap();
    let image = with_defect(&striped(40, 40, 3), 10, 10, 12);
    let sum = |explained: &Explained| -> f32 {
        explained.map.scores().iter().map(|score| score.abs()).sum()
    };
    let mut sums = vec![sum(&model.explain(&image).unwrap())];
    for part in ["error_deviation", "variance_deviation"] {
        edit_manifest(&path, |manifest| {
            manifest["scales"][0]["normalisation"][part] = 0.0.into();
        });
        let changed = StudentTeacher::load(&path).unwrap();
        assert!(is_finite(&changed, &image));
        sums.push(sum(&changed.explain(&image).unwrap()));
    }
    assert!(sums[1] != sums[0] && sums[1] > 0.0, "{sums:?}");
    assert_eq!(sums[2], 0.0);
}

/// Numbers of a model that are finite and too large for what is computed with them.
#[test]
fn scores_that_run_over_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    fitted(&config(ReceptiveField::P33, 1), 40, 40)
        .save(&path)
        .unwrap();
    edit_tensor(&path, "scale33.teacher.conv1.weight", |bytes| {
        for number in bytes.chunks_exact_mut(4) {
            let value = f32::from_le_bytes(number.try_into().unwrap());
            number.copy_from_slice(&(value * 1e37).to_le_bytes());
        }
    });
    let model = StudentTeacher::load(&path).unwrap();
    let error = model.anomaly_map(&striped(40, 40, 3)).unwrap_err();
    assert!(
        matches!(error, ScoreError::NotFinite { row: 0, column: 0 }),
        "{error}"
    );
    assert!(error.to_string().contains("row 0, column 0"), "{error}");

    for (name, bytes) in stored_models() {
        let (header, _) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut changed = bytes;
        for number in changed[8 + header..].chunks_exact_mut(4) {
            let value = f32::from_le_bytes(number.try_into().unwrap());
            number.copy_from_slice(&(value * 1e30).clamp(f32::MIN, f32::MAX).to_le_bytes());
        }
        match load(changed).unwrap().anomaly_map(&picture(3, 48, 48)) {
            Ok(map) => assert!(map.scores().iter().all(|score| score.is_finite()), "{name}"),
            Err(ScoreError::NotFinite { .. }) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// A loss that is no number stops the training at its step, and says whose it is.
#[test]
fn a_teacher_that_runs_over_is_named_before_anything_is_learned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher");
    teacher(ReceptiveField::P33).save(&path).unwrap();
    for layer in 1..=4 {
        edit_tensor(&path, &format!("teacher.conv{layer}.weight"), |bytes| {
            // The largest number of 16 bits.
            for number in bytes.chunks_exact_mut(2) {
                number.copy_from_slice(&0x7BFFu16.to_le_bytes());
            }
        });
    }
    let mut config = config(ReceptiveField::P33, 3);
    config.teachers = vec![Teacher::load(&path).unwrap().into()];
    if let Training::Quick(quick) = &mut config.settings.training {
        quick.length = Length::Steps(3);
    }
    let all = images(4, 40, 40);
    match config.fit(&all, &all, &mut Silent) {
        Err(TrainError::Diverged { step, what, .. }) => {
            assert!(step <= 1 && what.contains("33"), "{what} at {step}");
        }
        // 65504⁴ times the number of inputs stays below the largest number of 32 bits.
        Ok(model) => assert!(is_finite(&model, &all[0])),
        Err(error) => panic!("{error}"),
    }
}
