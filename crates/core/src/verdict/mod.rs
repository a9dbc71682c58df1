//! One image judged: its score, whether it is defective, where, and why.

pub mod attribution;
pub mod calibration;
pub mod calibration_run;
pub mod region;

use serde::Serialize;

use crate::data::mask::Mask;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::SizeMismatch;
use crate::verdict::attribution::{Explained, Why};
use crate::verdict::region::{Region, Regions};

/// When an image is called defective, and what counts as a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// An image is defective if its score lies above this.
    pub image_threshold: f32,
    /// Regions are made of the pixels that score above this.
    pub pixel_threshold: f32,
    /// Regions of fewer pixels are left out; above 1, an image is defective only if one of the regions that
    /// remain has a peak above [`image_threshold`](Self::image_threshold).
    pub min_area: usize,
    /// The inspected pixels: those that the mask marks; `None`: all. It must mark at least one.
    pub inspected: Option<Mask>,
}

/// The judgement of an image by a [`Rule`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The maximum of the map over the inspected pixels; higher is more anomalous.
    pub score: f32,
    /// Whether the rule calls the image defective.
    pub defective: bool,
    /// The parts of the score at the pixel of the highest score; `None` (JSON `null`) if the detector cannot tell.
    pub why: Option<Why>,
    /// Highest peak first.
    pub regions: Vec<ExplainedRegion>,
}

/// A region and the parts of its scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExplainedRegion {
    /// The region.
    #[serde(flatten)]
    pub region: Region,
    /// The parts of the mean of its scores; `None` (JSON `null`) if the detector cannot tell.
    pub why: Option<Why>,
}

/// What the mask of a rule is called in a message about its size.
pub const INSPECTED: &str = "picture of the inspected pixels";

impl Rule {
    /// Whether an image is called defective: the verdict without regions and reasons.
    ///
    /// # Errors
    /// As [`Rule::judge`].
    pub fn is_defective(&self, map: &AnomalyMap) -> Result<bool, SizeMismatch> {
        Ok(self.decide(map)?.defective)
    }

    /// Judges an image by its map.
    ///
    /// # Errors
    /// [`SizeMismatch`] if the mask of inspected pixels has another size than the image.
    pub fn judge(&self, explained: &Explained) -> Result<Verdict, SizeMismatch> {
        let Decision {
            at,
            score,
            found,
            defective,
        } = self.decide(&explained.map)?;
        let mut at_highest = Vec::with_capacity(explained.parts.len());
        let mut in_regions = Vec::with_capacity(explained.parts.len());
        for part in &explained.parts {
            let of_part = part.map();
            at_highest.push(f64::from(of_part.scores()[at]));
            in_regions.push(found.means(of_part.scores()));
        }
        let parts = &explained.parts;
        let why = |values: &mut dyn Iterator<Item = f64>| {
            (!parts.is_empty()).then(|| Why::new(parts.iter().zip(values)))
        };
        let regions = found.regions.into_iter().enumerate();
        Ok(Verdict {
            score,
            defective,
            why: why(&mut at_highest.into_iter()),
            regions: regions
                .map(|(index, region)| ExplainedRegion {
                    region,
                    why: why(&mut in_regions.iter().map(|means| means[index])),
                })
                .collect(),
        })
    }

    fn decide(&self, map: &AnomalyMap) -> Result<Decision, SizeMismatch> {
        let inspected = self.inspected.as_ref();
        if let Some(mask) = inspected
            && mask.size() != map.size()
        {
            return Err(SizeMismatch {
                image: map.size(),
                what: INSPECTED,
                other: mask.size(),
            });
        }
        let is_inspected = |at: usize| inspected.is_none_or(|mask| mask.defect()[at]);
        let pixels = map.scores().iter().copied().enumerate();
        let highest = pixels
            .filter(|&(at, _)| is_inspected(at))
            .reduce(|best, next| if next.1 > best.1 { next } else { best });
        let (at, score) = highest.unwrap_or((0, f32::NEG_INFINITY));
        let found = Regions::find(map, self.pixel_threshold, inspected, self.min_area);
        let is_large = |region: &Region| region.peak > self.image_threshold;
        let defective = score > self.image_threshold
            && (self.min_area <= 1 || found.regions.iter().any(is_large));
        Ok(Decision {
            at,
            score,
            found,
            defective,
        })
    }
}

/// What decides over an image.
struct Decision {
    /// The place of the highest inspected score.
    at: usize,
    score: f32,
    found: Regions,
    defective: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::attribution::Part;

    fn explained(scores: &[f32; 5]) -> Explained {
        let map = |share: f32| {
            let scores = scores.iter().map(|score| score * share).collect();
            let map = AnomalyMap::new(5, 1, scores);
            move || map.clone()
        };
        Explained {
            map: map(1.0)(),
            parts: vec![
                Part::new("33", "error", map(0.75)),
                Part::new("33", "variance", map(0.25)),
            ],
        }
    }

    fn rule() -> Rule {
        Rule {
            image_threshold: 5.0,
            pixel_threshold: 3.0,
            min_area: 1,
            inspected: None,
        }
    }

    #[test]
    fn score_verdict_regions_and_shares() {
        let image = explained(&[0.0, 4.0, 8.0, 0.0, 4.0]);
        let verdict = rule().judge(&image).unwrap();
        assert_eq!((verdict.score, verdict.defective), (8.0, true));
        assert_eq!(verdict.why.unwrap().terms["error"].score, 6.0);
        let [first, second] = &verdict.regions[..] else {
            panic!("two regions");
        };
        assert_eq!((first.region.area, second.region.area), (2, 1));
        assert_eq!(first.why.as_ref().unwrap().scales["33"].score, 6.0);
        assert_eq!(
            first.why.as_ref().unwrap().terms["variance"].share,
            Some(0.25)
        );
        // A threshold is not above itself.
        let at = Rule {
            image_threshold: 8.0,
            ..rule()
        };
        assert!(!at.judge(&image).unwrap().defective);
    }

    #[test]
    fn small_regions_and_pixels_outside_make_no_image_defective() {
        let image = explained(&[0.0, 4.0, 8.0, 0.0, 4.0]);
        let small = Rule {
            min_area: 3,
            ..rule()
        }
        .judge(&image)
        .unwrap();
        assert_eq!(
            (small.score, small.defective, small.regions.len()),
            (8.0, false, 0)
        );
        let mask = Mask::new(5, 1, vec![true, true, false, true, true]);
        let apart = Rule {
            inspected: Some(mask),
            ..rule()
        }
        .judge(&image)
        .unwrap();
        assert_eq!(
            (apart.score, apart.defective, apart.regions.len()),
            (4.0, false, 2)
        );
        let other = Rule {
            inspected: Some(Mask::good(4, 1)),
            ..rule()
        };
        let error = other.judge(&image).unwrap_err().to_string();
        assert!(error.contains("5×1") && error.contains("4×1"), "{error}");
    }

    #[test]
    fn without_parts_there_is_no_why() {
        let image = Explained {
            map: AnomalyMap::new(1, 1, vec![9.0]),
            parts: Vec::new(),
        };
        let verdict = rule().judge(&image).unwrap();
        assert_eq!(verdict.why, None);
        assert_eq!(verdict.regions[0].why, None);
    }
}
