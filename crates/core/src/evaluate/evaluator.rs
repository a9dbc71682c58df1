//! How an [`Evaluation`] is gathered, image by image.

use crate::image::Size;
use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{
    Curves, DefectEvaluation, Evaluation, ImageEvaluation, ImageMeasures, PixelMeasures,
    RegionSize, RegionSizeEvaluation, SMALL_FPR_LIMIT,
};
use crate::data::mask::Mask;
use crate::map::anomaly_map::AnomalyMap;
use crate::metrics::{Measures, NotFinite, PixelScores, RankedPixels, Ranking};

/// Why a test set could not be evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    /// The false-positive-rate limit is not in `(0, 1]`.
    #[error("the false-positive-rate limit is {0}; it must be above 0 and at most 1")]
    FprLimit(f64),
    /// A map has a NaN or an infinite score.
    #[error("the anomaly map of {image} is not finite: {source}")]
    NotFinite {
        /// The image.
        image: String,
        /// Where.
        source: NotFinite,
    },
    /// A map and the mask it is compared with differ in size.
    #[error("{image}: the anomaly map is {map_size} pixels, the mask {mask_size}")]
    Size {
        /// The image.
        image: String,
        /// Width and height of the map.
        map_size: Size,
        /// Width and height of the mask.
        mask_size: Size,
    },
    /// The mask of a good image marks a defect.
    #[error("{image} is a good image, but its mask marks {pixels} pixels as defective")]
    GoodImageWithDefect {
        /// The image.
        image: String,
        /// The defective pixels of its mask.
        pixels: usize,
    },
}

/// The images of one defect type, or the good ones.
#[derive(Debug, Default)]
struct Group {
    pixels: PixelScores,
    scores: Vec<f32>,
}

/// Gathers an [`Evaluation`] image by image; keeps 4 bytes a normal and 8 bytes a defective pixel.
#[derive(Debug)]
pub struct Evaluator {
    fpr_limit: f64,
    mask_threshold: u8,
    curve_spacing: Option<f64>,
    good: Group,
    defects: BTreeMap<String, Group>,
    /// Masks of defective images, and those of them that have grey levels.
    masks: usize,
    grey_masks: usize,
    /// Of these masks, those that mark more than half of their image, and those whose marks lie in the alpha channel.
    mostly_marked: usize,
    in_alpha: usize,
    /// Defective images whose defect's place is not known.
    without_mask: Vec<String>,
    /// Whether a mask names its regions.
    saturated: bool,
    warnings: Vec<String>,
    per_image: Vec<ImageEvaluation>,
}

/// A test image, reduced to the numbers that an [`Evaluator`] keeps of its map and mask.
#[derive(Debug)]
pub struct ScoredImage {
    name: String,
    defect: Option<String>,
    score: f32,
    pixels: PixelScores,
    /// `None` if the place of the defect is not known.
    mask: Option<MaskNotes>,
}

/// What a person should know of a mask.
#[derive(Debug)]
struct MaskNotes {
    blank: bool,
    grey: bool,
    mostly_marked: bool,
    in_alpha: bool,
    names_regions: bool,
}

impl ScoredImage {
    /// Takes in a test image: its name, its defect type (`None` for a good image), its anomaly map at the image's size, and its mask
    /// (`None` if the place of the defect is not known: the pixels are not measured then).
    /// This is most of the work of [`Evaluator::add`], and does not depend on the order of the images.
    ///
    /// # Errors
    /// As [`Evaluator::add`].
    pub fn new<'m>(
        name: &str,
        defect: Option<&str>,
        map: &AnomalyMap,
        mask: impl Into<Option<&'m Mask>>,
    ) -> Result<Self, EvaluationError> {
        let image = || name.to_owned();
        let not_finite = |source| EvaluationError::NotFinite {
            image: image(),
            source,
        };
        let mut scored = Self {
            name: image(),
            defect: defect.map(str::to_owned),
            score: map.image_score(),
            pixels: PixelScores::new(),
            mask: None,
        };
        let Some(mask) = mask.into() else {
            NotFinite::check(map).map_err(not_finite)?;
            return Ok(scored);
        };
        let (map_size, mask_size) = (map.size(), mask.size());
        if map_size != mask_size {
            return Err(EvaluationError::Size {
                image: image(),
                map_size,
                mask_size,
            });
        }
        let blank = mask.is_blank();
        if defect.is_none() && !blank {
            return Err(EvaluationError::GoodImageWithDefect {
                image: image(),
                pixels: mask.defect().iter().filter(|&&defect| defect).count(),
            });
        }
        scored.pixels.add(map, mask).map_err(not_finite)?;
        scored.mask = Some(MaskNotes {
            blank,
            grey: mask.grey_pixels() > 0,
            mostly_marked: mask.marked_share() > 0.5,
            in_alpha: mask.lies_in_alpha(),
            names_regions: !mask.given_regions().is_empty(),
        });
        Ok(scored)
    }
}

