//! Times a pretrained network on one image of noise:
//! `time_backbone WEIGHTS OUTPUT SIDE REPETITIONS` prints one time in milliseconds a line.

use std::error::Error;
use std::time::Instant;

use pupilla::backbone;
use pupilla_core::image::Image;

fn main() -> Result<(), Box<dyn Error>> {
    pupilla_conv::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, output, side, repetitions] = &arguments[..] else {
        return Err("time_backbone WEIGHTS OUTPUT SIDE REPETITIONS".into());
    };
    let network = backbone::load(weights.as_ref())?;
    let side: usize = side.parse()?;
    let pixels = (0..3 * side * side)
        .map(|index| ((index * 7919) % 1999) as f32 / 1998.0)
        .collect();
    let image = Image::new(side, side, pixels);
    let input = network.preprocessing().batch(&[&image])?;
    for _ in 0..repetitions.parse()? {
        let start = Instant::now();
        network.maps(&input, &[output])?;
        println!("{:.2}", 1e3 * start.elapsed().as_secs_f64());
    }
    Ok(())
}
