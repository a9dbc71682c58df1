//! Why other tools' numbers differ: each reason of `docs/explanation/evaluation.md` on one small data set.
//!
//! `oracle/make_differences.py` stored the numbers. Ours are computed by the library, the others by the plainest
//! code that follows the other convention; both must be the stored ones, and stand in the document's table.

use std::collections::BTreeMap;
use std::path::Path;

use pupilla_core::data::mask::Mask;
use pupilla_core::evaluate::{Evaluation, Evaluator};
use pupilla_core::map::anomaly_map::AnomalyMap;
use serde::Deserialize;

const LIMIT: f64 = 0.3;
const SIDE: usize = 16;

#[derive(Deserialize)]
struct Stored {
    images: Vec<Image>,
    reasons: BTreeMap<String, [f64; 2]>,
}

#[derive(Clone, Deserialize)]
struct Image {
    width: usize,
    height: usize,
    defect: Option<String>,
    scores: Vec<f32>,
    mask: Vec<u8>,
}

impl Image {
    fn defect_at(&self, at: usize) -> bool {
        self.mask[at] > 0
    }
}

fn evaluate(images: &[Image]) -> Evaluation {
    evaluate_to(images, LIMIT)
}

fn evaluate_to(images: &[Image], limit: f64) -> Evaluation {
    let mut evaluator = Evaluator::new(limit, 0).unwrap();
    for image in images {
        let map = AnomalyMap::new(image.width, image.height, image.scores.clone());
        let defect = (0..image.mask.len()).map(|at| image.defect_at(at));
        let mask = Mask::new(image.width, image.height, defect.collect());
        let defect = image.defect.as_deref();
        evaluator.add("image", defect, &map, &mask).unwrap();
    }
    evaluator.finish()
}

fn au_pro(images: &[Image]) -> f64 {
    evaluate(images).pixel.au_pro.unwrap()
}

/// The same images with other scores.
fn rescored(images: &[Image], score: impl Fn(&Image, f32) -> f32) -> Vec<Image> {
    let image = |image: &Image| Image {
        scores: image
            .scores
            .iter()
            .map(|&value| score(image, value))
            .collect(),
        ..image.clone()
    };
    images.iter().map(image).collect()
}

fn range<'a>(scores: impl Iterator<Item = &'a f32> + Clone) -> (f32, f32) {
    let lowest = scores.clone().copied().fold(f32::INFINITY, f32::min);
    (lowest, scores.copied().fold(f32::NEG_INFINITY, f32::max))
}

fn all_scores(images: &[Image]) -> Vec<f32> {
    images
        .iter()
        .flat_map(|image| image.scores.clone())
        .collect()
}

/// Every distinct score, falling.
fn thresholds(images: &[Image]) -> Vec<f32> {
    let mut scores = all_scores(images);
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup();
    scores
}

/// Pixels of one region: which image, and where in it.
type Region = (usize, Vec<usize>);

/// The connected components, across corners or not.
fn regions(images: &[Image], corners: bool) -> Vec<Region> {
    let mut found = Vec::new();
    for (number, image) in images.iter().enumerate() {
        let mut seen = vec![false; image.mask.len()];
        for first in 0..image.mask.len() {
            if !image.defect_at(first) || seen[first] {
                continue;
            }
            seen[first] = true;
            let mut region = vec![first];
            let mut next = 0;
            while next < region.len() {
                let (row, column) = (region[next] / image.width, region[next] % image.width);
                next += 1;
                for (other, seen) in seen.iter_mut().enumerate() {
                    let down = (other / image.width).abs_diff(row);
                    let across = (other % image.width).abs_diff(column);
                    let touches = down <= 1 && across <= 1 && (corners || down + across == 1);
                    if touches && image.defect_at(other) && !*seen {
                        *seen = true;
                        region.push(other);
                    }
                }
            }
            found.push((number, region));
        }
    }
    found
}

/// False-positive rate and each region's overlap at some thresholds.
fn overlaps(images: &[Image], regions: &[Region], thresholds: &[f32]) -> Vec<(f64, Vec<f64>)> {
    let at = |&threshold: &f32| {
        let (mut called, mut normal) = (0, 0);
        for image in images {
            for at in (0..image.mask.len()).filter(|&at| !image.defect_at(at)) {
                normal += 1;
                called += i32::from(image.scores[at] >= threshold);
            }
        }
        let overlap = |(number, pixels): &Region| {
            let scores = &images[*number].scores;
            let found = pixels.iter().filter(|&&at| scores[at] >= threshold);
            found.count() as f64 / pixels.len() as f64
        };
        let overlaps = regions.iter().map(overlap).collect();
        (f64::from(called) / f64::from(normal), overlaps)
    };
    thresholds.iter().map(at).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// From (0, 0) through the means of the overlaps.
fn curve(points: Vec<(f64, Vec<f64>)>, mean: impl Fn(&[f64]) -> f64) -> Vec<(f64, f64)> {
    let points = points
        .into_iter()
        .map(|(fpr, overlaps)| (fpr, mean(&overlaps)));
    std::iter::once((0.0, 0.0)).chain(points).collect()
}

/// The area under straight lines, all of them.
fn trapezoids(points: &[(f64, f64)]) -> f64 {
    let areas = points
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0);
    areas.sum()
}

