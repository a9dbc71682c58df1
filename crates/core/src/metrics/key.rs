//! Scores as integers of the same order, which sort faster than floats and pack beside a region.

/// An integer that orders as `score` does; the two zeros are equal. NaNs lie beyond the infinities.
pub(super) fn from_score(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    // A negative float grows in magnitude with its bits: all of them are turned.
    let turn = if bits >> 31 == 1 { u32::MAX } else { 1 << 31 };
    bits ^ turn
}

/// The score that [`from_score`] made `key` of.
pub(super) fn to_score(key: u32) -> f32 {
    let turn = if key >> 31 == 1 { 1 << 31 } else { u32::MAX };
    f32::from_bits(key ^ turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_scores_and_come_back() {
        let scores = [
            f32::NEG_INFINITY,
            f32::MIN,
            -1.5,
            -1.0,
            -f32::MIN_POSITIVE,
            -f32::from_bits(1),
            0.0,
            f32::from_bits(1),
            0.1,
            1.0,
            f32::MAX,
            f32::INFINITY,
        ];
        for pair in scores.windows(2) {
            assert!(from_score(pair[0]) < from_score(pair[1]), "{pair:?}");
        }
        for score in scores {
            assert_eq!(to_score(from_score(score)).to_bits(), score.to_bits());
        }
        assert_eq!(from_score(-0.0), from_score(0.0));
    }
}
