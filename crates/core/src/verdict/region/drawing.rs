//! Regions drawn into a picture for people.

use ::image::{Rgb, RgbImage};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_7X13_BOLD;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};

use super::Region;
use crate::image::canvas::Canvas;

/// The colour of an outline.
const OUTLINE: [u8; 3] = [90, 240, 255];

/// The colour of a box.
const BOX: [u8; 3] = [255, 255, 255];

/// Draws outline, box and number (from 1) of each region; in a larger picture with thicker lines.
///
/// `scale` is the picture's size over that of the map that the regions were found in.
pub fn draw_regions(picture: &mut RgbImage, regions: &[Region], scale: f64) {
    let longer = picture.width().max(picture.height());
    let thickness = i64::from(longer.div_ceil(800));
    let place = |at: f64| (at * scale).round() as i64;
    for region in regions {
        let next = region.contour.iter().cycle().skip(1);
        for (from, to) in region.contour.iter().zip(next) {
            let [x, y] = [0, 1].map(|axis| {
                let (a, b) = (from[axis].min(to[axis]), from[axis].max(to[axis]));
                [place(f64::from(a)), place(f64::from(b))]
            });
            fill(
                picture,
                [x[0], y[0]],
                [x[1] + thickness, y[1] + thickness],
                OUTLINE,
            );
        }
    }
    let gap = 2 * thickness;
    for region in regions {
        let bounds = region.bounds;
        let left = place(bounds.left as f64) - gap;
        let top = place(bounds.top as f64) - gap;
        let right = place((bounds.left + bounds.width) as f64) + gap + thickness;
        let bottom = place((bounds.top + bounds.height) as f64) + gap + thickness;
        fill(picture, [left, top], [right, top + thickness], BOX);
        fill(picture, [left, bottom - thickness], [right, bottom], BOX);
        fill(picture, [left, top], [left + thickness, bottom], BOX);
        fill(picture, [right - thickness, top], [right, bottom], BOX);
    }
    // Numbers last and few: those of the highest peaks, where one would look.
    const NUMBERS: usize = 20;
    let mut canvas = Canvas(std::mem::take(picture));
    for (index, region) in regions.iter().enumerate().take(NUMBERS) {
        let text = (index + 1).to_string();
        let size = [text.len() as i64 * 7 + 2, 13];
        let [width, height] = [canvas.0.width(), canvas.0.height()].map(i64::from);
        let left = place(region.bounds.left as f64).min(width - size[0]).max(0);
        let above = place(region.bounds.top as f64) - gap - size[1];
        let below = place((region.bounds.top + region.bounds.height) as f64) + gap + thickness;
        let top = if above >= 0 {
            above
        } else {
            below.min(height - size[1]).max(0)
        };
        fill(
            &mut canvas.0,
            [left, top],
            [left + size[0], top + size[1]],
            [0; 3],
        );
        let style = MonoTextStyle::new(&FONT_7X13_BOLD, Rgb888::WHITE);
        canvas.text(&text, left as i32 + 1, top as i32, size[0] as i32, style);
    }
    *picture = canvas.0;
}

/// Fills a rectangle, as far as it lies within the picture.
fn fill(picture: &mut RgbImage, from: [i64; 2], to: [i64; 2], color: [u8; 3]) {
    let within = |at: i64, end: u32| at.clamp(0, i64::from(end)) as u32;
    for y in within(from[1], picture.height())..within(to[1], picture.height()) {
        for x in within(from[0], picture.width())..within(to[0], picture.width()) {
            picture.put_pixel(x, y, Rgb(color));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::anomaly_map::AnomalyMap;
    use crate::verdict::region::Regions;

    #[test]
    fn a_region_is_outlined_and_what_lies_beyond_the_picture_is_left_out() {
        let inside = |at: usize| (10..20).contains(&(at % 40)) && (15..25).contains(&(at / 40));
        let scores = (0..1600).map(|at| if inside(at) { 1.0 } else { 0.0 });
        let map = AnomalyMap::new(40, 40, scores.collect());
        let found = Regions::find(&map, 0.5, None, 1);
        let mut picture = RgbImage::new(40, 40);
        draw_regions(&mut picture, &found.regions, 1.0);
        assert_eq!(picture.get_pixel(10, 15).0, OUTLINE);
        assert_eq!(picture.get_pixel(8, 20).0, BOX);
        assert_eq!(picture.get_pixel(15, 20).0, [0; 3]);
        assert_eq!(picture.get_pixel(30, 30).0, [0; 3]);
        for side in [1, 7, 2000] {
            let mut picture = RgbImage::new(side, side);
            draw_regions(&mut picture, &found.regions, f64::from(side) / 40.0);
            let all = Regions::find(&map, -1.0, None, 1);
            draw_regions(&mut picture, &all.regions, f64::from(side) / 40.0);
            assert_eq!(picture.width(), side);
        }
    }
}
