//! Each layout, in miniature, gives the images, the masks and the figures of its twin in the layout of MVTec AD.

use std::fs;
use std::path::{Path, PathBuf};

use image::{GrayImage, Luma};
use pupilla_core::data::{Dataset, DatasetError, Layout, OpenSettings};
use pupilla_core::detector::Detector;
use pupilla_core::evaluate::Evaluation;
use pupilla_core::evaluate::test_run::{self, TestSettings};
use pupilla_core::image::Image;
use pupilla_core::map::anomaly_map::AnomalyMap;
use pupilla_core::map::map_set;
use pupilla_core::observer::Silent;

/// Scores are the grey values.
struct Grey;

impl Detector for Grey {
    type Error = std::io::Error;

    fn anomaly_map(&self, image: &Image) -> Result<AnomalyMap, Self::Error> {
        let scores = image.pixels().iter().step_by(3).copied().collect();
        Ok(AnomalyMap::new(image.width(), image.height(), scores))
    }
}

const SIDE: u32 = 12;

/// A drawn image: each number gives another one.
fn picture(number: u32) -> GrayImage {
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let noise = (x * 31 + y * 57 + number * 101) % 89;
        Luma([noise as u8 + 40 * u8::from(marked(number, x, y))])
    })
}

fn marked(number: u32, x: u32, y: u32) -> bool {
    number >= DEFECTIVE && x / 3 == number % 3 && y > number % 5
}

fn mask(number: u32) -> GrayImage {
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        Luma([u8::from(marked(number, x, y)) * 255])
    })
}

/// Numbers of good images to learn from, good images to test with, defective images.
const LEARNED: std::ops::Range<u32> = 0..4;
const TESTED: std::ops::Range<u32> = 10..13;
const DEFECTIVE: u32 = 20;
const DEFECTS: std::ops::Range<u32> = DEFECTIVE..DEFECTIVE + 3;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn picture(&self, name: &str, number: u32) {
        picture(number).save(self.at(name)).unwrap();
    }

    fn mask(&self, name: &str, number: u32) {
        mask(number).save(self.at(name)).unwrap();
    }

    fn text(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }
}

/// The numbers of the pictures, found again by their pixels.
fn number_of(path: &Path) -> u32 {
    let found = image::open(path).unwrap().to_luma8();
    let all = [LEARNED, TESTED, DEFECTS].into_iter().flatten();
    all.into_iter()
        .find(|&number| picture(number) == found)
        .unwrap_or_else(|| panic!("{}", path.display()))
}

fn numbers<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Vec<u32> {
    let mut numbers: Vec<u32> = paths.into_iter().map(|path| number_of(path)).collect();
    numbers.sort_unstable();
    numbers
}

/// The measures that no name of an image or a defect changes.
fn measured(dataset: &Dataset) -> Evaluation {
    let settings = TestSettings::default();
    let evaluation =
        test_run::run(&Grey, dataset, &settings, &mut Silent, &mut |_| Ok(())).unwrap();
    Evaluation {
        per_defect: Default::default(),
        per_image: Vec::new(),
        seconds_per_image: None,
        ..evaluation
    }
}

/// The twin: `train/good`, `test/good`, `test/bad`, `ground_truth/bad`.
fn twin() -> Folder {
    let folder = Folder::new();
    for number in LEARNED {
        folder.picture(&format!("train/good/{number}.png"), number);
    }
    for number in TESTED {
        folder.picture(&format!("test/good/{number}.png"), number);
    }
    for number in DEFECTS {
        folder.picture(&format!("test/bad/{number}.png"), number);
        folder.mask(&format!("ground_truth/bad/{number}_mask.png"), number);
    }
    folder
}

/// A layout without a split of its own has its good images from both of the twin's parts.
#[track_caller]
fn same_as_twin(dataset: &Dataset, layout: Layout) {
    let twin_folder = twin();
    let twin = Dataset::open(twin_folder.path()).unwrap();
    assert_eq!(dataset.layout, layout);
    let good = |dataset: &Dataset| {
        let tested = dataset.test.iter().filter(|test| test.defect.is_none());
        numbers(tested.map(|test| &test.path).chain(&dataset.good))
    };
    assert_eq!(good(dataset), good(&twin));
    for test in dataset.test.iter().filter(|test| test.defect.is_some()) {
        let mask = test.read_mask(0, pupilla_core::image::Size::square(SIDE as usize));
        let expected = self::mask(number_of(&test.path));
        let expected = expected.pixels().map(|pixel| pixel[0] > 0);
        assert!(mask.unwrap().unwrap().defect().iter().copied().eq(expected));
    }
    let has_split = ![Layout::Kolektor, Layout::LabelledFolders].contains(&layout)
        || dataset.root.join("train").is_dir();
    if has_split {
        assert_eq!(numbers(&dataset.good), numbers(&twin.good));
        assert_eq!(measured(dataset), measured(&twin));
    } else {
        assert!(!dataset.good.is_empty() && dataset.test.len() > DEFECTS.len());
        assert_eq!(measured(dataset).regions, measured(&twin).regions);
    }
}

