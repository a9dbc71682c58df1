//! Depthwise convolution: each channel has a kernel of its own (Howard et al., "MobileNets", arXiv:1704.04861).
//!
//! A plane is copied into a frame of zeros, at stride 2 its even and odd columns apart. A vector of pixels then reads neighbouring numbers for
//! every tap, and serves the rows of outputs that its row of the input touches: four of them are summed at once, in registers.

use rayon::prelude::*;

use crate::{
    Conv2d, ShapeError,
    activation::{Activation, Epilogue},
    check_len,
    simd::{Isa, Kernel, Level, dispatch},
    workspace::Buffer,
};

/// A depthwise convolution with a square kernel, between zeros.
///
/// ```text
/// output[b, c, y, x] = bias[c] + Σ_{i, j} weight[c, i, j] · input[b, c, y·stride + i − top, x·stride + j − left]
/// ```
///
/// # Shapes
/// All tensors are `f32`, dense and row-major:
/// - input `[batch, channels, height, width]`
/// - weight `[channels, kernel, kernel]`
/// - bias `[channels]`
/// - output `[batch, channels, output_size()[0], output_size()[1]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depthwise {
    /// Number of images.
    batch: usize,
    /// Channels of input and output.
    channels: usize,
    /// Rows and columns of the input.
    size: [usize; 2],
    /// Side of the kernel.
    kernel: usize,
    /// Step between outputs.
    stride: usize,
    /// Zeros before and after the rows, and before and after the columns.
    padding: [[usize; 2]; 2],
}

impl Depthwise {
    /// Checks the sizes. `input` is `[batch, channels, height, width]`, `padding` how many zeros stand before (`top`, `left`) and after its
    /// rows, then its columns.
    pub fn new(
        input: [usize; 4],
        kernel: usize,
        stride: usize,
        padding: [[usize; 2]; 2],
    ) -> Result<Self, ShapeError> {
        let [batch, channels, height, width] = input;
        let size = [height, width];
        if size.contains(&0) {
            return Err(ShapeError::Zero("the input"));
        }
        // Of one channel at a time it is an ordinary convolution of the padded planes.
        let mut padded = size;
        for (side, [before, after]) in padded.iter_mut().zip(padding) {
            *side = side.saturating_add(before).saturating_add(after);
        }
        let planes = batch
            .checked_mul(channels)
            .ok_or(ShapeError::TooLarge("input"))?;
        Conv2d::new([planes, 1, padded[0], padded[1]], 1, [kernel; 2])?.with_stride([stride; 2])?;
        kernel
            .checked_pow(2)
            .and_then(|taps| taps.checked_mul(channels))
            .ok_or(ShapeError::TooLarge("weight"))?;
        Ok(Self {
            batch,
            channels,
            size,
            kernel,
            stride,
            padding,
        })
    }

    /// Rows and columns of the output.
    pub fn output_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.padded(axis) - self.kernel) / self.stride + 1)
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.channels * self.size[0] * self.size[1]
    }

    /// Elements of the weight.
    pub fn weight_len(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        let [rows, columns] = self.output_size();
        self.batch * self.channels * rows * columns
    }

    /// The input's rows (axis 0) or columns with their zeros.
    fn padded(&self, axis: usize) -> usize {
        let [before, after] = self.padding[axis];
        before + self.size[axis] + after
    }

    /// Along an axis, the taps of an output that lie on the input, and the pixel that the first of them reads.
    fn taps(&self, axis: usize, output: usize) -> (std::ops::Range<usize>, usize) {
        let first = output * self.stride;
        let before = self.padding[axis][0];
        let end = self
            .kernel
            .min((before + self.size[axis]).saturating_sub(first));
        let start = before.saturating_sub(first).min(end);
        (start..end, (first + start).saturating_sub(before))
    }

    /// Calls `f(tap, first input pixel, first output pixel, row length)` … of a plane, for every tap and row of outputs.
    fn each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        let [rows, columns] = self.output_size();
        for y in 0..rows {
            let (vertical, top) = self.taps(0, y);
            for (i, row) in vertical.zip(top..) {
                for x in 0..columns {
                    let (horizontal, left) = self.taps(1, x);
                    for (j, column) in horizontal.zip(left..) {
                        f(
                            i * self.kernel + j,
                            row * self.size[1] + column,
                            y * columns + x,
                        );
                    }
                }
            }
        }
    }
}