/// Up to the limit, interpolated there, and divided by it.
fn area(points: &[(f64, f64)]) -> f64 {
    let mut cut: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(x0, y0)) = cut.last()
            && x > LIMIT
        {
            if x0 < LIMIT {
                cut.push((LIMIT, y0 + (y - y0) * (LIMIT - x0) / (x - x0)));
            }
            break;
        }
        cut.push((x, y));
    }
    trapezoids(&cut) / LIMIT
}

fn twenty_thresholds(images: &[Image]) -> f64 {
    let (lowest, highest) = range(all_scores(images).iter());
    let steps: Vec<f32> = (0..20_u8)
        .map(|step| highest - (highest - lowest) * f32::from(step) / 19.0)
        .collect();
    area(&curve(
        overlaps(images, &regions(images, true), &steps),
        mean,
    ))
}

fn rescaled_axis(images: &[Image]) -> f64 {
    let points = overlaps(images, &regions(images, true), &thresholds(images));
    let kept: Vec<_> = curve(points, mean)
        .into_iter()
        .filter(|point| point.0 <= LIMIT)
        .collect();
    trapezoids(&kept) / kept.last().unwrap().0
}

fn mean_per_image(images: &[Image]) -> f64 {
    let regions = regions(images, true);
    let mean_of_means = |overlaps: &[f64]| {
        let mut by_image: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for ((number, _), &overlap) in regions.iter().zip(overlaps) {
            by_image.entry(*number).or_default().push(overlap);
        }
        mean(&by_image.values().map(|some| mean(some)).collect::<Vec<_>>())
    };
    let points = overlaps(images, &regions, &thresholds(images));
    area(&curve(points, mean_of_means))
}

fn four_connected(images: &[Image]) -> f64 {
    let points = overlaps(images, &regions(images, false), &thresholds(images));
    area(&curve(points, mean))
}

fn half_size(images: &[Image]) -> f64 {
    let half = |image: &Image| {
        let corners = (0..SIDE / 2).flat_map(|row| (0..SIDE / 2).map(move |column| (row, column)));
        let corners = corners.map(|(row, column)| 2 * row * SIDE + 2 * column);
        let block = |at: usize| [at, at + 1, at + SIDE, at + SIDE + 1];
        let score = |at| mean(&block(at).map(|at| f64::from(image.scores[at]))) as f32;
        Image {
            width: SIDE / 2,
            height: SIDE / 2,
            defect: image.defect.clone(),
            scores: corners.clone().map(score).collect(),
            mask: corners.map(|at| image.mask[at]).collect(),
        }
    };
    au_pro(&images.iter().map(half).collect::<Vec<_>>())
}

/// Every pixel a threshold of its own, equal scores in the order of the files.
fn ties_apart(images: &[Image]) -> f64 {
    let regions = regions(images, true);
    let mut gain: Vec<Vec<f64>> = images
        .iter()
        .map(|image| vec![0.0; image.mask.len()])
        .collect();
    for (number, pixels) in &regions {
        for &at in pixels {
            gain[*number][at] = 1.0 / pixels.len() as f64 / regions.len() as f64;
        }
    }
    let mut pixels: Vec<(f32, f64)> = all_scores(images).into_iter().zip(gain.concat()).collect();
    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let normal = pixels.iter().filter(|pixel| pixel.1 == 0.0).count() as f64;
    let (mut called, mut pro) = (0.0, 0.0);
    let mut points = vec![(0.0, 0.0)];
    for (_, gain) in pixels {
        pro += gain;
        called += f64::from(u8::from(gain == 0.0));
        points.push((called / normal, pro));
    }
    area(&points)
}

/// To the nearest of 256 levels between the lowest and the highest score.
fn to_levels(images: &[Image]) -> Vec<Image> {
    let (lowest, highest) = range(all_scores(images).iter());
    let scale = 255.0 / (f64::from(highest) - f64::from(lowest));
    rescored(images, |_, score| {
        ((f64::from(score) - f64::from(lowest)) * scale + 0.5).floor() as f32
    })
}

fn each_by_itself(images: &[Image]) -> Vec<Image> {
    rescored(images, |image, score| {
        let (lowest, highest) = range(image.scores.iter());
        let [lowest, highest, score] = [lowest, highest, score].map(f64::from);
        ((score - lowest) / (highest - lowest)) as f32
    })
}

