//! A coreset: a few of many vectors, chosen so that every vector is near a chosen vector.

use std::borrow::Cow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::matrix::{Matrix, squared_distance};
use crate::random::normal;

/// Greedy k-centre selection (Sener and Savarese, ICLR 2018, as in PatchCore, Roth et al., CVPR 2022): starts with `first`, then always
/// adds the vector that is farthest from all chosen vectors (of equally far vectors, the first). Gives fewer than `count` if all other
/// vectors are copies of chosen vectors. `watch` receives the number of chosen vectors, and ends the selection with `false`: then the
/// result is `None`.
///
/// # Panics
/// If `first` is no row: a programming error.
pub fn greedy(
    rows: &Matrix,
    first: usize,
    count: usize,
    mut watch: impl FnMut(usize) -> bool,
) -> Option<Vec<usize>> {
    let mut chosen = vec![first];
    let mut distances = vec![f32::INFINITY; rows.rows()];
    while chosen.len() < count {
        let last = rows.row(chosen[chosen.len() - 1]);
        let farthest = distances
            .par_iter_mut()
            .zip(rows.values().par_chunks(rows.columns()))
            .enumerate()
            .with_min_len(1024)
            .map(|(index, (distance, row))| {
                *distance = distance.min(squared_distance(row, last));
                (*distance, index)
            })
            .reduce(|| (0.0, usize::MAX), farther);
        match farthest {
            (distance, index) if distance > 0.0 => chosen.push(index),
            _ => break,
        }
        if !watch(chosen.len()) {
            return None;
        }
    }
    Some(chosen)
}

fn farther(one: (f32, usize), other: (f32, usize)) -> (f32, usize) {
    let other_wins = other.0 > one.0 || (other.0 == one.0 && other.1 < one.1);
    if other_wins { other } else { one }
}

/// The vectors in fewer dimensions, by a random matrix that nearly keeps distances (Johnson and Lindenstrauss 1984). The vectors are
/// unchanged if they have no more dimensions than that.
pub fn projected(rows: &Matrix, dimensions: usize, seed: u64) -> Cow<'_, Matrix> {
    let columns = rows.columns();
    if columns <= dimensions {
        return Cow::Borrowed(rows);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let matrix = projection(&mut random, dimensions, columns);
    let mut values = vec![0.0; rows.rows() * dimensions];
    const ROWS: usize = 1024;
    values
        .par_chunks_mut(ROWS * dimensions)
        .zip(rows.values().par_chunks(ROWS * columns))
        .for_each(|(values, rows)| pupilla_conv::inner_products(columns, rows, &matrix, values));
    Cow::Owned(Matrix::new(dimensions, values))
}

fn projection(random: &mut impl Rng, dimensions: usize, columns: usize) -> Vec<f32> {
    let scale = 1.0 / (dimensions as f32).sqrt();
    (0..dimensions * columns)
        .map(|_| scale * normal(random))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::RngExt;

    fn all(rows: &Matrix, first: usize, count: usize) -> Vec<usize> {
        greedy(rows, first, count, |_| true).unwrap()
    }

    /// Every distance to every chosen one, each time.
    fn slow(rows: &Matrix, first: usize, count: usize) -> Vec<usize> {
        let mut chosen = vec![first];
        while chosen.len() < count {
            let distance = |row: usize| {
                let to = |&one: &usize| squared_distance(rows.row(row), rows.row(one));
                chosen.iter().map(to).fold(f32::INFINITY, f32::min)
            };
            let mut best = 0;
            for row in 0..rows.rows() {
                if distance(row) > distance(best) {
                    best = row;
                }
            }
            if distance(best) == 0.0 {
                break;
            }
            chosen.push(best);
        }
        chosen
    }

    proptest! {
        #[test]
        fn the_farthest_is_always_next(rows in 1usize..40, columns in 1usize..10, count in 1usize..20, seed: u64) {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Few different values: many ties and copies.
            let values = (0..rows * columns).map(|_| random.random_range(0..3) as f32);
            let rows = Matrix::new(columns, values.collect());
            let first = random.random_range(0..rows.rows());
            prop_assert_eq!(all(&rows, first, count), slow(&rows, first, count));
        }
    }

    #[test]
    fn copies_are_chosen_once_and_an_observer_can_stop_it() {
        let rows = Matrix::new(1, vec![2.0, 2.0, 2.0, 5.0]);
        assert_eq!(all(&rows, 1, 4), [1, 3]);
        assert_eq!(greedy(&rows, 1, 4, |_| false), None);
    }

    #[test]
    fn a_projection_about_keeps_distances() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values = (0..40 * 600).map(|_| normal(&mut random));
        let rows = Matrix::new(600, values.collect());
        let fewer = projected(&rows, 256, 9);
        for at in 1..40 {
            let before = squared_distance(rows.row(0), rows.row(at)).sqrt();
            let after = squared_distance(fewer.row(0), fewer.row(at)).sqrt();
            assert!(
                (after / before - 1.0).abs() < 0.25,
                "{before} became {after}"
            );
        }
        assert_eq!(*projected(&rows, 600, 9), rows);
    }
}
