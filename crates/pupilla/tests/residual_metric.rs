//! Errors in the metric of good parts' residuals against NumPy (`oracle/make_residual_metric.py`), and against slow loops.

use proptest::prelude::*;
use pupilla::internals::{NoMetric, ResidualMetric, ResidualProducts, Terms};
use serde::Deserialize;

use crate::embedding_parts::all_close;

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    channels: usize,
    good: Vec<Described>,
    #[serde(flatten)]
    judged: Described,
    e: Vec<f64>,
    v: Vec<f64>,
}

#[derive(Debug, Deserialize)]
struct Described {
    teacher: Vec<f32>,
    students: Vec<Vec<f32>>,
}

impl Described {
    fn students(&self) -> Vec<&[f32]> {
        self.students.iter().map(Vec::as_slice).collect()
    }

    /// Of a row of positions, those from `start` to `end`.
    fn part(&self, channels: usize, start: usize, end: usize) -> Self {
        let cut = |values: &Vec<f32>| {
            let planes = values.chunks(values.len() / channels);
            planes
                .flat_map(|plane| &plane[start..end])
                .copied()
                .collect()
        };
        Self {
            teacher: cut(&self.teacher),
            students: self.students.iter().map(cut).collect(),
        }
    }
}

fn metric(channels: usize, good: &[Described]) -> Result<ResidualMetric, NoMetric> {
    let mut products = ResidualProducts::new(channels);
    for image in good {
        products.add(&image.teacher, &image.students());
    }
    products.metric()
}

#[test]
fn errors_agree_with_numpy() {
    let oracle: Oracle = serde_json::from_str(include_str!("oracle/residual_metric.json")).unwrap();
    assert_eq!(oracle.cases.len(), 3);
    for case in oracle.cases {
        let metric = metric(case.channels, &case.good).unwrap();
        let terms = metric.terms(&case.judged.teacher, &case.judged.students());
        // Covariances are sums of 32-bit products, and their inverse magnifies rounding.
        all_close(&terms.regression_error, &case.e, 2e-4, &case.name);
        all_close(&terms.predictive_variance, &case.v, 2e-4, &case.name);
    }
}

/// What `ResidualMetric::terms` computes, number by number.
fn slowly(metric: &ResidualMetric, channels: usize, judged: &Described) -> [Vec<f64>; 2] {
    let positions = judged.teacher.len() / channels;
    let length = |vector: &[f64]| -> f64 {
        let rows = metric.whitening().chunks(channels);
        let products = rows.map(|row| {
            let pairs = row.iter().zip(vector);
            pairs.map(|(a, b)| f64::from(*a) * b).sum::<f64>()
        });
        products.map(|product| product * product).sum()
    };
    let mut terms = [vec![], vec![]];
    for position in 0..positions {
        let of = |values: &[f32]| -> Vec<f64> {
            let at = |channel: usize| f64::from(values[channel * positions + position]);
            (0..channels).map(at).collect()
        };
        let students: Vec<Vec<f64>> = judged.students.iter().map(|values| of(values)).collect();
        let mean: Vec<f64> = (0..channels)
            .map(|channel| {
                students.iter().map(|values| values[channel]).sum::<f64>() / students.len() as f64
            })
            .collect();
        let less = |left: &[f64], right: &[f64]| -> Vec<f64> {
            left.iter().zip(right).map(|(a, b)| a - b).collect()
        };
        let spread =
            1.0 + mean.iter().map(|value| value * value).sum::<f64>() / (2 * channels) as f64;
        terms[0].push(length(&less(&mean, &of(&judged.teacher))) / spread);
        let distances = students.iter().map(|values| length(&less(values, &mean)));
        terms[1].push(distances.sum::<f64>() / students.len() as f64 / spread);
    }
    terms
}

fn described(
    channels: usize,
    positions: usize,
    students: usize,
) -> impl Strategy<Value = Described> {
    let plane = move || prop::collection::vec(-3.0f32..3.0, channels * positions);
    (plane(), prop::collection::vec(plane(), students))
        .prop_map(|(teacher, students)| Described { teacher, students })
}

