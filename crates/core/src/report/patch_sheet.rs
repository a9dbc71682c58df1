//! A picture of descriptors for people: how their dimensions correlate, and which patches they find alike.

use ::image::imageops::{self, FilterType};
use ::image::{Rgb, RgbImage};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

use crate::image::Image;
use crate::image::canvas::Canvas;
use crate::map::heatmap::to_rgb8;

/// What a [`patch sheet`](draw) shows.
#[derive(Clone, Debug)]
pub struct PatchSheet<'a> {
    /// A line on top.
    pub title: &'a str,
    /// The figures, a line each.
    pub figures: &'a [String],
    /// Correlations, row by row, −1 to 1.
    pub correlation: &'a [f32],
    /// Rows and columns of the matrix.
    pub dimensions: usize,
    /// A patch and, nearest first, the patches whose descriptors are nearest to its own.
    pub neighbours: &'a [Vec<Image>],
}

/// Side of a drawn patch, in pixels.
const PATCH: u32 = 66;

/// Side that the matrix has at least.
const MATRIX: u32 = 512;

const MARGIN: i32 = 18;
const GAP: i32 = 6;
const LINE: i32 = 17;

/// The matrix at the left, the patches at the right; the first patch of a row is the patch whose neighbours follow.
///
/// # Panics
/// If the matrix does not have `dimensions²` entries, or there are none: a programming error.
pub fn draw(sheet: &PatchSheet<'_>) -> RgbImage {
    assert!(sheet.dimensions > 0, "a matrix has entries");
    assert_eq!(
        sheet.correlation.len(),
        sheet.dimensions.pow(2),
        "a square matrix"
    );
    let cell = MATRIX.div_ceil(sheet.dimensions as u32);
    let matrix = cell * sheet.dimensions as u32;
    let across = sheet.neighbours.iter().map(Vec::len).max().unwrap_or(0) as i32;
    let step = PATCH as i32 + GAP;
    let head = MARGIN + 24 + LINE * sheet.figures.len() as i32 + LINE + 4;
    let patches = MARGIN + matrix as i32 + 2 * MARGIN;
    let width = patches + (across * step + GAP).max(360) + MARGIN;
    let rows = sheet.neighbours.len() as i32 * step;
    let height = head + rows.max(matrix as i32) + MARGIN;
    let mut canvas = Canvas(RgbImage::from_pixel(
        width as u32,
        height as u32,
        Rgb([24, 26, 30]),
    ));
    let bold = MonoTextStyle::new(&FONT_9X15_BOLD, Rgb888::WHITE);
    let plain = MonoTextStyle::new(&FONT_7X13, Rgb888::new(180, 186, 196));
    canvas.text(sheet.title, MARGIN, MARGIN, width - 2 * MARGIN, bold);
    for (line, figure) in sheet.figures.iter().enumerate() {
        let top = MARGIN + 24 + line as i32 * LINE;
        canvas.text(figure, MARGIN, top, width - 2 * MARGIN, plain);
    }
    let captions = head - LINE - 2;
    let words = "correlation of the dimensions: blue -1, white 0, red 1";
    canvas.text(words, MARGIN, captions, matrix as i32, plain);
    let words = "patches, and those with the nearest descriptors in other images";
    canvas.text(words, patches, captions, width - patches, plain);
    for (at, value) in sheet.correlation.iter().enumerate() {
        let (row, column) = (
            (at / sheet.dimensions) as u32,
            (at % sheet.dimensions) as u32,
        );
        let color = correlation_color(*value);
        for y in 0..cell {
            for x in 0..cell {
                let place = (
                    MARGIN as u32 + column * cell + x,
                    head as u32 + row * cell + y,
                );
                canvas.0.put_pixel(place.0, place.1, color);
            }
        }
    }
    for (row, line) in sheet.neighbours.iter().enumerate() {
        for (column, patch) in line.iter().enumerate() {
            let picture = imageops::resize(&to_rgb8(patch), PATCH, PATCH, FilterType::Triangle);
            // The patch itself stands a little apart.
            let apart = if column == 0 { 0 } else { GAP };
            let left = patches + column as i32 * step + apart;
            let top = head + row as i32 * step;
            imageops::replace(&mut canvas.0, &picture, i64::from(left), i64::from(top));
        }
    }
    canvas.0
}

/// Blue for −1, white for 0, red for 1; even steps for the eye.
fn correlation_color(value: f32) -> Rgb<u8> {
    let place = (f64::from(value.clamp(-1.0, 1.0)) + 1.0) / 2.0;
    let color = colorous::RED_BLUE.eval_continuous(1.0 - place);
    Rgb([color.r, color.g, color.b])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_and_patches_stand_where_they_should() {
        let grey = |value: f32| Image::new(3, 3, vec![value; 27]);
        let sheet = PatchSheet {
            title: "a teacher",
            figures: &["one".to_string()],
            correlation: &[1.0, -1.0, 0.0, f32::NAN],
            dimensions: 2,
            neighbours: &[vec![grey(1.0), grey(0.5)], vec![grey(0.0)]],
        };
        let picture = draw(&sheet);
        let top = (MARGIN + 24 + LINE + LINE + 4) as u32;
        let left = MARGIN as u32;
        let at = |x: u32, y: u32| picture.get_pixel(left + x, top + y).0;
        let [red, _, blue] = at(10, 10);
        assert!(red > blue, "1 is red");
        let [red, _, blue] = at(266, 10);
        assert!(red < blue, "-1 is blue");
        assert!(
            at(10, 266).iter().all(|&value| value > 230),
            "0 is near white"
        );
        let patches = 512 + 2 * MARGIN as u32;
        assert_eq!(at(patches + 5, 5), [255; 3]);
        assert_eq!(at(patches + 5 + 66 + 12, 5), [128; 3]);
        assert_eq!(at(patches + 5, 5 + 72), [0; 3]);
    }

    #[test]
    fn no_patches_are_no_crash() {
        let sheet = PatchSheet {
            title: "",
            figures: &[],
            correlation: &[0.5],
            dimensions: 1,
            neighbours: &[],
        };
        assert!(draw(&sheet).width() > 512);
    }
}
