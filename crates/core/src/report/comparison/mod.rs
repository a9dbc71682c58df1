//! Detectors side by side under one protocol: what each scored on one category or several, with one seed or several, beside the
//! published figures.

mod page;

use serde::{Deserialize, Serialize};

use crate::report::published::Published;

pub use page::{ComparisonPageError, HEADS, Row, write_page};

/// One detector, trained once and tested once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// The category's name.
    pub category: String,
    /// The detector's name, as model files have it.
    pub detector: String,
    /// The patch sizes of a detector that has a choice of several; else empty.
    pub scales: Vec<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// What came out.
    pub figures: Figures,
    /// The address of the report of the test, relative to the comparison's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// The compared figures. Higher is better for the first three, lower for the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Area under the per-region-overlap curve up to the comparison's false-positive rate, normalised.
    pub au_pro: Option<f64>,
    /// Area under the ROC curve of pixels.
    pub pixel_auroc: Option<f64>,
    /// Area under the ROC curve of images.
    pub image_auroc: Option<f64>,
    /// From the command to the model's file. `None` where a model's other scales share it.
    pub training_seconds: Option<f64>,
    /// From the decoded image to its map.
    pub seconds_per_image: Option<f64>,
    /// The most memory that training or testing held. `None` where the system does not tell.
    pub memory_bytes: Option<f64>,
    /// Of the model's file.
    pub model_bytes: Option<f64>,
}

/// A detector that could not be trained or tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The category's name.
    pub category: String,
    /// The detector's name.
    pub detector: String,
    /// The seed.
    pub seed: u64,
    /// The message of its error.
    pub reason: String,
}

/// A detector on one category: the mean over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfCategory {
    /// The category's name.
    pub category: String,
    /// Means over the seeds.
    #[serde(flatten)]
    pub mean: Figures,
    /// Standard deviations over the seeds (of a sample); `None` with one seed.
    pub deviation: Option<Figures>,
    /// How many seeds.
    pub seeds: usize,
    /// The published AU-PRO up to 0.3, if this is a category of MVTec AD and the detector one of the paper's.
    pub published_au_pro: Option<f64>,
    /// The address of the report of its first seed that has one, relative to the comparison's page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The detector's name.
    pub detector: String,
    /// Its patch sizes, of a detector that has a choice of several.
    pub scales: Vec<usize>,
    /// The mean over the categories, each counting the same; `None` where one of them lacks the figure.
    #[serde(flatten)]
    pub mean: Figures,
    /// The mean of the categories' deviations over seeds.
    pub deviation: Option<Figures>,
    /// The mean of the published figures, if all categories have one.
    pub published_au_pro: Option<f64>,
    /// Each category, in the order of the comparison.
    pub categories: Vec<OfCategory>,
}

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The name of the data set.
    pub dataset: String,
    /// The false-positive rate up to which AU-PRO is taken.
    pub fpr_limit: f64,
    /// One a detector (and choice of its scales).
    pub detectors: Vec<Compared>,
    /// The categories on which all detectors failed: no mean has a part of them.
    pub without: Vec<String>,
    /// Those that failed.
    pub failed: Vec<Failure>,
}

impl Figures {
    /// Each figure by `of`, from the same figure of `all`; `None` if a member lacks the figure, or `all` is empty.
    fn each(all: &[Self], of: impl Fn(&[f64]) -> f64) -> Self {
        let figure = |get: fn(&Self) -> Option<f64>| {
            let values: Vec<f64> = all.iter().map(get).collect::<Option<_>>()?;
            (!values.is_empty()).then(|| of(&values))
        };
        Self {
            au_pro: figure(|figures| figures.au_pro),
            pixel_auroc: figure(|figures| figures.pixel_auroc),
            image_auroc: figure(|figures| figures.image_auroc),
            training_seconds: figure(|figures| figures.training_seconds),
            seconds_per_image: figure(|figures| figures.seconds_per_image),
            memory_bytes: figure(|figures| figures.memory_bytes),
            model_bytes: figure(|figures| figures.model_bytes),
        }
    }

    fn mean(all: &[Self]) -> Self {
        Self::each(all, mean)
    }

