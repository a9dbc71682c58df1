//! Thresholds from good images alone, with a bound that holds for the next good image.
//!
//! If `n` good images and the next one come from the same source in random order, the next one scores
//! above the `k`-th smallest of the `n` scores with a probability of at most `(n + 1 - k) / (n + 1)`,
//! whatever the scores' distribution. For a wanted rate α that is `k = ⌈(n + 1)(1 - α)⌉`: split
//! conformal prediction (Vovk, Gammerman, Shafer, *Algorithmic Learning in a Random World*, 2005).
//!
//! Pixels of one image are neighbours, not random draws, so for them the same argument runs over whole images: the threshold is the
//! lowest whose share of pixels above it, summed over the `n` images, still allows a next image that lies above it entirely, `Σ share +
//! 1 ≤ α (n + 1)` (Angelopoulos et al., *Conformal Risk Control*, ICLR 2024). The expected share of the next good image is at most α
//! then. Where "share" is 0 or 1, as for whole images, both rules are the same.
//!
//! Few images can be left out in turn instead of being kept back: each image has its score from a model of other images. These models
//! are not the model that judges the next image, so the rate is an estimate and no bound (Vovk, "Cross-conformal predictors", 2015). For
//! the related method CV+, twice the rate is a bound (Barber, Candès, Ramdas, Tibshirani, "Predictive inference with the jackknife+",
//! 2021). `docs/explanation/thresholds.md` has what was measured.

use serde::{Deserialize, Serialize};

use crate::data::mask::Mask;
use crate::map::anomaly_map::AnomalyMap;

/// A share of good images, or of good pixels, that may be called defective: above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct RejectRate(f64);

/// A false-reject rate that is not a number between 0 and 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RateError {
    /// Not between 0 and 1.
    #[error(
        "a false-reject rate of {0} is out of range: choose one above 0 and below 1, as 1% or 0.01"
    )]
    Range(f64),
    /// Not a number.
    #[error("{0:?} is no false-reject rate: write it as 1% or 0.01")]
    Text(String),
}

impl RejectRate {
    /// Wraps a share.
    ///
    /// # Errors
    /// [`RateError::Range`] unless it lies above 0 and below 1.
    pub fn new(share: f64) -> Result<Self, RateError> {
        if share > 0.0 && share < 1.0 {
            Ok(Self(share))
        } else {
            Err(RateError::Range(share))
        }
    }

    /// The share, in `(0, 1)`.
    pub fn share(self) -> f64 {
        self.0
    }

    /// The fewest good images with which a bound of this rate can be given: `1 / α - 1`, rounded up.
    pub fn images_needed(self) -> usize {
        // Rounding must not make 1 / 0.01 - 1 into 100.
        (1.0 / self.0 - 1.0 - 1e-9).ceil().max(1.0) as usize
    }
}

impl TryFrom<f64> for RejectRate {
    type Error = RateError;

    fn try_from(share: f64) -> Result<Self, RateError> {
        Self::new(share)
    }
}

impl From<RejectRate> for f64 {
    fn from(rate: RejectRate) -> Self {
        rate.0
    }
}

impl std::str::FromStr for RejectRate {
    type Err = RateError;

    /// "1%", "0.5 %" or "0.01".
    fn from_str(text: &str) -> Result<Self, RateError> {
        let (number, unit) = match text.trim().strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        match number.trim().parse::<f64>() {
            Ok(number) => Self::new(number / unit),
            Err(_) => Err(RateError::Text(text.to_owned())),
        }
    }
}

impl std::fmt::Display for RejectRate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&percent(self.0))
    }
}

/// A share in percent with three significant digits, without zeros at the end.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = (2 - percent.log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{percent:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text} %")
}

/// A threshold and its promise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// What scores **above** this is called defective.
    pub value: f32,
    /// The false-reject rate that was asked for; `None`: none was. The threshold is the highest score then, or a score that a twentieth
    /// is above if the images were left out in turn.
    pub wanted: Option<RejectRate>,
    /// The rate that the next good image keeps to, in expectation, if it comes from where the
    /// calibration images came from. Above `wanted` if there were too few of them. An estimate if they were left out in turn.
    pub bound: f64,
}

