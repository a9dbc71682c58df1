//! Times one pass of one convolution, for scripts that compare it with others:
//! `time_conv PASS BATCH IN HEIGHT WIDTH OUT KERNEL STRIDE REPETITIONS` prints one time in milliseconds a line.
//!
//! With `-` as its only argument it reads such lines from standard input and answers each with one line of times, so that a
//! script can alternate between it and a competitor without starting it anew.

mod passes;

use std::io::{BufRead, Write};

use passes::Problem;
use pupilla_conv::Conv2d;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["-"] {
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("standard input is readable");
            let words: Vec<&str> = line.split_whitespace().collect();
            let times: Vec<String> = times(&words)
                .iter()
                .map(|time| format!("{time:.4}"))
                .collect();
            println!("{}", times.join(" "));
            std::io::stdout()
                .flush()
                .expect("standard output is writable");
        }
    } else {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        for time in times(&words) {
            println!("{time:.4}");
        }
    }
}

fn times(words: &[&str]) -> Vec<f64> {
    let [pass, sizes @ ..] = words else {
        panic!("a pass is missing");
    };
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|size| size.parse().expect("sizes are numbers"))
        .collect();
    let [
        batch,
        channels,
        height,
        width,
        out_channels,
        kernel,
        stride,
        repetitions,
    ] = sizes[..]
    else {
        panic!("BATCH IN HEIGHT WIDTH OUT KERNEL STRIDE REPETITIONS are needed");
    };
    let shape = Conv2d::new([batch, channels, height, width], out_channels, [kernel; 2])
        .and_then(|shape| shape.with_stride([stride; 2]))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut problem = Problem::new(shape);
    problem.run(pass);
    (0..repetitions)
        .map(|_| {
            let start = std::time::Instant::now();
            problem.run(pass);
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}
