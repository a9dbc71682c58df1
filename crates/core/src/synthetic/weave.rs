//! A plain weave of linen: warp over weft, weft over warp, no two yarns quite alike.

use libm::{cos, sin};

use super::draw::{Blob, Random, Stroke, TAU, at, blend, cloud, mix, noise, step, tint, waver};
use super::{Defect, SIDE, Sample};

/// How high a yarn bends over its neighbour, and how high it is itself, in half pitches.
const BEND: f64 = 0.45;
const THICKNESS: f64 = 0.7;
/// Where the light comes from (left, above), of length 1.
const LIGHT: [f64; 3] = [-0.43, -0.52, 0.738];
/// What shows between the yarns.
const GAP: [f64; 3] = [0.13, 0.11, 0.09];

/// The fabric of one picture.
pub(super) struct Scene {
    turn: (f64, f64),
    shift: (f64, f64),
    pitch: (f64, f64),
    warp_color: [f64; 3],
    weft_color: [f64; 3],
    key: u64,
}

/// A yarn at one place: how high, and how it looks there.
struct Yarn {
    height: f64,
    rgb: [f64; 3],
}

impl Scene {
    pub fn new(random: &mut Random) -> Self {
        let angle = random.between(-0.045, 0.045);
        let tone = random.between(0.96, 1.04);
        Self {
            turn: (cos(angle), sin(angle)),
            shift: (random.between(0.0, 512.0), random.between(0.0, 512.0)),
            pitch: (random.between(8.7, 9.3), random.between(9.6, 10.3)),
            warp_color: [0.83, 0.76, 0.63].map(|value| value * tone),
            weft_color: [0.74, 0.68, 0.57].map(|value| value * tone),
            key: random.key(),
        }
    }

    /// The colour at a place in pixels.
    pub fn color(&self, x: f64, y: f64, flaw: Option<&Flaw>) -> Sample {
        let rgb = self.fabric(x, y);
        match flaw.and_then(|flaw| flaw.over(x, y, rgb)) {
            Some(rgb) => Sample { rgb, touched: true },
            None => Sample {
                rgb,
                touched: false,
            },
        }
    }

    fn fabric(&self, x: f64, y: f64) -> [f64; 3] {
        // Drawn a little out of shape, as cloth is.
        let bow_x = 1.6 * cloud(self.key ^ 10, x / 70.0, y / 70.0);
        let bow_y = 1.6 * cloud(self.key ^ 11, x / 70.0, y / 70.0);
        let (cosine, sine) = self.turn;
        let across = x * cosine + y * sine + bow_x + self.shift.0;
        let down = y * cosine - x * sine + bow_y + self.shift.1;
        let (u, v) = (across / self.pitch.0, down / self.pitch.1);
        let (column, row) = (u.floor() as i64, v.floor() as i64);
        let over = if (column + row) % 2 == 0 { 1.0 } else { -1.0 };
        let warp = self.yarn(u, v, over, self.warp_color, self.key, [0, 1]);
        let weft = self.yarn(v, u, -over, self.weft_color, self.key ^ 77, [1, 0]);
        let top = match (warp, weft) {
            (Some(a), Some(b)) => Some(if a.height > b.height { a } else { b }),
            (one, other) => one.or(other),
        };
        let rgb = top.map_or(GAP, |yarn| yarn.rgb);
        // Uneven dye.
        let dye = 1.0 + 0.035 * cloud(self.key ^ 12, x / 45.0, y / 45.0);
        rgb.map(|value| value * dye)
    }

    /// The yarn whose middle is near `across`, running along `along` (both in pitches); `axes` says
    /// which of x and y lies across and along.
    fn yarn(
        &self,
        across: f64,
        along: f64,
        over: f64,
        color: [f64; 3],
        key: u64,
        axes: [usize; 2],
    ) -> Option<Yarn> {
        let number = across.floor() as i64;
        let middle = 0.5 + 0.09 * waver(key, number, along * 0.22);
        let slub = waver(key ^ 1, number, along * 0.35);
        let half = 0.42 + 0.05 * slub + 0.05 * (at(key ^ 2, number, 0) - 0.5);
        // From -1 to 1 across the yarn.
        let side = (across - number as f64 - middle) / half;
        if side.abs() >= 1.0 {
            return None;
        }
        let round = (1.0 - side * side).sqrt();
        let bend = TAU / 4.0 * 2.0 * (along - along.floor() - 0.5);
        let height = over * BEND * cos(bend) + THICKNESS * round;
        let slope_across = -THICKNESS * side / round.max(0.25);
        let slope_along = -over * BEND * sin(bend) * TAU / 4.0;
        let mut normal = [0.0; 3];
        normal[axes[0]] = -slope_across;
        normal[axes[1]] = -slope_along;
        normal[2] = 1.0;
        let length = (slope_across * slope_across + slope_along * slope_along + 1.0).sqrt();
        let facing: f64 = normal.iter().zip(LIGHT).map(|(n, l)| n * l).sum();
        let light = 0.42 + 0.72 * (facing / length).max(0.0);
        // Lower parts see less of the sky.
        let open = mix(0.45, 1.0, step(-0.5, 0.9, height));
        // Twisted fibres: fine oblique streaks.
        let fibre = noise(
            key ^ 3,
            along * 5.0 + side * 1.7 + 31.0 * at(key ^ 4, number, 1),
            side * 2.6 + 17.0 * number as f64,
        );
        let shade = 1.0 + 0.26 * (fibre - 0.5);
        let tone = 1.0 + 0.16 * (at(key ^ 5, number, 2) - 0.5) + 0.05 * slub;
        Some(Yarn {
            height,
            rgb: color.map(|value| value * light * open * shade * tone),
        })
    }
}

