//! AU-PRO, AUROC and the curves, each by one sweep over ranked pixels.

use super::auroc::fraction_won;
use super::key;
use super::pixels::RankedPixels;

/// The pixels of one or more [`RankedPixels`] taken together, without copying them.
#[derive(Clone, Debug)]
pub struct Ranking<'a> {
    parts: Vec<&'a RankedPixels>,
    /// Where each part's regions begin in the numbering of all of them.
    first_region: Vec<usize>,
    regions: usize,
    normal: u64,
    defect: u64,
}

/// One region and how well it is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegionAuPro {
    /// The region's pixels.
    pub area: u32,
    /// The region's own share of [`Ranking::au_pro`], in `[0, 1]`; the mean over regions is AU-PRO.
    pub au_pro: f64,
}

/// A point of the ROC and PRO curves: what happens when pixels that score **at least**
/// `threshold` are called defective.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// All defective pixels of one distinct score, on the way from the highest score down.
struct Step<'a> {
    key: u32,
    /// The lowest key of a normal pixel above this step and below the one before, if any.
    normal_key_above: Option<u32>,
    /// Normal pixels that score higher.
    normal_above: u64,
    /// Normal pixels that score the same.
    normal_tied: u64,
    /// The region of each defective pixel of this score.
    regions: &'a [usize],
}

impl<'a> Ranking<'a> {
    /// Takes `parts` together: their normal pixels are one pool of negatives, their regions one list.
    pub fn new(parts: impl IntoIterator<Item = &'a RankedPixels>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut first_region = Vec::with_capacity(parts.len());
        let mut regions = 0;
        for part in &parts {
            first_region.push(regions);
            regions += part.areas.len();
        }
        Self {
            first_region,
            regions,
            normal: parts.iter().map(|part| part.normal.len() as u64).sum(),
            defect: parts.iter().map(|part| part.defect.len() as u64).sum(),
            parts,
        }
    }

    /// The number of regions.
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// The area under the per-region-overlap curve over the false-positive rate from 0 to
    /// `fpr_limit` (in `(0, 1]`, usually 0.3), divided by `fpr_limit`; in `[0, 1]`, higher is better.
    ///
    /// The definition of MVTec's evaluation (Bergmann et al., CVPR 2020): each connected region
    /// weighs the same, whatever its size; every pixel outside the regions is a negative, those of
    /// good images too; every distinct score is a threshold, equal scores are one; the curve is
    /// linear between thresholds and is cut by interpolation at the limit.
    ///
    /// `None` if there is no region or no negative, or `fpr_limit` is not in `(0, 1]`. The error is
    /// some rounding steps of f64 (about 1e-15), however many pixels there are.
    pub fn au_pro(&self, fpr_limit: f64) -> Option<f64> {
        let regions = self.au_pro_of_regions(fpr_limit)?;
        let sum: f64 = regions.iter().map(|region| region.au_pro).sum();
        (!regions.is_empty()).then(|| sum / regions.len() as f64)
    }

    /// Each region's own area under its overlap curve, normalised as [`Ranking::au_pro`], in the
    /// order in which the regions were added; for tables by region size. `None` as there, but no
    /// regions give an empty list.
    pub fn au_pro_of_regions(&self, fpr_limit: f64) -> Option<Vec<RegionAuPro>> {
        if self.normal == 0 || !(fpr_limit > 0.0 && fpr_limit <= 1.0) {
            return None;
        }
        // A defective pixel lifts its region's overlap by 1/area once the threshold has come down to
        // its score: at `above` false positives if none is tied with it, else along a ramp from
        // `above` to `above + tied`. Up to the limit its area, in false positives, is
        // `limit - above - tied / 2`: an integer sum for each region. Only the one step that the
        // limit cuts has a fraction: the triangle up to the limit.
        let limit = fpr_limit * self.normal as f64;
        let mut whole = vec![0_u64; self.regions];
        let mut twice_missed = vec![0_u128; self.regions];
        let mut cut = vec![0_u64; self.regions];
        let mut triangle = 0.0;
        self.sweep(|step| {
            let start = step.normal_above as f64;
            if start >= limit {
                return false;
            }
            let is_cut = (step.normal_above + step.normal_tied) as f64 > limit;
            if is_cut {
                triangle = (limit - start) * (limit - start) / (2 * step.normal_tied) as f64;
            }
            for &region in step.regions {
                if is_cut {
                    cut[region] += 1;
                } else {
                    whole[region] += 1;
                    twice_missed[region] += u128::from(2 * step.normal_above + step.normal_tied);
                }
            }
            true
        });
        let areas = self.parts.iter().flat_map(|part| &part.areas);
        let regions = areas.enumerate().map(|(region, &area)| {
            let rectangles = whole[region] as f64 * limit - twice_missed[region] as f64 / 2.0;
            let found = rectangles + cut[region] as f64 * triangle;
            RegionAuPro {
                area,
                au_pro: (found / (limit * f64::from(area))).clamp(0.0, 1.0),
            }
        });
        Some(regions.collect())
    }

