//! The page itself: what its template (`templates/report.html`) shows, ready for people.

use std::collections::BTreeMap;

use askama::Template;
use serde::Serialize;

use super::gallery::{Card, Outline};
use super::histogram::ScoreAxis;
use super::plot::{self, FIRST, Line, SECOND};
use super::published::{METHODS, Published};
use super::{Judged, PageTexts, Report, ReportError, Truth};
use crate::evaluate::{Curves, Evaluation};
use crate::map::heatmap::Heatmap;
use crate::metrics::{CurvePoint, PrecisionRecallPoint};
use crate::verdict::attribution::{Contribution, Why};

/// The false-positive rate up to which figures were published.
const PUBLISHED_LIMIT: f64 = 0.3;

/// The most rows of the table of all scores.
const ROWS: usize = 2000;

/// The regions of a picture that have a number.
const NUMBERS: usize = 20;

/// A number with up to three decimals, and no zeros after them.
pub(super) fn shortest(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    about: &'a PageTexts,
    /// The measures of a test.
    evaluation: Option<&'a Evaluation>,
    /// Whether it is known which images are good.
    labelled: bool,
    counts: Counts,
    headline: Vec<Headline>,
    published: Vec<(&'static str, String)>,
    kinds: Vec<KindRow>,
    plots: Vec<Plot>,
    histograms: Vec<Histogram>,
    /// The false-positive rate of the headline's AU-PRO, in percent.
    fpr_limit: String,
    min_area: usize,
    threshold: f32,
    /// Where the threshold comes from: `calibrated` or `given`.
    origin: &'static str,
    /// The place of the threshold on its slider: 0 to 1000. `None` without images.
    slider: Option<f64>,
    pixel_threshold: f32,
    scale: [f32; 2],
    stops: String,
    /// All images.
    all: usize,
    cards: Vec<CardRow<'a>>,
    /// Whether an image shows a mask's outline.
    masks: bool,
    rows: Vec<ImageRow<'a>>,
    /// [`Scores`] as JSON.
    scores: String,
}

/// What the page's script computes with.
#[derive(Serialize)]
struct Scores<'a> {
    threshold: f32,
    axis: Option<ScoreAxis>,
    kinds: Vec<ScoresOfKind<'a>>,
}

#[derive(Serialize)]
struct ScoresOfKind<'a> {
    name: &'a str,
    truth: Truth,
    /// [`Judged::decisive`] of each image; `null` for minus infinity.
    decisive: Vec<f32>,
}

/// Images called defective, of all of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    images: usize,
    called: usize,
}

impl Tally {
    fn accepted(&self) -> usize {
        self.images - self.called
    }

    fn accepted_share(&self) -> String {
        percent(self.accepted(), self.images)
    }

    fn rejected_share(&self) -> String {
        percent(self.called, self.images)
    }

    fn called_share(&self) -> f64 {
        self.called as f64 / self.images.max(1) as f64
    }
}

fn percent(part: usize, whole: usize) -> String {
    match whole {
        0 => "–".to_owned(),
        _ => format!("{:.1}\u{a0}%", 100.0 * part as f64 / whole as f64),
    }
}

/// The verdicts of the threshold.
#[derive(Default)]
struct Counts {
    unknown: Tally,
    good: Tally,
    defective: Tally,
    defects: BTreeMap<String, Tally>,
}

impl Counts {
    fn of(report: &Report) -> Self {
        let mut counts = Self::default();
        for judged in &report.judged {
            let called = usize::from(judged.decisive > report.threshold);
            let count = |tally: &mut Tally| {
                tally.images += 1;
                tally.called += called;
            };
            match judged.truth {
                Truth::Unknown => count(&mut counts.unknown),
                Truth::Good => count(&mut counts.good),
                Truth::Defective => {
                    count(&mut counts.defective);
                    count(counts.defects.entry(judged.kind.clone()).or_default());
                }
            }
        }
        counts
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
    judged: &'a Judged,
}

impl CardRow<'_> {
    fn why(&self) -> String {
        why(self.card.why.as_ref())
    }