#[track_caller]
fn open(folder: &Folder, name: &str) -> Dataset {
    Dataset::open(folder.path().join(name)).unwrap()
}

#[test]
fn mpdd_and_mvtec_ad() {
    let twin = twin();
    same_as_twin(&open(&twin, "."), Layout::MvtecAd);
}

#[test]
fn btech() {
    let folder = Folder::new();
    for number in LEARNED {
        folder.picture(&format!("01/train/ok/{number:04}.bmp"), number);
    }
    for number in TESTED {
        folder.picture(&format!("01/test/ok/{number:04}.bmp"), number);
    }
    for number in DEFECTS {
        folder.picture(&format!("01/test/ko/{number:04}.bmp"), number);
        folder.mask(&format!("01/ground_truth/ko/{number:04}.png"), number);
    }
    same_as_twin(&open(&folder, "01"), Layout::MvtecAd);
    // The folder above has one category, so far.
    same_as_twin(&open(&folder, ""), Layout::MvtecAd);
}

#[test]
fn mvtec_ad_2() {
    let folder = Folder::new();
    for number in LEARNED {
        folder.picture(&format!("can/train/good/{number:03}_regular.png"), number);
    }
    folder.picture("can/validation/good/010_regular.png", 11);
    for number in TESTED {
        folder.picture(
            &format!("can/test_public/good/{number:03}_regular.png"),
            number,
        );
    }
    for number in DEFECTS {
        let name = format!("{number:03}_overexposed");
        folder.picture(&format!("can/test_public/bad/{name}.png"), number);
        folder.mask(
            &format!("can/test_public/ground_truth/bad/{name}_mask.png"),
            number,
        );
    }
    folder.picture("can/test_private/000.png", 1);
    let dataset = open(&folder, "can");
    same_as_twin(&dataset, Layout::MvtecAd2);
    assert_eq!(numbers(&dataset.validation), [11]);
    assert_eq!(
        dataset.passed_over.to_string(),
        "1 folder with 1 image (test_private)"
    );
}

#[test]
fn visa() {
    let folder = Folder::new();
    let mut csv = "object,split,label,image,mask\n".to_owned();
    let mut add = |split: &str, number: u32| {
        let defective = number >= DEFECTIVE;
        let (label, kind) = if defective {
            ("anomaly", "Anomaly")
        } else {
            ("normal", "Normal")
        };
        let image = format!("candle/Data/Images/{kind}/{number:03}.bmp");
        folder.picture(&image, number);
        let mut mask = String::new();
        if defective {
            mask = format!("candle/Data/Masks/Anomaly/{number:03}.png");
            // VisA's masks hold small numbers: 1, 2, 3 for kinds of defects.
            let file = GrayImage::from_fn(SIDE, SIDE, |x, y| {
                Luma([u8::from(marked(number, x, y)) * (number % 3 + 1) as u8])
            });
            file.save(folder.at(&mask)).unwrap();
        }
        csv += &format!("candle,{split},{label},{image},{mask}\n");
    };
    LEARNED.for_each(|number| add("train", number));
    TESTED.chain(DEFECTS).for_each(|number| add("test", number));
    folder.text("split_csv/1cls.csv", &csv);
    same_as_twin(&open(&folder, ""), Layout::Visa);
    let object = open(&folder, "candle");
    same_as_twin(&object, Layout::Visa);
    assert_eq!(object.name, "candle");
    // Without the split, the folders of the images have the labels.
    fs::remove_dir_all(folder.path().join("split_csv")).unwrap();
    same_as_twin(&open(&folder, "candle"), Layout::LabelledFolders);
}

#[test]
fn several_objects_of_visa_are_several_data_sets() {
    let folder = Folder::new();
    folder.text(
        "split_csv/1cls.csv",
        "object,split,label,image,mask\na,train,normal,a/1.png,\nb,train,normal,b/1.png,\n",
    );
    let error = Dataset::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, DatasetError::SeveralDatasets { categories, .. } if categories == &["a", "b"]),
        "{error}"
    );
    let all = Dataset::open_all(folder.path(), &OpenSettings::default()).unwrap();
    assert_eq!(all[1].root, folder.path().join("b"));
}

