//! Images that nobody vouches for: every file is read or refused in order, by the readers of images, masks and maps alike.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::image_files::oracle;

use image::{DynamicImage, GenericImageView, ImageEncoder, ImageFormat, RgbImage};
use pupilla_core::data::mask::Mask;
use pupilla_core::image::Size;
use pupilla_core::image::read::{self, ReadError};
use pupilla_core::map::map_file;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// What every reader says; none of them panics, and every refusal names the file.
fn refusal(path: &Path) -> Option<ReadError> {
    let error = read::read(path).err();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut said: Vec<String> = error.iter().map(ToString::to_string).collect();
    said.extend(read::size(path).err().map(|error| error.to_string()));
    said.extend(Mask::read(path, 0).err().map(|error| error.to_string()));
    said.extend(map_file::read(path).err().map(|error| error.to_string()));
    for text in said {
        assert!(text.contains(name), "{text}");
    }
    error
}

fn photo(width: u32, height: u32) -> DynamicImage {
    let image = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            (x * y) as u8,
        ])
    });
    image.into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of these sides, eight bits of red, green and blue, whose pixels are missing.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    // zlib: an empty stored block.
    let nothing = [0x78, 1, 1, 0, 0, 0xFF, 0xFF, 0, 0, 0, 1];
    for (kind, content) in [(b"IHDR", &header[..]), (b"IDAT", &nothing), (b"IEND", &[])] {
        bytes.extend((content.len() as u32).to_be_bytes());
        let chunk = [&kind[..], content].concat();
        bytes.extend(&chunk);
        bytes.extend(crc32(&chunk).to_be_bytes());
    }
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A JPEG that claims these sides.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = encoded(&photo(8, 8), ImageFormat::Jpeg);
    let frame = bytes
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// A BMP that claims these sides.
fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut bytes = encoded(&photo(8, 8), ImageFormat::Bmp);
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

/// A WebP without loss that claims these sides (up to 2¹⁴).
fn webp(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(&photo(8, 8), ImageFormat::WebP);
    let at = bytes.windows(4).position(|four| four == b"VP8L").unwrap() + 9;
    let mut header = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    header &= !((1 << 28) - 1);
    header |= (width.wrapping_sub(1) & 0x3FFF) | (height.wrapping_sub(1) & 0x3FFF) << 14;
    bytes[at..at + 4].copy_from_slice(&header.to_le_bytes());
    bytes
}

/// A TIFF of one strip: tag, type, value of every field.
fn tiff(fields: &[(u16, u16, u32)], pixels: &[u8]) -> Vec<u8> {
    let mut bytes = b"II\x2A\0".to_vec();
    let pixels_at = 8 + 2 + 12 * fields.len() as u32 + 4;
    bytes.extend(8u32.to_le_bytes());
    bytes.extend((fields.len() as u16).to_le_bytes());
    for &(tag, kind, value) in fields {
        let value = if tag == STRIP { pixels_at } else { value };
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    bytes.extend(pixels);
    bytes
}

const STRIP: u16 = 273;
const SHORT: u16 = 3;
const LONG: u16 = 4;

/// The fields of a grey TIFF; samples of this format (1: whole, 3: floating) and so many bits.
fn grey(width: u32, height: u32, bits: u32, format: u32) -> [(u16, u16, u32); 10] {
    [
        (256, LONG, width),
        (257, LONG, height),
        (258, SHORT, bits),
        (259, SHORT, 1),
        (262, SHORT, 1),
        (STRIP, LONG, 0),
        (277, SHORT, 1),
        (278, LONG, height),
        (
            279,
            LONG,
            width.saturating_mul(height).saturating_mul(bits / 8),
        ),
        (339, SHORT, format),
    ]
}

fn grey_tiff(width: u32, height: u32) -> Vec<u8> {
    tiff(&grey(width, height, 8, 1), &[7; 64])
}

#[test]
fn the_files_made_here_are_images_if_they_tell_the_truth() {
    let folder = Folder::new();
    for (name, bytes) in [
        ("true.jpg", jpeg(8, 8)),
        ("true.bmp", bmp(8, 8)),
        ("true.webp", webp(8, 8)),
        ("true.tif", grey_tiff(8, 8)),
    ] {
        let path = folder.file(name, &bytes);
        let image = read::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((image.width(), image.height()), (8, 8), "{name}");
    }
}

/// Headers that promise more pixels than anybody has, in files of a few hundred bytes.
#[test]
fn images_of_enormous_claims_are_refused_by_their_header() {
    let folder = Folder::new();
    for (name, bytes) in [
        ("wide.png", png(60_000, 60_000)),
        ("wide.jpg", jpeg(60_000, 60_000)),
        ("wide.bmp", bmp(60_000, 60_000)),
        ("wide.tif", grey_tiff(60_000, 60_000)),
        // Sides that are allowed, but not together.
        ("many.png", png(30_000, 30_000)),
        ("many.jpg", jpeg(30_000, 30_000)),
        ("many.bmp", bmp(30_000, -30_000)),
        ("many.tif", grey_tiff(30_000, 30_000)),
        ("many.webp", webp(16_383, 16_383)),
        ("long.png", png(40_000, 1)),
        ("most.tif", grey_tiff(u32::MAX, u32::MAX)),
        ("wide.pgm", b"P5 60000 60000 255\n1234".to_vec()),
        ("many.ppm", b"P3 30000 30000 65535\n1 2 3 4".to_vec()),
    ] {
        let path = folder.file(name, &bytes);
        let error = refusal(&path).unwrap();
        let said = error.to_string();
        assert!(matches!(error, ReadError::TooLarge { .. }), "{said}");
        assert!(said.contains("reduce or crop it"), "{said}");
        assert!(read::size(&path).is_err(), "{name}");
    }
    // Within every limit, but not in so few bytes.
    for (name, bytes) in [
        ("short.png", png(10_000, 10_000)),
        ("short.bmp", bmp(10_000, 10_000)),
        ("short.tif", grey_tiff(10_000, 10_000)),
        ("short.pgm", b"P5 10000 10000 255\n1234".to_vec()),
    ] {
        let error = refusal(&folder.file(name, &bytes)).unwrap();
        assert!(matches!(error, ReadError::TooShort { .. }), "{error}");
    }
    let map = tiff(&grey(16_000, 16_000, 32, 3), &[0; 64]);
    let said = map_file::read(&folder.file("short.tiff", &map))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("short.tiff") && said.contains("too few"),
        "{said}"
    );
    let error = refusal(&folder.file("short.jpg", &jpeg(10_000, 10_000))).unwrap();
    assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
    // No claim of a WebP can be told from an image of one colour before it is decoded.
    let error = refusal(&folder.file("short.webp", &webp(9_000, 9_000))).unwrap();
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
}

