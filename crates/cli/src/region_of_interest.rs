//! `--roi`: a picture of the inspected pixels.

use std::path::Path;

use anyhow::bail;
use pupilla_core::data::mask::Mask;

/// Pixels that are brighter than half grey are inspected.
const ABOVE: u8 = 127;

/// The inspected pixels: those that are brighter than half grey in the picture.
pub fn read(path: Option<&Path>) -> anyhow::Result<Option<Mask>> {
    let Some(path) = path else { return Ok(None) };
    let mask = Mask::read(path, ABOVE)?;
    if mask.lies_in_alpha() {
        bail!(
            "--roi {}: its marks lie in the alpha channel, which is not read: save it as black and white",
            path.display()
        );
    }
    if mask.is_blank() {
        bail!(
            "--roi {}: no pixel is brighter than half grey, so there is nothing to look at: paint white what is to be inspected",
            path.display()
        );
    }
    Ok(Some(mask))
}
