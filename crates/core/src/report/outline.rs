//! Outlines as SVG paths of bounded length.

use crate::data::mask::Mask;
use crate::map::anomaly_map::AnomalyMap;
use crate::verdict::region::{Region, Regions};

/// The most outlines of a picture.
pub(super) const OUTLINES: usize = 100;

/// The longest paths of a picture, all together, in bytes.
const LONGEST: usize = 16 << 10;

/// The outlines of a mask's regions as one path in the image's pixels; of more than [`OUTLINES`] regions, the largest. Empty without a
/// defective pixel.
pub(super) fn of_mask(mask: &Mask) -> String {
    if mask.is_blank() {
        return String::new();
    }
    let marked = mask.defect().iter().map(|&defect| f32::from(defect));
    let map = AnomalyMap::new(mask.width(), mask.height(), marked.collect());
    let mut regions = Regions::find(&map, 0.5, None, 1).regions;
    regions.sort_by_key(|region| std::cmp::Reverse(region.area));
    regions.truncate(OUTLINES);
    paths(&regions).concat()
}

/// A path for each region, in the image's pixels. Corners are rounded to multiples of 2, 4, … pixels until the paths are short enough.
pub(super) fn paths(regions: &[Region]) -> Vec<String> {
    let largest = regions.iter().flat_map(|region| &region.contour).flatten();
    let largest = largest.copied().max().unwrap_or(0);
    let mut step = 1;
    loop {
        let paths = regions.iter().map(|region| path(&region.contour, step));
        let paths: Vec<String> = paths.collect();
        let length: usize = paths.iter().map(String::len).sum();
        if length <= LONGEST || step > largest {
            return paths;
        }
        step *= 2;
    }
}

/// A closed polygon. A polygon without extent becomes a square of `step`, so that no region disappears.
fn path(contour: &[[u32; 2]], step: u32) -> String {
    let mut corners = contour
        .iter()
        .map(|corner| corner.map(|at| i64::from(at / step * step)));
    let Some(mut at) = corners.next() else {
        return String::new();
    };
    let mut text = format!("M{} {}", at[0], at[1]);
    let start = text.len();
    for corner in corners {
        for (axis, command) in ["h", "v"].into_iter().enumerate() {
            let by = corner[axis] - at[axis];
            if by != 0 {
                text.push_str(&format!("{command}{by}"));
            }
        }
        at = corner;
    }
    if text.len() == start {
        text.push_str(&format!("h{step}v{step}h-{step}"));
    }
    text.push('z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rectangle_is_four_corners() {
        let inside = |at: usize| (3..5).contains(&(at % 10)) && (2..6).contains(&(at / 10));
        let mask = Mask::new(10, 8, (0..80).map(inside).collect());
        assert_eq!(of_mask(&mask), "M3 2h2v4h-2z");
        assert_eq!(of_mask(&Mask::good(4, 4)), "");
    }

    #[test]
    fn speckles_and_chequers_stay_short_and_visible() {
        let side = 1000;
        let chequers = (0..side * side).map(|at| (at % side + at / side) % 2 == 0);
        let chequers = of_mask(&Mask::new(side, side, chequers.collect()));
        let speckles = (0..side * side).map(|at| at % 7 == 0 && (at / side) % 3 == 0);
        let speckles = of_mask(&Mask::new(side, side, speckles.collect()));
        assert_eq!(speckles.matches('z').count(), OUTLINES);
        for path in [chequers, speckles] {
            assert!(!path.is_empty() && path.len() <= LONGEST, "{}", path.len());
        }
    }
}
