//! `pupilla backbone` on a small file of weights: the pretrained ones are not in the repository.

use std::path::{Path, PathBuf};

use pupilla::backbone::{BackboneConfig, ResNet18Config};
use safetensors::tensor::{Dtype, TensorView};

use crate::data::{assert_failure, assert_success, good, model, run, stdout, text};

/// Weights that are all equal, in the names of a network.
fn weights(path: &Path, config: BackboneConfig) {
    let layout = config.layout().unwrap();
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
    weights(&squeezenet, BackboneConfig::SqueezeNet);
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
