//! Times inspections of one image, for comparisons with other languages:
//! `cargo run --release -p pupilla --example time_inspection -- MODEL IMAGE COUNT`. Prints the seconds of each inspection.

use std::time::Instant;

use pupilla::{Detector, Image, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, image, count] = &arguments[..] else {
        return Err("give a model, an image and a count".into());
    };
    let model = Model::load(model)?;
    let image = Image::open(image)?;
    let rule = model.rule();
    for _ in 0..count.parse()? {
        let start = Instant::now();
        let verdict = rule.judge(&model.explain(&image)?)?;
        println!("{} {}", start.elapsed().as_secs_f64(), verdict.score);
    }
    Ok(())
}
