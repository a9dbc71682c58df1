//! Every measure of ranked pixels, by sweeping once from the highest score down.
//!
//! [`Ranking::sweep`] visits the distinct scores of defective pixels. Each measure has a module of its own
//! ([`overlap`](super::overlap), [`precision`](super::precision), [`curves`](super::curves)), so that one sweep serves several
//! measures.

use super::auroc::fraction_won;
use super::overlap::{Overlap, RegionAuPro};
use super::pixels::{RankedPixels, Record};
use super::precision::{BestF1, Precision};

/// The pixels of one or more [`RankedPixels`] taken together, without copying them.
#[derive(Clone, Debug)]
pub struct Ranking<'a> {
    pub(super) parts: Vec<&'a RankedPixels>,
    /// Where each part's regions begin in the numbering of all of them.
    first_region: Vec<usize>,
    /// The areas of the regions that are measured, in the order of their adding.
    pub(super) areas: Vec<u32>,
    /// For each region of all parts its place in `areas`, or [`LEFT_OUT`]; empty if all are measured.
    places: Vec<u32>,
    pub(super) normal: u64,
    pub(super) defect: u64,
}

/// The place of a region that is not measured.
const LEFT_OUT: u32 = u32::MAX;

/// All measures of a [`Ranking`] that are single numbers; each is `None` where it is undefined.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    /// [`Ranking::au_pro`] for each limit that was asked for.
    pub au_pro: Vec<Option<f64>>,
    /// [`Ranking::auroc`].
    pub auroc: Option<f64>,
    /// [`Ranking::average_precision`].
    pub average_precision: Option<f64>,
    /// [`Ranking::best_f1`].
    pub best_f1: Option<BestF1>,
}

/// All defective pixels of one distinct score, on the way from the highest score down.
pub(super) struct Step<'a> {
    pub(super) key: u32,
    /// The lowest key of a normal pixel above this step and below the one before, if any.
    pub(super) normal_key_above: Option<u32>,
    /// Normal pixels that score higher.
    pub(super) normal_above: u64,
    /// Normal pixels that score the same.
    pub(super) normal_tied: u64,
    /// The defective pixels of this score.
    pub(super) pixels: u64,
    /// The region of each pixel of a region with this score.
    pub(super) regions: &'a [usize],
}

impl<'a> Ranking<'a> {
    /// Takes `parts` together: their normal pixels are one pool of negatives, their regions one list.
    pub fn new(parts: impl IntoIterator<Item = &'a RankedPixels>) -> Self {
        let parts: Vec<_> = parts.into_iter().collect();
        let mut first_region = Vec::with_capacity(parts.len());
        let mut areas = Vec::new();
        for part in &parts {
            first_region.push(areas.len());
            areas.extend_from_slice(&part.areas);
        }
        Self {
            first_region,
            areas,
            places: Vec::new(),
            normal: parts.iter().map(|part| part.normal.len() as u64).sum(),
            defect: parts.iter().map(|part| part.pixels).sum(),
            parts,
        }
    }

    /// The same negatives, and only the regions whose number of pixels `takes` accepts. The pixels of other regions are left out: they
    /// count neither as found nor as false alarms. For measures by region size.
    #[must_use]
    pub fn of_regions(&self, takes: impl Fn(u32) -> bool) -> Self {
        let mut areas = Vec::new();
        let place = |area: u32| {
            if takes(area) {
                areas.push(area);
                areas.len() as u32 - 1
            } else {
                LEFT_OUT
            }
        };
        // Of a selection, the regions left out before stay out.
        let places = if self.places.is_empty() {
            self.areas.iter().copied().map(place).collect()
        } else {
            let chosen: Vec<u32> = self.areas.iter().copied().map(place).collect();
            let again = |&place: &u32| chosen.get(place as usize).copied().unwrap_or(LEFT_OUT);
            self.places.iter().map(again).collect()
        };
        Self {
            parts: self.parts.clone(),
            first_region: self.first_region.clone(),
            defect: areas.iter().copied().map(u64::from).sum(),
            areas,
            places,
            normal: self.normal,
        }
    }

    /// The number of regions.
    pub fn regions(&self) -> usize {
        self.areas.len()
    }

