//! A turned steel flange on a dark mat: bore, six bolt holes, one notch in the rim.

use libm::{atan2, cos, sin};

use super::draw::{Blob, Random, Stroke, TAU, blend, cloud, mix, noise, step, tint, waver};
use super::{Defect, SIDE, Sample};

const HOLES: usize = 6;
/// Radii in pixels: rim, bore, the circle of the bolt holes, one bolt hole.
const RIM: f64 = 106.0;
const BORE: f64 = 40.0;
const CIRCLE: f64 = 74.0;
const HOLE: f64 = 9.5;
/// Half width and depth of the notch in the rim.
const NOTCH: (f64, f64) = (6.0, 9.0);
/// Every edge is broken by a chamfer this wide.
const CHAMFER: f64 = 2.6;
/// Towards the light, in the picture (left, above).
const LIGHT: (f64, f64) = (-0.64, -0.768);
const STEEL: [f64; 3] = [0.94, 0.97, 1.0];

/// The flange of one picture.
pub(super) struct Scene {
    middle: (f64, f64),
    turn: f64,
    scale: f64,
    /// Middles of the bolt holes, and the notch's direction, relative to the middle of the ring.
    holes: [(f64, f64); HOLES],
    notch: (f64, f64),
    /// Direction and strength of the reflection on the turned face.
    gleam: (f64, f64),
    brightness: f64,
    key: u64,
}

/// The nearest edge of the metal: how far inside it, and the direction out of the metal there.
struct Edge {
    inside: f64,
    out: (f64, f64),
}

impl Edge {
    fn nearer(self, other: Self) -> Self {
        if other.inside < self.inside {
            other
        } else {
            self
        }
    }
}

impl Scene {
    pub fn new(random: &mut Random) -> Self {
        let middle = SIDE as f64 / 2.0;
        let turn = random.between(0.0, TAU);
        let holes = std::array::from_fn(|index| {
            let angle = turn + TAU * index as f64 / HOLES as f64;
            (CIRCLE * cos(angle), CIRCLE * sin(angle))
        });
        // Between two holes.
        let notch = turn + TAU / (2 * HOLES) as f64;
        Self {
            middle: (
                middle + random.between(-4.0, 4.0),
                middle + random.between(-4.0, 4.0),
            ),
            turn,
            scale: random.between(0.985, 1.015),
            holes,
            notch: (cos(notch), sin(notch)),
            gleam: (
                random.between(-0.12, 0.12) + atan2(LIGHT.1, LIGHT.0),
                random.between(0.15, 0.23),
            ),
            brightness: random.between(0.45, 0.51),
            key: random.key(),
        }
    }

    /// The colour at a place in pixels.
    pub fn color(&self, x: f64, y: f64, flaw: Option<&Flaw>) -> Sample {
        let (dx, dy) = (
            (x - self.middle.0) / self.scale,
            (y - self.middle.1) / self.scale,
        );
        let clean = || self.part(dx, dy);
        match flaw.and_then(|flaw| flaw.over(self, dx, dy)) {
            Some(rgb) => Sample { rgb, touched: true },
            None => Sample {
                rgb: clean(),
                touched: false,
            },
        }
    }

    /// Metal or mat.
    fn part(&self, x: f64, y: f64) -> [f64; 3] {
        let edge = self.edge(x, y);
        if edge.inside > 0.0 {
            return self.metal(x, y, &edge);
        }
        self.mat(x, y, &edge)
    }

    fn edge(&self, x: f64, y: f64) -> Edge {
        let radius = (x * x + y * y).sqrt().max(1e-9);
        let outwards = (x / radius, y / radius);
        let inwards = (-outwards.0, -outwards.1);
        let mut edge = Edge {
            inside: RIM - radius,
            out: outwards,
        }
        .nearer(Edge {
            inside: radius - BORE,
            out: inwards,
        });
        for hole in &self.holes {
            let (hx, hy) = (x - hole.0, y - hole.1);
            let distance = (hx * hx + hy * hy).sqrt().max(1e-9);
            edge = edge.nearer(Edge {
                inside: distance - HOLE,
                out: (-hx / distance, -hy / distance),
            });
        }
        // The notch: a slot with a round end, open to the rim.
        let along = x * self.notch.0 + y * self.notch.1;
        let side = y * self.notch.0 - x * self.notch.1;
        let beyond = (along - (RIM - NOTCH.1 + NOTCH.0)).min(0.0);
        let distance = (side * side + beyond * beyond).sqrt().max(1e-9);
        let (sx, sy) = (
            -self.notch.1 * side + self.notch.0 * beyond,
            self.notch.0 * side + self.notch.1 * beyond,
        );
        edge.nearer(Edge {
            inside: distance - NOTCH.0,
            out: (-sx / distance, -sy / distance),
        })
    }

