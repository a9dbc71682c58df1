//! Cook–Toom convolution (known as Winograd's in deep learning), for square kernels of 2 to 6 and stride 1.
//!
//! A tile of 4×4 outputs of an r×r kernel takes n² products instead of 16·r², with n = r + 3, once input and weight are
//! transformed (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016):
//!
//! ```text
//! output tile     = Aᵀ [ Σ_c (G w Gᵀ) ⊙ (Bᵀ x B) ] A              F(4×4, r×r)
//! weight gradient = A′ᵀ [ Σ_tiles (G′ y G′ᵀ) ⊙ (Bᵀ x B) ] A′      F(r×r, 4×4): the output gradient's tile is the filter
//! ```
//!
//! The input gradient is the first form again, on the output gradient with a border of r − 1 zeros and the kernel turned by
//! 180°. The sums over channels, or over tiles, are n² independent matrix products, which are where the time goes.
//!
//! # Error
//! The transforms multiply rounding errors; how much depends on the interpolation points ([`points`]; Barabasz et al.,
//! "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2018/2020).

pub(crate) mod forward;
mod input;
pub(crate) mod pixels;
pub(crate) mod points;
pub(crate) mod shallow;
mod transform;
pub(crate) mod weight_gradient;
pub(crate) mod weights;

/// Rows and columns of the tiles of the output.
pub(crate) const TILE: usize = 4;

/// The tiles of a batch of output planes, numbered row by row, image after image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    pub(crate) batch: usize,
    /// Rows and columns of the output.
    pub(crate) size: [usize; 2],
    /// Rows and columns of tiles; the last ones may stick out.
    pub(crate) grid: [usize; 2],
}

impl Tiles {
    pub(crate) fn new(batch: usize, size: [usize; 2]) -> Self {
        Self {
            batch,
            size,
            grid: size.map(|size| size.div_ceil(TILE)),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// The run of tiles from `tile` to the end of its row, or to `end` if that comes first.
    #[inline(always)]
    fn run_at(&self, tile: usize, end: usize) -> Run {
        let row = tile / self.grid[1];
        let column = tile % self.grid[1];
        let left = self.grid[1] - column;
        Run {
            image: row / self.grid[0],
            row: row % self.grid[0],
            column,
            len: if end - tile < left { end - tile } else { left },
        }
    }
}

/// Neighbouring tiles in one row.
#[derive(Clone, Copy)]
struct Run {
    image: usize,
    row: usize,
    column: usize,
    len: usize,
}
