//! The shape of one convolution, checked once.

use thiserror::Error;

/// A valid (unpadded) two-dimensional convolution, in the sense of PyTorch: a cross-correlation.
///
/// ```text
/// output[b, o, y, x] = bias[o] + Σ_{c, i, j} weight[o, c, i, j] · input[b, c, y·stride[0] + i, x·stride[1] + j]
/// ```
///
/// # Shapes
/// All tensors are `f32`, dense and row-major:
/// - input `[batch, in_channels, height, width]`
/// - weight `[out_channels, in_channels, kernel[0], kernel[1]]`
/// - bias `[out_channels]`
/// - output `[batch, out_channels, output_size()[0], output_size()[1]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conv2d {
    /// Number of images.
    pub batch: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step between outputs, in rows and columns of the input.
    pub stride: [usize; 2],
}

/// What makes a shape no convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// A size that must be positive is zero.
    #[error("{0} of a convolution must be positive")]
    Zero(&'static str),
    /// The kernel does not fit into the input.
    #[error(
        "a {}x{} kernel does not fit into a {}x{} input",
        kernel[0], kernel[1], input[0], input[1]
    )]
    KernelTooLarge {
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// Rows and columns of the input.
        input: [usize; 2],
    },
    /// The number of elements of one of the tensors overflows.
    #[error("the {0} of the convolution has more elements than the machine can address")]
    TooLarge(&'static str),
}

impl Conv2d {
    /// Checks the sizes and makes a convolution of stride 1. `input` is `[batch, channels, height, width]`.
    pub fn new(
        input: [usize; 4],
        out_channels: usize,
        kernel: [usize; 2],
    ) -> Result<Self, ShapeError> {
        let [batch, in_channels, height, width] = input;
        let shape = Self {
            batch,
            in_channels,
            height,
            width,
            out_channels,
            kernel,
            stride: [1, 1],
        };
        shape.check()?;
        Ok(shape)
    }

    /// The same convolution with another stride.
    pub fn with_stride(self, stride: [usize; 2]) -> Result<Self, ShapeError> {
        let shape = Self { stride, ..self };
        shape.check()?;
        Ok(shape)
    }

    fn check(&self) -> Result<(), ShapeError> {
        let positive = [
            (self.batch, "the batch"),
            (self.in_channels, "the input channels"),
            (self.height, "the height"),
            (self.width, "the width"),
            (self.out_channels, "the output channels"),
            (self.kernel[0], "the kernel's height"),
            (self.kernel[1], "the kernel's width"),
            (self.stride[0], "the vertical stride"),
            (self.stride[1], "the horizontal stride"),
        ];
        if let Some((_, name)) = positive.into_iter().find(|(size, _)| *size == 0) {
            return Err(ShapeError::Zero(name));
        }
        if self.kernel[0] > self.height || self.kernel[1] > self.width {
            return Err(ShapeError::KernelTooLarge {
                kernel: self.kernel,
                input: [self.height, self.width],
            });
        }
        let [rows, columns] = self.output_size();
        let tensors = [
            (
                [self.batch, self.in_channels, self.height, self.width],
                "input",
            ),
            (
                [
                    self.out_channels,
                    self.in_channels,
                    self.kernel[0],
                    self.kernel[1],
                ],
                "weight",
            ),
            ([self.batch, self.out_channels, rows, columns], "output"),
        ];
        for (sizes, name) in tensors {
            let bytes = sizes
                .into_iter()
                .try_fold(size_of::<f32>(), |product, size| product.checked_mul(size));
            if bytes.is_none_or(|bytes| bytes > isize::MAX as usize) {
                return Err(ShapeError::TooLarge(name));
            }
        }
        Ok(())
    }

    /// Rows and columns of the output.
    pub fn output_size(&self) -> [usize; 2] {
        [
            (self.height - self.kernel[0]) / self.stride[0] + 1,
            (self.width - self.kernel[1]) / self.stride[1] + 1,
        ]
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.height * self.width
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.taps()
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels * self.output_area()
    }

    /// Floating-point operations of the direct algorithm, for any one of the three passes.
    pub fn flops(&self) -> u64 {
        2 * self.output_len() as u64 * self.taps() as u64
    }

    /// Pixels of one output channel.
    pub fn output_area(&self) -> usize {
        let [rows, columns] = self.output_size();
        rows * columns
    }

    /// Products that are summed into one output.
    pub(crate) fn taps(&self) -> usize {
        self.in_channels * self.kernel[0] * self.kernel[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let shape = Conv2d::new([2, 3, 33, 40], 8, [5, 4]).unwrap();
        assert_eq!(shape.output_size(), [29, 37]);
        let shape = shape.with_stride([2, 3]).unwrap();
        assert_eq!(shape.output_size(), [15, 13]);
        assert_eq!(shape.input_len(), 2 * 3 * 33 * 40);
        assert_eq!(shape.weight_len(), 8 * 3 * 5 * 4);
        assert_eq!(shape.output_len(), 2 * 8 * 15 * 13);
    }

    #[test]
    fn impossible_shapes_say_why() {
        assert_eq!(
            Conv2d::new([1, 0, 4, 4], 1, [1, 1]),
            Err(ShapeError::Zero("the input channels"))
        );
        assert_eq!(
            Conv2d::new([1, 1, 4, 4], 1, [5, 1])
                .unwrap_err()
                .to_string(),
            "a 5x1 kernel does not fit into a 4x4 input"
        );
        assert_eq!(
            Conv2d::new([1, usize::MAX / 2, 4, 4], 1, [1, 1]),
            Err(ShapeError::TooLarge("input"))
        );
    }
}
