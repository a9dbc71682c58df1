//! Plots as SVG, for a page: no text in them comes from outside.
//!
//! The page's style sheet finds these colours by their names in the SVG, and replaces them in dark mode.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::ReportError;
use super::histogram::ScoreAxis;

/// Width and height: so that labels stay readable where a phone shrinks it to 340 pixels.
const SIZE: (u32, u32) = (440, 310);

/// Parts of a histogram's axis.
const BINS: usize = 28;

/// Text and axes.
const INK: RGBColor = RGBColor(0x30, 0x36, 0x3D);
/// The grid, and what is there for comparison.
const FAINT: RGBColor = RGBColor(0xD0, 0xD7, 0xDE);
/// What is about pixels, and defects.
pub(super) const FIRST: RGBColor = RGBColor(0xC2, 0x41, 0x0C);
/// What is about images, and good ones.
pub(super) const SECOND: RGBColor = RGBColor(0x1F, 0x6F, 0xEB);

/// Points joined by straight lines.
pub(super) struct Line {
    pub points: Vec<(f64, f64)>,
    pub color: RGBColor,
    /// Whether the area below is shaded.
    pub shaded: bool,
}

/// Curves over `[0, end]` × `[0, 1]`.
pub(super) fn curves(
    what: &'static str,
    [x_title, y_title]: [&str; 2],
    end: f64,
    chance: bool,
    lines: &[Line],
) -> Result<String, ReportError> {
    let (svg, ()) = drawn(what, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(16)
            .x_label_area_size(42)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..end, 0.0..1.0)?;
        chart
            .configure_mesh()
            .x_desc(x_title)
            .y_desc(y_title)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .label_style(text(14))
            .axis_desc_style(text(15))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        if chance {
            chart.draw_series(LineSeries::new(
                [(0.0, 0.0), (end, end)],
                FAINT.stroke_width(2),
            ))?;
        }
        for line in lines {
            let points = until(&line.points, end);
            if line.shaded {
                let area = AreaSeries::new(points.iter().copied(), 0.0, line.color.mix(0.12));
                chart.draw_series(area)?;
            }
            chart.draw_series(LineSeries::new(points, line.color.stroke_width(2)))?;
        }
        Ok(())
    })?;
    Ok(svg)
}

/// The shares of the images of each group in each bin of an axis of scores. A line marks the threshold; a second line (`cut`) lies on it,
/// which the page's script moves between `data-from` and `data-to`.
pub(super) fn histogram(
    axis: &ScoreAxis,
    groups: &[(&[f32], RGBColor)],
    threshold: f32,
) -> Result<String, ReportError> {
    let all = groups.iter().map(|&(scores, color)| {
        let shares = axis.shares(scores, BINS);
        (shares, color)
    });
    let all: Vec<_> = all.collect();
    let highest = all
        .iter()
        .flat_map(|(shares, _)| shares)
        .copied()
        .fold(0.0, f64::max);
    let top = (highest * 1.08).max(0.05);
    let width = (axis.high - axis.low) / BINS as f64;
    let (svg, (x, y)) = drawn("scores", |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(16)
            .x_label_area_size(42)
            .y_label_area_size(48)
            .build_cartesian_2d(Scores(*axis), 0.0..top)?;
        let label = |place: &f64| axis.label(*place);
        let share = |share: &f64| format!("{:.0}", share * 100.0);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("score of the image")
            .y_desc("% of images")
            .x_labels(8)
            .y_labels(5)
            .x_label_formatter(&label)
            .y_label_formatter(&share)
            .disable_x_mesh()
            .label_style(text(14))
            .axis_desc_style(text(15))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT);
        mesh.draw()?;
        for (shares, color) in &all {
            let bars = shares.iter().enumerate().filter(|(_, share)| **share > 0.0);
            chart.draw_series(bars.map(|(bin, &share)| {
                let left = axis.low + width * bin as f64;
                Rectangle::new(
                    [(left, 0.0), (left + width, share)],
                    color.mix(0.6).filled(),
                )
            }))?;
        }
        Ok(chart.plotting_area().get_pixel_range())
    })?;
    let length = f64::from(x.end - x.start);
    let at = f64::from(x.start) + length * axis.share(threshold);
    let (from, to, top, bottom) = (x.start, x.end, y.start, y.end);
    let lines = format!(
        "<path class=\"mark\" d=\"M{at:.1} {top}V{bottom}\"/>\
         <g class=\"cut\" data-from=\"{from}\" data-to=\"{to}\" transform=\"translate({at:.1} 0)\"><path d=\"M0 {top}V{bottom}\"/></g></svg>"
    );
    Ok(svg.replacen("</svg>", &lines, 1))
}

/// A point of a [`scatter`] plot: seconds (above 0), a measure from 0 to 1, and its number.
pub(super) struct Numbered {
    pub seconds: f64,
    pub measure: f64,
    pub number: usize,
}

