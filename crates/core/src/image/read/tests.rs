use super::*;
use image::{ExtendedColorType, ImageBuffer, ImageEncoder, ImageFormat, Luma, Rgb, Rgba};
use std::path::PathBuf;

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

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A picture with structure in both directions, so that a flip or a cut shows.
fn photo(width: u32, height: u32) -> ImageBuffer<Rgb<u8>, Vec<u8>> {
    ImageBuffer::from_fn(width, height, |x, y| {
        Rgb([
            (x * 255 / width) as u8,
            (y * 255 / height) as u8,
            ((x * 7 + y * 13) % 64) as u8,
        ])
    })
}

const FORMATS: [(ImageFormat, &str); 6] = [
    (ImageFormat::Png, "png"),
    (ImageFormat::Jpeg, "jpg"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::Tiff, "tif"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Pnm, "ppm"),
];

#[test]
fn every_format_reads_whatever_its_name() {
    let folder = Folder::new();
    for (format, extension) in FORMATS {
        let path = folder.file("picture.png", &encoded(photo(20, 10), format));
        let image = read(&path).unwrap();
        assert_eq!((image.width(), image.height()), (20, 10), "{extension}");
        assert_eq!(size(&path).unwrap(), Size::new(20, 10), "{extension}");
        let differences: Vec<f32> = (image.pixels().iter())
            .zip(photo(20, 10).as_raw())
            .map(|(got, expected)| (got - f32::from(*expected) / 255.0).abs())
            .collect();
        if format == ImageFormat::Jpeg {
            let mean = differences.iter().sum::<f32>() / differences.len() as f32;
            assert!(mean < 0.1, "{extension}: {mean}");
        } else {
            assert!(differences.iter().all(|&d| d < 1e-6), "{extension}");
        }
    }
}

#[test]
fn depths_and_colours_become_rgb_in_the_unit_interval() {
    let folder = Folder::new();
    let read = |image: DynamicImage| {
        let path = folder.file("x.png", &encoded(image, ImageFormat::Png));
        read(&path).unwrap().pixel(0, 0)
    };
    let grey8: ImageBuffer<Luma<u8>, _> = ImageBuffer::from_pixel(1, 1, Luma([51]));
    assert_eq!(read(grey8.into()), [0.2; 3]);
    let grey16: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([257]));
    assert_eq!(read(grey16.into()), [257.0 / 65_535.0; 3]);
    let rgb16: ImageBuffer<Rgb<u16>, _> = ImageBuffer::from_pixel(1, 1, Rgb([0, 13_107, 65_535]));
    assert_eq!(read(rgb16.into()), [0.0, 0.2, 1.0]);
    // Fully transparent, and still read as stored.
    let rgba: ImageBuffer<Rgba<u8>, _> = ImageBuffer::from_pixel(1, 1, Rgba([255, 51, 0, 0]));
    assert_eq!(read(rgba.into()), [1.0, 0.2, 0.0]);
}

