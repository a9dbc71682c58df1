//! Exact measures of how well scores separate defective from good: AU-PRO, AUROC, average precision, best
//! F1, and the curves.
//!
//! Exact means: every distinct score is a threshold, equal scores are one threshold, and all
//! counts are integers; there is no binning and no sampling, and the order in which images are
//! added does not matter. A measure that is undefined (a class is missing) is `None`, never 0 or 1.
//!
//! - [`auroc()`] ranks a list of scores, for example one for each image.
//! - [`PixelScores`] collects the pixels of anomaly maps; [`RankedPixels`] are these pixels in order; [`Ranking`] measures any union of
//!   such sets: the whole test set, one defect type with the good images, or the regions of one size, from one sorting.

mod auroc;
mod curves;
mod key;
mod overlap;
mod pixels;
mod precision;
mod ranking;

pub use auroc::auroc;
pub use curves::{CurvePoint, PrecisionRecallPoint};
pub use overlap::RegionAuPro;
pub use pixels::{NotFinite, PixelScores, RankedPixels};
pub use precision::BestF1;
pub use ranking::{Measures, Ranking};
