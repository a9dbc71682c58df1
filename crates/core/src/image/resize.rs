//! Resizes an image to the size that a detector works at, and an anomaly map back to the size of its image.

use crate::image::Size;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use fast_image_resize as fir;
use serde::{Deserialize, Serialize};

use super::Image;
use crate::map::anomaly_map::AnomalyMap;

/// Smallest and largest side a [`Resize`] may ask for.
pub const SIDES: std::ops::RangeInclusive<usize> = 8..=8192;

/// How an image is resized before a detector sees it. Written "256", "keep:512", "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resize {
    /// To a square of this side, whatever the aspect: the paper's choice, with 256.
    Square(usize),
    /// The longer side to this length, enlarged or reduced, keeping the aspect.
    LongerSide(usize),
    /// Not at all.
    None,
}

impl Default for Resize {
    /// A square of side 256, as in the paper.
    fn default() -> Self {
        Self::Square(256)
    }
}

/// A resize that is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResizeError {
    /// Not one of the three forms.
    #[error(
        "\"{0}\" is no way to resize: write a side (\"256\"), \"keep:\" and the longer side (\"keep:512\"), or \"none\""
    )]
    Form(String),
    /// A side outside [`SIDES`].
    #[error("a side of {0} pixels is out of range: choose {smallest} to {largest}", smallest = SIDES.start(), largest = SIDES.end())]
    Side(usize),
}

impl FromStr for Resize {
    type Err = ResizeError;

    fn from_str(text: &str) -> Result<Self, ResizeError> {
        let side = |digits: &str| {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(ResizeError::Form(text.to_string()));
            }
            // More digits than a number has are out of range too.
            Ok(digits.parse().unwrap_or(usize::MAX))
        };
        let resize = match text.strip_prefix("keep:") {
            Some(digits) => Self::LongerSide(side(digits)?),
            None if text == "none" => Self::None,
            None => Self::Square(side(text)?),
        };
        resize.check()
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Square(side) => write!(out, "{side}"),
            Self::LongerSide(side) => write!(out, "keep:{side}"),
            Self::None => out.write_str("none"),
        }
    }
}

impl TryFrom<String> for Resize {
    type Error = ResizeError;

    fn try_from(text: String) -> Result<Self, ResizeError> {
        text.parse()
    }
}

impl From<Resize> for String {
    fn from(resize: Resize) -> Self {
        resize.to_string()
    }
}

impl Resize {
    /// Itself, if its side lies within [`SIDES`]; parsing and deserialising check it already.
    ///
    /// # Errors
    /// [`ResizeError::Side`].
    pub fn check(self) -> Result<Self, ResizeError> {
        match self {
            Self::Square(side) | Self::LongerSide(side) if !SIDES.contains(&side) => {
                Err(ResizeError::Side(side))
            }
            _ => Ok(self),
        }
    }

    /// The size that an image of this size is resized to; no side is 0.
    pub fn target_size(&self, size: Size) -> Size {
        match *self {
            Self::Square(side) => Size::square(side),
            Self::LongerSide(side) => {
                let shorter = |short: usize, long: usize| {
                    let exact = short as f64 * side as f64 / long as f64;
                    (exact.round() as usize).max(1)
                };
                let Size { width, height } = size;
                if width >= height {
                    Size::new(side, shorter(height, width))
                } else {
                    Size::new(shorter(width, height), side)
                }
            }
            Self::None => size,
        }
    }

    /// `image` at its [target size](Self::target_size): bilinear, antialiased (each new pixel is a
    /// triangle-weighted mean of all old ones under it), values within `[0, 1]`. Nothing is copied
    /// if the size is right already.
    pub fn apply<'a>(&self, image: &'a Image) -> Cow<'a, Image> {
        let size = self.target_size(image.size());
        if size == image.size() {
            return Cow::Borrowed(image);
        }
        Cow::Owned(resize_image(image, size))
    }

    /// [`apply`](Self::apply) to an image that is not needed afterwards.
    pub fn apply_owned(&self, image: Image) -> Image {
        let resized = match self.apply(&image) {
            Cow::Borrowed(_) => None,
            Cow::Owned(resized) => Some(resized),
        };
        resized.unwrap_or(image)
    }
}

