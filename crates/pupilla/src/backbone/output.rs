//! The outputs of a network, by name.

/// Name of the output of pooled features: the mean of the last map over all its pixels.
pub const FEATURES: &str = "features";

/// Name of the output of class scores before any softmax.
pub const LOGITS: &str = "logits";

/// One output of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name.
    pub name: &'static str,
    /// Channels of the map.
    pub channels: usize,
    /// Pixels of the image from one pixel of the map to the next; `None` for outputs that describe the whole image.
    pub stride: Option<usize>,
    /// Where the map's pixels are centred.
    pub centres: Centres,
    /// Side of the smallest image that gives it.
    pub smallest_side: usize,
}

/// The image's pixel that a map's first pixel is centred on, along rows and columns alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centres {
    /// The same for images of every size.
    First(usize),
    /// TensorFlow's padding `SAME` halves the image again and again, until the stride is reached: from a side that is even it takes the
    /// second, fourth, … pixel, from an odd one the first, third, … .
    Same,
}

impl Output {
    /// The pixel that the map's first pixel is centred on, along a side of the image.
    pub fn first_centre(&self, side: usize) -> usize {
        match self.centres {
            Centres::First(pixel) => pixel,
            Centres::Same => {
                let mut side = side;
                let mut pixel = 0;
                let mut step = 1;
                while step < self.stride.unwrap_or(1) {
                    pixel += if side.is_multiple_of(2) { step } else { 0 };
                    side = side.div_ceil(2);
                    step *= 2;
                }
                pixel
            }
        }
    }
}
