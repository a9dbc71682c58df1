//! The page itself: what its template (`templates/report.html`) shows, ready for people.

use askama::Template;

use super::gallery::Card;
use super::histogram::ScoreAxis;
use super::plot::{self, FIRST, Line, SECOND};
use super::published::{METHODS, Published};
use super::{Outcome, PageTexts, Report, ReportError, Tally};
use crate::evaluate::{Curves, Evaluation};
use crate::map::heatmap::Heatmap;
use crate::metrics::{CurvePoint, PrecisionRecallPoint};
use crate::verdict::attribution::Why;

/// The false-positive rate up to which figures were published.
const PUBLISHED_LIMIT: f64 = 0.3;

/// A number with up to three decimals, and no zeros after them.
pub(super) fn shortest(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    about: &'a PageTexts,
    evaluation: &'a Evaluation,
    verdicts: Verdicts,
    headline: Vec<Headline>,
    published: Vec<(&'static str, String)>,
    kinds: Vec<KindRow>,
    plots: Vec<Plot>,
    histograms: Vec<Histogram>,
    /// The false-positive rate of the headline's AU-PRO, in percent.
    fpr_limit: String,
    min_area: usize,
    threshold: f32,
    pixel_threshold: f32,
    scale: [f32; 2],
    stops: String,
    seen: usize,
    cards: Vec<CardRow<'a>>,
}

/// The verdicts of the threshold on the test set.
struct Verdicts {
    defective: Tally,
    good: Tally,
}

impl Verdicts {
    fn missed(&self) -> usize {
        self.defective.images - self.defective.called_defective
    }

    /// The share of the good images that are called defective.
    fn rejected(&self) -> String {
        match self.good.images {
            0 => "–".to_owned(),
            images => format!(
                "{:.1} %",
                100.0 * self.good.called_defective as f64 / images as f64
            ),
        }
    }
}

struct Headline {
    name: &'static str,
    value: String,
    beside: String,
}

struct KindRow {
    name: String,
    tally: Tally,
    regions: usize,
    measures: Vec<String>,
}

struct Plot {
    title: &'static str,
    note: String,
    svg: String,
    images: bool,
}

struct Histogram {
    kind: String,
    svg: String,
}

/// A card as the template needs it.
struct CardRow<'a> {
    card: &'a Card,
    place: usize,
}

impl CardRow<'_> {
    fn outcome(&self) -> &'static str {
        match self.card.outcome {
            Outcome::Missed => "missed",
            Outcome::FalseAlarm => "false alarm",
            Outcome::Found => "found",
            Outcome::Passed => "passed",
        }
    }

    fn kind(&self) -> &str {
        self.card.defect.as_deref().unwrap_or("good")
    }

    fn mask_caption(&self) -> &'static str {
        match self.card.defect {
            Some(_) => "defect mask",
            None => "no defect",
        }
    }

    fn is_mistake(&self) -> bool {
        self.card.outcome.is_mistake()
    }

    fn why(&self) -> String {
        why(self.card.verdict.why.as_ref())
    }

    fn more_regions(&self) -> usize {
        self.card.regions - self.card.verdict.regions.len()
    }
}

/// Shares of a score in words; empty without shares.
fn why(why: Option<&Why>) -> String {
    let Some(why) = why else {
        return String::new();
    };
    let named = |prefix: &str, name: &str, share: f64| {
        format!("{prefix}{} {:.0} %", name.replace('_', " "), share * 100.0)
    };
    let of = |prefix: &str,
              all: &std::collections::BTreeMap<
        String,
        crate::verdict::attribution::Contribution,
    >| {
        let shares = all
            .iter()
            .filter_map(|(name, one)| Some((name, one.share?)));
        let texts: Vec<String> = shares
            .map(|(name, share)| named(prefix, name, share))
            .collect();
        texts.join(", ")
    };
    let terms = of("", &why.terms);
    if why.scales.len() < 2 || terms.is_empty() {
        return terms;
    }
    format!("{terms} · {}", of("p = ", &why.scales))
}

