//! Nearest neighbours by brute force: blocks of inner products, `‖q − w‖² = ‖q‖² + ‖w‖² − 2 q·w`.
//!
//! This form loses digits where a query is close to its neighbour. So it only finds the neighbours; their distances are then computed
//! from the differences.

use pupilla_core::observer::{StopFlag, Stopped};
use rayon::prelude::*;

use super::matrix::{Matrix, squared_distance};

/// Queries that one thread compares at a time …
const QUERIES: usize = 128;

/// … with so many words: a block of products is half a MiB.
const WORDS: usize = 1024;

/// A neighbour of a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row of the word.
    pub word: usize,
    /// Its Euclidean distance.
    pub distance: f32,
}

/// The `count` nearest words of each query, `[queries, count]`, nearest first; of equally near ones, the first.
///
/// # Errors
/// If `stop` is raised.
///
/// # Panics
/// If `count` is not 1 to the number of words, or the columns differ: programming errors.
pub fn nearest(
    queries: &Matrix,
    words: &Matrix,
    count: usize,
    stop: &StopFlag,
) -> Result<Vec<Neighbour>, Stopped> {
    assert!((1..=words.rows()).contains(&count), "1 to all words");
    let columns = words.columns();
    assert_eq!(queries.columns(), columns, "vectors of one length");
    let norms: Vec<f32> = words.iter().map(|word| dot(word, word)).collect();
    let of_blocks = queries
        .values()
        .par_chunks(QUERIES * columns)
        .map(|queries| {
            stop.check()?;
            let rows = queries.len() / columns;
            let mut found: Vec<Vec<(f32, usize)>> = vec![Vec::with_capacity(count + 1); rows];
            let mut products = Vec::new();
            let blocks = words.values().chunks(WORDS * columns);
            for ((block, words), norms) in blocks.enumerate().zip(norms.chunks(WORDS)) {
                products.resize(rows * norms.len(), 0.0);
                pupilla_conv::inner_products(columns, queries, words, &mut products);
                for (found, products) in found.iter_mut().zip(products.chunks_exact(norms.len())) {
                    for (at, (product, norm)) in products.iter().zip(norms).enumerate() {
                        keep(found, count, norm - 2.0 * product, block * WORDS + at);
                    }
                }
            }
            let queries = queries.chunks_exact(columns);
            let exact = queries.zip(found).flat_map(|(query, found)| {
                let distance = |word: usize| squared_distance(query, words.row(word)).sqrt();
                let exact = found.into_iter().map(|(_, word)| Neighbour {
                    word,
                    distance: distance(word),
                });
                let mut exact: Vec<_> = exact.collect();
                exact.sort_by(|one, other| {
                    let by_distance = one.distance.total_cmp(&other.distance);
                    by_distance.then(one.word.cmp(&other.word))
                });
                exact
            });
            Ok(exact.collect::<Vec<_>>())
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(of_blocks.concat())
}

/// Keeps the `count` smallest values with their indices, in order.
fn keep(found: &mut Vec<(f32, usize)>, count: usize, value: f32, index: usize) {
    if found.len() == count && found.last().is_some_and(|(last, _)| value >= *last) {
        return;
    }
    let place = found.partition_point(|(other, _)| *other <= value);
    found.insert(place, (value, index));
    found.truncate(count);
}

/// The inner product of two rows.
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter()
        .zip(right)
        .map(|(left, right)| left * right)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Every distance, sorted.
    fn slow(queries: &Matrix, words: &Matrix, count: usize) -> Vec<f64> {
        let of_query = |query: &[f32]| {
            let distances = words.iter().map(|word| {
                let pairs = query.iter().zip(word);
                let squares = pairs.map(|(q, w)| (f64::from(*q) - f64::from(*w)).powi(2));
                squares.sum::<f64>().sqrt()
            });
            let mut distances: Vec<f64> = distances.collect();
            distances.sort_by(f64::total_cmp);
            distances.truncate(count);
            distances
        };
        queries.iter().flat_map(of_query).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn blocks_find_what_sorting_all_distances_finds(
            rows in 0usize..300, words in 1usize..2300, columns in 1usize..40, count in 1usize..6, seed: u64,
        ) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut matrix = |rows: usize| {
                let values = (0..rows * columns).map(|_| random.random_range(-1.0f32..1.0));
                Matrix::new(columns, values.collect())
            };
            let (queries, words) = (matrix(rows.min(200)), matrix(words));
            let count = count.min(words.rows());
            let found = nearest(&queries, &words, count, &StopFlag::default()).unwrap();
            let expected = slow(&queries, &words, count);
            prop_assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let squares = f64::from(found.distance).powi(2) - expected.powi(2);
                prop_assert!(squares.abs() < 1e-5 * columns as f64, "{:?}, not {}", found, expected);
            }
        }
    }

    #[test]
    fn a_word_is_its_own_neighbour_at_distance_zero_however_far_out() {
        let words = Matrix::new(2, vec![1e4, 1e4, 1e4 + 8.0, 1e4, 1e4, 1e4]);
        let found = nearest(&words, &words, 1, &StopFlag::default()).unwrap();
        let words: Vec<usize> = found.iter().map(|found| found.word).collect();
        assert!(found.iter().all(|found| found.distance == 0.0));
        assert_eq!(words, [0, 1, 0]);
    }
}
