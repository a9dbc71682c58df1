//! How images were taken: what a model takes for granted about new images.
//!
//! A model learns parts under one camera and one lighting. An image of another depth, size or brightness may be a good part and still
//! score as a defect. So the model keeps what its images had in common, and an inspection says which images are unlike them. No image is
//! changed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::image::read::{Depth, Stored};
use crate::image::{Image, Size};

/// How one image was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Acquisition {
    /// Width and height in pixels.
    pub size: Size,
    /// How the file stores its values.
    pub depth: Depth,
    /// The highest value as it is stored.
    pub highest: f64,
    /// Whether a pixel has a colour, and not only a grey level.
    pub colour: bool,
    /// The mean of all values, in `[0, 1]`.
    pub brightness: f64,
    /// The standard deviation of all values, at most 0.5.
    pub contrast: f64,
}

impl Acquisition {
    /// The acquisition of a decoded image.
    pub fn of(image: &Image, stored: &Stored) -> Self {
        let (mut sum, mut squares, mut colour) = (0.0, 0.0, false);
        for pixel in image.pixels().as_chunks::<3>().0 {
            for value in pixel.map(f64::from) {
                sum += value;
                squares += value * value;
            }
            colour |= pixel[0] != pixel[1] || pixel[1] != pixel[2];
        }
        let count = image.pixels().len() as f64;
        let brightness = sum / count;
        Self {
            size: image.size(),
            depth: stored.depth,
            highest: stored.highest,
            colour,
            brightness,
            contrast: (squares / count - brightness * brightness).max(0.0).sqrt(),
        }
    }
}

/// The lowest and the highest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The lowest value.
    pub lowest: f64,
    /// The highest value.
    pub highest: f64,
}

impl Range {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            lowest: values.clone().fold(f64::INFINITY, f64::min),
            highest: values.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    fn holds(&self, value: f64) -> bool {
        (self.lowest..=self.highest).contains(&value)
    }

    fn is_finite(&self) -> bool {
        self.lowest.is_finite() && self.highest.is_finite() && self.lowest <= self.highest
    }
}

/// The images of one depth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImagesOfDepth {
    /// Bits of a value; `None` (JSON `null`) for floating-point values.
    pub bits: Option<u8>,
    /// The number of images.
    pub images: usize,
    /// The highest value of all of them, as it is stored.
    pub highest: f64,
}

impl ImagesOfDepth {
    fn name(&self) -> String {
        match self.bits {
            Some(bits) => format!("{bits} bits a value"),
            None => "floating-point values".to_owned(),
        }
    }

    /// The fewest bits that hold the highest value, if that leaves bits of a 16-bit value unused.
    fn used_bits(&self) -> Option<u8> {
        let most = self.bits.filter(|&bits| bits > 8)?;
        let used = (1..most).find(|&bits| self.highest < f64::from(bits).exp2())?;
        Some(used.max(8))
    }
}

/// What the images of a training have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acquisitions {
    /// The bits of a value that the camera uses, if the training was told ([`ReadSettings::bits`](crate::image::read::ReadSettings)).
    pub told_bits: Option<u8>,
    /// The depths, by their bits.
    pub depths: Vec<ImagesOfDepth>,
    /// The widths in pixels.
    pub width: Range,
    /// The heights in pixels.
    pub height: Range,
    /// Width by height.
    pub aspect: Range,
    /// The images that have colours, and not only grey levels.
    pub colour: usize,
    /// The images in all.
    pub images: usize,
    /// The mean of an image's values, in `[0, 1]`.
    pub brightness: Range,
    /// The standard deviation of an image's values.
    pub contrast: Range,
}

/// How far sides may lie beyond those of the images learned, as a factor.
const SIDES: f64 = 1.25;

/// How far the aspect ratio may lie beyond, as a factor.
const ASPECT: f64 = 1.03;

/// How far the brightness may lie beyond: at least a grey level or two and this share, and at least the range of the images learned.
const BRIGHTNESS: [f64; 2] = [0.01, 0.1];

/// How far the contrast may lie beyond, as a factor.
const CONTRAST: f64 = 1.5;

/// The ratio of the brightest to the darkest image from which on the lighting is called mixed.
const MIXED_BRIGHTNESS: f64 = 1.6;

/// A contrast below this is that of an empty image.
const LEAST_CONTRAST: f64 = 0.01;

