//! Times whole training steps of one student (forward, backward, Adam) on made-up data, for scripts that compare
//! them with others: `training_step [DEVICE]`.
//!
//! Reads lines `RECEPTIVE_FIELD WINDOW BATCH STEPS` (on the grid) or `RECEPTIVE_FIELD WINDOW BATCH grid|dense STEPS` from standard input
//! and answers each with one line of times in milliseconds, so that a script can alternate between it and a competitor without
//! starting it anew.

use std::io::{BufRead, Write};
use std::time::Instant;

use pupilla::internals::{DESCRIPTOR_CHANNELS, Learning, StudentsInTraining};
use pupilla::nn::Tensor;
use pupilla::{Optimizer, PatchNetworkConfig, ReceptiveField, device};

fn main() {
    pupilla_conv::keep_freed_memory();
    if let Some(word) = std::env::args().nth(1) {
        let choice = word.parse().expect("a device");
        device::choose(choice).unwrap_or_else(|error| panic!("{error}"));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is readable");
        let times: Vec<String> = times(&line)
            .iter()
            .map(|time| format!("{time:.4}"))
            .collect();
        println!("{}", times.join(" "));
        std::io::stdout()
            .flush()
            .expect("standard output is writable");
    }
}

fn times(line: &str) -> Vec<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (numbers, sampling) = match words[..] {
        [field, window, batch, steps] => ([field, window, batch, steps], "grid"),
        [field, window, batch, sampling, steps] => ([field, window, batch, steps], sampling),
        _ => panic!("RECEPTIVE_FIELD WINDOW BATCH grid|dense STEPS are needed"),
    };
    let [field, window, batch, steps] =
        numbers.map(|word| word.parse::<usize>().expect("numbers are needed"));
    let field = ReceptiveField::try_from(field).expect("a receptive field");
    let stride = match sampling {
        "grid" => field.pooling_stride(),
        "dense" => 1,
        _ => panic!("grid or dense is needed"),
    };
    let positions = (window - field.side()) / stride + 1;
    let input = tensor([batch, 3, window, window]);
    let target = tensor([batch, DESCRIPTOR_CHANNELS, positions, positions]);
    let mut student = StudentsInTraining::new(
        PatchNetworkConfig::new(field),
        [1],
        Learning {
            optimizer: Optimizer::Adam,
            weight_decay: 1e-5,
            batch_norm: false,
            focus: 0.0,
        },
    );
    let mut step = || {
        let start = Instant::now();
        student.step(&input, &target, stride, 1e-4);
        start.elapsed().as_secs_f64() * 1e3
    };
    // The optimiser's state and the workspaces come into being in the first.
    step();
    (0..steps).map(|_| step()).collect()
}

fn tensor(shape: [usize; 4]) -> Tensor {
    let values = (0..shape.iter().product())
        .map(|i: usize| ((i * 7919) % 1999) as f32 / 999.5 - 1.0)
        .collect();
    Tensor::new(values, shape)
}
