//! The area under the receiver operating characteristic of a list of scores.

use super::key;

/// The area under the ROC curve: the probability that a defective item scores above a good one,
/// an equal score counting half (the Mann–Whitney statistic; Hanley and McNeil, 1982).
///
/// `scores` and `defective` run in parallel; higher scores are more anomalous. The result lies in
/// `[0, 1]`, 0.5 for scores that say nothing; it is the exact fraction of two integers, rounded
/// once. `None` if there is no defective or no good item.
///
/// # Panics
/// If the two lengths differ: a programming error.
pub fn auroc(scores: &[f32], defective: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), defective.len(), "a label for each score");
    let mut items: Vec<(u32, bool)> = scores
        .iter()
        .map(|&score| key::from_score(score))
        .zip(defective.iter().copied())
        .collect();
    items.sort_unstable();
    let (mut good_below, mut twice_won, mut positives) = (0_u64, 0_u128, 0_u64);
    for tied in items.chunk_by(|a, b| a.0 == b.0) {
        let defects = tied.iter().filter(|item| item.1).count() as u64;
        let good = tied.len() as u64 - defects;
        twice_won += u128::from(defects) * u128::from(2 * good_below + good);
        positives += defects;
        good_below += good;
    }
    fraction_won(twice_won, positives, good_below)
}

/// Half of `twice_won` as a share of all pairs; `None` without a pair.
pub(super) fn fraction_won(twice_won: u128, positives: u64, negatives: u64) -> Option<f64> {
    let pairs = u128::from(positives) * u128::from(negatives);
    (pairs > 0).then(|| twice_won as f64 / (2 * pairs) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let labels = [true, true, false, false];
        assert_eq!(auroc(&[4.0, 3.0, 2.0, 1.0], &labels), Some(1.0));
        assert_eq!(auroc(&[1.0, 2.0, 3.0, 4.0], &labels), Some(0.0));
        assert_eq!(auroc(&[1.0; 4], &labels), Some(0.5));
        // Pairs: 2 > 1 won, 2 = 2 half, 1 = 1 half, 1 < 2 lost.
        assert_eq!(auroc(&[2.0, 1.0, 1.0, 2.0], &labels), Some(0.5));
        assert_eq!(auroc(&[3.0, 1.0, 1.0, 2.0], &labels), Some(0.625));
        assert_eq!(auroc(&[0.0, -0.0], &[true, false]), Some(0.5));
        assert_eq!(auroc(&[1.0], &[true]), None);
        assert_eq!(auroc(&[1.0], &[false]), None);
        assert_eq!(auroc(&[], &[]), None);
    }

    proptest! {
        #[test]
        fn equals_the_count_of_all_pairs(items in prop::collection::vec((-4_i8..4, any::<bool>()), 0..60)) {
            let scores: Vec<f32> = items.iter().map(|item| f32::from(item.0) / 3.0).collect();
            let labels: Vec<bool> = items.iter().map(|item| item.1).collect();
            let (mut won, mut pairs) = (0.0, 0.0);
            for i in (0..items.len()).filter(|&i| labels[i]) {
                for j in (0..items.len()).filter(|&j| !labels[j]) {
                    pairs += 1.0;
                    won += match scores[i].total_cmp(&scores[j]) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            let expected = (pairs > 0.0).then(|| won / pairs);
            prop_assert_eq!(auroc(&scores, &labels), expected);
        }
    }
}
