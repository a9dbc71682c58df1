//! Times every layer of the three patch networks, each pass: `cargo bench -p pupilla-conv [-- FILTER]`.
//!
//! Prints the fastest and the median time of a few runs, the rate in GFLOP/s *of the direct algorithm*, and that rate's
//! share of the measured peak of this thread count (above 100 % where Cook–Toom saves more than it wastes). The last column is
//! the smallest processor time of all threads together, which other processes on the machine disturb less (Linux only).

#[path = "../examples/passes/mod.rs"]
mod passes;

use std::time::Instant;

use passes::Problem;
use pupilla_conv::Conv2d;

/// `(receptive field, layer, [batch, channels, height, width], out channels, kernel)` for one 256×256 image, or for its dense
/// descriptors' fragments: what the layer sees with the pools before it evaluated at all offsets.
const LAYERS: &[(&str, [usize; 4], usize, usize)] = &[
    ("p17 6x6 3-128 first", [1, 3, 272, 272], 128, 6),
    ("p17 5x5 128-256", [1, 128, 131, 131], 256, 5),
    ("p17 5x5 256-256", [1, 256, 127, 127], 256, 5),
    ("p17 4x4 256-128", [1, 256, 123, 123], 128, 4),
    ("p33 5x5 3-128 first", [1, 3, 256, 256], 128, 5),
    ("p33 5x5 128-256", [1, 128, 126, 126], 256, 5),
    ("p33 2x2 256-256", [4, 256, 61, 61], 256, 2),
    ("p33 4x4 256-128", [4, 256, 60, 60], 128, 4),
    ("p65 5x5 3-128 first", [1, 3, 256, 256], 128, 5),
    ("p65 5x5 128-128", [1, 128, 126, 126], 128, 5),
    ("p65 5x5 128-128 third", [4, 128, 61, 61], 128, 5),
    ("p65 4x4 128-256", [16, 128, 28, 28], 256, 4),
    ("p65 1x1 256-128", [16, 256, 25, 25], 128, 1),
    ("patch 5x5 128-256", [64, 128, 14, 14], 256, 5),
    ("patch 2x2 256-256", [64, 256, 5, 5], 256, 2),
    ("patch 4x4 256-128", [64, 256, 4, 4], 128, 4),
];

const PASSES: [&str; 3] = ["forward", "input_gradient", "weight_gradient"];

const RUNS: usize = 9;

fn main() {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let peak = pupilla_conv::measured_peak();
    println!(
        "{} threads, measured FMA peak {peak:.0} GFLOP/s",
        rayon::current_num_threads()
    );
    println!(
        "{:<24}{:<17}{:>9}{:>9}{:>9}{:>7}{:>9}",
        "layer", "pass", "min ms", "med ms", "GFLOP/s", "peak", "cpu ms"
    );
    for (name, input, out_channels, kernel) in LAYERS {
        let shape = Conv2d::new(*input, *out_channels, [*kernel; 2]).unwrap();
        let mut problem = None;
        for pass in PASSES {
            let label = format!("{name}/{pass}");
            if !filters.is_empty() && !filters.iter().any(|filter| label.contains(filter.as_str()))
            {
                continue;
            }
            let problem = problem.get_or_insert_with(|| Problem::new(shape));
            problem.run(pass);
            let mut cpu = f64::INFINITY;
            let mut times: Vec<f64> = (0..RUNS)
                .map(|_| {
                    let before = cpu_time();
                    let start = Instant::now();
                    problem.run(pass);
                    let elapsed = start.elapsed().as_secs_f64();
                    cpu = cpu.min(cpu_time() - before);
                    elapsed
                })
                .collect();
            times.sort_by(f64::total_cmp);
            let rate = shape.flops() as f64 / times[0] / 1e9;
            println!(
                "{name:<24}{pass:<17}{:>9.2}{:>9.2}{rate:>9.0}{:>6.0}%{:>9.2}",
                times[0] * 1e3,
                times[RUNS / 2] * 1e3,
                100.0 * rate / peak,
                cpu * 1e3
            );
        }
    }
}

/// Seconds that the threads of this process have spent on a processor.
fn cpu_time() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return f64::NAN;
    };
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|stat| stat.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e9
}
