//! The outer outline of a region, along the edges of its pixels.

/// The corners `[x, y]` of the outline of the 8-connected region that holds `first`, its first pixel
/// row by row, clockwise from that pixel's upper left corner.
///
/// The walk keeps the region on its right; where two of its pixels touch at a corner it goes on to the
/// other one, so that one polygon goes around all of them.
pub(super) fn outline(first: [usize; 2], is_in: impl Fn([usize; 2]) -> bool) -> Vec<[u32; 2]> {
    /// Right, down, left, up.
    const STEPS: [[isize; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];
    // The pixel ahead of a corner on the left and on the right of each direction, from the corner.
    const LEFT: [[isize; 2]; 4] = [[0, -1], [0, 0], [-1, 0], [-1, -1]];
    const RIGHT: [[isize; 2]; 4] = [[0, 0], [-1, 0], [-1, -1], [0, -1]];
    let start = first.map(|at| at as isize);
    let pixel = |corner: [isize; 2], by: [isize; 2]| {
        let place = [corner[0] + by[0], corner[1] + by[1]];
        place.iter().all(|&at| at >= 0) && is_in(place.map(|at| at as usize))
    };
    let mut corners = vec![first.map(|at| at as u32)];
    let mut at = start;
    let mut direction = 0;
    loop {
        at = [at[0] + STEPS[direction][0], at[1] + STEPS[direction][1]];
        let turned = if pixel(at, LEFT[direction]) {
            (direction + 3) % 4
        } else if pixel(at, RIGHT[direction]) {
            direction
        } else {
            (direction + 1) % 4
        };
        // No pixel lies above or left of the first: only the end of the walk comes here upwards.
        if at == start && turned == 0 {
            return corners;
        }
        if turned != direction {
            corners.push(at.map(|at| at as u32));
        }
        direction = turned;
    }
}
