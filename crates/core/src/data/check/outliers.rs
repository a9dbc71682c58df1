//! Good images that look unlike the others: robust statistics on small thumbnails.
//!
//! Three numbers describe an image's appearance. **Picture**: its thumbnail of 16×16 RGB pixels, as the root of the
//! mean squared difference from the median thumbnail (pixel by pixel, of all good images). **Brightness**: the
//! mean of the thumbnail. **Detail**: the logarithm of the mean difference between neighbouring pixels at 128×128,
//! which falls with blur and for empty images.
//!
//! An image stands out if one of the numbers lies more than [`LIMIT`] robust deviations from its median; a robust deviation is 1.4826
//! times the median absolute deviation (the standard deviation, if the numbers are normally distributed; Rousseeuw and Croux, 1993),
//! but not less than [a grey level or 5 %](FLOORS), so that nearly equal images do not stand out. For the picture, only a large
//! difference counts. This finds wrong parts, empty, dark and blurred images. It does not find small defects; trained models do.

use crate::image::Size;
use std::path::Path;

use super::{Finding, FindingKind, OUTLIERS_NEED};
use crate::image::Image;
use crate::image::resize::resize_image;

/// Robust deviations from the median beyond which an image stands out.
const LIMIT: f64 = 6.0;

/// The least deviation of picture, brightness (a grey level of 255) and detail (5 %).
const FLOORS: [f64; 3] = [1.0 / 255.0, 1.0 / 255.0, 0.05];

/// Side of the thumbnail.
const THUMBNAIL: usize = 16;

/// Side at which detail is measured.
const DETAIL: usize = 128;

/// The appearance of an image.
pub(super) struct Appearance {
    /// `[16, 16, 3]` in `[0, 1]`.
    thumbnail: Vec<f32>,
    brightness: f64,
    detail: f64,
}

impl Appearance {
    pub(super) fn of(image: &Image) -> Self {
        let small = resize_image(image, Size::square(DETAIL));
        let thumbnail = resize_image(&small, Size::square(THUMBNAIL))
            .pixels()
            .to_vec();
        Self {
            brightness: mean(thumbnail.iter().map(|&value| f64::from(value))),
            detail: detail(&small),
            thumbnail,
        }
    }
}

/// The logarithm of the mean difference between neighbours, from 1e-3 on.
fn detail(image: &Image) -> f64 {
    let pixels = image.pixels();
    let row = image.width() * 3;
    let difference = |a: f32, b: f32| f64::from((a - b).abs());
    let across = pixels
        .chunks_exact(row)
        .flat_map(|row| row.iter().zip(&row[3..]))
        .map(|(&a, &b)| difference(a, b));
    let down = pixels.iter().zip(&pixels[row..]);
    let down = down.map(|(&a, &b)| difference(a, b));
    libm::log(mean(across.chain(down)).max(1e-3))
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count == 0.0 { 0.0 } else { sum / count }
}

pub(super) fn find(good: &[(&Path, &Appearance)]) -> Vec<Finding> {
    if good.len() < OUTLIERS_NEED {
        return Vec::new();
    }
    let usual: Vec<f32> = (0..THUMBNAIL * THUMBNAIL * 3)
        .map(|at| {
            let values = good.iter().map(|(_, image)| f64::from(image.thumbnail[at]));
            median(&mut values.collect::<Vec<_>>()) as f32
        })
        .collect();
    let distance = |image: &Appearance| {
        let pairs = image.thumbnail.iter().zip(&usual);
        mean(pairs.map(|(&a, &b)| f64::from(a - b).powi(2))).sqrt()
    };
    let numbers: [Vec<f64>; 3] = [
        good.iter().map(|(_, image)| distance(image)).collect(),
        good.iter().map(|(_, image)| image.brightness).collect(),
        good.iter().map(|(_, image)| image.detail).collect(),
    ];
    let mut deviations = Vec::with_capacity(3);
    for (numbers, floor) in numbers.iter().zip(FLOORS) {
        deviations.push(robust_deviations(numbers, floor));
    }
    let describe = |at: usize| {
        let [picture, brightness, detail] = [0, 1, 2].map(|number: usize| deviations[number][at]);
        let mut words = Vec::new();
        if picture > LIMIT {
            words.push(format!("another picture ({picture:.1})"));
        }
        if brightness.abs() > LIMIT {
            let word = if brightness > 0.0 {
                "brighter"
            } else {
                "darker"
            };
            words.push(format!("{word} ({brightness:+.1})"));
        }
        if detail.abs() > LIMIT {
            let word = if detail > 0.0 {
                "more detail"
            } else {
                "less detail"
            };
            words.push(format!("{word} ({detail:+.1})"));
        }
        words
    };
    let outliers = good.iter().enumerate().filter_map(|(at, (path, _))| {
        let words = describe(at);
        let text = format!(
            "unlike the other good images, in robust deviations: {}",
            words.join(", ")
        );
        (!words.is_empty()).then(|| Finding::new(FindingKind::Outlier, text, &[path]))
    });
    outliers.collect()
}

/// How many robust deviations (at least `floor` each) every number lies above their median.
fn robust_deviations(numbers: &[f64], floor: f64) -> Vec<f64> {
    let middle = median(&mut numbers.to_vec());
    let mut distances: Vec<f64> = numbers
        .iter()
        .map(|number| (number - middle).abs())
        .collect();
    let deviation = (1.4826 * median(&mut distances)).max(floor);
    numbers
        .iter()
        .map(|number| (number - middle) / deviation)
        .collect()
}

/// The middle one, or the mean of the two; 0 of none.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers {
        [] => 0.0,
        numbers if numbers.len() % 2 == 1 => numbers[middle],
        numbers => f64::midpoint(numbers[middle - 1], numbers[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_deviations_by_hand() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&mut []), 0.0);
        // Median 3, distances 2, 1, 0, 1, 97, whose median is 1.
        let found = robust_deviations(&[1.0, 2.0, 3.0, 4.0, 100.0], 0.0);
        assert!((found[4] - 97.0 / 1.4826).abs() < 1e-12);
        assert_eq!(robust_deviations(&[1.0, 1.0, 2.0], 0.5), [0.0, 0.0, 2.0]);
    }

    #[test]
    fn each_number_is_named_where_it_stands_out() {
        let image = |brightness: f32, contrast: f32, seed: usize| {
            let pixels = (0..64 * 64 * 3).map(|at| {
                let wave = if (at / 3 + seed) % 4 < 2 { 0.5 } else { -0.5 };
                brightness + 0.01 * (seed % 5) as f32 + contrast * wave
            });
            Appearance::of(&Image::new(64, 64, pixels.collect()))
        };
        let mut images: Vec<Appearance> = (0..20).map(|seed| image(0.4, 0.2, seed)).collect();
        images.push(image(0.8, 0.2, 1));
        images.push(image(0.4, 0.02, 2));
        let named: Vec<_> = images
            .iter()
            .map(|image| (Path::new("x.png"), image))
            .collect();
        let found = find(&named);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].text.contains("brighter"), "{found:?}");
        assert!(found[1].text.contains("less detail"), "{found:?}");
        assert_eq!(find(&named[..9]), []);
    }
}
