//! The golden models, changed in every way: each is read or refused in a sentence that names it, and what is read gives a map of
//! numbers or says why not. Thousands of changes, all from memory.

use proptest::prelude::*;
use pupilla::ScoreError;
use pupilla::backbone::{self, BackboneConfig, ResNet18Config};
use pupilla_core::detector::Detector;
use pupilla_core::image::Image;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::backbone::{safetensors, state_dict};
use crate::golden::{STUDENTS, load, picture, stored_models, students};

/// Whether the bytes are a model; a refusal names the file, and a model gives numbers or says that it cannot.
fn accepted(bytes: Vec<u8>, image: Option<&Image>) -> bool {
    let model = match load(bytes) {
        Ok(model) => model,
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("part.pupilla"), "{said}");
            // A hostile file does not fill the terminal, and does not write to it as it likes.
            assert!(said.len() < 200_000 && !said.contains('\x1b'), "{said}");
            return false;
        }
    };
    if let Some(image) = image {
        match model.anomaly_map(image) {
            Ok(map) => assert!(map.scores().iter().all(|score| score.is_finite())),
            Err(ScoreError::NotFinite { .. }) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    true
}

/// Length of a model's JSON header, and the header.
pub fn header(bytes: &[u8]) -> (usize, Value) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (length, header)
}

fn with_header(bytes: &[u8], header: &Value) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = header.to_string();
    let mut changed = (text.len() as u64).to_le_bytes().to_vec();
    changed.extend(text.as_bytes());
    changed.extend(&bytes[8 + length..]);
    changed
}