/// What is wrong with the fabric of one picture.
pub(super) enum Flaw {
    Hole {
        edge: Blob,
        strands: Vec<Stroke>,
    },
    Cut {
        line: Stroke,
        width: f64,
        key: u64,
    },
    Thread {
        line: Stroke,
        width: f64,
        color: [f64; 3],
        twist: f64,
    },
    Stain {
        edge: Blob,
        strength: f64,
        key: u64,
    },
    FaintSpot {
        edge: Blob,
        strength: f64,
    },
}

impl Flaw {
    /// Any kind this fabric does not know is drawn as a faint spot.
    pub fn new(defect: Defect, random: &mut Random) -> Self {
        let place = {
            let mut draw = || random.between(45.0, SIDE as f64 - 45.0);
            (draw(), draw())
        };
        match defect {
            Defect::Hole => {
                let edge = Blob::new(random, place, (7.0, 12.0), 0.35);
                let strands = (0..5)
                    .map(|_| {
                        let angle = random.between(0.0, TAU);
                        let reach = edge.radius() * random.between(0.55, 0.95);
                        let root = (place.0 + reach * cos(angle), place.1 + reach * sin(angle));
                        let length = random.between(5.0, 9.0);
                        Stroke::new(random, root, length, 0.3)
                    })
                    .collect();
                Self::Hole { edge, strands }
            }
            Defect::Cut => {
                let length = random.between(24.0, 46.0);
                Self::Cut {
                    line: Stroke::new(random, place, length, 0.06),
                    width: random.between(1.3, 2.2),
                    key: random.key(),
                }
            }
            Defect::Thread => {
                let length = random.between(45.0, 85.0);
                let color = if random.coin() {
                    [0.92, 0.89, 0.82]
                } else {
                    [0.50, 0.40, 0.32]
                };
                Self::Thread {
                    line: Stroke::new(random, place, length, 0.28),
                    width: random.between(1.7, 2.6),
                    color,
                    twist: random.between(14.0, 22.0),
                }
            }
            Defect::Stain => Self::Stain {
                edge: Blob::new(random, place, (13.0, 24.0), 0.45),
                strength: random.between(0.75, 1.0),
                key: random.key(),
            },
            _ => Self::FaintSpot {
                edge: Blob::new(random, place, (7.5, 9.2), 0.10),
                strength: random.between(0.24, 0.29),
            },
        }
    }

    /// The colour over the fabric's, or `None` where the flaw does not reach.
    fn over(&self, x: f64, y: f64, rgb: [f64; 3]) -> Option<[f64; 3]> {
        match self {
            Self::Hole { edge, strands } => {
                let reach = edge.reach(x, y);
                if reach >= 1.15 {
                    return None;
                }
                for strand in strands {
                    let beside = strand.beside(x, y);
                    let off = beside.off.abs();
                    if off < 0.75 && reach < 1.0 {
                        return Some([0.70, 0.64, 0.53].map(|value| value * (1.0 - 0.5 * off)));
                    }
                }
                let deep = [0.055, 0.05, 0.05].map(|value| value * (0.8 + 0.5 * reach));
                let frayed = tint(rgb, [0.72, 0.72, 0.74]);
                Some(blend(deep, frayed, step(0.9, 1.02, reach)))
            }
            Self::Cut { line, width, key } => {
                let beside = line.beside(x, y);
                let t = 2.0 * beside.along - 1.0;
                let ragged = 1.0 + 0.35 * waver(*key, 0, beside.along * 14.0);
                let half = width * (1.0 - t * t).max(0.0).sqrt() * ragged;
                let off = beside.off.abs();
                if half < 0.15 || off >= half + 0.9 {
                    return None;
                }
                // Cut ends curl up and catch the light on one side.
                let lip = if beside.off > 0.0 { 1.18 } else { 0.78 };
                let dark = [0.09, 0.08, 0.07];
                let edge = rgb.map(|value| (value * lip).min(1.0));
                Some(blend(dark, edge, step(half - 0.5, half + 0.3, off)))
            }
            Self::Thread {
                line,
                width,
                color,
                twist,
            } => {
                let beside = line.beside(x, y);
                let off = beside.off.abs();
                if off < *width {
                    let side = beside.off / width;
                    let round = (1.0 - side * side).sqrt();
                    let strand = sin(TAU * (beside.along * twist + 0.35 * side));
                    let light = 0.35 + 0.62 * round + 0.10 * strand;
                    return Some(color.map(|value| value * light));
                }
                // Its shadow falls away from the light.
                let shadow = line.beside(x - 1.3, y - 1.5).off.abs();
                (shadow < *width).then(|| tint(rgb, [0.66, 0.66, 0.68]))
            }
            Self::Stain {
                edge,
                strength,
                key,
            } => {
                let rough = 0.10 * cloud(*key, x / 6.0, y / 6.0);
                let inside = 1.0 - edge.reach(x, y) + rough;
                let soaked = step(0.0, 0.22, inside);
                if soaked <= 0.03 {
                    return None;
                }
                // Darker towards the rim, where it dried last.
                let rim = 1.0 + 0.35 * (1.0 - step(0.1, 0.4, inside));
                let depth = soaked * strength * rim;
                let factors = [0.20, 0.25, 0.34].map(|share| 1.0 - share * depth);
                Some(tint(rgb, factors))
            }
            Self::FaintSpot { edge, strength } => {
                let soft = 1.0 - step(0.65, 1.0, edge.reach(x, y));
                (soft > 0.08).then(|| {
                    let factors = [0.85, 1.0, 1.25].map(|share| 1.0 - share * strength * soft);
                    tint(rgb, factors)
                })
            }
        }
    }
}
