//! Copies of a picture are no further evidence: they are told, and count once.

use std::fs;
use std::path::Path;

use image::{DynamicImage, ImageBuffer, Rgb, RgbImage};

use crate::data::{
    QUICK, assert_failure, assert_success, dataset, good, run, stderr, stdout, text,
};

/// The same picture in 16 bits: every level times 257.
fn in_16_bits(image: &RgbImage) -> DynamicImage {
    let pixels = image
        .pixels()
        .flat_map(|pixel| pixel.0.map(|level| u16::from(level) * 257));
    let pixels: Vec<u16> = pixels.collect();
    let buffer: ImageBuffer<Rgb<u16>, _> =
        ImageBuffer::from_vec(image.width(), image.height(), pixels).unwrap();
    buffer.into()
}

fn train(images: &Path, out: &Path) -> std::process::Output {
    run(&[&["train", text(images), "--out", text(out)], &QUICK[..]].concat())
}

#[test]
fn copies_in_any_encoding_are_learned_once() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("good");
    fs::create_dir(&images).unwrap();
    for seed in 0..10 {
        let image = good(seed);
        image.save(images.join(format!("{seed:03}.png"))).unwrap();
        match seed % 3 {
            0 => image.save(images.join(format!("{seed:03}.bmp"))).unwrap(),
            1 => in_16_bits(&image)
                .save(images.join(format!("{seed:03}-16.png")))
                .unwrap(),
            _ => {}
        }
    }
    let out = folder.path().join("m.pupilla");
    let output = train(&images, &out);
    assert_success(&output);
    let told = stderr(&output);
    assert!(
        told.contains("7 of 17 images are copies of others") && told.contains("taken once"),
        "{told}"
    );
    let printed = stdout(&output);
    assert!(
        printed.contains("8 good images learned, 2 kept back"),
        "{printed}"
    );
    assert!(
        printed.contains("at most 33.3 % of good parts are called defective on average, 1 in 3"),
        "{printed}"
    );
    assert!(printed.contains("1 % takes 99 good images"), "{printed}");
}

#[test]
fn a_folder_of_one_picture_cannot_be_split() {
    let folder = tempfile::tempdir().unwrap();
    for index in 0..4 {
        good(1)
            .save(folder.path().join(format!("{index}.png")))
            .unwrap();
    }
    let out = folder.path().join("m.pupilla");
    let output = train(folder.path(), &out);
    assert_failure(
        &output,
        1,
        &[
            "3 of 4 images are copies",
            "1 good image(s) cannot be split",
        ],
    );
    assert!(!out.exists());
}

#[test]
fn calibration_counts_pictures_and_knows_the_learned_in_another_encoding() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m.pupilla");
    assert_success(&train(&parts, &out));
    let calibrate = |images: &Path| {
        run(&[
            "calibrate",
            text(&out),
            text(images),
            "--false-reject",
            "5%",
            "--threads",
            "1",
        ])
    };

    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    for index in 0..19 {
        good(70).save(copies.join(format!("{index}.png"))).unwrap();
    }
    let output = calibrate(&copies);
    assert_success(&output);
    assert!(
        stdout(&output).contains("1 good images"),
        "{}",
        stdout(&output)
    );
    assert!(stderr(&output).contains("needs at least 19 good images, there are 1"));

    // Each of the learned pictures and of the one that was kept back, in other encodings.
    let learned = folder.path().join("learned");
    fs::create_dir(&learned).unwrap();
    for index in 0..6 {
        good(index)
            .save(learned.join(format!("{index}.bmp")))
            .unwrap();
        in_16_bits(&good(index))
            .save(learned.join(format!("{index}.png")))
            .unwrap();
    }
    let output = calibrate(&learned);
    assert_success(&output);
    assert!(
        stdout(&output).contains("1 good images"),
        "{}",
        stdout(&output)
    );
    assert!(stderr(&output).contains("has learned from 5 of these images"));
}
