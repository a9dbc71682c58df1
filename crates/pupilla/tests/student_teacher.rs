//! Fitting and using a whole detector, on small images that train in seconds.

use pupilla::{Config, Trained};
use pupilla_core::image::Size;
use std::sync::{Mutex, OnceLock};

use pupilla::student_teacher::{Paper, QUICK_STEPS, Quick, Settings, Training};
use pupilla::teacher::{Provenance, TeacherConfig};
use pupilla::{
    Checkpoints, Length, Optimizer, ReceptiveField, Sampling, ScaleTeacher, ScoreError, Scoring,
    StudentTeacher, StudentTeacherConfig, Teacher, TrainError,
};
use pupilla_core::data::image_source::ImageSource;
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::read::ReadError;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, Silent, StopFlag};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Diagonal stripes of a random phase, with a little noise.
pub fn striped(width: usize, height: usize, seed: u64) -> Image {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let phase: f32 = random.random_range(0.0..6.0);
    let mut pixels = Vec::new();
    for row in 0..height {
        for column in 0..width {
            let wave = 0.5 + 0.3 * ((row + column) as f32 * 0.6 + phase).sin();
            let value = wave + random.random_range(-0.03..0.03);
            pixels.extend([value, 0.8 * value, 0.6 * value]);
        }
    }
    Image::new(width, height, pixels)
}

/// A patch of another pattern in a good image.
pub fn with_defect(image: &Image, top: usize, left: usize, side: usize) -> Image {
    let mut pixels = image.pixels().to_vec();
    for row in top..top + side {
        for column in left..left + side {
            let at = (row * image.width() + column) * 3;
            let value = if (row / 3 + column / 3) % 2 == 0 {
                0.95
            } else {
                0.05
            };
            pixels[at..at + 3].fill(value);
        }
    }
    Image::new(image.width(), image.height(), pixels)
}

pub fn images(count: usize, width: usize, height: usize) -> Vec<Image> {
    (0..count as u64)
        .map(|seed| striped(width, height, seed))
        .collect()
}

/// A teacher of any patch size with (nearly) random weights, trained once for all tests.
pub fn teacher(field: ReceptiveField) -> Teacher {
    static TEACHERS: [OnceLock<Teacher>; 3] = [const { OnceLock::new() }; 3];
    let place = ReceptiveField::ALL.iter().position(|other| *other == field);
    TEACHERS[place.unwrap()]
        .get_or_init(|| trained_teacher(field))
        .clone()
}

fn trained_teacher(field: ReceptiveField) -> Teacher {
    let config = TeacherConfig {
        steps: 2,
        images_per_step: 2,
        window: field.side(),
        held_out: 0.0,
        ..TeacherConfig::new(field)
    };
    let provenance = Provenance {
        data: "stripes".to_string(),
        ..Provenance::default()
    };
    pupilla::teacher::train(
        &config,
        &images(2, 80, 80),
        None,
        &provenance,
        None,
        &mut Silent,
    )
    .unwrap()
    .teacher
}

pub fn config(field: ReceptiveField, steps: usize) -> StudentTeacherConfig {
    StudentTeacherConfig {
        teachers: vec![teacher(field).into()],
        settings: Settings {
            students: 2,
            resize: Resize::None,
            training: Training::Quick(Quick {
                length: Length::Steps(steps),
                windows: 2,
                window: Some(field.side() + 2 * field.pooling_stride()),
                ..Quick::default()
            }),
            ..Settings::default()
        },
    }
}

pub fn fitted(config: &StudentTeacherConfig, width: usize, height: usize) -> StudentTeacher {
    let all = images(6, width, height);
    config
        .fit(&all[..4].to_vec(), &all[4..].to_vec(), &mut Silent)
        .unwrap()
}

/// A raised flag ends the work on an image. A flag that is not raised changes nothing.
pub fn a_flag_stops(model: &impl Detector<Error = ScoreError>, image: &Image) {
    let stop = StopFlag::default();
    let explained = model.explain_until(image, &stop).unwrap();
    assert_eq!(explained.map, model.anomaly_map(image).unwrap());
    stop.raise();
    let stopped = model.explain_until(image, &stop);
    assert!(matches!(stopped, Err(ScoreError::Stopped)));
}

