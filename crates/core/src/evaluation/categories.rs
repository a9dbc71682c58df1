//! Several categories together: each one's evaluation, and the mean, as is the custom for MVTec AD.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DefectEvaluation, Evaluation};

/// The evaluations of several categories. In JSON the mean's keys stand beside `categories`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CategoryEvaluations {
    /// Each measure is its mean over the categories, every category counting the same: `None` if it is undefined for one
    /// of them. Counts are sums; defect types are named `<category>/<defect>`. A threshold has no mean (`None`);
    /// sizes, curves and images stand with their category alone.
    #[serde(flatten)]
    pub mean: Evaluation,
    /// Each category's own evaluation, by its name.
    pub categories: BTreeMap<String, Evaluation>,
}

impl CategoryEvaluations {
    /// The mean of `categories`. The limit and the mask threshold are those of the first: all are evaluated alike.
    pub fn new(categories: BTreeMap<String, Evaluation>) -> Self {
        Self {
            mean: mean(&categories),
            categories,
        }
    }
}

fn mean(categories: &BTreeMap<String, Evaluation>) -> Evaluation {
    let average = |measure: fn(&Evaluation) -> Option<f64>| -> Option<f64> {
        let values: Vec<f64> = categories.values().map(measure).collect::<Option<_>>()?;
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let images = categories.values().map(|category| category.images).sum();
    let total_seconds: Option<f64> = categories
        .values()
        .map(|category| Some(category.seconds_per_image? * category.images as f64))
        .sum();
    let per_defect: BTreeMap<String, DefectEvaluation> = categories
        .iter()
        .flat_map(|(name, category)| {
            let types = category.per_defect.iter();
            types.map(move |(defect, figures)| (format!("{name}/{defect}"), figures.clone()))
        })
        .collect();
    let first = categories.values().next();
    Evaluation {
        au_pro: average(|category| category.au_pro),
        au_pro_05: average(|category| category.au_pro_05),
        pixel_auroc: average(|category| category.pixel_auroc),
        pixel_ap: average(|category| category.pixel_ap),
        pixel_f1: average(|category| category.pixel_f1),
        pixel_f1_threshold: None,
        image_auroc: average(|category| category.image_auroc),
        image_ap: average(|category| category.image_ap),
        image_f1: average(|category| category.image_f1),
        image_f1_threshold: None,
        per_defect,
        per_region_size: Vec::new(),
        images,
        regions: categories.values().map(|category| category.regions).sum(),
        seconds_per_image: total_seconds
            .filter(|_| images > 0)
            .map(|seconds| seconds / images as f64),
        fpr_limit: first.map_or(0.0, |category| category.fpr_limit),
        mask_threshold: first.map_or(0, |category| category.mask_threshold),
        warnings: categories
            .iter()
            .flat_map(|(name, category)| {
                let warnings = category.warnings.iter();
                warnings.map(move |warning| format!("{name}: {warning}"))
            })
            .collect(),
        curves: None,
        per_image: Vec::new(),
    }
}
