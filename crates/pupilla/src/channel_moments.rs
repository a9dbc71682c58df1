//! Mean and mean square of every channel of a map, which batch norm is made of, in one pass each way.
//!
//! An operation of our own for the same reason as the convolution: composed of the framework's operations it takes
//! three passes over the map forward and seven backward. A GPU takes those (`composed`).

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::convolution::{input_gradient, tracked_input, with_values};

/// A backend that has the channels' moments.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait ChannelMomentsBackend: Backend {
    /// See [`channel_moments`].
    fn channel_moments(map: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The gradient that a backend with [`ChannelMomentsBackend`] gives to automatic differentiation.
pub(crate) trait ChannelMomentsGradient: ChannelMomentsBackend {
    /// The gradient of the map, from that of its moments, `[2, channels]`.
    fn channel_moments_gradient(
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Each channel's mean and mean square over batch, rows and columns.
///
/// # Shapes
/// - `map`: `[batch, channels, height, width]`
/// - output: `[2, channels]`, means first
pub(crate) fn channel_moments(map: Tensor<4>) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if crate::device::is_gpu(&map.device()) {
        return crate::composed::channel_moments(map);
    }
    Tensor::from_dispatch(<Dispatch as ChannelMomentsBackend>::channel_moments(
        map.into_dispatch(),
    ))
}

/// Sum and sum of squares of a plane: running `f32` sums over short runs, the runs summed in `f64`.
fn plane_sums(plane: &[f32]) -> [f64; 2] {
    let mut totals = [0.0f64; 2];
    for run in plane.chunks(256) {
        let mut sums = [0.0f32; 8];
        let mut squares = [0.0f32; 8];
        let chunks = run.chunks_exact(8);
        for &value in chunks.remainder() {
            totals[0] += f64::from(value);
            totals[1] += f64::from(value) * f64::from(value);
        }
        for chunk in chunks {
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(chunk) {
                *sum += value;
                *square += value * value;
            }
        }
        totals[0] += sums.into_iter().map(f64::from).sum::<f64>();
        totals[1] += squares.into_iter().map(f64::from).sum::<f64>();
    }
    totals
}

impl ChannelMomentsBackend for Flex {
    fn channel_moments(map: FloatTensor<Self>) -> FloatTensor<Self> {
        let [batch, channels, height, width] = map.shape().dims();
        let count = (batch * height * width) as f64;
        let of_channels: Vec<[f64; 2]> = with_values(&map, |map| {
            (0..channels)
                .into_par_iter()
                .map(|channel| {
                    map.chunks_exact(height * width)
                        .skip(channel)
                        .step_by(channels)
                        .map(plane_sums)
                        .fold([0.0; 2], |all, sums| [all[0] + sums[0], all[1] + sums[1]])
                })
                .collect()
        });
        let moments = (0..2)
            .flat_map(|which| of_channels.iter().map(move |sums| sums[which] / count))
            .map(|moment| moment as f32)
            .collect();
        FloatTensor::<Self>::from_data(TensorData::new(moments, [2, channels]))
    }
}

impl ChannelMomentsGradient for Flex {
    fn channel_moments_gradient(
        map: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let shape: [usize; 4] = map.shape().dims();
        let [batch, channels, height, width] = shape;
        let count = (batch * height * width) as f32;
        let mut result = vec![0.0f32; batch * channels * height * width];
        with_values(&map, |map| {
            with_values(&gradient, |gradient| {
                let area = height * width;
                result
                    .par_chunks_exact_mut(area)
                    .zip(map.par_chunks_exact(area))
                    .enumerate()
                    .for_each(|(plane, (target, map))| {
                        let channel = plane % channels;
                        let of_mean = gradient[channel] / count;
                        let of_square = 2.0 * gradient[channels + channel] / count;
                        for (target, value) in target.iter_mut().zip(map) {
                            *target = of_mean + of_square * value;
                        }
                    });
            });
        });
        FloatTensor::<Self>::from_data(TensorData::new(result, shape))
    }
}

#[derive(Debug)]
struct ChannelMoments;

impl<B: Backend + ChannelMomentsGradient> Backward<B, 1> for ChannelMoments {
    /// The map.
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        input_gradient::<B>(ops, gradients, checkpointer, B::channel_moments_gradient);
    }
}

impl<B: Backend + ChannelMomentsGradient, C: CheckpointStrategy> ChannelMomentsBackend
    for Autodiff<B, C>
{
    fn channel_moments(map: FloatTensor<Self>) -> FloatTensor<Self> {
        tracked_input::<B, C>(ChannelMoments, map, B::channel_moments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::composed;
    use burn::tensor::{Device, Distribution};

    /// Moments and the map's gradient, for a loss with a weight of its own for every moment.
    fn both(map: &Tensor<4>, moments: impl Fn(Tensor<4>) -> Tensor<2>) -> [TensorData; 2] {
        let device = Device::flex().autodiff();
        let map = Tensor::<4>::from_data(map.to_data(), &device).require_grad();
        let moments = moments(map.clone());
        let count = moments.dims().iter().product::<usize>();
        let scale: Vec<f32> = (0..count).map(|at| (at as f32 * 0.7).cos()).collect();
        let scale = Tensor::<2>::from_data(TensorData::new(scale, moments.dims()), &device);
        let gradients = (moments.clone() * scale).sum().backward();
        [
            moments.inner().into_data(),
            map.grad(&gradients).map(Tensor::into_data).unwrap(),
        ]
    }

    #[test]
    fn moments_and_their_gradient_are_those_of_the_framework() {
        let device = Device::flex();
        device.seed(3);
        for shape in [[1, 1, 1, 1], [3, 5, 7, 4], [2, 3, 17, 31]] {
            let map = Tensor::<4>::random(shape, Distribution::Normal(0.5, 2.0), &device);
            let ours = both(&map, channel_moments);
            let theirs = both(&map, composed::channel_moments);
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours.shape(), theirs.shape());
                for (a, b) in ours.iter::<f32>().zip(theirs.iter::<f32>()) {
                    assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{a} and {b}");
                }
            }
        }
    }
}
