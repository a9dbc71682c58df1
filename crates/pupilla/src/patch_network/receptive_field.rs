//! The three patch sizes of the paper and the layers that belong to each (its §2).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The side p of the square patch that a descriptor describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub enum ReceptiveField {
    /// p = 17, without pooling.
    P17,
    /// p = 33, two poolings.
    P33,
    /// p = 65, three poolings.
    P65,
}

/// A number that is no receptive field of the method.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is not a receptive field: choose 17, 33 or 65")]
pub struct UnknownReceptiveField(String);

impl ReceptiveField {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::P17, Self::P33, Self::P65];

    /// p, in pixels.
    pub fn side(self) -> usize {
        match self {
            Self::P17 => 17,
            Self::P33 => 33,
            Self::P65 => 65,
        }
    }

    /// The side of the square of pixels that really reach a descriptor, from the patch's top left:
    /// the poolings drop the last row and column of odd maps, so 32 for p = 33 and 60 for p = 65.
    pub fn span(self) -> usize {
        match self {
            Self::P17 => 17,
            Self::P33 => 32,
            Self::P65 => 60,
        }
    }

    /// The stride of the grid that one offset of every pooling gives: 1, 4 or 8 pixels.
    pub fn pooling_stride(self) -> usize {
        match self {
            Self::P17 => 1,
            Self::P33 => 4,
            Self::P65 => 8,
        }
    }

    /// Distance of a patch's centre from its first row (and column): `(p - 1) / 2`.
    pub fn radius(self) -> usize {
        (self.side() - 1) / 2
    }

    /// The layers from pixels to a descriptor of `output_channels` numbers; `conv3_channels` is the
    /// width of p = 65's third convolution, which the sources print as 128 and as 256.
    pub(crate) fn layers(self, conv3_channels: usize, output_channels: usize) -> Vec<Layer> {
        use Layer::{Convolution as Conv, Pooling};
        match self {
            Self::P17 => vec![
                Conv(6, 128),
                Conv(5, 256),
                Conv(5, 256),
                Conv(4, output_channels),
            ],
            Self::P33 => vec![
                Conv(5, 128),
                Pooling,
                Conv(5, 256),
                Pooling,
                Conv(2, 256),
                Conv(4, output_channels),
            ],
            Self::P65 => vec![
                Conv(5, 128),
                Pooling,
                Conv(5, 128),
                Pooling,
                Conv(5, conv3_channels),
                Pooling,
                Conv(4, 256),
                Conv(1, output_channels),
            ],
        }
    }
}

/// One layer of a patch network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// A valid convolution: side of the kernel, output channels.
    Convolution(usize, usize),
    /// Max-pooling, 2×2, stride 2.
    Pooling,
}

impl fmt::Display for ReceptiveField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.side())
    }
}

impl From<ReceptiveField> for usize {
    fn from(field: ReceptiveField) -> Self {
        field.side()
    }
}

impl TryFrom<usize> for ReceptiveField {
    type Error = UnknownReceptiveField;

    fn try_from(side: usize) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|field| field.side() == side)
            .ok_or_else(|| UnknownReceptiveField(side.to_string()))
    }
}

impl FromStr for ReceptiveField {
    type Err = UnknownReceptiveField;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim()
            .parse::<usize>()
            .map_err(|_| UnknownReceptiveField(text.to_string()))
            .and_then(Self::try_from)
    }
}
