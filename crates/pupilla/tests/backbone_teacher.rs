//! Students that predict a pretrained network's features: the whole way, on small images.

use pupilla::backbone::{BackboneConfig, ResNet18Config};
use pupilla::internals::ExtractorManifest;
use pupilla::student_teacher::{Paper, Quick, Settings, Training};
use pupilla::{
    BackboneExtractor, Config, Length, ReceptiveField, Sampling, ScaleTeacher, ScoreError, Scoring,
    StudentTeacher, StudentTeacherConfig, TrainError, Trained,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::Silent;
use safetensors::SafeTensors;

use crate::backbone::{Named, safetensors, state_dict};
use crate::model_file::{Edit, edit_manifest, refusal};
use crate::student_teacher::{fitted, images, striped, teacher as patch_teacher, with_defect};

/// ResNet-18 to layer2, in a file.
fn tensors() -> Vec<Named> {
    state_dict(BackboneConfig::ResNet18(ResNet18Config {
        stages: 2,
        classes: None,
    }))
}

/// `layer1` and `layer2` of such a file: 192 channels.
fn loaded(tensors: &[Named], zoom: usize) -> BackboneExtractor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    std::fs::write(&path, safetensors(tensors)).unwrap();
    let outputs = ["layer1", "layer2"].map(str::to_string).to_vec();
    BackboneExtractor::load(&path, Some(outputs), zoom).unwrap()
}

fn config(fields: &[ReceptiveField], steps: usize, zoom: usize) -> StudentTeacherConfig {
    let teacher = loaded(&tensors(), zoom);
    let of_scale = |&field| ScaleTeacher::backbone(field, teacher.clone());
    let largest = fields.iter().max().unwrap();
    StudentTeacherConfig {
        teachers: fields.iter().map(of_scale).collect(),
        settings: Settings {
            students: 2,
            resize: Resize::None,
            training: Training::Quick(Quick {
                length: Length::Steps(steps),
                windows: 3,
                window: Some(largest.side() + 2 * largest.pooling_stride()),
                ..Quick::default()
            }),
            ..Settings::default()
        },
    }
}

const P33: [ReceptiveField; 1] = [ReceptiveField::P33];

#[test]
fn a_defect_stands_out_from_good_images() {
    // After so few steps errors in the metric are highest where a patch's rim meets the defect, 16 pixels from its centre.
    for (scoring, beyond) in [(Scoring::Published, 6), (Scoring::Mahalanobis, 16)] {
        let mut config = config(&P33, 16, 1);
        config.settings.scoring = scoring;
        stands_out(&fitted(&config, 64, 61), beyond);
    }
}

/// A defect in the rows from 24 and the columns from 30 on, 12 pixels wide, has the map's highest score, at most so many pixels
/// beyond its edges.
fn stands_out(model: &StudentTeacher, beyond: usize) {
    let good = striped(64, 61, 77);
    let bad = with_defect(&good, 24, 30, 12);
    let [good, bad] = [good, bad].map(|image| model.anomaly_map(&image).unwrap());
    assert_eq!((bad.width(), bad.height()), (64, 61));
    let threshold = model.manifest().validation.threshold;
    assert!(
        bad.image_score() > 2.0 * good.image_score().max(threshold),
        "{} against {} and {threshold}",
        bad.image_score(),
        good.image_score(),
    );
    let scores = bad.scores().iter().enumerate();
    let (at, _) = scores.max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    let (row, column) = (at / 64, at % 64);
    assert!(
        (24 - beyond..36 + beyond).contains(&row) && (30 - beyond..42 + beyond).contains(&column),
        "{row}, {column}"
    );
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |seed: u64, name: &str| {
        let mut config = config(&P33, 4, 1);
        config.settings.seed = seed;
        let path = folder.path().join(name);
        fitted(&config, 50, 44).save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = bytes(0, "first");
    assert!(first == bytes(0, "second"), "two runs with one seed differ");
    assert!(first != bytes(1, "other"), "another seed must differ");
}

#[test]
fn a_saved_model_scores_as_before_and_holds_the_network_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let fields = [ReceptiveField::P17, ReceptiveField::P33];
    let model = fitted(&config(&fields, 2, 2), 44, 40);
    model.save(&path).unwrap();
    let again = StudentTeacher::load(&path).unwrap();
    assert_eq!(again.manifest(), model.manifest());
    let ExtractorManifest::Backbone(teacher) = &model.manifest().training.scales[1].teacher else {
        panic!("a pretrained network was given");
    };
    assert_eq!(teacher.file, "resnet18.safetensors");
    assert_eq!(teacher.fingerprint.len(), 64);
    assert_eq!(
        model.manifest().training.scales[1].network.output_channels,
        192
    );
    let image = striped(57, 41, 4);
    for sampling in [Sampling::Grid, Sampling::Dense] {
        let [before, after] = [&model, &again].map(|model| {
            let model = model.clone().with_sampling(sampling);
            model.anomaly_map(&image).unwrap()
        });
        assert_eq!(before, after);
    }

    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names = file.names();
    let of_backbone = names.iter().filter(|name| name.starts_with("backbone."));
    // The first convolution, four of layer1, five of layer2.
    assert_eq!(of_backbone.count(), 2 * 10);
    assert!(!names.iter().any(|name| name.contains("teacher")));
    // Saved again, it is the same file.
    let second = folder.path().join("again.pupilla");
    again.save(&second).unwrap();
    assert!(std::fs::read(&second).unwrap() == bytes);
}

