//! Models and maps of an earlier day: a silent change of the format, of a score or of training would show here.
//!
//! `golden/` holds one small model of every detector on features, whose features are those of the stem of a ResNet-18 with invented
//! weights, and the whole manifest of a student–teacher model of three scales, whose arrays follow from their names by a formula (they
//! would be 50 MB). `golden/maps.json` holds the maps of two images that are drawn in whole numbers below.
//!
//! A failing test writes the files that it would expect to a folder, and names the folder. If the change is wanted, or the method is new,
//! copy the files from there to `golden/`. The change log says that scores change.

use pupilla::{Config, Trained};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pupilla::backbone::{BackboneConfig, ResNet18Config};
use pupilla::embedding::Method;
use pupilla::student_teacher::{Quick, Settings, Training};
use pupilla::{
    BackboneExtractor, DetectorKind, EmbeddingConfig, Extractor, Family, Length, Model,
    ReceptiveField, StudentTeacher, StudentTeacherConfig, Teacher,
};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::Silent;
use pupilla_files::weight_file::WeightFileError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backbone::{safetensors, state_dict, tensor};

/// Largest difference of a stored model's map from the golden one, relative to the largest score of the map by its absolute value:
/// another processor or another system's mathematical functions round otherwise. Where nothing has changed, on the machine that made the
/// maps, it is 0, which `PUPILLA_GOLDEN=exact` asks for.
const TOLERANCE: f32 = 1e-4;

/// The same for a model that is trained anew: every step of the optimiser carries the differences of the step before.
const TRAINED_TOLERANCE: f32 = 1e-2;

/// The stored student–teacher models: as they are written today, and with the published scoring, as written before there was another.
pub const STUDENTS: [&str; 2] = ["student-teacher", "student-teacher-published"];

/// A model that is trained anew each time, and not stored.
const TRAINED: &str = "student-teacher, trained here";

#[derive(Serialize, Deserialize)]
struct Golden {
    /// What computed the maps.
    processor: String,
    /// Of each model, the maps of [`pictures`].
    maps: BTreeMap<String, Vec<Stored>>,
}