#[test]
fn a_flag_stops_the_work_on_an_image_a_training_and_a_plan() {
    let image = striped(64, 61, 77);
    let config = config(ReceptiveField::P33, 3);
    a_flag_stops(&fitted(&config, 64, 61), &image);
    let all = images(4, 64, 61);
    let mut stop = StopFlag::default();
    stop.raise();
    let trained = config.fit(&all, &all, &mut stop);
    assert!(matches!(trained, Err(TrainError::Stopped)));
    let planned = config.check().unwrap().plan(&all, &all, &mut stop);
    assert!(matches!(planned, Err(TrainError::Stopped)));
}

#[test]
fn a_defect_stands_out_from_good_images() {
    let model = fitted(&config(ReceptiveField::P33, 25), 64, 61);
    let good = striped(64, 61, 77);
    let bad = with_defect(&good, 24, 30, 12);
    let [good, bad] = [good, bad].map(|image| model.anomaly_map(&image).unwrap());
    assert_eq!((bad.width(), bad.height()), (64, 61));
    assert!(
        bad.image_score()
            > 2.0
                * good
                    .image_score()
                    .max(model.manifest().validation.threshold),
        "{} against {} and {}",
        bad.image_score(),
        good.image_score(),
        model.manifest().validation.threshold
    );
    // The highest score stands in the defect.
    let scores = bad.scores().iter().enumerate();
    let (at, _) = scores.max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
    let (row, column) = (at / 64, at % 64);
    assert!(
        (20..40).contains(&row) && (26..46).contains(&column),
        "{row}, {column}"
    );
}

