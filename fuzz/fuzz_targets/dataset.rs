//! Any tree of folders and files as a data set, and as a folder of maps.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pupilla_core::data::{Dataset, categories, images_in, survey};
use pupilla_core::map::map_set;

#[derive(Arbitrary, Debug)]
enum Part {
    Train,
    Test,
    GroundTruth,
    Good,
    Defect,
    Other(u8),
    Named(String),
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Folder,
    Empty,
    Image,
    Mask,
    Map,
    Other,
    #[cfg_attr(not(unix), allow(dead_code, reason = "links are made on unix alone"))]
    Link,
}

#[derive(Arbitrary, Debug)]
struct Entry {
    folders: Vec<Part>,
    name: Part,
    extension: u8,
    kind: Kind,
}

fn word(part: &Part) -> String {
    match part {
        Part::Train => "train".into(),
        Part::Test => "test".into(),
        Part::GroundTruth => "ground_truth".into(),
        Part::Good => "good".into(),
        Part::Defect => "scratch".into(),
        Part::Other(number) => format!("{:03}", number % 4),
        Part::Named(name) => name
            .chars()
            .filter(|character| !['/', '\0'].contains(character))
            .take(40)
            .collect(),
    }
}

fuzz_target!(|entries: Vec<Entry>| {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("parts");
    std::fs::create_dir(&root).unwrap();
    for entry in entries.iter().take(24) {
        let mut path = root.clone();
        for part in entry.folders.iter().take(4) {
            path.push(word(part));
        }
        // ".." would lead out of the folder.
        if path.components().any(|part| part.as_os_str() == "..") {
            continue;
        }
        if std::fs::create_dir_all(&path).is_err() {
            continue;
        }
        let extension = ["png", "jpg", "PNG", "tiff", "txt", ""][usize::from(entry.extension) % 6];
        let name = word(&entry.name);
        let (name, content) = match entry.kind {
            Kind::Folder | Kind::Link => (name, None),
            Kind::Empty => (format!("{name}.{extension}"), Some(&b""[..])),
            Kind::Image => (format!("{name}.{extension}"), Some(&b"\x89PNG"[..])),
            Kind::Mask => (format!("{name}_mask.png"), Some(&b"\x89PNG"[..])),
            Kind::Map => (format!("{name}.tiff"), Some(&b"II*\0"[..])),
            Kind::Other => (format!(".{name}"), Some(&b"x"[..])),
        };
        if name.is_empty() || name == ".." || name == "." {
            continue;
        }
        let path = path.join(name);
        match (content, &entry.kind) {
            (Some(content), _) => drop(std::fs::write(path, content)),
            #[cfg(unix)]
            (None, Kind::Link) => drop(std::os::unix::fs::symlink(&root, path)),
            (None, _) => drop(std::fs::create_dir(path)),
        }
    }
    let _ = images_in(&root);
    let _ = categories(&root);
    let _ = survey(&root);
    let _ = Dataset::open_good(&root);
    let _ = Dataset::open(&root);
    if let Ok(dataset) = Dataset::open_test(&root) {
        assert!(!dataset.test.is_empty());
        let _ = map_set::find(&root, &dataset);
    }
});