#[derive(Clone, Serialize, Deserialize, PartialEq)]
struct Stored {
    width: usize,
    height: usize,
    scores: Vec<f32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A picture in whole numbers of 255ths, so that it is the same everywhere; every `seed` another, one with a defect from 100 on.
pub fn picture(seed: usize, width: usize, height: usize) -> Image {
    let mut pixels = Vec::new();
    for row in 0..height {
        for column in 0..width {
            let wave = (3 * row + 5 * column + 11 * seed) % 48;
            let grain = (row * 37 + column * 91 + row * column * 13 + seed * 57) % 17;
            let inside = (20..29).contains(&row) && (30..41).contains(&column);
            let value = if seed >= 100 && inside {
                250
            } else {
                60 + 3 * wave.min(48 - wave) + grain
            };
            pixels.extend([value, value / 2 + 40, 255 - value].map(|value| value as f32 / 255.0));
        }
    }
    Image::new(width, height, pixels)
}

/// A good one and a defective one.
fn pictures() -> [Image; 2] {
    [picture(9, 71, 66), picture(109, 71, 66)]
}

/// What computed the maps, for whoever wonders about their last bits.
fn processor() -> String {
    let wanted = std::env::var("PUPILLA_SIMD").unwrap_or_default();
    #[cfg(target_arch = "x86_64")]
    let has = [
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let has: [(&str, bool); 0] = [];
    let has = has.iter().filter(|(_, has)| *has).map(|(name, _)| *name);
    let words = [std::env::consts::OS, std::env::consts::ARCH].into_iter();
    let words: Vec<&str> = words.chain(has).chain([wanted.as_str()]).collect();
    words.join(" ").trim().to_string()
}

/// Whether every bit must be as it was.
fn exact() -> bool {
    std::env::var("PUPILLA_GOLDEN").is_ok_and(|wanted| wanted == "exact")
}

/// Where a failing test leaves what it found.
fn found_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn golden() -> Option<Golden> {
    let bytes = fs::read(folder().join("maps.json")).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn maps(model: &impl Detector<Error = impl std::fmt::Debug>) -> Vec<Stored> {
    let map = |image: &Image| {
        let map: AnomalyMap = model.anomaly_map(image).unwrap();
        Stored {
            width: map.width(),
            height: map.height(),
            scores: map.scores().to_vec(),
        }
    };
    pictures().iter().map(map).collect()
}

/// Compares maps with those of `name`.
fn compare(name: &str, found: &[Stored], tolerance: f32) -> Result<(), String> {
    let Some(golden) = golden() else {
        return Err("golden/maps.json is missing".to_string());
    };
    let Some(expected) = golden.maps.get(name) else {
        return Err(format!("{name} is not in golden/maps.json"));
    };
    let tolerance = if exact() { 0.0 } else { tolerance };
    for (found, expected) in found.iter().zip(expected) {
        if (found.width, found.height) != (expected.width, expected.height) {
            return Err(format!("{name}: maps of another size"));
        }
        let largest = expected
            .scores
            .iter()
            .fold(0.0f32, |most, score| most.max(score.abs()));
        let differences = found
            .scores
            .iter()
            .zip(&expected.scores)
            .map(|(a, b)| (a - b).abs());
        let difference = differences.fold(0.0f32, f32::max) / largest;
        let finite = found.scores.iter().all(|score| score.is_finite());
        if !finite || difference > tolerance {
            return Err(format!(
                "{name}: scores differ by {difference}, at most {tolerance} is allowed"
            ));
        }
    }
    Ok(())
}

/// The names and bytes of all stored models.
pub fn stored_models() -> Vec<(String, Vec<u8>)> {
    let mut models: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pupilla")
        })
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            (name, fs::read(path).unwrap())
        })
        .collect();
    models.sort();
    models
}

/// A student–teacher model: its stored manifest, and every array by the formula.
pub fn students(name: &str) -> Vec<u8> {
    let manifest = fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assembled(&manifest)
}