    fn metal(&self, x: f64, y: f64, edge: &Edge) -> [f64; 3] {
        if edge.inside < CHAMFER {
            let facing = edge.out.0 * LIGHT.0 + edge.out.1 * LIGHT.1;
            let light = 0.50 + 0.34 * facing;
            // A thin dark line where face and chamfer meet.
            let line = 1.0 - 0.25 * step(CHAMFER - 0.9, CHAMFER, edge.inside);
            let grain = 1.0 + 0.05 * cloud(self.key ^ 5, x / 5.0, y / 5.0);
            return STEEL.map(|value| value * light * line * grain);
        }
        STEEL.map(|value| value * self.face(x, y))
    }

    /// How bright the turned face is: tool marks run around, so the light stands in two fans.
    fn face(&self, x: f64, y: f64) -> f64 {
        let radius = (x * x + y * y).sqrt();
        let angle = atan2(y, x);
        let towards = cos(angle - self.gleam.0);
        let fan = towards * towards;
        let fan = fan * fan * fan;
        // Marks belong to the part and turn with it; the seam of the angle is hidden by a fold.
        let folded = ((angle - self.turn) / TAU).rem_euclid(1.0);
        let folded = (2.0 * folded - 1.0).abs();
        let groove =
            waver(self.key, 0, radius * 0.9) * 0.045 + waver(self.key ^ 1, 1, radius * 2.1) * 0.05;
        let broken = (noise(self.key ^ 2, radius * 1.7, folded * 26.0) - 0.5) * 0.10;
        let fine = (noise(self.key ^ 3, radius * 2.3, folded * 90.0) - 0.5) * 0.07;
        let wear = 0.035 * cloud(self.key ^ 4, x / 30.0, y / 30.0);
        let marks = groove + broken + fine;
        self.brightness + self.gleam.1 * fan + marks * (0.75 + 0.9 * fan) + wear
    }

    /// The mat, with the shadow of the ring on it.
    fn mat(&self, x: f64, y: f64, edge: &Edge) -> [f64; 3] {
        let grain = noise(self.key ^ 6, x / 1.6, y / 1.6) - 0.5;
        let weave = cloud(self.key ^ 7, x / 25.0, y / 25.0);
        let mut light = 0.085 + 0.035 * grain + 0.012 * weave;
        // Metal stands towards the light: its shadow lies here.
        let behind = self.edge(x + 5.0 * LIGHT.0, y + 5.0 * LIGHT.1);
        light *= 1.0 - 0.55 * step(-4.0, 2.0, behind.inside);
        // The wall of a hole shows on the side away from the light.
        let lit = -(edge.out.0 * LIGHT.0 + edge.out.1 * LIGHT.1);
        let wall = step(-2.2, -0.2, edge.inside) * lit.max(0.0);
        let hue = [0.95, 1.0, 1.08];
        blend(
            hue.map(|value| value * light),
            STEEL.map(|value| value * 0.30),
            0.55 * wall,
        )
    }

    /// A place on the face with nothing but face for `room` pixels around.
    fn free_place(&self, random: &mut Random, room: f64) -> (f64, f64) {
        let mut place = (0.0, 0.0);
        for _ in 0..200 {
            let angle = random.between(0.0, TAU);
            let radius = random.between(BORE, RIM);
            place = (radius * cos(angle), radius * sin(angle));
            if self.edge(place.0, place.1).inside > CHAMFER + room {
                break;
            }
        }
        place
    }
}

/// What is wrong with the flange of one picture.
pub(super) enum Flaw {
    Scratch {
        line: Stroke,
        width: f64,
        depth: f64,
    },
    Dent {
        edge: Blob,
        depth: f64,
    },
    CloggedHole {
        index: usize,
        key: u64,
    },
    Burr {
        angle: f64,
        half: f64,
        height: f64,
        key: u64,
    },
    Stain {
        edge: Blob,
        strength: f64,
    },
}