/// The thresholds of a model, calibrated on good images alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// For an image's score, the maximum of its map.
    pub image: Threshold,
    /// For the score of a pixel: regions lie above it.
    pub pixel: Threshold,
    /// Number of good images that gave both thresholds.
    pub images: usize,
    /// In how many groups these images were left out in turn, each group scored by a model of the others; `None`: the model has learned
    /// from none of these images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
}

/// The share of images left out in turn that may score above the threshold if no rate is wanted: the highest of many such scores
/// would be that of the least usual image.
const USUAL_SHARE: f64 = 0.05;

/// The rates that thresholds are to keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WantedRates {
    /// Share of good images that may be called defective; `None`: the threshold is the highest score
    /// of a good image.
    pub images: Option<RejectRate>,
    /// Share of a good image's pixels that may lie above the pixel threshold; `None`: the pixel
    /// threshold is the image threshold, so that an image is defective exactly if a pixel is.
    pub pixels: Option<RejectRate>,
}

impl Thresholds {
    /// The highest of the scores of good images, for images and pixels: what a model has without any
    /// wanted rate. A bound of `1 / (n + 1)`.
    ///
    /// # Panics
    /// If there is no score: a programming error.
    pub fn highest(scores: &[f32]) -> Self {
        let image = image_threshold(scores, None);
        Self {
            image,
            pixel: image,
            images: scores.len(),
            groups: None,
        }
    }

    /// What a person should know before relying on them: each rate that the good images are too few
    /// for, with the number that it needs.
    pub fn warnings(&self) -> Vec<String> {
        let thresholds = [
            (self.image, "images", "image"),
            (self.pixel, "pixels", "pixel"),
        ];
        let missed = thresholds.into_iter().filter_map(|(threshold, many, one)| {
            let wanted = threshold.wanted.filter(|_| self.pixel_is_own() || one == "image")?;
            (self.images < wanted.images_needed()).then(|| {
                format!(
                    "a false-reject rate of {wanted} of the {many} needs at least {} good images, there are {}: \
                     the {one} threshold is their highest score, which promises {}",
                    wanted.images_needed(),
                    self.images,
                    percent(threshold.bound)
                )
            })
        });
        missed.collect()
    }

    /// What the image threshold promises, in words.
    pub fn promise(&self) -> String {
        let bound = self.image.bound;
        let (how_sure, evidence) = match self.groups {
            None => ("at most", "good images used"),
            Some(_) => ("about", "an estimate, good images left out in turn"),
        };
        format!(
            "{how_sure} {} of good parts are called defective on average, 1 in {:.0} ({evidence}: {})",
            percent(bound),
            1.0 / bound,
            self.images
        )
    }

    /// Whether pixels have a threshold of their own.
    pub fn pixel_is_own(&self) -> bool {
        self.pixel != self.image
    }
}

/// The `k`-th smallest score for `k = ⌈(n + 1)(1 - α)⌉`, or the highest if `k > n` or no rate α is given.
fn image_threshold(scores: &[f32], share: Option<f64>) -> Threshold {
    assert!(!scores.is_empty(), "thresholds come from good images");
    let count = scores.len();
    let mut sorted = scores.to_vec();
    sorted.sort_by(f32::total_cmp);
    let above = match share {
        None => 1,
        // ⌊(n + 1) α⌋ of the n + 1 may lie above; the nudge keeps 100 · 0.01 at 1.
        Some(share) => ((count as f64 + 1.0) * share + 1e-9).floor().max(1.0) as usize,
    };
    Threshold {
        value: sorted[count.saturating_sub(above).min(count - 1)],
        wanted: None,
        bound: above as f64 / (count as f64 + 1.0),
    }
}

/// Gathers the maps of good images, one by one, and finds thresholds. Of the pixels it keeps those
/// that the pixel threshold can still fall on: about the wanted share of them, 8 bytes each.
#[derive(Clone, Debug)]
pub struct Calibrator {
    wanted: WantedRates,
    groups: Option<usize>,
    scores: Vec<f32>,
    pixels: TopPixels,
}

