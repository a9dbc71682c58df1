//! Detectors and teachers on a GPU are those of the processor, and either goes on with the other's files. The engine itself is compared
//! in `crates/nn/tests/gpu.rs`.
//!
//! Any adapter of Vulkan, Metal or DirectX 12 will do, software too (Debian's `mesa-vulkan-drivers`). Without one this says why it is
//! skipped, and succeeds. Numbers differ in the order of their sums: the tolerance is a share of the largest number.

use pupilla::{Config, Trained};
use std::path::Path;

use pupilla::backbone::{
    self, BackboneConfig, EfficientNetLiteConfig, ResNet18Config, SqueezeNetConfig,
};
use pupilla::device::{self, DeviceChoice, DeviceError};
use pupilla::nn::Tensor;
use pupilla::reconstruction::Method;
use pupilla::student_teacher::{Paper, Quick, Settings, Training};
use pupilla::teacher::{Distillation, Provenance, TeacherConfig};
use pupilla::{
    BackboneExtractor, Checkpoints, DetectorKind, Length, Model, PatchNetworkConfig,
    ReceptiveField, ReconstructionConfig, Sampling, StudentTeacher, StudentTeacherConfig, Teacher,
    TrainError,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, Silent};

/// Of a map, a descriptor or a gradient, relative to its largest number.
const TOLERANCE: f32 = 1e-3;

const CPU: DeviceChoice = DeviceChoice::Cpu;
const GPU: DeviceChoice = DeviceChoice::Gpu(None);

fn main() {
    match device::choose(GPU) {
        Ok(chosen) => println!("on {}", chosen.name),
        Err(error @ DeviceError::NoGpu { .. }) => {
            println!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let tests: [(&str, fn()); 7] = [
        ("descriptors_agree", descriptors_agree),
        ("pretrained_networks_agree", pretrained_networks_agree),
        (
            "models_are_handed_over_without_loss",
            models_are_handed_over_without_loss,
        ),
        (
            "the_published_training_agrees",
            the_published_training_agrees,
        ),
        (
            "a_run_goes_on_on_the_other_device",
            a_run_goes_on_on_the_other_device,
        ),
        ("teachers_are_trained_alike", teachers_are_trained_alike),
        (
            "networks_that_make_images_agree",
            networks_that_make_images_agree,
        ),
    ];
    // As the usual harness has it: words choose tests, options are not for this one.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    for (name, test) in tests.into_iter().filter(|test| wanted(test.0)) {
        let start = std::time::Instant::now();
        test();
        println!(
            "test {name} ... ok ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
    }
}

/// What a piece of work gives on each device, the processor first.
fn on_both<T>(work: impl Fn() -> T) -> [T; 2] {
    [CPU, GPU].map(|choice| {
        device::choose(choice).unwrap();
        work()
    })
}

fn assert_near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    assert!(scale > 0.0, "{what}: all 0");
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(
            (a - b).abs() <= TOLERANCE * scale,
            "{what}: {a}, not {b}, at {at} (largest {scale})"
        );
    }
}

fn assert_share(found: f64, expected: f64, share: f64, what: &str) {
    assert!(
        (found - expected).abs() <= share * expected.abs(),
        "{what}: {found}, not {expected}"
    );
}

/// Waves that begin somewhere else in each image, with a square in one of them.
fn image(seed: usize, side: usize, defect: bool) -> Image {
    let mut pixels = Vec::new();
    for row in 0..side {
        for column in 0..side {
            let wave = (0.6 * (row + column) as f32 + 2.0 * seed as f32).sin();
            let noise = ((row * 31 + column * 17 + seed * 101) % 29) as f32 / 29.0 - 0.5;
            let mut value = 0.5 + 0.3 * wave + 0.05 * noise;
            if defect && (20..30).contains(&row) && (15..25).contains(&column) {
                value = 0.95;
            }
            pixels.extend([value, 0.8 * value, 0.6 * value]);
        }
    }
    Image::new(side, side, pixels)
}

fn images(count: usize, side: usize) -> Vec<Image> {
    (0..count).map(|seed| image(seed, side, false)).collect()
}

/// Numbers that look random.
fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|at| ((at * 7919 + 13) % 1999) as f32 / 999.5 - 1.0)
        .collect()
}

fn descriptors_agree() {
    for field in ReceptiveField::ALL {
        let network = PatchNetworkConfig::new(field).init(3);
        // Not a whole number of strides: the last rows are cut off, or made up.
        let side = field.side() + field.pooling_stride() + 1;
        let input = Tensor::new(numbers(2 * 3 * side * side), [2, 3, side, side]);
        for stride in [1, field.pooling_stride()] {
            let [expected, found] = on_both(|| network.grid(&input, stride).into_values());
            assert_near(&found, &expected, &format!("p = {field}, stride {stride}"));
        }
    }
}

