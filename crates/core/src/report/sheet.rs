//! Picture sheets: images, masks and heatmaps, image by image, with the figures on top.
//!
//! A [`Sheet`] takes rows one by one, and keeps only thumbnails. It makes one self-contained HTML page (no network, no script) or one
//! picture (for documents).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use ::image::{DynamicImage, GrayImage, Rgb, RgbImage, imageops};
use askama::Template;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

use super::page::{measure, shortest, stops};
use super::thumbnail::{self, fit};
use crate::data::mask::Mask;
use crate::evaluate::Evaluation;
use crate::image::Image;
use crate::image::canvas::Canvas;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::{self, Heatmap, SizeMismatch};
use pupilla_files::atomic_file::{self, WriteError};

/// The longer side of a thumbnail, in pixels.
const THUMBNAIL: u32 = 320;

/// The quality of the JPEGs on a page.
const QUALITY: u8 = 88;

/// The rows of a kind that a sheet keeps unless told otherwise.
const ROWS_PER_KIND: usize = 12;

/// One image of a sheet. Image, mask and map have the same size.
#[derive(Clone, Copy, Debug)]
pub struct SheetRow<'a> {
    /// The name of the image.
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
    mask: GrayImage,
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
        heatmap::same_size(row.image, "mask", mask.size())?;
        heatmap::same_size(row.image, "anomaly map", map.size())?;
        let kind = match row.defect {
            None => &mut self.good,
            Some(defect) => self.defects.entry(defect.to_owned()).or_default(),
        };
        if kind.rows.len() >= self.rows_per_kind {
            kind.left_out += 1;
            return Ok(());
        }
        kind.rows.push(Thumbnails {
            name: row.name.to_owned(),
            score: row.score,
            image: fit(heatmap::to_rgb8(row.image), THUMBNAIL),
            mask: fit(thumbnail::mask(mask), THUMBNAIL),
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
        let kinds = self.kinds().map(|(defect, rows, left_out)| PageKind {
            name: defect.unwrap_or("good"),
            images: rows.len() + left_out,
            rows,
        });
        let page = Page {
            title,
            evaluation,
            headline: headline(evaluation),
            fpr_limit: shortest(100.0 * evaluation.fpr_limit),
            scale: [self.heatmap.low, self.heatmap.high],
            stops: stops(),
            kinds: kinds.collect(),
        };
        page.write_into(write)
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
                    .map(|row| {
                        let mask = DynamicImage::from(row.mask.clone()).to_rgb8();
                        [row.image.clone(), mask, row.heatmap.clone()].map(|p| fit(p, cell))
                    })
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

/// What `templates/sheet.html` shows.
#[derive(Template)]
#[template(path = "sheet.html")]
struct Page<'a> {
    title: &'a str,
    evaluation: &'a Evaluation,
    headline: Vec<(&'static str, String)>,
    /// The false-positive rate of AU-PRO, in percent.
    fpr_limit: String,
    scale: [f32; 2],
    stops: String,
    kinds: Vec<PageKind<'a>>,
}

struct PageKind<'a> {
    name: &'a str,
    /// How many there are; some may not be shown.
    images: usize,
    rows: Vec<&'a Thumbnails>,
}

impl Thumbnails {
    /// What each picture shows, its size, and its data URI.
    fn pictures(&self) -> askama::Result<[(&'static str, [u32; 2], String); 3]> {
        let wrong = |error: ::image::ImageError| askama::Error::custom(error);
        let size = [self.image.width(), self.image.height()];
        let image = thumbnail::jpeg(&self.image, QUALITY).map_err(wrong)?;
        let mask = thumbnail::png(&self.mask).map_err(wrong)?;
        let heatmap = thumbnail::jpeg(&self.heatmap, QUALITY).map_err(wrong)?;
        Ok([
            ("image", size, image),
            ("defect mask", size, mask),
            ("heatmap", size, heatmap),
        ])
    }
}

/// The figures of the whole test set.
fn headline(evaluation: &Evaluation) -> Vec<(&'static str, String)> {
    let mut figures = vec![
        ("AU-PRO", measure(evaluation.pixel.au_pro)),
        ("pixel AUROC", measure(evaluation.pixel.auroc)),
        ("image AUROC", measure(evaluation.image.auroc)),
        ("images", evaluation.images.to_string()),
        ("defect regions", evaluation.regions.to_string()),
    ];
    if let Some(seconds) = evaluation.seconds_per_image {
        figures.push(("seconds per image", format!("{seconds:.3}")));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::PixelMeasures;

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
            pixel: PixelMeasures {
                au_pro: Some(0.91449),
                ..PixelMeasures::default()
            },
            warnings: vec!["<b>".to_owned()],
            fpr_limit: 0.3,
            ..Evaluation::default()
        };
        sheet().html("Tile & <co>", &evaluation, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains("<title>Tile &#38; &#60;co&#62;</title>"));
        assert!(page.contains("<dd>0.914</dd>") && page.contains("<dd>–</dd>"));
        assert!(page.contains("&#60;a&#62;.png") && page.contains("b&#38;b.png"));
        assert!(page.contains("&#34;crack&#34; <small>3 images, the first 2 shown"));
        assert!(page.contains("&#60;b&#62;") && !page.contains("<b>.") && !page.contains("<co>"));
        assert_eq!(page.matches("<img ").count(), 3 * 4);
        for caption in ["image", "defect mask", "heatmap"] {
            let caption = format!("<figcaption>{caption}</figcaption>");
            assert_eq!(page.matches(&caption).count(), 4, "{caption}");
        }
        assert!(
            !page.contains("http:") && !page.contains("https:"),
            "nothing comes from a network"
        );
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
