//! Picture sheets: what a detector saw, image by image, with the figures on top.
//!
//! A [`Sheet`] takes rows as they come, keeps thumbnails only, and makes of them one self-contained
//! HTML page (no network, no script) or one picture (for documents).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Cursor};
use std::path::Path;

use ::image::codecs::jpeg::JpegEncoder;
use ::image::imageops::{self, FilterType};
use ::image::{ImageFormat, Rgb, RgbImage};
use base64::display::Base64Display;
use base64::prelude::BASE64_STANDARD;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

use crate::data::mask::Mask;
use crate::evaluate::Evaluation;
use crate::image::Image;
use crate::image::canvas::Canvas;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::{self, Heatmap, SizeMismatch};
use pupilla_files::atomic_file::{self, WriteError};

/// The longer side of a thumbnail, in pixels.
const THUMBNAIL: u32 = 320;

/// The rows of a kind that a sheet keeps unless told otherwise.
const ROWS_PER_KIND: usize = 12;

/// One image of a sheet. Image, mask and map have the same size.
#[derive(Clone, Copy, Debug)]
pub struct SheetRow<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// Its defect type; `None` for a good image.
    pub defect: Option<&'a str>,
    /// Its score; higher is more anomalous.
    pub score: f32,
    /// The image.
    pub image: &'a Image,
    /// Its ground-truth mask.
    pub mask: &'a Mask,
    /// Its anomaly map.
    pub map: &'a AnomalyMap,
}

/// A [`SheetRow`] as it is kept: about 1 MB.
#[derive(Clone, Debug)]
struct Thumbnails {
    name: String,
    score: f32,
    image: RgbImage,
    mask: RgbImage,
    heatmap: RgbImage,
}

/// The rows of one kind of image.
#[derive(Clone, Debug, Default)]
struct Kind {
    rows: Vec<Thumbnails>,
    left_out: usize,
}

/// A picture sheet under construction; its memory is bounded by the rows of a kind it keeps.
#[derive(Clone, Debug)]
pub struct Sheet {
    heatmap: Heatmap,
    rows_per_kind: usize,
    defects: BTreeMap<String, Kind>,
    good: Kind,
}

impl Sheet {
    /// An empty sheet, whose maps are all drawn on the same colour scale.
    pub fn new(heatmap: Heatmap) -> Self {
        Self {
            heatmap,
            rows_per_kind: ROWS_PER_KIND,
            defects: BTreeMap::new(),
            good: Kind::default(),
        }
    }

    /// Keeps the first `rows` images of each defect type and of the good ones (12 otherwise); the
    /// page says how many were left out.
    pub fn rows_per_kind(mut self, rows: usize) -> Self {
        self.rows_per_kind = rows;
        self
    }

    /// Adds an image.
    ///
    /// # Errors
    /// [`SizeMismatch`] if image, mask and map differ in size.
    pub fn add(&mut self, row: &SheetRow<'_>) -> Result<(), SizeMismatch> {
        let (mask, map) = (row.mask, row.map);
        heatmap::same_size(row.image, "mask", (mask.width(), mask.height()))?;
        heatmap::same_size(row.image, "anomaly map", (map.width(), map.height()))?;
        let kind = match row.defect {
            None => &mut self.good,
            Some(defect) => self.defects.entry(defect.to_owned()).or_default(),
        };
        if kind.rows.len() >= self.rows_per_kind {
            kind.left_out += 1;
            return Ok(());
        }
        let values = mask
            .defect()
            .iter()
            .map(|&d| if d { [255; 3] } else { [0; 3] });
        let mut mask_picture = RgbImage::new(mask.width() as u32, mask.height() as u32);
        for (pixel, value) in mask_picture.pixels_mut().zip(values) {
            *pixel = Rgb(value);
        }
        kind.rows.push(Thumbnails {
            name: row.name.to_owned(),
            score: row.score,
            image: fit(heatmap::to_rgb8(row.image), THUMBNAIL),
            mask: fit(mask_picture, THUMBNAIL),
            heatmap: fit(self.heatmap.overlay(row.image, map)?, THUMBNAIL),
        });
        Ok(())
    }

