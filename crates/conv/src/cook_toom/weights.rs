//! The weight's transform, G w Gᵀ, straight into the panels that the matrix products read.

use rayon::prelude::*;

use super::{
    points::MAX,
    transform::{Filter, Rows, to_points},
};
use crate::{
    disjoint::Disjoint,
    simd::{Isa, Kernel, Level, dispatch},
    workspace::Buffer,
};

/// How the weight `[out_channels, in_channels, R, R]` is used.
#[derive(Clone, Copy)]
pub(crate) struct Weight<'a> {
    pub(crate) values: &'a [f32],
    /// Channels that the product sums over, and that it has as a result.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// For the input gradient: the channels' roles are swapped and the kernel is turned by 180°.
    pub(crate) reversed: bool,
}

/// Transformed weights in the order of their use: `[chunks, points, panels of the chunk, from, COLUMNS]`, with `COLUMNS`
/// result channels side by side in a panel.
pub(crate) struct Packed {
    pub(crate) values: Buffer,
    pub(crate) panels: usize,
    pub(crate) panels_per_chunk: usize,
    pub(crate) panel_stride: usize,
}

pub(crate) fn pack<const R: usize>(
    level: Level,
    weight: Weight<'_>,
    panels_per_chunk: usize,
) -> Packed {
    let columns = level.columns();
    let panels = weight.to.div_ceil(columns);
    let panel_stride = (weight.from * columns).next_multiple_of(level.lanes());
    let points = (R + 3) * (R + 3);
    let mut values = Buffer::new(points * panels * panel_stride);
    let target = Disjoint::new(&mut values);
    (0..panels).into_par_iter().for_each(|panel| {
        // SAFETY: `level` is available (it comes from `Level`), each panel belongs to one task.
        unsafe {
            dispatch(
                level,
                PackPanel::<R> {
                    weight,
                    panel,
                    panels,
                    panels_per_chunk,
                    panel_stride,
                    target,
                },
            );
        }
    });
    Packed {
        values,
        panels,
        panels_per_chunk,
        panel_stride,
    }
}

struct PackPanel<'a, const R: usize> {
    weight: Weight<'a>,
    panel: usize,
    panels: usize,
    panels_per_chunk: usize,
    panel_stride: usize,
    target: Disjoint<'a>,
}

impl<const R: usize> Kernel for PackPanel<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = R + 3;
        let Weight {
            values,
            from,
            to,
            reversed,
        } = self.weight;
        let in_chunk = self.panel % self.panels_per_chunk;
        let first_panel = self.panel - in_chunk;
        let panels = self.panels_per_chunk.min(self.panels - first_panel);
        let mut taps = [0.0f32; MAX * MAX * 16];
        let mut start = 0;
        while start < self.panel_stride {
            // Gather the kernels of a vector of channel pairs: lane → (from, to).
            for lane in 0..I::LANES {
                let source = (start + lane) / I::COLUMNS;
                let result = self.panel * I::COLUMNS + (start + lane) % I::COLUMNS;
                if source < from && result < to {
                    let pair = if reversed {
                        source * to + result
                    } else {
                        result * from + source
                    };
                    let kernel = &values[pair * R * R..][..R * R];
                    for (tap, value) in kernel.iter().enumerate() {
                        let tap = if reversed { R * R - 1 - tap } else { tap };
                        taps[tap * I::LANES + lane] = *value;
                    }
                } else {
                    for tap in 0..R * R {
                        taps[tap * I::LANES + lane] = 0.0;
                    }
                }
            }
            // SAFETY: `dispatch` runs us where `I` exists; loads are from `taps`, stores into parts of this panel.
            unsafe {
                let mut vertical = Rows::<I, MAX>::new();
                let mut column = 0;
                while column < R {
                    let mut x = [I::splat(0.0); MAX];
                    let mut row = 0;
                    while row < R {
                        x[row] = I::load(taps.as_ptr().add((row * R + column) * I::LANES));
                        row += 1;
                    }
                    let y = to_points::<I, Filter<R>>(&x);
                    vertical.set_column(column, &y);
                    column += 1;
                }
                let mut row = 0;
                while row < n {
                    let y = to_points::<I, Filter<R>>(&vertical.row(row, R));
                    let mut column = 0;
                    while column < n {
                        let point = row * n + column;
                        let panel = first_panel * n * n + point * panels + in_chunk;
                        let place = panel * self.panel_stride + start;
                        I::store(self.target.part(place, I::LANES).as_mut_ptr(), y[column]);
                        column += 1;
                    }
                    row += 1;
                }
            }
            start += I::LANES;
        }
    }
}