    fn more_regions(&self) -> usize {
        self.judged.regions - self.card.regions.len()
    }

    /// The image's width over its height.
    fn ratio(&self) -> f64 {
        let [width, height] = self.card.size;
        width as f64 / height as f64
    }

    /// The regions that have a number.
    fn numbered(&self) -> &[Outline] {
        &self.card.outlines[..self.card.outlines.len().min(NUMBERS)]
    }

    /// The bottom of a region's number: above the region, within the image.
    fn number_top(&self, outline: &Outline) -> usize {
        outline.bounds.top.max(self.font())
    }

    /// The size of a number, in the image's pixels.
    fn font(&self) -> usize {
        (self.card.size[0].max(self.card.size[1]) / 28).max(1)
    }
}

/// A row of the table of all scores.
struct ImageRow<'a> {
    index: usize,
    judged: &'a Judged,
    has_card: bool,
}

impl Judged {
    fn word(&self, threshold: f32) -> &'static str {
        self.truth.words()[usize::from(self.decisive > threshold)]
    }

    /// The class of the verdict's badge: `bad` for a mistake; without a label, for a defective image.
    fn tone(&self, threshold: f32) -> &'static str {
        let called = self.decisive > threshold;
        match self.truth == Truth::Unknown && called || self.truth.is_mistake(called) {
            true => "bad",
            false => "",
        }
    }

    /// The deciding score as JavaScript reads it.
    fn decisive_text(&self) -> String {
        match self.decisive {
            f32::NEG_INFINITY => "-Infinity".to_owned(),
            score => score.to_string(),
        }
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
    let of = |prefix: &str, all: &BTreeMap<String, Contribution>| {
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
    evaluation: Option<&Evaluation>,
) -> Result<String, ReportError> {
    let Report {
        gallery,
        threshold,
        pixel_threshold,
        min_area,
        judged,
    } = report;
    let threshold = *threshold;
    let published = evaluation
        .filter(|evaluation| evaluation.fpr_limit == PUBLISHED_LIMIT)
        .and_then(|_| Published::of(&about.category));
    let Heatmap { low, high } = gallery.heatmap();
    let counts = Counts::of(report);
    let all: Vec<f32> = judged.iter().map(|judged| judged.score).collect();
    let axis = ScoreAxis::new(&all, threshold);
    let order = by_interest(report);
    let cards: BTreeMap<usize, &Card> = gallery
        .cards
        .iter()
        .map(|card| (card.index, card))
        .collect();
    let scores = Scores {
        threshold,
        axis,
        kinds: scores_of_kinds(report),
    };
    let page = Page {
        about,
        evaluation,
        labelled: judged.iter().any(|judged| judged.truth != Truth::Unknown),
        headline: evaluation.map_or_else(Vec::new, |figures| headline(about, figures, published)),
        published: published.map_or_else(Vec::new, |row| {
            let figures = row.au_pro.iter().map(|figure| format!("{figure:.3}"));
            METHODS.into_iter().zip(figures).collect()
        }),
        kinds: evaluation.map_or_else(Vec::new, |figures| kinds(&counts, figures)),
        plots: evaluation.map_or_else(|| Ok(Vec::new()), plots)?,
        histograms: axis.map_or_else(|| Ok(Vec::new()), |axis| histograms(report, &axis))?,
        fpr_limit: evaluation
            .map_or_else(String::new, |figures| shortest(100.0 * figures.fpr_limit)),
        counts,
        min_area: *min_area,
        threshold,
        origin: match threshold == about.thresholds.image.value {
            true => "calibrated",
            false => "given",
        },
        slider: axis.map(|axis| (1000.0 * axis.share(threshold)).round()),
        pixel_threshold: *pixel_threshold,
        scale: [low, high],
        stops: stops(),
        all: judged.len(),
        masks: gallery.cards.iter().any(|card| !card.truth.is_empty()),
        rows: order
            .iter()
            .take(ROWS)
            .map(|&index| ImageRow {
                index,
                judged: &judged[index],
                has_card: cards.contains_key(&index),
            })
            .collect(),
        cards: order
            .iter()
            .filter_map(|&index| {
                let card = *cards.get(&index)?;
                Some(CardRow {
                    card,
                    judged: &judged[index],
                })
            })
            .collect(),
        // In a script, `<` could begin the end of the script.
        scores: serde_json::to_string(&scores)?.replace('<', "\\u003c"),
    };
    Ok(page.render()?)
}

/// The images by [`Judged::interest`], the most instructive first.
fn by_interest(report: &Report) -> Vec<usize> {
    let interest = |index: &usize| report.judged[*index].interest(report.threshold);
    let mut order: Vec<usize> = (0..report.judged.len()).collect();
    order.sort_by(|a, b| {
        let ((first, near), (second, far)) = (interest(a), interest(b));
        second.cmp(&first).then(far.total_cmp(&near))
    });
    order
}

/// The good images, then each defect.
fn scores_of_kinds(report: &Report) -> Vec<ScoresOfKind<'_>> {
    let mut kinds: Vec<ScoresOfKind<'_>> = Vec::new();
    for judged in &report.judged {
        let same =
            |kind: &&mut ScoresOfKind<'_>| kind.truth == judged.truth && kind.name == judged.kind;
        match kinds.iter_mut().find(same) {
            Some(kind) => kind.decisive.push(judged.decisive),
            None => kinds.push(ScoresOfKind {
                name: &judged.kind,
                truth: judged.truth,
                decisive: vec![judged.decisive],
            }),
        }
    }
    kinds
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
        beside: match value {
            Some(_) => String::new(),
            None => "undefined".to_owned(),
        },
    };
    vec![
        match beside.is_empty() {
            true => plain("AU-PRO", evaluation.pixel.au_pro),
            false => Headline {
                name: "AU-PRO",
                value: measure(evaluation.pixel.au_pro),
                beside,
            },
        },
        plain("AU-PRO to 0.05", evaluation.pixel.au_pro_05),
        plain("pixel AUROC", evaluation.pixel.auroc),
        plain("pixel AP", evaluation.pixel.ap),
        plain("image AUROC", evaluation.image.auroc),
        plain("image AP", evaluation.image.ap),
    ]
}

