//! The parts of an anomaly map, and their shares of a score at a pixel or in a region.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::map::anomaly_map::AnomalyMap;

/// A summand of an anomaly map: one term of the score at one scale. It is computed on demand, so that not all parts of a large map are
/// in memory at once.
pub struct Part {
    /// The scale that it belongs to, as "33".
    pub scale: String,
    /// The term of the score, as "regression_error".
    pub term: String,
    map: Box<dyn Fn() -> AnomalyMap + Send + Sync>,
}

impl Part {
    /// A part whose map, of the size of the whole map, is `map`'s result.
    pub fn new(
        scale: impl Into<String>,
        term: impl Into<String>,
        map: impl Fn() -> AnomalyMap + Send + Sync + 'static,
    ) -> Self {
        Self {
            scale: scale.into(),
            term: term.into(),
            map: Box::new(map),
        }
    }

    /// Its map; the maps of all parts sum up to the whole, but for rounding.
    pub fn map(&self) -> AnomalyMap {
        (self.map)()
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Part");
        let shown = shown.field("scale", &self.scale).field("term", &self.term);
        shown.finish_non_exhaustive()
    }
}

/// An anomaly map and its parts.
#[derive(Debug)]
pub struct Explained {
    /// The map.
    pub map: AnomalyMap,
    /// Its parts; empty if the detector cannot tell.
    pub parts: Vec<Part>,
}

/// How much each term and each scale contributes to a score.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Why {
    /// By term, over all scales.
    pub terms: BTreeMap<String, Contribution>,
    /// By scale, over all terms.
    pub scales: BTreeMap<String, Contribution>,
}

/// The contribution of one summand to a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Contribution {
    /// In units of the score; below 0 where this summand alone would call it better than usual.
    pub score: f64,
    /// Its share of the score: all shares sum up to 1, one may lie outside `[0, 1]` if another is
    /// negative. `None` (JSON `null`) if the score is not above 0, where shares mean nothing.
    pub share: Option<f64>,
}

impl Why {
    /// From what each part, by scale and term, gives to one score.
    pub fn new<'a>(parts: impl Iterator<Item = (&'a Part, f64)>) -> Self {
        let mut why = Self::default();
        let mut total = 0.0;
        for (part, score) in parts {
            total += score;
            why.terms.entry(part.term.clone()).or_default().score += score;
            why.scales.entry(part.scale.clone()).or_default().score += score;
        }
        for contribution in why.terms.values_mut().chain(why.scales.values_mut()) {
            contribution.share = (total > 0.0).then(|| contribution.score / total);
        }
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(scale: &str, term: &str) -> Part {
        Part::new(scale, term, || AnomalyMap::new(1, 1, vec![0.0]))
    }

    #[test]
    fn shares_sum_up_to_one_by_term_and_by_scale() {
        let parts = [
            part("17", "error"),
            part("17", "variance"),
            part("33", "error"),
        ];
        let why = Why::new(parts.iter().zip([6.0, -1.0, 3.0]));
        assert_eq!(why.terms["error"].score, 9.0);
        assert_eq!(why.terms["variance"].share, Some(-0.125));
        assert_eq!(why.scales["17"].share, Some(0.625));
        for all in [&why.terms, &why.scales] {
            let sum: f64 = all.values().filter_map(|one| one.share).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
        let below = Why::new(parts.iter().zip([-6.0, 1.0, 3.0]));
        assert_eq!(below.terms["error"].share, None);
    }
}
