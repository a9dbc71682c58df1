//! Learns from a folder of good images, then judges new images: `train_and_inspect GOOD_FOLDER NEW_IMAGE...`

use pupilla::{Dataset, Detector, Image, Silent, Trainer, write_png};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let good = Dataset::open(arguments.next().ok_or("give a folder of good images")?)?;
    let model = Trainer::new().train(&good, &mut Silent)?;
    model.save("part.pupilla")?;
    for path in arguments {
        let image = Image::open(&path)?;
        let explained = model.explain(&image)?;
        let verdict = model.rule().judge(&explained)?;
        let word = if verdict.defective {
            "DEFECTIVE"
        } else {
            "good"
        };
        println!("{:9.3} {word} {path}", verdict.score);
        for found in &verdict.regions {
            println!("    {:?}", found.region);
        }
        let heatmap = model.heatmap().overlay(&image, &explained.map)?;
        write_png(format!("{path}.heatmap.png"), &heatmap)?;
    }
    Ok(())
}
