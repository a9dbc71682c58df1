//! The parts of the detectors on features against scikit-learn, SciPy and NumPy (`oracle/make_embedding.py`).

use pupilla::internals::{
    GaussiansInTraining, GlobalGaussian, MOST_PASSES, Machine, MachineTraining, Matrix,
    PrincipalComponents, greedy, nearest, scale_gamma, settle, smooth,
};
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::observer::StopFlag;
use serde::Deserialize;

#[derive(Deserialize)]
struct Oracle {
    columns: usize,
    rows: Vec<f32>,
    queries: Vec<f32>,
    pca: Vec<Pca>,
    nearest: Nearest,
    k_means: Vec<KMeans>,
    svm: Vec<Svm>,
    coreset: Vec<Coreset>,
    padim: Vec<Padim>,
    mahalanobis: Vec<Mahalanobis>,
    smoothing: Vec<Smoothing>,
}

#[derive(Deserialize)]
struct Pca {
    variance: f64,
    mean: Vec<f64>,
    directions: Vec<f64>,
    components: Vec<f64>,
}

#[derive(Deserialize)]
struct Nearest {
    one: Vec<f64>,
    mean_of_three: Vec<f64>,
}

#[derive(Deserialize)]
struct KMeans {
    first: Vec<usize>,
    centres: Vec<f64>,
    inertia: f64,
}

#[derive(Deserialize)]
struct Svm {
    nu: f64,
    scale: bool,
    gamma: f64,
    offset: f64,
    rows: Vec<f64>,
    queries: Vec<f64>,
}

#[derive(Deserialize)]
struct Coreset {
    first: usize,
    chosen: Vec<usize>,
}

#[derive(Deserialize)]
struct Padim {
    images: usize,
    positions: usize,
    channels: Vec<usize>,
    features: Vec<f32>,
    query: Vec<f32>,
    distances: Vec<f64>,
}

#[derive(Deserialize)]
struct Mahalanobis {
    regularisation: f64,
    distances: Vec<f64>,
}

#[derive(Deserialize)]
struct Smoothing {
    width: usize,
    height: usize,
    deviation: f64,
    map: Vec<f32>,
    smoothed: Vec<f64>,
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("oracle/embedding.json")).unwrap()
}

impl Oracle {
    fn rows(&self) -> Matrix {
        Matrix::new(self.columns, self.rows.clone())
    }

    fn queries(&self) -> Matrix {
        Matrix::new(self.columns, self.queries.clone())
    }
}

/// Equal up to a tolerance, relative to numbers above 1.
pub fn all_close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (&found, &expected) in found.iter().zip(expected) {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "{what}: {found}, not {expected}"
        );
    }
}

#[test]
fn principal_components_agree_with_scikit_learn() {
    let oracle = oracle();
    for expected in &oracle.pca {
        let found = PrincipalComponents::fit(&oracle.rows(), expected.variance);
        let what = format!("{} of the variance", expected.variance);
        all_close(&found.mean, &expected.mean, 1e-6, &what);
        all_close(found.directions.values(), &expected.directions, 1e-5, &what);
        let applied = found
            .apply(&oracle.queries(), &StopFlag::default())
            .unwrap();
        all_close(applied.values(), &expected.components, 2e-5, &what);
    }
}

#[test]
fn nearest_neighbours_agree_with_scikit_learn() {
    let oracle = oracle();
    for (count, expected) in [(1, &oracle.nearest.one), (3, &oracle.nearest.mean_of_three)] {
        let found = nearest(
            &oracle.queries(),
            &oracle.rows(),
            count,
            &StopFlag::default(),
        );
        let found = found.unwrap();
        let means: Vec<f32> = found
            .chunks(count)
            .map(|found| found.iter().map(|one| one.distance).sum::<f32>() / count as f32)
            .collect();
        all_close(&means, expected, 1e-5, &format!("{count} nearest"));
    }
}

#[test]
fn k_means_settles_where_scikit_learn_settles() {
    let oracle = oracle();
    let rows = oracle.rows();
    for expected in &oracle.k_means {
        let first = rows.select(&expected.first);
        let found = settle(&rows, first, MOST_PASSES, &StopFlag::default(), |_| true).unwrap();
        let what = format!("{} centres", expected.first.len());
        all_close(found.centres.values(), &expected.centres, 1e-5, &what);
        assert!(
            (found.inertia / expected.inertia - 1.0).abs() < 1e-5,
            "{what}"
        );
    }
}

#[test]
fn the_one_class_svm_decides_as_scikit_learn_decides() {
    let oracle = oracle();
    let (rows, queries) = (oracle.rows(), oracle.queries());
    for expected in &oracle.svm {
        let what = format!("ν = {}, γ = {}", expected.nu, expected.gamma);
        if expected.scale {
            let gamma = scale_gamma(&rows, 0.0);
            assert!(
                (gamma / expected.gamma - 1.0).abs() < 1e-9,
                "{what}: {gamma}"
            );
        }
        let training = MachineTraining {
            nu: expected.nu,
            gamma: expected.gamma,
            tolerance: 1e-7,
        };
        let machine = Machine::fit(&rows, training, &StopFlag::default(), |_| true).unwrap();
        let error = (machine.offset - expected.offset).abs();
        assert!(
            error < 2e-5 * expected.offset,
            "{what}: ρ = {}",
            machine.offset
        );
        for (points, decisions) in [(&rows, &expected.rows), (&queries, &expected.queries)] {
            let expected: Vec<f64> = decisions.iter().map(|decision| -decision).collect();
            let scores = machine.scores(points, &StopFlag::default()).unwrap();
            all_close(&scores, &expected, 5e-5, &what);
        }
    }
}

#[test]
fn the_coreset_is_numpys() {
    let oracle = oracle();
    for expected in &oracle.coreset {
        let count = expected.chosen.len();
        let found = greedy(&oracle.rows(), expected.first, count, |_| true);
        assert_eq!(found.unwrap(), expected.chosen);
    }
}

#[test]
fn gaussians_measure_as_numpy_and_scipy_do() {
    let oracle = oracle();
    for expected in &oracle.padim {
        let mut learning = GaussiansInTraining::new(expected.channels.clone(), expected.positions);
        let per_image = expected.positions * oracle.columns;
        let images = expected.features.chunks(per_image);
        assert_eq!(images.len(), expected.images);
        for features in images {
            learning.add(&Matrix::new(oracle.columns, features.to_vec()));
        }
        let gaussians = learning
            .finish(0.01, &StopFlag::default())
            .unwrap()
            .unwrap();
        let found = gaussians.distances(
            &Matrix::new(oracle.columns, expected.query.clone()),
            &StopFlag::default(),
        );
        let found = found.unwrap();
        all_close(&found, &expected.distances, 1e-4, "Mahalanobis distance");
    }
}

#[test]
fn the_global_gaussian_measures_as_numpy_and_scipy_do() {
    let oracle = oracle();
    for expected in &oracle.mahalanobis {
        let gaussian = GlobalGaussian::fit(&oracle.rows(), expected.regularisation).unwrap();
        let found = gaussian
            .distances(&oracle.queries(), &StopFlag::default())
            .unwrap();
        let what = format!("regularisation {}", expected.regularisation);
        all_close(&found, &expected.distances, 1e-4, &what);
    }
}

#[test]
fn smoothing_is_scipys() {
    for expected in oracle().smoothing {
        let map = AnomalyMap::new(expected.width, expected.height, expected.map);
        let found = smooth(map, expected.deviation);
        all_close(found.scores(), &expected.smoothed, 1e-5, "smoothed");
    }
}
