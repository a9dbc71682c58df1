//! Anomaly maps as pictures for people: colours laid over the image.

use crate::image::Size;
use std::io;
use std::path::Path;

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

use crate::image::Image;
use crate::map::anomaly_map::AnomalyMap;
use pupilla_files::atomic_file::{self, WriteError};

/// How strongly the colours of the highest scores cover the image.
const MAX_OPACITY: f64 = 0.75;

/// Where on its scale the colours begin: darker colours would look like a shadow in the image.
const FIRST_COLOR: f64 = 0.25;

/// An image and its map, or an image and its mask, differ in size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image is {image} pixels, its {what} {other}")]
pub struct SizeMismatch {
    /// Width and height of the image.
    pub image: Size,
    /// What differs: "anomaly map" or "mask".
    pub what: &'static str,
    /// Its width and height.
    pub other: Size,
}

/// A colour scale for scores: nothing at and below `low`, the strongest colour from `high` on.
///
/// Take both from validation images (for example `low` their typical score and `high` somewhat
/// above their highest), so that a colour means the same in every picture: a scale stretched to
/// each image's own range paints defects on good parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heatmap {
    /// Scores up to here are shown as the image alone.
    pub low: f32,
    /// Scores from here on get the strongest colour; a `high` not above `low` makes a hard step.
    pub high: f32,
}

impl Heatmap {
    /// Where `score` lies between `low` (0) and `high` (1), clamped to `[0, 1]`; NaN is 0.
    pub fn level(&self, score: f32) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let score = f64::from(score);
        if score <= low || score.is_nan() {
            0.0
        } else if score >= high {
            1.0
        } else {
            (score - low) / (high - low)
        }
    }

    /// The colour of a level in `[0, 1]`: from violet over orange to light yellow ("inferno"
    /// without its black end: even steps for the eye, readable in grey and by the colour-blind).
    pub fn color(level: f64) -> [u8; 3] {
        let place = FIRST_COLOR + (1.0 - FIRST_COLOR) * level.clamp(0.0, 1.0);
        let color = colorous::INFERNO.eval_continuous(place);
        [color.r, color.g, color.b]
    }

    /// The map alone in colours, at its size.
    pub fn colors(&self, map: &AnomalyMap) -> RgbImage {
        let table = table();
        let mut picture = RgbImage::new(map.width() as u32, map.height() as u32);
        for (pixel, &score) in picture.pixels_mut().zip(map.scores()) {
            *pixel = Rgb(table[self.step(score)]);
        }
        picture
    }

    /// The map over its image: colours become denser with the score.
    ///
    /// The image below is shown in grey, so that every colour in the picture is a score.
    ///
    /// # Errors
    /// [`SizeMismatch`] unless both have the same size.
    pub fn overlay(&self, image: &Image, map: &AnomalyMap) -> Result<RgbImage, SizeMismatch> {
        same_size(image, "anomaly map", map.size())?;
        let table = table();
        let mut picture = RgbImage::new(map.width() as u32, map.height() as u32);
        let colors = image.pixels().as_chunks::<3>().0;
        for ((pixel, rgb), &score) in picture.pixels_mut().zip(colors).zip(map.scores()) {
            let [red, green, blue] = rgb.map(f64::from);
            let grey = 255.0 * (0.299 * red + 0.587 * green + 0.114 * blue);
            let step = self.step(score);
            // Rises fast, so that what lies only a little above `low` is seen.
            let opacity = MAX_OPACITY * (step as f64 / 255.0).sqrt();
            *pixel = Rgb(table[step].map(|color| {
                (grey + (f64::from(color) - grey) * opacity)
                    .round()
                    .clamp(0.0, 255.0) as u8
            }));
        }
        Ok(picture)
    }

    /// [`Heatmap::level`] in 256 steps.
    fn step(&self, score: f32) -> usize {
        (self.level(score) * 255.0).round() as usize
    }
}

/// The colours of the 256 levels.
fn table() -> Vec<[u8; 3]> {
    (0..256)
        .map(|step| Heatmap::color(f64::from(step) / 255.0))
        .collect()
}

/// `image` with 8 bits a channel.
pub fn to_rgb8(image: &Image) -> RgbImage {
    let mut picture = RgbImage::new(image.width() as u32, image.height() as u32);
    for (value, &pixel) in picture.iter_mut().zip(image.pixels()) {
        *value = (pixel * 255.0).round().clamp(0.0, 255.0) as u8;
    }
    picture
}

/// Writes `picture` as a PNG, whole or not at all.
///
/// # Errors
/// [`WriteError`] as in [`atomic_file::write`].
pub fn write_png(path: impl AsRef<Path>, picture: &RgbImage) -> Result<(), WriteError> {
    atomic_file::write(path.as_ref(), |file| {
        PngEncoder::new(file)
            .write_image(
                picture.as_raw(),
                picture.width(),
                picture.height(),
                ExtendedColorType::Rgb8,
            )
            .map_err(|error| match error {
                ::image::ImageError::IoError(error) => error,
                error => io::Error::other(error),
            })
    })
}

/// An error unless `other` is the size of `image`.
pub(crate) fn same_size(
    image: &Image,
    what: &'static str,
    other: Size,
) -> Result<(), SizeMismatch> {
    let image = image.size();
    if image == other {
        Ok(())
    } else {
        Err(SizeMismatch { image, what, other })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_scores_show_the_image_and_high_ones_the_strongest_color() {
        let scale = Heatmap {
            low: 1.0,
            high: 3.0,
        };
        let image = Image::new(5, 1, vec![0.25; 15]);
        let map = AnomalyMap::new(5, 1, vec![-7.0, 1.0, 2.0, 3.0, 1e9]);
        let picture = scale.overlay(&image, &map).unwrap();
        let at = |x| picture.get_pixel(x, 0).0;
        assert_eq!([at(0), at(1)], [[64; 3]; 2]);
        assert_eq!(at(3), at(4));
        assert!(at(3)[0] > 190 && at(2) != at(3) && at(2) != at(1));
        assert_eq!(scale.colors(&map).get_pixel(4, 0).0, Heatmap::color(1.0));
    }

    #[test]
    fn any_scale_and_any_score_give_a_picture() {
        let scores = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0];
        let map = AnomalyMap::new(5, 1, scores.to_vec());
        let image = Image::new(5, 1, vec![f32::NAN; 15]);
        for (low, high) in [
            (0.0, 0.0),
            (1.0, -1.0),
            (f32::MIN, f32::MAX),
            (f32::NAN, 1.0),
        ] {
            let picture = Heatmap { low, high }.overlay(&image, &map).unwrap();
            assert_eq!(picture.dimensions(), (5, 1));
        }
        let step = Heatmap {
            low: 1.0,
            high: 1.0,
        };
        assert_eq!((step.level(1.0), step.level(1.1)), (0.0, 1.0));
    }

    #[test]
    fn sizes_must_agree() {
        let image = Image::new(2, 1, vec![0.0; 6]);
        let map = AnomalyMap::new(1, 2, vec![0.0; 2]);
        let scale = Heatmap {
            low: 0.0,
            high: 1.0,
        };
        let error = scale.overlay(&image, &map).unwrap_err().to_string();
        assert_eq!(error, "the image is 2×1 pixels, its anomaly map 1×2");
    }

    #[test]
    fn a_png_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heat.png");
        let picture = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 200]));
        write_png(&path, &picture).unwrap();
        assert_eq!(::image::open(&path).unwrap().to_rgb8(), picture);
    }
}