/// The manifest in a header.
pub fn manifest(header: &Value) -> Value {
    let text = header["__metadata__"]["pupilla"].as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

/// The same file with another manifest in its header.
pub fn with_manifest(bytes: &[u8], header: &Value, manifest: &Value) -> Vec<u8> {
    let mut header = header.clone();
    header["__metadata__"]["pupilla"] = manifest.to_string().into();
    with_header(bytes, &header)
}

#[test]
fn a_golden_model_cut_at_every_byte_is_refused() {
    for (name, bytes) in stored_models() {
        let (length, _) = header(&bytes);
        // All of the header, and every fifth of the numbers' bytes, its last ones among them.
        let numbers = (length + 8..bytes.len()).rev().step_by(5);
        for cut in (0..length + 8).chain(numbers) {
            assert!(
                !accepted(bytes[..cut].to_vec(), None),
                "{name} cut to {cut} bytes"
            );
        }
    }
}

#[test]
fn golden_models_with_damaged_bytes() {
    let image = picture(9, 40, 37);
    let mut read = 0;
    for (seed, (_, bytes)) in stored_models().into_iter().enumerate() {
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        let (length, _) = header(&bytes);
        for round in 0..800 {
            let mut changed = bytes.clone();
            for _ in 0..random.random_range(1..4) {
                // Where it matters most: the length, the header, the numbers.
                let most = match random.random_range(0..8) {
                    0 => 8,
                    1..6 => length,
                    _ => changed.len(),
                };
                let at = random.random_range(0..most.min(changed.len()));
                match random.random_range(0..5) {
                    0 => changed[at] ^= 1 << random.random_range(0..8),
                    1 => changed[at] = random.random_range(0..=255),
                    2 => changed[at] = *b"0123456789-.eE{}[],:\"".get(round % 21).unwrap(),
                    3 => drop(changed.remove(at)),
                    _ => {
                        let from = random.random_range(0..length);
                        let piece = changed[from..(from + 20).min(length)].to_vec();
                        changed.splice(at..at, piece);
                    }
                }
            }
            // A map of every one that can be read would take too long.
            let image = (round % 8 == 0).then_some(&image);
            read += usize::from(accepted(changed, image));
        }
    }
    assert!(
        read > 10,
        "{read} were read: the changes must not all be refused at once"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Numbers of a model that are any bits: infinities and NaN are refused, and no finite one breaks the map.
    #[test]
    fn golden_models_with_other_numbers(
        model in 0usize..6,
        numbers in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..8),
    ) {
        let (_, bytes) = stored_models().swap_remove(model);
        let (length, _) = header(&bytes);
        let mut changed = bytes;
        let first = length + 8;
        let mut finite = true;
        for (index, number) in &numbers {
            let at = first + 4 * index.index((changed.len() - first) / 4);
            changed[at..at + 4].copy_from_slice(&number.to_le_bytes());
            finite &= f32::from_bits(*number).is_finite();
        }
        let image = picture(9, 40, 37);
        let read = accepted(changed, Some(&image));
        prop_assert!(finite || !read || numbers.len() > 1);
    }
}

/// Every value of a tree, by its place.
fn places(value: &Value, place: &str, all: &mut Vec<String>) {
    all.push(place.to_string());
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                places(value, &format!("{place}/{name}"), all);
            }
        }
        Value::Array(entries) => {
            for (index, value) in entries.iter().enumerate() {
                places(value, &format!("{place}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// What may stand in place of any value.
fn others() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e308),
        json!(-1e308),
        json!(u64::MAX),
        json!(u64::from(u32::MAX)),
        json!(65_536),
        json!(""),
        json!("none"),
        json!("33"),
        json!("\u{1b}[2J\n"),
        json!("x".repeat(100_000)),
        json!([]),
        json!([1, 2]),
        json!({}),
    ]
}

/// Changes every value of a tree to every other, and takes every field away.
fn changes(tree: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    places(tree, "", &mut all);
    let mut changed = Vec::new();
    for place in all.iter().filter(|place| !place.is_empty()) {
        for other in others() {
            let mut tree = tree.clone();
            *tree.pointer_mut(place).unwrap() = other;
            changed.push((place.clone(), tree));
        }
        let (parent, name) = place.rsplit_once('/').unwrap();
        let mut tree = tree.clone();
        match tree.pointer_mut(parent).unwrap() {
            Value::Object(entries) => drop(entries.remove(name)),
            Value::Array(entries) => drop(entries.pop()),
            _ => unreachable!("a place within it"),
        }
        changed.push((place.clone(), tree));
    }
    changed
}

#[test]
fn every_field_of_a_manifest_may_be_anything() {
    let image = picture(9, 40, 37);
    for (name, bytes) in stored_models() {
        let (_, header) = header(&bytes);
        let changes = changes(&manifest(&header));
        assert!(changes.len() > 500, "{name}: {}", changes.len());
        for (place, manifest) in changes {
            let changed = with_manifest(&bytes, &header, &manifest);
            // What describes the training run and its data decides over nothing.
            let looked_at = [
                "/features",
                "/fitted",
                "/settings/resize",
                "/settings/smoothing",
                "/settings/border",
            ];
            let looked_at = looked_at.iter().any(|part| place.starts_with(part));
            accepted(changed, looked_at.then_some(&image));
        }
    }
}

/// The student–teacher model, whose arrays are large: without them, whatever the manifest says is refused, and nothing is taken
/// for what it claims.
#[test]
fn every_field_of_a_student_teacher_manifest_may_be_anything() {
    let bytes = students(STUDENTS[0]);
    let (length, mut header) = header(&bytes);
    let manifest = manifest(&header);
    header = json!({ "__metadata__": header["__metadata__"].clone() });
    let alone = with_header(&bytes[..8 + length], &header);
    for (place, manifest) in changes(&manifest) {
        let changed = with_manifest(&alone, &header, &manifest);
        assert!(!accepted(changed, None), "{place}");
    }
}

#[test]
fn numbers_that_lie_about_arrays_are_refused() {
    let (_, bytes) = stored_models().swap_remove(0);
    let (_, header) = header(&bytes);
    let names: Vec<String> = header.as_object().unwrap().keys().cloned().collect();
    let mut refused = 0;
    for name in names.iter().filter(|name| *name != "__metadata__") {
        for other in others() {
            for place in ["dtype", "shape", "data_offsets"] {
                let mut header = header.clone();
                header[name][place] = other.clone();
                refused += usize::from(!accepted(with_header(&bytes, &header), None));
            }
        }
        for offsets in [[0, u64::MAX], [u64::MAX, 0], [4, 0], [0, 1 << 40], [1, 2]] {
            let mut header = header.clone();
            header[name]["data_offsets"] = json!(offsets);
            assert!(!accepted(with_header(&bytes, &header), None));
        }
        for shape in [
            vec![u64::MAX; 2],
            vec![1 << 32; 4],
            vec![0],
            vec![1; 70_000],
        ] {
            let mut header = header.clone();
            header[name]["shape"] = json!(shape);
            assert!(!accepted(with_header(&bytes, &header), None));
        }
        let mut other = header.clone();
        other[name]["dtype"] = "F64".into();
        assert!(!accepted(with_header(&bytes, &other), None));
    }
    assert!(refused >= 50 * (names.len() - 1), "{refused}");
}

/// Files of other programs' weights, with the same damage: read or refused.
#[test]
fn weights_of_other_programs_with_damaged_bytes() {
    let tensors = state_dict(BackboneConfig::ResNet18(ResNet18Config {
        stages: 0,
        classes: None,
    }));
    let whole = safetensors(&tensors);
    let (length, _) = header(&whole);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut read = 0;
    for _ in 0..2000 {
        let mut changed = whole.clone();
        for _ in 0..random.random_range(1..4) {
            let most = if random.random_range(0..4) > 0 {
                length + 8
            } else {
                changed.len()
            };
            changed[random.random_range(0..most)] = random.random_range(0..=255);
        }
        match backbone::from_bytes(std::path::Path::new("stem.safetensors"), changed) {
            Ok(_) => read += 1,
            Err(error) => assert!(error.to_string().contains("stem.safetensors"), "{error}"),
        }
    }
    assert!(read > 10, "{read}");
}
