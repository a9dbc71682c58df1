//! The statistics of scores, near the edges of an image apart.
//!
//! A feature near an edge depends on pixels that the border has made up. On good images, such features vary more than others, and the
//! highest scores lie there. So a score near an edge is normalised by the statistics at its distance, if they are larger than those of
//! all positions.

use super::covariance::NOISE;
use crate::features::grid::Grid;
use crate::statistics::Moments;

/// Positions nearer to an edge than this have statistics of their own.
const WIDTH: usize = 2;

/// Kinds of positions: the distances to the nearest horizontal and vertical edge, the smaller distance first, each at most [`WIDTH`].
pub(super) const KINDS: usize = (WIDTH + 1) * (WIDTH + 2) / 2;

/// Scores of good images, by the kind of the position.
#[derive(Clone, Debug, Default)]
pub(super) struct GoodScores([Moments; KINDS]);

impl GoodScores {
    /// Adds the scores of an image, `[rows, columns]` of its grid.
    pub fn add(&mut self, grid: Grid, scores: &[f32]) {
        let mut of_kind: [Vec<f32>; KINDS] = Default::default();
        for (position, &score) in scores.iter().enumerate() {
            of_kind[kind(grid, position)].push(score);
        }
        for (moments, scores) in self.0.iter_mut().zip(of_kind) {
            *moments = moments.merge(Moments::of(&scores));
        }
    }

    /// The mean and the deviation for each kind of position, never less than those of all positions.
    pub fn normalisation(&self) -> Normalisation {
        let all = self
            .0
            .iter()
            .copied()
            .fold(Moments::default(), Moments::merge);
        let statistics = |moments: &Moments| {
            let mean = moments.mean().max(all.mean());
            let deviation = moments.deviation().max(all.deviation());
            let deviation = deviation.max(NOISE * mean);
            // Good images that are all alike have no deviation. Then scores keep their unit.
            [mean, if deviation > 0.0 { deviation } else { 1.0 }]
        };
        let statistics: Vec<_> = self.0.iter().flat_map(statistics).collect();
        Normalisation(statistics.into_iter().map(|value| value as f32).collect())
    }
}

/// `[kinds, 2]`: mean and deviation of the scores at each kind of position.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation(Vec<f32>);

impl Normalisation {
    /// From the numbers of a file.
    pub fn new(values: Vec<f32>) -> Self {
        Self(values)
    }

    /// All numbers.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Whether every deviation is positive, which a file may deny.
    pub fn is_valid(&self) -> bool {
        self.0.chunks_exact(2).all(|pair| pair[1] > 0.0)
    }

    /// Deviations from the mean of good images, of each score of an image, `[rows, columns]` of its grid.
    pub fn apply(&self, grid: Grid, scores: &mut [f32]) {
        for (position, score) in scores.iter_mut().enumerate() {
            let at = 2 * kind(grid, position);
            *score = (*score - self.0[at]) / self.0[at + 1];
        }
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
    fn only_higher_statistics_near_the_edges_count() {
        // Two images of 9×9: corners 8 and 10, other positions on the edge 1, the rest 2 and 4.
        let grid = grid(9, 9);
        let image = |corner: f32, rest: f32| -> Vec<f32> {
            let score = |at| match kind(grid, at) {
                0 => corner,
                1 | 2 => 1.0,
                _ => rest,
            };
            (0..81).map(score).collect()
        };
        let (first, second) = (image(8.0, 2.0), image(10.0, 4.0));
        let mut good = GoodScores::default();
        good.add(grid, &first);
        good.add(grid, &second);
        let everything = Moments::of(&[first, second].concat());
        let (mean, deviation) = (everything.mean() as f32, everything.deviation() as f32);
        let found = good.normalisation();
        assert_eq!(found.values().len(), 2 * KINDS);
        // The corners deviate by 1, less than all scores together.
        assert_eq!(found.values()[..2], [9.0, deviation]);
        // The other positions on the edge score less than all positions, the rest scores more.
        for kind in [1, 2] {
            assert_eq!(found.values()[2 * kind..][..2], [mean, deviation]);
        }
        for kind in 3..KINDS {
            assert_eq!(found.values()[2 * kind..][..2], [3.0, deviation]);
        }
        let mut scores = image(9.0, 3.0);
        found.apply(grid, &mut scores);
        assert_eq!((scores[0], scores[40]), (0.0, 0.0));
        assert_eq!(scores[4], (1.0 - mean) / deviation);
    }

    #[test]
    fn scores_without_deviation_stay_finite() {
        for (score, deviation) in [(0.0f32, 1.0f32), (3.0, 3e-5)] {
            let mut good = GoodScores::default();
            good.add(grid(1, 2), &[score; 2]);
            let found = good.normalisation();
            let mut scores = [score, score + 2.0];
            found.apply(grid(1, 2), &mut scores);
            assert_eq!(scores[0], 0.0);
            assert!((scores[1] * deviation - 2.0).abs() < 1e-4, "{scores:?}");
        }
    }
}