impl Evaluator {
    /// An evaluator that integrates PRO up to `fpr_limit` (usually 0.3). `mask_threshold` is what
    /// the masks were read with ([`Mask::read`]); it is only recorded here.
    ///
    /// # Errors
    /// [`EvaluationError::FprLimit`] unless `fpr_limit` is in `(0, 1]`.
    pub fn new(fpr_limit: f64, mask_threshold: u8) -> Result<Self, EvaluationError> {
        if !(fpr_limit > 0.0 && fpr_limit <= 1.0) {
            return Err(EvaluationError::FprLimit(fpr_limit));
        }
        Ok(Self {
            fpr_limit,
            mask_threshold,
            curve_spacing: None,
            good: Group::default(),
            defects: BTreeMap::new(),
            masks: 0,
            grey_masks: 0,
            mostly_marked: 0,
            in_alpha: 0,
            without_mask: Vec::new(),
            saturated: false,
            warnings: Vec::new(),
            per_image: Vec::new(),
        })
    }

    /// Fills [`Evaluation::curves`] too, with points that lie at least `spacing` apart (0.002 is enough for
    /// a plot, 0 keeps every corner: as many points as pixels).
    #[must_use]
    pub fn with_curves(mut self, spacing: f64) -> Self {
        self.curve_spacing = Some(spacing);
        self
    }

