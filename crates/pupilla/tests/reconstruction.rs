//! Networks trained to reconstruct good images: the whole way of each, on small images.

use pupilla::reconstruction::{
    AnoGan as AnoGanSettings, Method, SquaredErrorAutoencoder as Squared,
    VariationalAutoencoder as Variational,
};
use pupilla::{
    Checkpoints, Config, DetectorKind, Family, Length, Model, ReconstructionConfig,
    ReconstructionDetector, ScoreError, TrainError, Trained,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, Silent};
use pupilla_core::verdict::calibration::WantedRates;
use pupilla_files::weight_file::WeightFileError;

use crate::model_file::edit_manifest;
use crate::student_teacher::{a_flag_stops, images, striped, with_defect};

fn kinds() -> impl Iterator<Item = DetectorKind> {
    DetectorKind::of_family(Family::Reconstruction)
}

fn autoencoder(latent: usize) -> Squared {
    Squared { latent }
}

/// Small numbers for small images.
fn config(kind: DetectorKind, steps: usize) -> ReconstructionConfig {
    let mut config = ReconstructionConfig::new(kind).unwrap();
    let settings = &mut config.settings;
    settings.resize = Resize::Square(16);
    settings.training.length = Length::Steps(steps);
    settings.training.batch = 4;
    match &mut settings.method {
        Method::SquaredErrorAutoencoder(of) => of.latent = 8,
        Method::SimilarityAutoencoder(of) => of.latent = 8,
        Method::VariationalAutoencoder(of) => of.latent = 8,
        Method::AnoGan(of) => (of.latent, of.search_steps) = (8, 12),
        other => panic!("give {other:?} small numbers here"),
    }
    config
}

fn fit(config: &ReconstructionConfig) -> ReconstructionDetector {
    let all = images(6, 21, 19);
    config
        .fit(&all[..4].to_vec(), &all[4..].to_vec(), &mut Silent)
        .unwrap()
}

/// Remembers the first loss of every step.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn losses(&mut self, _step: u64, terms: &[(&str, f64)]) {
        self.0.push(terms[0].1);
    }
}

#[test]
fn training_makes_the_loss_smaller_and_a_defect_stands_out() {
    // Parts that are alike, as parts are, but for their noise.
    let parts: Vec<Image> = (0..8)
        .map(|seed| {
            let noise = striped(16, 16, 100 + seed);
            let pixels = noise.pixels().iter().enumerate().map(|(at, noise)| {
                let (row, column) = (at / 48, at / 3 % 16);
                let inside = (4..12).contains(&row) && (4..12).contains(&column);
                (if inside { 0.7 } else { 0.3 }) + 0.05 * (noise - 0.5)
            });
            Image::new(16, 16, pixels.collect())
        })
        .collect();
    let good = &parts[7];
    let bad = with_defect(good, 5, 6, 5);
    for (kind, steps) in kinds().zip([80, 120, 120, 150]) {
        let mut config = config(kind, steps);
        if let Method::AnoGan(of) = &mut config.settings.method {
            of.search_steps = 40;
        }
        let mut losses = Losses::default();
        let training = parts[..5].to_vec();
        let model = config
            .fit(&training, &parts[5..7].to_vec(), &mut losses)
            .unwrap();
        let losses = losses.0;
        assert_eq!(losses.len(), steps);
        if kind != DetectorKind::AnoGan {
            let (first, last) = (losses[0], losses[steps - 1]);
            assert!(last < 0.5 * first, "{kind}: {first} to {last}");
        }
        let [of_good, of_bad] = [good, &bad].map(|image| model.anomaly_map(image).unwrap());
        let usual = of_good
            .image_score()
            .max(model.manifest().validation.threshold);
        assert!(
            of_bad.image_score() > usual,
            "{kind}: {} against {usual}",
            of_bad.image_score()
        );
        let scores = of_bad.scores().iter().enumerate();
        let (at, _) = scores.max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        let (row, column) = (at / 16, at % 16);
        assert!(
            (3..12).contains(&row) && (4..13).contains(&column),
            "{kind}: {row}, {column}"
        );
    }
}

