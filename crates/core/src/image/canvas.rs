//! Text on a picture.

use ::image::{Rgb, RgbImage};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};

/// A picture that text can be drawn on.
pub(crate) struct Canvas(pub RgbImage);

impl Canvas {
    /// Draws as much of `text` as `room` pixels hold, from its upper left corner.
    pub fn text(
        &mut self,
        text: &str,
        left: i32,
        top: i32,
        room: i32,
        style: MonoTextStyle<'_, Rgb888>,
    ) {
        let advance = style.font.character_size.width + style.font.character_spacing;
        let most = (room.max(0) as u32 / advance) as usize;
        let mut shown: String = text.chars().take(most).collect();
        if text.chars().count() > most && most > 2 {
            // The end of a path tells images apart.
            let skipped = text.chars().count() - (most - 2);
            shown = ["..", &text.chars().skip(skipped).collect::<String>()].concat();
        }
        let place = Point::new(left, top);
        // The target cannot fail: its error type has no value.
        let _ = Text::with_baseline(&shown, place, style, Baseline::Top).draw(self);
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Self::Error> {
        for Pixel(place, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(place.x), u32::try_from(place.y)) else {
                continue;
            };
            if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
                *pixel = Rgb([color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}