    /// The kinds in the order of a sheet: defects by name, the good images last; in each, the
    /// highest scores first.
    fn kinds(&self) -> impl Iterator<Item = (Option<&str>, Vec<&Thumbnails>, usize)> {
        let defects = self.defects.iter();
        defects
            .map(|(name, kind)| (Some(name.as_str()), kind))
            .chain([(None, &self.good)])
            .filter(|(_, kind)| !kind.rows.is_empty())
            .map(|(name, kind)| {
                let mut rows: Vec<_> = kind.rows.iter().collect();
                rows.sort_by(|a, b| b.score.total_cmp(&a.score));
                (name, rows, kind.left_out)
            })
    }

    /// The sheet as one HTML page, images embedded: headline figures, a table of defect types, and
    /// every kept row as image, mask and heatmap. Readable from 320 px wide, in light and dark.
    ///
    /// # Errors
    /// What `write` says.
    pub fn html(
        &self,
        title: &str,
        evaluation: &Evaluation,
        write: &mut dyn io::Write,
    ) -> io::Result<()> {
        let title = escape(title);
        write!(
            write,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        )?;
        headline(evaluation, write)?;
        table(evaluation, write)?;
        self.legend(write)?;
        for (defect, rows, left_out) in self.kinds() {
            let heading = escape(defect.unwrap_or("good"));
            let total = rows.len() + left_out;
            write!(
                write,
                "<section>\n<h2>{heading} <small>{total} image{}",
                plural(total)
            )?;
            if left_out > 0 {
                write!(write, ", the first {} shown", rows.len())?;
            }
            writeln!(write, "</small></h2>\n<div class=\"rows\">")?;
            for row in rows {
                figure_row(row, write)?;
            }
            writeln!(write, "</div>\n</section>")?;
        }
        writeln!(write, "</main>\n</body>\n</html>")
    }

    /// Writes [`Sheet::html`] to a file, whole or not at all.
    ///
    /// # Errors
    /// [`WriteError`] as in [`atomic_file::write`].
    pub fn write_html(
        &self,
        path: &Path,
        title: &str,
        evaluation: &Evaluation,
    ) -> Result<(), WriteError> {
        atomic_file::write(path, |file| self.html(title, evaluation, file))
    }

    /// The colour scale with the scores at its ends.
    fn legend(&self, write: &mut dyn io::Write) -> io::Result<()> {
        let stops = (0..=16).fold(String::new(), |mut stops, n| {
            let [red, green, blue] = Heatmap::color(f64::from(n) / 16.0);
            let comma = if n > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(stops, "{comma}rgb({red},{green},{blue})");
            stops
        });
        let Heatmap { low, high } = self.heatmap;
        writeln!(
            write,
            "<p class=\"legend\"><span>heatmap: score {low:.2} or less, the grey image</span>\
             <i style=\"background:linear-gradient(90deg,{stops})\"></i>\
             <span>{high:.2} or more</span></p>"
        )
    }

