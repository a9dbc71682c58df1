//! Gaussian smoothing of a map.

use pupilla_core::map::anomaly_map::AnomalyMap;

/// Pixels beyond so many deviations do not count.
const TRUNCATION: f64 = 4.0;

/// A map blurred by a Gaussian of this deviation in pixels, cut off at four of it; beyond the edges the map is mirrored with its edge
/// pixels repeated, as SciPy's `gaussian_filter` does it. 0 leaves the map as it is.
pub fn smooth(map: AnomalyMap, deviation: f64) -> AnomalyMap {
    if deviation <= 0.0 {
        return map;
    }
    let kernel = kernel(deviation);
    let (width, height) = (map.width(), map.height());
    let across: Vec<f32> = map
        .scores()
        .chunks_exact(width)
        .flat_map(|row| blurred(row, &kernel))
        .collect();
    let mut scores = vec![0.0; width * height];
    let mut line = vec![0.0; height];
    for column in 0..width {
        for (row, value) in line.iter_mut().enumerate() {
            *value = across[row * width + column];
        }
        for (row, value) in blurred(&line, &kernel).enumerate() {
            scores[row * width + column] = value;
        }
    }
    AnomalyMap::new(width, height, scores)
}

fn kernel(deviation: f64) -> Vec<f32> {
    let radius = (TRUNCATION * deviation + 0.5) as isize;
    let weights = (-radius..=radius).map(|at| (-0.5 * (at as f64 / deviation).powi(2)).exp());
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

fn blurred<'a>(line: &'a [f32], kernel: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
    let (size, radius) = (line.len() as isize, (kernel.len() / 2) as isize);
    let mirrored = move |at: isize| {
        let at = at.rem_euclid(2 * size);
        line[at.min(2 * size - 1 - at) as usize]
    };
    (0..size).map(move |centre| {
        let first = centre - radius;
        if first >= 0 && centre + radius < size {
            let inside = &line[first as usize..][..kernel.len()];
            inside
                .iter()
                .zip(kernel)
                .map(|(value, weight)| value * weight)
                .sum()
        } else {
            let weights = kernel.iter().enumerate();
            weights
                .map(|(at, weight)| mirrored(first + at as isize) * weight)
                .sum()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_stays_and_a_peak_becomes_the_kernel() {
        let flat = AnomalyMap::new(3, 2, vec![2.5; 6]);
        for score in smooth(flat.clone(), 4.0).scores() {
            assert!((score - 2.5).abs() < 1e-5);
        }
        assert_eq!(smooth(flat.clone(), 0.0), flat);
        let mut scores = vec![0.0; 81];
        scores[40] = 1.0;
        let peak = smooth(AnomalyMap::new(9, 9, scores), 1.0);
        let weights = kernel(1.0);
        for row in 0..9 {
            for column in 0..9 {
                let found = peak.scores()[row * 9 + column];
                assert!((found - weights[row] * weights[column]).abs() < 1e-7);
            }
        }
    }
}