#[test]
fn well_compressed_images_are_no_bombs() {
    let folder = Folder::new();
    let black = DynamicImage::new_luma8(1500, 1500);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
        let bytes = encoded(&black, format);
        let path = folder.file("black", &bytes);
        let image = read::read(&path).unwrap();
        assert!(image.pixels().iter().all(|value| *value < 0.01));
        assert!(Mask::read(&path, 3).unwrap().is_blank());
    }
}

#[test]
fn images_without_pixels_are_refused() {
    let folder = Folder::new();
    for (width, height) in [(0, 8), (8, 0), (0, 0)] {
        for (name, bytes) in [
            ("none.png", png(width, height)),
            ("none.jpg", jpeg(width as u16, height as u16)),
            ("none.bmp", bmp(width as i32, height as i32)),
            ("none.tif", grey_tiff(width, height)),
            (
                "none.ppm",
                format!("P6 {width} {height} 255\n").into_bytes(),
            ),
        ] {
            let path = folder.file(name, &bytes);
            let said = refusal(&path).unwrap().to_string();
            assert!(
                said.contains("remove it") || said.contains("convert it"),
                "{said}"
            );
            assert!(Mask::read(&path, 0).is_err(), "{name}");
        }
    }
    // 14 bits hold 1 to 16 384, and the decoder takes the last for 0.
    assert!(refusal(&folder.file("none.webp", &webp(16_384, 8))).is_some());
}

/// What a decompressor would make of a few kilobytes.
#[test]
fn colour_profiles_that_swell_are_kept_small() {
    let folder = Folder::new();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.set_icc_profile(vec![0; 65 << 20]).unwrap();
    encoder
        .write_image(&[7; 12], 2, 2, image::ExtendedColorType::Rgb8)
        .unwrap();
    assert!(bytes.len() < 1 << 20);
    let path = folder.file("profile.png", &bytes);
    // Profiles are ignored: the decoder may leave one out, or refuse the file.
    match read::read(&path) {
        Ok(image) => assert_eq!((image.width(), image.height()), (2, 2)),
        Err(error) => assert!(error.to_string().contains("profile.png"), "{error}"),
    }
}

