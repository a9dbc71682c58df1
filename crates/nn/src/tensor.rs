//! Numbers with a shape.

/// `f32` numbers, row-major, `[batch, channels, height, width]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    values: Vec<f32>,
    shape: [usize; 4],
}

impl Tensor {
    /// Numbers and their shape.
    ///
    /// # Panics
    /// If there are not as many numbers as the shape demands.
    pub fn new(values: Vec<f32>, shape: [usize; 4]) -> Self {
        assert_eq!(
            values.len(),
            shape.iter().product::<usize>(),
            "{shape:?} is the shape of another number of values"
        );
        Self { values, shape }
    }

    /// Zeros.
    pub fn zeros(shape: [usize; 4]) -> Self {
        Self::new(pupilla_conv::zeros(shape.iter().product()), shape)
    }

    /// `[batch, channels, height, width]`
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The numbers, row-major.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The numbers, row-major.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Height times width: the length of a plane.
    pub fn area(&self) -> usize {
        self.shape[2] * self.shape[3]
    }

    /// The same number of rows and columns as asked for: the others at the bottom and at the right are cut off, and rows and columns
    /// that are missing there become zeros.
    #[must_use]
    pub fn resized(self, [rows, columns]: [usize; 2]) -> Self {
        let [batch, channels, height, width] = self.shape;
        if [rows, columns] == [height, width] {
            return self;
        }
        self.framed([0, 0], [batch, channels, rows, columns])
    }

    /// The same planes with `padding` rows and columns of zeros on every side.
    #[must_use]
    pub fn padded(&self, padding: usize) -> Self {
        self.padded_by([[padding; 2]; 2])
    }

    /// The same planes with `top`, `bottom`, `left` and `right` rows and columns of zeros around them.
    #[must_use]
    pub fn padded_by(&self, [[top, bottom], [left, right]]: [[usize; 2]; 2]) -> Self {
        let [batch, channels, height, width] = self.shape;
        let size = [top + height + bottom, left + width + right];
        self.framed([top, left], [batch, channels, size[0], size[1]])
    }

    /// The same planes without `padding` rows and columns on every side.
    ///
    /// # Panics
    /// If the planes are smaller.
    #[must_use]
    pub fn cropped(&self, padding: usize) -> Self {
        self.cropped_by([[padding; 2]; 2])
    }

    /// The inverse of [`padded_by`](Self::padded_by).
    ///
    /// # Panics
    /// If the planes are smaller.
    #[must_use]
    pub fn cropped_by(&self, [[top, bottom], [left, right]]: [[usize; 2]; 2]) -> Self {
        let [batch, channels, height, width] = self.shape;
        let [rows, columns] = [height - top - bottom, width - left - right];
        let mut cropped = Self::zeros([batch, channels, rows, columns]);
        let planes = self.values.chunks_exact(height * width);
        for (target, plane) in cropped
            .values
            .chunks_exact_mut((rows * columns).max(1))
            .zip(planes)
        {
            for (row, target) in target.chunks_exact_mut(columns).enumerate() {
                let start = (row + top) * width + left;
                target.copy_from_slice(&plane[start..start + columns]);
            }
        }
        cropped
    }

    /// Zeros of a shape, with as much of the planes as fits from row and column `start` on.
    fn framed(&self, [top, left]: [usize; 2], shape: [usize; 4]) -> Self {
        let [_, _, height, width] = self.shape;
        let [.., rows, columns] = shape;
        let mut framed = Self::zeros(shape);
        let fitting = width.min(columns - left);
        let planes = self.values.chunks_exact((height * width).max(1));
        for (target, plane) in framed
            .values
            .chunks_exact_mut((rows * columns).max(1))
            .zip(planes)
        {
            let lines = target.chunks_exact_mut(columns).skip(top);
            for (target, line) in lines.zip(plane.chunks_exact(width)) {
                target[left..left + fitting].copy_from_slice(&line[..fitting]);
            }
        }
        framed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_get_other_sizes() {
        let tensor = Tensor::new((1..=12).map(|at| at as f32).collect(), [1, 2, 2, 3]);
        let cut = tensor.clone().resized([1, 2]);
        assert_eq!(cut.values(), [1.0, 2.0, 7.0, 8.0]);
        let more = cut.clone().resized([2, 3]);
        assert_eq!(
            more.values(),
            [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0, 0.0, 0.0]
        );
        let padded = tensor.padded(1);
        assert_eq!(padded.shape(), [1, 2, 4, 5]);
        assert_eq!(padded.values()[6..9], [1.0, 2.0, 3.0]);
        assert_eq!(padded.cropped(1), tensor);
        let padded = tensor.padded_by([[0, 1], [2, 0]]);
        assert_eq!(padded.shape(), [1, 2, 3, 5]);
        assert_eq!(padded.values()[5..10], [0.0, 0.0, 4.0, 5.0, 6.0]);
        assert_eq!(padded.cropped_by([[0, 1], [2, 0]]), tensor);
    }
}
