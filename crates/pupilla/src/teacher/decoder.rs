//! D, the linear layer from descriptors to what a pretrained network says: needed for training and for
//! measuring the distillation, never for inspection.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::patch_network::{DESCRIPTOR_CHANNELS, values};
use crate::random::normal;

/// A linear layer.
#[derive(Module, Debug)]
pub(crate) struct Decoder {
    /// `[128, targets]`
    weight: Param<Tensor<2>>,
    /// `[targets]`
    bias: Param<Tensor<1>>,
}

impl Decoder {
    /// Small random weights, whose outputs have a deviation of about 0.1: the first steps are not spent on undoing them.
    pub fn init(targets: usize, seed: u64, device: &Device) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let deviation = 0.1 / (DESCRIPTOR_CHANNELS as f32).sqrt();
        let weight = (0..DESCRIPTOR_CHANNELS * targets)
            .map(|_| deviation * normal(&mut random))
            .collect();
        Self::with_weights(weight, vec![0.0; targets], device)
    }

    /// A layer with the given numbers, `[128, targets]` and `[targets]`.
    pub fn with_weights(weight: Vec<f32>, bias: Vec<f32>, device: &Device) -> Self {
        let targets = bias.len();
        let weight = TensorData::new(weight, [DESCRIPTOR_CHANNELS, targets]);
        Self {
            weight: Param::from_tensor(Tensor::from_data(weight, device)),
            bias: Param::from_tensor(Tensor::from_data(TensorData::new(bias, [targets]), device)),
        }
    }

    /// # Shapes
    /// - `descriptors`: `[rows, 128]`
    /// - output: `[rows, targets]`
    pub fn apply(&self, descriptors: Tensor<2>) -> Tensor<2> {
        descriptors.matmul(self.weight.val()) + self.bias.val().unsqueeze()
    }

    /// The framework's names of the parameters.
    pub fn identities(&self) -> [u64; 2] {
        [self.weight.id.val(), self.bias.id.val()]
    }

    /// The same layer under other names.
    pub fn with_identities(mut self, identities: &[u64]) -> Self {
        if let [weight, bias] = *identities {
            self.weight.id = weight.into();
            self.bias.id = bias.into();
        }
        self
    }

    /// Weight and bias as plain numbers.
    pub fn weights(&self) -> [Vec<f32>; 2] {
        [values(self.weight.val()), values(self.bias.val())]
    }
}