/// Weights of a network by name, made up.
fn weights(config: BackboneConfig, path: &Path) {
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = config
        .layout()
        .unwrap()
        .into_iter()
        .map(|(name, shape)| {
            let fan_in: usize = shape.iter().skip(1).product();
            let scale = if shape.len() == 1 {
                0.1
            } else {
                (6.0 / fan_in as f32).sqrt()
            };
            let values = numbers(shape.iter().product());
            let bytes = values
                .iter()
                .flat_map(|value| (scale * value).to_le_bytes());
            (name, shape, bytes.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

const RESNET: BackboneConfig = BackboneConfig::ResNet18(ResNet18Config {
    stages: 2,
    classes: None,
});

fn pretrained_networks_agree() {
    let folder = tempfile::tempdir().unwrap();
    for (config, outputs) in [
        (RESNET, &["stem", "layer1", "layer2"][..]),
        (
            BackboneConfig::SqueezeNet(SqueezeNetConfig::default()),
            &["conv1", "fire3", "fire5", "fire9", "features"][..],
        ),
        (
            BackboneConfig::EfficientNetLite(EfficientNetLiteConfig {
                variant: 0,
                stages: 5,
                head: false,
                classes: None,
            }),
            &["stage1", "stage3", "stage5"][..],
        ),
    ] {
        let path = folder.path().join("weights.safetensors");
        weights(config, &path);
        let [expected, found] = on_both(|| {
            let network = backbone::load(&path).unwrap();
            let input = network
                .preprocessing()
                .batch(&[&image(1, 65, true)])
                .unwrap();
            let maps = network.maps(&input, outputs).unwrap();
            maps.into_iter()
                .map(Tensor::into_values)
                .collect::<Vec<_>>()
        });
        for ((found, expected), name) in found.iter().zip(&expected).zip(outputs) {
            assert_near(found, expected, name);
        }
    }
}

/// Two students of the built-in teacher for a few steps.
fn config(field: ReceptiveField, training: Training) -> StudentTeacherConfig {
    let teacher = Teacher::built_in(field).unwrap();
    let mut config = StudentTeacherConfig::new(vec![teacher.into()]);
    config.settings = Settings {
        students: 2,
        resize: Resize::None,
        training,
        ..config.settings
    };
    config
}

fn quick(field: ReceptiveField, steps: usize) -> Training {
    Training::Quick(Quick {
        length: Length::Steps(steps),
        windows: 2,
        window: Some(field.side() + 2 * field.pooling_stride()),
        ..Quick::default()
    })
}

fn fit(config: &StudentTeacherConfig, side: usize) -> StudentTeacher {
    config
        .fit(
            &images(3, side),
            &images(5, side)[3..].to_vec(),
            &mut Silent,
        )
        .unwrap()
}

/// Training and validation losses of models from either device.
fn assert_losses_agree(models: &[StudentTeacher; 2], what: &str) {
    let scales = models
        .each_ref()
        .map(|model| &model.manifest().training.scales[0]);
    let losses = scales.map(|scale| [scale.training_loss, scale.validation_loss]);
    for (expected, found) in losses[0].iter().zip(losses[1]) {
        assert_share(found, *expected, 0.01, what);
    }
}

/// A model from each device, on both, on the grid and densely.
fn assert_handed_over(models: [Model; 2], side: usize, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pupilla");
    for (model, from) in models.into_iter().zip([CPU, GPU]) {
        model.save(&path).unwrap();
        for sampling in [Sampling::Grid, Sampling::Dense] {
            let [on_cpu, on_gpu] = on_both(|| {
                let model = match Model::load(&path).unwrap() {
                    Model::StudentTeacher(model) => model.with_sampling(sampling).into(),
                    other => other,
                };
                let map = model.anomaly_map(&image(9, side, true)).unwrap();
                map.scores().to_vec()
            });
            assert_near(
                &on_gpu,
                &on_cpu,
                &format!("{what} from {from}, {sampling:?}"),
            );
        }
    }
}

fn models_are_handed_over_without_loss() {
    let field = ReceptiveField::P33;
    let models = on_both(|| fit(&config(field, quick(field, 3)), 48));
    assert_losses_agree(&models, "batch norm and Muon");
    assert_handed_over(models.map(Model::from), 48, "students");

    // Students of a pretrained network, whose maps are read between their pixels.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    weights(RESNET, &path);
    let models = on_both(|| {
        let backbone = BackboneExtractor::load(&path, None, 1).unwrap();
        let teacher = pupilla::ScaleTeacher::backbone(field, backbone);
        let config = StudentTeacherConfig {
            teachers: vec![teacher],
            ..config(field, quick(field, 2))
        };
        fit(&config, 48)
    });
    assert_losses_agree(&models, "a pretrained network's students");
    assert_handed_over(
        models.map(Model::from),
        48,
        "a pretrained network's students",
    );
}

fn the_published_training_agrees() {
    let models = on_both(|| {
        let paper = Paper {
            epochs: 1,
            ..Paper::default()
        };
        fit(&config(ReceptiveField::P33, Training::Paper(paper)), 34)
    });
    assert_losses_agree(&models, "the published training");
}

/// Asks to stop after some steps.
struct Stop(usize);

impl Observer for Stop {
    fn advance(&mut self, done: u64, loss: Option<f64>) {
        if loss.is_some() && done >= 2 {
            self.0 = 1;
        }
    }

    fn stop_requested(&mut self) -> bool {
        self.0 > 0
    }
}

fn a_run_goes_on_on_the_other_device() {
    let field = ReceptiveField::P33;
    let [learned, kept] = [images(3, 40), images(4, 40)[3..].to_vec()];
    let run = |checkpoints: Option<&Checkpoints>, observer: &mut dyn Observer| {
        config(field, quick(field, 4))
            .check()
            .unwrap()
            .with_checkpoints(checkpoints, "")
            .fit(&learned, &kept, observer)
    };
    device::choose(CPU).unwrap();
    let whole = run(None, &mut Silent).unwrap();
    for [first, second] in [[CPU, GPU], [GPU, CPU]] {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints {
            path: folder.path().join("checkpoint"),
            every: 100,
            resume: true,
        };
        device::choose(first).unwrap();
        let stopped = run(Some(&checkpoints), &mut Stop(0));
        assert!(matches!(
            stopped,
            Err(TrainError::StoppedWithCheckpoint { step: 2, .. })
        ));
        device::choose(second).unwrap();
        let resumed = run(Some(&checkpoints), &mut Silent).unwrap();
        assert_losses_agree(
            &[whole.clone(), resumed],
            &format!("{first}, then {second}"),
        );
    }
}

fn teachers_are_trained_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.safetensors");
    weights(RESNET, &path);
    let field = ReceptiveField::P33;
    let [expected, found] = on_both(|| {
        let network = backbone::load(&path).unwrap();
        let features = pupilla::backbone::DenseFeatures::usual(&*network, 1).unwrap();
        let distillation = Distillation::Dense {
            features,
            context: 8,
        };
        let config = TeacherConfig {
            steps: 4,
            images_per_step: 2,
            window: field.side() + 4,
            held_out: 0.5,
            triplet_weight: 1.0,
            compactness_weight: 0.01,
            ..TeacherConfig::distilled(field, distillation)
        };
        pupilla::teacher::train(
            &config,
            &images(6, 64),
            Some(&*network),
            &Provenance::default(),
            None,
            &mut Silent,
        )
        .unwrap()
        .teacher
    });
    let manifests = [&expected, &found].map(Teacher::manifest);
    assert_share(
        manifests[1].final_loss,
        manifests[0].final_loss,
        0.01,
        "the teacher's loss",
    );
    let distillation = manifests.map(|manifest| manifest.held_out.unwrap().distillation.unwrap());
    let unexplained = distillation.map(|error| match error {
        pupilla::teacher::DistillationError::Variance { unexplained } => unexplained,
        other => panic!("{other:?}"),
    });
    assert_share(
        unexplained[1],
        unexplained[0],
        0.01,
        "the teacher's held-out images",
    );
}

fn networks_that_make_images_agree() {
    for kind in [
        DetectorKind::SquaredErrorAutoencoder,
        DetectorKind::SimilarityAutoencoder,
        DetectorKind::VariationalAutoencoder,
        DetectorKind::AnoGan,
    ] {
        let mut config = ReconstructionConfig::new(kind).unwrap();
        config.settings.resize = Resize::Square(32);
        config.settings.training.length = Length::Steps(3);
        config.settings.training.batch = 2;
        if let Method::AnoGan(method) = &mut config.settings.method {
            method.search_steps = 3;
        }
        let models = on_both(|| {
            let validation = images(5, 32)[3..].to_vec();
            config
                .fit(&images(3, 32), &validation, &mut Silent)
                .unwrap()
        });
        let losses = models
            .each_ref()
            .map(|model| &model.manifest().method.losses);
        for (name, expected) in losses[0] {
            let what = format!("{kind}, {name}");
            assert_share(losses[1][name], *expected, 0.01, &what);
        }
        assert_handed_over(models.map(Model::from), 32, &kind.to_string());
    }
}
