//! `pupilla backbone` and `train --teacher-backbone` on a small file of weights: the pretrained ones are
//! not in the repository.

use std::path::{Path, PathBuf};

use pupilla::backbone::{BackboneConfig, ResNet18Config, SqueezeNetConfig};
use safetensors::tensor::{Dtype, TensorView};

use crate::data::{
    SHORT, assert_failure, assert_success, dataset, good, listing, model, run, stderr, stdout, text,
};

/// Weights that are all equal, in the names of a network.
pub fn weights(path: &Path, config: BackboneConfig) {
    weights_without(path, config, &[]);
}

/// The same, but for some arrays.
fn weights_without(path: &Path, config: BackboneConfig, missing: &[&str]) {
    let mut layout = config.layout().unwrap();
    layout.retain(|(name, _)| !missing.contains(&name.as_str()));
    let stored: Vec<_> = layout
        .iter()
        .map(|(name, shape)| {
            let count: usize = shape.iter().product();
            let taps = count / shape[0];
            (name, shape, (1.0 / taps as f32).to_le_bytes().repeat(count))
        })
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        (name.as_str(), view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// SqueezeNet, ResNet-18 to layer1, an image of 224×224 and one of 40×40.
fn files(folder: &Path) -> [PathBuf; 4] {
    let names = [
        "squeezenet.safetensors",
        "resnet18.safetensors",
        "large.png",
        "small.png",
    ];
    let [squeezenet, resnet18, large, small] = names.map(|name| folder.join(name));
    weights(
        &squeezenet,
        BackboneConfig::SqueezeNet(SqueezeNetConfig::default()),
    );
    let stages = ResNet18Config {
        stages: 1,
        classes: None,
    };
    weights(&resnet18, BackboneConfig::ResNet18(stages));
    good(1).save(&small).unwrap();
    let image = good(1);
    image::imageops::thumbnail(&image, 224, 224)
        .save(&large)
        .unwrap();
    [squeezenet, resnet18, large, small]
}

#[test]
fn features_as_json_and_a_summary() {
    let folder = tempfile::tempdir().unwrap();
    let [squeezenet, resnet18, large, small] = files(folder.path());
    let output = run(&["backbone", text(&squeezenet), text(&large), "--json"]);
    assert_success(&output);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let features = json["features"].as_array().unwrap();
    assert_eq!(features.len(), 512);
    assert!(features.iter().all(|number| number.as_f64().unwrap() > 0.0));
    assert_eq!(json.as_object().unwrap().len(), 1);

    let output = run(&["backbone", text(&resnet18), text(&large)]);
    assert_success(&output);
    let said = stdout(&output);
    for word in ["ResNet-18", "stem", "layer1", "56×56"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let arguments = ["backbone", text(&resnet18), text(&small), "--resize"];
    for (resize, size) in [("none", "10×10"), ("64", "16×16"), ("keep:96", "24×24")] {
        let output = run(&[&arguments[..], &[resize]].concat());
        assert_success(&output);
        assert!(stdout(&output).contains(size), "{}", stdout(&output));
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let [squeezenet, resnet18, large, small] = files(folder.path());
    let backbone = |weights: &Path, image: &Path, more: &[&str]| {
        run(&[&["backbone", text(weights), text(image)], more].concat())
    };
    assert_failure(
        &backbone(&squeezenet, &small, &["--json"]),
        1,
        &["small.png", "40×40", "224×224", "--resize"],
    );
    assert_failure(
        &backbone(&squeezenet, &small, &["--resize", "9"]),
        1,
        &["small.png", "9×9", "fire9", "17"],
    );
    assert_failure(
        &backbone(&resnet18, &large, &["--json"]),
        1,
        &["resnet18.safetensors", "\"features\"", "stem, layer1 ("],
    );
    assert_failure(
        &backbone(&large, &large, &[]),
        1,
        &["large.png", "no file of weights"],
    );
    assert_failure(
        &backbone(model(), &large, &[]),
        1,
        &["parts.pupilla", "no network that is known"],
    );
    assert_failure(
        &backbone(&squeezenet, &folder.path().join("none.png"), &[]),
        1,
        &["none.png"],
    );
}

#[test]
fn what_a_file_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [squeezenet, _, large, _] = files(folder.path());
    let path = folder.path().join("lacking.safetensors");
    let squeeze = BackboneConfig::SqueezeNet(SqueezeNetConfig::default());
    let stages = ResNet18Config {
        stages: 1,
        classes: None,
    };
    // Also what the network is best known by.
    for (network, missing) in [
        (squeeze, ["features.0.weight", "features.3.squeeze.weight"]),
        (
            BackboneConfig::ResNet18(stages),
            ["conv1.bias", "layer1.0.conv1.weight"],
        ),
    ] {
        weights_without(&path, network, &missing);
        let words = missing.map(|name| format!("{name} is missing"));
        let output = run(&["backbone", text(&path), text(&large)]);
        assert_failure(&output, 1, &[&words[0], &words[1]]);
    }

    let (_folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    let train = |outputs: &str| {
        let words = [
            "train",
            text(&parts),
            "--out",
            text(&out),
            "--teacher-backbone",
        ];
        let more = [text(&squeezenet), "--backbone-outputs", outputs];
        run(&[&words[..], &more, &SHORT].concat())
    };
    assert_failure(&train("features"), 1, &["describe no position"]);
    assert_failure(&train("fire3,fire3"), 1, &["fire3 is named twice"]);
    let mut broken = std::fs::read(&squeezenet).unwrap();
    let last = broken.len() - 4;
    broken[last..].copy_from_slice(&f32::MAX.to_le_bytes());
    let path = folder.path().join("huge.safetensors");
    std::fs::write(&path, broken).unwrap();
    let output = run(&["backbone", text(&path), text(&large)]);
    assert_failure(
        &output,
        1,
        &[
            "huge.safetensors on ",
            "large.png",
            "the weights are damaged",
        ],
    );
}

#[test]
fn a_model_of_a_networks_features_is_a_model_like_others() {
    let (folder, parts) = dataset();
    let [_, resnet18, _, _] = files(folder.path());
    let out = folder.path().join("m.pupilla");
    let mut arguments = vec!["train", text(&parts), "--out", text(&out)];
    arguments.extend(["--resize", "none", "--steps", "3", "--students", "2"]);
    arguments.extend(["--teacher-backbone", text(&resnet18), "--scales", "17,33"]);
    arguments.extend(["--backbone-outputs", "stem,layer1", "--backbone-zoom", "2"]);
    assert_success(&run(&arguments));
    // Everything it needs is in the file.
    std::fs::remove_file(&resnet18).unwrap();

    let output = run(&["info", text(&out), "--full"]);
    assert_success(&output);
    let said = stdout(&output);
    for word in [
        "backbone:",
        "architecture: resnet18",
        "outputs: stem, layer1",
        "zoom: 2",
        "file: resnet18.safetensors",
        "output channels: 128",
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let output = run(&["eval", text(&out), text(&parts)]);
    assert_success(&output);
    assert!(stdout(&output).contains("AU-PRO"), "{}", stdout(&output));
    let square = parts.join("test/square");
    let maps = folder.path().join("maps");
    let inspect = ["inspect", text(&out), text(&square), "--dense", "--out"];
    assert_success(&run(&[&inspect[..], &[text(&maps)]].concat()));
    assert_eq!(listing(&maps).len(), 4);
}

#[test]
fn a_network_that_cannot_be_the_teacher() {
    let (folder, parts) = dataset();
    let [_, resnet18, _, small] = files(folder.path());
    let out = folder.path().join("m.pupilla");
    let train = |more: &[&str]| {
        let students = ["--detector", "student-teacher"];
        let train = ["train", text(&parts), "--out", text(&out)];
        let output = run(&[&train[..], &students, more].concat());
        assert!(!out.exists());
        output
    };
    let with = |weights: &Path, more: &[&str]| {
        let option = format!("--teacher-backbone={}", text(weights));
        train(&[&[&*option], more].concat())
    };
    assert_failure(
        &with(&resnet18, &["--teacher", "t.safetensors"]),
        2,
        &["--teacher-backbone", "--teacher", "cannot be used with"],
    );
    assert_failure(
        &train(&["--backbone-zoom", "2"]),
        2,
        &["--teacher-backbone"],
    );
    assert_failure(
        &train(&["--backbone-outputs", "stem"]),
        2,
        &["--teacher-backbone"],
    );
    for zoom in ["0", "9"] {
        let output = with(&resnet18, &["--backbone-zoom", zoom]);
        assert_failure(&output, 2, &["--backbone-zoom", "1..=8"]);
    }
    assert_failure(
        &with(&resnet18, &["--backbone-outputs", "layer3"]),
        1,
        &["resnet18.safetensors", "\"layer3\"", "stem, layer1"],
    );
    assert_failure(&with(&small, &[]), 1, &["small.png", "no file of weights"]);
    assert_failure(
        &with(model(), &[]),
        1,
        &["parts.pupilla", "no network that is known"],
    );
    assert_failure(&with(&folder.path().join("none"), &[]), 1, &["none"]);

    let stages = ResNet18Config {
        stages: 1,
        classes: None,
    };
    let missing = ["layer1.0.conv2.weight", "layer1.1.conv1.bias"];
    weights_without(&resnet18, BackboneConfig::ResNet18(stages), &missing);
    let output = with(&resnet18, &[]);
    let words = missing.map(|name| format!("{name} is missing"));
    assert_failure(
        &output,
        1,
        &["resnet18.safetensors", "ResNet-18", &words[0], &words[1]],
    );
    assert!(!stderr(&output).contains("layer1.0.conv1"));
}