#[test]
fn a_saved_detector_scores_as_before_and_equal_runs_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let image = striped(33, 20, 4);
    for kind in kinds() {
        let config = config(kind, 3);
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        let before = fit(&config);
        before.save(&one).unwrap();
        fit(&config).save(&two).unwrap();
        let bytes = std::fs::read(&one).unwrap();
        assert!(bytes == std::fs::read(&two).unwrap(), "{kind}");

        let again = Model::load(&one).unwrap();
        assert_eq!(again.kind(), kind);
        let Model::Reconstruction(detector) = &again else {
            panic!("{kind} was read as something else");
        };
        assert_eq!(detector.manifest(), before.manifest());
        let maps = [before.anomaly_map(&image), again.anomaly_map(&image)];
        let [expected, found] = maps.map(Result::unwrap);
        assert_eq!(expected, found, "{kind}");
        assert_eq!((found.width(), found.height()), (33, 20));
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
fn a_flag_stops_every_detector_inside_of_an_image_and_changes_no_score() {
    let image = striped(16, 16, 9);
    for kind in kinds() {
        a_flag_stops(&fit(&config(kind, 1)), &image);
    }
}

#[test]
fn images_without_variance_give_finite_maps_in_which_a_defect_stands_out() {
    let flat = vec![Image::new(16, 16, vec![0.5; 16 * 16 * 3]); 3];
    let bad = with_defect(&flat[0], 5, 5, 6);
    for kind in kinds() {
        let config = config(kind, 40);
        let model = config.fit(&flat, &flat[..1].to_vec(), &mut Silent).unwrap();
        let scores = [&flat[0], &bad].map(|image| model.anomaly_map(image).unwrap().image_score());
        assert!(
            scores.iter().all(|score| score.is_finite()) && scores[1] > scores[0],
            "{kind}: {scores:?}"
        );
    }
}

#[test]
fn one_image_to_learn_and_one_to_validate_are_enough_and_none_is_not() {
    let one = images(1, 1, 1);
    for kind in kinds() {
        let config = config(kind, 1);
        let model = config.fit(&one, &one, &mut Silent).unwrap();
        let map = model.anomaly_map(&striped(90, 30, 3)).unwrap();
        assert_eq!((map.width(), map.height()), (90, 30));
        for (training, validation) in [(&Vec::new(), &one), (&one, &Vec::new())] {
            assert!(matches!(
                config.fit(training, validation, &mut Silent),
                Err(TrainError::TooFewImages { found: 0, .. })
            ));
        }
    }
}

/// A change to a configuration.
type Change = fn(&mut ReconstructionConfig);

#[test]
fn settings_out_of_range_are_named() {
    use DetectorKind::{AnoGan, SquaredErrorAutoencoder, VariationalAutoencoder};
    let changes: [(&str, DetectorKind, Change); 16] = [
        ("resize", SquaredErrorAutoencoder, |config| {
            config.settings.resize = Resize::None;
        }),
        ("resize", SquaredErrorAutoencoder, |config| {
            config.settings.resize = Resize::LongerSide(64);
        }),
        ("resize", AnoGan, |config| {
            config.settings.resize = Resize::Square(48);
        }),
        ("resize", AnoGan, |config| {
            config.settings.resize = Resize::Square(8);
        }),
        ("resize", VariationalAutoencoder, |config| {
            config.settings.resize = Resize::Square(1024);
        }),
        ("latent", SquaredErrorAutoencoder, |config| {
            config.settings.method = Method::SquaredErrorAutoencoder(autoencoder(0));
        }),
        ("latent", SquaredErrorAutoencoder, |config| {
            // A quarter of the numbers of an image is 192.
            config.settings.method = Method::SquaredErrorAutoencoder(autoencoder(193));
        }),
        ("latent", SquaredErrorAutoencoder, |config| {
            config.settings.resize = Resize::Square(256);
            config.settings.method = Method::SquaredErrorAutoencoder(autoencoder(1025));
        }),
        ("batch", SquaredErrorAutoencoder, |config| {
            config.settings.training.batch = 0;
        }),
        ("batch", AnoGan, |config| {
            config.settings.training.batch = 1;
        }),
        ("steps", SquaredErrorAutoencoder, |config| {
            config.settings.training.length = Length::Steps(0);
        }),
        ("learning rate", SquaredErrorAutoencoder, |config| {
            config.settings.training.learning_rate = f64::NAN;
        }),
        ("weight decay", SquaredErrorAutoencoder, |config| {
            config.settings.training.weight_decay = -1.0;
        }),
        ("kl weight", VariationalAutoencoder, |config| {
            config.settings.method = Method::VariationalAutoencoder(Variational {
                latent: 8,
                kl_weight: -1.0,
            });
        }),
        ("search steps", AnoGan, |config| {
            config.settings.method = Method::AnoGan(AnoGanSettings {
                latent: 8,
                search_steps: 2001,
                search_rate: 0.1,
                feature_weight: 0.1,
            });
        }),
        ("feature weight", AnoGan, |config| {
            config.settings.method = Method::AnoGan(AnoGanSettings {
                latent: 8,
                search_steps: 1,
                search_rate: 0.1,
                feature_weight: 1.1,
            });
        }),
    ];
    let all = images(2, 16, 16);
    for (name, kind, change) in changes {
        let mut config = config(kind, 1);
        change(&mut config);
        match config.fit(&all, &all, &mut Silent) {
            Err(error @ TrainError::Setting { setting, .. }) => {
                assert_eq!(setting, name);
                let text = error.to_string();
                assert!(name != "resize" || text.contains("power of two"), "{text}");
            }
            other => panic!("{name}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_budget_that_teaches_nothing_is_refused_with_the_smallest_that_does() {
    let all = images(2, 16, 16);
    let mut config = config(DetectorKind::AnoGan, 1);
    config.settings.resize = Resize::Square(64);
    config.settings.training.batch = 16;
    config.settings.training.length = Length::Budget(1);
    match config.fit(&all, &all, &mut Silent) {
        Err(TrainError::BudgetBelowSmallest {
            what,
            steps,
            smallest_seconds,
        }) => assert!(what == DetectorKind::AnoGan && steps == 100 && smallest_seconds > 1),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_plan_says_what_training_will_take() {
    let all = images(3, 16, 16);
    let config = config(DetectorKind::VariationalAutoencoder, 7);
    let plan = config
        .check()
        .unwrap()
        .plan(&all, &all[..1].to_vec(), &mut Silent)
        .unwrap();
    assert_eq!(
        (plan.steps, plan.training_images, plan.validation_images),
        (7, 3, 1)
    );
    assert!(plan.seconds >= 7.0 * plan.seconds_per_step);
    if cfg!(target_os = "linux") {
        assert!(plan.memory_bytes.unwrap() > 1 << 20);
    }
}

/// Asks to stop after so many steps.
struct Impatient(u64, bool);

impl Observer for Impatient {
    fn advance(&mut self, done: u64, _loss: Option<f64>) {
        self.1 |= done >= self.0;
    }

    fn stop_requested(&mut self) -> bool {
        self.1
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let all = images(4, 16, 16);
    let file = folder.path().join("model");
    let bytes = |model: &ReconstructionDetector| {
        model.save(&file).unwrap();
        std::fs::read(&file).unwrap()
    };
    for kind in kinds() {
        let config = config(kind, 6);
        let expected = bytes(&config.fit(&all, &all, &mut Silent).unwrap());
        let checkpoints = Checkpoints {
            path: folder.path().join(format!("{kind}.checkpoint")),
            every: 4,
            resume: true,
        };
        let run = |config: &ReconstructionConfig, observer: &mut dyn Observer| {
            config
                .check()
                .unwrap()
                .with_checkpoints(&checkpoints, "data")
                .fit(&all, &all, observer)
        };
        let stopped = run(&config, &mut Impatient(3, false));
        assert!(
            matches!(
                stopped,
                Err(TrainError::StoppedWithCheckpoint { step: 3, .. })
            ),
            "{kind}"
        );
        assert!(
            bytes(&run(&config, &mut Silent).unwrap()) == expected,
            "{kind}"
        );
        // What is left is the checkpoint of step 4.
        assert!(
            bytes(&run(&config, &mut Silent).unwrap()) == expected,
            "{kind}"
        );
        let mut other = config.clone();
        other.settings.seed = 1;
        assert!(matches!(
            run(&other, &mut Silent),
            Err(TrainError::OtherRun { .. })
        ));
        let whole = std::fs::read(&checkpoints.path).unwrap();
        std::fs::write(&checkpoints.path, &whole[..whole.len() - 5]).unwrap();
        assert!(matches!(
            run(&config, &mut Silent),
            Err(TrainError::Checkpoint(_))
        ));
        // A plan of no steps, and a run of a program from before there was this engine.
        std::fs::write(&checkpoints.path, &whole).unwrap();
        edit_manifest(&checkpoints.path, |manifest| manifest["planned"] = 0.into());
        assert!(matches!(
            run(&config, &mut Silent),
            Err(TrainError::Checkpoint(_))
        ));
        std::fs::write(&checkpoints.path, &whole).unwrap();
        edit_manifest(&checkpoints.path, |manifest| {
            let identity = manifest["identity"].as_str().unwrap();
            assert!(identity.contains(" engine 2"));
            manifest["identity"] = identity.replace(" engine 2", "").into();
        });
        assert!(matches!(
            run(&config, &mut Silent),
            Err(TrainError::OtherRun { .. })
        ));
        checkpoints.remove().unwrap();
        let without = config.fit(&all, &all, &mut Impatient(3, false));
        assert!(matches!(without, Err(TrainError::Stopped)), "{kind}");
    }
}

#[test]
fn a_loss_that_is_no_number_stops_with_its_step_and_the_last_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let good = images(1, 16, 16);
    let mut pixels = good[0].pixels().to_vec();
    pixels[5] = f32::NAN;
    // Drawn at random: the steps before it are good.
    let mut all = vec![good[0].clone(); 40];
    all.push(Image::new(16, 16, pixels));
    for kind in kinds() {
        let checkpoints = Checkpoints {
            path: folder.path().join(format!("{kind}.checkpoint")),
            every: 1,
            resume: true,
        };
        let mut config = config(kind, 200);
        config.settings.training.batch = 2;
        let run = || {
            config
                .check()
                .unwrap()
                .with_checkpoints(&checkpoints, "")
                .fit(&all, &good, &mut Silent)
        };
        let failed = || match run() {
            Err(error @ TrainError::Diverged { step, .. }) => {
                let text = error.to_string();
                assert!(text.contains(kind.name()) && text.contains("NaN"), "{text}");
                step
            }
            other => panic!("{kind}: {:?}", other.err()),
        };
        let step = failed();
        assert!(step > 0, "{kind}");
        let kept = std::fs::read(&checkpoints.path).unwrap();
        // It goes on from there, and comes to the same step.
        assert_eq!(failed(), step, "{kind}");
        assert!(kept == std::fs::read(&checkpoints.path).unwrap());
    }
}

#[test]
fn a_wanted_rate_is_kept_and_options_of_others_do_not_apply() {
    let mut config = config(DetectorKind::SimilarityAutoencoder, 1);
    config.settings.false_reject = WantedRates {
        images: Some("50%".parse().unwrap()),
        pixels: None,
    };
    let model = Model::from(fit(&config));
    let thresholds = model.about().calibration.thresholds;
    assert_eq!(thresholds.image.wanted.unwrap().share(), 0.5);
    let error = model.student_teacher("dense").unwrap_err().to_string();
    assert!(
        error.contains("dense") && error.contains("ssim-ae"),
        "{error}"
    );
}

/// The error of a model file that was changed.
fn refusal(
    model: &ReconstructionDetector,
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
fn damaged_files_are_refused() {
    let ae = fit(&config(DetectorKind::SquaredErrorAutoencoder, 1));
    let gan = fit(&config(DetectorKind::AnoGan, 1));
    let huge = u64::MAX >> 12;
    let refusals = [
        // The header says one detector, the settings another.
        refusal(&ae, |manifest| manifest["kind"] = "vae".into()),
        refusal(&ae, |manifest| manifest["kind"] = "1-nn".into()),
        refusal(&gan, |manifest| manifest["kind"] = "l2-ae".into()),
        refusal(&ae, |manifest| {
            manifest["settings"]["method"]["detector"] = "ssim-ae".into()
        }),
        refusal(&ae, |manifest| {
            manifest["settings"]["method"]["latent"] = huge.into()
        }),
        refusal(&ae, |manifest| {
            manifest["settings"]["method"]["latent"] = 9.into()
        }),
        refusal(&ae, |manifest| {
            manifest["settings"]["resize"] = "8192".into()
        }),
        refusal(&ae, |manifest| {
            manifest["settings"]["resize"] = "none".into()
        }),
        refusal(&ae, |manifest| manifest["settings"]["resize"] = "32".into()),
        refusal(&gan, |manifest| {
            manifest["settings"]["method"]["search_steps"] = huge.into()
        }),
        refusal(&gan, |manifest| {
            manifest["validation"]["scores"] = serde_json::json!([])
        }),
        refusal(&gan, |manifest| {
            manifest["settings"]["training"]["batch"] = 0.into()
        }),
    ];
    for error in refusals {
        assert!(error.to_string().contains("part.pupilla"), "{error}");
    }

    // An array that is not finite, and one that is cut off.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    gan.save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    let end = damaged.len();
    damaged[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &damaged).unwrap();
    let error = Model::load(&path).unwrap_err();
    assert!(
        matches!(&error, WeightFileError::Tensors { problems, .. } if problems.len() == 1),
        "{error}"
    );
    std::fs::write(&path, &whole[..end - 4]).unwrap();
    assert!(matches!(
        Model::load(&path),
        Err(WeightFileError::NotSafetensors { .. })
    ));
    // A file of another kind, read as one of these.
    std::fs::write(&path, &whole).unwrap();
    edit_manifest(&path, |manifest| manifest["kind"] = "teacher".into());
    assert!(matches!(
        ReconstructionDetector::load(&path),
        Err(WeightFileError::Kind { .. })
    ));
}

#[test]
fn an_image_that_is_no_number_is_refused_with_its_place() {
    let mut pixels = striped(16, 16, 1).pixels().to_vec();
    pixels[0] = f32::NAN;
    let image = Image::new(16, 16, pixels);
    for kind in kinds() {
        let map = fit(&config(kind, 1)).anomaly_map(&image);
        assert!(
            matches!(map, Err(ScoreError::NotFinite { row: 0, column: 0 })),
            "{kind}"
        );
    }
}

#[test]
fn a_training_that_is_lost_ends_and_one_that_learned_nothing_is_warned_of() {
    #[derive(Default)]
    struct Warnings(Vec<String>);
    impl Observer for Warnings {
        fn warn(&mut self, text: &str) {
            self.0.push(text.to_string());
        }
    }
    let all = images(6, 21, 19);
    let run = |kind, steps, rate| {
        let mut config = config(kind, steps);
        config.settings.training.learning_rate = rate;
        let mut told = Warnings::default();
        let fitted = config.fit(&all, &all, &mut told);
        (fitted.map(|_| ()), told.0)
    };
    match run(DetectorKind::SquaredErrorAutoencoder, 200, 1.0).0 {
        Err(error @ TrainError::Lost { loss, first, .. }) => {
            let text = error.to_string();
            assert!(loss > 10.0 && first < 10.0, "{text}");
            assert!(
                text.contains("l2-ae") && text.contains("learning rate"),
                "{text}"
            );
        }
        other => panic!("{other:?}"),
    }
    // A rate that moves nothing.
    for kind in [
        DetectorKind::SquaredErrorAutoencoder,
        DetectorKind::SimilarityAutoencoder,
    ] {
        let (fitted, told) = run(kind, 40, 1e-12);
        fitted.unwrap();
        assert!(
            told.iter().any(|text| text.contains("nothing was learned")),
            "{kind}: {told:?}"
        );
    }
    let (fitted, told) = run(DetectorKind::SquaredErrorAutoencoder, 100, 1e-3);
    fitted.unwrap();
    assert_eq!(told, [""; 0]);
}