#[test]
fn real_iad() {
    let folder = Folder::new();
    let entry = |number: u32| {
        let defective = number >= DEFECTIVE;
        let place = if defective { "NG/QS" } else { "OK" };
        let image = format!("{place}/S{number:04}/toy_{number:04}_C1.png");
        folder.picture(&format!("realiad_256/toy/{image}"), number);
        let (class, mask) = if defective {
            let mask = image.replace(".png", "_mask.png");
            folder.mask(&format!("realiad_256/toy/{mask}"), number);
            ("QS", format!("\"{mask}\""))
        } else {
            ("OK", "null".to_owned())
        };
        format!(
            r#"{{"category":"toy","anomaly_class":"{class}","image_path":"{image}","mask_path":{mask}}}"#
        )
    };
    let train: Vec<String> = LEARNED.map(entry).collect();
    let test = TESTED.chain(DEFECTS);
    let test: Vec<String> = test.map(entry).collect();
    let json = format!(
        r#"{{"meta":{{"normal_class":"OK","prefix":"toy/"}},"train":[{}],"test":[{}]}}"#,
        train.join(","),
        test.join(",")
    );
    folder.text("realiad_jsons/toy.json", &json);
    let dataset = open(&folder, "realiad_256/toy");
    same_as_twin(&dataset, Layout::RealIad);
    assert_eq!(dataset.test[0].display_name(), "QS/S0020/toy_0020_C1.png");
    same_as_twin(&open(&folder, "realiad_256"), Layout::RealIad);
}

#[test]
fn kolektor_sdd() {
    let folder = Folder::new();
    for (at, number) in LEARNED.chain(TESTED).chain(DEFECTS).enumerate() {
        let name = format!("kos{:02}/Part{}", at / 4, at % 4);
        folder.picture(&format!("{name}.png"), number);
        folder.mask(&format!("{name}_label.bmp"), number);
    }
    let dataset = open(&folder, "");
    same_as_twin(&dataset, Layout::Kolektor);
    // Images of two folders have the same file name.
    let names: std::collections::BTreeSet<_> = (dataset.test.iter())
        .map(|test| test.display_name())
        .collect();
    assert_eq!(names.len(), dataset.test.len());
}

#[test]
fn kolektor_sdd_2() {
    let folder = Folder::new();
    let add = |part: &str, number: u32| {
        folder.picture(&format!("{part}/{number}.png"), number);
        folder.mask(&format!("{part}/{number}_GT.png"), number);
    };
    LEARNED.for_each(|number| add("train", number));
    TESTED.chain(DEFECTS).for_each(|number| add("test", number));
    // A defective image of the training part is not learned.
    folder.picture("train/99.png", DEFECTIVE);
    folder.mask("train/99_GT.png", DEFECTIVE);
    let dataset = open(&folder, "");
    same_as_twin(&dataset, Layout::Kolektor);
    assert_eq!(dataset.passed_over.defective.len(), 1);
}

#[test]
fn labelled_folders() {
    let folder = Folder::new();
    for number in LEARNED.chain(TESTED) {
        folder.picture(&format!("OK/{number}.png"), number);
    }
    for number in DEFECTS {
        folder.picture(&format!("NG/{number}.png"), number);
        folder.mask(&format!("ground_truth/NG/{number}.png"), number);
    }
    same_as_twin(&open(&folder, ""), Layout::LabelledFolders);
}

#[test]
fn manifests() {
    let folder = Folder::new();
    let (mut csv, mut lines) = ("path,split,label,mask\n".to_owned(), String::new());
    for number in LEARNED.chain(TESTED).chain(DEFECTS) {
        let image = format!("any/where/{number}.png");
        folder.picture(&image, number);
        let split = if LEARNED.contains(&number) {
            "train"
        } else {
            "test"
        };
        let (mut label, mut mask) = ("good", String::new());
        if number >= DEFECTIVE {
            label = "bad";
            mask = format!("masks/{number}.png");
            folder.mask(&mask, number);
        }
        csv += &format!("{image}, {split}, {label}, {mask}\n");
        lines += &format!(
            "{{\"path\":\"{image}\",\"split\":\"{split}\",\"label\":\"{label}\",\"mask\":\"{mask}\"}}\n"
        );
    }
    folder.text("parts.csv", &format!("\u{feff}{csv}"));
    same_as_twin(&open(&folder, "parts.csv"), Layout::Manifest);
    folder.text("parts.jsonl", &lines);
    same_as_twin(&open(&folder, "parts.jsonl"), Layout::Manifest);
    folder.text("manifest.csv", &csv);
    same_as_twin(&open(&folder, ""), Layout::Manifest);
    assert_eq!(open(&folder, "parts.csv").name, "parts");
}

/// Names become parts of the paths of results: they stay within their folder.
#[test]
fn the_paths_of_a_manifest_do_not_lead_out_of_a_folder() {
    let folder = Folder::new();
    let csv =
        "path,split,label\n../x/0.png,test,bad\nimages/../../y/1.png,test,bad\n/z/2.png,test,bad\n";
    folder.text("list.csv", csv);
    let dataset = open(&folder, "list.csv");
    let maps = Path::new("maps");
    for test in &dataset.test {
        let path = map_set::path_of(maps, &dataset, test);
        let stays = |part| matches!(part, std::path::Component::Normal(_));
        assert!(path.components().all(stays), "{}", path.display());
    }
}

