//! Images that other programs wrote (`oracle/make_images.py`): every kind gives the same picture, or says why not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pupilla_core::image::read::{self, Depth, Limits, ReadError, ReadSettings};
use pupilla_core::image::{Image, Size};

const WIDTH: usize = 13;
const HEIGHT: usize = 9;

pub fn oracle(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/oracle")
        .join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// What the script draws, with these bits.
fn drawn(bits: u32, colour: bool) -> Vec<f32> {
    let top = (1u64 << bits) - 1;
    let pixels = (0..(WIDTH * HEIGHT) as u64).flat_map(|at| {
        let grey = at * top / 116;
        let values = [grey, top - grey, grey / 2];
        if colour { values } else { [grey; 3] }
    });
    pixels
        .map(|value| (value as f64 / top as f64) as f32)
        .collect()
}

fn difference(image: &Image, expected: &[f32]) -> f32 {
    assert_eq!(image.size(), Size::new(WIDTH, HEIGHT));
    let pairs = image.pixels().iter().zip(expected);
    pairs
        .map(|(got, expected)| (got - expected).abs())
        .fold(0.0, f32::max)
}

#[test]
fn every_kind_without_loss_gives_its_values() {
    let settings = ReadSettings::default();
    let mut read = 0;
    for path in oracle("images") {
        let name = name(&path);
        let mut parts = name.split(['_', '.']);
        let colour = match parts.next() {
            Some("grey") => false,
            Some("rgb") => true,
            _ => continue,
        };
        let (bits, depth) = match parts.next().unwrap() {
            "float" => (8, Depth::Float),
            "255" => (8, Depth::Bits(8)),
            "4095" => (12, Depth::Bits(12)),
            "1000" => (16, Depth::Bits(10)),
            bits => {
                let bits: u32 = bits.parse().unwrap();
                (bits, Depth::Bits(bits.max(8) as u8))
            }
        };
        let tolerance = match name {
            "grey_1000.pgm" => 1e-3,
            "grey_float_16.tif" => 1e-3,
            _ => 1e-6,
        };
        let (image, stored) = read::read_stored(&path, &settings).unwrap();
        let difference = difference(&image, &drawn(bits, colour));
        assert!(difference < tolerance, "{name}: {difference}");
        assert_eq!((stored.depth, stored.colour), (depth, colour), "{name}");
        let white = match depth {
            Depth::Bits(10) if name == "grey_1000.pgm" => 1000.0,
            Depth::Bits(bits) => ((1u64 << bits) - 1) as f32,
            Depth::Float => 1.0,
        };
        assert_eq!(stored.highest as f32, white, "{name}");
        assert_eq!(
            read::size(&path).unwrap(),
            Size::new(WIDTH, HEIGHT),
            "{name}"
        );
        // The decoded image, which masks are read from, has the same values in the range of its type.
        let decoded = read::decode(&path, &Limits::default()).unwrap();
        let decoded: Vec<f32> = decoded.to_rgb32f().into_raw();
        let difference = image
            .pixels()
            .iter()
            .zip(&decoded)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(difference < 1e-5, "{name}: {difference}");
        read += 1;
    }
    assert_eq!(read, 31);
}

#[test]
fn lossy_files_palettes_and_inks_are_as_another_program_decodes_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let text = std::fs::read_to_string(folder.join("images.json")).unwrap();
    let expected: HashMap<String, Vec<u8>> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 11);
    for (name, values) in expected {
        let image = read::read(&folder.join("images").join(&name)).unwrap();
        let values: Vec<f32> = values
            .iter()
            .map(|&value| f32::from(value) / 255.0)
            .collect();
        // Decoders round differently, and upsample colours differently.
        let tolerance = match name.as_str() {
            "palette.tif" | "fax.tif" => 1e-6,
            "cmyk.tif" => 1.01 / 255.0,
            _ => 6.0 / 255.0,
        };
        let difference = difference(&image, &values);
        assert!(difference < tolerance, "{name}: {}", difference * 255.0);
    }
}

#[test]
fn what_is_not_read_is_named() {
    let mut said = HashMap::new();
    for path in oracle("refused_images") {
        let error = read::read(&path).unwrap_err();
        assert!(read::size(&path).is_err());
        assert!(!matches!(error, ReadError::Damaged { .. }), "{error}");
        said.insert(name(&path).to_owned(), error.to_string());
    }
    for (name, part) in [
        (
            "animation.gif",
            "is a GIF image, which is not read: convert it to PNG",
        ),
        (
            "bands.tif",
            "cannot be read (a TIFF with 4 values a pixel): convert it",
        ),
        (
            "lzma.tif",
            "cannot be read (a TIFF with LZMA compression): convert it",
        ),
        ("pages.tif", "has 4 pages: save the page to look at"),
        (
            "signed.tif",
            "cannot be read (a TIFF with signed values): convert it",
        ),
        (
            "zstd.tif",
            "cannot be read (a TIFF with ZSTD compression): convert it",
        ),
    ] {
        let said = said.remove(name).unwrap();
        assert!(said.contains(part), "{said}");
    }
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn significant_bits_set_white() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/images");
    let read = |name: &str, bits| {
        let settings = ReadSettings {
            bits: Some(bits),
            ..ReadSettings::default()
        };
        read::read_stored(&folder.join(name), &settings)
    };
    for (name, bits) in [
        ("grey_12_packed.tif", 12),
        ("grey_4095.pgm", 12),
        ("grey_16_big_endian.tif", 16),
        ("rgb_8_bigtiff.tif", 8),
        ("baseline.jpg", 8),
    ] {
        let (image, stored) = read(name, bits).unwrap();
        let plain = read::read(&folder.join(name)).unwrap();
        assert_eq!(image, plain, "{name}");
        assert!(stored.highest <= f64::from((1u32 << bits) - 1), "{name}");
    }
    // 12 bits in a file of 16.
    let written = tempfile::tempdir().unwrap();
    let path = written.path().join("deep.png");
    let values = vec![0u16, 4095, 1000, 17];
    let image = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(2, 2, values).unwrap();
    image.save(&path).unwrap();
    let settings = |bits| ReadSettings {
        bits,
        ..ReadSettings::default()
    };
    let (image, stored) = read::read_stored(&path, &settings(Some(12))).unwrap();
    assert_eq!(image.pixel(0, 1), [1.0; 3]);
    assert_eq!(image.pixel(1, 0), [1000.0 / 4095.0; 3]);
    assert_eq!((stored.depth, stored.highest), (Depth::Bits(16), 4095.0));
    let (plain, stored) = read::read_stored(&path, &settings(None)).unwrap();
    assert_eq!(plain.pixel(0, 1), [4095.0 / 65_535.0; 3]);
    assert_eq!(stored.highest, 4095.0);
    let error = read::read_with(&path, &settings(Some(10))).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("deep.png holds the value 4095, more than 10 bits"),
        "{said}"
    );
    for name in ["baseline.jpg", "grey_8_alpha.tif", "grey_10_packed.tif"] {
        let error = read(name, 12).unwrap_err();
        assert!(matches!(error, ReadError::OtherDepth { .. }), "{error}");
        assert!(error.to_string().contains("but 12 bits were expected"));
    }
    let said = read("grey_float.tif", 12).unwrap_err().to_string();
    assert!(said.contains("has floating-point values"), "{said}");
}