#[test]
fn a_webp_whose_chunks_reach_beyond_it_is_cut_short() {
    let folder = Folder::new();
    let still = encoded(&photo(8, 8), ImageFormat::WebP);
    let mut body = b"WEBPVP8X\x0A\0\0\0\x08\0\0\0\x07\0\0\x07\0\0".to_vec();
    body.extend(&still[12..]);
    // An EXIF chunk of nearly 4 GiB.
    body.extend(b"EXIF\xF0\xFF\xFF\xFFMM\0\x2A");
    let bytes = [b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat();
    let path = folder.file("exif.webp", &bytes);
    let error = refusal(&path).unwrap();
    assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
    assert!(read::size(&path).is_err());
}

/// The content decides, not the name: a text, and a renamed JPEG as PNG.
#[test]
fn names_that_lie() {
    let folder = Folder::new();
    let path = folder.file("part.png", b"404 not found");
    let error = refusal(&path).unwrap();
    assert!(matches!(error, ReadError::UnknownFormat { .. }), "{error}");
    assert!(error.to_string().contains("convert it"), "{error}");
    let path = folder.file("part.png", &encoded(&photo(20, 10), ImageFormat::Jpeg));
    assert_eq!(read::size(&path).unwrap(), Size::new(20, 10));
    assert_eq!(read::read(&path).unwrap().width(), 20);
}

#[test]
fn depths_alpha_and_kinds_of_tiff() {
    let folder = Folder::new();
    let deep: Vec<u8> = [0u16, 65_535, 257, 0].map(u16::to_le_bytes).concat();
    let path = folder.file("deep.tif", &tiff(&grey(2, 2, 16, 1), &deep));
    let image = read::read(&path).unwrap();
    assert_eq!(image.pixel(0, 1), [1.0; 3]);
    assert_eq!(image.pixel(1, 0), [257.0 / 65_535.0; 3]);
    // What lies under a transparent pixel is read, in every format that has alpha.
    let clear = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(
        4,
        4,
        image::Rgba([255, 51, 0, 0]),
    ));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let image = read::read(&folder.file("clear", &encoded(&clear, format))).unwrap();
        assert_eq!(image.pixel(3, 3), [1.0, 0.2, 0.0], "{format:?}");
    }
    // Floats: a map is no image, unless its values lie in [0, 1].
    let floats: Vec<u8> = [0.5f32, f32::NAN, f32::INFINITY, -1.0]
        .map(f32::to_le_bytes)
        .concat();
    let path = folder.file("map.tif", &tiff(&grey(2, 2, 32, 3), &floats));
    let error = refusal(&path).unwrap();
    assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    let said = map_file::read(&path).unwrap_err().to_string();
    assert!(said.contains("row 0, column 1 is NaN"), "{said}");
    let said = Mask::read(&path, 0).unwrap_err().to_string();
    assert!(said.contains("map.tif"), "{said}");
}

/// A file with one field or byte changed at a time.
#[test]
fn no_field_of_a_tiff_breaks_a_reader() {
    let folder = Folder::new();
    let extremes = [
        0,
        1,
        2,
        3,
        4,
        8,
        0x7F,
        0xFF,
        0x7FFF,
        0xFFFF,
        0x1_0000,
        i32::MAX as u32,
        u32::MAX,
    ];
    for (bits, format) in [(8, 1), (32, 3)] {
        let pixels = vec![0; 64 * bits as usize / 8];
        let good = tiff(&grey(8, 8, bits, format), &pixels);
        let fields = grey(8, 8, bits, format).len();
        for field in 0..fields {
            let at = 10 + 12 * field;
            // The type, the count, the value.
            for (from, to) in [(2, 4), (4, 8), (8, 12)] {
                for value in extremes {
                    let mut bytes = good.clone();
                    bytes[at + from..at + to].copy_from_slice(&value.to_le_bytes()[..to - from]);
                    refusal(&folder.file("field.tif", &bytes));
                }
            }
            // Another tag instead: tiles, planes, predictors, palettes, further pages …
            for tag in [
                254u16, 266, 284, 317, 320, 322, 323, 324, 325, 330, 338, 347, 34675,
            ] {
                for value in [0, 1, 2, 0xFFFF, u32::MAX] {
                    let mut bytes = good.clone();
                    bytes[at..at + 2].copy_from_slice(&tag.to_le_bytes());
                    bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
                    refusal(&folder.file("tag.tif", &bytes));
                }
            }
        }
        // A chain of pages that ends in itself.
        let mut bytes = good;
        let next = 10 + 12 * fields;
        bytes[next..next + 4].copy_from_slice(&8u32.to_le_bytes());
        refusal(&folder.file("circle.tif", &bytes));
    }
}

#[test]
fn no_byte_of_a_header_breaks_a_reader() {
    let folder = Folder::new();
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Pnm,
    ] {
        let whole = encoded(&photo(9, 7), format);
        for at in 0..whole.len().min(120) {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if format == ImageFormat::Png {
                    // With the checksum of what now stands there.
                    let header = crc32(&bytes[12..29]);
                    bytes[29..33].copy_from_slice(&header.to_be_bytes());
                }
                refusal(&folder.file("header", &bytes));
            }
        }
    }
}

