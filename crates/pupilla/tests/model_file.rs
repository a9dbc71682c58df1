//! The model file: what is saved is what is loaded, and a damaged file is an error that says why.

use pupilla::Trained;
use std::path::Path;

use pupilla::{DetectorKind, FileManifest, Model, ReceptiveField, StudentTeacher};
use pupilla_core::detector::Detector;
use pupilla_files::weight_file::WeightFileError;

use crate::student_teacher::{config, fitted, striped};

/// A small model's file in a folder of its own.
fn saved() -> (tempfile::TempDir, std::path::PathBuf, StudentTeacher) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.pupilla");
    let model = fitted(&config(ReceptiveField::P33, 1), 40, 40);
    model.save(&path).unwrap();
    (folder, path, model)
}

/// Rewrites the JSON header of a safetensors file.
pub fn edit_header(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    edit(&mut header);
    let text = serde_json::to_vec(&header).unwrap();
    let mut changed = (text.len() as u64).to_le_bytes().to_vec();
    changed.extend(text);
    changed.extend(&bytes[8 + length..]);
    std::fs::write(path, changed).unwrap();
}

/// Rewrites the manifest within the header.
pub fn edit_manifest(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    edit_header(path, |header| {
        let entry = &mut header["__metadata__"]["pupilla"];
        let mut manifest = serde_json::from_str(entry.as_str().unwrap()).unwrap();
        edit(&mut manifest);
        *entry = serde_json::Value::String(manifest.to_string());
    });
}

pub fn refusal(path: &Path) -> String {
    match StudentTeacher::load(path) {
        Ok(_) => panic!("a damaged file was accepted"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("part.pupilla"), "{text}");
            text
        }
    }
}

#[test]
fn an_unknown_kind_is_named_with_the_kinds_that_are_known() {
    let (_folder, path, _) = saved();
    for unknown in ["teacher", "2-nn"] {
        edit_manifest(&path, |manifest| manifest["kind"] = unknown.into());
        let errors = [
            Model::load(&path).err(),
            (unknown != "teacher").then(|| FileManifest::read(&path).unwrap_err()),
        ];
        for error in errors.into_iter().flatten() {
            assert!(matches!(error, WeightFileError::UnknownKind { .. }));
            let text = error.to_string();
            assert!(text.contains("part.pupilla holds a "), "{text}");
            assert!(text.contains(unknown), "{text}");
            for kind in DetectorKind::ALL {
                assert!(text.contains(kind.name()), "{text}");
            }
        }
    }
}

#[test]
fn scores_do_not_change_by_saving() {
    let (_folder, path, model) = saved();
    let again = StudentTeacher::load(&path).unwrap();
    assert_eq!(again.manifest(), model.manifest());
    let image = striped(57, 41, 4);
    let [before, after] = [model, again].map(|model| model.anomaly_map(&image).unwrap());
    assert_eq!(before, after);
}

#[test]
fn numbers_of_a_manifest_come_back_to_the_last_bit() {
    // Without serde_json's `float_roundtrip`, this one does not; nor does about one of a thousand others.
    let mut value = 444.540_612_086_776_83_f64;
    for _ in 0..4000 {
        let text = serde_json::to_string(&value).unwrap();
        let back: f64 = serde_json::from_str(&text).unwrap();
        assert_eq!(back.to_bits(), value.to_bits(), "{text}");
        value = (value * 1.618_033_988_749_895).rem_euclid(1000.0);
    }
}

#[test]
fn truncation_anywhere_is_noticed() {
    let (_folder, path, _) = saved();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 100, 2000, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        refusal(&path);
    }
}

#[test]
fn other_files_are_refused() {
    let (_folder, path, _) = saved();
    std::fs::write(
        &path,
        b"\x89PNG\r\n\x1a\n not a model at all, but long enough",
    )
    .unwrap();
    assert!(refusal(&path).contains("not a Pupilla file"));
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    refusal(&path);
    let missing = path.with_file_name("no such part.pupilla");
    assert!(matches!(
        StudentTeacher::load(&missing),
        Err(WeightFileError::Read { .. })
    ));
    assert!(StudentTeacher::load(path.parent().unwrap()).is_err());
}

#[test]
fn another_version_is_refused_with_its_program() {
    for version in [1, 99] {
        let (_folder, path, _) = saved();
        edit_manifest(&path, |manifest| {
            manifest["format_version"] = version.into();
            manifest["program"] = "pupilla 9.9".into();
        });
        let text = refusal(&path);
        let found = format!("version {version}");
        assert!(
            text.contains(&found) && text.contains("pupilla 9.9"),
            "{text}"
        );
    }
}

/// A change to a manifest.
pub type Edit = fn(&mut serde_json::Value);

#[test]
fn manifests_that_contradict_themselves_are_refused() {
    let edits: [(Edit, &str); 7] = [
        (
            |m| m["settings"]["students"] = 1_000_000_000u64.into(),
            "1000000000 students",
        ),
        (|m| m["settings"]["students"] = 1.into(), "student2"),
        (|m| m["settings"]["resize"] = "999999999".into(), "manifest"),
        (|m| m["scales"] = serde_json::json!([]), "0 scales"),
        (
            |m| m["scales"][0]["network"]["conv3_channels"] = 4096.into(),
            "conv3_channels",
        ),
        (
            |m| m["scales"][0]["normalisation"]["error_mean"] = (-1.0).into(),
            "normalisation",
        ),
        (
            |m| {
                let scale = m["scales"][0].clone();
                m["scales"].as_array_mut().unwrap().push(scale);
            },
            "twice",
        ),
    ];
    for (edit, expected) in edits {
        let (_folder, path, _) = saved();
        edit_manifest(&path, edit);
        let text = refusal(&path);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn tensors_are_named_when_missing_or_misshapen() {
    let (_folder, path, _) = saved();
    edit_header(&path, |header| {
        let entries = header.as_object_mut().unwrap();
        let bias = entries.remove("scale33.student1.conv1.bias").unwrap();
        entries.insert("stranger".to_string(), bias);
        let shape = &mut entries.get_mut("scale33.teacher.conv1.weight").unwrap()["shape"];
        *shape = serde_json::json!([3, 128, 5, 5]);
    });
    let text = refusal(&path);
    for part in [
        "scale33.student1.conv1.bias is missing",
        "stranger does not belong here",
        "scale33.teacher.conv1.weight has shape [3, 128, 5, 5] instead of [128, 3, 5, 5]",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_weight_that_is_no_number_is_found() {
    let (_folder, path, _) = saved();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    assert!(refusal(&path).contains("NaN"));
}

#[test]
fn a_model_that_cannot_be_written_is_an_error_with_the_path() {
    let (folder, _, model) = saved();
    let path = folder.path().join("missing folder").join("m.pupilla");
    let error = model.save(&path).unwrap_err();
    assert!(error.to_string().contains("missing folder"), "{error}");
}
