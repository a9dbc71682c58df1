//! One picture of images, masks and heatmaps, for documents.

use std::collections::BTreeMap;
use std::path::Path;

use ::image::{DynamicImage, Rgb, RgbImage, imageops};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

use super::Label;
use super::thumbnail::{self, fit};
use crate::data::mask::Mask;
use crate::image::Image;
use crate::image::canvas::Canvas;
use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::{self, Heatmap, SizeMismatch};
use pupilla_files::atomic_file::WriteError;

/// The largest longer side of a picture in the sheet, in pixels.
const THUMBNAIL: u32 = 320;

/// The rows of a kind that a sheet keeps unless told otherwise.
const ROWS_PER_KIND: usize = 2;

/// One image of a sheet. Image, mask and map have the same size.
#[derive(Clone, Copy, Debug)]
pub struct SheetRow<'a> {
    /// The name of the image.
    pub name: &'a str,
    /// Its label.
    pub label: Label<'a>,
    /// Its score; higher is more anomalous.
    pub score: f32,
    /// The image.
    pub image: &'a Image,
    /// Its ground-truth mask, if there is one.
    pub mask: Option<&'a Mask>,
    /// Its anomaly map.
    pub map: &'a AnomalyMap,
}

/// A [`SheetRow`] as it is kept: image, mask and heatmap, about 1 MB.
#[derive(Clone, Debug)]
struct Row {
    name: String,
    score: f32,
    pictures: [Option<RgbImage>; 3],
}

/// A sheet under construction. It keeps the images with the highest scores of each kind.
#[derive(Clone, Debug)]
pub struct ContactSheet {
    heatmap: Heatmap,
    rows_per_kind: usize,
    defects: BTreeMap<String, Vec<Row>>,
    good: Vec<Row>,
}

impl ContactSheet {
    /// An empty sheet, whose maps are all drawn on the same colour scale.
    pub fn new(heatmap: Heatmap) -> Self {
        Self {
            heatmap,
            rows_per_kind: ROWS_PER_KIND,
            defects: BTreeMap::new(),
            good: Vec::new(),
        }
    }

    /// Keeps `rows` images of each defect type and of the good images, the highest scores first (2 otherwise).
    #[must_use]
    pub fn rows_per_kind(mut self, rows: usize) -> Self {
        self.rows_per_kind = rows;
        self
    }

    /// Adds an image. An image without a label counts as good.
    ///
    /// # Errors
    /// [`SizeMismatch`] if image, mask and map differ in size.
    pub fn add(&mut self, row: &SheetRow<'_>) -> Result<(), SizeMismatch> {
        if let Some(mask) = row.mask {
            heatmap::same_size(row.image, "mask", mask.size())?;
        }
        heatmap::same_size(row.image, "anomaly map", row.map.size())?;
        let rows = match row.label {
            Label::Defective(defect) => self.defects.entry(defect.to_owned()).or_default(),
            Label::Good | Label::Unknown => &mut self.good,
        };
        let place = rows.partition_point(|other| other.score >= row.score);
        if place >= self.rows_per_kind {
            return Ok(());
        }
        let mask = row.mask.map(thumbnail::mask);
        let mask = mask.map(|mask| DynamicImage::from(fit(mask, THUMBNAIL)).to_rgb8());
        let kept = Row {
            name: row.name.to_owned(),
            score: row.score,
            pictures: [
                Some(fit(heatmap::to_rgb8(row.image), THUMBNAIL)),
                mask,
                Some(fit(self.heatmap.overlay(row.image, row.map)?, THUMBNAIL)),
            ],
        };
        rows.insert(place, kept);
        rows.truncate(self.rows_per_kind);
        Ok(())
    }

    /// The kinds in the order of a sheet: defects by name, the good images last.
    fn kinds(&self) -> impl Iterator<Item = (&str, &[Row])> {
        let defects = self.defects.iter();
        defects
            .map(|(name, rows)| (name.as_str(), rows.as_slice()))
            .chain([("good", self.good.as_slice())])
            .filter(|(_, rows)| !rows.is_empty())
    }

