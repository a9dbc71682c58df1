//! Troubles that people have had with folders, labels and cameras: what is passed over is told, what is mixed is warned of, and every
//! message names the remedy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, RgbaImage};
use serde_json::Value;
use tempfile::TempDir;

use crate::data::{
    QUICK, SIDE, assert_failure, assert_success, dataset, defective, good, mask, run, stderr,
    stdout, text,
};

/// A model of the images of [`dataset`], made once.
fn model() -> &'static Path {
    static MODEL: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let (folder, parts) = dataset();
        let path = folder.path().join("m.pupilla");
        assert_success(&train(&parts, &path, &[]));
        (folder, path)
    });
    path
}

fn train(data: &Path, out: &Path, more: &[&str]) -> Output {
    let words = ["train", text(data), "--out", text(out)];
    run(&[&words, &QUICK[..], more].concat())
}

/// A folder with these good images; the number in the name draws the image.
fn images(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let number: String = name.chars().filter(char::is_ascii_digit).collect();
        let image = good(number.parse().unwrap());
        let format = match path.extension().unwrap().to_str().unwrap() {
            "jfif" | "jpe" => image::ImageFormat::Jpeg,
            _ => image::ImageFormat::from_path(&path).unwrap(),
        };
        image.save_with_format(&path, format).unwrap();
    }
    folder
}

#[track_caller]
fn assert_told(output: &Output, words: &[&str]) {
    let told = format!("{}{}", stdout(output), stderr(output));
    for word in words {
        assert!(told.contains(word), "{word:?} is not in: {told}");
    }
}

#[track_caller]
fn assert_not_told(output: &Output, word: &str) {
    let told = format!("{}{}", stdout(output), stderr(output));
    assert!(!told.contains(word), "{word:?} is in: {told}");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn folders_below_are_told_and_taken_on_request() {
    let folder = images(&[
        "0.png",
        "1.png",
        "2.jfif",
        "day2/3.png",
        "day2/4.jpe",
        "day2/deep/5.png",
    ]);
    let path = folder.path();
    fs::write(path.join("notes.txt"), "").unwrap();
    fs::write(path.join("x.gif"), "GIF89a").unwrap();
    fs::write(path.join(".hidden.png"), "").unwrap();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("m");
    let alone = train(path, &out, &[]);
    assert_success(&alone);
    assert_told(
        &alone,
        &[
            "1 folder with 3 images (day2)",
            "(.gif)",
            "1 other file (.txt)",
            "1 hidden entry",
            "--recursive takes the folders below",
            "2 good images learned, 1 kept back",
        ],
    );
    let below = train(path, &out, &["--recursive", "--force"]);
    assert_success(&below);
    assert_told(&below, &["5 good images learned, 1 kept back"]);
    for (more, count) in [
        (&[][..], "3 good images to learn"),
        (&["--recursive"], "6 good images"),
    ] {
        let check = run(&[&["check", text(path)], more].concat());
        assert_success(&check);
        assert_told(&check, &[count]);
    }
    let inspected = run(&["inspect", text(model()), text(path)]);
    assert_success(&inspected);
    assert_told(
        &inspected,
        &["of 6 images", "passed over: 1 image of a format"],
    );
    // Folders of defects and of masks are not learned.
    fs::rename(path.join("day2/deep"), path.join("day2/masks")).unwrap();
    let below = train(path, &out, &["--recursive", "--force"]);
    assert_success(&below);
    assert_told(
        &below,
        &["1 folder with 1 image (masks)", "4 good images learned"],
    );
}

#[test]
fn a_folder_of_folders_and_a_folder_of_other_formats_say_what_helps() {
    let folder = images(&["monday/0.png", "tuesday/1.png"]);
    let out = folder.path().join("m");
    let below = train(folder.path(), &out, &[]);
    assert_failure(&below, 1, &["monday, tuesday", "--recursive"]);
    assert_success(&train(folder.path(), &out, &["--recursive"]));
    let other = tempfile::tempdir().unwrap();
    for name in ["a.gif", "b.heic", "c.txt"] {
        fs::write(other.path().join(name), "x").unwrap();
    }
    let words = ["not read (.gif, .heic)", "1 other file (.txt)"];
    for command in ["train", "check", "inspect"] {
        let output = match command {
            "train" => train(other.path(), &out, &[]),
            "check" => run(&["check", text(other.path())]),
            _ => run(&["inspect", text(model()), text(other.path())]),
        };
        assert_failure(&output, 1, &words);
    }
}

#[test]
fn check_looks_at_what_train_takes_and_never_passes_nothing() {
    let folder = images(&["0.png", "1.png", "2.png", "old/test/3.png"]);
    let check = run(&["check", text(folder.path())]);
    assert_success(&check);
    assert_told(&check, &["3 good images to learn from", "old"]);

    let folder = images(&["test/0.png", "test/1.png"]);
    let check = run(&["check", text(folder.path())]);
    assert_eq!(check.status.code(), Some(3));
    assert_told(&check, &["images without a label", "test/0.png"]);
    let eval = run(&["eval", text(model()), text(folder.path())]);
    assert_failure(&eval, 1, &["2 images without a label", "<defect>"]);

    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("test")).unwrap();
    let check = run(&["check", text(folder.path())]);
    assert_eq!(check.status.code(), Some(3));
}