/// A measure for people; a dash where it is undefined.
pub(super) fn measure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

pub(super) fn render(
    report: &Report,
    about: &PageTexts,
    evaluation: &Evaluation,
) -> Result<String, ReportError> {
    let published =
        Published::of(&about.category).filter(|_| evaluation.fpr_limit == PUBLISHED_LIMIT);
    let Heatmap { low, high } = report.gallery.heatmap();
    let defective = report
        .defects
        .values()
        .fold(Tally::default(), |all, one| Tally {
            images: all.images + one.images,
            called_defective: all.called_defective + one.called_defective,
        });
    let page = Page {
        about,
        evaluation,
        verdicts: Verdicts {
            defective,
            good: report.good,
        },
        headline: headline(about, evaluation, published),
        published: published.map_or_else(Vec::new, |row| {
            let figures = row.au_pro.iter().map(|figure| format!("{figure:.3}"));
            METHODS.into_iter().zip(figures).collect()
        }),
        kinds: kinds(report, evaluation),
        plots: plots(evaluation)?,
        histograms: histograms(evaluation, report.threshold)?,
        fpr_limit: shortest(100.0 * evaluation.fpr_limit),
        min_area: about.min_area,
        threshold: report.threshold,
        pixel_threshold: report.pixel_threshold,
        scale: [low, high],
        stops: stops(),
        seen: report.gallery.seen,
        cards: cards(&report.gallery.cards, report.threshold),
    };
    Ok(page.render()?)
}

fn headline(
    about: &PageTexts,
    evaluation: &Evaluation,
    published: Option<&Published>,
) -> Vec<Headline> {
    let beside = published.and_then(|row| row.at_scales(&about.scales));
    let beside = beside.map_or_else(String::new, |(method, figure)| {
        format!("published, {method}: {figure:.3}")
    });
    let plain = |name, value: Option<f64>| Headline {
        name,
        value: measure(value),
        beside: String::new(),
    };
    vec![
        Headline {
            name: "AU-PRO",
            value: measure(evaluation.pixel.au_pro),
            beside,
        },
        plain("AU-PRO to 0.05", evaluation.pixel.au_pro_05),
        plain("pixel AUROC", evaluation.pixel.auroc),
        plain("pixel AP", evaluation.pixel.ap),
        plain("image AUROC", evaluation.image.auroc),
        plain("image AP", evaluation.image.ap),
    ]
}

fn kinds(report: &Report, evaluation: &Evaluation) -> Vec<KindRow> {
    let rows = evaluation.per_defect.iter().map(|(name, figures)| KindRow {
        name: name.clone(),
        tally: report.defects.get(name).copied().unwrap_or_default(),
        regions: figures.regions,
        measures: [
            figures.pixel.au_pro,
            figures.pixel.auroc,
            figures.pixel.ap,
            figures.image.auroc,
            figures.image.ap,
        ]
        .map(measure)
        .to_vec(),
    });
    rows.collect()
}