#[test]
fn the_grid_has_the_dense_scores_at_its_points() {
    for field in ReceptiveField::ALL {
        let side = field.side() + 12;
        let model = fitted(&config(&[field], 2, 1), side + 3, side);
        let image = with_defect(&striped(side + 3, side, 9), 5, 5, 9);
        let [grid, dense] = [Sampling::Grid, Sampling::Dense].map(|sampling| {
            let model = model.clone().with_sampling(sampling);
            model.anomaly_map(&image).unwrap()
        });
        let stride = Sampling::Grid.stride(field);
        for row in (0..side).step_by(stride) {
            for column in (0..side + 3).step_by(stride) {
                let at = row * (side + 3) + column;
                let (a, b) = (grid.scores()[at], dense.scores()[at]);
                assert!(
                    (a - b).abs() < 2e-3 * b.abs().max(1.0),
                    "p = {field}: {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn the_paper_preset_trains_on_whole_images() {
    let mut config = config(&P33, 1, 1);
    config.settings.training = Training::Paper(Paper {
        epochs: 1,
        ..Paper::default()
    });
    let model = fitted(&config, 36, 34);
    assert_eq!(model.manifest().training.scales[0].steps, 4);
    assert_eq!(model.manifest().sampling, Some(Sampling::Dense));
    model.anomaly_map(&striped(36, 34, 8)).unwrap();
}

#[test]
fn scales_may_have_teachers_of_both_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let mut config = config(&P33, 2, 1);
    let patches = patch_teacher(ReceptiveField::P17);
    config.teachers.insert(0, patches.into());
    let model = fitted(&config, 44, 40);
    model.save(&path).unwrap();
    let again = StudentTeacher::load(&path).unwrap();
    let image = striped(44, 40, 4);
    let [before, after] = [model, again].map(|model| model.anomaly_map(&image).unwrap());
    assert_eq!(before, after);
}

#[test]
fn a_budget_that_is_over_before_training_is_refused() {
    let mut config = config(&P33, 1, 1);
    let Training::Quick(quick) = &mut config.settings.training else {
        unreachable!()
    };
    quick.length = Length::Budget(0);
    let all = images(4, 40, 40);
    match config.fit(&all, &all, &mut Silent) {
        Err(TrainError::BudgetBelowSmallest { .. }) => {}
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn features_that_are_no_numbers_are_named() {
    let mut tensors = tensors();
    for (name, _, values) in &mut tensors {
        if name.ends_with("conv2.weight") {
            values.fill(1e30);
        }
    }
    let mut config = config(&P33, 2, 1);
    config.teachers = vec![ScaleTeacher::backbone(
        ReceptiveField::P33,
        loaded(&tensors, 1),
    )];
    let all = images(3, 40, 40);
    let error = config.fit(&all, &all, &mut Silent).unwrap_err();
    assert!(matches!(
        error,
        TrainError::Image {
            source: ScoreError::Backbone { .. },
            ..
        }
    ));
    let message = error.to_string();
    for word in ["image ", "resnet18.safetensors", "layer1", "NaN"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn images_that_are_too_large_once_enlarged_are_refused_before_any_work() {
    let config = config(&P33, 1, 8);
    let all = vec![striped(40, 40, 1), striped(800, 700, 2)];
    let message = config.fit(&all, &all, &mut Silent).unwrap_err().to_string();
    for word in ["image 1", "864×764", "8 times"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn two_pretrained_networks_are_refused() {
    let mut config = config(&P33, 1, 1);
    let mut tensors = tensors();
    tensors[0].2[0] += 1.0;
    config.teachers.push(ScaleTeacher::backbone(
        ReceptiveField::P17,
        loaded(&tensors, 1),
    ));
    match config.check() {
        Err(TrainError::Setting { setting, .. }) => assert_eq!(setting, "teachers"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn manifests_that_lie_about_the_network_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let fields = [ReceptiveField::P33, ReceptiveField::P17];
    fitted(&config(&fields, 1, 1), 40, 40).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let edits: [(Edit, &str); 13] = [
        (
            |m| m["scales"][0]["teacher"]["backbone"]["features"]["zoom"] = 0.into(),
            "zoom is 0",
        ),
        (
            |m| m["scales"][1]["teacher"]["backbone"]["features"]["zoom"] = 9.into(),
            "zoom is 9",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["margin"] = 1_000_000_000.into(),
            "margin is 1000000000",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["features"]["outputs"][1] = "layer7".into(),
            "\"layer7\"",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["features"]["outputs"] = [""; 0][..].into(),
            "0 channels",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["features"]["outputs"][1] = "stem".into(),
            "give 192 numbers, their teacher 128",
        ),
        (
            |m| m["scales"][0]["network"]["output_channels"] = 1_000_000_000u64.into(),
            "output_channels is 1000000000",
        ),
        (
            |m| m["scales"][0]["network"]["output_channels"] = 0.into(),
            "output_channels is 0",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["network"]["stages"] = 1_000_000_000.into(),
            "1000000000 stages",
        ),
        (
            |m| {
                let network = &mut m["scales"][0]["teacher"]["backbone"]["network"];
                network["stages"] = 4.into();
                network["classes"] = 4_000_000_000u64.into();
            },
            "4000000000 classes",
        ),
        (
            |m| m["scales"][0]["teacher"]["backbone"]["network"]["architecture"] = "vgg".into(),
            "vgg",
        ),
        (
            |m| m["scales"][1]["teacher"]["backbone"]["fingerprint"] = "another".into(),
            "two pretrained networks",
        ),
        (
            |m| {
                for scale in [0, 1] {
                    m["scales"][scale]["teacher"]["backbone"]["network"]["stages"] = 3.into();
                }
            },
            "backbone.layer3.0.conv1.weight is missing",
        ),
    ];
    for (edit, expected) in edits {
        std::fs::write(&path, &whole).unwrap();
        edit_manifest(&path, edit);
        let text = refusal(&path);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn weights_that_cannot_be_a_teacher_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let load = |tensors: &[Named], outputs: Option<&str>, zoom: usize| {
        std::fs::write(&path, safetensors(tensors)).unwrap();
        let outputs = outputs.map(|name| vec![name.to_string()]);
        BackboneExtractor::load(&path, outputs, zoom)
            .map(|teacher| teacher.manifest().features.outputs.clone())
            .map_err(|error| error.to_string())
    };
    let whole = tensors();
    assert_eq!(load(&whole, None, 1).unwrap(), ["layer2"]);
    let mut cut = whole.clone();
    cut.retain(|(name, ..)| name != "layer1.0.conv1.weight" && name != "layer2.1.conv2.weight");
    let refused = [
        (
            load(&whole, Some("layer3"), 1),
            ["\"layer3\"", "stem, layer1, layer2"],
        ),
        (load(&whole, None, 9), ["zoom is 9", "1 to 8"]),
        (
            load(&cut, None, 1),
            [
                "layer1.0.conv1.weight is missing",
                "layer2.1.conv2.weight is missing",
            ],
        ),
    ];
    for (result, words) in refused {
        let message = result.unwrap_err();
        for word in words.iter().chain(&["weights.safetensors"]) {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
    }
}