#[test]
fn the_grid_has_the_dense_scores_at_its_points() {
    for field in [
        ReceptiveField::P17,
        ReceptiveField::P33,
        ReceptiveField::P65,
    ] {
        let side = field.side() + 12;
        let model = fitted(&config(field, 2), side + 3, side);
        let image = with_defect(&striped(side + 3, side, 9), 5, 5, 9);
        let grid = model
            .clone()
            .with_sampling(Sampling::Grid)
            .anomaly_map(&image)
            .unwrap();
        let dense = model
            .with_sampling(Sampling::Dense)
            .anomaly_map(&image)
            .unwrap();
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
fn a_memory_limit_changes_no_bit_or_says_what_it_takes() {
    let model = fitted(&config(ReceptiveField::P33, 2), 64, 48);
    for (width, height) in [(300, 110), (80, 250)] {
        let image = striped(width, height, 3);
        let size = Size::new(width, height);
        for sampling in [Sampling::Grid, Sampling::Dense] {
            let model = model.clone().with_sampling(sampling);
            let most = model.memory_needed(size).unwrap();
            let whole = model.anomaly_map(&image).unwrap();
            let limit = most - (2 << 20);
            let limited = model.clone().with_memory(limit);
            assert!(limited.memory_needed(size).unwrap() <= limit);
            assert!(
                limited.anomaly_map(&image).unwrap() == whole,
                "{width}×{height}"
            );
            match model.with_memory(1 << 20).anomaly_map(&image) {
                Err(ScoreError::Memory { limit, needed }) => {
                    assert_eq!(limit, 1 << 20);
                    assert!(needed > limit && needed < most);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_run_whose_loss_does_not_fall_ends_early() {
    let mut config = config(ReceptiveField::P33, 280);
    config.settings.students = 1;
    let all = images(40, 34, 33);
    let mut fit = |early_stop, steps| {
        let Training::Quick(quick) = &mut config.settings.training else {
            unreachable!()
        };
        quick.early_stop = early_stop;
        quick.length = Length::Steps(steps);
        quick.windows = 1;
        quick.window = Some(33);
        quick.optimizer = Optimizer::Adam;
        // So low that nothing is learned.
        quick.learning_rate = 1e-12;
        let model = config.fit(&all, &all[..2].to_vec(), &mut Silent).unwrap();
        let manifest = model.manifest();
        (
            manifest.training.scales[0].steps,
            manifest.training_images,
            manifest.training.watched_images,
        )
    };
    // Ten looks; the first is the best, six more are waited for, then a tenth of the steps follows.
    assert_eq!(fit(true, 280), (7 * 26 + 28, 36, 4));
    assert_eq!(fit(false, 40), (40, 40, 0));
}

/// Asks to stop after so many steps in all, and remembers where the run was resumed.
#[derive(Default)]
struct Stops {
    after: Option<usize>,
    steps: usize,
    resumed: Option<u64>,
    warnings: Vec<String>,
}

impl Observer for Stops {
    fn advance(&mut self, _done: u64, loss: Option<f64>) {
        self.steps += usize::from(loss.is_some());
    }

    fn resumed(&mut self, step: u64, seconds: Option<f64>) {
        assert!(seconds.unwrap() > 0.0);
        self.resumed = Some(step);
    }

    fn warn(&mut self, warning: &str) {
        self.warnings.push(warning.to_string());
    }

    fn stop_requested(&mut self) -> bool {
        self.after.is_some_and(|after| self.steps >= after)
    }
}

fn stops_after(after: usize) -> Stops {
    Stops {
        after: Some(after),
        ..Stops::default()
    }
}

/// Two scales, stopped in the first, at its end, and in the second; and killed, which leaves the checkpoint of some step before.
#[test]
fn a_run_that_was_stopped_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let teachers = [ReceptiveField::P33, ReceptiveField::P65].map(|field| teacher(field).into());
    let mut config = config(ReceptiveField::P65, 6);
    config.teachers = teachers.to_vec();
    config.settings.students = 1;
    let all = images(4, 66, 67);
    let run = |checkpoints: &Checkpoints, observer: &mut dyn Observer| {
        let validation = all[..2].to_vec();
        config
            .check()
            .unwrap()
            .with_checkpoints(checkpoints, "stripes")
            .fit(&all, &validation, observer)
    };
    let bytes = |model: &StudentTeacher| {
        let path = folder.path().join("model");
        model.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let checkpoints = |name: &str| Checkpoints {
        path: folder.path().join(name),
        every: 2,
        resume: true,
    };
    let mut straight = Stops::default();
    let expected = bytes(&run(&checkpoints("straight"), &mut straight).unwrap());
    assert!(straight.warnings[0].contains("no checkpoint"));

    for after in [3, 6, 7] {
        let kept = checkpoints(&after.to_string());
        let said = run(&kept, &mut stops_after(after)).unwrap_err();
        assert!(
            matches!(&said, TrainError::StoppedWithCheckpoint { step, .. } if *step == after),
            "{said}"
        );
        let mut observer = Stops::default();
        let resumed = run(&kept, &mut observer).unwrap();
        assert_eq!(observer.resumed, Some(after as u64));
        assert!(bytes(&resumed) == expected, "stopped after {after}");
    }

    // A killed run leaves a checkpoint from before, here that of step 10.
    struct Copies<'a>(&'a Checkpoints, usize);
    impl Observer for Copies<'_> {
        fn advance(&mut self, _done: u64, loss: Option<f64>) {
            self.1 += usize::from(loss.is_some());
            if self.1 == 11 {
                std::fs::copy(&self.0.path, self.0.path.with_extension("killed")).unwrap();
            }
        }
    }
    let kept = checkpoints("whole");
    run(&kept, &mut Copies(&kept, 0)).unwrap();
    let killed = Checkpoints {
        path: kept.path.with_extension("killed"),
        ..kept
    };
    let mut observer = Stops::default();
    let resumed = run(&killed, &mut observer).unwrap();
    assert_eq!(observer.resumed, Some(10));
    assert!(bytes(&resumed) == expected);

    // Another run's, a damaged and a foreign one are refused.
    let refusal = |config: &StudentTeacherConfig, data: &str| {
        let validation = all[..2].to_vec();
        let kept = Some(&killed);
        let result = config.check().unwrap().with_checkpoints(kept, data).fit(
            &all,
            &validation,
            &mut Silent,
        );
        result.unwrap_err().to_string()
    };
    let other = StudentTeacherConfig {
        settings: Settings {
            seed: 1,
            ..config.settings.clone()
        },
        ..config.clone()
    };
    assert!(refusal(&other, "stripes").contains("other settings"));
    assert!(refusal(&config, "dots").contains("other settings"));
    let mut bytes = std::fs::read(&killed.path).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    std::fs::write(&killed.path, &bytes).unwrap();
    assert!(refusal(&config, "stripes").contains("checksum"));
    std::fs::write(&killed.path, &expected).unwrap();
    assert!(refusal(&config, "stripes").contains("student-teacher"));
    std::fs::write(&killed.path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal(&config, "stripes").contains("cut off"));
}

/// Stopped before and after its end was decided.
#[test]
fn a_run_that_ends_early_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(ReceptiveField::P33, 1);
    config.settings.students = 1;
    config.settings.training = Training::Quick(Quick {
        length: Length::Steps(300),
        windows: 1,
        window: Some(33),
        optimizer: Optimizer::Adam,
        early_stop: true,
        // Enough for another student every step, too little for a lower loss.
        learning_rate: 1e-8,
        ..Quick::default()
    });
    let all = images(40, 34, 36);
    let run = |name: &str, observer: &mut dyn Observer| {
        let kept = Checkpoints {
            path: folder.path().join(name),
            every: 1000,
            resume: true,
        };
        let validation = all[..2].to_vec();
        config
            .check()
            .unwrap()
            .with_checkpoints(&kept, "stripes")
            .fit(&all, &validation, observer)
    };
    let bytes = |model: &StudentTeacher| {
        let path = folder.path().join("model");
        model.save(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    let model = run("straight", &mut Silent).unwrap();
    let expected = bytes(&model);
    // Seven looks, 26 steps apart, and a tenth of the steps.
    let steps = model.manifest().training.scales[0].steps;
    assert_eq!(steps, 7 * 26 + 30);
    run("stopped", &mut stops_after(60)).unwrap_err();
    let mut observer = stops_after(190 - 60);
    run("stopped", &mut observer).unwrap_err();
    assert_eq!(observer.resumed, Some(60));
    let mut observer = Stops::default();
    let resumed = run("stopped", &mut observer).unwrap();
    assert_eq!(observer.resumed, Some(190));
    assert!(bytes(&resumed) == expected);
}

#[test]
fn a_plan_says_what_will_be_done_and_changes_nothing() {
    let config = config(ReceptiveField::P33, 7);
    let all = images(6, 50, 44);
    let (training, validation) = (all[..4].to_vec(), all[4..].to_vec());
    let plan = config
        .check()
        .unwrap()
        .plan(&training, &validation, &mut Silent)
        .unwrap();
    assert_eq!((plan.training_images, plan.watched_images), (4, 0));
    assert_eq!(plan.validation_images, 2);
    let scale = plan.scales[0];
    assert_eq!(scale.steps, 7);
    assert!(scale.seconds_per_step > 0.0 && scale.seconds > 7.0 * scale.seconds_per_step);
    assert_eq!(plan.seconds, scale.seconds);
    if cfg!(target_os = "linux") {
        assert!(plan.memory_bytes.unwrap() > 10 << 20);
    }
    let mut short = config.clone();
    let Training::Quick(quick) = &mut short.settings.training else {
        unreachable!()
    };
    quick.length = Length::Budget(0);
    assert!(matches!(
        short
            .check()
            .unwrap()
            .plan(&training, &validation, &mut Silent),
        Err(TrainError::BudgetBelowSmallest { .. })
    ));
    let mut paper = config;
    paper.settings.training = Training::Paper(Paper {
        epochs: 3,
        ..Paper::default()
    });
    assert_eq!(
        paper
            .check()
            .unwrap()
            .plan(&training, &validation, &mut Silent)
            .unwrap()
            .scales[0]
            .steps,
        12
    );
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(ReceptiveField::P33, 4);
    let [first, second] = ["first", "second"].map(|name| {
        let path = folder.path().join(name);
        fitted(&config, 50, 44).save(&path).unwrap();
        std::fs::read(path).unwrap()
    });
    assert!(first == second, "two runs with one seed differ");
    let mut other = config.clone();
    other.settings.seed = 1;
    let path = folder.path().join("other");
    fitted(&other, 50, 44).save(&path).unwrap();
    assert!(
        std::fs::read(path).unwrap() != first,
        "another seed must differ"
    );
}

#[test]
fn the_paper_preset_trains_on_whole_images() {
    let mut config = config(ReceptiveField::P33, 1);
    config.settings.training = Training::Paper(Paper {
        epochs: 2,
        ..Paper::default()
    });
    let model = fitted(&config, 36, 34);
    assert_eq!(model.manifest().training.scales[0].steps, 8);
    assert_eq!(model.manifest().sampling, Some(Sampling::Dense));
    let map = model.anomaly_map(&striped(36, 34, 8)).unwrap();
    assert_eq!((map.width(), map.height()), (36, 34));
}

/// Errors are judged in the metric of at most 25 training images, evenly spread over all of them.
#[test]
fn the_metric_is_that_of_some_training_images() {
    struct Read<'a>(&'a [Image], Mutex<Vec<usize>>);
    impl ImageSource for Read<'_> {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn image(&self, index: usize) -> Result<Image, ReadError> {
            self.1.lock().unwrap().push(index);
            Ok(self.0[index].clone())
        }

        fn size(&self, index: usize) -> Result<Size, ReadError> {
            Ok(self.0[index].size())
        }

        fn name(&self, index: usize) -> String {
            format!("image {index}")
        }
    }
    /// Forgets what was read before the stage.
    struct Stage<'a>(&'a Read<'a>, Option<u64>);
    impl Observer for Stage<'_> {
        fn start(&mut self, stage: &str, total: u64) {
            if stage == "errors p=17" {
                self.0.1.lock().unwrap().clear();
                self.1 = Some(total);
            }
        }
    }
    let all = images(32, 34, 36);
    let (training, validation) = (Read(&all[..30], Mutex::default()), all[30..].to_vec());
    let fit = |config: &StudentTeacherConfig| {
        let mut stage = Stage(&training, None);
        let model = config.fit(&training, &validation, &mut stage).unwrap();
        (model, stage.1)
    };
    let mut config = config(ReceptiveField::P17, 2);
    let (judged, total) = fit(&config);
    assert_eq!(total, Some(25));
    let spread: Vec<usize> = (0..25).map(|step| step * 30 / 25).collect();
    assert_eq!(*training.1.lock().unwrap(), spread);
    config.settings.scoring = Scoring::Published;
    let (published, total) = fit(&config);
    assert_eq!(total, None);
    let map = |model: &StudentTeacher| model.anomaly_map(&all[0]).unwrap();
    assert!(map(&judged) != map(&published));
}

#[test]
fn several_scales_are_the_mean_of_each() {
    let fields = [ReceptiveField::P17, ReceptiveField::P33];
    let teachers: Vec<ScaleTeacher> = fields.iter().map(|&field| teacher(field).into()).collect();
    let of = |teachers: &[ScaleTeacher]| {
        let mut config = config(ReceptiveField::P33, 2);
        config.teachers = teachers.to_vec();
        if let Training::Quick(quick) = &mut config.settings.training {
            quick.batch_norm = false;
        }
        fitted(&config, 44, 40)
    };
    let map = |model: &StudentTeacher| model.anomaly_map(&striped(44, 40, 5)).unwrap();
    let model = of(&teachers);
    let both = map(&model);
    let alone = [map(&of(&teachers[..1])), map(&of(&teachers[1..]))];
    // One scale of both is that scale by itself.
    for (field, alone) in fields.iter().zip(&alone) {
        let one = model.clone().with_scales(&[*field]).unwrap();
        assert!(map(&one) == *alone, "p = {field}");
        assert_eq!(one.manifest().training.scales.len(), 1);
    }
    let error = model
        .clone()
        .with_scales(&[ReceptiveField::P65])
        .unwrap_err();
    assert!(error.to_string().contains("p = 17, p = 33"), "{error}");
    assert!(model.with_scales(&[]).is_err());
    for (at, &score) in both.scores().iter().enumerate() {
        let mean = (alone[0].scores()[at] + alone[1].scores()[at]) / 2.0;
        assert!(
            (score - mean).abs() < 1e-4 * mean.abs().max(1.0),
            "{score} and {mean}"
        );
    }
}

#[test]
fn a_budget_that_is_over_before_training_is_refused() {
    let mut config = config(ReceptiveField::P33, 1);
    let Training::Quick(quick) = &mut config.settings.training else {
        unreachable!()
    };
    quick.length = Length::Budget(0);
    let all = images(4, 40, 40);
    match config.fit(&all, &all, &mut Silent) {
        Err(TrainError::BudgetBelowSmallest {
            smallest_seconds, ..
        }) => assert!(smallest_seconds >= 1),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn of_a_long_budget_only_what_helps_is_spent() {
    let all = images(4, 40, 40);
    let steps = |optimizer| {
        let mut config = config(ReceptiveField::P33, 1);
        let Training::Quick(quick) = &mut config.settings.training else {
            unreachable!()
        };
        quick.length = Length::Budget(1_000_000);
        quick.optimizer = optimizer;
        let plan = config
            .check()
            .unwrap()
            .plan(&all, &all, &mut Silent)
            .unwrap();
        (plan.scales[0].steps, plan.budget_suffices)
    };
    assert_eq!(steps(Optimizer::Muon), (QUICK_STEPS, true));
    let (with_adam, suffices) = steps(Optimizer::Adam);
    assert!(with_adam > 10 * QUICK_STEPS && !suffices);
}

#[test]
fn small_images_are_refused_with_their_size() {
    let config = config(ReceptiveField::P33, 1);
    let all = images(4, 40, 40);
    let mut mixed = all[..3].to_vec();
    mixed.push(striped(32, 100, 1));
    let error = config.fit(&mixed, &all, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("32×100"), "{error}");
    let model = fitted(&config, 40, 40);
    assert!(matches!(
        model.anomaly_map(&striped(20, 20, 0)),
        Err(ScoreError::TooSmall { size, .. }) if size == Size::square(20)
    ));
}

/// A change to a configuration.
type Change = fn(&mut StudentTeacherConfig);

#[test]
fn settings_out_of_range_are_named() {
    let good = config(ReceptiveField::P33, 1);
    let all = images(3, 40, 40);
    let change: [(&str, Change); 5] = [
        ("students", |config| config.settings.students = 0),
        ("scales", |config| config.teachers.clear()),
        ("scales", |config| {
            let again = config.teachers[0].clone();
            config.teachers.push(again);
        }),
        ("learning rate", |config| {
            config.settings.training = Training::Paper(Paper {
                learning_rate: f64::NAN,
                ..Paper::default()
            });
        }),
        ("window", |config| {
            config.settings.training = Training::Quick(Quick {
                window: Some(20),
                ..Quick::default()
            });
        }),
    ];
    for (name, change) in change {
        let mut config = good.clone();
        change(&mut config);
        match config.fit(&all, &all, &mut Silent) {
            Err(TrainError::Setting { setting, .. }) => assert_eq!(setting, name),
            other => panic!("{name}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_wild_learning_rate_is_named_and_not_saved() {
    let mut config = config(ReceptiveField::P33, 20);
    let Training::Quick(quick) = &mut config.settings.training else {
        unreachable!()
    };
    quick.learning_rate = 1.0;
    let all = images(4, 40, 40);
    // Either it diverges and says so, or it survives with a finite loss; never a NaN in a model.
    match config.fit(&all, &all, &mut Silent) {
        Err(error) => assert!(matches!(error, TrainError::Diverged { .. }), "{error}"),
        Ok(model) => assert!(
            model.manifest().training.scales[0]
                .validation_loss
                .is_finite()
        ),
    }
}

#[test]
fn an_observer_can_stop_training() {
    struct Impatient(u32);
    impl Observer for Impatient {
        fn stop_requested(&mut self) -> bool {
            self.0 += 1;
            self.0 > 8
        }
    }
    let all = images(4, 40, 40);
    let config = config(ReceptiveField::P33, 1000);
    assert!(matches!(
        config.fit(&all, &all, &mut Impatient(0)),
        Err(TrainError::Stopped)
    ));
}