/// Cut at every byte, a file is refused, or every pixel of it was there.
#[test]
fn masks_and_maps_cut_anywhere() {
    let folder = Folder::new();
    let image = photo(9, 7);
    for format in [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Pnm,
    ] {
        let whole = encoded(&image, format);
        let complete = Mask::read(&folder.file("whole", &whole), 100).unwrap();
        for length in 0..whole.len() {
            let path = folder.file("cut", &whole[..length]);
            if let Ok(mask) = Mask::read(&path, 100) {
                assert_eq!(mask, complete, "{format:?} cut to {length}");
            }
        }
    }
    let pixels: Vec<u8> = (0..56).flat_map(|at| (at as f32).to_le_bytes()).collect();
    let whole = tiff(&grey(8, 7, 32, 3), &pixels);
    assert!(map_file::read(&folder.file("whole.tiff", &whole)).is_ok());
    for length in 0..whole.len() {
        let path = folder.file("cut.tiff", &whole[..length]);
        let said = map_file::read(&path).unwrap_err().to_string();
        assert!(said.contains("cut.tiff"), "{length}: {said}");
    }
    assert_eq!(image.dimensions(), (9, 7));
}

/// The files of other programs, cut and changed: every kind of TIFF, JPEG and PNM that is read.
#[test]
fn no_byte_of_another_programs_file_breaks_a_reader() {
    let folder = Folder::new();
    for original in oracle("images").into_iter().chain(oracle("refused_images")) {
        let whole = std::fs::read(&original).unwrap();
        let picture = read::read(&original).ok();
        // Numbers in text do not tell that their last digits are missing.
        let is_text = whole.starts_with(b"P2");
        for at in (0..whole.len()).step_by(11) {
            let path = folder.file("changed", &whole[..at]);
            if refusal(&path).is_none() && !is_text {
                // What was cut off was no pixel.
                let same = read::read(&path).ok() == picture;
                assert!(same, "{} cut to {at}", original.display());
            }
            for value in [0, whole[at] ^ 1, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                refusal(&folder.file("changed", &bytes));
            }
        }
    }
}

/// The kind of TIFF that cameras write, but with pages: full ones, thumbnails, and pages in a circle.
#[test]
fn pages_are_counted_with_a_bound() {
    let page = |kind: u32| {
        let mut fields = grey(2, 2, 8, 1).to_vec();
        fields.insert(0, (254, LONG, kind));
        fields
    };
    // Pages behind each other: each directory names the next one, the last one `end`.
    let chain = |kinds: &[u32], end: Option<usize>| {
        let mut bytes = b"II\x2A\0\x08\0\0\0".to_vec();
        let mut starts = Vec::new();
        for (index, &kind) in kinds.iter().enumerate() {
            let start = bytes.len();
            starts.push(start);
            let part = tiff(&page(kind), &[50, 100, 150, 200]);
            let mut part = part[8..].to_vec();
            let directory = 2 + 12 * page(kind).len();
            let next = match end {
                _ if index + 1 < kinds.len() => start + part.len(),
                Some(end) => starts[end],
                None => 0,
            };
            part[directory..directory + 4].copy_from_slice(&(next as u32).to_le_bytes());
            // The strip's place, counted from the file's start.
            let strip = 2 + 12 * 6 + 8;
            let pixels = (start + directory + 4) as u32;
            part[strip..strip + 4].copy_from_slice(&pixels.to_le_bytes());
            bytes.extend(part);
        }
        bytes
    };
    let folder = Folder::new();
    for (kinds, end) in [
        (&[0][..], None),
        (&[0, 1], None),
        (&[1, 0], None),
        (&[0, 4], None),
        (&[0], Some(0)),
        (&[1, 0, 1], Some(0)),
    ] {
        let path = folder.file("page.tif", &chain(kinds, end));
        match read::read(&path) {
            Ok(image) => assert_eq!(image.pixel(1, 1), [200.0 / 255.0; 3]),
            // A circle may be refused, but it ends.
            Err(error) => assert!(end.is_some(), "{kinds:?}: {error}"),
        }
    }
    for (kinds, expected) in [(&[0, 0][..], 2), (&[0, 1, 0, 0], 3)] {
        let path = folder.file("pages.tif", &chain(kinds, None));
        let error = refusal(&path).unwrap();
        assert!(
            matches!(error, ReadError::SeveralPages { pages, .. } if pages == expected),
            "{error}"
        );
    }
    // As many pages as nobody has.
    let path = folder.file("pages.tif", &chain(&[0; 11_000], None));
    let error = refusal(&path).unwrap();
    assert!(matches!(error, ReadError::SeveralPages { .. }), "{error}");
}
