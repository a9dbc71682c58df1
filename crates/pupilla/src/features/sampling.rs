//! At which positions of an image patches are described.

use serde::{Deserialize, Serialize};

use crate::patch_network::ReceptiveField;

/// At which positions of an image descriptors are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// Every 4th row and column (every 8th for p = 65), scores interpolated in between: the same
    /// descriptors at fewer positions, for a fraction of the work.
    #[default]
    Grid,
    /// Every pixel: the paper's method.
    Dense,
}

impl Sampling {
    /// Distance of neighbouring positions, in pixels of the resized image.
    pub fn stride(self, field: ReceptiveField) -> usize {
        match self {
            Self::Dense => 1,
            Self::Grid => field.pooling_stride().max(4),
        }
    }
}