    /// The sheet as one picture: `across` images beside each other, each as image, mask and
    /// heatmap of at most `cell` pixels.
    ///
    /// `across` and `cell` are raised to 1 and 16 if they are less, `cell` is at most 320.
    pub fn draw(&self, across: usize, cell: u32) -> RgbImage {
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
        for (kind, rows) in self.kinds() {
            headings.push((top, kind));
            top += HEADING;
            for line in rows.chunks(across) {
                let mut tallest = 0;
                for (n, row) in line.iter().enumerate() {
                    let cells = row.pictures.clone();
                    let cells = cells.map(|picture| picture.map(|picture| fit(picture, cell)));
                    let heights = cells.iter().flatten().map(|cell| cell.height() as i32);
                    tallest = heights.fold(tallest, i32::max);
                    let left = MARGIN + n as i32 * (triple + GUTTER);
                    places.push((left, top, row, cells));
                }
                top += LABEL + tallest + GAP;
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
                let Some(picture) = picture else {
                    continue;
                };
                let x = left + n as i32 * (side + GAP) + (side - picture.width() as i32) / 2;
                imageops::replace(&mut canvas.0, picture, i64::from(x), i64::from(top + LABEL));
            }
        }
        canvas.0
    }

    /// Writes [`draw`](Self::draw) as a PNG, whole or not at all.
    ///
    /// # Errors
    /// [`WriteError`] as in [`pupilla_files::atomic_file::write`].
    pub fn write(&self, path: &Path, across: usize, cell: u32) -> Result<(), WriteError> {
        heatmap::write_png(path, &self.draw(across, cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(
        sheet: &mut ContactSheet,
        label: Label<'_>,
        score: f32,
        [width, height]: [usize; 2],
    ) {
        let mask = Mask::good(width, height);
        let row = SheetRow {
            name: "x.png",
            label,
            score,
            image: &Image::new(width, height, vec![0.5; width * height * 3]),
            mask: (label != Label::Good).then_some(&mask),
            map: &AnomalyMap::new(width, height, vec![score; width * height]),
        };
        sheet.add(&row).unwrap();
    }

    fn sheet() -> ContactSheet {
        let mut sheet = ContactSheet::new(Heatmap {
            low: 0.2,
            high: 0.9,
        });
        example(&mut sheet, Label::Good, 0.1, [40, 30]);
        for score in [0.3, 0.9, 0.5] {
            example(&mut sheet, Label::Defective("crack"), score, [700, 500]);
        }
        example(&mut sheet, Label::Defective("hole"), 0.1, [2000, 1]);
        sheet
    }

    #[test]
    fn the_highest_scores_of_each_kind_are_kept() {
        let sheet = sheet();
        let kinds: Vec<(&str, Vec<f32>)> = sheet
            .kinds()
            .map(|(kind, rows)| (kind, rows.iter().map(|row| row.score).collect()))
            .collect();
        let expected = [
            ("crack", vec![0.9, 0.5]),
            ("hole", vec![0.1]),
            ("good", vec![0.1]),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn every_row_has_a_place() {
        let sheet = sheet();
        let wide = sheet.draw(2, 100);
        let narrow = sheet.draw(1, 100);
        assert_eq!(narrow.width(), 2 * 16 + 312);
        assert!(wide.width() > narrow.width() && wide.height() < narrow.height());
        assert!(sheet.draw(0, 0).height() > 0);
        let empty = ContactSheet::new(sheet.heatmap).draw(3, 64);
        assert!(empty.width() > 0 && empty.height() > 0);
    }

    #[test]
    fn sizes_must_agree() {
        let row = SheetRow {
            name: "x",
            label: Label::Unknown,
            score: 0.0,
            image: &Image::new(2, 2, vec![0.0; 12]),
            mask: Some(&Mask::good(2, 1)),
            map: &AnomalyMap::new(2, 2, vec![0.0; 4]),
        };
        assert_eq!(sheet().add(&row).unwrap_err().what, "mask");
    }
}
