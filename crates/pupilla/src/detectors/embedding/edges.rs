//! Weights of the positions near the edges of an image.
//!
//! A feature near an edge sees pixels that the border has made up. Such features vary more than others, so that good images get their
//! highest scores there. Weights bring the scores near the edges down to the level of the other positions. An image that is alike
//! everywhere keeps its scores: no weight is above 1.

use serde::{Deserialize, Serialize};

use crate::features::grid::Grid;
use crate::statistics::Moments;

/// Positions nearer to an edge than this have weights.
const WIDTH: usize = 2;

/// Kinds of positions: the distances to the nearest horizontal and vertical edge, the smaller distance first, each at most [`WIDTH`].
const KINDS: usize = (WIDTH + 1) * (WIDTH + 2) / 2;

/// The lowest weight.
const LOWEST: f64 = 0.5;

/// What scores are multiplied by, by the distance to the edges: at 0 and 0, 0 and 1, 0 and 2, 1 and 1, 1 and 2 positions, and 1 for
/// all other positions. Each is above 0 and at most 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeWeights([f32; KINDS]);

/// Scores of good images, by the kind of the position.
#[derive(Clone, Debug, Default)]
pub(super) struct EdgeScores([Moments; KINDS]);

impl EdgeScores {
    /// Adds the scores of an image, `[rows, columns]` of its grid.
    pub fn add(&mut self, grid: Grid, scores: &[f32]) {
        for (position, &score) in scores.iter().enumerate() {
            let moments = &mut self.0[kind(grid, position)];
            *moments = moments.merge(Moments::of(&[score]));
        }
    }

    /// The weights: mean plus standard deviation of the inner positions, divided by that of each kind.
    pub fn weights(&self) -> EdgeWeights {
        let levels = self.0.map(|moments| moments.mean() + moments.deviation());
        let inner = levels[KINDS - 1];
        EdgeWeights(levels.map(|level| {
            let comparable = inner > 0.0 && level > inner;
            let weight = if comparable { inner / level } else { 1.0 };
            weight.max(LOWEST) as f32
        }))
    }
}

impl EdgeWeights {
    /// Multiplies the scores of an image, `[rows, columns]` of its grid.
    pub(super) fn apply(&self, grid: Grid, scores: &mut [f32]) {
        for (position, score) in scores.iter_mut().enumerate() {
            *score *= self.0[kind(grid, position)];
        }
    }

    /// Whether every weight is in its range; a file may claim others.
    pub(super) fn are_valid(&self) -> bool {
        self.0.iter().all(|weight| *weight > 0.0 && *weight <= 1.0)
    }
}

/// Which kind a position is.
fn kind(grid: Grid, position: usize) -> usize {
    let distance = |at: usize, count: usize| at.min(count - 1 - at).min(WIDTH);
    let row = distance(position / grid.columns, grid.rows);
    let column = distance(position % grid.columns, grid.columns);
    let (nearer, farther) = (row.min(column), row.max(column));
    // Rows of a triangle: WIDTH + 1 kinds at distance 0, one kind less at each further distance.
    nearer * (2 * WIDTH + 3 - nearer) / 2 + farther - nearer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(rows: usize, columns: usize) -> Grid {
        Grid {
            stride: 8,
            rows,
            columns,
        }
    }

    #[test]
    fn positions_are_sorted_by_their_distances_to_the_edges() {
        let grid = grid(5, 7);
        let kinds: Vec<usize> = (0..35).map(|position| kind(grid, position)).collect();
        assert_eq!(kinds[..7], [0, 1, 2, 2, 2, 1, 0]);
        assert_eq!(kinds[7..14], [1, 3, 4, 4, 4, 3, 1]);
        assert_eq!(kinds[14..21], [2, 4, 5, 5, 5, 4, 2]);
        assert_eq!(kinds[28..], kinds[..7]);
    }

    #[test]
    fn high_scores_near_the_edges_come_down_to_the_level_of_the_others() {
        let grid = grid(9, 9);
        let scores: Vec<f32> = (0..81)
            .map(|at| [8.0, 3.0, 4.0, 1.0, 2.0, 2.0][kind(grid, at)])
            .collect();
        let mut learned = EdgeScores::default();
        learned.add(grid, &scores);
        let weights = learned.weights();
        assert_eq!(weights.0, [0.5, 2.0 / 3.0, 0.5, 1.0, 1.0, 1.0]);
        assert!(weights.are_valid());
        let mut weighted = scores.clone();
        weights.apply(grid, &mut weighted);
        let expected = |at| [4.0, 2.0, 2.0, 1.0, 2.0, 2.0][kind(grid, at)];
        assert!((0..81).all(|at| weighted[at] == expected(at)));
    }

    #[test]
    fn without_inner_positions_or_with_negative_scores_nothing_changes() {
        for (grid, score) in [(grid(2, 2), 1.0), (grid(9, 9), -1.0), (grid(1, 1), 0.0)] {
            let mut learned = EdgeScores::default();
            learned.add(grid, &vec![score; grid.rows * grid.columns]);
            assert_eq!(learned.weights().0, [1.0; KINDS]);
        }
    }
}