    /// The sheet as one picture: `across` images beside each other, each as image, mask and
    /// heatmap of at most `cell` pixels, the `per_kind` highest-scoring rows of each kind.
    ///
    /// `across` and `cell` are raised to 1 and 16 if they are less, `cell` is at most 320.
    pub fn contact_sheet(&self, across: usize, cell: u32, per_kind: usize) -> RgbImage {
        const GAP: i32 = 6;
        const GUTTER: i32 = 28;
        const MARGIN: i32 = 16;
        const HEADING: i32 = 30;
        const LABEL: i32 = 18;
        let across = across.max(1);
        let cell = cell.clamp(16, THUMBNAIL);
        let side = cell as i32;
        let triple = 3 * side + 2 * GAP;
        let width = 2 * MARGIN + across as i32 * (triple + GUTTER) - GUTTER;
        // First where everything goes, then a picture of that height.
        let mut headings = Vec::new();
        let mut places = Vec::new();
        let mut top = MARGIN;
        for (defect, rows, _) in self.kinds() {
            headings.push((top, defect.unwrap_or("good")));
            top += HEADING;
            for line in rows[..rows.len().min(per_kind)].chunks(across) {
                let cells: Vec<_> = line
                    .iter()
                    .map(|row| [&row.image, &row.mask, &row.heatmap].map(|p| fit(p.clone(), cell)))
                    .collect();
                let tallest = cells.iter().map(|cell| cell[0].height() as i32).max();
                for (n, (row, cells)) in line.iter().zip(cells).enumerate() {
                    let left = MARGIN + n as i32 * (triple + GUTTER);
                    places.push((left, top, *row, cells));
                }
                top += LABEL + tallest.unwrap_or(0) + GAP;
            }
            top += GAP;
        }
        let mut canvas = Canvas(RgbImage::from_pixel(
            width as u32,
            (top + MARGIN - GAP) as u32,
            Rgb([24, 26, 30]),
        ));
        for (top, text) in headings {
            let style = MonoTextStyle::new(&FONT_9X15_BOLD, Rgb888::WHITE);
            canvas.text(text, MARGIN, top + 8, triple, style);
        }
        for (left, top, row, cells) in places {
            let style = MonoTextStyle::new(&FONT_7X13, Rgb888::new(180, 186, 196));
            let score = format!("score {:.2}", row.score);
            let room = triple - (score.len() as i32 + 2) * 7;
            canvas.text(&row.name, left, top + 2, room, style);
            let right = left + triple - score.len() as i32 * 7;
            canvas.text(&score, right.max(left), top + 2, triple, style);
            for (n, picture) in cells.iter().enumerate() {
                let x = left + n as i32 * (side + GAP) + (side - picture.width() as i32) / 2;
                imageops::replace(&mut canvas.0, picture, i64::from(x), i64::from(top + LABEL));
            }
        }
        canvas.0
    }

    /// Writes [`Sheet::contact_sheet`] as a PNG, whole or not at all.
    ///
    /// # Errors
    /// [`WriteError`] as in [`atomic_file::write`].
    pub fn write_contact_sheet(
        &self,
        path: &Path,
        across: usize,
        cell: u32,
        per_kind: usize,
    ) -> Result<(), WriteError> {
        heatmap::write_png(path, &self.contact_sheet(across, cell, per_kind))
    }
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c1f24;--soft:#5d6673;--line:#d9dee5;--card:#fff;--page:#f4f6f8}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebef;--soft:#9aa4b1;--line:#343a43;--card:#1d2126;--page:#14171a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:80rem;margin:0 auto;padding:1rem}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2rem 0 .6rem;overflow-wrap:anywhere}
small{color:var(--soft);font-weight:400;font-size:.85rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5rem,1fr));gap:.6rem;margin:0}
dl div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
dt{color:var(--soft);font-size:.8rem}
dd{margin:0;font-size:1.5rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.note{color:var(--soft);font-size:.85rem;margin:.6rem 0;max-width:46rem}
.warn{border-left:3px solid #d98a00;padding-left:.7rem;overflow-wrap:anywhere}
.table{overflow-x:auto;margin:1.2rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .5rem;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:500;vertical-align:bottom}
th:first-child,td:first-child{text-align:left;padding-left:0}
@media(max-width:30rem){table{font-size:.8rem}th,td{padding:.35rem .25rem}}
.legend{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .6rem;color:var(--soft);font-size:.85rem;margin:1.5rem 0 0}
.legend i{flex:0 1 12rem;min-width:5rem;height:.8rem;border-radius:.4rem}
.rows{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,34rem),1fr));gap:.8rem}
article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem}
article h3{display:flex;justify-content:space-between;gap:1rem;margin:0 0 .4rem;font-size:.85rem;font-weight:500}
article h3 span{overflow-wrap:anywhere;min-width:0}
article h3 b{white-space:nowrap;font-variant-numeric:tabular-nums}
article>div{display:grid;grid-template-columns:repeat(3,1fr);gap:.4rem;align-items:start}
figure{margin:0;min-width:0}
img{display:block;width:100%;height:auto;border-radius:.25rem}
figcaption{color:var(--soft);font-size:.75rem;text-align:center;margin-top:.15rem}
";

