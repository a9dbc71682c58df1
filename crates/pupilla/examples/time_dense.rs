//! Times dense descriptors, those of every position, of made-up images:
//! `time_dense RECEPTIVE_FIELD SIDE REPETITIONS` prints one time in milliseconds a line.

use std::time::Instant;

use pupilla::nn::Tensor;
use pupilla::{PatchNetworkConfig, ReceptiveField};

fn main() {
    pupilla_conv::keep_freed_memory();
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|word| word.parse().expect("numbers are needed"))
        .collect();
    let [field, side, repetitions] = numbers[..] else {
        panic!("RECEPTIVE_FIELD SIDE REPETITIONS are needed");
    };
    let field = ReceptiveField::try_from(field).expect("a receptive field");
    let network = PatchNetworkConfig::new(field).init(1);
    let values: Vec<f32> = (0..3 * side * side)
        .map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0)
        .collect();
    let image = Tensor::new(values, [1, 3, side, side]);
    for repetition in 0..=repetitions {
        let start = Instant::now();
        let _ = network.dense(&image);
        // The workspaces come into being in the first.
        if repetition > 0 {
            println!("{:.4}", start.elapsed().as_secs_f64() * 1e3);
        }
    }
}
