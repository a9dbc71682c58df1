//! The size of an image, a mask or a map.

use std::fmt;

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// A size of `width` columns and `height` rows.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height }
    }

    /// A square of this side.
    pub fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// Number of pixels; `usize::MAX` if the number is larger.
    pub fn area(self) -> usize {
        self.width.saturating_mul(self.height)
    }

    /// The shorter side.
    pub fn shorter(self) -> usize {
        self.width.min(self.height)
    }

    /// The size with `change` applied to both sides.
    #[must_use]
    pub fn map(self, change: impl Fn(usize) -> usize) -> Self {
        Self::new(change(self.width), change(self.height))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}×{}", self.width, self.height)
    }
}