/// A JPEG is complete if all of its blocks are there, whatever follows them; and cut short if blocks are missing, whatever follows.
#[test]
fn the_blocks_of_a_jpeg_decide_whether_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.jpg");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        read::read(&path)
    };
    let images = oracle("images");
    let images = images.iter().filter(|path| name(path).ends_with(".jpg"));
    let mut files = 0;
    for image in images {
        let name = name(image);
        let whole = std::fs::read(image).unwrap();
        let complete = read(&whole).unwrap();
        let end = whole.len() - 2;
        assert_eq!(whole[end..], [0xFF, 0xD9]);
        for rest in [
            &[][..],
            &[0, 0, 0],
            &[0xFF, 0xD9, 1, 2, 3],
            &whole[end..],
            &[&whole[end..], &whole].concat(),
        ] {
            let image = read(&[&whole[..end], rest].concat()).unwrap();
            assert_eq!(image, complete, "{name}");
        }
        let thumbnail = [
            &[0xFF, 0xE1][..],
            &(whole.len() as u16 + 2).to_be_bytes(),
            &whole,
        ]
        .concat();
        for cut in (2..end).step_by(3).chain(end - 4..end) {
            let error = read(&whole[..cut]).unwrap_err();
            let is_cut = matches!(error, ReadError::Truncated { .. });
            assert!(is_cut, "{name} cut to {cut} bytes: {error}");
            for bytes in [
                [&whole[..cut], &[0xFF, 0xD9]].concat(),
                [&whole[..2], &thumbnail, &whole[2..cut]].concat(),
            ] {
                assert!(read(&bytes).is_err(), "{name} cut to {cut} bytes");
            }
        }
        files += 1;
    }
    assert_eq!(files, 5);
}

#[test]
fn a_strip_of_a_tiff_that_lacks_blocks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("strip.tif");
    for image in oracle("images") {
        if !name(&image).starts_with("jpeg_") {
            continue;
        }
        let mut bytes = std::fs::read(&image).unwrap();
        let scan = bytes.windows(2).position(|two| two == [0xFF, 0xDA]);
        let data = scan.unwrap() + 14;
        bytes[data + 10..data + 12].copy_from_slice(&[0xFF, 0xD9]);
        std::fs::write(&path, bytes).unwrap();
        let error = read::read(&path).unwrap_err();
        let is_cut = matches!(error, ReadError::Truncated { .. });
        assert!(is_cut, "{}: {error}", image.display());
    }
}

#[test]
fn kinds_of_jpeg_that_cannot_be_read_are_not_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = oracle("images")
        .into_iter()
        .find(|path| name(path) == "baseline.jpg")
        .unwrap();
    let whole = std::fs::read(baseline).unwrap();
    let frame = whole
        .windows(2)
        .position(|two| two == [0xFF, 0xC0])
        .unwrap();
    for (marker, precision, kind) in [
        (0xC1, 12, "a 12-bit JPEG"),
        (0xC2, 12, "a 12-bit JPEG"),
        (0xC3, 8, "a lossless JPEG"),
        (0xC3, 16, "a lossless JPEG"),
        (0xC5, 8, "a hierarchical JPEG"),
        (0xC9, 8, "a JPEG with arithmetic coding"),
        (0xCA, 8, "a JPEG with arithmetic coding"),
        (0xCB, 8, "a JPEG with arithmetic coding"),
        (0xF7, 8, "a JPEG-LS image"),
    ] {
        let mut bytes = whole.clone();
        bytes[frame + 1] = marker;
        bytes[frame + 4] = precision;
        let path = folder.path().join("kind.jpg");
        std::fs::write(&path, bytes).unwrap();
        for error in [read::read(&path).err(), read::size(&path).err()] {
            let said = error.unwrap().to_string();
            let expected = format!("of a kind that cannot be read ({kind}): convert it");
            assert!(said.contains(&expected), "{said}");
        }
    }
    // Extended sequential JPEG of 8 bits is read.
    let mut bytes = whole;
    bytes[frame + 1] = 0xC1;
    let path = folder.path().join("extended.jpg");
    std::fs::write(&path, bytes).unwrap();
    assert!(read::read(&path).is_ok());
}
