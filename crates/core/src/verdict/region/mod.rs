//! Where a map lies above a threshold: connected regions, each with its place, size, outline and scores.

mod contour;
mod drawing;

use serde::Serialize;

pub use drawing::draw_regions;

use crate::data::mask::Mask;
use crate::map::anomaly_map::AnomalyMap;

/// A connected region of pixels that score above a threshold. Pixels that touch at a corner are
/// connected (8-connectivity), as in ground-truth masks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Region {
    /// The smallest upright rectangle around it.
    #[serde(rename = "box")]
    pub bounds: Bounds,
    /// Number of its pixels.
    pub area: usize,
    /// Mean of its pixels' centres, `[x, y]`; the centre of the image's first pixel is `[0.5, 0.5]`.
    pub centroid: [f64; 2],
    /// Its highest score.
    pub peak: f32,
    /// The first pixel, row by row, that has it: `[column, row]`.
    pub peak_at: [usize; 2],
    /// The mean of its scores.
    pub mean: f64,
    /// Its outer outline: corners `[x, y]` of a closed polygon along the edges of its pixels, clockwise,
    /// `[0, 0]` being the upper left corner of the image. Holes are not cut out.
    pub contour: Vec<[u32; 2]>,
}

/// An upright rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Its first column.
    pub left: usize,
    /// Its first row.
    pub top: usize,
    /// Number of columns, at least 1.
    pub width: usize,
    /// Number of rows, at least 1.
    pub height: usize,
}

/// Regions of a map, and which pixel belongs to which.
#[derive(Clone, Debug, PartialEq)]
pub struct Regions {
    /// The highest peak first; equal ones in the order of their first pixels, row by row.
    pub regions: Vec<Region>,
    /// For every pixel, `[height, width]`, the number of its region: 0 for none, else from 1 in the
    /// order of [`regions`](Self::regions).
    pub labels: Vec<u32>,
}

impl Regions {
    /// The regions of at least `min_area` pixels that score **above** `threshold`; where there is a
    /// mask, of the pixels that it marks alone.
    ///
    /// # Panics
    /// If the mask has another size than the map: a programming error.
    pub fn find(
        map: &AnomalyMap,
        threshold: f32,
        inspected: Option<&Mask>,
        min_area: usize,
    ) -> Self {
        let (width, height) = (map.width(), map.height());
        let scores = map.scores();
        let mut above: Vec<bool> = scores.iter().map(|&score| score > threshold).collect();
        if let Some(mask) = inspected {
            assert_eq!(
                (mask.width(), mask.height()),
                (width, height),
                "the map's size"
            );
            for (above, inside) in above.iter_mut().zip(mask.defect()) {
                *above &= inside;
            }
        }
        let found = Mask::new(width, height, above).regions();
        let mut gathered: Vec<Gathered> = found.areas.iter().map(|_| Gathered::new()).collect();
        let labelled = found.labels.iter().zip(scores).enumerate();
        for (at, (&label, &score)) in labelled.filter(|(_, (label, _))| **label > 0) {
            gathered[label as usize - 1].add(at % width, at / width, score);
        }

        let is_in = |label: usize, [x, y]: [usize; 2]| {
            x < width && y < height && found.labels[y * width + x] as usize == label + 1
        };
        let mut order: Vec<usize> = (0..gathered.len())
            .filter(|&label| gathered[label].area >= min_area)
            .collect();
        // Labels follow the first pixels, and the sort is stable.
        order.sort_by(|&a, &b| gathered[b].peak.total_cmp(&gathered[a].peak));
        let mut numbers = vec![0; gathered.len() + 1];
        let regions = order.iter().enumerate().map(|(number, &label)| {
            numbers[label + 1] = number as u32 + 1;
            let region = &gathered[label];
            region.finish(contour::outline(region.first, |pixel| is_in(label, pixel)))
        });
        let regions = regions.collect();
        let mut labels = found.labels;
        for label in &mut labels {
            *label = numbers[*label as usize];
        }
        Self { regions, labels }
    }