#[test]
fn equal_names_and_settings_without_effect_are_refused() {
    let folder = Folder::new();
    let csv = "path,split\na.png,train\n";
    folder.text("one/manifest.csv", csv);
    folder.text("two/manifest.csv", csv);
    let names = Dataset::open_all(folder.path(), &OpenSettings::default()).unwrap();
    assert_eq!((&*names[0].name, &*names[1].name), ("one", "two"));
    folder.text(
        "two/manifest.csv",
        "path,split,category\na.png,train,one\nb.png,train,x\n",
    );
    let error = Dataset::open(folder.path()).unwrap_err();
    assert!(matches!(error, DatasetError::EqualNames { .. }), "{error}");
    let recursive = OpenSettings {
        recursive: true,
        ..OpenSettings::default()
    };
    let error = Dataset::open_with(folder.path().join("one"), &recursive).unwrap_err();
    assert!(
        matches!(error, DatasetError::NoSuchSetting { .. }),
        "{error}"
    );
    // A label of good images may have another name.
    folder.text(
        "list.csv",
        "path,split,label\na.png,train,iO\nb.png,test,iO\n",
    );
    let named = OpenSettings {
        good: Some("iO".to_owned()),
        ..OpenSettings::default()
    };
    let dataset = Dataset::open_with(folder.path().join("list.csv"), &named).unwrap();
    assert_eq!((dataset.good.len(), dataset.defects().len()), (1, 0));
}

#[test]
fn masks_beside_defective_images() {
    let folder = Folder::new();
    for number in LEARNED.chain(TESTED) {
        folder.picture(&format!("good/{number}.png"), number);
    }
    for number in DEFECTS {
        folder.picture(&format!("bad/{number}.png"), number);
        folder.mask(&format!("bad/{number}_mask.png"), number);
    }
    let dataset = open(&folder, "");
    same_as_twin(&dataset, Layout::LabelledFolders);
    assert_eq!(dataset.without_mask().count(), 0);
}

/// With a saturation threshold of the whole area, and one connected region in each file, AU-sPRO is AU-PRO.
#[test]
fn mvtec_loco() {
    let folder = Folder::new();
    for number in LEARNED {
        folder.picture(&format!("box/train/good/{number:03}.png"), number);
    }
    for number in TESTED {
        folder.picture(&format!("box/test/good/{number:03}.png"), number);
    }
    for number in DEFECTS {
        let kind = "logical_anomalies";
        folder.picture(&format!("box/test/{kind}/{number:03}.png"), number);
        folder.mask(
            &format!("box/ground_truth/{kind}/{number:03}/000.png"),
            number,
        );
    }
    let config = |threshold: &str| {
        let text = format!(
            r#"[{{"defect_name":"missing","pixel_value":255,"saturation_threshold":{threshold},"relative_saturation":true}}]"#
        );
        folder.text("box/defects_config.json", &text);
    };
    config("1.0");
    let dataset = open(&folder, "box");
    assert_eq!(dataset.layout, Layout::MvtecLoco);
    let twin_folder = twin();
    let twin = measured(&Dataset::open(twin_folder.path()).unwrap());
    let found = measured(&dataset);
    assert!(found.saturated && !twin.saturated);
    assert_eq!((&found.pixel, &found.image), (&twin.pixel, &twin.image));
    // A region that must be found by a third is found earlier.
    config("0.333");
    let third = measured(&open(&folder, "box"));
    assert!(third.pixel.au_pro > found.pixel.au_pro, "{:?}", third.pixel);
    assert_eq!(third.pixel.auroc, found.pixel.auroc);
    config("1.5");
    let error = Dataset::open(folder.path().join("box")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("defects_config.json") && text.contains("1.5"),
        "{text}"
    );
}

#[test]
fn without_masks_images_alone_are_measured() {
    let folder = twin();
    let twin = measured(&open(&folder, ""));
    fs::remove_file(folder.path().join("ground_truth/bad/20_mask.png")).unwrap();
    let some = measured(&open(&folder, ""));
    assert_eq!(some.image, twin.image);
    assert!(some.pixel.au_pro.is_some() && some.regions < twin.regions);
    assert!(
        some.warnings.iter().any(|text| text.starts_with("1 of 3")),
        "{:?}",
        some.warnings
    );
    fs::remove_dir_all(folder.path().join("ground_truth")).unwrap();
    let none = measured(&open(&folder, ""));
    assert_eq!(none.image, twin.image);
    assert_eq!(none.pixel, Default::default());
    assert_eq!(none.warnings.len(), 1, "{:?}", none.warnings);
}
