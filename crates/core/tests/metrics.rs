//! Stored cases of an independent oracle (NumPy, SciPy, scikit-learn): `oracle/make.py` made them.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_core::data::mask::Mask;
use pupilla_core::evaluate::{Evaluation, Evaluator};
use pupilla_core::map::anomaly_map::AnomalyMap;
use serde::Deserialize;

#[derive(Deserialize)]
struct Stored {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    fpr_limit: f64,
    images: Vec<StoredImage>,
    expected: Expected,
}

#[derive(Deserialize)]
struct StoredImage {
    width: usize,
    height: usize,
    defect: Option<String>,
    scores: Vec<f32>,
    mask: Vec<u8>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(flatten)]
    measures: Measures,
    regions: usize,
    per_defect: BTreeMap<String, ExpectedDefect>,
    per_region_size: BTreeMap<String, ExpectedSize>,
}

/// The oracle's numbers by the names that the JSON of an evaluation has too.
type Measures = BTreeMap<String, serde_json::Value>;

#[derive(Deserialize)]
struct ExpectedDefect {
    images: usize,
    regions: usize,
    #[serde(flatten)]
    measures: Measures,
}

#[derive(Deserialize)]
struct ExpectedSize {
    regions: usize,
    #[serde(flatten)]
    measures: Measures,
}

fn evaluate(case: &Case) -> Evaluation {
    let mut evaluator = Evaluator::new(case.fpr_limit, 0).unwrap();
    for (n, image) in case.images.iter().enumerate() {
        let map = AnomalyMap::new(image.width, image.height, image.scores.clone());
        let defect = image.mask.iter().map(|&value| value > 0).collect();
        let mask = Mask::new(image.width, image.height, defect);
        evaluator
            .add(&n.to_string(), image.defect.as_deref(), &map, &mask)
            .unwrap();
    }
    evaluator.finish()
}

#[test]
fn every_measure_agrees_with_the_oracle() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/metrics.json");
    let stored: Stored = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(stored.cases.len() >= 30);
    let mut compared = 0;
    for case in &stored.cases {
        let found = evaluate(case);
        // By name, as they stand in the JSON, so that no measure is forgotten.
        let mut same = |found: serde_json::Value, expected: &Measures| {
            for (name, expected) in expected {
                compared += 1;
                let found = &found[name];
                let close = match (found.as_f64(), expected.as_f64()) {
                    (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12,
                    _ => found.is_null() && expected.is_null(),
                };
                assert!(close, "{}: {name}: {found}, not {expected}", case.name);
            }
        };
        let expected = &case.expected;
        assert_eq!(found.regions, expected.regions, "{}", case.name);
        same(serde_json::to_value(&found).unwrap(), &expected.measures);
        assert!(found.per_defect.keys().eq(expected.per_defect.keys()));
        for (kind, expected) in &expected.per_defect {
            let found = &found.per_defect[kind];
            assert_eq!(found.images, expected.images, "{}", case.name);
            assert_eq!(found.regions, expected.regions, "{}", case.name);
            same(serde_json::to_value(found).unwrap(), &expected.measures);
        }
        assert_eq!(found.per_region_size.len(), expected.per_region_size.len());
        for found in &found.per_region_size {
            let size = serde_json::to_value(found.size).unwrap();
            let expected = &expected.per_region_size[size.as_str().unwrap()];
            assert_eq!(found.regions, expected.regions, "{}", case.name);
            same(serde_json::to_value(found).unwrap(), &expected.measures);
        }
    }
    assert!(compared > 1000, "{compared}");
}