    /// The mean of other numbers of the same pixels, `[height, width]`, over each region.
    ///
    /// # Panics
    /// If there are not as many as pixels: a programming error.
    pub fn means(&self, values: &[f32]) -> Vec<f64> {
        assert_eq!(values.len(), self.labels.len(), "[height, width]");
        let mut sums = vec![0.0; self.regions.len()];
        for (&label, &value) in self.labels.iter().zip(values) {
            if label > 0 {
                sums[label as usize - 1] += f64::from(value);
            }
        }
        let regions = sums.iter().zip(&self.regions);
        regions
            .map(|(sum, region)| sum / region.area as f64)
            .collect()
    }
}

/// A region while its pixels come, row by row.
struct Gathered {
    first: [usize; 2],
    left: usize,
    right: usize,
    bottom: usize,
    area: usize,
    columns: f64,
    rows: f64,
    peak: f32,
    peak_at: [usize; 2],
    sum: f64,
}

impl Gathered {
    fn new() -> Self {
        Self {
            first: [0, 0],
            left: usize::MAX,
            right: 0,
            bottom: 0,
            area: 0,
            columns: 0.0,
            rows: 0.0,
            peak: f32::NEG_INFINITY,
            peak_at: [0, 0],
            sum: 0.0,
        }
    }

    fn add(&mut self, column: usize, row: usize, score: f32) {
        if self.area == 0 {
            self.first = [column, row];
        }
        self.left = self.left.min(column);
        self.right = self.right.max(column);
        self.bottom = row;
        self.area += 1;
        self.columns += column as f64;
        self.rows += row as f64;
        if score > self.peak {
            self.peak = score;
            self.peak_at = [column, row];
        }
        self.sum += f64::from(score);
    }

