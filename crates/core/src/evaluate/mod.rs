//! The result of testing a detector on a data set ([`Evaluation`]), how it is gathered ([`Evaluator`]), and several
//! categories together ([`CategoryEvaluations`]).

pub mod map_run;
pub mod test_run;

mod categories;
mod confusion;
mod evaluator;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use categories::CategoryEvaluations;
pub use confusion::Confusion;
pub use evaluator::{EvaluationError, Evaluator, ScoredImage};

use crate::metrics::{CurvePoint, PrecisionRecallPoint};

/// The second false-positive rate up to which AU-PRO is always integrated, beside [`Evaluation::fpr_limit`]
/// (Bergmann et al., "The MVTec 3D-AD dataset", 2022, report it beside 0.3).
pub const SMALL_FPR_LIMIT: f64 = 0.05;

/// The measures of some pixels. They are in `[0, 1]`, higher is better; `None` (JSON `null`) if a measure is undefined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PixelMeasures {
    /// Area under the per-region-overlap curve up to [`Evaluation::fpr_limit`]; undefined without a region or without a normal pixel.
    pub au_pro: Option<f64>,
    /// The same up to a false-positive rate of 0.05 ([`SMALL_FPR_LIMIT`]): for uses in which false alarms are expensive.
    pub au_pro_05: Option<f64>,
    /// Area under the ROC curve; undefined without a defective or a normal pixel.
    #[serde(rename = "pixel_auroc")]
    pub auroc: Option<f64>,
    /// Average precision (scikit-learn's definition); undefined as `auroc`.
    #[serde(rename = "pixel_ap")]
    pub ap: Option<f64>,
    /// The best F1 that a threshold on pixels reaches; undefined as `auroc`.
    #[serde(rename = "pixel_f1")]
    pub f1: Option<f64>,
    /// That threshold: pixels that score **at least** this are called defective. It is found with the labels: a bound for comparison,
    /// never a threshold for work.
    #[serde(rename = "pixel_f1_threshold")]
    pub f1_threshold: Option<f32>,
}

/// The measures of the scores of some images (the maximum of each map), as [`PixelMeasures`]; undefined without a defective or a good
/// image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageMeasures {
    /// Area under the ROC curve.
    #[serde(rename = "image_auroc")]
    pub auroc: Option<f64>,
    /// Average precision.
    #[serde(rename = "image_ap")]
    pub ap: Option<f64>,
    /// The best F1 that a threshold reaches.
    #[serde(rename = "image_f1")]
    pub f1: Option<f64>,
    /// That threshold.
    #[serde(rename = "image_f1_threshold")]
    pub f1_threshold: Option<f32>,
}

/// How well anomaly maps find the defects of a test set. In JSON, all measures stand side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The measures of all pixels.
    #[serde(flatten)]
    pub pixel: PixelMeasures,
    /// The measures of all images.
    #[serde(flatten)]
    pub image: ImageMeasures,
    /// The same for each defect type against the good images, by name.
    pub per_defect: BTreeMap<String, DefectEvaluation>,
    /// The same for the regions of each size, against the normal pixels of all images: [`RegionSize::ALL`], in that
    /// order. Empty in a mean over categories, and if regions saturate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_region_size: Vec<RegionSizeEvaluation>,
    /// What the verdicts of a rule are against the labels, if there was a rule. A mean over categories has no verdicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Confusion>,
    /// The images tested, good and defective.
    pub images: usize,
    /// The connected regions (8-connected) of all masks.
    pub regions: usize,
    /// Whether the ground truth names its regions with their saturation thresholds: then AU-PRO is AU-sPRO (Bergmann et al., "Beyond
    /// Dents and Scratches", IJCV 2022).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub saturated: bool,
    /// Mean time to score an image, in seconds, if the caller measured it.
    pub seconds_per_image: Option<f64>,
    /// The false-positive rate up to which AU-PRO was integrated.
    pub fpr_limit: f64,
    /// Mask pixels above this value (of 255) counted as defective.
    pub mask_threshold: u8,
    /// Things a person should know before trusting the figures, each with the image it concerns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The curves as points, where [`Evaluator::with_curves`] asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// Every image in the order of its adding; empty it to keep it out of the JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_image: Vec<ImageEvaluation>,
}

/// [`Evaluation`] of one defect type: its images together with **all good images**, and no other
/// defect's, so that a pixel AUROC or AU-PRO has the same meaning for a type as for the whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DefectEvaluation {
    /// The images of this type (without the good ones).
    pub images: usize,
    /// The connected regions in their masks.
    pub regions: usize,
    /// The measures of the pixels of its images and of the good images.
    #[serde(flatten)]
    pub pixel: PixelMeasures,
    /// The measures of its images against the good images.
    #[serde(flatten)]
    pub image: ImageMeasures,
}

/// The size of a defect's region in pixels of the original image. The bounds are COCO's (Lin et al., ECCV 2014).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionSize {
    /// Fewer than 32² pixels.
    Small,
    /// From 32² to fewer than 96² pixels.
    Medium,
    /// 96² pixels or more.
    Large,
}

impl RegionSize {
    /// Every size, ascending.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Whether a region of `area` pixels has this size.
    pub fn holds(self, area: u32) -> bool {
        let size = match area {
            0..1024 => Self::Small,
            1024..9216 => Self::Medium,
            9216.. => Self::Large,
        };
        self == size
    }

    /// For people: the size and its bounds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small (< 32² px)",
            Self::Medium => "medium (< 96² px)",
            Self::Large => "large (≥ 96² px)",
        }
    }
}

/// [`Evaluation`] of the regions of one size: the pixels of other regions are left out, neither found nor false
/// alarms; the negatives are the normal pixels of **all** images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionSizeEvaluation {
    /// The size.
    pub size: RegionSize,
    /// How many regions have it; without one the measures are undefined.
    pub regions: usize,
    /// The measures of these regions' pixels.
    #[serde(flatten)]
    pub pixel: PixelMeasures,
}

/// The curves whose areas are measured, thresholds falling; `None` where undefined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Points nearer to each other than this were left out; 0 if no point was left out.
    pub spacing: f64,
    /// ROC and PRO of all pixels, to be joined by straight lines.
    pub pixels: Option<Vec<CurvePoint>>,
    /// Precision and recall of all pixels: a staircase.
    pub pixel_precision_recall: Option<Vec<PrecisionRecallPoint>>,
    /// ROC of the images' scores; `pro` equals `tpr` here.
    pub images: Option<Vec<CurvePoint>>,
    /// Precision and recall of the images' scores.
    pub image_precision_recall: Option<Vec<PrecisionRecallPoint>>,
}

/// One image of the test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageEvaluation {
    /// The image, as it was named to [`Evaluator::add`].
    pub path: String,
    /// Its defect type; `None` (JSON `null`) for a good image.
    pub defect: Option<String>,
    /// The maximum of its map; higher is more anomalous.
    pub score: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_area_has_one_size() {
        for (area, size) in [
            (1, RegionSize::Small),
            (1023, RegionSize::Small),
            (1024, RegionSize::Medium),
            (9215, RegionSize::Medium),
            (9216, RegionSize::Large),
            (u32::MAX, RegionSize::Large),
        ] {
            let holding: Vec<_> = RegionSize::ALL
                .into_iter()
                .filter(|one| one.holds(area))
                .collect();
            assert_eq!(holding, [size], "{area}");
        }
    }
}