proptest! {
    #[test]
    fn errors_are_those_of_slow_loops_and_the_same_in_every_tile(
        (channels, cut, good, judged) in (1usize..24, 1usize..150, 1usize..4).prop_flat_map(
            |(channels, positions, students)| (
                Just(channels),
                0..positions,
                described(channels, 40, students),
                described(channels, positions, students),
            ),
        ),
    ) {
        let metric = metric(channels, &[good]).unwrap();
        let terms = metric.terms(&judged.teacher, &judged.students());
        let [error, variance] = slowly(&metric, channels, &judged);
        all_close(&terms.regression_error, &error, 1e-4, "e");
        all_close(&terms.predictive_variance, &variance, 1e-4, "v");

        let positions = error.len();
        let mut parts = Terms { regression_error: vec![], predictive_variance: vec![] };
        for (start, end) in [(0, cut), (cut, positions)] {
            let part = judged.part(channels, start, end);
            let terms = metric.terms(&part.teacher, &part.students());
            parts.regression_error.extend(terms.regression_error);
            parts.predictive_variance.extend(terms.predictive_variance);
        }
        prop_assert_eq!(parts, terms);
    }
}

/// As many numbers as descriptors have, and as a backbone's features, where products are made in more than one block.
#[test]
fn long_descriptors_give_the_same_bits_in_every_tile() {
    for channels in [128, 384] {
        let mut state = 1u32;
        let mut noise = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            };
            (0..count).map(|_| next()).collect()
        };
        let mut image = |positions: usize| Described {
            teacher: noise(channels * positions),
            students: (0..3).map(|_| noise(channels * positions)).collect(),
        };
        let metric = metric(channels, &[image(2 * channels)]).unwrap();
        let judged = image(200);
        let terms = metric.terms(&judged.teacher, &judged.students());
        let [error, variance] = slowly(&metric, channels, &judged);
        all_close(&terms.regression_error, &error, 1e-4, "e");
        all_close(&terms.predictive_variance, &variance, 1e-4, "v");
        for (start, end) in [(0, 1), (1, 66), (66, 129), (129, 200)] {
            let part = judged.part(channels, start, end);
            let part = metric.terms(&part.teacher, &part.students());
            assert_eq!(part.regression_error, terms.regression_error[start..end]);
            assert_eq!(
                part.predictive_variance,
                terms.predictive_variance[start..end]
            );
        }
    }
}

#[test]
fn without_residuals_errors_are_plain() {
    let perfect = Described {
        teacher: vec![1.0, -1.0, 0.5, 0.25],
        students: vec![vec![1.0, -1.0, 0.5, 0.25]],
    };
    let metrics = [metric(2, &[]), metric(2, &[perfect])];
    for metric in metrics {
        let metric = metric.unwrap();
        assert_eq!(metric.whitening(), [1.0, 0.0, 0.0, 1.0]);
        // The students' mean is 0, so that its length changes nothing.
        let terms = metric.terms(&[3.0, 4.0], &[&[0.0, 0.0]]);
        assert_eq!(terms.regression_error, [25.0]);
        assert_eq!(terms.predictive_variance, [0.0]);
    }
}

#[test]
fn a_direction_that_is_hard_on_good_parts_counts_less() {
    // Good residuals are ±2 along the first component, or ±1 along the second: variances of 2 and 0.5.
    let good = Described {
        teacher: vec![0.0; 8],
        students: vec![vec![2.0, -2.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0]],
    };
    let metric = metric(2, &[good]).unwrap();
    let terms = metric.terms(&[-2.0, 0.0, 0.0, -2.0], &[&[0.0; 4]]);
    // 0.02 of the mean variance, 1.25, is added to either.
    all_close(
        &terms.regression_error,
        &[4.0 / 2.025, 4.0 / 0.525],
        1e-5,
        "e",
    );
}

#[test]
fn residuals_that_are_no_numbers_give_no_metric() {
    for bad in [f32::NAN, f32::INFINITY, 3e38] {
        let good = Described {
            teacher: vec![0.0, 0.0],
            students: vec![vec![bad, 1.0]],
        };
        assert_eq!(metric(2, &[good]), Err(NoMetric), "{bad}");
    }
}
