//! The colours of a map as a picture that lies over the image.

use ::image::{Rgba, RgbaImage};

use crate::map::anomaly_map::AnomalyMap;
use crate::map::heatmap::Heatmap;

/// The longer side of a layer, in pixels. A map is smooth: its colours need fewer pixels than the image.
const SIDE: usize = 256;

/// The levels of colour in a layer: few levels make a small file.
const LEVELS: f64 = 48.0;

/// The map in colours, transparent at low scores. A pixel has the highest score of the map's pixels that it covers, so that a small
/// defect stays visible.
pub(super) fn of_map(heatmap: Heatmap, map: &AnomalyMap) -> RgbaImage {
    let (width, height) = (map.width(), map.height());
    let longer = width.max(height).max(SIDE);
    let of_layer = |length: usize| (length * SIDE / longer).max(1);
    let (across, down) = match longer {
        SIDE => (width, height),
        _ => (of_layer(width), of_layer(height)),
    };
    let mut highest = vec![f32::NEG_INFINITY; across * down];
    for (row, scores) in map.scores().chunks_exact(width).enumerate() {
        let row = row * down / height * across;
        for (column, &score) in scores.iter().enumerate() {
            let most = &mut highest[row + column * across / width];
            *most = most.max(score);
        }
    }
    let mut layer = RgbaImage::new(across as u32, down as u32);
    for (pixel, &score) in layer.pixels_mut().zip(&highest) {
        let level = (heatmap.level(score) * LEVELS).round() / LEVELS;
        let [red, green, blue] = match level {
            // All transparent pixels alike.
            0.0 => [0; 3],
            _ => Heatmap::color(level),
        };
        // Rises fast, so that what lies only a little above the lowest colour is seen.
        let opacity = (level.sqrt() * 255.0).round() as u8;
        *pixel = Rgba([red, green, blue, opacity]);
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Heatmap = Heatmap {
        low: 0.0,
        high: 1.0,
    };

    #[test]
    fn one_hot_pixel_of_a_large_map_is_seen() {
        let mut scores = vec![0.0; 2000 * 100];
        scores[57 * 2000 + 1999] = 1.0;
        let layer = of_map(SCALE, &AnomalyMap::new(2000, 100, scores));
        assert_eq!(layer.dimensions(), (256, 12));
        assert_eq!(layer.get_pixel(0, 0).0, [0; 4]);
        let seen: Vec<_> = layer.pixels().filter(|pixel| pixel.0[3] == 255).collect();
        assert_eq!(seen.len(), 1);
    }

    #[test]
    fn every_shape_has_a_layer() {
        for (width, height) in [(1, 1), (3, 2), (256, 256), (5000, 1), (1, 5000)] {
            let map = AnomalyMap::new(width, height, vec![0.5; width * height]);
            let layer = of_map(SCALE, &map);
            assert!(layer.width().max(layer.height()) <= 256);
            assert!(layer.pixels().all(|pixel| pixel.0[3] > 0));
        }
    }
}