impl Calibrator {
    /// For the maps of `images` good images that the model has not learned from. Each should have a pixel inside the mask: of fewer, the
    /// bound of the pixel threshold is that of a rate higher than wanted, which [`Threshold::bound`] says.
    pub fn new(wanted: WantedRates, images: usize) -> Self {
        Self::of_groups(wanted, images, None)
    }

    /// The same for good images that are left out in turn, in `groups` groups ([`Thresholds::groups`]).
    pub fn in_turn(wanted: WantedRates, images: usize, groups: usize) -> Self {
        Self::of_groups(wanted, images, Some(groups))
    }

    fn of_groups(wanted: WantedRates, images: usize, groups: Option<usize>) -> Self {
        let room = wanted.pixels.map_or(0.0, |rate| {
            // What the images themselves may have above the threshold, in images.
            (rate.share() * (images as f64 + 1.0) - 1.0).max(0.0)
        });
        Self {
            wanted,
            groups,
            scores: Vec::with_capacity(images.min(1 << 20)),
            pixels: TopPixels::new(room),
        }
    }

    /// Adds the map of a good image, at the size of the image; pixels outside `inspected` (those that
    /// the mask does not mark) do not count. An image without any pixel inside is passed over.
    ///
    /// # Panics
    /// If the mask has another size than the map: a programming error.
    pub fn add(&mut self, map: &AnomalyMap, inspected: Option<&Mask>) {
        let of_image: Vec<f32> = match inspected {
            None => map.scores().to_vec(),
            Some(mask) => {
                assert_eq!(
                    mask.defect().len(),
                    map.scores().len(),
                    "the size of the map"
                );
                let pixels = map.scores().iter().zip(mask.defect());
                pixels
                    .filter(|(_, inside)| **inside)
                    .map(|(&score, _)| score)
                    .collect()
            }
        };
        let Some(highest) = of_image.iter().copied().reduce(f32::max) else {
            return;
        };
        self.scores.push(highest);
        if self.wanted.pixels.is_some() {
            self.pixels.add(&of_image);
        }
    }

    /// The scores of the images added, in their order.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The thresholds; `None` if no image was added.
    pub fn finish(self) -> Option<Thresholds> {
        if self.scores.is_empty() {
            return None;
        }
        let count = self.scores.len();
        let wanted = self.wanted.images;
        let usual = self.groups.map(|_| USUAL_SHARE);
        let image = Threshold {
            wanted,
            ..image_threshold(&self.scores, wanted.map(RejectRate::share).or(usual))
        };
        let pixel = match self.wanted.pixels {
            None => image,
            Some(rate) => {
                let (value, share) = self.pixels.threshold();
                Threshold {
                    value,
                    wanted: Some(rate),
                    bound: ((share + 1.0) / (count as f64 + 1.0)).min(1.0),
                }
            }
        };
        Some(Thresholds {
            image,
            pixel,
            images: count,
            groups: self.groups,
        })
    }
}

/// The highest pixels of some images: as many as may lie above a threshold, and a few more.
#[derive(Clone, Debug)]
struct TopPixels {
    /// How much may lie above the threshold, in whole images.
    room: f64,
    /// Score, and the number of pixels of its image.
    kept: Vec<(f32, u32)>,
    /// How many were kept after the last clearing.
    cleared: usize,
}

impl TopPixels {
    fn new(room: f64) -> Self {
        Self {
            room,
            kept: Vec::new(),
            cleared: 0,
        }
    }

    fn add(&mut self, scores: &[f32]) {
        let size = u32::try_from(scores.len()).unwrap_or(u32::MAX);
        // What is below the lowest of a full room can never be the threshold.
        self.kept.extend(scores.iter().map(|&score| (score, size)));
        if self.kept.len() > 2 * self.cleared + scores.len() {
            self.clear();
        }
    }

    /// Sorts, and drops what lies below the threshold of the images so far: it can only rise.
    fn clear(&mut self) {
        self.kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (threshold, _) = self.lowest();
        let end = self.kept.partition_point(|pixel| pixel.0 >= threshold);
        self.kept.truncate(end);
        self.cleared = self.kept.len();
    }

