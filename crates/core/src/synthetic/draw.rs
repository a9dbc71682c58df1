//! Random numbers, noise and shapes, the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use libm::{cos, log, sin};

pub(super) const TAU: f64 = std::f64::consts::TAU;

/// A sequence of random numbers.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The sequence that belongs to four numbers.
    pub fn new(key: [u64; 4]) -> Self {
        let mut seed = [0; 32];
        for (bytes, number) in seed.chunks_exact_mut(8).zip(key) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[low, high)`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A fair coin.
    pub fn coin(&mut self) -> bool {
        self.unit() < 0.5
    }

    /// A key for [`noise`] and its like.
    pub fn key(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Normal with mean 0 and deviation 1, from [`normal_table`].
    pub fn normal(&mut self, table: &[f64]) -> f64 {
        table[self.0.next_u32() as usize % table.len()]
    }
}

/// 1024 values spread as a normal distribution is: drawing one of them costs no logarithm a pixel.
pub(super) fn normal_table() -> Vec<f64> {
    let pairs = 512;
    (0..pairs)
        .flat_map(|index| {
            // Box–Muller on an even cover of the unit square.
            let radius = (-2.0 * log((f64::from(index) + 0.5) / f64::from(pairs))).sqrt();
            let angle = TAU * (f64::from(index) * 0.618_033_988_749_895).fract();
            [radius * cos(angle), radius * sin(angle)]
        })
        .collect()
}

/// A value in `[0, 1)` that belongs to a whole-numbered place.
pub(super) fn at(key: u64, x: i64, y: i64) -> f64 {
    let mut z = key
        ^ (x as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (y as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Smooth noise in `[0, 1)` with features about one unit wide.
pub(super) fn noise(key: u64, x: f64, y: f64) -> f64 {
    let (column, row) = (x.floor(), y.floor());
    let (fx, fy) = (fade(x - column), fade(y - row));
    let (column, row) = (column as i64, row as i64);
    let upper = mix(at(key, column, row), at(key, column + 1, row), fx);
    let lower = mix(at(key, column, row + 1), at(key, column + 1, row + 1), fx);
    mix(upper, lower, fy)
}

/// [`noise`] along a line, in `[-1, 1)`.
pub(super) fn waver(key: u64, line: i64, x: f64) -> f64 {
    let column = x.floor();
    let (left, right) = (column as i64, column as i64 + 1);
    2.0 * mix(at(key, left, line), at(key, right, line), fade(x - column)) - 1.0
}

/// Three octaves of [`noise`], in `[-1, 1)`.
pub(super) fn cloud(key: u64, x: f64, y: f64) -> f64 {
    let sum = noise(key, x, y) * 4.0
        + noise(key ^ 1, 2.0 * x, 2.0 * y) * 2.0
        + noise(key ^ 2, 4.0 * x, 4.0 * y);
    sum * 2.0 / 7.0 - 1.0
}

pub(super) fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}

fn fade(t: f64) -> f64 {
    t * t * (3.0 - 2.0 * t)
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn step(low: f64, high: f64, value: f64) -> f64 {
    fade(((value - low) / (high - low)).clamp(0.0, 1.0))
}

/// Every channel times its factor.
pub(super) fn tint(rgb: [f64; 3], factors: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|channel| rgb[channel] * factors[channel])
}

/// From `a` to `b`, channel by channel.
pub(super) fn blend(a: [f64; 3], b: [f64; 3], share: f64) -> [f64; 3] {
    std::array::from_fn(|channel| mix(a[channel], b[channel], share))
}

/// A round shape with an uneven edge.
pub(super) struct Blob {
    pub x: f64,
    pub y: f64,
    radius_x: f64,
    radius_y: f64,
    turn: (f64, f64),
    uneven: f64,
    key: u64,
}

impl Blob {
    /// With radii in `radius`, and an edge that wanders by the share `uneven` of them.
    pub fn new(random: &mut Random, place: (f64, f64), radius: (f64, f64), uneven: f64) -> Self {
        let angle = random.between(0.0, TAU);
        Self {
            x: place.0,
            y: place.1,
            radius_x: random.between(radius.0, radius.1),
            radius_y: random.between(radius.0, radius.1),
            turn: (cos(angle), sin(angle)),
            uneven,
            key: random.key(),
        }
    }

    /// 0 in the middle, 1 on the edge, more outside.
    pub fn reach(&self, x: f64, y: f64) -> f64 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (cosine, sine) = self.turn;
        let across = (dx * cosine + dy * sine) / self.radius_x;
        let along = (dy * cosine - dx * sine) / self.radius_y;
        let plain = (across * across + along * along).sqrt();
        // Noise on the circle of directions: no seam, no angle to compute.
        let scale = 1.8 / plain.max(1e-6);
        let edge = cloud(self.key, across * scale + 9.0, along * scale + 9.0);
        plain / (1.0 + self.uneven * edge)
    }

    /// The larger radius.
    pub fn radius(&self) -> f64 {
        self.radius_x.max(self.radius_y)
    }
}

/// A bent line of some width, as straight pieces.
pub(super) struct Stroke {
    points: Vec<(f64, f64)>,
}

/// Where a place lies beside a [`Stroke`].
pub(super) struct Beside {
    /// Distance to the line; positive on its right-hand side, in pixels.
    pub off: f64,
    /// How far along, from 0 at its start to 1 at its end.
    pub along: f64,
}

impl Stroke {
    /// Around `place`, `length` long, bent by up to a share `bend` of its length.
    pub fn new(random: &mut Random, place: (f64, f64), length: f64, bend: f64) -> Self {
        let angle = random.between(0.0, TAU);
        let (cosine, sine) = (cos(angle), sin(angle));
        let (first, second) = (random.between(-bend, bend), random.between(-bend, bend));
        let pieces = 24;
        let point = |index: i32| {
            let t = f64::from(index) / f64::from(pieces) * 2.0 - 1.0;
            let along = t * length / 2.0;
            // An arc and an S on top of it.
            let across = length * (first * (t * t - 0.33) + second * t * (1.0 - t * t));
            (
                place.0 + along * cosine - across * sine,
                place.1 + along * sine + across * cosine,
            )
        };
        Self {
            points: (0..=pieces).map(point).collect(),
        }
    }

    pub fn beside(&self, x: f64, y: f64) -> Beside {
        let pieces = (self.points.len() - 1) as f64;
        let mut best = (f64::INFINITY, 0.0, 0.0);
        for (index, ends) in self.points.windows(2).enumerate() {
            let (dx, dy) = (ends[1].0 - ends[0].0, ends[1].1 - ends[0].1);
            let (px, py) = (x - ends[0].0, y - ends[0].1);
            let t = ((px * dx + py * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
            let (ox, oy) = (px - t * dx, py - t * dy);
            let squared = ox * ox + oy * oy;
            if squared < best.0 {
                best = (squared, dx * py - dy * px, (index as f64 + t) / pieces);
            }
        }
        Beside {
            off: if best.1 < 0.0 { -1.0 } else { 1.0 } * best.0.sqrt(),
            along: best.2,
        }
    }
}
