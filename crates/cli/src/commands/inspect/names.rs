//! The files that a run writes: their names are checked before any work.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::bail;
use pupilla_core::map::map_file;
use pupilla_core::map::result_files::ResultFiles;
use pupilla_files::growing_file::part_of;

use super::inputs::Named;
use crate::options::Inspect;
use crate::output::{Usage, place};

/// Bytes of a file name that the usual file systems allow; on Windows, UTF-16 units.
const LONGEST_NAME: usize = 255;

/// The files of each image's results: its name without extension, with it where two would be equal.
pub fn result_files(out: &Path, images: &[Named]) -> anyhow::Result<Vec<ResultFiles>> {
    let mut stems: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for image in images {
        *stems.entry(image.name.with_extension("")).or_default() += 1;
    }
    let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    let mut all = Vec::with_capacity(images.len());
    for Named { path, name } in images {
        let stem = name.with_extension("");
        let name = if stems[&stem] > 1 { name.clone() } else { stem };
        match taken.insert(name.clone(), path) {
            Some(other) if other == path => {
                bail!("{} is named twice: name it once", path.display());
            }
            Some(other) => bail!(
                "{} and {} would write the same files into --out: inspect them one after the other, \
                 with two folders",
                other.display(),
                path.display()
            ),
            None => {}
        }
        let files = ResultFiles::named(&out.join(name));
        for file in files.paths() {
            check_length(file, path)?;
        }
        all.push(files);
    }
    Ok(all)
}

fn check_length(file: &Path, image: &Path) -> anyhow::Result<()> {
    let name = file.file_name().unwrap_or_default();
    let length = if cfg!(windows) {
        name.to_string_lossy().encode_utf16().count()
    } else {
        name.len()
    };
    if length > LONGEST_NAME {
        bail!(
            "{}: the name of its result {} has {length} characters, and a file name has at most {LONGEST_NAME}: \
             rename the image",
            image.display(),
            name.display()
        );
    }
    Ok(())
}

/// Fails if a file that is written would replace an image, another file that is read, or a file that is no result of an inspection.
pub fn check(
    inspect: &Inspect,
    images: &[Named],
    results: Option<&[ResultFiles]>,
) -> Result<(), Usage> {
    let mut read: HashMap<PathBuf, (&str, &Path)> = HashMap::new();
    let of_images = images
        .iter()
        .map(|image| ("one of the images", &*image.path));
    let others = [("the model", &*inspect.model)];
    let roi = inspect
        .roi
        .picture()
        .map(|path| ("the --roi picture", path));
    for (what, path) in of_images.chain(others).chain(roi) {
        // Neither a link nor the file that it leads to is replaced.
        for place in [place(path), entry(path)] {
            read.insert(place, (what, path));
        }
    }
    let check = |option: &str, target: &Path| match read.get(&entry(target)) {
        Some((what, path)) => Err(Usage(format!(
            "{option} would replace {}, {what}: give another name",
            path.display()
        ))),
        None => Ok(()),
    };
    if let Some(csv) = &inspect.csv {
        check("--csv", csv)?;
        check("--csv", &part_of(csv))?;
    }
    if let Some(json) = inspect.json.file() {
        check("--json", json)?;
        check("--json", &part_of(json))?;
    }
    for files in results.unwrap_or_default() {
        for file in files.paths() {
            if let Some((what, path)) = read.get(&entry(file)) {
                return Err(Usage(format!(
                    "--out: the result {} would replace {}, {what}: give another folder",
                    file.display(),
                    path.display()
                )));
            }
        }
        check_no_other(files)?;
    }
    Ok(())
}

/// Fails if there is a file that no inspection has written. A map alone is what an interrupted run leaves: the map is written first.
fn check_no_other(files: &ResultFiles) -> Result<(), Usage> {
    let other = match files.paths().map(Path::exists) {
        [false, false] | [true, true] => return Ok(()),
        [true, false] => &files.heatmap,
        [false, true] if map_file::read(&files.map).is_ok() => return Ok(()),
        [false, true] => &files.map,
    };
    Err(Usage(format!(
        "--out would replace {}, which is not a result of an inspection: give another folder, or rename that file",
        other.display()
    )))
}

/// Where a file's own entry is: of a link, not where it leads.
fn entry(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match path.file_name() {
        Some(name) => place(parent).join(name),
        None => place(path),
    }
}