    /// Of sorted pixels, the lowest score that has at most the room above it, and what it has above
    /// it, in images.
    fn lowest(&self) -> (f32, f64) {
        let mut above = 0.0;
        let mut at = 0;
        let mut best = (f32::NEG_INFINITY, 0.0);
        while at < self.kept.len() {
            let score = self.kept[at].0;
            best = (score, above);
            let tied = &self.kept[at..];
            let tied = &tied[..tied.partition_point(|pixel| pixel.0 >= score)];
            above += tied
                .iter()
                .map(|pixel| 1.0 / f64::from(pixel.1))
                .sum::<f64>();
            // Sums of 1 / size carry rounding; a thousandth of a pixel is none.
            if above > self.room + 1e-9 {
                break;
            }
            at += tied.len();
        }
        best
    }

    fn threshold(mut self) -> (f32, f64) {
        self.clear();
        self.lowest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(share: f64) -> RejectRate {
        RejectRate::new(share).unwrap()
    }

    #[test]
    fn rates_are_read_and_written() {
        for (text, share) in [
            ("1%", 0.01),
            ("0.5 %", 0.005),
            ("0.02", 0.02),
            (" 5%", 0.05),
        ] {
            assert!((text.parse::<RejectRate>().unwrap().share() - share).abs() < 1e-12);
        }
        for text in ["0", "0%", "100%", "1", "-1%", "NaN", "", "%", "one"] {
            assert!(text.parse::<RejectRate>().is_err(), "{text}");
        }
        for (share, text) in [
            (0.01, "1 %"),
            (0.001, "0.1 %"),
            (1.0 / 23.0, "4.35 %"),
            (0.5, "50 %"),
        ] {
            assert_eq!(rate(share).to_string(), text);
        }
        assert!(serde_json::from_str::<RejectRate>("1.5").is_err());
    }

    #[test]
    fn a_rate_needs_so_many_images() {
        for (share, images) in [
            (0.5, 1),
            (0.1, 9),
            (0.05, 19),
            (0.01, 99),
            (0.001, 999),
            (0.3, 3),
        ] {
            assert_eq!(rate(share).images_needed(), images, "{share}");
            // With them, the bound is the rate or below; with one fewer, it is not.
            for (count, holds) in [(images, true), (images - 1, false)] {
                let scores: Vec<f32> = (0..count).map(|at| at as f32).collect();
                if count > 0 {
                    let bound = image_threshold(&scores, Some(share)).bound;
                    assert_eq!(bound <= share + 1e-9, holds, "{share} {count}");
                }
            }
        }
    }

    #[test]
    fn images_left_out_in_turn_give_an_estimate_of_a_usual_share() {
        let found = |count: usize, wanted: Option<f64>| {
            let images = wanted.map(rate);
            let pixels = None;
            let mut calibrator = Calibrator::in_turn(WantedRates { images, pixels }, count, 3);
            for score in 0..count {
                calibrator.add(&AnomalyMap::new(1, 1, vec![score as f32]), None);
            }
            calibrator.finish().unwrap()
        };
        // Of 59 images, 60 · 5 % = 3 may lie above; of 30, none but the highest.
        let many = found(59, None);
        assert_eq!((many.image.value, many.image.bound), (56.0, 0.05));
        assert_eq!((many.pixel, many.groups), (many.image, Some(3)));
        assert_eq!(
            many.promise(),
            "about 5 % of good parts are called defective on average, 1 in 20 (an estimate, good images left out in turn: 59)"
        );
        assert_eq!(found(30, None).image.value, 29.0);
        assert_eq!(found(30, None).image.wanted, None);
        // A wanted rate counts as for images that were kept back.
        let wanted = found(59, Some(0.1));
        assert_eq!(
            (wanted.image.value, wanted.image.wanted),
            (53.0, Some(rate(0.1)))
        );
        let json = serde_json::to_value(wanted).unwrap();
        assert_eq!(json["groups"], 3);
        assert_eq!(serde_json::from_value::<Thresholds>(json).unwrap(), wanted);
        assert!(serde_json::to_value(Thresholds::highest(&[1.0])).unwrap()["groups"].is_null());
    }

    #[test]
    fn too_few_images_are_told_with_the_number_needed() {
        let mut calibrator = Calibrator::new(
            WantedRates {
                images: Some(rate(0.01)),
                pixels: Some(rate(0.2)),
            },
            3,
        );
        for score in [3.0, 9.0, 5.0] {
            calibrator.add(&AnomalyMap::new(2, 1, vec![score, 0.0]), None);
        }
        let thresholds = calibrator.finish().unwrap();
        assert_eq!((thresholds.image.value, thresholds.pixel.value), (9.0, 9.0));
        assert_eq!(thresholds.image.bound, 0.25);
        let warnings = thresholds.warnings();
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].contains("1 % of the images needs at least 99 good images, there are 3")
                && warnings[0].contains("25 %"),
            "{}",
            warnings[0]
        );
        assert!(warnings[1].contains("20 % of the pixels needs at least 4"));
        assert!(Thresholds::highest(&[1.0]).warnings().is_empty());
    }

    #[test]
    fn pixels_outside_the_mask_and_images_without_any_inside_do_not_count() {
        let mut calibrator = Calibrator::new(WantedRates::default(), 2);
        let map = AnomalyMap::new(2, 1, vec![7.0, 1.0]);
        calibrator.add(&map, Some(&Mask::new(2, 1, vec![false, true])));
        calibrator.add(&map, Some(&Mask::good(2, 1)));
        assert_eq!(calibrator.scores(), [1.0]);
        assert_eq!(calibrator.finish().unwrap(), Thresholds::highest(&[1.0]));
        assert!(
            Calibrator::new(WantedRates::default(), 0)
                .finish()
                .is_none()
        );
    }

    proptest! {
        /// The slow twin: every score is tried, from the definition.
        #[test]
        fn thresholds_are_the_lowest_that_keep_the_bound(
            images in proptest::collection::vec(
                (1usize..4, proptest::collection::vec(0u8..12, 6)), 1..12),
            share in 0.02f64..0.9,
        ) {
            let wanted = WantedRates { images: Some(rate(share)), pixels: Some(rate(share)) };
            let mut calibrator = Calibrator::new(wanted, images.len());
            let maps: Vec<Vec<f32>> = images.iter()
                .map(|(width, scores)| scores[..2 * width].iter().map(|&s| f32::from(s)).collect())
                .collect();
            for map in &maps {
                calibrator.add(&AnomalyMap::new(map.len() / 2, 2, map.clone()), None);
            }
            let found = calibrator.finish().unwrap();
            let next = maps.len() as f64 + 1.0;
            let twin = |loss: &dyn Fn(&[f32], f32) -> f64| {
                let mut tried: Vec<f32> = maps.iter().flatten().copied().collect();
                tried.sort_by(f32::total_cmp);
                let highest = tried[tried.len() - 1];
                let keeps = |t: &f32| {
                    maps.iter().map(|map| loss(map, *t)).sum::<f64>() + 1.0 <= share * next + 1e-9
                };
                tried.into_iter().find(keeps).unwrap_or(highest)
            };
            let pixels = |map: &[f32], t: f32| {
                map.iter().filter(|&&s| s > t).count() as f64 / map.len() as f64
            };
            let whole = |map: &[f32], t: f32| f64::from(map.iter().any(|&s| s > t));
            prop_assert_eq!(found.pixel.value, twin(&pixels));
            let lowest = twin(&whole);
            // Between two images' scores every threshold does the same; both name an image's.
            let above = |t: f32| maps.iter().map(|map| whole(map, t)).sum::<f64>();
            prop_assert_eq!(above(found.image.value), above(lowest));
            let enough = maps.len() >= rate(share).images_needed();
            prop_assert_eq!(found.pixel.bound <= share + 1e-9, enough);
            prop_assert_eq!(found.image.bound <= share + 1e-9, enough);
        }
    }
}
