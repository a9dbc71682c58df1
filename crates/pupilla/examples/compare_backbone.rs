//! Compares a pretrained network with what PyTorch made of the same file of weights:
//! `compare_backbone WEIGHTS NUMBERS.json`, where `make_backbone.py WEIGHTS > NUMBERS.json` wrote the numbers, prints of each output the
//! largest difference in units of its root mean square.

use std::collections::BTreeMap;
use std::error::Error;

use pupilla::backbone;
use pupilla::nn::Tensor;
use serde::Deserialize;

#[derive(Deserialize)]
struct Numbers {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input: [usize; 4],
    outputs: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    shape: [usize; 4],
    rms: f64,
    step: usize,
    samples: Vec<f64>,
}

/// The input, as `make_backbone.py` has it: murmur3's finaliser over a counter that starts at the FNV-1a hash of "input".
fn input(shape: [usize; 4]) -> Tensor {
    let seed = b"input".iter().fold(0x811c_9dc5u32, |seed, byte| {
        (seed ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let value = |index: u32| {
        let mut x = index.wrapping_mul(0x9e37_79b9).wrapping_add(seed);
        x ^= x >> 16;
        x = x.wrapping_mul(0x85eb_ca6b);
        x ^= x >> 13;
        x = x.wrapping_mul(0xc2b2_ae35);
        x ^= x >> 16;
        (4.0 * (f64::from(x >> 8) / f64::from(1 << 24)) - 2.0) as f32
    };
    let count = shape.iter().product::<usize>();
    Tensor::new((0..count as u32).map(value).collect(), shape)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, numbers] = &arguments[..] else {
        return Err("compare_backbone WEIGHTS NUMBERS.json".into());
    };
    let network = backbone::load(weights.as_ref())?;
    let numbers: Numbers = serde_json::from_slice(&std::fs::read(numbers)?)?;
    for case in numbers.cases {
        for (name, expected) in &case.outputs {
            let map = network.maps(&input(case.input), &[name])?.swap_remove(0);
            if map.shape() != expected.shape {
                return Err(format!("{name}: {:?}, not {:?}", map.shape(), expected.shape).into());
            }
            let samples = map.values().iter().step_by(expected.step);
            let apart = samples
                .zip(&expected.samples)
                .fold(0.0f64, |worst, (a, b)| {
                    worst.max((f64::from(*a) - b).abs() / expected.rms)
                });
            println!("{:?} {name}: {apart:.1e}", case.input);
        }
    }
    Ok(())
}
