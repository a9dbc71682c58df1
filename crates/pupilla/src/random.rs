//! Random numbers from a seed: the same on every machine, and independent of the framework's own.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A standard normal number (Box and Muller 1958).
pub(crate) fn normal(random: &mut impl Rng) -> f32 {
    // 1 - u lies in (0, 1]: its logarithm is finite.
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * random.random::<f64>();
    (radius * angle.cos()) as f32
}

/// Standard normal numbers.
pub(crate) fn normals(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| normal(&mut random)).collect()
}

/// A seed for one purpose: equal `(seed, purpose, index)` give equal seeds, others unrelated ones
/// (the finaliser of SplitMix64, Steele et al. 2014, over a running hash).
pub(crate) fn derive_seed(seed: u64, purpose: &str, index: u64) -> u64 {
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let named = purpose.bytes().fold(
        mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)),
        |hash, byte| {
            mix(hash
                .wrapping_add(u64::from(byte))
                .wrapping_add(0x9e37_79b9_7f4a_7c15))
        },
    );
    mix(named.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}
