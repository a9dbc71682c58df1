//! Small pictures for pages: shrunk, encoded, and written as data URIs.

use ::image::codecs::jpeg::JpegEncoder;
use ::image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use ::image::imageops::{self, FilterType};
use ::image::{GrayImage, ImageBuffer, ImageResult, Luma, Pixel, RgbImage, RgbaImage};
use base64::prelude::{BASE64_STANDARD, Engine};

use crate::data::mask::Mask;

/// A picture with a longer side of at most `side`, its aspect kept; small ones as they are.
pub(super) fn fit<P>(picture: ImageBuffer<P, Vec<u8>>, side: u32) -> ImageBuffer<P, Vec<u8>>
where
    P: Pixel<Subpixel = u8> + 'static,
{
    let (width, height) = picture.dimensions();
    let longer = u64::from(width.max(height));
    if longer <= u64::from(side) {
        return picture;
    }
    let [width, height] = [width, height].map(|length| {
        let length = u64::from(length) * u64::from(side) + longer / 2;
        ((length / longer) as u32).max(1)
    });
    imageops::resize(&picture, width, height, FilterType::Triangle)
}

/// A mask, white where there is a defect.
pub(super) fn mask(mask: &Mask) -> GrayImage {
    let mut picture = GrayImage::new(mask.width() as u32, mask.height() as u32);
    for (pixel, &defect) in picture.pixels_mut().zip(mask.defect()) {
        *pixel = Luma([if defect { 255 } else { 0 }]);
    }
    picture
}

/// A photograph as a data URI.
pub(super) fn jpeg(picture: &RgbImage, quality: u8) -> ImageResult<String> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))?;
    Ok(uri("image/jpeg", &bytes))
}

/// A picture of few colours as a data URI.
pub(super) fn png(picture: &RgbaImage) -> ImageResult<String> {
    let mut bytes = Vec::new();
    // Equal pixels beside each other, which a filter would hide from the compression.
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, PngFilter::NoFilter);
    picture.write_with_encoder(encoder)?;
    Ok(uri("image/png", &bytes))
}

fn uri(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", BASE64_STANDARD.encode(bytes))
}
