//! Stored cases of an independent oracle (NumPy, SciPy, scikit-learn): `oracle/make.py` made them.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_core::anomaly_map::AnomalyMap;
use pupilla_core::evaluation::{Evaluation, Evaluator};
use pupilla_core::mask::Mask;
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
    au_pro: Option<f64>,
    pixel_auroc: Option<f64>,
    image_auroc: Option<f64>,
    regions: usize,
    per_defect: BTreeMap<String, ExpectedDefect>,
}

#[derive(Deserialize)]
struct ExpectedDefect {
    images: usize,
    regions: usize,
    au_pro: Option<f64>,
    pixel_auroc: Option<f64>,
    image_auroc: Option<f64>,
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
fn au_pro_and_auroc_agree_with_the_oracle() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/metrics.json");
    let stored: Stored = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(stored.cases.len() >= 30);
    let mut compared = 0;
    for case in &stored.cases {
        let found = evaluate(case);
        let mut same = |what: &str, found: Option<f64>, expected: Option<f64>| {
            compared += 1;
            let close = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() <= 1e-12,
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(close, "{}: {what}: {found:?}, not {expected:?}", case.name);
        };
        let expected = &case.expected;
        same("au_pro", found.au_pro, expected.au_pro);
        same("pixel_auroc", found.pixel_auroc, expected.pixel_auroc);
        same("image_auroc", found.image_auroc, expected.image_auroc);
        assert_eq!(found.regions, expected.regions, "{}", case.name);
        assert!(found.per_defect.keys().eq(expected.per_defect.keys()));
        for (kind, expected) in &expected.per_defect {
            let found = &found.per_defect[kind];
            assert_eq!(found.images, expected.images, "{}", case.name);
            assert_eq!(found.regions, expected.regions, "{}", case.name);
            same("au_pro of a type", found.au_pro, expected.au_pro);
            same(
                "pixel_auroc of a type",
                found.pixel_auroc,
                expected.pixel_auroc,
            );
            same(
                "image_auroc of a type",
                found.image_auroc,
                expected.image_auroc,
            );
        }
    }
    assert!(compared > 150, "{compared}");
}
