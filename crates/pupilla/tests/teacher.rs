//! Training and keeping a teacher.

use pupilla::receptive_field::ReceptiveField;
use pupilla::teacher::{Teacher, TeacherConfig, train};
use pupilla::weight_file::WeightFileError;
use pupilla_core::image::Image;
use pupilla_core::observer::{Observer, Silent};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::student_teacher::{images, teacher};

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

#[test]
fn each_loss_falls() {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    for [triplet_weight, compactness_weight] in [[1.0, 0.0], [0.0, 0.01]] {
        let config = TeacherConfig {
            triplet_weight,
            compactness_weight,
            steps: 40,
            images_per_step: 4,
            window: 45,
            held_out: 0.3,
            // Ten patterns are no thousand photographs: the default rate overshoots on them.
            learning_rate: 1e-4,
            ..TeacherConfig::new(ReceptiveField::P33)
        };
        let mut losses = Losses::default();
        let teacher = train(&config, &patterns(10), "patterns", None, &mut losses).unwrap();
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
    }
}

#[test]
fn a_teacher_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    for field in ReceptiveField::ALL {
        let teacher = teacher(field);
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
fn the_built_in_teacher_is_whole() {
    let teacher = Teacher::built_in(ReceptiveField::P33).unwrap().unwrap();
    assert_eq!(teacher.receptive_field(), ReceptiveField::P33);
    let held_out = teacher.manifest().held_out.unwrap();
    assert!(held_out.triplets_holding > 0.8, "{held_out:?}");
    assert!(held_out.mean_correlation < 0.3, "{held_out:?}");
}

#[test]
fn one_image_has_no_negative() {
    let config = TeacherConfig::new(ReceptiveField::P17);
    let error = train(&config, &images(1, 90, 90), "", None, &mut Silent).unwrap_err();
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