    /// All single numbers from one sweep, AU-PRO for each of `fpr_limits`.
    pub fn measures(&self, fpr_limits: &[f64]) -> Measures {
        let mut overlaps: Vec<Option<Overlap>> = fpr_limits
            .iter()
            .map(|&limit| Overlap::new(self, limit))
            .collect();
        let mut won = Won::new(self);
        let mut precision = Precision::new(self);
        self.sweep(|step| {
            for overlap in overlaps.iter_mut().flatten() {
                overlap.visit(step);
            }
            won.visit(step);
            precision.visit(step);
            true
        });
        Measures {
            au_pro: overlaps
                .into_iter()
                .map(|overlap| overlap.and_then(|overlap| overlap.au_pro(self)))
                .collect(),
            auroc: won.auroc(self),
            average_precision: precision.average(),
            best_f1: precision.best_f1(),
        }
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
        self.overlap(fpr_limit)?.au_pro(self)
    }

    /// Each region's own area under its overlap curve, normalised as [`Ranking::au_pro`], in the
    /// order in which the regions were added. `None` as there, but no regions give an empty list.
    pub fn au_pro_of_regions(&self, fpr_limit: f64) -> Option<Vec<RegionAuPro>> {
        Some(self.overlap(fpr_limit)?.of_regions(self))
    }

    fn overlap(&self, fpr_limit: f64) -> Option<Overlap> {
        let mut overlap = Overlap::new(self, fpr_limit)?;
        self.sweep(|step| overlap.visit(step));
        Some(overlap)
    }

    /// The area under the ROC curve of the pixels, exact as [`auroc()`](super::auroc()): every
    /// defective pixel weighs the same. `None` if there is no defective or no normal pixel.
    pub fn auroc(&self) -> Option<f64> {
        let mut won = Won::new(self);
        self.sweep(|step| {
            won.visit(step);
            true
        });
        won.auroc(self)
    }

    /// The average precision of the pixels: the precision at each distinct score, weighted by the recall
    /// gained there, without interpolation (as scikit-learn's `average_precision_score`). In `(0, 1]`; what a
    /// random score reaches is the share of defective pixels. `None` if there is no defective or no
    /// normal pixel.
    pub fn average_precision(&self) -> Option<f64> {
        self.precision().average()
    }

    /// The best F1 that any threshold reaches, and that threshold. `None` if there is no defective or no
    /// normal pixel.
    ///
    /// It is chosen with the labels: a bound for comparison, not a threshold for work.
    pub fn best_f1(&self) -> Option<BestF1> {
        self.precision().best_f1()
    }

    fn precision(&self) -> Precision {
        let mut precision = Precision::new(self);
        self.sweep(|step| {
            precision.visit(step);
            true
        });
        precision
    }