/// Computes the output of a depthwise convolution and its activation, overwriting `output`. Kernels of side 3 and 5 with strides 1 and 2
/// are fast; others are plain loops.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands, or the activation's numbers are out of their range.
pub fn depthwise(
    shape: &Depthwise,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    output: &mut [f32],
) {
    activation.check();
    check_len("input", input, shape.input_len());
    check_len("weight", weight, shape.weight_len());
    if let Some(bias) = bias {
        check_len("bias", bias, shape.channels);
    }
    check_len("output", output, shape.output_len());
    let epilogue = Epilogue { bias, activation };
    forward(Level::best(), shape, input, weight, epilogue, output);
}

fn forward(
    level: Level,
    shape: &Depthwise,
    input: &[f32],
    weight: &[f32],
    epilogue: Epilogue<'_>,
    output: &mut [f32],
) {
    let [rows, columns] = shape.output_size();
    let planes = shape.batch * shape.channels;
    // A frame serves the planes of a task.
    let of_task = planes.div_ceil(4 * rayon::current_num_threads());
    output
        .par_chunks_mut(of_task * rows * columns)
        .enumerate()
        .for_each(|(task, output)| {
            // SAFETY: `level` is available.
            unsafe {
                dispatch(
                    level,
                    Planes {
                        shape,
                        input,
                        weight,
                        epilogue,
                        first: task * of_task,
                        output,
                    },
                );
            }
        });
}

/// Rows of outputs that are summed at once.
const ROWS: usize = 4;

/// Some planes, one after the other.
struct Planes<'a> {
    shape: &'a Depthwise,
    input: &'a [f32],
    weight: &'a [f32],
    epilogue: Epilogue<'a>,
    /// The first plane.
    first: usize,
    /// Whole planes.
    output: &'a mut [f32],
}

impl Kernel for Planes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: `dispatch` runs us where `I` exists.
        unsafe {
            match (self.shape.kernel, self.shape.stride) {
                (3, 1) => self.framed::<I, 3, 1>(),
                (3, 2) => self.framed::<I, 3, 2>(),
                (5, 1) => self.framed::<I, 5, 1>(),
                (5, 2) => self.framed::<I, 5, 2>(),
                _ => self.plain(),
            }
        }
    }
}