/// A measure against time, on a logarithmic axis. Numbers stand beside the points. There must be a point.
pub(super) fn scatter(
    what: &'static str,
    [x_title, y_title]: [&str; 2],
    points: &[Numbered],
) -> Result<String, ReportError> {
    let places = points.iter().map(|point| point.seconds.log10());
    let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
        (low.min(at), high.max(at))
    });
    let margin = ((high - low) * 0.08).max(0.2);
    let axis = Seconds(low - margin..high + margin);
    let lowest = points.iter().map(|point| point.measure).fold(1.0, f64::min);
    let bottom = ((lowest * 10.0 - 0.5).floor() / 10.0).max(0.0);
    let (svg, ()) = drawn(what, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .margin_right(16)
            .x_label_area_size(42)
            .y_label_area_size(48)
            .build_cartesian_2d(axis, bottom..1.0)?;
        chart
            .configure_mesh()
            .x_desc(x_title)
            .y_desc(y_title)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|place| short(10f64.powf(*place)))
            .y_label_formatter(&|y| short(*y))
            .label_style(text(14))
            .axis_desc_style(text(15))
            .axis_style(INK)
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .draw()?;
        let mut labels: Vec<(i32, i32)> = Vec::new();
        for point in points {
            let at = (point.seconds.log10(), point.measure);
            chart.draw_series([Circle::new(at, 4, SECOND.filled())])?;
            let (x, y) = chart.backend_coord(&at);
            let mut label = (x + 7, y - 8);
            // A number that would cover another number moves down.
            while let Some(other) = labels
                .iter()
                .find(|other| (other.0 - label.0).abs() < 18 && (other.1 - label.1).abs() < 13)
            {
                label.1 = other.1 + 13;
            }
            labels.push(label);
            area.draw(&Text::new(point.number.to_string(), label, text(14)))?;
        }
        Ok(())
    })?;
    Ok(svg)
}

/// A logarithmic axis of seconds: the powers of ten that the ends are.
struct Seconds(std::ops::Range<f64>);

impl Ranged for Seconds {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.0.clone()).map(place, limit)
    }

    /// Round numbers: 1, 2, 5, 10, …; fewer of them on a long axis.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let powers = self.0.start.floor() as i32..=self.0.end.ceil() as i32;
        let marks = |digits: &[f64]| -> Vec<f64> {
            let all = powers.clone().flat_map(|power| {
                let places = digits
                    .iter()
                    .map(move |digit| digit.log10() + f64::from(power));
                places.collect::<Vec<_>>()
            });
            all.filter(|place| self.0.contains(place)).collect()
        };
        let fine = marks(&[1.0, 2.0, 5.0]);
        if fine.len() <= hint.max_num_points().max(8) {
            fine
        } else {
            marks(&[1.0])
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0.clone()
    }
}

/// The horizontal axis of a histogram.
struct Scores(ScoreAxis);

impl Ranged for Scores {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(place, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let usual = |hint| RangedCoordf64::from(self.range()).key_points(hint);
        self.0
            .marks()
            .unwrap_or_else(|| usual(hint.max_num_points()))
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0.low..self.0.high
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Wrong = Box<dyn std::error::Error>;

/// An SVG of the usual size that `draw` has drawn, and the result of `draw`. `what` is its name for screen readers.
fn drawn<T>(
    what: &'static str,
    draw: impl FnOnce(&Area<'_>) -> Result<T, Wrong>,
) -> Result<(String, T), ReportError> {
    let mut svg = String::new();
    let result = {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&area).and_then(|result| {
            area.present()?;
            Ok(result)
        })
    };
    let result = result.map_err(|error| ReportError::Plot {
        what,
        reason: error.to_string(),
    })?;
    let head = format!("<svg role=\"img\" aria-label=\"{what}\" ");
    Ok((svg.replacen("<svg ", &head, 1), result))
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// A rate without zeros at its end.
fn short(rate: f64) -> String {
    let text = format!("{rate:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// A line up to `end`, cut between two points.
fn until(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut cut = Vec::with_capacity(points.len());
    for &(x, y) in points {
        if x <= end {
            cut.push((x, y));
            continue;
        }
        if let Some(&(before, from)) = cut.last() {
            cut.push((end, from + (y - from) * (end - before) / (x - before)));
        }
        break;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_svg_without_links() {
        let line = Line {
            points: vec![(0.0, 0.0), (0.1, 0.6), (1.0, 1.0)],
            color: FIRST,
            shaded: true,
        };
        let svg = curves("PRO", ["x", "y"], 0.3, true, &[line]).unwrap();
        assert!(svg.starts_with("<svg role=\"img\" ") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("viewBox") && svg.contains("#C2410C"));
        let scores = [1.0, 2.0, 2.5, 80.0, 4000.0];
        let axis = ScoreAxis::new(&scores, 3.0).unwrap();
        let groups = [(&scores[..3], SECOND), (&scores[3..], FIRST)];
        let svg = histogram(&axis, &groups, 3.0).unwrap();
        assert!(svg.contains("#1F6FEB") && svg.contains("1000"));
        assert!(svg.contains("class=\"mark\"") && svg.contains("class=\"cut\" data-from=\"54\""));
    }

    #[test]
    fn detectors_that_are_equal_have_numbers_apart() {
        let point = |number, seconds| Numbered {
            seconds,
            measure: 0.9,
            number,
        };
        let points = [point(1, 2.0), point(2, 2.0), point(3, 150.0)];
        let svg = scatter("time", ["seconds", "AU-PRO"], &points).unwrap();
        assert_eq!(svg.matches("<circle ").count(), 3);
        let place = |number: &str| {
            let text = svg.split("<text ").find(|text| {
                let end = text.find("</text>").unwrap_or(0);
                text[..end].trim().ends_with(number)
            });
            let text = text.unwrap();
            text[..text.find('>').unwrap()].to_owned()
        };
        assert_ne!(place("\n1"), place("\n2"));
        assert!(svg.contains("100") && svg.contains("10"));
    }

    #[test]
    fn lines_end_where_the_plot_does() {
        let cut = until(&[(0.0, 0.0), (0.2, 0.5), (0.4, 0.7)], 0.3);
        assert_eq!(cut.len(), 3);
        assert!((cut[2].0 - 0.3).abs() < 1e-12 && (cut[2].1 - 0.6).abs() < 1e-12);
    }
}