fn plots(evaluation: &Evaluation) -> Result<Vec<Plot>, ReportError> {
    let Some(curves) = &evaluation.curves else {
        return Ok(Vec::new());
    };
    let mut plots = Vec::new();
    let rates = |points: &[CurvePoint]| points.iter().map(|p| (p.fpr, p.tpr)).collect();
    let lines = both(
        curves,
        |c| c.pixels.as_deref().map(rates),
        |c| c.images.as_deref().map(rates),
    );
    if !lines.is_empty() {
        let titles = ["false-positive rate", "true-positive rate"];
        plots.push(Plot {
            title: "ROC",
            note: "Defects found against good ones called defective; the grey diagonal is chance."
                .to_owned(),
            svg: plot::curves("ROC", titles, 1.0, true, &lines)?,
            images: true,
        });
    }
    if let Some(points) = &curves.pixels {
        let line = Line {
            points: points.iter().map(|p| (p.fpr, p.pro)).collect(),
            color: FIRST,
            shaded: true,
        };
        let limit = evaluation.fpr_limit;
        let titles = ["false-positive rate of pixels", "per-region overlap"];
        plots.push(Plot {
            title: "PRO",
            note: format!(
                "How much of each defect region is found, on average; the shaded area over {limit} is the AU-PRO."
            ),
            svg: plot::curves("PRO", titles, limit, false, &[line])?,
            images: false,
        });
    }
    let steps = |points: &[PrecisionRecallPoint]| staircase(points);
    let lines = both(
        curves,
        |c| c.pixel_precision_recall.as_deref().map(steps),
        |c| c.image_precision_recall.as_deref().map(steps),
    );
    if !lines.is_empty() {
        plots.push(Plot {
            title: "Precision and recall",
            note: "How many of those called defective are, against how many of the defective are called so.".to_owned(),
            svg: plot::curves("precision and recall", ["recall", "precision"], 1.0, false, &lines)?,
            images: true,
        });
    }
    Ok(plots)
}

type Points = Vec<(f64, f64)>;

/// A line of pixels and one of images, as far as they are defined.
fn both(
    curves: &Curves,
    pixels: impl Fn(&Curves) -> Option<Points>,
    images: impl Fn(&Curves) -> Option<Points>,
) -> Vec<Line> {
    let line = |points: Option<Points>, color| {
        points.map(|points| Line {
            points,
            color,
            shaded: false,
        })
    };
    let lines = [line(pixels(curves), FIRST), line(images(curves), SECOND)];
    lines.into_iter().flatten().collect()
}

/// Average precision is the area under steps, not under slopes.
fn staircase(points: &[PrecisionRecallPoint]) -> Points {
    let mut line = Vec::with_capacity(2 * points.len());
    let mut recall = 0.0;
    for point in points {
        line.push((recall, point.precision));
        recall = point.recall;
        line.push((recall, point.precision));
    }
    line
}

fn histograms(evaluation: &Evaluation, threshold: f32) -> Result<Vec<Histogram>, ReportError> {
    let of = |kind: Option<&str>| -> Vec<f32> {
        let images = evaluation.per_image.iter();
        let images = images.filter(|image| image.defect.as_deref() == kind);
        images.map(|image| image.score).collect()
    };
    let all: Vec<f32> = evaluation
        .per_image
        .iter()
        .map(|image| image.score)
        .collect();
    let Some(axis) = ScoreAxis::new(&all, threshold) else {
        return Ok(Vec::new());
    };
    let good = of(None);
    let mut histograms = Vec::new();
    for kind in evaluation.per_defect.keys() {
        histograms.push(Histogram {
            kind: kind.clone(),
            svg: plot::histogram(&axis, &good, &of(Some(kind)), threshold)?,
        });
    }
    Ok(histograms)
}

/// Mistakes first, the gravest before; then the others, nearest to the threshold first.
fn cards(cards: &[Card], threshold: f32) -> Vec<CardRow<'_>> {
    let mut order: Vec<&Card> = cards.iter().collect();
    order.sort_by(|a, b| {
        let distance = |card: &Card| (card.verdict.score - threshold).abs();
        let nearness = match a.outcome.is_mistake() {
            true => distance(b).total_cmp(&distance(a)),
            false => distance(a).total_cmp(&distance(b)),
        };
        a.outcome
            .is_mistake()
            .cmp(&b.outcome.is_mistake())
            .reverse()
            .then(nearness)
    });
    let rows = order.into_iter().enumerate();
    rows.map(|(place, card)| CardRow { card, place }).collect()
}

/// The colour scale as a CSS gradient.
pub(super) fn stops() -> String {
    let colors = (0..=16).map(|n| {
        let [red, green, blue] = Heatmap::color(f64::from(n) / 16.0);
        format!("rgb({red},{green},{blue})")
    });
    colors.collect::<Vec<_>>().join(",")
}