    /// The area under the ROC curve of the pixels, exact as [`auroc()`](super::auroc()): every
    /// defective pixel weighs the same. `None` if there is no defective or no normal pixel.
    pub fn auroc(&self) -> Option<f64> {
        let mut twice_won = 0_u128;
        self.sweep(|step| {
            let below = self.normal - step.normal_above - step.normal_tied;
            twice_won += step.regions.len() as u128 * u128::from(2 * below + step.normal_tied);
            true
        });
        fraction_won(twice_won, self.defect, self.normal)
    }

    /// The ROC and PRO curves from (0, 0) to (1, 1), joined by straight lines, thresholds falling.
    ///
    /// A corner is left out while all rates are within `spacing` of the last point kept: 0 keeps
    /// every corner, 0.002 at most some 1 500 points, enough for a plot. (Areas are not computed
    /// from this.) `None` if there is no region or no negative.
    pub fn curve(&self, spacing: f64) -> Option<Vec<CurvePoint>> {
        if self.normal == 0 || self.regions == 0 {
            return None;
        }
        let areas: Vec<u32> = self
            .parts
            .iter()
            .flat_map(|part| part.areas.iter().copied())
            .collect();
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
        let (mut found, mut overlap) = (0_u64, 0.0);
        self.sweep(|step| {
            let rates = |key, normal_at_least: u64, found: u64, overlap: f64| CurvePoint {
                threshold: key::to_score(key),
                fpr: normal_at_least as f64 / normal,
                tpr: found as f64 / defect,
                pro: (overlap / self.regions as f64).min(1.0),
            };
            if let Some(key) = step.normal_key_above {
                keep(rates(key, step.normal_above, found, overlap));
            }
            found += step.regions.len() as u64;
            for &region in step.regions {
                overlap += 1.0 / f64::from(areas[region]);
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

    /// Visits the distinct scores of defective pixels from the highest down, until `visit` says no.
    fn sweep(&self, mut visit: impl FnMut(&Step<'_>) -> bool) {
        let mut defect: Vec<&[u64]> = self.parts.iter().map(|part| &part.defect[..]).collect();
        let mut normal: Vec<&[u32]> = self.parts.iter().map(|part| &part.normal[..]).collect();
        let (mut regions, mut normal_above) = (Vec::new(), 0);
        let top = |defect: &[&[u64]]| defect.iter().filter_map(|part| part.last()).max().copied();
        while let Some(record) = top(&defect) {
            let key = (record >> 32) as u32;
            regions.clear();
            for (part, first) in defect.iter_mut().zip(&self.first_region) {
                while let Some((&record, rest)) = part.split_last()
                    && (record >> 32) as u32 == key
                {
                    regions.push(first + record as u32 as usize);
                    *part = rest;
                }
            }
            let mut normal_key_above: Option<u32> = None;
            let mut normal_tied = 0;
            for part in &mut normal {
                let above = part.iter().rev().take_while(|&&other| other > key).count();
                let (rest, passed) = part.split_at(part.len() - above);
                if let Some(&lowest) = passed.first() {
                    normal_key_above = Some(normal_key_above.map_or(lowest, |key| key.min(lowest)));
                }
                let tied = rest.iter().rev().take_while(|&&other| other == key).count();
                normal_above += above as u64;
                normal_tied += tied as u64;
                *part = &rest[..rest.len() - tied];
            }
            let step = Step {
                key,
                normal_key_above,
                normal_above,
                normal_tied,
                regions: &regions,
            };
            if !visit(&step) {
                return;
            }
            normal_above += normal_tied;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::anomaly_map::AnomalyMap;
    use crate::mask::Mask;
    use crate::metrics::PixelScores;
    use proptest::prelude::*;

    type Images = Vec<(AnomalyMap, Mask)>;

    fn ranked(images: &[(AnomalyMap, Mask)]) -> RankedPixels {
        let mut pixels = PixelScores::new();
        for (map, mask) in images {
            pixels.add(map, mask).unwrap();
        }
        pixels.rank()
    }

    fn row(scores: &[f32], defect: &[u8]) -> (AnomalyMap, Mask) {
        let defect = defect.iter().map(|&d| d > 0).collect();
        (
            AnomalyMap::new(scores.len(), 1, scores.to_vec()),
            Mask::new(scores.len(), 1, defect),
        )
    }

    /// The slow obvious twin: threshold everything anew at every distinct score and count.
    fn slow_curve(images: &Images) -> Option<Vec<CurvePoint>> {
        let mut thresholds: Vec<f32> = images
            .iter()
            .flat_map(|(map, _)| map.scores().iter().copied())
            .collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let labels: Vec<_> = images.iter().map(|(_, mask)| mask.regions()).collect();
        let regions: usize = labels.iter().map(|labels| labels.areas.len()).sum();
        let defects: usize = labels.iter().flat_map(|labels| &labels.areas).sum();
        let pixels: usize = labels.iter().map(|labels| labels.labels.len()).sum();
        if regions == 0 || defects == pixels {
            return None;
        }
        let mut points = vec![CurvePoint {
            threshold: f32::INFINITY,
            fpr: 0.0,
            tpr: 0.0,
            pro: 0.0,
        }];
        for threshold in thresholds {
            let (mut false_positives, mut true_positives, mut overlap) = (0, 0, 0.0);
            for ((map, _), labels) in images.iter().zip(&labels) {
                let mut found = vec![0; labels.areas.len()];
                for (&score, &label) in map.scores().iter().zip(&labels.labels) {
                    match label {
                        _ if score < threshold => {}
                        0 => false_positives += 1,
                        label => found[label as usize - 1] += 1,
                    }
                }
                for (&found, &area) in found.iter().zip(&labels.areas) {
                    true_positives += found;
                    overlap += f64::from(found) / area as f64;
                }
            }
            points.push(CurvePoint {
                threshold,
                fpr: f64::from(false_positives) / (pixels - defects) as f64,
                tpr: f64::from(true_positives) / defects as f64,
                pro: overlap / regions as f64,
            });
        }
        Some(points)
    }

    /// The area under straight lines between `points`, from 0 to `limit`.
    fn area(points: &[CurvePoint], limit: f64, height: impl Fn(&CurvePoint) -> f64) -> f64 {
        let pieces = points.windows(2).map(|pair| {
            let (x0, mut x1) = (pair[0].fpr, pair[1].fpr);
            let (y0, mut y1) = (height(&pair[0]), height(&pair[1]));
            if x0 >= limit {
                return 0.0;
            }
            if x1 > limit {
                y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0);
                x1 = limit;
            }
            (x1 - x0) * (y0 + y1) / 2.0
        });
        pieces.sum::<f64>() / limit
    }

    fn close(found: Option<f64>, expected: Option<f64>) -> bool {
        match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
            (found, expected) => found.is_none() && expected.is_none(),
        }
    }

    #[test]
    fn by_hand() {
        // A region of 1 pixel found first, one of 2 found at a half after 1 of 4 negatives.
        let images = [row(
            &[9.0, 1.0, 5.0, 2.0, 7.0, 1.0, 1.0],
            &[1, 0, 1, 1, 0, 0, 0],
        )];
        let pixels = ranked(&images);
        let ranking = Ranking::new([&pixels]);
        // PRO is 1/2 up to FPR 1/4, then 1.
        assert!(close(ranking.au_pro(1.0), Some(0.125 + 0.75)));
        assert!(close(ranking.au_pro(0.25), Some(0.5)));
        assert!(close(ranking.auroc(), Some(10.0 / 12.0)));
        let areas: Vec<u32> = ranking
            .au_pro_of_regions(0.5)
            .unwrap()
            .iter()
            .map(|region| region.area)
            .collect();
        assert_eq!(areas, [1, 2]);
        for limit in [0.0, -1.0, 1.5, f64::NAN] {
            assert_eq!(ranking.au_pro(limit), None);
        }
    }

    #[test]
    fn a_region_counts_once_however_large() {
        let mut scores = vec![0.0; 1000];
        scores[0] = 1.0;
        let mut defect = vec![1; 1000];
        defect[1] = 0;
        let pixels = ranked(&[row(&scores, &defect)]);
        // The single pixel is found at once, the other 998 are tied with the only negative.
        assert!(close(Ranking::new([&pixels]).au_pro(1.0), Some(0.75)));
    }

    #[test]
    fn undefined_without_a_region_or_a_negative() {
        let good = ranked(&[row(&[1.0, 2.0], &[0, 0])]);
        let all = ranked(&[row(&[1.0, 2.0], &[1, 1])]);
        let nothing = ranked(&[]);
        for pixels in [&good, &all, &nothing] {
            let ranking = Ranking::new([pixels]);
            assert_eq!(ranking.au_pro(0.3), None);
            assert_eq!(ranking.auroc(), None);
            assert_eq!(ranking.curve(0.0), None);
        }
        assert!(Ranking::new([&good, &all]).au_pro(0.3).is_some());
    }

    #[test]
    fn nothing_is_added_with_a_nan() {
        let mut pixels = PixelScores::new();
        let (map, mask) = row(&[0.0, 1.0, f32::NAN], &[0, 1, 0]);
        let error = pixels.add(&map, &mask).unwrap_err();
        assert_eq!((error.row, error.column), (0, 2));
        assert_eq!(pixels.regions(), 0);
        assert!(pixels.rank().normal.is_empty());
    }

    prop_compose! {
        /// An image of up to 8x8 with few distinct scores, so that ties abound.
        fn image()(width in 1_usize..8, height in 1_usize..8)(
            pixels in prop::collection::vec((-3_i8..3, 0_u8..10), width * height),
            width in Just(width),
            height in Just(height),
            share in 0_u8..8,
        ) -> (AnomalyMap, Mask) {
            let scores = pixels.iter().map(|pixel| f32::from(pixel.0) / 3.0).collect();
            let defect = pixels.iter().map(|pixel| pixel.1 < share).collect();
            (AnomalyMap::new(width, height, scores), Mask::new(width, height, defect))
        }
    }

    proptest! {
        #[test]
        fn equals_the_slow_twin(
            images in prop::collection::vec(image(), 1..4),
            split in 0_usize..4,
            limit in prop_oneof![Just(0.3), Just(0.05), Just(1.0), 0.01_f64..1.0],
        ) {
            // Two parts taken together are the same as one.
            let (left, right) = images.split_at(split.min(images.len()));
            let parts = [ranked(left), ranked(right)];
            let ranking = Ranking::new(&parts);
            let slow = slow_curve(&images);
            let expected = slow.as_ref().map(|points| area(points, limit, |point| point.pro));
            prop_assert!(close(ranking.au_pro(limit), expected));
            let expected = slow.as_ref().map(|points| area(points, 1.0, |point| point.tpr));
            prop_assert!(close(ranking.auroc(), expected));

            let curve = ranking.curve(0.0);
            prop_assert_eq!(curve.is_some(), slow.is_some());
            if let (Some(curve), Some(slow)) = (curve, slow) {
                let same = |limit: f64| (area(&curve, limit, |p| p.pro) - area(&slow, limit, |p| p.pro)).abs();
                prop_assert!(same(1.0) < 1e-12 && same(limit) < 1e-12);
                // Every point is what thresholding there gives.
                for point in &curve[1..] {
                    let twin = slow.iter().find(|twin| twin.threshold == point.threshold).unwrap();
                    prop_assert!((twin.fpr - point.fpr).abs() < 1e-12);
                    prop_assert!((twin.tpr - point.tpr).abs() < 1e-12);
                    prop_assert!((twin.pro - point.pro).abs() < 1e-12);
                }
                let thin = ranking.curve(0.25).unwrap();
                prop_assert!(thin.len() <= 3 * 4 + 2);
                prop_assert_eq!(thin[0], curve[0]);
                prop_assert_eq!(thin.last(), curve.last());
            }
        }
    }
}
