//! AU-PRO: the area under the per-region-overlap curve, from integer sums for each region.

use super::ranking::{Ranking, Step};

/// One region and how well it is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegionAuPro {
    /// The region's pixels.
    pub area: u32,
    /// The region's own share of [`Ranking::au_pro`], in `[0, 1]`; the mean over regions is AU-PRO.
    pub au_pro: f64,
}

/// What a sweep gathers for AU-PRO up to one limit.
///
/// A defective pixel lifts its region's overlap by 1/area once the threshold has come down to its
/// score: at `above` false positives if none is tied with it, else along a ramp from `above` to
/// `above + tied`. Up to the limit its area, in false positives, is `limit - above - tied / 2`: an
/// integer sum for each region. Only the one step that the limit cuts has a fraction: the triangle up
/// to the limit.
pub(super) struct Overlap {
    /// In false positives.
    limit: f64,
    whole: Vec<u64>,
    twice_missed: Vec<u128>,
    cut: Vec<u64>,
    triangle: f64,
}

impl Overlap {
    /// `None` without a negative, or if the limit is not in `(0, 1]`.
    pub(super) fn new(ranking: &Ranking<'_>, fpr_limit: f64) -> Option<Self> {
        if ranking.normal == 0 || !(fpr_limit > 0.0 && fpr_limit <= 1.0) {
            return None;
        }
        let regions = ranking.regions();
        Some(Self {
            limit: fpr_limit * ranking.normal as f64,
            whole: vec![0; regions],
            twice_missed: vec![0; regions],
            cut: vec![0; regions],
            triangle: 0.0,
        })
    }

    /// Says whether a step further down can still count.
    pub(super) fn visit(&mut self, step: &Step<'_>) -> bool {
        let start = step.normal_above as f64;
        if start >= self.limit {
            return false;
        }
        let is_cut = (step.normal_above + step.normal_tied) as f64 > self.limit;
        if is_cut {
            let up_to_limit = self.limit - start;
            self.triangle = up_to_limit * up_to_limit / (2 * step.normal_tied) as f64;
        }
        for &region in step.regions {
            if is_cut {
                self.cut[region] += 1;
            } else {
                self.whole[region] += 1;
                self.twice_missed[region] += u128::from(2 * step.normal_above + step.normal_tied);
            }
        }
        true
    }

    pub(super) fn of_regions(&self, ranking: &Ranking<'_>) -> Vec<RegionAuPro> {
        let regions = ranking.areas.iter().enumerate().map(|(region, &area)| {
            let missed = self.twice_missed[region] as f64 / 2.0;
            let rectangles = self.whole[region] as f64 * self.limit - missed;
            let found = rectangles + self.cut[region] as f64 * self.triangle;
            RegionAuPro {
                area,
                au_pro: (found / (self.limit * f64::from(area))).clamp(0.0, 1.0),
            }
        });
        regions.collect()
    }

    /// The mean over the regions; `None` without one.
    pub(super) fn au_pro(&self, ranking: &Ranking<'_>) -> Option<f64> {
        let regions = self.of_regions(ranking);
        let sum: f64 = regions.iter().map(|region| region.au_pro).sum();
        (!regions.is_empty()).then(|| sum / regions.len() as f64)
    }
}