    /// Adds a test image: its name, its defect type (`None` for a good image), its anomaly map at
    /// the image's size, and its mask ([`Mask::good`] for a good image, `None` if the place of the defect is not known).
    ///
    /// A defective image with a blank mask is taken, with a warning: the image counts as
    /// defective, its pixels as normal, as in MVTec's evaluation.
    ///
    /// # Errors
    /// [`EvaluationError`] if the map is not finite, the sizes differ, or a good image's mask marks
    /// a defect; the image is not added then.
    pub fn add<'m>(
        &mut self,
        image: &str,
        defect: Option<&str>,
        map: &AnomalyMap,
        mask: impl Into<Option<&'m Mask>>,
    ) -> Result<(), EvaluationError> {
        self.add_scored(ScoredImage::new(image, defect, map, mask)?);
        Ok(())
    }

    /// Adds an image that [`ScoredImage::new`] has made, perhaps on another thread.
    pub fn add_scored(&mut self, image: ScoredImage) {
        let group = match &image.defect {
            None => &mut self.good,
            Some(kind) => self.defects.entry(kind.clone()).or_default(),
        };
        group.pixels.append(image.pixels);
        group.scores.push(image.score);
        if let Some(kind) = &image.defect {
            let notes = image.mask.as_ref();
            let count = |note: fn(&MaskNotes) -> bool| usize::from(notes.is_some_and(note));
            self.masks += count(|_| true);
            self.grey_masks += count(|mask| mask.grey);
            self.mostly_marked += count(|mask| mask.mostly_marked);
            self.in_alpha += count(|mask| mask.in_alpha);
            self.saturated |= notes.is_some_and(|mask| mask.names_regions);
            if notes.is_none() {
                self.without_mask.push(image.name.clone());
            }
            if notes.is_some_and(|mask| mask.blank && !mask.in_alpha) {
                self.warnings.push(format!(
                    "{}: its mask has no pixel above {}; the image counts as defective ({kind}), \
                     its pixels as normal",
                    image.name, self.mask_threshold
                ));
            }
        }
        self.per_image.push(ImageEvaluation {
            path: image.name,
            defect: image.defect,
            score: image.score,
        });
    }

    /// The images added so far.
    pub fn images(&self) -> usize {
        self.per_image.len()
    }

    /// Computes every measure. [`Evaluation::seconds_per_image`] is left to the caller.
    pub fn finish(mut self) -> Evaluation {
        self.warn_of_the_whole();
        let good = self.good.pixels.rank();
        let good_scores = &self.good.scores;
        let defects: Vec<(String, RankedPixels, Vec<f32>)> = self
            .defects
            .into_iter()
            .map(|(kind, group)| (kind, group.pixels.rank(), group.scores))
            .collect();
        let everything = Ranking::new(defects.iter().map(|defect| &defect.1).chain([&good]));
        let limits = [self.fpr_limit, SMALL_FPR_LIMIT];

        let whole = || everything.measures(&limits);
        let saturated = self.saturated;
        let sizes = || -> Vec<RegionSizeEvaluation> {
            if saturated {
                return Vec::new();
            }
            let classes = RegionSize::ALL.par_iter();
            let measured = classes.map(|&size| {
                let ranking = everything.of_regions(|area| size.holds(area));
                RegionSizeEvaluation {
                    size,
                    regions: ranking.regions(),
                    pixel: ranking.measures(&limits).into(),
                }
            });
            measured.collect()
        };
        let types = || -> BTreeMap<String, DefectEvaluation> {
            let types = defects.par_iter().map(|(kind, pixels, scores)| {
                let ranking = Ranking::new([pixels, &good]);
                let images = RankedPixels::of_scores(good_scores, scores);
                let evaluation = DefectEvaluation {
                    images: scores.len(),
                    regions: ranking.regions(),
                    pixel: ranking.measures(&limits).into(),
                    image: Ranking::new([&images]).measures(&[]).into(),
                };
                (kind.clone(), evaluation)
            });
            types.collect()
        };
        let (pixels, (per_region_size, per_defect)) =
            rayon::join(whole, || rayon::join(sizes, types));

        let defective: Vec<f32> = defects
            .iter()
            .flat_map(|defect| defect.2.iter().copied())
            .collect();
        let image_scores = RankedPixels::of_scores(good_scores, &defective);
        let image_ranking = Ranking::new([&image_scores]);
        let curves = self.curve_spacing.map(|spacing| Curves {
            spacing,
            pixels: everything.curve(spacing),
            pixel_precision_recall: everything.precision_recall(spacing),
            images: image_ranking.curve(spacing),
            image_precision_recall: image_ranking.precision_recall(spacing),
        });
        Evaluation {
            pixel: pixels.into(),
            image: image_ranking.measures(&[]).into(),
            per_defect,
            per_region_size,
            confusion: None,
            images: self.per_image.len(),
            regions: everything.regions(),
            saturated,
            seconds_per_image: None,
            fpr_limit: self.fpr_limit,
            mask_threshold: self.mask_threshold,
            warnings: self.warnings,
            curves,
            per_image: self.per_image,
        }
    }

    /// Adds the warnings that concern no single image.
    fn warn_of_the_whole(&mut self) {
        if self.grey_masks > 0 {
            self.warnings.push(format!(
                "{} of {} masks have grey levels: a pixel above {} (of 255) counts as defective; \
                 another mask threshold gives other figures",
                self.grey_masks, self.masks, self.mask_threshold
            ));
        }
        if self.in_alpha > 0 {
            self.warnings.push(format!(
                "the marks of {} of {} masks lie in the alpha channel, which is not read: the measures of pixels are wrong",
                self.in_alpha, self.masks
            ));
        } else if self.mostly_marked > 0 {
            self.warnings.push(format!(
                "{} of {} masks mark more than half of their image: if black and white are exchanged, the measures of pixels are wrong",
                self.mostly_marked, self.masks
            ));
        }
        if let Some(first) = self.without_mask.first() {
            let (without, first) = (self.without_mask.len(), first.clone());
            self.warnings.push(if self.masks == 0 {
                "no defective image has a mask: the measures of pixels are undefined".to_owned()
            } else {
                format!(
                    "{without} of {} defective images have no mask, the first is {first}: their pixels are not measured",
                    without + self.masks
                )
            });
        }
        let lacking = if self.good.scores.is_empty() {
            "good"
        } else if self.defects.is_empty() {
            "defective"
        } else {
            return;
        };
        if !self.per_image.is_empty() {
            self.warnings.push(format!(
                "there is no {lacking} image among the {}: measures that need one are undefined",
                self.per_image.len()
            ));
        }
    }
}

/// The measures of a ranking with the limits of AU-PRO: the evaluation's own, then [`SMALL_FPR_LIMIT`].
impl From<Measures> for PixelMeasures {
    fn from(measures: Measures) -> Self {
        Self {
            au_pro: measures.au_pro[0],
            au_pro_05: measures.au_pro[1],
            auroc: measures.auroc,
            ap: measures.average_precision,
            f1: measures.best_f1.map(|best| best.f1),
            f1_threshold: measures.best_f1.map(|best| best.threshold),
        }
    }
}