    /// Visits the distinct scores of defective pixels from the highest down, until `visit` says no.
    pub(super) fn sweep(&self, mut visit: impl FnMut(&Step<'_>) -> bool) {
        let mut defect: Vec<&[u64]> = self.parts.iter().map(|part| &part.defect[..]).collect();
        let mut normal: Vec<&[u32]> = self.parts.iter().map(|part| &part.normal[..]).collect();
        let (mut regions, mut normal_above) = (Vec::new(), 0);
        let top = |defect: &[&[u64]]| defect.iter().filter_map(|part| part.last()).max().copied();
        while let Some(record) = top(&defect) {
            let key = Record::of(record).key;
            let mut pixels = 0;
            regions.clear();
            for (part, first) in defect.iter_mut().zip(&self.first_region) {
                while let Some((&record, rest)) = part.split_last()
                    && Record::of(record).key == key
                {
                    *part = rest;
                    let Record { region, pixel, .. } = Record::of(record);
                    let place = region.map(|region| {
                        let region = first + region;
                        self.places.get(region).copied().unwrap_or(region as u32)
                    });
                    if place == Some(LEFT_OUT) {
                        continue;
                    }
                    pixels += u64::from(pixel);
                    regions.extend(place.map(|place| place as usize));
                }
            }
            if pixels == 0 && regions.is_empty() {
                continue;
            }
            let mut normal_key_above: Option<u32> = None;
            let mut normal_tied = 0;
            for part in &mut normal {
                let above = count_from_end(part, |other| other > key);
                let (rest, passed) = part.split_at(part.len() - above);
                if let Some(&lowest) = passed.first() {
                    normal_key_above = Some(normal_key_above.map_or(lowest, |key| key.min(lowest)));
                }
                let tied = count_from_end(rest, |other| other == key);
                normal_above += above as u64;
                normal_tied += tied as u64;
                *part = &rest[..rest.len() - tied];
            }
            let step = Step {
                key,
                normal_key_above,
                normal_above,
                normal_tied,
                pixels,
                regions: &regions,
            };
            if !visit(&step) {
                return;
            }
            normal_above += normal_tied;
        }
    }
}

/// How many keys at the end of `ascending` satisfy `holds`, which those before them do not: strides that
/// double, then a search within the last. Between two defective pixels there are often few normal
/// ones and sometimes millions.
fn count_from_end(ascending: &[u32], holds: impl Fn(u32) -> bool) -> usize {
    let length = ascending.len();
    let mut stride = 1;
    while stride <= length && holds(ascending[length - stride]) {
        stride *= 2;
    }
    let (low, high) = (stride / 2, stride.min(length + 1) - 1);
    let unknown = &ascending[length - high..length - low];
    low + unknown.len() - unknown.partition_point(|&key| !holds(key))
}

/// Pairs of a defective and a normal pixel that the defective one wins, ties half.
struct Won {
    normal: u64,
    twice: u128,
}

impl Won {
    fn new(ranking: &Ranking<'_>) -> Self {
        Self {
            normal: ranking.normal,
            twice: 0,
        }
    }

    fn visit(&mut self, step: &Step<'_>) {
        let below = self.normal - step.normal_above - step.normal_tied;
        self.twice += u128::from(step.pixels) * u128::from(2 * below + step.normal_tied);
    }

    fn auroc(&self, ranking: &Ranking<'_>) -> Option<f64> {
        fraction_won(self.twice, ranking.defect, ranking.normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::mask::{Mask, Saturation};
    use crate::map::anomaly_map::AnomalyMap;
    use crate::metrics::{CurvePoint, PixelScores, PrecisionRecallPoint};
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

    /// The slow obvious twin: threshold everything anew at every distinct score and count, as if the
    /// pixels of regions that `takes` refuses did not exist. Beside it the number of defective and of
    /// normal pixels.
    fn slow_curve(
        images: &Images,
        takes: &dyn Fn(usize) -> bool,
    ) -> Option<(Vec<CurvePoint>, [f64; 2])> {
        let mut thresholds: Vec<f32> = images
            .iter()
            .flat_map(|(map, _)| map.scores().iter().copied())
            .collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let labels: Vec<_> = images.iter().map(|(_, mask)| mask.regions()).collect();
        let areas = || {
            labels
                .iter()
                .flat_map(|labels| labels.areas.iter().copied())
        };
        let regions = areas().filter(|&area| takes(area)).count();
        let defects: usize = areas().filter(|&area| takes(area)).sum();
        let pixels: usize = labels.iter().map(|labels| labels.labels.len()).sum();
        let normal = pixels - areas().sum::<usize>();
        if regions == 0 || normal == 0 {
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
                    if takes(area) {
                        true_positives += found;
                        overlap += f64::from(found) / area as f64;
                    }
                }
            }
            points.push(CurvePoint {
                threshold,
                fpr: f64::from(false_positives) / normal as f64,
                tpr: f64::from(true_positives) / defects as f64,
                pro: overlap / regions as f64,
            });
        }
        Some((points, [defects as f64, normal as f64]))
    }

