//! Packs a pretrained network for use as built-in weights: batch norm folded in, cut off before a layer, 16 bits.
//!
//! `cargo run --release -p pupilla --example pack_backbone -- WEIGHTS FIRST_LAYER_LEFT_OUT OUT.safetensors`
//!
//! The layer is named as in the file of weights: `_blocks.11.` begins stage 6 of EfficientNet-Lite0.

use std::error::Error;
use std::path::Path;

use half::f16;
use pupilla::backbone;
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, left_out, out] = &arguments[..] else {
        return Err("give WEIGHTS FIRST_LAYER_LEFT_OUT OUT".into());
    };
    let network = backbone::load(Path::new(weights))?;
    let mut packed = Vec::new();
    for array in network.arrays() {
        if array.name.starts_with(left_out) {
            break;
        }
        let halves = array.values.iter().map(|&value| f16::from_f32(value));
        let bytes: Vec<u8> = halves.flat_map(f16::to_le_bytes).collect();
        packed.push((array.name, array.shape, bytes));
    }
    let views = packed
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F16, shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let file = safetensors::serialize(views, None)?;
    let kept = backbone::from_bytes(Path::new(out), file.clone())?;
    let outputs: Vec<_> = kept.outputs().iter().map(|output| output.name).collect();
    println!(
        "{}: {}, {} bytes",
        kept.config().name(),
        outputs.join(", "),
        file.len()
    );
    std::fs::write(out, file)?;
    Ok(())
}