impl From<Measures> for ImageMeasures {
    fn from(measures: Measures) -> Self {
        Self {
            auroc: measures.auroc,
            ap: measures.average_precision,
            f1: measures.best_f1.map(|best| best.f1),
            f1_threshold: measures.best_f1.map(|best| best.threshold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(scores: &[f32]) -> AnomalyMap {
        AnomalyMap::new(scores.len(), 1, scores.to_vec())
    }

    fn mask(defect: &[u8]) -> Mask {
        Mask::new(defect.len(), 1, defect.iter().map(|&d| d > 0).collect())
    }

    #[test]
    fn types_are_measured_against_the_good_images_only() {
        let mut evaluator = Evaluator::new(1.0, 0).unwrap();
        let mut add = |image: &str, defect, scores: &[f32], truth: &[u8]| {
            evaluator
                .add(image, defect, &map(scores), &mask(truth))
                .unwrap();
        };
        add("good/0", None, &[1.0, 2.0, 1.0, 0.0], &[0, 0, 0, 0]);
        add(
            "crack/0",
            Some("crack"),
            &[9.0, 8.0, 0.0, 0.0],
            &[1, 1, 0, 0],
        );
        // The hole is missed, and its image has a false alarm that no crack is beaten by.
        add(
            "hole/0",
            Some("hole"),
            &[7.0, 0.0, -1.0, 0.0],
            &[0, 0, 1, 0],
        );
        add("hole/1", Some("hole"), &[0.0, 0.0, 0.0, 0.0], &[0, 0, 0, 0]);
        let result = evaluator.finish();
        let crack = &result.per_defect["crack"];
        assert_eq!((crack.images, crack.regions), (1, 1));
        assert_eq!(crack.pixel.au_pro, Some(1.0));
        assert_eq!(crack.pixel.auroc, Some(1.0));
        assert_eq!(crack.image.auroc, Some(1.0));
        let hole = &result.per_defect["hole"];
        assert_eq!((hole.images, hole.regions), (2, 1));
        assert_eq!(hole.pixel.au_pro, Some(0.0));
        assert_eq!(hole.image.auroc, Some(0.5));
        assert_eq!((result.images, result.regions), (4, 2));
        assert_eq!(result.pixel.au_pro, Some(0.5));
        assert_eq!(result.image.auroc, Some(2.0 / 3.0));
        assert_eq!(result.warnings.len(), 1);
        assert!(result.warnings[0].starts_with("hole/1"));
    }

    #[test]
    fn the_json_keeps_its_keys_and_null() {
        let mut evaluator = Evaluator::new(0.3, 127).unwrap();
        evaluator
            .add("a.png", Some("crack"), &map(&[0.5]), &mask(&[1]))
            .unwrap();
        let mut result = evaluator.finish();
        assert_eq!(
            result.warnings,
            [
                "1 of 1 masks mark more than half of their image: if black and white are exchanged, the measures of pixels are wrong",
                "there is no good image among the 1: measures that need one are undefined"
            ]
        );
        result.warnings.clear();
        result.per_image.clear();
        assert_eq!(result.per_region_size[0].regions, 1);
        result.per_region_size.clear();
        let json = serde_json::to_string(&result).unwrap();
        assert_eq!(
            json,
            r#"{"au_pro":null,"au_pro_05":null,"pixel_auroc":null,"pixel_ap":null,"pixel_f1":null,"pixel_f1_threshold":null,"image_auroc":null,"image_ap":null,"image_f1":null,"image_f1_threshold":null,"per_defect":{"crack":{"images":1,"regions":1,"au_pro":null,"au_pro_05":null,"pixel_auroc":null,"pixel_ap":null,"pixel_f1":null,"pixel_f1_threshold":null,"image_auroc":null,"image_ap":null,"image_f1":null,"image_f1_threshold":null}},"images":1,"regions":1,"seconds_per_image":null,"fpr_limit":0.3,"mask_threshold":127}"#
        );
        assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), result);
    }

    #[test]
    fn bad_input_names_the_image_and_is_not_added() {
        for limit in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Evaluator::new(limit, 0).is_err());
        }
        let mut evaluator = Evaluator::new(0.3, 0).unwrap();
        let errors = [
            evaluator.add("a", Some("hole"), &map(&[0.0, f32::NAN]), &mask(&[1, 0])),
            evaluator.add("b", None, &map(&[f32::INFINITY]), &mask(&[0])),
            evaluator.add("c", None, &map(&[0.0]), &mask(&[0, 0])),
            evaluator.add("d", None, &map(&[0.0]), &mask(&[1])),
        ];
        let texts = errors.map(|result| result.unwrap_err().to_string());
        assert_eq!(
            texts,
            [
                "the anomaly map of a is not finite: the score at row 0, column 1 is NaN",
                "the anomaly map of b is not finite: the score at row 0, column 0 is inf",
                "c: the anomaly map is 1×1 pixels, the mask 2×1",
                "d is a good image, but its mask marks 1 pixels as defective",
            ]
        );
        assert_eq!(evaluator.images(), 0);
        assert!(evaluator.finish().per_defect.is_empty());
    }
}