impl Flaw {
    /// Any kind this part does not know is drawn as a stain.
    pub fn new(defect: Defect, scene: &Scene, random: &mut Random) -> Self {
        match defect {
            Defect::Scratch => {
                let place = scene.free_place(random, 6.0);
                let length = random.between(26.0, 58.0);
                Self::Scratch {
                    line: Stroke::new(random, place, length, 0.12),
                    width: random.between(0.8, 1.3),
                    depth: random.between(0.24, 0.34),
                }
            }
            Defect::Dent => {
                let place = scene.free_place(random, 9.0);
                Self::Dent {
                    edge: Blob::new(random, place, (5.5, 10.0), 0.15),
                    depth: random.between(0.20, 0.30),
                }
            }
            Defect::CloggedHole => Self::CloggedHole {
                index: (random.unit() * HOLES as f64) as usize,
                key: random.key(),
            },
            Defect::Burr => {
                // Anywhere on the rim but at the notch.
                let notch = atan2(scene.notch.1, scene.notch.0);
                Self::Burr {
                    angle: notch + random.between(0.35, TAU - 0.35),
                    half: random.between(0.07, 0.14),
                    height: random.between(3.5, 7.5),
                    key: random.key(),
                }
            }
            _ => {
                let place = scene.free_place(random, 10.0);
                Self::Stain {
                    edge: Blob::new(random, place, (9.0, 14.0), 0.25),
                    strength: random.between(0.38, 0.50),
                }
            }
        }
    }

    /// The colour with the flaw, or `None` where it does not reach.
    fn over(&self, scene: &Scene, x: f64, y: f64) -> Option<[f64; 3]> {
        let on_metal = || scene.edge(x, y).inside > 0.0;
        match self {
            Self::Scratch { line, width, depth } => {
                let beside = line.beside(x, y);
                let t = 2.0 * beside.along - 1.0;
                let half = width * (1.0 - t * t * t * t).max(0.0).sqrt();
                if half < 0.1 || beside.off.abs() >= half + 0.8 || !on_metal() {
                    return None;
                }
                let rgb = scene.part(x, y);
                let bright = depth * (1.0 - step(half - 0.4, half + 0.3, beside.off.abs()));
                // The far flank lies in shade.
                let shade = 0.45 * depth * step(0.0, half, beside.off);
                Some(rgb.map(|value| (value + bright - shade).clamp(0.0, 1.0)))
            }
            Self::Dent { edge, depth } => {
                let reach = edge.reach(x, y);
                if reach >= 1.0 || !on_metal() {
                    return None;
                }
                let (dx, dy) = ((x - edge.x) / edge.radius(), (y - edge.y) / edge.radius());
                // A bowl: the flank away from the light faces it.
                let slope = 2.6 * (1.0 - reach * reach);
                let facing = -(dx * LIGHT.0 + dy * LIGHT.1) * slope;
                let floor = -0.25 * (1.0 - reach);
                let rgb = scene.part(x, y);
                Some(rgb.map(|value| (value + depth * (facing + floor)).clamp(0.02, 1.0)))
            }
            Self::CloggedHole { index, key } => {
                let (dx, dy) = (x - scene.holes[*index].0, y - scene.holes[*index].1);
                let within = (dx * dx + dy * dy).sqrt() < HOLE - 0.5;
                // Swarf and grease: rough and warm where the mat would be dark.
                within.then(|| {
                    let light = 0.40 + 0.45 * cloud(*key, x / 1.8, y / 1.8);
                    [1.0, 0.85, 0.62].map(|share| (share * light).clamp(0.05, 1.0))
                })
            }
            Self::Burr {
                angle,
                half,
                height,
                key,
            } => {
                let radius = (x * x + y * y).sqrt();
                let turned = (atan2(y, x) - angle + TAU / 2.0).rem_euclid(TAU) - TAU / 2.0;
                let t = turned / half;
                let profile = 1.0 - t * t;
                let ragged = 0.7 + 0.45 * waver(*key, 0, turned * 42.0);
                let top = RIM + height * profile * ragged;
                let root = RIM - CHAMFER;
                if profile <= 0.0 || radius <= root || radius >= top {
                    return None;
                }
                let rise = (radius - root) / (top - root);
                let curl = 0.22 * cloud(*key ^ 1, x / 3.0, y / 3.0);
                let light = mix(0.46, 0.74, rise) + curl;
                Some(STEEL.map(|value| (value * light).clamp(0.05, 1.0)))
            }
            Self::Stain { edge, strength } => {
                let soft = 1.0 - step(0.55, 1.0, edge.reach(x, y));
                (soft > 0.08 && on_metal()).then(|| {
                    let factors = [0.8, 1.0, 1.25].map(|share| 1.0 - share * strength * soft);
                    tint(scene.part(x, y), factors)
                })
            }
        }
    }
}