impl Planes<'_> {
    /// Input and output of each plane, its kernel and its bias.
    #[inline(always)]
    fn each(self, mut f: impl FnMut(&[f32], &[f32], f32, &mut [f32])) {
        let [rows, columns] = self.shape.output_size();
        let area = self.shape.size[0] * self.shape.size[1];
        let taps = self.shape.kernel * self.shape.kernel;
        let outputs = self.output.chunks_exact_mut(rows * columns);
        for (plane, output) in (self.first..).zip(outputs) {
            let channel = plane % self.shape.channels;
            let input = &self.input[plane * area..][..area];
            let kernel = &self.weight[channel * taps..][..taps];
            let bias = self.epilogue.bias.map_or(0.0, |bias| bias[channel]);
            f(input, kernel, bias, output);
        }
    }

    /// By plain loops.
    fn plain(self) {
        let (shape, epilogue) = (self.shape, self.epilogue);
        self.each(|input, kernel, bias, output| {
            output.fill(bias);
            shape.each_product(|tap, from, to| output[to] += kernel[tap] * input[from]);
            for value in output {
                *value = epilogue.activate(*value);
            }
        });
    }

    /// Kernels of side `K` with stride `S`.
    ///
    /// # Safety
    /// The processor has the instructions of `I`.
    #[inline(always)]
    unsafe fn framed<I: Isa, const K: usize, const S: usize>(self) {
        let shape = self.shape;
        let Activation { slope, ceiling } = self.epilogue.activation;
        let [rows, columns] = shape.output_size();
        let [[top, _], [left, _]] = shape.padding;
        let width = shape.size[1];
        // Rows of the frame are S phases of columns, each long enough for a whole vector at every tap, and for one behind the last
        // pixel; there are enough rows for a block.
        let phase = shape.padded(1).div_ceil(S).max(K) + I::LANES;
        let pitch = S * phase;
        let height = shape.padded(0).max((ROWS - 1) * S + K);
        let mut frame = Buffer::new(height * pitch);
        frame.fill(0.0);
        let mut tails = [[0.0f32; 16]; ROWS];
        self.each(|input, kernel, bias, output| {
            let framed = frame[top * pitch..].chunks_exact_mut(pitch);
            for (source, target) in input.chunks_exact(width).zip(framed) {
                if S == 1 {
                    target[left..left + width].copy_from_slice(source);
                } else {
                    // SAFETY: `I` exists. Both parts of the row end at most `LANES` before the end of their phase.
                    unsafe { separate::<I>(source, target, [left, phase]) }
                }
            }
            // SAFETY: `I` exists. A block reads `(ROWS - 1) · S + K` rows of the frame from `y · S` on: the last block that has all of its
            // rows ends with the last row of the padded plane, and where a plane has fewer rows there is one block, for which the
            // frame is high enough. A vector reads up to `(K - 1) / S` numbers behind its place in a phase, and the same holds for it.
            // Whole blocks of whole vectors are stored: `y` is at most `rows - ROWS` and `x` at most `columns - LANES`, and `output` is a
            // plane. A vector fits into a tail, as LANES is at most 16.
            unsafe {
                let mut weights = [[I::splat(0.0); K]; K];
                for (weights, kernel) in weights.iter_mut().zip(kernel.chunks_exact(K)) {
                    for (weight, value) in weights.iter_mut().zip(kernel) {
                        *weight = I::splat(*value);
                    }
                }
                let mut next_row = 0;
                while next_row < rows {
                    // The last block and the last vector reach back over what is done.
                    let y = next_row.min(rows.saturating_sub(ROWS));
                    let mut next_column = 0;
                    while next_column < columns {
                        let x = next_column.min(columns.saturating_sub(I::LANES));
                        let from = frame.as_ptr().add(y * S * pitch + x);
                        let sums = block::<I, K, S>(from, [pitch, phase], &weights, bias);
                        let mut values = sums;
                        for value in &mut values {
                            *value = I::leaky_relu(*value, I::splat(slope));
                            *value = I::min(I::splat(ceiling), *value);
                        }
                        // Without a branch between the stores, or the sums are no longer computed side by side.
                        if rows >= ROWS && columns >= I::LANES {
                            let target = output.as_mut_ptr().add(y * columns + x);
                            for (row, value) in values.into_iter().enumerate() {
                                I::store(target.add(row * columns), value);
                            }
                        } else {
                            for (tail, value) in tails.iter_mut().zip(values) {
                                I::store(tail.as_mut_ptr(), value);
                            }
                            for (row, tail) in (y..rows).zip(&tails) {
                                let target = &mut output[row * columns..][..columns];
                                let count = I::LANES.min(columns - x);
                                target[x..x + count].copy_from_slice(&tail[..count]);
                            }
                        }
                        next_column = x + I::LANES;
                    }
                    next_row = y + ROWS;
                }
            }
        });
    }
}

/// Copies a row to the columns from `left` on of a row in two phases, even and odd columns, with zeros behind it.
///
/// # Safety
/// The processor has the instructions of `I`; a phase has `LANES` more numbers than half of `left` and the row, rounded up, and `target` is
/// two phases.
#[inline(always)]
unsafe fn separate<I: Isa>(row: &[f32], target: &mut [f32], [left, phase]: [usize; 2]) {
    let [even, odd] = if left.is_multiple_of(2) {
        [left / 2, phase + left / 2]
    } else {
        [phase + left / 2, left.div_ceil(2)]
    };
    // SAFETY: loads are masked behind the row's end; stores begin at most half a row behind `even` and `odd`.
    unsafe {
        let mut column = 0;
        while column < row.len() {
            let rest = row.len() - column;
            let from = row.as_ptr().add(column);
            let first = I::load_within(from, 0, rest.min(I::LANES));
            let second = if rest > I::LANES {
                I::load_within(from.add(I::LANES), 0, (rest - I::LANES).min(I::LANES))
            } else {
                I::splat(0.0)
            };
            let [evens, odds] = I::uninterleave(first, second);
            I::store(target.as_mut_ptr().add(even + column / 2), evens);
            I::store(target.as_mut_ptr().add(odd + column / 2), odds);
            column += 2 * I::LANES;
        }
    }
}