#[test]
fn label_images_are_no_photographs() {
    let folder = images(&["0.png", "1.png", "2.png", "3.png"]);
    mask().save(folder.path().join("2_label.bmp")).unwrap();
    let inspected = run(&["inspect", text(model()), text(folder.path())]);
    assert_success(&inspected);
    assert_told(
        &inspected,
        &["of 4 images", "1 mask beside its image (2_label.bmp)"],
    );
    // Beside most images, they are the layout of KolektorSDD.
    let (folder, parts) = dataset();
    let beside = folder.path().join("beside");
    fs::create_dir(&beside).unwrap();
    for index in 0..6 {
        let name = format!("{index:03}.png");
        fs::copy(parts.join("train/good").join(&name), beside.join(&name)).unwrap();
        let label = beside.join(format!("{index:03}_label.bmp"));
        GrayImage::new(SIDE, SIDE).save(label).unwrap();
    }
    defective(9).save(beside.join("9.png")).unwrap();
    mask().save(beside.join("9_label.bmp")).unwrap();
    let trained = train(&beside, &folder.path().join("m"), &[]);
    assert_success(&trained);
    assert_told(
        &trained,
        &["a label image beside each image", "1 defective"],
    );
}

#[test]
fn good_beside_bad_is_trained_and_measured_without_leak() {
    let folder = tempfile::tempdir().unwrap();
    let parts = folder.path().join("parts");
    for (kind, count) in [("good", 20), ("bad", 3)] {
        fs::create_dir_all(parts.join(kind)).unwrap();
        for index in 0..count {
            let image = match kind {
                "good" => good(index),
                _ => defective(100 + index),
            };
            image
                .save(parts.join(kind).join(format!("{index}.png")))
                .unwrap();
        }
    }
    let out = folder.path().join("m");
    let trained = train(&parts, &out, &[]);
    assert_success(&trained);
    assert_told(
        &trained,
        &[
            "folders of good and defective images",
            "3 defective: bad 3)",
        ],
    );
    let target = folder.path().join("e.json");
    let eval = run(&[
        "eval",
        text(&out),
        text(&parts),
        &format!("--json={}", text(&target)),
    ]);
    assert_success(&eval);
    assert_told(&eval, &["no defective image has a mask"]);
    assert_not_told(&eval, "measures are too good");
    let measured = json(&target);
    assert!(measured["au_pro"].is_null() && measured["image_auroc"].is_number());
    // All good images are learned, and some of them tested: that is told.
    assert_success(&train(&parts.join("good"), &out, &["--force"]));
    let eval = run(&["eval", text(&out), text(&parts)]);
    assert_success(&eval);
    assert_told(&eval, &["the model has learned from"]);
    // A folder that is called bad is no folder of good images, and the test part is not there to calibrate on.
    let bad = train(&parts.join("bad"), &out, &["--force"]);
    assert_told(&bad, &["the folder is called bad"]);
    assert_success(&train(&parts, &out, &["--force"]));
    for name in ["good", "bad", ""] {
        let calibrate = run(&["calibrate", text(&out), text(&parts.join(name))]);
        assert_failure(&calibrate, 2, &["--train-good"]);
    }
    // Names of other makers.
    fs::rename(parts.join("good"), parts.join("fine")).unwrap();
    let unknown = train(&parts, &out, &["--force"]);
    assert_failure(&unknown, 1, &["bad, fine"]);
    let named = train(&parts, &out, &["--force", "--good", "fine"]);
    assert_success(&named);
    assert_told(&named, &["3 defective: bad 3)"]);
}