    fn finish(&self, contour: Vec<[u32; 2]>) -> Region {
        let count = self.area as f64;
        Region {
            bounds: Bounds {
                left: self.left,
                top: self.first[1],
                width: self.right + 1 - self.left,
                height: self.bottom + 1 - self.first[1],
            },
            area: self.area,
            centroid: [self.columns / count + 0.5, self.rows / count + 0.5],
            peak: self.peak,
            peak_at: self.peak_at,
            mean: self.sum / count,
            contour,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(rows: &[&str]) -> AnomalyMap {
        let scores = rows
            .iter()
            .flat_map(|row| row.bytes().map(|b| f32::from(b - b'0')));
        AnomalyMap::new(rows[0].len(), rows.len(), scores.collect())
    }

    #[test]
    fn a_region_has_a_place_a_size_and_scores() {
        let map = map(&[
            "00000", //
            "05600", //
            "00070", //
            "80000",
        ]);
        let found = Regions::find(&map, 4.0, None, 1);
        assert_eq!(found.regions.len(), 2);
        let [small, large] = &found.regions[..] else {
            panic!("two regions");
        };
        assert_eq!((small.peak, small.area, small.peak_at), (8.0, 1, [0, 3]));
        assert_eq!(small.centroid, [0.5, 3.5]);
        let bounds = Bounds {
            left: 1,
            top: 1,
            width: 3,
            height: 2,
        };
        assert_eq!((large.bounds, large.area, large.mean), (bounds, 3, 6.0));
        assert_eq!(
            large.contour,
            [
                [1, 1],
                [3, 1],
                [3, 2],
                [4, 2],
                [4, 3],
                [3, 3],
                [3, 2],
                [1, 2]
            ]
        );
        // Above means above, small ones are left out, and a mask says where to look.
        assert_eq!(Regions::find(&map, 7.0, None, 1).regions.len(), 1);
        assert_eq!(Regions::find(&map, 4.0, None, 2).regions[0], *large);
        let lower = Mask::new(5, 4, (0..20).map(|at| at >= 10).collect());
        let below = Regions::find(&map, 4.0, Some(&lower), 1);
        assert_eq!(below.regions[1].area, 1);
        assert_eq!(found.means(map.scores()), [8.0, 6.0]);
    }

    #[test]
    fn holes_do_not_cut_an_outline_and_scores_below_everything_make_one_region() {
        let ring = map(&["999", "909", "999"]);
        let found = Regions::find(&ring, 1.0, None, 1);
        assert_eq!(found.regions[0].contour, [[0, 0], [3, 0], [3, 3], [0, 3]]);
        let all = Regions::find(&ring, -1.0, None, 1);
        assert_eq!(all.regions[0].area, 9);
        assert!(Regions::find(&ring, 9.0, None, 1).regions.is_empty());
    }

    /// Whether a pixel's centre lies within a polygon: the number of edges to its left.
    fn is_within(contour: &[[u32; 2]], [x, y]: [usize; 2]) -> bool {
        let next = contour.iter().cycle().skip(1);
        let crossed = contour.iter().zip(next).filter(|(from, to)| {
            let (top, bottom) = (from[1].min(to[1]), from[1].max(to[1]));
            from[0] == to[0]
                && from[0] as usize <= x
                && (top as usize..bottom as usize).contains(&y)
        });
        crossed.count() % 2 == 1
    }

    proptest! {
        /// The slow twin: pixels are one region if a chain of neighbours joins them, its outline holds
        /// them and what they enclose, and nothing else.
        #[test]
        fn regions_are_what_the_definition_says(
            width in 1usize..9,
            scores in proptest::collection::vec(0u8..6, 1..72),
            min_area in 1usize..4,
        ) {
            let height = scores.len() / width;
            prop_assume!(height > 0);
            let scores: Vec<f32> = scores[..width * height].iter().map(|&s| f32::from(s)).collect();
            let map = AnomalyMap::new(width, height, scores.clone());
            let found = Regions::find(&map, 2.0, None, min_area);
            let near = |a: usize, b: usize| {
                (a % width).abs_diff(b % width) <= 1 && (a / width).abs_diff(b / width) <= 1
            };
            // Each pixel takes the smallest name among its neighbours until nothing changes.
            let mut names: Vec<usize> = (0..scores.len()).collect();
            for _ in 0..scores.len() {
                for a in 0..scores.len() {
                    for b in 0..scores.len() {
                        if scores[a] > 2.0 && scores[b] > 2.0 && near(a, b) {
                            names[a] = names[a].min(names[b]);
                        }
                    }
                }
            }
            let pixels_of = |name: usize| -> Vec<usize> {
                (0..scores.len()).filter(|&at| scores[at] > 2.0 && names[at] == name).collect()
            };
            let expected: Vec<Vec<usize>> = (0..scores.len()).map(pixels_of)
                .filter(|pixels| pixels.len() >= min_area.max(1)).collect();
            prop_assert_eq!(found.regions.len(), expected.len());
            prop_assert!(found.regions.is_sorted_by(|a, b| a.peak >= b.peak));
            for (index, region) in found.regions.iter().enumerate() {
                let pixels: Vec<usize> = (0..scores.len())
                    .filter(|&at| found.labels[at] as usize == index + 1).collect();
                prop_assert!(expected.contains(&pixels));
                prop_assert_eq!(region.area, pixels.len());
                let sum: f32 = pixels.iter().map(|&at| scores[at]).sum();
                prop_assert!((region.mean - f64::from(sum) / pixels.len() as f64).abs() < 1e-9);
                let columns: Vec<usize> = pixels.iter().map(|at| at % width).collect();
                let rows: Vec<usize> = pixels.iter().map(|at| at / width).collect();
                let bounds = region.bounds;
                prop_assert_eq!(Some(&bounds.left), columns.iter().min());
                prop_assert_eq!(Some(bounds.left + bounds.width - 1), columns.iter().max().copied());
                prop_assert_eq!(Some(&bounds.top), rows.iter().min());
                prop_assert_eq!(Some(bounds.top + bounds.height - 1), rows.iter().max().copied());
                let peak = pixels.iter().map(|&at| scores[at]).fold(0.0, f32::max);
                prop_assert_eq!(region.peak, peak);
                prop_assert_eq!(scores[region.peak_at[1] * width + region.peak_at[0]], peak);

                // Outside: what reaches the border without the region, over sides (4-connected).
                let mut outside = vec![false; scores.len()];
                for _ in 0..scores.len() {
                    for at in 0..scores.len() {
                        let (x, y) = (at % width, at / width);
                        let border = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                        let joined = border
                            || outside[at - 1] || outside[at + 1]
                            || outside[at - width] || outside[at + width];
                        outside[at] |= !pixels.contains(&at) && joined;
                    }
                }
                for (at, &outside) in outside.iter().enumerate() {
                    prop_assert_eq!(is_within(&region.contour, [at % width, at / width]), !outside);
                }
            }
        }
    }
}
