//! Pretrained networks against torchvision (`oracle/make_backbone.py`), and files that are none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pupilla::BackboneExtractor;
use pupilla::backbone::{
    Backbone, BackboneConfig, BackboneError, DenseFeatures, EfficientNetLiteConfig, FEATURES,
    Preprocessing, ResNet18Config, SqueezeNetConfig, WeightSource, features, load, summarise,
};
use pupilla::nn::Tensor;
use pupilla_core::data::file_fingerprint;
use pupilla_core::image::Image;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use tempfile::TempDir;

use crate::torch_file::{self, Pickle, archive};

/// Name, shape, numbers.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Numbers in [0, 1) that `make_backbone.py` computes in the same way.
fn unit(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(0x811c_9dc5u32, |seed, byte| {
        (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    (0..count as u32).map(move |index| {
        let mut x = index.wrapping_mul(0x9e37_79b9).wrapping_add(seed);
        x ^= x >> 16;
        x = x.wrapping_mul(0x85eb_ca6b);
        x ^= x >> 13;
        x = x.wrapping_mul(0xc2b2_ae35);
        x ^= x >> 16;
        f64::from(x >> 8) / f64::from(1 << 24)
    })
}

/// The tensor of this name and shape.
pub fn tensor(name: &str, shape: &[usize]) -> Named {
    let scale = match shape {
        [_, taps @ ..] if !taps.is_empty() => (6.0 / taps.iter().product::<usize>() as f64).sqrt(),
        _ => 0.0,
    };
    let value = |u: f64| {
        if name == "input" {
            4.0 * u - 2.0
        } else if name.ends_with("running_mean") {
            (2.0 * u - 1.0) * 0.3
        } else if name.ends_with("running_var") {
            0.5 + 1.5 * u
        } else if name.ends_with("bias") {
            (2.0 * u - 1.0) * 0.2
        } else if shape.len() == 1 {
            0.5 + u
        } else {
            (2.0 * u - 1.0) * scale
        }
    };
    let values = unit(name, shape.iter().product()).map(|u| value(u) as f32);
    (name.to_string(), shape.to_vec(), values.collect())
}

fn resnet18_config() -> BackboneConfig {
    BackboneConfig::ResNet18(ResNet18Config {
        stages: 4,
        classes: Some(10),
    })
}

/// A network's state dict as torchvision names it, by the formula.
pub fn state_dict(config: BackboneConfig) -> Vec<Named> {
    let mut tensors = Vec::new();
    for (name, shape) in config.layout().unwrap() {
        let batch_norm = name
            .strip_suffix(".bias")
            .filter(|layer| {
                !matches!(config, BackboneConfig::SqueezeNet(_)) && !layer.ends_with("fc")
            })
            .map(|layer| {
                let names = [
                    ("downsample.0", "downsample.1"),
                    ("_conv_stem", "_bn0"),
                    ("_expand_conv", "_bn0"),
                    ("_depthwise_conv", "_bn1"),
                    ("_project_conv", "_bn2"),
                    ("_conv_head", "_bn1"),
                ];
                let mut names = names.into_iter();
                let known = names
                    .find_map(|(part, norm)| Some(format!("{}{norm}", layer.strip_suffix(part)?)));
                known.unwrap_or_else(|| layer.replace("conv", "bn"))
            });
        match batch_norm {
            None => tensors.push(tensor(&name, &shape)),
            Some(batch_norm) => {
                for part in ["weight", "bias", "running_mean", "running_var"] {
                    tensors.push(tensor(&format!("{batch_norm}.{part}"), &shape));
                }
            }
        }
    }
    tensors
}

pub fn safetensors(tensors: &[Named]) -> Vec<u8> {
    let stored: Vec<(&Named, Vec<u8>)> = tensors
        .iter()
        .map(|tensor| {
            let bytes = tensor.2.iter().flat_map(|value| value.to_le_bytes());
            (tensor, bytes.collect())
        })
        .collect();
    let views = stored.iter().map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// A folder with a file in it.
pub fn written(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.bin");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn loaded(bytes: &[u8]) -> Result<Box<dyn Backbone>, BackboneError> {
    load(&written(bytes).1)
}

/// Loads what cannot be loaded; the message names the file.
fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = written(bytes);
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("weights.bin"), "{message}");
    message
}

fn assert_words(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn input(shape: [usize; 4]) -> Tensor {
    let (_, _, values) = tensor("input", &shape);
    Tensor::new(values, shape)
}

/// ResNet-18 without fully connected layer and last stages: quick to make.
fn short() -> Vec<Named> {
    state_dict(BackboneConfig::ResNet18(ResNet18Config {
        stages: 1,
        classes: None,
    }))
}

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    network: String,
    input: [usize; 4],
    outputs: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    rms: f64,
    step: usize,
    samples: Vec<f64>,
}

/// Every output of the stored cases of a network, within 1e-4 of its root mean square.
fn agrees_with_torchvision(network: &str, backbone: &dyn Backbone) {
    let oracle: Oracle = serde_json::from_str(include_str!("oracle/backbone.json")).unwrap();
    let mut cases = 0;
    for case in oracle.cases.iter().filter(|case| case.network == network) {
        cases += 1;
        let names: Vec<&str> = case.outputs.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = backbone.outputs().iter().map(|o| o.name).collect();
        known.sort_unstable();
        assert_eq!(names, known);
        let maps = backbone.maps(&input(case.input), &names).unwrap();
        for ((name, expected), map) in case.outputs.iter().zip(maps) {
            assert_eq!(map.shape().to_vec(), expected.shape, "{name}");
            let output = backbone.outputs().into_iter().find(|o| o.name == name);
            assert_eq!(output.unwrap().channels, expected.shape[1]);
            let found = map.into_values();
            let samples = found.iter().step_by(expected.step);
            assert_eq!(samples.len(), expected.samples.len());
            for (found, sample) in samples.zip(&expected.samples) {
                let error = (f64::from(*found) - sample).abs() / expected.rms;
                assert!(error < 1e-4, "{network} {name}: {found}, not {sample}");
            }
            let squares: f64 = found.iter().map(|x| f64::from(*x).powi(2)).sum();
            let rms = (squares / found.len() as f64).sqrt();
            assert!((rms / expected.rms - 1.0).abs() < 1e-4, "{name}: {rms}");
        }
    }
    assert_eq!(cases, 2);
}

#[test]
fn resnet18_agrees_with_torchvision_and_survives_every_form_of_file() {
    let tensors = state_dict(resnet18_config());
    let backbone = loaded(&safetensors(&tensors)).unwrap();
    assert_eq!(backbone.config(), resnet18_config());
    agrees_with_torchvision("resnet18", &*backbone);

    // The same from PyTorch's own kind of file, and behind DataParallel's prefix.
    let prefixed: Vec<Named> = tensors
        .into_iter()
        .map(|(name, shape, values)| (format!("module.{name}"), shape, values))
        .collect();
    let torch = loaded(&torch_file::state_dict(&prefixed)).unwrap();
    let arrays = backbone.arrays();
    assert_eq!(arrays, torch.arrays());

    // Out by name and number, and back: in a file with batch norm folded in, and in memory.
    let layout = backbone.config().layout().unwrap();
    assert_eq!(layout.len(), arrays.len());
    for ((name, shape), array) in layout.iter().zip(&arrays) {
        assert_eq!((name, shape), (&array.name, &array.shape));
    }
    let folded: Vec<Named> = arrays
        .iter()
        .map(|array| {
            (
                array.name.clone(),
                array.shape.clone(),
                array.values.clone(),
            )
        })
        .collect();
    assert_eq!(loaded(&safetensors(&folded)).unwrap().arrays(), arrays);
    let config = serde_json::to_string(&backbone.config()).unwrap();
    let config: BackboneConfig = serde_json::from_str(&config).unwrap();
    let again = config
        .build(arrays.iter().map(|array| array.values.clone()).collect())
        .unwrap();
    let input = input([1, 3, 40, 33]);
    let before = backbone.maps(&input, &["logits"]).unwrap();
    assert_eq!(before.len(), 1, "one map for one name");
    assert_eq!(before, again.maps(&input, &["logits"]).unwrap());

    // A file that ends early gives what it has.
    let truncated: Vec<Named> = folded
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("layer4") && !name.starts_with("fc"))
        .collect();
    let cut = truncated;
    let truncated = loaded(&safetensors(&cut)).unwrap();
    let names: Vec<&str> = truncated.outputs().iter().map(|o| o.name).collect();
    assert_eq!(names, ["stem", "layer1", "layer2", "layer3"]);
    let wanted = ["layer3", "stem", "layer3"];
    let maps = truncated.maps(&input, &wanted).unwrap();
    assert_eq!(maps, backbone.maps(&input, &wanted).unwrap());
    // Classes of a stage that is not there are left aside.
    let mut with_classes = cut;
    with_classes.push(tensor("fc.weight", &[10, 512]));
    with_classes.push(tensor("fc.bias", &[10]));
    let with_classes = loaded(&safetensors(&with_classes)).unwrap();
    assert_eq!(with_classes.config(), truncated.config());
    let message = truncated.maps(&input, &[FEATURES]).unwrap_err().to_string();
    assert_words(
        &message,
        &["features", "stem, layer1, layer2, layer3", "ends before"],
    );
}

fn lite(variant: usize, stages: usize, classes: Option<usize>) -> EfficientNetLiteConfig {
    EfficientNetLiteConfig {
        variant,
        stages,
        head: classes.is_some(),
        classes,
    }
}

#[test]
fn efficientnet_lite0_agrees_with_pytorch() {
    let config = BackboneConfig::EfficientNetLite(lite(0, 7, Some(10)));
    let mut tensors = state_dict(config);
    let backbone = loaded(&torch_file::old_state_dict(&tensors)).unwrap();
    assert_eq!(backbone.config(), config);
    agrees_with_torchvision("efficientnet_lite0", &*backbone);
    let preprocessing = backbone.preprocessing();
    assert_eq!(preprocessing.side, 224);
    for (value, expected) in [(0.0, -127.0 / 128.0), (1.0, 1.0)] {
        let image = Image::new(1, 1, vec![value; 3]);
        let input = preprocessing.batch(&[&image]).unwrap();
        assert!((input.values()[0] - expected).abs() < 1e-6);
    }
    let usual = DenseFeatures::usual(&*backbone, 1).unwrap();
    assert_eq!(usual.outputs, ["stage1", "stage2", "stage3", "stage5"]);
    assert_eq!(usual.channels(&*backbone).unwrap(), 16 + 24 + 40 + 112);

    // From the newer format, with batch norm folded in already, and from a model file.
    let again = loaded(&torch_file::state_dict(&tensors)).unwrap();
    assert_eq!(again.arrays(), backbone.arrays());
    let folded = backbone.arrays().into_iter();
    let folded: Vec<Named> = folded.map(|of| (of.name, of.shape, of.values)).collect();
    let again = loaded(&safetensors(&folded)).unwrap();
    assert_eq!(again.arrays(), backbone.arrays());
    let arrays = folded.iter().map(|(.., values)| values.clone()).collect();
    let json = serde_json::to_string(&config).unwrap();
    let config: BackboneConfig = serde_json::from_str(&json).unwrap();
    assert_eq!(config.build(arrays).unwrap().arrays(), backbone.arrays());

    // Without classes.
    tensors.retain(|(name, ..)| !name.starts_with("_fc."));
    let features = loaded(&safetensors(&tensors)).unwrap();
    let expected = EfficientNetLiteConfig {
        classes: None,
        ..lite(0, 7, Some(10))
    };
    assert_eq!(
        features.config(),
        BackboneConfig::EfficientNetLite(expected)
    );
    let small = input([1, 3, 33, 40]);
    let message = features.maps(&small, &["logits"]).unwrap_err().to_string();
    assert_words(
        &message,
        &["\"logits\"", "stage7, features", "no layer _fc"],
    );
    assert_eq!(
        features.maps(&small, &[FEATURES]).unwrap(),
        backbone.maps(&small, &[FEATURES]).unwrap()
    );
}

#[test]
fn efficientnet_lite_may_end_after_any_stage() {
    let whole = state_dict(BackboneConfig::EfficientNetLite(lite(0, 7, Some(10))));
    let backbone = loaded(&safetensors(&whole)).unwrap();
    let input = input([1, 3, 37, 50]);
    // The last block of each stage.
    for (stages, last) in [0, 2, 4, 7, 10, 14, 15].into_iter().enumerate() {
        let stages = stages + 1;
        let mut tensors = whole.clone();
        // Classes and the last convolution, to which nothing leads, are left aside.
        tensors.retain(|(name, ..)| match name.strip_prefix("_blocks.") {
            Some(rest) => rest.split('.').next().unwrap().parse::<usize>().unwrap() <= last,
            None => stages < 7 || name.starts_with("_conv_stem") || name.starts_with("_bn0"),
        });
        let short = loaded(&safetensors(&tensors)).unwrap();
        let config = BackboneConfig::EfficientNetLite(lite(0, stages, None));
        assert_eq!(short.config(), config, "{stages} stages");
        let names: Vec<_> = short.outputs().iter().map(|output| output.name).collect();
        assert_eq!(names.len(), stages);
        let maps = short.maps(&input, &names).unwrap();
        assert_eq!(maps, backbone.maps(&input, &names).unwrap());
        let arrays = short.arrays().into_iter().map(|array| array.values);
        assert_eq!(
            config.build(arrays.collect()).unwrap().arrays(),
            short.arrays()
        );
        if stages < 7 {
            let message = short.maps(&input, &["stage7"]).unwrap_err().to_string();
            assert_words(&message, &["\"stage7\"", "stage1", "ends before"]);
        }
    }
}

#[test]
fn every_efficientnet_lite_is_recognised() {
    // Parameters of the whole networks in millions, as timm states them.
    let stated = [4.65, 5.42, 6.09, 8.20, 13.01];
    for (variant, millions) in stated.into_iter().enumerate() {
        let config = BackboneConfig::EfficientNetLite(lite(variant, 7, Some(1000)));
        let count = |(name, shape): (String, Vec<usize>)| -> usize {
            let numbers = shape.iter().product();
            // A batch norm has scales beside its biases.
            let scales = if name.ends_with("bias") && name != "_fc.bias" {
                numbers
            } else {
                0
            };
            numbers + scales
        };
        let numbers: usize = config.layout().unwrap().into_iter().map(count).sum();
        let found = numbers as f64 / 1e6;
        assert!((found - millions).abs() < 0.006, "{variant}: {found}");
        assert_eq!(config.name(), format!("EfficientNet-Lite{variant}"));
        let side = [224, 240, 260, 280, 300][variant];
        assert_eq!(config.preprocessing().side, side);
        // Only the first three stages, which tell the variants apart.
        let config = BackboneConfig::EfficientNetLite(lite(variant, 3, None));
        let loaded = loaded(&safetensors(&state_dict(config))).unwrap();
        assert_eq!(loaded.config(), config);
    }
}

#[test]
fn what_is_wrong_with_an_efficientnet_lite_is_named() {
    let whole = state_dict(BackboneConfig::EfficientNetLite(lite(0, 2, None)));
    let mut tensors = whole.clone();
    tensors.retain(|(name, ..)| name != "_blocks.1._bn1.running_mean" && name != "_bn0.bias");
    tensors.push(tensor("_blocks.1._squash.weight", &[8]));
    for (name, shape, _) in &mut tensors {
        if name == "_blocks.2._depthwise_conv.weight" {
            *shape = vec![1, 144, 3, 3];
        }
    }
    assert_words(
        &refusal(&safetensors(&tensors)),
        &[
            "EfficientNet-Lite0",
            "_blocks.1._bn1.running_mean is missing",
            "_bn0.bias is missing",
            "_blocks.2._depthwise_conv.weight has shape [1, 144, 3, 3] instead of [144, 1, 3, 3]",
            "_blocks.1._squash.weight does not belong here",
        ],
    );
    let mut larger = whole;
    larger.push(tensor("_blocks.0._se_reduce.weight", &[8, 32, 1, 1]));
    assert_words(
        &refusal(&safetensors(&larger)),
        &["squeeze-and-excitation (B0", "EfficientNet-Lite"],
    );
    // A number of a block that no memory holds.
    let far = tensor(&format!("_blocks.{}._bn1.bias", usize::MAX), &[1]);
    assert_words(&refusal(&safetensors(&[far])), &["does not belong here"]);
    // Settings of a model file are untrusted too.
    let wrong = [
        lite(5, 7, None),
        lite(usize::MAX, 1, None),
        lite(0, 0, None),
        lite(0, 8, None),
        lite(0, 6, Some(10)),
        lite(0, 7, Some(0)),
        lite(0, 7, Some(1 << 40)),
        EfficientNetLiteConfig {
            head: false,
            ..lite(0, 7, Some(10))
        },
    ];
    for config in wrong.map(BackboneConfig::EfficientNetLite) {
        assert!(config.layout().is_err() && config.build(Vec::new()).is_err());
        assert!(config.outputs().len() <= 9);
    }
}

#[test]
fn squeezenet_agrees_with_torchvision() {
    let mut tensors = state_dict(BackboneConfig::SqueezeNet(SqueezeNetConfig::default()));
    let backbone = loaded(&safetensors(&tensors)).unwrap();
    assert_eq!(
        backbone.config(),
        BackboneConfig::SqueezeNet(SqueezeNetConfig::default())
    );
    agrees_with_torchvision("squeezenet1_1", &*backbone);
    // A complete file has a classifier too.
    tensors.push(tensor("classifier.1.weight", &[10, 512, 1, 1]));
    tensors.push(tensor("classifier.1.bias", &[10]));
    let complete = loaded(&torch_file::state_dict(&tensors)).unwrap();
    assert_eq!(complete.arrays(), backbone.arrays());
}

#[test]
fn squeezenet_may_end_after_any_fire_module() {
    let whole = state_dict(BackboneConfig::SqueezeNet(SqueezeNetConfig::default()));
    let backbone = loaded(&safetensors(&whole)).unwrap();
    let input = input([1, 3, 40, 37]);
    // `features.7` is fire5, `features.9` fire6, behind which no output is.
    for (last, fires, outputs) in [
        (3, 1, vec!["conv1"]),
        (7, 4, vec!["conv1", "fire3", "fire5"]),
        (9, 5, vec!["conv1", "fire3", "fire5"]),
    ] {
        let mut tensors = whole.clone();
        let index = |name: &str| name.split('.').nth(1).unwrap().parse::<usize>().unwrap();
        tensors.retain(|(name, ..)| index(name) <= last);
        let short = loaded(&safetensors(&tensors)).unwrap();
        let config = BackboneConfig::SqueezeNet(SqueezeNetConfig { fires });
        assert_eq!(short.config(), config);
        let names: Vec<_> = short.outputs().iter().map(|output| output.name).collect();
        assert_eq!(names, outputs);
        let maps = short.maps(&input, &outputs).unwrap();
        assert_eq!(maps, backbone.maps(&input, &outputs).unwrap());
        let message = short.maps(&input, &[FEATURES]).unwrap_err().to_string();
        assert_words(&message, &["features", outputs[0], "ends before"]);
        // What a model keeps of it is as short, and rebuilds it.
        let arrays = short.arrays().into_iter().map(|array| array.values);
        let rebuilt = config.build(arrays.collect()).unwrap();
        assert_eq!(rebuilt.arrays(), short.arrays());
    }
    // Configurations from before files could be short.
    let old: BackboneConfig = serde_json::from_str(r#"{"architecture":"squeezenet1_1"}"#).unwrap();
    assert_eq!(old, backbone.config());
    assert_eq!(
        serde_json::to_string(&old).unwrap(),
        r#"{"architecture":"squeezenet1_1"}"#
    );
    let none = BackboneConfig::SqueezeNet(SqueezeNetConfig { fires: 9 });
    assert_words(&none.layout().unwrap_err().to_string(), &["9 fire modules"]);
    assert_eq!(none.outputs().len(), 4, "an untrusted number ends no slice");
}

#[test]
fn any_size_that_the_strides_allow() {
    let squeezenet = loaded(&safetensors(&state_dict(BackboneConfig::SqueezeNet(
        SqueezeNetConfig::default(),
    ))))
    .unwrap();
    let resnet18 = loaded(&safetensors(&short())).unwrap();
    for backbone in [&squeezenet, &resnet18] {
        for output in backbone.outputs() {
            let side = output.smallest_side;
            for [height, width] in [[side, side], [side, 40], [51, side + 1]] {
                let map = backbone.maps(&input([1, 3, height, width]), &[output.name]);
                let [_, channels, rows, columns] = map.unwrap().remove(0).shape();
                assert_eq!(channels, output.channels);
                assert!(rows > 0 && columns > 0);
            }
            let small = input([1, 3, 60, side - 1]);
            let message = backbone.maps(&small, &[output.name]);
            let message = message.unwrap_err().to_string();
            let size = format!("{}×60 pixels", side - 1);
            assert_words(&message, &[&size, output.name, &side.to_string()]);
        }
        let grey = input([1, 1, 60, 60]);
        let message = backbone.maps(&grey, &["stem"]).unwrap_err().to_string();
        assert_words(&message, &["[1, 1, 60, 60]"]);
        assert!(backbone.maps(&input([1, 3, 9, 9]), &[]).unwrap().is_empty());
    }
}

#[test]
fn images_are_normalised_and_keep_their_size() {
    let image = |width, height| {
        let (_, _, values) = tensor("picture.running_var", &[height, width, 3]);
        Image::new(
            width,
            height,
            values.iter().map(|v| (v - 0.5) / 1.5).collect(),
        )
    };
    let preprocessing = Preprocessing::IMAGENET;
    let (first, second) = (image(30, 20), image(30, 20));
    let batch = preprocessing.batch(&[&first, &second]).unwrap();
    assert_eq!(batch.shape(), [2, 3, 20, 30]);
    let green = batch.values()[(3 + 1) * 600 + 7 * 30 + 4];
    assert_eq!(green, (second.pixel(7, 4)[1] - 0.456) / 0.224);
    let wrong = preprocessing.batch(&[&first, &image(20, 30)]).unwrap_err();
    assert_eq!(wrong.to_string(), "20×30 pixels instead of 30×20");
    assert!(preprocessing.batch(&[]).is_err());
    let wrong = preprocessing.check_size(&first).unwrap_err();
    assert_eq!(wrong.to_string(), "30×20 pixels instead of 224×224");
    assert!(preprocessing.check_size(&image(224, 224)).is_ok());

    let squeezenet = loaded(&safetensors(&state_dict(BackboneConfig::SqueezeNet(
        SqueezeNetConfig::default(),
    ))))
    .unwrap();
    let pooled = features(&*squeezenet, &first).unwrap();
    assert_eq!(pooled.len(), 512);
    let summary = summarise(&*squeezenet, &first).unwrap();
    let last = summary.last().unwrap();
    let mean = pooled.iter().map(|x| f64::from(*x)).sum::<f64>() / 512.0;
    assert!((last.mean - mean).abs() < 1e-6 && (last.rows, last.columns) == (1, 1));
}

#[test]
fn every_wrong_tensor_is_named_in_one_message() {
    let mut tensors = short();
    tensors.retain(|(name, ..)| name != "layer1.0.bn2.running_mean" && name != "bn1.bias");
    for (name, shape, values) in &mut tensors {
        match name.as_str() {
            "layer1.1.bn1.bias" => *shape = vec![32, 2],
            "conv1.weight" => values[5] = f32::NAN,
            "layer1.0.bn1.weight" => values[5] = f32::INFINITY,
            _ => {}
        }
    }
    tensors.push(tensor("layer1.2.conv1.weight", &[64, 64, 3, 3]));
    for bytes in [safetensors(&tensors), torch_file::state_dict(&tensors)] {
        assert_words(
            &refusal(&bytes),
            &[
                "ResNet-18",
                "layer1.0.bn2.running_mean is missing",
                "; bn1.bias is missing",
                "layer1.1.bn1.bias has shape [32, 2] instead of [64]",
                "conv1.weight holds NaN",
                "layer1.0.bn1.weight holds NaN",
                "layer1.2.conv1.weight does not belong here",
            ],
        );
    }
    let mut squeezenet = state_dict(BackboneConfig::SqueezeNet(SqueezeNetConfig::default()));
    squeezenet.remove(3);
    assert_words(
        &refusal(&safetensors(&squeezenet)),
        &["SqueezeNet 1.1", "features.3.squeeze.bias is missing"],
    );
}

#[test]
fn batch_norms_that_cannot_be_folded_are_named() {
    let mut tensors = short();
    for (name, _, values) in &mut tensors {
        match name.as_str() {
            "layer1.0.bn1.running_var" => values[0] = -0.5,
            "layer1.1.bn2.weight" => values[0] = 1e38,
            "layer1.1.conv2.weight" => values[0] = 1e38,
            _ => {}
        }
    }
    assert_words(
        &refusal(&safetensors(&tensors)),
        &[
            "layer1.0.bn1.running_var holds a negative variance",
            "layer1.1.conv2 becomes infinite when layer1.1.bn2 is folded in",
        ],
    );
}

#[test]
fn numbers_of_other_kinds() {
    // Integers are no weights.
    let tensors = short();
    let stored: Vec<(&Named, Vec<u8>)> = tensors
        .iter()
        .map(|tensor| (tensor, vec![0; 8 * tensor.2.len()]))
        .collect();
    let views = stored.iter().map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::I64, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    assert_words(
        &refusal(&bytes),
        &["conv1.weight holds no floating-point numbers"],
    );
}

#[test]
fn networks_that_are_not_known() {
    let message = refusal(&safetensors(&[
        tensor("encoder.weight", &[3, 3]),
        tensor("decoder.weight", &[3, 3]),
    ]));
    assert_words(
        &message,
        &[
            "ResNet-18",
            "SqueezeNet 1.1",
            "decoder.weight, encoder.weight",
        ],
    );
    assert_words(&refusal(&safetensors(&[])), &["it holds nothing"]);
    // Settings of a model file are untrusted too.
    for (stages, classes) in [(5, None), (2, Some(10)), (4, Some(0)), (4, Some(1 << 40))] {
        let config = BackboneConfig::ResNet18(ResNet18Config { stages, classes });
        assert!(config.layout().is_err() && config.build(Vec::new()).is_err());
    }
    let config = BackboneConfig::SqueezeNet(SqueezeNetConfig::default());
    assert_words(
        &config.build(Vec::new()).unwrap_err().to_string(),
        &["0 arrays"],
    );
    let arrays = vec![vec![0.0]; config.layout().unwrap().len()];
    assert_words(
        &config.build(arrays).unwrap_err().to_string(),
        &["features.0.weight", "instead of 1728"],
    );
}

#[test]
fn files_that_hold_no_weights() {
    assert_words(&refusal(b""), &["no file of weights"]);
    assert_words(
        &refusal(b"\x89PNG\r\n\x1a\n and so on"),
        &["no file of weights"],
    );
    let old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    assert_words(&refusal(old), &["refused", "ends in the middle"]);
    let whole = safetensors(&short());
    assert_words(&refusal(&whole[..whole.len() - 1]), &["damaged or cut off"]);
    let entries = [("word/document.xml".to_string(), b"<xml/>".to_vec())];
    assert_words(&refusal(&archive(&entries)), &["without a data.pkl"]);

    let folder = tempfile::tempdir().unwrap();
    let message = load(folder.path()).unwrap_err().to_string();
    assert_words(&message, &["not a regular file"]);
    let message = load(Path::new("nowhere/weights.pth"))
        .unwrap_err()
        .to_string();
    assert_words(&message, &["nowhere/weights.pth"]);
    // A hole, not half a gigabyte.
    let (_folder, path) = written(b"PK\x03\x04");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len((512 << 20) + 1).unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert_words(&message, &["weights.bin", "536870913"]);
}

#[test]
fn pickles_that_hold_more_than_tensors_are_refused_by_name() {
    let refused = |pickle: Pickle, words: &[&str]| {
        let bytes = torch_file::file(pickle.end(), &[("0", vec![1.0; 8])]);
        assert_words(&refusal(&bytes), words);
    };
    refused(
        Pickle::new()
            .global("os", "system")
            .raw(b"(")
            .text("touch owned")
            .raw(b"tR"),
        &["os.system", "nothing was executed", "model.state_dict()"],
    );
    refused(Pickle::new().global("builtins", "eval"), &["builtins.eval"]);
    refused(
        Pickle::new()
            .global("torchvision.models.resnet", "ResNet")
            .raw(b")\x81"),
        &["torchvision.models.resnet.ResNet"],
    );
    // A line that is longer than a message should be, with a colour in it.
    let name = format!("\x1b[31m{}", "x".repeat(5000));
    let bytes = torch_file::file(Pickle::new().global("m", &name).end(), &[]);
    let message = refusal(&bytes);
    assert!(
        message.len() < 500 && !message.contains('\x1b'),
        "{message}"
    );

    let tensor = |pickle: Pickle| pickle.tensor("0", 8, 0, &[8], &[1]);
    refused(
        tensor(Pickle::new().raw(b"}").text("weight"))
            .raw(b"s")
            .text("epoch")
            .number(3)
            .raw(b"s"),
        &["epoch", "a number, not a tensor"],
    );
    refused(
        tensor(
            Pickle::new()
                .raw(b"}")
                .text("state_dict")
                .raw(b"}")
                .text("weight"),
        )
        .raw(b"ss"),
        &["state_dict", "a dictionary, not a tensor"],
    );
    refused(tensor(Pickle::new()), &["a tensor, not a tensor"]);
    refused(
        Pickle::new()
            .raw(b"}")
            .text("lr")
            .raw(b"G")
            .raw(&0.1f64.to_be_bytes())
            .raw(b"s"),
        &["a decimal number"],
    );
    refused(Pickle(vec![0x80, 4]), &["protocol 4"]);
}

#[test]
fn lengths_that_lie() {
    let refused = |pickle: Pickle, words: &[&str]| {
        let bytes = torch_file::file(pickle.end(), &[("0", vec![1.0; 8])]);
        assert_words(&refusal(&bytes), words);
    };
    let one = || Pickle::new().raw(b"}").text("weight");
    let huge = i64::MAX;
    for (elements, offset, shape, strides) in [
        (8, 1, vec![8], vec![1]),
        (8, 0, vec![3, 3], vec![3, 1]),
        (8, 0, vec![2], vec![8]),
        (8, -1, vec![2], vec![1]),
        (8, 0, vec![-2], vec![1]),
        (8, 0, vec![2, 2], vec![1]),
        (8, 0, vec![huge, huge, huge], vec![0, 0, 0]),
        (8, 0, vec![huge, huge], vec![huge, huge]),
        (8, huge, vec![2], vec![1]),
        (8, 0, vec![1; 9], vec![1; 9]),
        (-1, 0, vec![1], vec![1]),
    ] {
        refused(
            one()
                .tensor("0", elements, offset, &shape, &strides)
                .raw(b"s"),
            &["damaged at byte", "storage"],
        );
    }
    let promised = |elements| one().tensor("0", elements, 0, &[1], &[1]).raw(b"s");
    refused(promised(9), &["weights/data/0", "32 bytes", "9 numbers"]);
    refused(promised(1 << 62), &["weights/data/0", "32 bytes"]);
    refused(
        one().tensor("../secret", 8, 0, &[8], &[1]).raw(b"s"),
        &["weights/data/../secret", "is missing"],
    );
    // A text, a line and a number that are longer than the pickle.
    refused(
        Pickle::new().raw(b"X\xff\xff\xff\xff"),
        &["ends in the middle"],
    );
    refused(Pickle::new().raw(b"cos"), &["ends in the middle"]);
    refused(Pickle::new().raw(&[0x8a, 255]), &["ends in the middle"]);
    refused(Pickle::new(), &["takes more than it has"]);
    refused(Pickle::new().raw(b"(t0"), &["something unknown"]);
    refused(Pickle::new().raw(b"h\x07"), &["nothing is remembered as 7"]);

    // Nesting, cycles and repetition cost no more than their length.
    refused(
        Pickle::new().raw(b")").raw(&[0x85; 900_000]),
        &["a tuple, not a tensor"],
    );
    let mut doubling = Pickle::new().raw(b")");
    for _ in 0..200 {
        doubling = doubling.raw(b"q\0h\0\x86");
    }
    refused(doubling, &["a tuple, not a tensor"]);
    refused(
        Pickle::new().raw(b"}q\0").text("itself").raw(b"h\0s"),
        &["itself", "a dictionary, not a tensor"],
    );
    refused(
        Pickle::new().raw(&vec![b'N'; 2 << 20]),
        &["2097155 bytes", "1048576"],
    );
}

#[test]
fn archives_that_lie() {
    let whole = torch_file::state_dict(&short());
    assert!(loaded(&whole).is_ok());
    for cut in [1, 21, 22, 300, whole.len() / 2, whole.len() - 5] {
        let message = refusal(&whole[..whole.len() - cut]);
        assert_words(&message, &["cut off"]);
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&file)
    };
    let end = whole.len() - 22;
    let directory = u32::from_le_bytes(whole[end + 16..end + 20].try_into().unwrap()) as usize;
    // The first line of the directory is that of the pickle.
    let all = [255u8; 4];
    assert_words(&changed(end + 12, &all), &["beyond the file"]);
    assert_words(&changed(end + 16, &all), &["beyond the file"]);
    assert_words(&changed(end + 12, &[1, 0, 0, 0]), &["does not begin"]);
    assert_words(&changed(directory, b"QK"), &["does not begin"]);
    assert_words(&changed(directory + 28, &[255; 2]), &["cut off"]);
    assert_words(&changed(directory + 10, &[8]), &["data.pkl", "compressed"]);
    assert_words(&changed(directory + 8, &[1]), &["data.pkl", "encrypted"]);
    assert_words(&changed(directory + 16, &all), &["data.pkl", "checksum"]);
    let sizes = [255u8; 8];
    assert_words(&changed(directory + 20, &sizes), &["data.pkl", "within"]);
    assert_words(&changed(directory + 42, &all), &["data.pkl", "within"]);
    assert_words(&changed(directory + 42, &[1]), &["data.pkl", "within"]);
    // A single bit of a single weight, in the middle of the file.
    let weight = directory / 2;
    assert_words(&changed(weight, &[whole[weight] ^ 1]), &["checksum"]);

    let entry = |name: &str, content: &[u8]| (name.to_string(), content.to_vec());
    let empty = Pickle::new().raw(b"}").end();
    let twice = archive(&[entry("a/data.pkl", &empty), entry("a/data.pkl", &empty)]);
    assert_words(&refusal(&twice), &["a/data.pkl", "twice"]);
    let two = archive(&[entry("a/data.pkl", &empty), entry("b/data.pkl", &empty)]);
    assert_words(&refusal(&two), &["without a data.pkl"]);
    let big = archive(&[entry("a/data.pkl", &empty), entry("a/byteorder", b"big")]);
    assert_words(&refusal(&big), &["a/byteorder", "little-endian"]);
}

#[test]
fn storages_that_lie_upon_each_other_are_refused() {
    let mut pickle = Pickle::new().raw(b"}(");
    for key in ["0", "1", "2"] {
        pickle = pickle.text(key).tensor(key, 1000, 0, &[1], &[1]);
    }
    let storages = ["0", "1", "2"].map(|key| (key, vec![1.0; 1000]));
    let file = torch_file::file(pickle.raw(b"u").end(), &storages);
    // All lines of the directory that lead to a storage now lead to the first, and the others are cut
    // out of the file.
    let find = |what: &[u8], from: usize| {
        from + file[from..]
            .windows(what.len())
            .position(|window| window == what)
            .unwrap()
    };
    let second = find(b"PK\x03\x04", find(b"weights/data/0", 0));
    let last = find(b"PK\x03\x04", find(b"weights/data/2", 0));
    let gap = last - second;
    let first_line = find(b"PK\x01\x02", 0);
    let mut lines = file[first_line..].to_vec();
    let position = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let first = {
        let line = find(b"weights/data/0", first_line) - 46 - first_line;
        lines[line + 42..line + 46].to_vec()
    };
    for key in ["weights/data/1", "weights/data/2"] {
        let line = find(key.as_bytes(), first_line) - 46 - first_line;
        lines[line + 42..line + 46].copy_from_slice(&first);
    }
    let end = lines.len() - 22;
    lines[end + 16..end + 20].copy_from_slice(&position(first_line - gap));
    let mut overlapping = file[..second].to_vec();
    overlapping.extend(&file[last..first_line]);
    overlapping.extend(lines);
    assert_words(&refusal(&overlapping), &["overlap"]);
}

/// The numbers of the built-in network are 16-bit forms of its authors' numbers.
#[test]
fn the_built_in_network_is_efficientnet_lite0_up_to_stride_16() {
    let source: WeightSource = WeightSource::BUILT_IN.parse().unwrap();
    assert_eq!(source, WeightSource::BuiltIn);
    assert_eq!(source.to_string(), "built-in");
    assert_eq!(
        source.fingerprint().unwrap(),
        file_fingerprint(&built_in_file()).unwrap()
    );
    let network = source.load().unwrap();
    assert_eq!(
        network.config(),
        BackboneConfig::EfficientNetLite(lite(0, 5, None))
    );
    for array in network.arrays() {
        let halves = array
            .values
            .iter()
            .map(|&value| half::f16::from_f32(value).to_f32());
        assert!(halves.eq(array.values.iter().copied()), "{}", array.name);
    }
    let extractor = BackboneExtractor::built_in().unwrap();
    assert_eq!(
        extractor.manifest().fingerprint,
        source.fingerprint().unwrap()
    );
    assert_eq!(extractor.manifest().file, "efficientnet_lite0.safetensors");
    // The same file from a folder is the same network to a model.
    let file = BackboneExtractor::load(&built_in_file(), None, 1).unwrap();
    assert_eq!(file.manifest(), extractor.manifest());
}

#[test]
fn a_file_that_is_named_like_the_built_in_network_needs_a_folder_before_its_name() {
    assert_eq!(WeightSource::from("built-in"), WeightSource::BuiltIn);
    let file = WeightSource::from("./built-in");
    assert_eq!(file, WeightSource::File("./built-in".into()));
    assert!(matches!(file.load(), Err(BackboneError::File(_))));
}

fn built_in_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../backbone-lite0/efficientnet_lite0.safetensors")
}
