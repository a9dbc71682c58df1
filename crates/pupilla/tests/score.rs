//! Whitening, e, v and the score against NumPy (`oracle/make_score.py`).

use pupilla::internals::{Moments, Normalisation, Terms, Whitening};
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: Shape,
    descriptors: Vec<f32>,
    mean: Vec<f64>,
    std: Vec<f64>,
    teacher: Vec<f32>,
    whitened: Vec<f64>,
    students: Vec<f32>,
    e: Vec<f64>,
    v: Vec<f64>,
    validation_e: Vec<f32>,
    validation_v: Vec<f32>,
    e_mean: f64,
    e_std: f64,
    v_mean: f64,
    v_std: f64,
    score: Vec<f64>,
}

#[derive(Deserialize)]
struct Shape {
    students: usize,
    channels: usize,
    height: usize,
    width: usize,
}

/// Equal up to the rounding of f32 inputs and results.
fn close(found: f64, expected: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        error <= 2e-5 * expected.abs().max(1.0),
        "{what}: {found}, not {expected}"
    );
}

fn all_close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (&found, &expected) in found.iter().zip(expected) {
        close(f64::from(found), expected, what);
    }
}

#[test]
fn whitening_and_score_agree_with_numpy() {
    let oracle: Oracle = serde_json::from_str(include_str!("oracle/score.json")).unwrap();
    assert_eq!(oracle.cases.len(), 5);
    for case in oracle.cases {
        let name = &case.name;
        let channels = case.shape.channels;
        // In two unequal parts, to be merged: the statistics are gathered image by image.
        let moments: Vec<Moments> = (0..channels)
            .map(|channel| {
                let column: Vec<f32> = case
                    .descriptors
                    .iter()
                    .skip(channel)
                    .step_by(channels)
                    .copied()
                    .collect();
                let (first, second) = column.split_at(column.len() / 3);
                Moments::of(first).merge(Moments::of(second))
            })
            .collect();
        for (moments, (&mean, &std)) in moments.iter().zip(case.mean.iter().zip(&case.std)) {
            close(moments.mean(), mean, name);
            close(moments.deviation(), std, name);
        }
        let mut whitened = case.teacher.clone();
        Whitening::new(&moments).apply(&mut whitened);
        all_close(&whitened, &case.whitened, name);

        let positions = case.shape.height * case.shape.width;
        let students: Vec<&[f32]> = case.students.chunks(channels * positions).collect();
        assert_eq!(students.len(), case.shape.students);
        let terms = Terms::new(&whitened, &students, positions);
        all_close(&terms.regression_error, &case.e, name);
        all_close(&terms.predictive_variance, &case.v, name);

        let normalisation = Normalisation::new(
            Moments::of(&case.validation_e),
            Moments::of(&case.validation_v),
        );
        close(normalisation.error_mean, case.e_mean, name);
        close(normalisation.error_deviation, case.e_std, name);
        close(normalisation.variance_mean, case.v_mean, name);
        close(normalisation.variance_deviation, case.v_std, name);
        all_close(&normalisation.apply(&terms), &case.score, name);
    }
}

#[test]
fn a_component_that_never_varied_counts_nothing() {
    let whitening = Whitening::new(&[Moments::of(&[2.0, 2.0]), Moments::of(&[1.0, 3.0])]);
    let mut descriptors = vec![5.0, -1.0, 4.0, 2.0];
    whitening.apply(&mut descriptors);
    assert_eq!(descriptors, [0.0, 0.0, 2.0, 0.0]);
}

#[test]
fn terms_without_deviation_count_nothing() {
    let flat = Moments::of(&[0.5, 0.5]);
    let terms = Terms {
        regression_error: vec![1.5, 0.25],
        predictive_variance: vec![7.0, 8.0],
    };
    let normalisation = Normalisation::new(Moments::of(&[0.0, 1.0]), flat);
    assert_eq!(normalisation.apply(&terms), [2.0, -0.5]);
}