/// The figures of the whole test set.
fn headline(evaluation: &Evaluation, write: &mut dyn io::Write) -> io::Result<()> {
    let mut figures = vec![
        ("AU-PRO", measure(evaluation.au_pro)),
        ("pixel AUROC", measure(evaluation.pixel_auroc)),
        ("image AUROC", measure(evaluation.image_auroc)),
        ("images", evaluation.images.to_string()),
        ("defect regions", evaluation.regions.to_string()),
    ];
    if let Some(seconds) = evaluation.seconds_per_image {
        figures.push(("seconds per image", format!("{seconds:.3}")));
    }
    writeln!(write, "<dl>")?;
    for (name, value) in figures {
        writeln!(write, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(
        write,
        "</dl>\n<p class=\"note\">AU-PRO: how much of each defect is found, averaged over the \
         regions, while at most {:.0}&nbsp;% of the good pixels are called defective. AUROC: the \
         chance that a defective pixel (or image) scores above a good one. 1 is perfect; an AUROC \
         of 0.5 is chance.</p>",
        evaluation.fpr_limit * 100.0
    )?;
    for warning in &evaluation.warnings {
        writeln!(write, "<p class=\"note warn\">{}</p>", escape(warning))?;
    }
    Ok(())
}

/// One line for each defect type.
fn table(evaluation: &Evaluation, write: &mut dyn io::Write) -> io::Result<()> {
    if evaluation.per_defect.is_empty() {
        return Ok(());
    }
    writeln!(
        write,
        "<div class=\"table\"><table>\n<thead><tr><th>defect</th><th>images</th><th>regions</th>\
         <th>AU-PRO</th><th>pixel AUROC</th><th>image AUROC</th></tr></thead>\n<tbody>"
    )?;
    for (kind, defect) in &evaluation.per_defect {
        writeln!(
            write,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(kind),
            defect.images,
            defect.regions,
            measure(defect.au_pro),
            measure(defect.pixel_auroc),
            measure(defect.image_auroc)
        )?;
    }
    writeln!(write, "</tbody></table></div>")
}

/// One image, its mask and its heatmap.
fn figure_row(row: &Thumbnails, write: &mut dyn io::Write) -> io::Result<()> {
    let name = escape(&row.name);
    writeln!(
        write,
        "<article><h3><span>{name}</span><b>score {:.2}</b></h3><div>",
        row.score
    )?;
    let pictures = [
        ("image", &row.image, ImageFormat::Jpeg),
        ("defect mask", &row.mask, ImageFormat::Png),
        ("heatmap", &row.heatmap, ImageFormat::Jpeg),
    ];
    for (what, picture, format) in pictures {
        let mut bytes = Vec::new();
        match format {
            ImageFormat::Jpeg => picture
                .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 88))
                .map_err(io::Error::other)?,
            _ => picture
                .write_to(&mut Cursor::new(&mut bytes), format)
                .map_err(io::Error::other)?,
        }
        writeln!(
            write,
            "<figure><img loading=\"lazy\" width=\"{}\" height=\"{}\" alt=\"{what} of {name}\" \
             src=\"data:{};base64,{}\"><figcaption>{what}</figcaption></figure>",
            picture.width(),
            picture.height(),
            format.to_mime_type(),
            Base64Display::new(&bytes, &BASE64_STANDARD)
        )?;
    }
    writeln!(write, "</div></article>")
}

