//! K-means: distance to the nearest of a few centres, after a PCA (a baseline of Bergmann et al., CVPR 2020).

use pupilla_core::image::resize::Resize;
use pupilla_core::observer::{Observer, StopFlag, Stopped};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dictionary::{Dictionary, DictionarySizes};
use super::features::Features;
use super::matrix::{Matrix, squared_distance};
use super::method::{EmbeddingMethod, count, share};
use super::nearest::{Neighbour, nearest};
use crate::error::{TrainError, check_rules};

/// Distance to the nearest of a few centres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KMeans {
    /// Embeddings that the centres are found from (50 000).
    pub sample: usize,
    /// Share of their variance that the PCA keeps (0.95).
    pub variance: f64,
    /// Centres (10).
    pub dictionary: usize,
}

impl Default for KMeans {
    fn default() -> Self {
        Self {
            sample: 50_000,
            variance: 0.95,
            dictionary: 10,
        }
    }
}

impl EmbeddingMethod for KMeans {
    type Kept = Dictionary;
    const ON_BACKBONE: bool = false;

    fn check(&self, _: Resize, _: usize) -> Result<(), TrainError> {
        check_rules([
            count("sample", self.sample),
            share("variance", self.variance),
            count("dictionary", self.dictionary),
        ])
    }

    fn check_features(&self, features: &Features<'_>) -> Result<(), TrainError> {
        features.check_entries(self.dictionary, self.sample)
    }

    fn fit(
        &self,
        features: &Features<'_>,
        _: &Features<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Dictionary, TrainError> {
        let (components, rows) = features.reduced(self.sample, self.variance, observer)?;
        let seed = features.seed("first centres");
        Ok(Dictionary {
            words: centres(&rows, self.dictionary, seed, observer)?,
            components: Some(components),
            neighbours: 1,
        })
    }

    fn fits(&self, sizes: &DictionarySizes, channels: usize) -> bool {
        sizes.is_reduced(self.dictionary, channels)
    }

    fn describe(&self, sizes: &DictionarySizes) -> String {
        sizes.describe()
    }
}

/// The centres of some clusters of the rows.
///
/// # Errors
/// If the observer asks to stop.
pub(super) fn centres(
    rows: &Matrix,
    count: usize,
    seed: u64,
    observer: &mut dyn Observer,
) -> Result<Matrix, TrainError> {
    observer.start("first centres", count as u64);
    let first = spread_out(rows, count, seed, |chosen| {
        observer.advance(chosen as u64, None);
        !observer.stop_requested()
    });
    observer.finish();
    let first = first.ok_or(TrainError::Stopped)?;
    observer.start("k-means", MOST_PASSES as u64);
    let mut passes = 0;
    let stop = observer.stop_flag();
    let clusters = settle(rows, first, MOST_PASSES, &stop, |inertia| {
        passes += 1;
        observer.advance(passes, Some(inertia / rows.rows() as f64));
        !observer.stop_requested()
    });
    observer.finish();
    Ok(clusters?.centres)
}

/// Passes over the vectors after which it ends in any case.
pub const MOST_PASSES: usize = 300;

/// It ends when a pass lowers the inertia by less than this share of it.
const TOLERANCE: f64 = 1e-6;

/// Centres, and the squared distances that remain.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// `[centres, columns]`
    pub centres: Matrix,
    /// The sum of the vectors' squared distances to the nearest centre.
    pub inertia: f64,
}

/// First centres: vectors drawn one after the other, each with a probability that grows with the squared distance to those before
/// (k-means++, Arthur and Vassilvitskii 2007). Of vectors that are all alike, any. `watch` receives the number of centres so far, and
/// ends the choice with `false`: then the result is `None`.
///
/// # Panics
/// If there are fewer vectors than centres: callers check.
pub fn spread_out(
    rows: &Matrix,
    centres: usize,
    seed: u64,
    mut watch: impl FnMut(usize) -> bool,
) -> Option<Matrix> {
    assert!((1..=rows.rows()).contains(&centres), "1 to all vectors");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = vec![random.random_range(0..rows.rows())];
    let mut distances = vec![f32::INFINITY; rows.rows()];
    while chosen.len() < centres {
        if !watch(chosen.len()) {
            return None;
        }
        let last = rows.row(chosen[chosen.len() - 1]);
        distances
            .par_iter_mut()
            .zip(rows.values().par_chunks(rows.columns()))
            .with_min_len(1024)
            .for_each(|(distance, row)| *distance = distance.min(squared_distance(row, last)));
        let total: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        let mut left = random.random::<f64>() * total;
        let drawn = distances.iter().position(|&distance| {
            left -= f64::from(distance);
            left < 0.0
        });
        chosen.push(drawn.unwrap_or_else(|| random.random_range(0..rows.rows())));
    }
    Some(rows.select(&chosen))
}