impl Acquisitions {
    /// What these images have in common; `None` without an image.
    pub fn of(images: &[Acquisition], told_bits: Option<u8>) -> Option<Self> {
        let mut depths: Vec<ImagesOfDepth> = Vec::new();
        for image in images {
            let bits = image.depth.bits();
            match depths.iter_mut().find(|depth| depth.bits == bits) {
                Some(depth) => {
                    depth.images += 1;
                    depth.highest = depth.highest.max(image.highest);
                }
                None => depths.push(ImagesOfDepth {
                    bits,
                    images: 1,
                    highest: image.highest,
                }),
            }
        }
        depths.sort_by_key(|depth| depth.bits);
        let range = |value: fn(&Acquisition) -> f64| Range::of(images.iter().map(value));
        (!images.is_empty()).then(|| Self {
            told_bits,
            depths,
            width: range(|image| image.size.width as f64),
            height: range(|image| image.size.height as f64),
            aspect: range(|image| image.size.width as f64 / image.size.height as f64),
            colour: images.iter().filter(|image| image.colour).count(),
            images: images.len(),
            brightness: range(|image| image.brightness),
            contrast: range(|image| image.contrast),
        })
    }

    /// What a person should know of the images before they are learned: mixtures, and values that use a part of their range.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.depths.len() > 1 {
            let depths: Vec<String> = self
                .depths
                .iter()
                .map(|depth| format!("{} of {}", images(depth.images), depth.name()))
                .collect();
            warnings.push(format!(
                "the images have different depths ({}): save all with the same depth",
                depths.join(", ")
            ));
        }
        for depth in &self.depths {
            if let (Some(used), None, Some(bits)) = (depth.used_bits(), self.told_bits, depth.bits)
            {
                warnings.push(format!(
                    "values of {bits} bits are at most {}, which takes {used} bits: if the camera has fewer than {bits} bits, set `bits` to \
                     their number, or the images are nearly black",
                    depth.highest
                ));
            }
        }
        if self.aspect.highest > self.aspect.lowest * ASPECT {
            warnings.push(format!(
                "the images have different aspect ratios (width by height {:.2} to {:.2}): resizing to one size distorts the parts",
                self.aspect.lowest, self.aspect.highest
            ));
        } else if self.width.highest > self.width.lowest * SIDES {
            warnings.push(format!(
                "the images have different sizes ({} to {} pixels wide): parts of one size may look different",
                self.width.lowest, self.width.highest
            ));
        }
        let [darkest, brightest] = [self.brightness.lowest, self.brightness.highest];
        if brightest > MIXED_BRIGHTNESS * (darkest + LEAST_CONTRAST) {
            warnings.push(format!(
                "the images have different brightness ({darkest:.2} to {brightest:.2}): is the light the same for all?"
            ));
        }
        if self.colour > 0 && self.colour < self.images {
            warnings.push(format!(
                "{} of {} images have colours, the others are grey",
                self.colour, self.images
            ));
        }
        warnings
    }

    /// How a new image differs from the images learned, in ways that may make a good part look defective; empty if it does not.
    pub fn unlike(&self, image: &Acquisition) -> Vec<String> {
        let mut reasons = Vec::new();
        let bits = image.depth.bits();
        let same_depth = self.depths.iter().find(|depth| depth.bits == bits);
        if same_depth.is_none() {
            let learned: Vec<String> = self.depths.iter().map(ImagesOfDepth::name).collect();
            reasons.push(format!(
                "{}, learned {}",
                image.depth,
                learned.join(" and ")
            ));
        }
        let (width, height) = (image.size.width as f64, image.size.height as f64);
        if !beyond(self.aspect, ASPECT).holds(width / height)
            || !beyond(self.width, SIDES).holds(width)
            || !beyond(self.height, SIDES).holds(height)
        {
            reasons.push(format!(
                "{} pixels, learned {}",
                image.size,
                sizes(self.width, self.height)
            ));
        }
        if self.colour == 0 && image.colour {
            reasons.push("colours, learned grey images".to_owned());
        } else if self.colour == self.images && !image.colour {
            reasons.push("grey, learned colours".to_owned());
        }
        let least = BRIGHTNESS[0] + BRIGHTNESS[1] * self.brightness.highest;
        let margin = (self.brightness.highest - self.brightness.lowest).max(least);
        let bright = Range {
            lowest: self.brightness.lowest - margin,
            highest: self.brightness.highest + margin,
        };
        if !bright.holds(image.brightness) {
            reasons.push(format!(
                "brightness {:.2}, learned {:.2} to {:.2}",
                image.brightness, self.brightness.lowest, self.brightness.highest
            ));
        }
        let contrast = Range {
            lowest: self.contrast.lowest / CONTRAST - LEAST_CONTRAST,
            highest: self.contrast.highest * CONTRAST + LEAST_CONTRAST,
        };
        if !contrast.holds(image.contrast) {
            reasons.push(format!(
                "contrast {:.2}, learned {:.2} to {:.2}",
                image.contrast, self.contrast.lowest, self.contrast.highest
            ));
        }
        reasons
    }

    /// What the numbers of an untrusted file must satisfy.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let ranges = [
            self.width,
            self.height,
            self.aspect,
            self.brightness,
            self.contrast,
        ];
        if !ranges.iter().all(Range::is_finite) {
            return Err("a range of the images learned is not finite or falls");
        }
        match self.told_bits {
            Some(0 | 33..) => Err("the bits of a value are not between 1 and 32"),
            _ => Ok(()),
        }
    }
}