#[test]
fn masks_are_optional_and_their_faults_are_told() {
    let (_folder, parts) = dataset();
    let masks = parts.join("ground_truth/square");
    let eval = || run(&["eval", text(model()), text(&parts)]);
    let check = || run(&["check", text(&parts)]);
    let all = ["000_mask.png", "001_mask.png"].map(|name| masks.join(name));
    let save = |picture: DynamicImage| all.iter().for_each(|path| picture.save(path).unwrap());

    let mut inverted = mask();
    image::imageops::invert(&mut inverted);
    save(inverted.into());
    assert_told(&eval(), &["2 of 2 masks mark more than half"]);
    assert_told(&check(), &["2 masks mark more than half"]);
    assert_success(&check());

    let marked = mask();
    let alpha = RgbaImage::from_fn(SIDE, SIDE, |x, y| {
        image::Rgba([255, 255, 255, marked.get_pixel(x, y)[0]])
    });
    save(alpha.clone().into());
    assert_told(&eval(), &["2 of 2 masks lie in the alpha channel"]);
    assert_eq!(check().status.code(), Some(3));
    let roi = parts.join("roi.png");
    alpha.save(&roi).unwrap();
    let image = parts.join("test/good/000.png");
    let inspect = run(&["inspect", text(model()), text(&image), "--roi", text(&roi)]);
    assert_failure(&inspect, 1, &["roi.png", "alpha channel"]);

    save(mask().into());
    fs::rename(&all[0], masks.join("000_GT.png")).unwrap();
    fs::rename(&all[1], masks.join("001-hand.png")).unwrap();
    let told = eval();
    assert_success(&told);
    assert_told(
        &told,
        &["1 of 2 defective images have no mask", "square/001.png"],
    );
    let checked = check();
    assert_eq!(checked.status.code(), Some(3));
    assert_told(
        &checked,
        &["is ", "001-hand.png meant? Call it 001_mask.png"],
    );

    fs::remove_dir_all(parts.join("ground_truth")).unwrap();
    let none = eval();
    assert_success(&none);
    assert_told(&none, &["no defective image has a mask", "undefined"]);
    assert_success(&check());
}

#[test]
fn a_mask_of_another_size_names_the_remedy() {
    let (_folder, parts) = dataset();
    let path = parts.join("ground_truth/square/000_mask.png");
    GrayImage::new(SIDE, SIDE + 1).save(&path).unwrap();
    let eval = run(&["eval", text(model()), text(&parts)]);
    assert_failure(&eval, 1, &["000_mask.png", "in the size of its image"]);
    let image = parts.join("test/square/000.png");
    RgbImage::new(SIDE, SIDE + 9).save(&image).unwrap();
    GrayImage::new(SIDE + 9, SIDE).save(&path).unwrap();
    let eval = run(&["eval", text(model()), text(&parts)]);
    assert_failure(&eval, 1, &["EXIF", "turn the mask"]);
    let roi = parts.join("roi.png");
    GrayImage::from_pixel(SIDE * 2, SIDE, Luma([255]))
        .save(&roi)
        .unwrap();
    let good = parts.join("test/good/000.png");
    let inspect = run(&["inspect", text(model()), text(&good), "--roi", text(&roi)]);
    assert_failure(
        &inspect,
        1,
        &["000.png", "--roi takes a picture of the size"],
    );
}

