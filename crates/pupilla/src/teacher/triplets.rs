//! Cuts training data for a teacher out of any natural images: an anchor, the same place shifted, brightened and with noise, and
//! (another row of the batch) a place in another image.
//!
//! Instead of single patches, windows are cut: a window larger than p holds many patches, whose
//! descriptors cost a tenth when computed convolutionally. A window of p pixels is the published
//! procedure, one patch each.

use pupilla_core::image::Image;
use pupilla_core::image::resize::Resize;
use rand::{Rng, RngExt};

use super::distillation::Cut;
use crate::features::input::{Border, Window};
use crate::features::teacher::{Distillation, TeacherConfig};
use crate::random::normal;

/// One image's part of a batch.
pub(super) struct Triplet {
    /// The anchor's window, `[3, window, window]`, normalised.
    pub anchor: Vec<f32>,
    /// The positive's, if it is wanted; else empty.
    pub positive: Vec<f32>,
    /// Where the anchor stands.
    pub cut: Cut,
}

/// Cuts an anchor's window and its positive from an image.
pub(super) fn cut(
    image: &Image,
    config: &TeacherConfig,
    with_positive: bool,
    random: &mut impl Rng,
) -> Triplet {
    let side = config.window;
    let [smallest, largest] = config.resized_sides;
    let resized = Resize::Square(random.random_range(smallest..=largest)).apply(image);
    let free = resized.width() - side;
    let top = random.random_range(0..=free);
    let left = random.random_range(0..=free);
    let reach = config.translation as i64;
    let down = random.random_range(-reach..=reach) as isize;
    let right = random.random_range(-reach..=reach) as isize;
    let brightness = 1.0 + config.brightness * (2.0 * random.random::<f32>() - 1.0);
    let grey = random.random::<f32>() < config.grey_probability;

    let resized = if grey {
        to_grey(&resized)
    } else {
        resized.into_owned()
    };
    let window = Window {
        top: top as isize,
        left: left as isize,
        height: side,
        width: side,
    };
    let mut anchor = Vec::new();
    window.read(&resized, Border::Reflect, &mut anchor);
    let mut positive = Vec::new();
    if with_positive {
        let shifted = Window {
            top: window.top + down,
            left: window.left + right,
            ..window
        };
        let altered = alter(&resized, shifted, brightness, config.noise, random);
        let whole = Window {
            top: 0,
            left: 0,
            ..window
        };
        whole.read(&altered, Border::Reflect, &mut positive);
    }
    let context = match &config.distillation {
        Some(Distillation::Dense { context, .. }) => *context,
        Some(Distillation::Features { .. } | Distillation::Logits { .. }) | None => 0,
    };
    Triplet {
        anchor,
        positive,
        cut: Cut::new(&resized, [top, left], side, context),
    }
}

/// The image's pixels under a window, brightened and with Gaussian noise, clamped to `[0, 1]`.
fn alter(
    image: &Image,
    window: Window,
    brightness: f32,
    noise: f32,
    random: &mut impl Rng,
) -> Image {
    let fold = |at: isize, size: usize| {
        Border::Reflect
            .source(at, size)
            .expect("a reflected place is always inside")
    };
    let mut pixels = Vec::with_capacity(window.height * window.width * 3);
    for row in 0..window.height {
        let row = fold(window.top + row as isize, image.height());
        for column in 0..window.width {
            let column = fold(window.left + column as isize, image.width());
            pixels.extend(
                image
                    .pixel(row, column)
                    .map(|value| (value * brightness + noise * normal(random)).clamp(0.0, 1.0)),
            );
        }
    }
    Image::new(window.width, window.height, pixels)
}

/// Luma of ITU-R BT.601 in all three channels.
fn to_grey(image: &Image) -> Image {
    let pixels = image
        .pixels()
        .as_chunks::<3>()
        .0
        .iter()
        .flat_map(|[red, green, blue]| [0.299 * red + 0.587 * green + 0.114 * blue; 3])
        .collect();
    Image::new(image.width(), image.height(), pixels)
}
