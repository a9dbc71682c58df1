//! What a network gives, by name.

/// Name of the output of pooled features: the mean of the last map over all its pixels, 512 numbers
/// for both networks.
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
    /// Pixels of the image from one pixel of the map to the next; `None` for outputs that speak of the
    /// whole image.
    pub stride: Option<usize>,
    /// The image's pixel that the map's first pixel is centred on, in both directions.
    pub first_centre: usize,
    /// Side of the smallest image that gives it.
    pub smallest_side: usize,
}
