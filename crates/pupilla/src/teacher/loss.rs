//! The teacher's losses: metric learning on triplets, and compactness.

use burn::tensor::{Tensor, s};

/// The triplet loss `Lm` with in-triplet hard negatives (the paper's §3.1).
pub(crate) struct TripletLoss {
    /// Mean over the triplets of `max(0, δ + δ⁺ − δ⁻)`, `[1]`.
    pub loss: Tensor<1>,
    /// The share of triplets with `δ⁺ < δ⁻`, `[1]`, in `[0, 1]`.
    pub holding: Tensor<1>,
}

/// `Lm` of descriptors of patches, of similar patches and of other images' patches, row by row.
///
/// # Shapes
/// - `anchor`, `positive`, `negative`: `[triplets, 128]`
pub(crate) fn triplet(
    anchor: Tensor<2>,
    positive: Tensor<2>,
    negative: Tensor<2>,
    margin: f64,
) -> TripletLoss {
    let squared_distance = |a: &Tensor<2>, b: &Tensor<2>| {
        (a.clone() - b.clone())
            .powi_scalar(2)
            .sum_dim(1)
            .squeeze_dim::<1>(1)
    };
    let near = squared_distance(&anchor, &positive);
    let far = squared_distance(&anchor, &negative).min_pair(squared_distance(&positive, &negative));
    TripletLoss {
        loss: (near.clone() - far.clone())
            .add_scalar(margin)
            .clamp_min(0.0)
            .mean(),
        holding: near.lower(far).float().mean(),
    }
}

/// How the compactness loss counts a correlation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compactness {
    /// `Σ_{i≠j} c_ij²`, as in L2-Net (Tian et al., CVPR 2017): every correlation is unwanted.
    #[default]
    Squared,
    /// `Σ_{i≠j} c_ij`, as printed in the paper; it rewards anti-correlation.
    Signed,
}

/// The compactness loss `Lc` of a mini-batch's descriptors: `c` is the correlation matrix of their
/// 128 dimensions over the batch.
///
/// # Shapes
/// - `descriptors`: `[batch, 128]`
pub(crate) fn compactness(descriptors: Tensor<2>, kind: Compactness) -> Tensor<1> {
    let correlation = correlation(descriptors);
    let [dimensions, _] = correlation.dims();
    let total = match kind {
        Compactness::Squared => correlation.powi_scalar(2).sum(),
        Compactness::Signed => correlation.sum(),
    };
    // The diagonal of a correlation matrix is constant: it is taken off as a number.
    total.sub_scalar(dimensions as f64)
}

/// The correlation matrix of the columns of `[batch, dimensions]`; a column that does not vary correlates with none.
pub(super) fn correlation(descriptors: Tensor<2>) -> Tensor<2> {
    let centred = descriptors.clone() - descriptors.mean_dim(0);
    // A dimension that does not vary would divide by zero.
    let norm = centred
        .clone()
        .powi_scalar(2)
        .sum_dim(0)
        .add_scalar(1e-12)
        .sqrt();
    let unit = centred / norm;
    unit.clone().transpose().matmul(unit)
}

/// Rolls the images of a batch by one: row `i` becomes the descriptors of another image.
///
/// # Shapes
/// - `descriptors`: `[images · positions, 128]`, an image's positions next to each other
pub(crate) fn next_image(descriptors: Tensor<2>, positions: usize) -> Tensor<2> {
    let rows = descriptors.dims()[0];
    Tensor::cat(
        vec![
            descriptors.clone().slice(s![positions..rows, ..]),
            descriptors.slice(s![0..positions, ..]),
        ],
        0,
    )
}