    /// Of a sample; `None` of one.
    fn deviation(all: &[Self]) -> Option<Self> {
        (all.len() > 1).then(|| {
            Self::each(all, |values| {
                let mean = mean(values);
                let squares = values.iter().map(|value| (value - mean).powi(2));
                (squares.sum::<f64>() / (values.len() - 1) as f64).sqrt()
            })
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Comparison {
    /// Puts single tests together: seeds into categories, categories into a line. Lines and categories stand in the order in which
    /// they first appear.
    pub fn new(dataset: String, fpr_limit: f64, tested: &[Tested], failed: Vec<Failure>) -> Self {
        let mut lines: Vec<(&str, &[usize])> = Vec::new();
        let mut categories: Vec<&str> = Vec::new();
        for test in tested {
            let line = (test.detector.as_str(), test.scales.as_slice());
            if !lines.contains(&line) {
                lines.push(line);
            }
            if !categories.contains(&test.category.as_str()) {
                categories.push(&test.category);
            }
        }
        let detectors = lines.into_iter().map(|(detector, scales)| {
            let of_line = |test: &&Tested| test.detector == detector && test.scales == scales;
            let of_categories: Vec<OfCategory> = categories
                .iter()
                .filter_map(|&category| {
                    let of_category = |test: &&Tested| test.category == category;
                    let tests = tested.iter().filter(of_line).filter(of_category);
                    let figures: Vec<Figures> = tests.clone().map(|test| test.figures).collect();
                    (!figures.is_empty()).then(|| OfCategory {
                        category: category.to_owned(),
                        mean: Figures::mean(&figures),
                        deviation: Figures::deviation(&figures),
                        seeds: figures.len(),
                        published_au_pro: published(category, detector, scales)
                            .filter(|_| is_published(fpr_limit)),
                        report: tests.filter_map(|test| test.report.clone()).next(),
                    })
                })
                .collect();
            // A mean over other categories than those of the next line would mislead.
            let all = of_categories.len() == categories.len();
            let means: Vec<Figures> = of_categories.iter().map(|one| one.mean).collect();
            let deviations: Option<Vec<Figures>> =
                of_categories.iter().map(|one| one.deviation).collect();
            let figures: Option<Vec<f64>> = of_categories
                .iter()
                .map(|one| one.published_au_pro)
                .collect();
            Compared {
                detector: detector.to_owned(),
                scales: scales.to_vec(),
                mean: if all {
                    Figures::mean(&means)
                } else {
                    Figures::default()
                },
                deviation: deviations.filter(|_| all).map(|all| Figures::mean(&all)),
                published_au_pro: figures.filter(|_| all).map(|figures| mean(&figures)),
                categories: of_categories,
            }
        });
        let detectors = detectors.collect();
        let mut without: Vec<String> = Vec::new();
        for failure in &failed {
            if !categories.contains(&failure.category.as_str())
                && !without.contains(&failure.category)
            {
                without.push(failure.category.clone());
            }
        }
        Self {
            dataset,
            fpr_limit,
            detectors,
            without,
            failed,
        }
    }

    /// The lines in this order of their detectors.
    #[must_use]
    pub fn in_order(mut self, detectors: &[&str]) -> Self {
        let place = |line: &Compared| detectors.iter().position(|name| *name == line.detector);
        // Stable: the scales of a detector keep their order.
        self.detectors.sort_by_key(place);
        self
    }

    /// What the means are taken over, for people: `2 of 3 categories, without screw`.
    pub fn scope(&self) -> String {
        let measured = self.categories().len();
        if self.without.is_empty() {
            return format!("{measured} categories");
        }
        let all = measured + self.without.len();
        let without = self.without.join(", ");
        format!("{measured} of {all} categories, without {without}")
    }

    /// A line's name for people; with seeds that are missing in its means.
    pub fn label(&self, line: &Compared) -> String {
        let of_line = |failure: &&Failure| {
            failure.detector == line.detector && line.of(&failure.category).is_some()
        };
        match self.failed.iter().filter(of_line).count() {
            0 => line.label(),
            1 => format!("{} (a seed failed)", line.label()),
            lost => format!("{} ({lost} seeds failed)", line.label()),
        }
    }

    /// The names of the categories, in their order.
    pub fn categories(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for one in self.detectors.iter().flat_map(|line| &line.categories) {
            if !names.contains(&one.category.as_str()) {
                names.push(&one.category);
            }
        }
        names
    }
}

impl Compared {
    /// The detector's name for people, with its scales.
    pub fn label(&self) -> String {
        if self.scales.is_empty() {
            return self.detector.clone();
        }
        let scales: Vec<String> = self.scales.iter().map(ToString::to_string).collect();
        format!("{}, p = {}", self.detector, scales.join(", "))
    }

    /// Its figures on a category, if it was tested there.
    pub fn of(&self, category: &str) -> Option<&OfCategory> {
        self.categories.iter().find(|one| one.category == category)
    }
}

/// Published figures are up to 0.3.
fn is_published(fpr_limit: f64) -> bool {
    (fpr_limit - 0.3).abs() < 1e-9
}

fn published(category: &str, detector: &str, scales: &[usize]) -> Option<f64> {
    let row = Published::of(category)?;
    match detector {
        "student-teacher" => row.at_scales(scales).map(|(_, figure)| figure),
        _ => row.of_detector(detector),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tested(category: &str, detector: &str, seed: u64, au_pro: Option<f64>) -> Tested {
        Tested {
            category: category.into(),
            detector: detector.into(),
            scales: if detector == "student-teacher" {
                vec![33]
            } else {
                Vec::new()
            },
            seed,
            figures: Figures {
                au_pro,
                seconds_per_image: Some(seed as f64),
                ..Figures::default()
            },
            report: (seed > 0).then(|| format!("{category}/{detector}")),
        }
    }

    #[test]
    fn seeds_become_means_and_categories_lines() {
        let all = [
            tested("metal_nut", "student-teacher", 0, Some(0.8)),
            tested("metal_nut", "1-nn", 0, Some(0.7)),
            tested("screw", "student-teacher", 0, Some(0.6)),
            tested("screw", "student-teacher", 1, Some(0.8)),
            tested("metal_nut", "student-teacher", 1, Some(0.9)),
        ];
        let comparison = Comparison::new("parts".into(), 0.3, &all, Vec::new());
        assert_eq!(comparison.categories(), ["metal_nut", "screw"]);
        let [students, nearest] = &comparison.detectors[..] else {
            panic!("two lines")
        };
        assert_eq!(students.label(), "student-teacher, p = 33");
        assert!((students.mean.au_pro.unwrap() - 0.775).abs() < 1e-12);
        assert_eq!(students.mean.seconds_per_image, Some(0.5));
        assert_eq!(students.mean.pixel_auroc, None);
        let screw = students.of("screw").unwrap();
        assert_eq!((screw.seeds, screw.published_au_pro), (2, Some(0.937)));
        assert_eq!(screw.report.as_deref(), Some("screw/student-teacher"));
        let spread = 0.02f64.sqrt();
        assert!((screw.deviation.unwrap().au_pro.unwrap() - spread).abs() < 1e-12);
        assert!((students.published_au_pro.unwrap() - (0.928 + 0.937) / 2.0).abs() < 1e-12);
        // Tested on one of two categories: no mean that would look like the others'.
        assert_eq!(nearest.mean.au_pro, None);
        assert_eq!(
            nearest.of("metal_nut").unwrap().published_au_pro,
            Some(0.705)
        );
        assert_eq!(nearest.of("screw"), None);
    }

    #[test]
    fn what_failed_is_told_beside_the_means() {
        let failure = |category: &str, detector: &str, seed| Failure {
            category: category.into(),
            detector: detector.into(),
            seed,
            reason: "too small".into(),
        };
        let all = [
            tested("nut", "k-means", 0, Some(0.5)),
            tested("screw", "1-nn", 0, Some(0.6)),
            tested("screw", "k-means", 1, Some(0.7)),
        ];
        let failed = vec![
            failure("nut", "1-nn", 0),
            failure("broken", "1-nn", 0),
            failure("broken", "k-means", 0),
            failure("screw", "k-means", 0),
        ];
        let comparison = Comparison::new("parts".into(), 0.3, &all, failed);
        assert_eq!(comparison.scope(), "2 of 3 categories, without broken");
        let comparison = comparison.in_order(&["1-nn", "k-means"]);
        let labels: Vec<_> = comparison
            .detectors
            .iter()
            .map(|line| comparison.label(line))
            .collect();
        assert_eq!(labels, ["1-nn", "k-means (a seed failed)"]);
        assert_eq!(comparison.detectors[0].mean.au_pro, None);
        assert_eq!(comparison.detectors[1].mean.au_pro, Some(0.6));
    }

    #[test]
    fn other_limits_and_other_data_have_no_published_figures() {
        let all = [tested("metal_nut", "1-nn", 0, Some(0.7))];
        let at = |limit| {
            Comparison::new("nut".into(), limit, &all, Vec::new()).detectors[0].published_au_pro
        };
        assert_eq!(at(0.3), Some(0.705));
        assert_eq!(at(0.05), None);
        let all = [tested("washer", "1-nn", 0, None)];
        let comparison = Comparison::new("washer".into(), 0.3, &all, Vec::new());
        assert_eq!(comparison.detectors[0].published_au_pro, None);
        assert_eq!(comparison.detectors[0].mean.au_pro, None);
    }
}
