//! Times one pass of one convolution, for scripts that compare it with others:
//! `time_conv PASS BATCH IN HEIGHT WIDTH OUT KERNEL STRIDE REPETITIONS` prints one time in milliseconds a line. The pass `depthwise` is the
//! forward pass of a depthwise convolution, its map padded by half a kernel.
//!
//! With `-` as its only argument it reads such lines from standard input and answers each with one line of times, so that a
//! script can alternate between it and a competitor without starting it anew.

mod passes;

use std::io::{BufRead, Write};

use passes::Problem;
use pupilla_conv::{Activation, Conv2d, Depthwise};

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
    let timed = |run: &mut dyn FnMut()| -> Vec<f64> {
        run();
        let time = |_| {
            let start = std::time::Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        };
        (0..repetitions).map(time).collect()
    };
    if *pass == "depthwise" {
        assert_eq!(channels, out_channels, "each channel has one kernel");
        let input = [batch, channels, height, width];
        let shape = Depthwise::new(input, kernel, stride, [[kernel / 2; 2]; 2])
            .unwrap_or_else(|error| panic!("{error}"));
        let values = |len: usize| -> Vec<f32> { (0..len).map(|i| (i as f32).sin()).collect() };
        let [input, weight] = [shape.input_len(), shape.weight_len()].map(values);
        let bias = values(channels);
        let mut output = vec![0.0; shape.output_len()];
        return timed(&mut || {
            let none = Activation::NONE;
            pupilla_conv::depthwise(&shape, &input, &weight, Some(&bias), none, &mut output);
        });
    }
    let shape = Conv2d::new([batch, channels, height, width], out_channels, [kernel; 2])
        .and_then(|shape| shape.with_stride([stride; 2]))
        .unwrap_or_else(|error| panic!("{error}"));
    let mut problem = Problem::new(shape);
    timed(&mut || problem.run(pass))
}
