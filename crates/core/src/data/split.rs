//! Good images held back from training, to calibrate scores on.

use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The good images in two disjoint parts, each in the order of the file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// To learn from; at least one.
    pub training: Vec<PathBuf>,
    /// To calibrate scores on; at least one.
    pub validation: Vec<PathBuf>,
}

/// Good images that cannot be split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// Fewer than two images.
    #[error(
        "{images} good image(s) cannot be split into training and validation: give at least 2, better 20"
    )]
    TooFew {
        /// How many there are.
        images: usize,
    },
    /// A validation share that is not between 0 and 1.
    #[error("a validation share of {0} is out of range: choose one above 0 and below 1, as 0.1")]
    Share(f64),
}

/// Splits `good` images: a `share` of them (0.1 is usual), rounded, at least 1 and at most all but
/// 1, for validation, the rest for training.
///
/// The choice depends on the file names, their number, `share` and `seed`; not on where the folder
/// lies or in which order the files are given.
///
/// # Errors
/// [`SplitError`] with fewer than two images, or a share that is not between 0 and 1.
pub fn split(good: &[PathBuf], share: f64, seed: u64) -> Result<Split, SplitError> {
    if !(share > 0.0 && share < 1.0) {
        return Err(SplitError::Share(share));
    }
    if good.len() < 2 {
        return Err(SplitError::TooFew { images: good.len() });
    }
    let mut sorted: Vec<&PathBuf> = good.iter().collect();
    sorted.sort_by_key(|path| (path.file_name().map(|name| name.as_encoded_bytes()), *path));
    let held_back = (good.len() as f64 * share).round() as usize;
    let held_back = held_back.clamp(1, good.len() - 1);

    // The first steps of a Fisher–Yates shuffle, written out: a split must outlive every version of
    // a library's shuffle.
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..good.len()).collect();
    for at in 0..held_back {
        let other = at + below(&mut random, good.len() - at);
        order.swap(at, other);
    }
    let mut is_held_back = vec![false; good.len()];
    for &index in &order[..held_back] {
        is_held_back[index] = true;
    }
    let part = |wanted: bool| -> Vec<PathBuf> {
        let chosen = sorted.iter().zip(&is_held_back);
        chosen
            .filter(|(_, held_back)| **held_back == wanted)
            .map(|(path, _)| (*path).clone())
            .collect()
    };
    Ok(Split {
        training: part(false),
        validation: part(true),
    })
}

/// A number below `bound`, by the high half of a 128-bit product (the bias is under 2⁻⁴⁰ here).
fn below(random: &mut ChaCha8Rng, bound: usize) -> usize {
    ((u128::from(random.next_u64()) * bound as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &str, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|index| PathBuf::from(format!("{folder}/{index:03}.png")))
            .collect()
    }

    #[test]
    fn parts_are_disjoint_complete_sorted_and_of_the_right_size() {
        for (count, held_back) in [(2, 1), (3, 1), (9, 1), (15, 2), (100, 10), (220, 22)] {
            let good = paths("a", count);
            let split = split(&good, 0.1, 7).unwrap();
            assert_eq!(split.validation.len(), held_back, "{count}");
            assert!(split.training.is_sorted() && split.validation.is_sorted());
            let mut all = [split.training, split.validation].concat();
            all.sort();
            assert_eq!(all, good);
        }
        assert_eq!(split(&paths("a", 2), 0.99, 0).unwrap().training.len(), 1);
    }

    #[test]
    fn the_seed_decides_and_the_place_does_not() {
        let one = split(&paths("a/b", 50), 0.1, 1).unwrap();
        let names = |split: &Split| -> Vec<_> {
            let names = split.validation.iter().map(|path| path.file_name());
            names.map(|name| name.unwrap().to_owned()).collect()
        };
        let mut elsewhere = paths("/z", 50);
        elsewhere.reverse();
        assert_eq!(names(&one), names(&split(&elsewhere, 0.1, 1).unwrap()));
        assert_ne!(names(&one), names(&split(&elsewhere, 0.1, 2).unwrap()));
        // The split itself, so that no change of a library can move it unseen.
        assert_eq!(
            names(&one),
            ["004.png", "013.png", "017.png", "020.png", "030.png"]
        );
    }

    #[test]
    fn what_cannot_be_split() {
        for count in [0, 1] {
            let error = split(&paths("a", count), 0.1, 0).unwrap_err();
            assert_eq!(error, SplitError::TooFew { images: count });
        }
        for share in [0.0, 1.0, -0.1, f64::NAN] {
            let error = split(&paths("a", 9), share, 0).unwrap_err();
            assert!(matches!(error, SplitError::Share(_)));
        }
    }
}