    /// Average precision and the best F1 with its threshold, at every threshold by their definitions.
    fn slow_precision(points: &[CurvePoint], [defects, normal]: [f64; 2]) -> (f64, f64, f32) {
        let (mut average, mut best, mut at) = (0.0, 0.0, f32::NAN);
        for pair in points.windows(2) {
            let [found, called_good] =
                [pair[1].tpr * defects, pair[1].fpr * normal].map(f64::round);
            // At the score of a pixel that is left out, nothing may be called defective yet.
            let precision = found / (found + called_good).max(1.0);
            average += (pair[1].tpr - pair[0].tpr) * precision;
            let f1 = 2.0 * found / (found + called_good + defects);
            if f1 > best {
                (best, at) = (f1, pair[1].threshold);
            }
        }
        (average, best, at)
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

    /// Masks whose regions are named: they overlap, are not connected, and saturate.
    fn with_given_regions() -> impl Strategy<Value = Images> {
        let region = (prop::collection::vec(any::<bool>(), 12), 1..=100_u32);
        let image = (
            prop::collection::vec(0..6_u8, 12),
            prop::collection::vec(region, 0..3),
        );
        let images = prop::collection::vec(image, 1..4);
        images.prop_map(|images| {
            let image = |(scores, regions): (Vec<u8>, Vec<(Vec<bool>, u32)>)| {
                let scores = scores.into_iter().map(f32::from).collect();
                let mut mask = Mask::good(4, 3);
                for (defect, percent) in regions {
                    let saturation = Saturation {
                        pixel_value: 7,
                        threshold: f64::from(percent) / 100.0,
                        relative: true,
                    };
                    mask.add_region(&Mask::new(4, 3, defect), 7, &[saturation]);
                }
                (AnomalyMap::new(4, 3, scores), mask)
            };
            images.into_iter().map(image).collect()
        })
    }

    /// AU-sPRO and the pixels' AUROC by their definitions.
    fn slow_saturated(images: &Images, limit: f64) -> Option<(f64, f64)> {
        let pixels = || {
            images.iter().flat_map(|(map, mask)| {
                map.scores()
                    .iter()
                    .copied()
                    .zip(mask.defect().iter().copied())
            })
        };
        let (defects, normal): (Vec<_>, Vec<_>) = pixels().partition(|(_, defect)| *defect);
        let regions = images.iter().map(|(_, mask)| mask.given_regions().len());
        let regions = regions.sum::<usize>();
        if regions == 0 || normal.is_empty() {
            return None;
        }
        let mut thresholds: Vec<f32> = pixels().map(|(score, _)| score).collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let at = |threshold: f32| {
            let mut overlap = 0.0;
            for (map, mask) in images {
                for region in mask.given_regions() {
                    let found = region.pixels.iter();
                    let found = found.filter(|&&at| map.scores()[at as usize] >= threshold);
                    let share = found.count() as f64 / f64::from(region.saturation);
                    overlap += share.min(1.0);
                }
            }
            let called = |(score, _): &&(f32, bool)| *score >= threshold;
            CurvePoint {
                threshold,
                fpr: normal.iter().filter(called).count() as f64 / normal.len() as f64,
                tpr: defects.iter().filter(called).count() as f64 / defects.len() as f64,
                pro: overlap / regions as f64,
            }
        };
        let mut points = vec![at(f32::INFINITY)];
        points.extend(thresholds.into_iter().map(at));
        let pro = area(&points, limit, |point| point.pro);
        Some((pro, area(&points, 1.0, |point| point.tpr)))
    }

    proptest! {
        #[test]
        fn saturated_regions_are_measured_as_defined(
            images in with_given_regions(),
            limit in 0.01..=1.0_f64,
        ) {
            let pixels = ranked(&images);
            let ranking = Ranking::new([&pixels]);
            let found = ranking.au_pro(limit).zip(ranking.auroc());
            match (found, slow_saturated(&images, limit)) {
                (Some((pro, auroc)), Some((slow_pro, slow_auroc))) => {
                    prop_assert!((pro - slow_pro).abs() < 1e-9, "{pro} {slow_pro}");
                    prop_assert!((auroc - slow_auroc).abs() < 1e-9, "{auroc} {slow_auroc}");
                }
                (found, slow) => prop_assert!(found.is_none() && slow.is_none()),
            }
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
            assert_eq!(ranking.average_precision(), None);
            assert_eq!(ranking.best_f1(), None);
            assert_eq!(ranking.curve(0.0), None);
            assert_eq!(ranking.precision_recall(0.0), None);
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
        fn counting_from_the_end_equals_a_plain_count(mut keys in prop::collection::vec(0_u32..20, 0..80), key in 0_u32..21) {
            keys.sort_unstable();
            let slow = keys.iter().rev().take_while(|&&other| other > key).count();
            prop_assert_eq!(count_from_end(&keys, |other| other > key), slow);
        }
    }

    proptest! {
        #[test]
        fn equals_the_slow_twin(
            images in prop::collection::vec(image(), 1..4),
            split in 0_usize..4,
            limit in prop_oneof![Just(0.3), Just(0.05), Just(1.0), 0.01_f64..1.0],
            largest in 1_usize..12,
        ) {
            // Two parts taken together are the same as one.
            let (left, right) = images.split_at(split.min(images.len()));
            let parts = [ranked(left), ranked(right)];
            let ranking = Ranking::new(&parts);
            let any = |_| true;
            let small = |area| area < largest;
            let selections: [(&dyn Fn(usize) -> bool, Ranking<'_>); 3] = [
                (&any, ranking.clone()),
                (&small, ranking.of_regions(|area| small(area as usize))),
                // A selection of a selection.
                (&small, ranking.of_regions(|_| true).of_regions(|area| small(area as usize))),
            ];
            for (takes, ranking) in selections {
                let slow = slow_curve(&images, takes);
                let measures = ranking.measures(&[limit]);
                let expected = slow.as_ref().map(|(points, _)| area(points, limit, |point| point.pro));
                prop_assert!(close(ranking.au_pro(limit), expected));
                prop_assert_eq!(measures.au_pro, vec![ranking.au_pro(limit)]);
                let expected = slow.as_ref().map(|(points, _)| area(points, 1.0, |point| point.tpr));
                prop_assert!(close(ranking.auroc(), expected));
                prop_assert_eq!(measures.auroc, ranking.auroc());
                let expected = slow.as_ref().map(|(points, counts)| slow_precision(points, *counts));
                prop_assert!(close(ranking.average_precision(), expected.map(|slow| slow.0)));
                prop_assert_eq!(measures.average_precision, ranking.average_precision());
                let best = ranking.best_f1();
                prop_assert!(close(best.map(|best| best.f1), expected.map(|slow| slow.1)));
                prop_assert_eq!(best.map(|best| best.threshold), expected.map(|slow| slow.2));
                prop_assert_eq!(measures.best_f1, best);
            }

            let slow = slow_curve(&images, &any);
            let curve = ranking.curve(0.0);
            prop_assert_eq!(curve.is_some(), slow.is_some());
            if let (Some(curve), Some((slow, [defects, normal]))) = (curve, slow) {
                let same = |limit: f64| (area(&curve, limit, |p| p.pro) - area(&slow, limit, |p| p.pro)).abs();
                prop_assert!(same(1.0) < 1e-12 && same(limit) < 1e-12);
                // Every point is what thresholding there gives.
                for point in &curve[1..] {
                    let twin = slow.iter().find(|twin| twin.threshold == point.threshold).unwrap();
                    prop_assert!((twin.fpr - point.fpr).abs() < 1e-12);
                    prop_assert!((twin.tpr - point.tpr).abs() < 1e-12);
                    prop_assert!((twin.pro - point.pro).abs() < 1e-12);
                }
                let steps = ranking.precision_recall(0.0).unwrap();
                let last = PrecisionRecallPoint { recall: 0.0, ..steps[0] };
                let mut average = 0.0;
                for (last, point) in [last].iter().chain(&steps).zip(&steps) {
                    let twin = slow.iter().find(|twin| twin.threshold == point.threshold).unwrap();
                    let [found, called_good] = [twin.tpr * defects, twin.fpr * normal];
                    prop_assert!((point.recall - twin.tpr).abs() < 1e-12);
                    prop_assert!((point.precision - found / (found + called_good)).abs() < 1e-12);
                    average += (point.recall - last.recall) * point.precision;
                }
                prop_assert!(close(ranking.average_precision(), Some(average)));
                let thin = ranking.precision_recall(0.25).unwrap();
                prop_assert_eq!((thin[0], thin.last()), (steps[0], steps.last()));

                let thin = ranking.curve(0.25).unwrap();
                prop_assert!(thin.len() <= 3 * 4 + 2);
                prop_assert_eq!(thin[0], curve[0]);
                prop_assert_eq!(thin.last(), curve.last());
            }
        }
    }
}
