//! The ROC, PRO and precision–recall curves as points, thinned for plots where that is asked for.

use serde::{Deserialize, Serialize};

use super::key;
use super::pixels::RankedPixels;
use super::ranking::Ranking;

/// A point of the ROC and PRO curves: what happens when pixels that score **at least**
/// `threshold` are called defective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The threshold.
    pub threshold: f32,
    /// False-positive rate: the share of pixels outside all regions that are called defective.
    pub fpr: f64,
    /// True-positive rate: the share of all defective pixels that are called defective.
    pub tpr: f64,
    /// Per-region overlap: that share in each region, averaged over the regions.
    pub pro: f64,
}

/// A point of the precision–recall curve: what happens when what scores **at least** `threshold` is
/// called defective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecisionRecallPoint {
    /// The threshold.
    pub threshold: f32,
    /// The share of the defective that is called defective.
    pub recall: f64,
    /// The share of defective ones among those called defective.
    pub precision: f64,
}

impl Ranking<'_> {
    /// The ROC and PRO curves from (0, 0) to (1, 1), joined by straight lines, thresholds falling.
    ///
    /// A corner is left out while all rates are within `spacing` of the last point kept: 0 keeps
    /// every corner, 0.002 at most some 1 500 points, enough for a plot. (Areas are not computed
    /// from this.) `None` if there is no region or no negative.
    pub fn curve(&self, spacing: f64) -> Option<Vec<CurvePoint>> {
        if self.normal == 0 || self.regions() == 0 {
            return None;
        }
        let (lowest, highest) = self.key_range()?;
        let mut points = vec![CurvePoint {
            threshold: key::to_score(highest).next_up(),
            fpr: 0.0,
            tpr: 0.0,
            pro: 0.0,
        }];
        let mut keep = |point: CurvePoint| {
            let last = points[points.len() - 1];
            let moved = (point.fpr - last.fpr)
                .max(point.tpr - last.tpr)
                .max(point.pro - last.pro);
            if moved > spacing {
                points.push(point);
            }
        };
        let (normal, defect) = (self.normal as f64, self.defect as f64);
        let regions = self.regions() as f64;
        let (mut found, mut overlap) = (0_u64, 0.0);
        self.sweep(|step| {
            let rates = |key, normal_at_least: u64, found: u64, overlap: f64| CurvePoint {
                threshold: key::to_score(key),
                fpr: normal_at_least as f64 / normal,
                tpr: found as f64 / defect,
                pro: (overlap / regions).min(1.0),
            };
            if let Some(key) = step.normal_key_above {
                keep(rates(key, step.normal_above, found, overlap));
            }
            found += step.pixels;
            for &region in step.regions {
                overlap += 1.0 / f64::from(self.areas[region]);
            }
            let at_least = step.normal_above + step.normal_tied;
            keep(rates(step.key, at_least, found, overlap));
            true
        });
        let end = CurvePoint {
            threshold: key::to_score(lowest),
            fpr: 1.0,
            tpr: 1.0,
            pro: 1.0,
        };
        // The last corner kept may differ from the end by less than the spacing, or by rounding.
        match points.last_mut() {
            Some(last) if last.fpr == 1.0 && last.tpr == 1.0 => *last = end,
            _ => points.push(end),
        }
        Some(points)
    }

    /// The precision–recall curve, thresholds falling: one point for each distinct score of a defective
    /// pixel, at most. Between two of them recall stays and precision falls, so that the curve is a
    /// staircase ([`Ranking::average_precision`] is its area) and no straight line joins them.
    ///
    /// A point is left out while recall and precision are both within `spacing` of the last one kept,
    /// unless it is the last: 0 keeps every point, 0.002 some hundred to a few thousand. `None` if there
    /// is no defective or no normal pixel.
    pub fn precision_recall(&self, spacing: f64) -> Option<Vec<PrecisionRecallPoint>> {
        if self.normal == 0 || self.defect == 0 {
            return None;
        }
        let mut points: Vec<PrecisionRecallPoint> = Vec::new();
        let mut found = 0_u64;
        self.sweep(|step| {
            found += step.pixels;
            let called = found + step.normal_above + step.normal_tied;
            let point = PrecisionRecallPoint {
                threshold: key::to_score(step.key),
                recall: found as f64 / self.defect as f64,
                precision: found as f64 / called as f64,
            };
            let near = points.last().is_some_and(|last| {
                let moved =
                    (point.recall - last.recall).max((point.precision - last.precision).abs());
                moved <= spacing
            });
            if !near || found == self.defect {
                points.push(point);
            }
            true
        });
        Some(points)
    }

    /// The lowest and the highest key.
    fn key_range(&self) -> Option<(u32, u32)> {
        let ends = |part: &&RankedPixels| {
            let normal = [part.normal.first(), part.normal.last()];
            let defect = [part.defect.first(), part.defect.last()];
            let defect = defect.map(|record| record.map(|&record| (record >> 32) as u32));
            let normal = normal.map(|key| key.copied());
            normal.into_iter().chain(defect).flatten()
        };
        let lowest = self.parts.iter().flat_map(ends).min()?;
        let highest = self.parts.iter().flat_map(ends).max()?;
        Some((lowest, highest))
    }
}
