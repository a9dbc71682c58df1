//! Several categories together: each one's evaluation, and the mean, as is the custom for MVTec AD.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DefectEvaluation, Evaluation, ImageMeasures, PixelMeasures};

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
        pixel: PixelMeasures {
            au_pro: average(|category| category.pixel.au_pro),
            au_pro_05: average(|category| category.pixel.au_pro_05),
            auroc: average(|category| category.pixel.auroc),
            ap: average(|category| category.pixel.ap),
            f1: average(|category| category.pixel.f1),
            f1_threshold: None,
        },
        image: ImageMeasures {
            auroc: average(|category| category.image.auroc),
            ap: average(|category| category.image.ap),
            f1: average(|category| category.image.f1),
            f1_threshold: None,
        },
        per_defect,
        per_region_size: Vec::new(),
        confusion: None,
        images,
        regions: categories.values().map(|category| category.regions).sum(),
        saturated: categories.values().any(|category| category.saturated),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn category(au_pro: f64, image_auroc: Option<f64>) -> Evaluation {
        let hole = DefectEvaluation::default();
        Evaluation {
            pixel: PixelMeasures {
                au_pro: Some(au_pro),
                f1_threshold: Some(3.0),
                ..PixelMeasures::default()
            },
            image: ImageMeasures {
                auroc: image_auroc,
                ..ImageMeasures::default()
            },
            per_defect: [("hole".to_owned(), hole)].into(),
            images: 3,
            regions: 2,
            fpr_limit: 0.3,
            warnings: vec!["look".to_owned()],
            ..Evaluation::default()
        }
    }

    #[test]
    fn measures_are_averaged_counts_added_and_thresholds_left_out() {
        let categories = [
            ("a".to_owned(), category(0.5, Some(1.0))),
            ("b".to_owned(), category(1.0, None)),
        ];
        let found = CategoryEvaluations::new(categories.into());
        assert_eq!(found.mean.pixel.au_pro, Some(0.75));
        assert_eq!(found.mean.image.auroc, None, "undefined for one of them");
        assert_eq!(found.mean.pixel.f1_threshold, None);
        assert_eq!((found.mean.images, found.mean.regions), (6, 4));
        assert!(found.mean.per_defect.keys().eq(["a/hole", "b/hole"]));
        assert_eq!(found.mean.warnings, ["a: look", "b: look"]);
        let json = serde_json::to_value(&found).unwrap();
        assert_eq!(json["au_pro"], 0.75);
        assert_eq!(json["categories"]["a"]["au_pro"], 0.5);
        assert_eq!(
            serde_json::from_value::<CategoryEvaluations>(json).unwrap(),
            found
        );
        assert_eq!(
            CategoryEvaluations::new(BTreeMap::new()).mean.pixel.au_pro,
            None
        );
    }
}