/// A measure for people; a dash where it is undefined.
fn measure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Text that is safe between tags and inside quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
        safe
    })
}

/// `picture` with a longer side of at most `side`, its aspect kept; small ones as they are.
fn fit(picture: RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = width.max(height);
    if longer <= side {
        return picture;
    }
    let scaled = |length: u32| {
        let length = u64::from(length) * u64::from(side);
        ((length + u64::from(longer) / 2) / u64::from(longer)).max(1) as u32
    };
    imageops::resize(
        &picture,
        scaled(width),
        scaled(height),
        FilterType::Triangle,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(sheet: &mut Sheet, name: &str, defect: Option<&str>, width: usize, height: usize) {
        let pixels = (0..width * height * 3).map(|n| (n % 97) as f32 / 96.0);
        let scores = (0..width * height).map(|n| (n % width) as f32 / width as f32);
        let scores: Vec<f32> = scores.collect();
        let defective = scores.iter().map(|&s| defect.is_some() && s > 0.8);
        let row = SheetRow {
            name,
            defect,
            score: 1.0,
            image: &Image::new(width, height, pixels.collect()),
            mask: &Mask::new(width, height, defective.collect()),
            map: &AnomalyMap::new(width, height, scores.clone()),
        };
        sheet.add(&row).unwrap();
    }

    fn sheet() -> Sheet {
        let scale = Heatmap {
            low: 0.2,
            high: 0.9,
        };
        let mut sheet = Sheet::new(scale).rows_per_kind(2);
        example(&mut sheet, "good/000.png", None, 40, 30);
        for name in ["<a>.png", "b&b.png", "c.png"] {
            example(&mut sheet, name, Some("\"crack\""), 700, 500);
        }
        example(&mut sheet, "thin.png", Some("hole"), 2000, 1);
        sheet
    }

    #[test]
    fn a_page_holds_everything_and_escapes_names() {
        let mut page = Vec::new();
        let evaluation = Evaluation {
            au_pro: Some(0.91449),
            warnings: vec!["<b>".to_owned()],
            fpr_limit: 0.3,
            ..Evaluation::default()
        };
        sheet().html("Tile & <co>", &evaluation, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("<title>Tile &amp; &lt;co&gt;</title>"));
        assert!(page.contains("<dd>0.914</dd>") && page.contains("<dd>–</dd>"));
        assert!(page.contains("&lt;a&gt;.png") && page.contains("b&amp;b.png"));
        assert!(page.contains("&quot;crack&quot; <small>3 images, the first 2 shown"));
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>.") && !page.contains("<co>"));
        assert_eq!(page.matches("<img ").count(), 3 * 4);
        assert!(!page.contains("http"), "nothing comes from a network");
        assert!(page.find("hole").unwrap() < page.find("good/000.png").unwrap());
    }

    #[test]
    fn a_contact_sheet_has_a_place_for_every_row() {
        let sheet = sheet();
        let wide = sheet.contact_sheet(2, 100, 8);
        let narrow = sheet.contact_sheet(1, 100, 8);
        assert_eq!(narrow.width(), 2 * 16 + 312);
        assert!(wide.width() > narrow.width() && wide.height() < narrow.height());
        assert!(sheet.contact_sheet(0, 0, 0).height() > 0);
        let empty = Sheet::new(sheet.heatmap).contact_sheet(3, 64, 4);
        assert!(empty.width() > 0 && empty.height() > 0);
    }

    #[test]
    fn sizes_must_agree() {
        let mut sheet = sheet();
        let row = SheetRow {
            name: "x",
            defect: None,
            score: 0.0,
            image: &Image::new(2, 2, vec![0.0; 12]),
            mask: &Mask::good(2, 1),
            map: &AnomalyMap::new(2, 2, vec![0.0; 4]),
        };
        assert_eq!(sheet.add(&row).unwrap_err().what, "mask");
    }
}