/// In a line for people, as "700×700 pixels, 8 bits a value, brightness 0.36 to 0.41".
impl fmt::Display for Acquisitions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depths: Vec<String> = match self.told_bits {
            Some(bits) => vec![format!("{bits} bits a value as told")],
            None => self.depths.iter().map(ImagesOfDepth::name).collect(),
        };
        write!(
            formatter,
            "{} pixels, {}, brightness {:.2} to {:.2}",
            sizes(self.width, self.height),
            depths.join(" and "),
            self.brightness.lowest,
            self.brightness.highest
        )
    }
}

/// The range widened by a factor.
fn beyond(range: Range, factor: f64) -> Range {
    Range {
        lowest: range.lowest / factor,
        highest: range.highest * factor,
    }
}

fn images(count: usize) -> String {
    if count == 1 {
        "1 image".to_owned()
    } else {
        format!("{count} images")
    }
}

fn sizes(width: Range, height: Range) -> String {
    let lowest = format!("{}×{}", width.lowest, height.lowest);
    let highest = format!("{}×{}", width.highest, height.highest);
    if lowest == highest {
        lowest
    } else {
        format!("{lowest} to {highest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(side: usize, level: f32, depth: Depth, white: f64) -> Acquisition {
        let pixels = (0..side * side * 3).map(|at| level + 0.2 * (at / 3 % 2) as f32);
        let image = Image::new(side, side, pixels.collect());
        let stored = Stored {
            depth,
            highest: f64::from(level + 0.2) * white,
            colour: false,
        };
        Acquisition::of(&image, &stored)
    }

    fn eight(level: f32) -> Acquisition {
        drawn(10, level, Depth::Bits(8), 255.0)
    }

    #[test]
    fn one_image_has_its_mean_and_its_deviation() {
        let found = eight(0.4);
        assert!((found.brightness - 0.5).abs() < 1e-6 && (found.contrast - 0.1).abs() < 1e-6);
        assert!(!found.colour && found.size == Size::square(10));
    }

    #[test]
    fn mixtures_and_unused_bits_are_told() {
        let alike = Acquisitions::of(&[eight(0.4), eight(0.42)], None).unwrap();
        assert_eq!(alike.warnings(), Vec::<String>::new());
        let deep = |white| drawn(10, 0.4, Depth::Bits(16), white);
        let full = Acquisitions::of(&[deep(65_535.0)], None).unwrap();
        assert_eq!(full.warnings(), Vec::<String>::new());
        let twelve = Acquisitions::of(&[deep(4095.0)], None).unwrap();
        let warnings = twelve.warnings();
        assert!(warnings[0].contains("12 bits"), "{warnings:?}");
        let told = Acquisitions::of(&[deep(4095.0)], Some(12)).unwrap();
        assert_eq!(told.warnings(), Vec::<String>::new());
        let wide = Acquisition {
            size: Size::new(20, 10),
            colour: true,
            ..deep(65_535.0)
        };
        let mixed = Acquisitions::of(&[eight(0.4), eight(0.4), wide], None).unwrap();
        let warnings = mixed.warnings().join("; ");
        for part in [
            "2 images of 8 bits a value, 1 image of 16 bits a value",
            "1.00 to 2.00",
            "1 of 3 images have colours",
        ] {
            assert!(warnings.contains(part), "{part:?} is not in: {warnings}");
        }
        assert_eq!(Acquisitions::of(&[], None), None);
    }

    #[test]
    fn another_camera_and_another_lighting_are_unlike() {
        let learned = Acquisitions::of(&[eight(0.40), eight(0.41), eight(0.42)], None).unwrap();
        assert_eq!(learned.unlike(&eight(0.43)), Vec::<String>::new());
        let large = drawn(11, 0.41, Depth::Bits(8), 255.0);
        assert_eq!(learned.unlike(&large), Vec::<String>::new());
        let colour = Acquisition {
            colour: true,
            ..eight(0.41)
        };
        for (image, wanted) in [
            (eight(0.5), "brightness 0.60, learned 0.50 to 0.52"),
            (
                drawn(10, 0.41, Depth::Bits(16), 65_535.0),
                "values of 16 bits, learned 8 bits a value",
            ),
            (
                drawn(20, 0.41, Depth::Bits(8), 255.0),
                "20×20 pixels, learned 10×10",
            ),
            (colour, "colours, learned grey images"),
        ] {
            let reasons = learned.unlike(&image);
            assert_eq!(reasons, [wanted]);
        }
        let flat = Acquisition {
            contrast: 0.0,
            ..eight(0.41)
        };
        assert_eq!(
            learned.unlike(&flat),
            ["contrast 0.00, learned 0.10 to 0.10"]
        );
    }
}