#[test]
fn values_in_memory_become_what_their_file_becomes() {
    let folder = Folder::new();
    let name = Path::new("values");
    let size = Size::new(5, 3);
    let colours: Vec<u16> = (0..45).map(|value| value * 1400).collect();
    let bytes: Vec<u8> = colours.iter().map(|value| (value / 257) as u8).collect();
    let deep = ImageBuffer::<Rgb<u16>, _>::from_raw(5, 3, colours.clone()).unwrap();
    let grey = ImageBuffer::<Luma<u16>, _>::from_raw(5, 3, colours[..15].to_vec()).unwrap();
    let shallow = ImageBuffer::<Rgb<u8>, _>::from_raw(5, 3, bytes.clone()).unwrap();
    let cases: [(DynamicImage, Values); 3] = [
        (deep.into(), Values::Bits16(colours.clone())),
        (grey.into(), Values::Bits16(colours[..15].to_vec())),
        (shallow.into(), Values::Bits8(bytes.clone())),
    ];
    for (number, (image, values)) in cases.into_iter().enumerate() {
        let content = encoded(image, ImageFormat::Png);
        let path = folder.file(&number.to_string(), &content);
        let held = StoredImage::of_values(size, values).unwrap();
        assert_eq!(held.size(), size);
        let of_file = read_stored(&path, &ReadSettings::default()).unwrap();
        assert_eq!(held.to_image(name, None).unwrap(), of_file, "{number}");
        let decoded = decode_bytes(name, content, &Limits::default()).unwrap();
        assert_eq!(decoded.to_image(name, None).unwrap(), of_file, "{number}");
    }
    let floats: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    let float = StoredImage::of_values(size, Values::Float(floats)).unwrap();
    let (image, stored) = float.to_image(name, None).unwrap();
    let of_bytes = StoredImage::of_values(size, Values::Bits8(bytes)).unwrap();
    assert_eq!(image, of_bytes.to_image(name, None).unwrap().0);
    assert_eq!((stored.depth, stored.colour), (Depth::Float, true));
    let grey = StoredImage::of_values(size, Values::Float(vec![0.5; 15])).unwrap();
    assert!(!grey.to_image(name, None).unwrap().1.colour);
    let high = StoredImage::of_values(size, Values::Float(vec![1.5; 15])).unwrap();
    let error = high.to_image(name, None).unwrap_err().to_string();
    assert!(error.starts_with("values holds the value 1.5"), "{error}");
    for (size, count) in [(size, 14), (size, 30), (Size::new(0, 3), 0)] {
        let none = StoredImage::of_values(size, Values::Bits8(vec![0; count]));
        assert!(none.is_none(), "{size} {count}");
    }
}

#[test]
fn a_palette_is_looked_up() {
    let folder = Folder::new();
    // 2×1, two palette entries: red, then a blue-ish one.
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(kind);
        bytes.extend(data);
        bytes.extend(crc32(&[kind.as_slice(), data].concat()).to_be_bytes());
    };
    chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, 8, 3, 0, 0, 0]);
    chunk(b"PLTE", &[255, 0, 0, 0, 51, 255]);
    // zlib: one stored block of three bytes (filter 0, indices 1 and 0), Adler-32.
    chunk(
        b"IDAT",
        &[0x78, 1, 1, 3, 0, 0xFC, 0xFF, 0, 1, 0, 0, 5, 0, 2],
    );
    chunk(b"IEND", &[]);
    let image = read(&folder.file("palette.png", &bytes)).unwrap();
    assert_eq!(image.pixel(0, 0), [0.0, 0.2, 1.0]);
    assert_eq!(image.pixel(0, 1), [1.0, 0.0, 0.0]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A JPEG with an EXIF segment that holds an orientation and nothing else.
fn oriented_jpeg(orientation: u8) -> Vec<u8> {
    // Left half black, right half white.
    let image: ImageBuffer<Luma<u8>, _> =
        ImageBuffer::from_fn(32, 16, |x, _| Luma([if x < 16 { 0 } else { 255 }]));
    let plain = encoded(image, ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01".to_vec();
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    exif.extend([0; 4]);
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xFF, 0xE1]);
    bytes.extend((exif.len() as u16 + 2).to_be_bytes());
    bytes.extend(exif);
    bytes.extend(&plain[2..]);
    bytes
}