/// Lloyd's algorithm (1957) from given centres. A centre without a vector moves to the vector that is farthest from its own centre.
/// `watch` receives the inertia of each pass, and ends the passes with `false`.
///
/// # Errors
/// If `watch` ends the passes, or `stop` is raised.
///
/// # Panics
/// If there are more centres than vectors: callers check.
pub fn settle(
    rows: &Matrix,
    mut centres: Matrix,
    passes: usize,
    stop: &StopFlag,
    mut watch: impl FnMut(f64) -> bool,
) -> Result<Clusters, Stopped> {
    let mut assigned = nearest(rows, &centres, 1, stop)?;
    let mut inertia = inertia_of(&assigned);
    for _ in 0..passes {
        let moved = means(rows, &assigned, centres.rows());
        let again = nearest(rows, &moved, 1, stop)?;
        let lower = inertia_of(&again);
        let gain = inertia - lower;
        // Rounding may raise it at the end.
        if gain >= 0.0 {
            (centres, assigned, inertia) = (moved, again, lower);
        }
        if gain <= TOLERANCE * inertia {
            break;
        }
        if !watch(inertia) {
            return Err(Stopped);
        }
    }
    Ok(Clusters { centres, inertia })
}

fn inertia_of(assigned: &[Neighbour]) -> f64 {
    let squares = assigned
        .iter()
        .map(|found| f64::from(found.distance).powi(2));
    squares.sum()
}

/// The mean of the vectors of each centre.
fn means(rows: &Matrix, assigned: &[Neighbour], centres: usize) -> Matrix {
    let columns = rows.columns();
    let mut sums = vec![0.0f64; centres * columns];
    let mut counts = vec![0usize; centres];
    for (row, found) in rows.iter().zip(assigned) {
        counts[found.word] += 1;
        for (sum, value) in sums[found.word * columns..].iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let mut far: Vec<usize> = Vec::new();
    if counts.contains(&0) {
        far.extend(0..rows.rows());
        far.sort_by(|&one, &other| {
            assigned[one]
                .distance
                .total_cmp(&assigned[other].distance)
                .then(other.cmp(&one))
        });
    }
    let mut values = Vec::with_capacity(sums.len());
    for (count, sums) in counts.iter().zip(sums.chunks_exact(columns)) {
        if *count > 0 {
            values.extend(sums.iter().map(|sum| (sum / *count as f64) as f32));
        } else {
            // There are as many vectors as centres at least.
            values.extend_from_slice(rows.row(far.pop().unwrap_or(0)));
        }
    }
    Matrix::new(columns, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(rows: &Matrix, first: Matrix) -> Clusters {
        settle(rows, first, MOST_PASSES, &StopFlag::default(), |_| true).unwrap()
    }

    #[test]
    fn three_clouds_have_three_centres() {
        let clouds = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]];
        let at = |index: usize| {
            let [x, y] = clouds[index % 3];
            let angle = index as f32;
            [x + 0.1 * angle.cos(), y + 0.1 * angle.sin()]
        };
        let rows = Matrix::new(2, (0..300).flat_map(at).collect());
        let first = |centres| spread_out(&rows, centres, 7, |_| true).unwrap();
        let found = settled(&rows, first(3));
        assert!(
            (found.inertia - 300.0 * 0.01).abs() < 0.05,
            "{}",
            found.inertia
        );
        assert_eq!(first(3), first(3));
        let stopped = spread_out(&rows, 9, 7, |chosen| chosen < 4);
        assert_eq!(stopped, None);
    }

    #[test]
    fn vectors_that_are_all_alike_and_centres_without_vectors_stay_finite() {
        let rows = Matrix::new(2, [0.25, -3.0].repeat(9));
        let found = settled(&rows, spread_out(&rows, 4, 0, |_| true).unwrap());
        assert_eq!(found.inertia, 0.0);
        assert!(found.centres.values().iter().all(|value| value.is_finite()));
        // The second centre is nearest to none: it goes to the farthest vector.
        let rows = Matrix::new(1, vec![0.0, 1.0, 2.0, 9.0]);
        let found = settled(&rows, Matrix::new(1, vec![1.0, 100.0]));
        assert_eq!(found.centres.values(), [1.0, 9.0]);
    }
}