#[test]
fn manifests_of_several_categories() {
    let (_folder, parts) = dataset();
    let mut csv = "path,split,label,mask,category\n".to_owned();
    for category in ["a", "b"] {
        for index in 0..6 {
            csv += &format!("train/good/00{index}.png,train,,,{category}\n");
        }
        csv += &format!("test/good/000.png,test,good,,{category}\n");
        csv += &format!(
            "test/square/000.png,test,square,ground_truth/square/000_mask.png,{category}\n"
        );
    }
    let list = parts.join("list.csv");
    fs::write(&list, csv).unwrap();
    let out = parts.join("m");
    let several = train(&list, &out, &[]);
    assert_failure(&several, 1, &["several data sets", "(a, b)", "--category"]);
    let unknown = train(&list, &out, &["--category", "c"]);
    assert_failure(&unknown, 1, &["no data set \"c\"", "a, b"]);
    let one = train(&list, &out, &["--category", "b"]);
    assert_success(&one);
    assert_told(&one, &["b: manifest: 6 good images"]);
    let eval = run(&["eval", text(&out), text(&list), "--category", "b"]);
    assert_success(&eval);
    let compared = parts.with_extension("compared");
    let words = ["compare", text(&list), "--out", text(&compared)];
    let compare = run(&[
        &words[..],
        &["--detectors", "mahalanobis", "--resize", "none"],
    ]
    .concat());
    assert_success(&compare);
    assert!(compared.join("b/mahalanobis-0/model.pupilla").exists());
    assert_success(&run(&["check", text(&list)]));
    // Semicolons, slashes of Windows, and numbers as labels.
    let csv = "path;split;label\ntrain\\good\\000.png;train;0\ntrain\\good\\001.png;train;0\ntest\\square\\000.png;test;1\n";
    fs::write(&list, csv).unwrap();
    let check = run(&["check", text(&list)]);
    assert_success(&check);
    assert_told(&check, &["2 good images to learn from, 1 to test with"]);
    fs::write(&list, "path,split\ntrain/good/000.png,trian\n").unwrap();
    let wrong = run(&["check", text(&list)]);
    assert_failure(&wrong, 1, &["list.csv", "line 2", "trian"]);
}

/// The picture with values of 16 bits, of which the upper ones are unused.
fn in_12_bits(image: &RgbImage) -> DynamicImage {
    let values = image.as_raw().iter();
    let values: Vec<u16> = values.map(|&level| u16::from(level) * 16).collect();
    let buffer: ImageBuffer<Rgb<u16>, _> =
        ImageBuffer::from_vec(image.width(), image.height(), values).unwrap();
    buffer.into()
}

#[test]
fn twelve_bits_in_sixteen_are_told_and_an_option_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (deep, mixed) = (folder.path().join("deep"), folder.path().join("mixed"));
    for path in [&deep, &mixed] {
        fs::create_dir(path).unwrap();
    }
    for index in 0..6 {
        let name = format!("{index}.png");
        in_12_bits(&good(index)).save(deep.join(&name)).unwrap();
        match index % 2 {
            0 => good(index).save(mixed.join(&name)).unwrap(),
            _ => in_12_bits(&good(index)).save(mixed.join(&name)).unwrap(),
        }
    }
    let out = folder.path().join("m");
    let trained = train(&deep, &out, &[]);
    assert_success(&trained);
    assert_told(
        &trained,
        &["values of 16 bits are at most", "takes 12 bits"],
    );
    assert_told(&run(&["check", text(&deep)]), &["takes 12 bits"]);
    let both = run(&["check", text(&mixed)]);
    assert_told(
        &both,
        &["different depths (3 images of 8 bits a value, 3 images of 16"],
    );

    let told = train(&deep, &out, &["--bits", "12", "--force"]);
    assert_success(&told);
    assert_not_told(&told, "takes 12 bits");
    assert_not_told(
        &run(&["check", text(&deep), "--bits", "12"]),
        "takes 12 bits",
    );
    // The model keeps the bits: the same parts are alike, and a file of 8 bits is refused.
    let same = run(&["inspect", text(&out), text(&deep)]);
    assert_success(&same);
    assert_not_told(&same, "unlike");
    let shallow = folder.path().join("mixed/0.png");
    let other = run(&["inspect", text(&out), text(&shallow)]);
    assert_failure(&other, 1, &["mixed/0.png", "12"]);
    // Without the option, a model of 8 bits sees black pictures in the same files, and says so.
    let black = run(&["inspect", text(model()), text(&deep)]);
    assert_told(
        &black,
        &["6 of 6 images are unlike", "16 bits", "brightness"],
    );
}