fn kinds(counts: &Counts, evaluation: &Evaluation) -> Vec<KindRow> {
    let rows = evaluation.per_defect.iter().map(|(name, figures)| KindRow {
        name: name.clone(),
        tally: counts.defects.get(name).copied().unwrap_or_default(),
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

/// Good images against all defective images, then against each defect if there are several. Without labels, all images.
fn histograms(report: &Report, axis: &ScoreAxis) -> Result<Vec<Histogram>, ReportError> {
    let scores = |is_in: &dyn Fn(&Judged) -> bool| -> Vec<f32> {
        let judged = report.judged.iter().filter(|judged| is_in(judged));
        judged.map(|judged| judged.score).collect()
    };
    let draw = |kind: &str, defective: &[f32]| -> Result<Histogram, ReportError> {
        let others = scores(&|judged| judged.truth != Truth::Defective);
        let groups = [(&*others, SECOND), (defective, FIRST)];
        Ok(Histogram {
            kind: kind.to_owned(),
            svg: plot::histogram(axis, &groups, report.threshold)?,
        })
    };
    let mut histograms = vec![draw(
        "all images",
        &scores(&|judged| judged.truth == Truth::Defective),
    )?];
    let defects = Counts::of(report).defects;
    if defects.len() > 1 {
        for kind in defects.keys() {
            let of_kind =
                scores(&|judged| judged.truth == Truth::Defective && judged.kind == *kind);
            histograms.push(draw(kind, &of_kind)?);
        }
    }
    Ok(histograms)
}

/// The colour scale as a CSS gradient.
fn stops() -> String {
    let colors = (0..=16).map(|n| {
        let [red, green, blue] = Heatmap::color(f64::from(n) / 16.0);
        format!("rgb({red},{green},{blue})")
    });
    colors.collect::<Vec<_>>().join(",")
}