#[test]
fn exif_orientation_is_applied() {
    let folder = Folder::new();
    for (orientation, (width, height), white) in [
        (1, (32, 16), (0, 31)),
        (3, (32, 16), (0, 0)),
        (6, (16, 32), (31, 0)),
        (8, (16, 32), (0, 0)),
    ] {
        let path = folder.file("turned.jpg", &oriented_jpeg(orientation));
        let image = read(&path).unwrap();
        assert_eq!((image.width(), image.height()), (width, height));
        assert_eq!(size(&path).unwrap(), Size::new(width, height));
        assert!(image.pixel(white.0, white.1)[0] > 0.9, "{orientation}");
        let (row, column) = (height - 1 - white.0, width - 1 - white.1);
        assert!(image.pixel(row, column)[0] < 0.1, "{orientation}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let folder = Folder::new();
    for (format, extension) in FORMATS {
        let whole = encoded(photo(33, 21), format);
        // What a PNG ends with (CRC and IEND), a WebP's padding and a JPEG's end marker carry no pixels.
        let needed = match format {
            ImageFormat::Png => whole.len() - 16,
            ImageFormat::WebP => whole.len() - 1,
            ImageFormat::Jpeg => whole.len() - 2,
            _ => whole.len(),
        };
        for length in (1..needed).step_by(if whole.len() > 1000 { 23 } else { 1 }) {
            let path = folder.file("cut.img", &whole[..length]);
            let error = read(&path)
                .map(drop)
                .expect_err(&format!("{extension} cut to {length} bytes"));
            assert!(error.to_string().contains("cut.img"));
            assert_eq!(error.path(), path);
        }
    }
}

#[test]
fn damaged_bytes_never_panic() {
    let folder = Folder::new();
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for (format, _) in FORMATS {
        let whole = encoded(photo(17, 9), format);
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..=random() % 4 {
                let at = random() % bytes.len().min(if random() % 2 == 0 { 64 } else { 4096 });
                bytes[at] = random() as u8;
            }
            let path = folder.file("damaged", &bytes);
            let _ = read(&path);
            let _ = size(&path);
        }
    }
}

#[test]
fn bad_files_have_an_error_each() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing.png");
    assert!(matches!(read(&missing), Err(ReadError::NotFound { .. })));
    assert!(matches!(
        read(folder.0.path()),
        Err(ReadError::NotAFile { .. })
    ));
    let empty = folder.file("empty.png", b"");
    assert!(matches!(read(&empty), Err(ReadError::Empty { .. })));
    let text = folder.file("text.png", b"hello, this is text");
    assert!(matches!(read(&text), Err(ReadError::UnknownFormat { .. })));
    let zeros = folder.file("zeros.png", &[0; 4096]);
    assert!(matches!(read(&zeros), Err(ReadError::Damaged { .. })));
    // A header that promises 60 000 × 60 000 pixels, in a file of a few bytes.
    let mut huge = encoded(photo(4, 4), ImageFormat::Bmp);
    huge[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    huge[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    let huge = folder.file("huge.bmp", &huge);
    let error = read(&huge).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
    let photo = folder.file("photo.png", &encoded(photo(40, 30), ImageFormat::Png));
    let with = |limits| ReadSettings { limits, bits: None };
    let limits = Limits {
        pixels: 1199,
        ..Limits::default()
    };
    let error = read_with(&photo, &with(limits)).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { width: 40, .. }));
    let limits = Limits {
        file_bytes: 10,
        ..limits
    };
    let error = read_with(&photo, &with(limits)).unwrap_err();
    assert!(matches!(error, ReadError::FileTooLarge { .. }));
}