#[test]
fn another_lighting_and_another_camera_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    good(90).save(path("same.png")).unwrap();
    let mut bright = good(91);
    for value in bright.iter_mut() {
        *value = (f32::from(*value) * 1.25).min(255.0) as u8;
    }
    bright.save(path("bright.png")).unwrap();
    let large = image::imageops::resize(&good(92), 100, 60, image::imageops::FilterType::Triangle);
    large.save(path("wide.png")).unwrap();
    let (json_file, csv) = (path("r.json"), path("r.csv"));
    let target = format!("--json={}", text(&json_file));
    let words = ["inspect", text(model()), text(folder.path()), &target];
    let output = run(&[&words[..], &["--csv", text(&csv)]].concat());
    assert_success(&output);
    assert_told(
        &output,
        &["2 of 3 images are unlike those that the model has learned from"],
    );
    let found = json(&json_file);
    let unlike = |name: &str| {
        let images = found["images"].as_array().unwrap();
        let image = images
            .iter()
            .find(|one| one["path"].as_str().unwrap().ends_with(name));
        image.unwrap()["unlike_training"]
            .as_array()
            .unwrap()
            .clone()
    };
    assert!(unlike("same.png").is_empty());
    assert!(
        unlike("bright.png")[0]
            .as_str()
            .unwrap()
            .starts_with("brightness")
    );
    assert!(
        unlike("wide.png")[0]
            .as_str()
            .unwrap()
            .starts_with("100×60 pixels")
    );
    let table = fs::read_to_string(&csv).unwrap();
    assert!(
        table.lines().next().unwrap().contains("unlike_training"),
        "{table}"
    );
    assert!(table.contains("brightness"), "{table}");
}

#[test]
fn every_message_names_what_was_meant() {
    let (folder, parts) = dataset();
    let out = folder.path().join("m");
    let pattern = parts.join("test/good/*.png");
    let output = run(&["inspect", text(model()), text(&pattern)]);
    assert_failure(&output, 1, &["*.png", "give the folder instead"]);
    let output = run(&[
        "inspect",
        text(model()),
        text(&parts.join("test/good/00.png")),
    ]);
    assert_failure(&output, 1, &["00.png does not exist", ".png meant?"]);
    let output = train(&folder.path().join("part"), &out, &[]);
    assert_failure(&output, 1, &["does not exist", "parts meant?"]);
    let output = train(&parts, &folder.path().join("nowhere/m"), &[]);
    assert_failure(&output, 1, &["nowhere/m", "make it first"]);
    let message = stderr(&output);
    assert!(!message.contains(".pupilla-"), "{message}");
    // Folders in upper case are the same folders.
    fs::rename(parts.join("train"), parts.join("Train")).unwrap();
    fs::rename(parts.join("Train/good"), parts.join("Train/OK")).unwrap();
    assert_success(&train(&parts, &out, &[]));
    fs::rename(parts.join("Train/OK"), parts.join("Train/fine")).unwrap();
    let output = train(&parts, &out, &["--force"]);
    assert_failure(&output, 1, &["there is fine", "--good NAME"]);
}