/// A safetensors file of this manifest and the arrays that it promises.
fn assembled(manifest: &Value) -> Vec<u8> {
    use ::safetensors::tensor::{Dtype, TensorView};
    let students = manifest["settings"]["students"].as_u64().unwrap();
    let mut arrays = Vec::new();
    for scale in manifest["scales"].as_array().unwrap() {
        let config = serde_json::from_value(scale["network"].clone()).unwrap();
        let field: ReceptiveField =
            serde_json::from_value(scale["network"]["receptive_field"].clone()).unwrap();
        let shapes = pupilla::PatchNetworkConfig::weight_shapes(&config);
        let networks = std::iter::once("teacher".to_string())
            .chain((1..=students).map(|student| format!("student{student}")));
        for network in networks {
            for (index, shape) in shapes.iter().enumerate() {
                let name = |part: &str| format!("scale{field}.{network}.conv{}.{part}", index + 1);
                arrays.push(tensor(&name("weight"), shape));
                arrays.push(tensor(&name("bias"), &shape[..1]));
            }
        }
        let channels = config.output_channels;
        for part in ["mean", "deviation"] {
            arrays.push(tensor(
                &format!("scale{field}.whitening.{part}"),
                &[channels],
            ));
        }
        if manifest["settings"]["scoring"] == "mahalanobis" {
            arrays.push(tensor(
                &format!("scale{field}.metric"),
                &[channels, channels],
            ));
        }
    }
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = arrays
        .into_iter()
        .map(|(name, shape, values)| {
            (
                name,
                shape,
                values.into_iter().flat_map(f32::to_le_bytes).collect(),
            )
        })
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        (
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    let metadata = [("pupilla".to_string(), manifest.to_string())].into();
    ::safetensors::serialize(views, Some(metadata)).unwrap()
}

/// A model out of the bytes of its file.
pub fn load(bytes: Vec<u8>) -> Result<Model, WeightFileError> {
    Model::from_bytes(Path::new("part.pupilla"), bytes)
}

/// The stem of a ResNet-18, with numbers that follow from their names.
fn stem() -> Extractor {
    let tensors = state_dict(BackboneConfig::ResNet18(ResNet18Config {
        stages: 0,
        classes: None,
    }));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stem.safetensors");
    fs::write(&path, safetensors(&tensors)).unwrap();
    let network = BackboneExtractor::load(&path, Some(vec!["stem".to_string()]), 1).unwrap();
    network.with_stride(NonZeroUsize::new(4).unwrap()).into()
}

/// How the stored models were made.
fn made(config: EmbeddingConfig) -> Model {
    let all: Vec<Image> = (0..6).map(|seed| picture(seed, 57, 52)).collect();
    let detector = config.fit(&all[..4].to_vec(), &all[4..].to_vec(), &mut Silent);
    detector.unwrap().into()
}

/// Small numbers for small images.
fn config(kind: DetectorKind) -> EmbeddingConfig {
    let mut config = EmbeddingConfig::new(kind, stem()).unwrap();
    config.settings.resize = Resize::Square(48);
    config.settings.smoothing = config.settings.smoothing.min(1.0);
    match &mut config.settings.method {
        Method::NearestNeighbour(of) => of.dictionary = 60,
        Method::OneClassSvm(of) => of.sample = 80,
        Method::KMeans(of) => of.dictionary = 6,
        Method::CnnDictionary(of) => (of.dictionary, of.neighbours) = (30, 3),
        Method::MemoryBank(of) => of.coreset = 0.1,
        Method::Padim(of) => of.channels = 4,
        Method::Mahalanobis(of) => of.sample = 300,
        other => panic!("give {other:?} small numbers here"),
    }
    config
}

/// The stored models of detectors on features, by their names, as they are made today.
fn on_features() -> impl Iterator<Item = (String, Model)> {
    let kinds = DetectorKind::of_family(Family::Embedding);
    let with_defaults = kinds.map(|kind| {
        let name = match kind {
            // The model of that name has the published form, which was the default once.
            DetectorKind::MemoryBank => "memory-banks".to_string(),
            kind => kind.name().to_string(),
        };
        (name, made(config(kind)))
    });
    let mut published = config(DetectorKind::MemoryBank);
    if let Method::MemoryBank(of) = &mut published.settings.method {
        of.joined = true;
    }
    let published = (DetectorKind::MemoryBank.name().to_string(), made(published));
    with_defaults.chain([published])
}

/// A student–teacher model of these scales, after a few steps with one thread's order of summation.
fn trained(fields: &[ReceptiveField], steps: usize) -> StudentTeacher {
    let teachers = fields
        .iter()
        .map(|&field| Teacher::built_in(field).unwrap().into());
    let config = StudentTeacherConfig {
        teachers: teachers.collect(),
        settings: Settings {
            students: 1,
            resize: Resize::None,
            training: Training::Quick(Quick {
                length: Length::Steps(steps),
                windows: 1,
                window: Some(65),
                ..Quick::default()
            }),
            ..Settings::default()
        },
    };
    let all: Vec<Image> = (0..4).map(|seed| picture(seed, 70, 68)).collect();
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    threads.install(|| {
        config
            .fit(&all[..3].to_vec(), &all[3..].to_vec(), &mut Silent)
            .unwrap()
    })
}

#[test]
fn stored_models_score_as_on_the_day_they_were_made() {
    let mut found = BTreeMap::new();
    for (name, bytes) in stored_models() {
        found.insert(name, maps(&load(bytes).unwrap()));
    }
    // A method that is new has no stored model yet.
    for (name, model) in on_features() {
        found.entry(name).or_insert_with(|| maps(&model));
    }
    for name in STUDENTS {
        found.insert(name.to_string(), maps(&load(students(name)).unwrap()));
    }
    found.insert(
        TRAINED.to_string(),
        maps(&trained(&[ReceptiveField::P33], 3)),
    );
    let mut problems = Vec::new();
    let mut changed: BTreeSet<String> = found.keys().cloned().collect();
    for (name, maps) in &found {
        let good = maps[0].scores.iter().fold(f32::MIN, |a, b| a.max(*b));
        let bad = maps[1].scores.iter().fold(f32::MIN, |a, b| a.max(*b));
        if !STUDENTS.contains(&name.as_str()) && bad <= good {
            problems.push(format!(
                "{name}: the defect does not stand out: {good} and {bad}"
            ));
        }
        let tolerance = if name == TRAINED {
            TRAINED_TOLERANCE
        } else {
            TOLERANCE
        };
        match compare(name, maps, tolerance) {
            Ok(()) => {
                changed.remove(name);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        let path = found_folder().join("maps.json");
        // What has not changed stays as it is stored.
        let stored = golden();
        let stored_maps = stored.iter().flat_map(|stored| &stored.maps);
        for (name, maps) in stored_maps.filter(|(name, _)| !changed.contains(*name)) {
            found.insert(name.clone(), maps.clone());
        }
        let golden = Golden {
            processor: stored.map_or_else(processor, |stored| stored.processor),
            maps: found,
        };
        fs::write(&path, serde_json::to_string(&golden).unwrap()).unwrap();
        panic!(
            "{}; what was found is in {}",
            problems.join("; "),
            path.display()
        );
    }
}

/// What is trained today is what was stored, by its scores; with `PUPILLA_GOLDEN=exact` byte for byte.
#[test]
fn models_made_today_are_those_stored() {
    let stored: BTreeMap<String, Vec<u8>> = stored_models().into_iter().collect();
    let mut problems = Vec::new();
    for (name, model) in on_features() {
        let path = found_folder().join(format!("{name}.pupilla"));
        model.save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() < 100_000, "{name}: {} bytes", bytes.len());
        let result = match stored.get(&name) {
            Some(stored) if *stored == bytes => Ok(()),
            Some(_) if !exact() => compare(&name, &maps(&model), TRAINED_TOLERANCE),
            _ => Err(format!("{name}: other bytes")),
        };
        match result {
            Ok(()) => fs::remove_file(&path).unwrap(),
            Err(problem) => problems.push(format!("{problem} in {}", path.display())),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("; "));
}

/// The manifest that is written today has the fields of the one that is stored, so that neither loses one unseen.
#[test]
fn the_manifest_of_a_student_teacher_model_has_the_stored_fields() {
    let fields = [
        ReceptiveField::P17,
        ReceptiveField::P33,
        ReceptiveField::P65,
    ];
    let mut manifest = serde_json::to_value(trained(&fields, 1).manifest()).unwrap();
    // What depends on the weights of the formula, in round numbers that give scores of a few units.
    for scale in manifest["scales"].as_array_mut().unwrap() {
        scale["normalisation"] = serde_json::json!({
            "error_mean": 200.0, "error_deviation": 100.0,
            "variance_mean": 0.0, "variance_deviation": 0.0,
        });
        for loss in ["training_loss", "validation_loss"] {
            scale[loss] = 1.0.into();
        }
    }
    manifest["validation"] = serde_json::json!({ "scores": [2.5], "threshold": 2.5 });
    let stored = fs::read_to_string(folder().join(format!("{}.json", STUDENTS[0])));
    let stored: Option<Value> = stored.ok().map(|text| serde_json::from_str(&text).unwrap());
    // The version of the program that wrote it is its own.
    if let Some(stored) = &stored {
        manifest["program"] = stored["program"].clone();
    }
    if stored.as_ref() != Some(&manifest) {
        let path = found_folder().join(format!("{}.json", STUDENTS[0]));
        fs::write(
            &path,
            serde_json::to_string_pretty(&manifest).unwrap() + "\n",
        )
        .unwrap();
        panic!(
            "the manifest has changed; what was found is in {}",
            path.display()
        );
    }
}
