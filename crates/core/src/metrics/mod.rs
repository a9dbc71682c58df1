//! Exact measures of how well scores separate defective from good: AUROC, and AU-PRO.
//!
//! Exact means: every distinct score is a threshold, equal scores are one threshold, and all
//! counts are integers; there is no binning and no sampling, and the order in which images are
//! added does not matter. A measure that is undefined (a class is missing) is `None`, never 0 or 1.
//!
//! - [`auroc()`] ranks a list of scores, for example one for each image.
//! - [`PixelScores`] collects the pixels of anomaly maps; [`RankedPixels`] are they in order;
//!   [`Ranking`] measures any union of such sets: the whole test set, or one defect type with the
//!   good images, from one sorting.

mod auroc;
mod key;
mod pixels;
mod ranking;

pub use auroc::auroc;
pub use pixels::{NotFinite, PixelScores, RankedPixels};
pub use ranking::{CurvePoint, Ranking, RegionAuPro};