/// Masks with a soft edge: where a pixel touches a defect by its side, "above 0" takes it too.
fn soft_masks(images: &[Image]) -> Vec<Image> {
    let soften = |image: &Image| {
        let touches = |at: usize| {
            let near = |other: usize| {
                let down = (other / SIDE).abs_diff(at / SIDE);
                let across = (other % SIDE).abs_diff(at % SIDE);
                down + across <= 1 && image.defect_at(other)
            };
            u8::from((0..SIDE * SIDE).any(near))
        };
        Image {
            mask: (0..SIDE * SIDE).map(touches).collect(),
            ..image.clone()
        }
    };
    images.iter().map(soften).collect()
}

fn mean_as_image_score(images: &[Image]) -> f64 {
    let one_pixel = |image: &Image| {
        let scores: Vec<f64> = image.scores.iter().map(|&score| f64::from(score)).collect();
        Image {
            width: 1,
            height: 1,
            defect: image.defect.clone(),
            scores: vec![mean(&scores) as f32],
            mask: vec![u8::from(image.defect.is_some())],
        }
    };
    let images: Vec<_> = images.iter().map(one_pixel).collect();
    evaluate(&images).image.auroc.unwrap()
}

fn mean_of_pixel_aurocs(images: &[Image]) -> f64 {
    let defective = images.iter().filter(|image| image.defect.is_some());
    let aurocs: Vec<f64> = defective
        .map(|image| evaluate(std::slice::from_ref(image)).pixel.auroc.unwrap())
        .collect();
    mean(&aurocs)
}

/// Straight lines between the points of precision and recall.
fn precision_by_trapezoids(images: &[Image]) -> f64 {
    let mut points = vec![(0.0, 1.0)];
    let defects = images
        .iter()
        .flat_map(|image| &image.mask)
        .filter(|&&m| m > 0)
        .count() as f64;
    for threshold in thresholds(images) {
        let (mut found, mut called) = (0.0, 0.0);
        for image in images {
            for (at, &score) in image.scores.iter().enumerate() {
                if score >= threshold {
                    called += 1.0;
                    found += f64::from(u8::from(image.defect_at(at)));
                }
            }
        }
        points.push((found / defects, found / called));
    }
    trapezoids(&points)
}

#[test]
fn every_reason_is_shown_and_stands_in_the_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stored = std::fs::read(root.join("tests/oracle/differences.json")).unwrap();
    let Stored { images, reasons } = serde_json::from_slice(&stored).unwrap();
    let images = &images[..];
    let whole = evaluate(images);
    let ours = whole.pixel.au_pro.unwrap();
    let types: Vec<f64> = whole
        .per_defect
        .values()
        .map(|defect| defect.pixel.au_pro.unwrap())
        .collect();
    let defective: Vec<Image> = images
        .iter()
        .filter(|image| image.defect.is_some())
        .cloned()
        .collect();
    let coarse = rescored(images, |_, score| (score * 2.0 + 0.5).floor() / 2.0);
    let found = [
        ("thresholds", ours, twenty_thresholds(images)),
        ("axis", ours, rescaled_axis(images)),
        (
            "limit",
            ours,
            evaluate_to(images, 1.0).pixel.au_pro.unwrap(),
        ),
        ("image mean", ours, mean_per_image(images)),
        ("type mean", ours, mean(&types)),
        ("connectivity", ours, four_connected(images)),
        ("size", ours, half_size(images)),
        ("good images", ours, au_pro(&defective)),
        ("ties", au_pro(&coarse), ties_apart(&coarse)),
        ("levels", ours, au_pro(&to_levels(images))),
        ("normalisation", ours, au_pro(&each_by_itself(images))),
        ("mask threshold", au_pro(&soft_masks(images)), ours),
        (
            "image score",
            whole.image.auroc.unwrap(),
            mean_as_image_score(images),
        ),
        (
            "pixel mean",
            whole.pixel.auroc.unwrap(),
            mean_of_pixel_aurocs(images),
        ),
        (
            "precision",
            whole.pixel.ap.unwrap(),
            precision_by_trapezoids(images),
        ),
    ];
    assert_eq!(found.len(), reasons.len());
    let document =
        std::fs::read_to_string(root.join("../../docs/explanation/evaluation.md")).unwrap();
    for (name, ours, other) in found {
        let stored = reasons[name];
        assert!(
            (ours - stored[0]).abs() < 1e-12,
            "{name}: {ours}, {stored:?}"
        );
        assert!(
            (other - stored[1]).abs() < 1e-9,
            "{name}: {other}, {stored:?}"
        );
        assert!((ours - other).abs() > 1e-4, "{name} shows no difference");
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| **{name}**")));
        let numbers = format!("| {ours:.4} | {other:.4} |");
        assert!(
            row.is_some_and(|row| row.ends_with(&numbers)),
            "{name}: {numbers}"
        );
    }
}