/// A vector of pixels in ROWS rows of outputs.
///
/// # Safety
/// The processor has the instructions of `I`; the frame has `(ROWS - 1) · S + K` rows from `from` on, and in each phase of a row
/// `LANES + (K - 1) / S` numbers.
#[inline(always)]
unsafe fn block<I: Isa, const K: usize, const S: usize>(
    from: *const f32,
    [pitch, phase]: [usize; 2],
    weights: &[[I::V; K]; K],
    bias: f32,
) -> [I::V; ROWS] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [I::splat(bias); ROWS];
        let mut row = 0;
        while row < (ROWS - 1) * S + K {
            let mut j = 0;
            while j < K {
                let pixels = I::load(from.add(row * pitch + j % S * phase + j / S));
                let mut output = 0;
                while output < ROWS {
                    if row >= output * S && row < output * S + K {
                        let weight = weights[row - output * S][j];
                        sums[output] = I::mul_add(weight, pixels, sums[output]);
                    }
                    output += 1;
                }
                j += 1;
            }
            row += 1;
        }
        sums
    }
}

/// Computes the gradient with respect to the input, overwriting `input_gradient`, by plain loops. `output_gradient` has the shape of the
/// output.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn depthwise_input_gradient(
    shape: &Depthwise,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    check_len("output gradient", output_gradient, shape.output_len());
    check_len("weight", weight, shape.weight_len());
    check_len("input gradient", input_gradient, shape.input_len());
    let [rows, columns] = shape.output_size();
    let taps = shape.kernel * shape.kernel;
    input_gradient
        .par_chunks_exact_mut(shape.size[0] * shape.size[1])
        .zip(output_gradient.par_chunks_exact(rows * columns))
        .enumerate()
        .for_each(|(plane, (target, gradient))| {
            let kernel = &weight[plane % shape.channels * taps..][..taps];
            target.fill(0.0);
            shape.each_product(|tap, input, output| {
                target[input] += kernel[tap] * gradient[output];
            });
        });
}

/// Computes the gradient with respect to the weight, summed over the batch in 64 bits, overwriting `weight_gradient`, by plain loops.
///
/// # Panics
/// When the length of a slice is not the one that the shape demands.
pub fn depthwise_weight_gradient(
    shape: &Depthwise,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    check_len("input", input, shape.input_len());
    check_len("output gradient", output_gradient, shape.output_len());
    check_len("weight gradient", weight_gradient, shape.weight_len());
    let [rows, columns] = shape.output_size();
    let area = shape.size[0] * shape.size[1];
    weight_gradient
        .par_chunks_exact_mut(shape.kernel * shape.kernel)
        .enumerate()
        .for_each(|(channel, target)| {
            let mut sums = vec![0.0f64; target.len()];
            let planes = input
                .chunks_exact(area)
                .zip(output_gradient.chunks_exact(rows * columns));
            for (input, gradient) in planes.skip(channel).step_by(shape.channels) {
                shape.each_product(|tap, from, to| {
                    sums[tap] += f64::from(input[from]) * f64::from(gradient[to]);
                });
            }
            for (target, sum) in target.iter_mut().zip(sums) {
                *target = sum as f32;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set of this processor against the plain loops.
    #[test]
    fn every_instruction_set_and_kernel() {
        let values = |len: usize| -> Vec<f32> {
            (0..len)
                .map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0)
                .collect()
        };
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            // Less than a block and a vector, odd, and several of both.
            for size in [[1, 2], [9, 13], [22, 37]] {
                let padding = [[1, kernel / 2], [kernel / 2, 2]];
                let padding = if size[0] < kernel {
                    [[kernel; 2]; 2]
                } else {
                    padding
                };
                let shape = Depthwise::new([1, 3, size[0], size[1]], kernel, stride, padding);
                let shape = shape.unwrap();
                let [input, weight] = [shape.input_len(), shape.weight_len()].map(values);
                let bias = values(3);
                let epilogue = Epilogue {
                    bias: Some(&bias),
                    activation: Activation {
                        slope: 0.25,
                        ceiling: 0.75,
                    },
                };
                let mut expected = vec![f32::NAN; shape.output_len()];
                let planes = Planes {
                    shape: &shape,
                    input: &input,
                    weight: &weight,
                    epilogue,
                    first: 0,
                    output: &mut expected,
                };
                planes.plain();
                for level in Level::available() {
                    let mut actual = vec![f32::NAN; expected.len()];
                    forward(level, &shape, &input, &weight, epilogue, &mut actual);
                    for (actual, expected) in actual.iter().zip(&expected) {
                        assert!(
                            (actual - expected).abs() < 1e-5,
                            "{level:?}, {shape:?}: {actual} instead of {expected}"
                        );
                    }
                }
            }
        }
    }
}