#[test]
fn floating_point_values_must_lie_in_the_unit_interval() {
    let folder = Folder::new();
    let tiff = |value: f32| {
        let image: ImageBuffer<Rgb<f32>, _> =
            ImageBuffer::from_pixel(2, 2, Rgb([0.25, 1.0, value]));
        folder.file("float.tif", &encoded(image, ImageFormat::Tiff))
    };
    assert_eq!(read(&tiff(0.5)).unwrap().pixel(1, 1), [0.25, 1.0, 0.5]);
    for bad in [f32::NAN, f32::INFINITY, -0.1, 1.5] {
        let error = read(&tiff(bad)).unwrap_err();
        assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn an_animation_is_refused() {
    let folder = Folder::new();
    let whole = {
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&[7; 12], 2, 2, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    };
    // acTL (two frames, endless) after IHDR makes a PNG an animation.
    let mut animated = whole[..33].to_vec();
    let chunk = [b"acTL".as_slice(), &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
    animated.extend(8u32.to_be_bytes());
    animated.extend(&chunk);
    animated.extend(crc32(&chunk).to_be_bytes());
    animated.extend(&whole[33..]);
    let path = folder.file("animated.png", &animated);
    assert!(matches!(read(&path), Err(ReadError::Animated { .. })));
}

#[test]
fn an_animated_webp_is_refused_too() {
    let folder = Folder::new();
    let still = encoded(photo(2, 2), ImageFormat::WebP);
    // Everything behind RIFF, the length and WEBP is one chunk: the frame's pixels.
    let pixels = &still[12..];
    let mut body = b"WEBPVP8X\x0A\0\0\0\x02\0\0\0\x01\0\0\x01\0\0".to_vec();
    body.extend(b"ANIM\x06\0\0\0\0\0\0\0\0\0");
    for _ in 0..2 {
        body.extend(b"ANMF");
        body.extend((16 + pixels.len() as u32).to_le_bytes());
        body.extend(b"\0\0\0\0\0\0\x01\0\0\x01\0\0\x0A\0\0\0");
        body.extend(pixels);
    }
    let bytes = [b"RIFF", (body.len() as u32).to_le_bytes().as_slice(), &body].concat();
    let path = folder.file("animated.webp", &bytes);
    let error = read(&path).unwrap_err();
    assert!(matches!(error, ReadError::Animated { .. }), "{error}");
}

#[test]
fn a_cmyk_jpeg_becomes_rgb() {
    let folder = Folder::new();
    // 8×8, four components without subsampling, every coefficient 0: all values are 128. Each
    // Huffman table has one code, "0": "no difference" for DC, "end of block" for AC.
    let mut bytes = vec![0xFF, 0xD8];
    let mut segment = |marker: u8, content: &[u8]| {
        bytes.extend([0xFF, marker]);
        bytes.extend((content.len() as u16 + 2).to_be_bytes());
        bytes.extend(content);
    };
    segment(0xEE, b"Adobe\0\x64\0\0\0\0\0");
    segment(0xDB, &[[0].as_slice(), &[1; 64]].concat());
    let components = [1, 2, 3, 4].map(|id| [id, 0x11, 0]).concat();
    segment(0xC0, &[[8, 0, 8, 0, 8, 4].as_slice(), &components].concat());
    for table in [0x00, 0x10] {
        segment(0xC4, &[[table, 1].as_slice(), &[0; 15], &[0]].concat());
    }
    let components = [1, 2, 3, 4].map(|id| [id, 0]).concat();
    segment(0xDA, &[[4].as_slice(), &components, &[0, 63, 0]].concat());
    bytes.extend([0x00, 0xFF, 0xD9]);
    let image = read(&folder.file("cmyk.jpg", &bytes)).unwrap();
    assert_eq!((image.width(), image.height()), (8, 8));
    // Half the ink of each of three colours, and half black.
    let [red, green, blue] = image.pixel(4, 4);
    assert!(
        (red - 0.25).abs() < 0.01 && red == green && green == blue,
        "{red}"
    );
}

#[test]
fn formats_that_are_not_read_are_named() {
    let folder = Folder::new();
    let dicom = [&[0; 128][..], b"DICM"].concat();
    for (start, name) in [
        (
            &b"GIF89a\x01\0\x01\0"[..],
            "a GIF image, which is not read: convert it to PNG",
        ),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC image"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF image"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xFF\x0A\0\0", "a JPEG XL image"),
        (b"8BPS\0\x01", "a Photoshop image"),
        (&dicom, "a DICOM image"),
        (b"v/1\x01\x02\0\0\0", "an OpenEXR image"),
        (b"II\x2A\0\x10\0\0\0CR\x02\0", "a raw camera file"),
        (b"%PDF-1.7", "a PDF document"),
        (
            b"\xEF\xBB\xBF\n<?xml version='1.0'?><svg>",
            "an SVG drawing",
        ),
        (
            b"<!DOCTYPE HTML><html>",
            "an HTML page, which is not read: put the image itself in its place",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "a pointer of Git LFS",
        ),
    ] {
        let path = folder.file("part.jpg", start);
        for error in [read(&path).err(), size(&path).err()] {
            let said = error.unwrap().to_string();
            assert!(said.contains(&format!("part.jpg is {name}")), "{said}");
        }
    }
}

#[test]
fn extensions_in_either_case() {
    assert!(has_image_extension(Path::new("a/B.PNG")));
    assert!(has_image_extension(Path::new("a.b.tiff")));
    assert!(has_image_extension(Path::new("photo.jfif")));
    assert!(has_image_extension(Path::new("line1.PGM")));
    assert!(!has_image_extension(Path::new("photo.heic")));
    assert!(has_unread_image_extension(Path::new("photo.HEIC")));
    assert!(!has_unread_image_extension(Path::new("photo.png")));
    assert!(!has_unread_image_extension(Path::new("notes.txt")));
    assert!(!has_image_extension(Path::new("png")));
    assert!(!has_image_extension(Path::new("notes.txt")));
}