/// `image` at `width` × `height`: bilinear, antialiased, values within `[0, 1]`.
///
/// # Panics
/// If a side is 0: a programming error.
pub fn resize_image(image: &Image, size: Size) -> Image {
    let Size { width, height } = size;
    let mut pixels = vec![0.0f32; width * height * 3];
    // The typed form, so that the compiler makes the code of this one pixel type only.
    let source = fir::images::TypedImageRef::<fir::pixels::F32x3>::from_buffer(
        image.width() as u32,
        image.height() as u32,
        bytemuck::cast_slice(image.pixels()),
    )
    .expect("an image is [height, width, 3]");
    let mut target = fir::images::TypedImage::<fir::pixels::F32x3>::from_buffer(
        width as u32,
        height as u32,
        bytemuck::cast_slice_mut(&mut pixels),
    )
    .expect("allocated for [height, width, 3]");
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    fir::Resizer::new()
        .resize_typed(&source, &mut target, &options)
        .expect("the whole image lies within itself");
    for value in &mut pixels {
        *value = value.clamp(0.0, 1.0);
    }
    Image::new(width, height, pixels)
}

/// `map` at `width` × `height`: bilinear between the four nearest scores, pixel centres at half
/// integers, border scores continued outwards. No result leaves the range of the scores.
///
/// A smaller map is sampled in the same way, on purpose: an antialiased mean would wash out the small peaks that a map must show.
/// Between two samples, a peak can still be missed, so metrics are computed at the size of the original image.
///
/// # Panics
/// If a side is 0: a programming error.
pub fn resize_map(map: &AnomalyMap, size: Size) -> AnomalyMap {
    let Size { width, height } = size;
    if (width, height) == (map.width(), map.height()) {
        return map.clone();
    }
    let columns = taps(map.width(), width);
    let rows = taps(map.height(), height);
    let mut scores = Vec::with_capacity(width * height);
    for row in &rows {
        let line = |at: usize| &map.scores()[at * map.width()..][..map.width()];
        let (upper, lower) = (line(row.first), line(row.second));
        scores.extend(columns.iter().map(|column| {
            let across = |line: &[f32]| mix(line[column.first], line[column.second], column.share);
            mix(across(upper), across(lower), row.share)
        }));
    }
    AnomalyMap::new(width, height, scores)
}

/// Two neighbours of a sample and the share of the second.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let last = from - 1;
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|index| {
            let centre = ((index as f64 + 0.5) * scale - 0.5).clamp(0.0, last as f64);
            let first = centre.floor() as usize;
            Tap {
                first,
                second: (first + 1).min(last),
                share: (centre - first as f64) as f32,
            }
        })
        .collect()
}

