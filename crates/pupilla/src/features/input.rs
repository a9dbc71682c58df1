//! From an image to the numbers a network reads: normalised planes, with a border beyond the image.

use std::fmt;
use std::str::FromStr;

use pupilla_core::image::Image;
use serde::{Deserialize, Serialize};

use crate::backbone::Preprocessing;

/// Mean of ImageNet's red, green and blue, in `[0, 1]`.
pub const CHANNEL_MEAN: [f32; 3] = Preprocessing::IMAGENET.mean;

/// Standard deviation of ImageNet's red, green and blue.
pub const CHANNEL_DEVIATION: [f32; 3] = Preprocessing::IMAGENET.deviation;

/// What stands beyond the edge of an image, so that the descriptor of a pixel near the edge is that
/// of a whole patch centred there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Border {
    /// The image mirrored, its edge pixels not repeated.
    #[default]
    Reflect,
    /// The edge pixels repeated.
    Replicate,
    /// The mean colour, which is zero once normalised.
    Zero,
}

/// A word that names no border.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not a border: choose reflect, replicate or zero")]
pub struct UnknownBorder(String);

impl fmt::Display for Border {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Reflect => "reflect",
            Self::Replicate => "replicate",
            Self::Zero => "zero",
        })
    }
}

impl FromStr for Border {
    type Err = UnknownBorder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Reflect, Self::Replicate, Self::Zero]
            .into_iter()
            .find(|border| border.to_string() == text)
            .ok_or_else(|| UnknownBorder(text.to_string()))
    }
}

impl Border {
    /// The pixel of a line of `size` pixels that stands at `at`, inside or beyond its ends; `None`
    /// for the mean colour.
    pub(crate) fn source(self, at: isize, size: usize) -> Option<usize> {
        let last = size as isize - 1;
        match self {
            Self::Replicate => Some(at.clamp(0, last) as usize),
            Self::Zero => (0..=last).contains(&at).then_some(at as usize),
            Self::Reflect if last == 0 => Some(0),
            Self::Reflect => {
                let folded = at.rem_euclid(2 * last);
                Some(folded.min(2 * last - folded) as usize)
            }
        }
    }
}

/// A rectangle in the coordinates of an image; it may reach beyond the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub top: isize,
    pub left: isize,
    pub height: usize,
    pub width: usize,
}

impl Window {
    /// The whole image and `radius` pixels on every side.
    #[cfg(test)]
    pub fn around(image: &Image, radius: usize) -> Self {
        Self {
            top: -(radius as isize),
            left: -(radius as isize),
            height: image.height() + 2 * radius,
            width: image.width() + 2 * radius,
        }
    }

    /// The part of the image (and its border) under the window, normalised, `[3, height, width]`,
    /// appended to `planes`.
    pub fn read(&self, image: &Image, border: Border, planes: &mut Vec<f32>) {
        let columns: Vec<Option<usize>> = (0..self.width)
            .map(|column| border.source(self.left + column as isize, image.width()))
            .collect();
        planes.reserve(3 * self.height * self.width);
        for channel in 0..3 {
            let (mean, deviation) = (CHANNEL_MEAN[channel], CHANNEL_DEVIATION[channel]);
            for row in 0..self.height {
                let source = border.source(self.top + row as isize, image.height());
                planes.extend(columns.iter().map(|column| match (source, column) {
                    (Some(row), Some(column)) => {
                        let at = (row * image.width() + column) * 3 + channel;
                        (image.pixels()[at] - mean) / deviation
                    }
                    _ => 0.0,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_continue_a_line_of_three_pixels() {
        let line = |border: Border| (-4..7).map(|at| border.source(at, 3)).collect::<Vec<_>>();
        let numbers = |text: &str| {
            text.chars()
                .map(|c| c.to_digit(10).map(|d| d as usize))
                .collect::<Vec<_>>()
        };
        assert_eq!(line(Border::Reflect), numbers("01210121012"));
        assert_eq!(line(Border::Replicate), numbers("00000122222"));
        assert_eq!(line(Border::Zero), numbers("....012...."));
        assert_eq!(Border::Reflect.source(-5, 1), Some(0));
    }

    #[test]
    fn a_window_is_normalised_planes() {
        let image = Image::new(2, 1, vec![0.0, 0.5, 1.0, 0.25, 0.75, 0.125]);
        let mut planes = Vec::new();
        Window::around(&image, 0).read(&image, Border::Reflect, &mut planes);
        let expected = |value: f32, channel: usize| {
            (value - CHANNEL_MEAN[channel]) / CHANNEL_DEVIATION[channel]
        };
        assert_eq!(
            planes,
            [
                expected(0.0, 0),
                expected(0.25, 0),
                expected(0.5, 1),
                expected(0.75, 1),
                expected(1.0, 2),
                expected(0.125, 2),
            ]
        );
    }
}