/// Between `a` and `b`; the clamp takes away what rounding adds.
fn mix(a: f32, b: f32, share: f32) -> f32 {
    (a * (1.0 - share) + b * share).clamp(a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_forms_round_trip_and_sides_are_checked() {
        for text in ["256", "keep:512", "none", "8", "keep:8192"] {
            let resize: Resize = text.parse().unwrap();
            assert_eq!(resize.to_string(), text);
            let json = serde_json::to_string(&resize).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Resize>(&json).unwrap(), resize);
        }
        for text in [
            "",
            "keep:",
            "keep",
            "-3",
            "+3",
            "256px",
            "None",
            "keep:none",
        ] {
            let error = text.parse::<Resize>().unwrap_err();
            assert!(matches!(error, ResizeError::Form(_)), "{text}: {error}");
        }
        for text in ["0", "7", "8193", "keep:7", "99999999999999999999999999"] {
            let error = text.parse::<Resize>().unwrap_err();
            assert!(matches!(error, ResizeError::Side(_)), "{text}: {error}");
        }
        assert!(serde_json::from_str::<Resize>("\"7\"").is_err());
    }

    #[test]
    fn target_sizes() {
        assert_eq!(
            Resize::Square(256).target_size(Size::new(1000, 20)),
            Size::new(256, 256)
        );
        assert_eq!(
            Resize::LongerSide(512).target_size(Size::new(1000, 500)),
            Size::new(512, 256)
        );
        assert_eq!(
            Resize::LongerSide(512).target_size(Size::new(100, 200)),
            Size::new(256, 512)
        );
        assert_eq!(
            Resize::LongerSide(8).target_size(Size::new(5000, 1)),
            Size::new(8, 1)
        );
        assert_eq!(Resize::None.target_size(Size::new(3, 5)), Size::new(3, 5));
    }

    #[test]
    fn the_same_size_is_borrowed() {
        let image = Image::new(8, 8, vec![0.5; 192]);
        assert!(matches!(Resize::Square(8).apply(&image), Cow::Borrowed(_)));
        assert!(matches!(Resize::None.apply(&image), Cow::Borrowed(_)));
        let other = Resize::Square(9).apply(&image);
        assert_eq!((other.width(), other.height()), (9, 9));
    }

    /// Triangle weights of half-width max(1, scale) around each centre, in f64, straight from the definition.
    fn naive_image(image: &Image, width: usize, height: usize) -> Vec<f64> {
        let weights = |from: usize, to: usize, index: usize| -> Vec<f64> {
            let scale = from as f64 / to as f64;
            let reach = scale.max(1.0);
            let centre = (index as f64 + 0.5) * scale;
            let raw: Vec<f64> = (0..from)
                .map(|at| (1.0 - ((at as f64 + 0.5 - centre) / reach).abs()).max(0.0))
                .collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|weight| weight / sum).collect()
        };
        let mut result = Vec::new();
        for row in 0..height {
            let down = weights(image.height(), height, row);
            for column in 0..width {
                let across = weights(image.width(), width, column);
                for channel in 0..3 {
                    let mut sum = 0.0;
                    for (r, wr) in down.iter().enumerate() {
                        for (c, wc) in across.iter().enumerate() {
                            sum += wr * wc * f64::from(image.pixel(r, c)[channel]);
                        }
                    }
                    result.push(sum);
                }
            }
        }
        result
    }

    fn naive_map(map: &AnomalyMap, width: usize, height: usize) -> Vec<f64> {
        let at = |row: f64, column: f64| {
            let row = row.clamp(0.0, (map.height() - 1) as f64) as usize;
            let column = column.clamp(0.0, (map.width() - 1) as f64) as usize;
            f64::from(map.scores()[row * map.width() + column])
        };
        let mut result = Vec::new();
        for row in 0..height {
            for column in 0..width {
                let y = (row as f64 + 0.5) * map.height() as f64 / height as f64 - 0.5;
                let x = (column as f64 + 0.5) * map.width() as f64 / width as f64 - 0.5;
                let (fy, fx) = (y - y.floor(), x - x.floor());
                result.push(
                    (1.0 - fy) * (1.0 - fx) * at(y.floor(), x.floor())
                        + (1.0 - fy) * fx * at(y.floor(), x.floor() + 1.0)
                        + fy * (1.0 - fx) * at(y.floor() + 1.0, x.floor())
                        + fy * fx * at(y.floor() + 1.0, x.floor() + 1.0),
                );
            }
        }
        result
    }

    fn values(seed: u64, count: usize) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect()
    }

    proptest! {
        #[test]
        fn images_agree_with_the_naive_twin(
            width in 1usize..20, height in 1usize..20, to_width in 1usize..30, to_height in 1usize..30, seed: u64,
        ) {
            let image = Image::new(width, height, values(seed, width * height * 3));
            let fast = resize_image(&image, Size::new(to_width, to_height));
            for (got, expected) in fast.pixels().iter().zip(naive_image(&image, to_width, to_height)) {
                prop_assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
                prop_assert!((0.0..=1.0).contains(got));
            }
        }

        #[test]
        fn maps_agree_with_the_naive_twin_and_stay_in_range(
            width in 1usize..20, height in 1usize..20, to_width in 1usize..40, to_height in 1usize..40, seed: u64,
        ) {
            let map = AnomalyMap::new(width, height, values(seed, width * height));
            let low = map.scores().iter().copied().fold(f32::INFINITY, f32::min);
            let fast = resize_map(&map, Size::new(to_width, to_height));
            prop_assert_eq!((fast.width(), fast.height()), (to_width, to_height));
            for (got, expected) in fast.scores().iter().zip(naive_map(&map, to_width, to_height)) {
                prop_assert!((f64::from(*got) - expected).abs() < 1e-5, "{got} {expected}");
                prop_assert!(*got >= low && *got <= map.image_score());
            }
            prop_assert_eq!(resize_map(&map, Size::new(width, height)), map);
        }
    }
}
