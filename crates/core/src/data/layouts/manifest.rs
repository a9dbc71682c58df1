//! A manifest: a file that lists the images of data sets of any other layout.
//!
//! ```text
//! path,split,label,mask,category
//! images/0001.png,train,good,,bracket
//! images/0077.png,test,scratch,masks/0077.png,bracket
//! ```
//!
//! - `path` and `mask` are relative to the folder of the manifest.
//! - `split` is `train`, `validation` or `test`.
//! - `label` is `good` (`ok`, `normal`) or the name of a defect. In `train` and `validation`, an empty label is `good`.
//! - `mask` and `category` may be empty or missing. Each category is a data set.
//!
//! JSON Lines (`.jsonl`) has an object with the same keys on each line. A folder with a file `manifest.csv` or `manifest.jsonl` is the
//! same as that file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use pupilla_files::bounded_file;
use serde::{Deserialize, Deserializer};

use super::{Labelled, is_good, test_images};
use crate::data::folder::Folder;
use crate::data::mask::GroundTruth;
use crate::data::{Dataset, DatasetError, Layout, OpenSettings};

/// The most bytes of a file that lists images.
const MOST_BYTES: u64 = 256 << 20;

/// The names that a manifest has in a folder.
const NAMES: [&str; 2] = ["manifest.csv", "manifest.jsonl"];

/// The part of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    /// The split of this name, or what to write instead.
    pub fn read(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "train" | "training" => Ok(Self::Train),
            "val" | "validation" => Ok(Self::Validation),
            "test" => Ok(Self::Test),
            _ => Err(format!(
                "the split {text:?} is unknown: write train, validation or test"
            )),
        }
    }
}

/// One image of a list.
pub(super) struct Row {
    pub path: PathBuf,
    pub split: Split,
    /// The defect's name; `None` for a good image.
    pub defect: Option<String>,
    pub mask: Option<PathBuf>,
    pub category: Option<String>,
}

/// Whether a file is a manifest by its extension.
pub(super) fn has_extension(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv") || is_json_lines(path))
}

fn is_json_lines(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("jsonl"))
}

/// The manifest in a folder, if there is one.
pub(super) fn in_folder(here: &Folder) -> Option<PathBuf> {
    let files = NAMES.map(|name| here.path.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// The data sets of a manifest.
pub(super) fn open(file: &Path, settings: &OpenSettings) -> Result<Vec<Dataset>, DatasetError> {
    let rows = if is_json_lines(file) {
        json_lines(file, settings)?
    } else {
        table(file, &["path", "split"], |fields| {
            let entry = Entry {
                path: fields.required("path")?,
                split: fields.required("split")?,
                label: fields.optional("label"),
                mask: fields.optional("mask"),
                category: fields.optional("category"),
            };
            row(entry, settings)
        })?
    };
    let root = file.parent().unwrap_or(Path::new(""));
    datasets(rows, file, root, Layout::Manifest)
}

/// An image as a manifest has it.
#[derive(Deserialize)]
struct Entry {
    path: String,
    split: String,
    #[serde(default, deserialize_with = "label")]
    label: Option<String>,
    #[serde(default)]
    mask: Option<String>,
    #[serde(default)]
    category: Option<String>,
}

/// A label as text: JSON may have a number or a truth value.
fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

fn row(entry: Entry, settings: &OpenSettings) -> Result<Row, String> {
    let split = Split::read(&entry.split)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let defect = match given(entry.label) {
        None if split == Split::Test => {
            return Err("a test image needs a label: good, or the name of its defect".to_owned());
        }
        None => None,
        Some(label) if is_good(OsStr::new(&label), settings) => None,
        // A number or a truth value says whether there is a defect.
        Some(label) if ["0", "false"].contains(&&*label.to_ascii_lowercase()) => None,
        Some(label) if ["1", "true"].contains(&&*label.to_ascii_lowercase()) => {
            Some("defective".to_owned())
        }
        defect => defect,
    };
    Ok(Row {
        path: entry.path.into(),
        split,
        defect,
        mask: given(entry.mask).map(Into::into),
        category: given(entry.category),
    })
}

fn json_lines(file: &Path, settings: &OpenSettings) -> Result<Vec<Row>, DatasetError> {
    let text = read(file)?;
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let entry = serde_json::from_str(line).map_err(|error| error.to_string());
            entry
                .and_then(|entry| row(entry, settings))
                .map_err(|reason| wrong(file, format!("line {number}: {reason}")))
        })
        .collect()
}

/// The fields of one line of a table, by the names of the columns.
pub(super) struct Fields<'a> {
    columns: &'a BTreeMap<String, usize>,
    record: &'a csv::StringRecord,
}

impl Fields<'_> {
    /// The field of a column; `None` if it is empty or the column is missing.
    pub fn optional(&self, column: &str) -> Option<String> {
        let field = self.record.get(*self.columns.get(column)?)?;
        Some(field.to_owned()).filter(|field| !field.is_empty())
    }

    /// The field of a column, or that it is empty.
    pub fn required(&self, column: &str) -> Result<String, String> {
        let field = self.optional(column);
        field.ok_or_else(|| format!("the field {column} is empty"))
    }
}

/// The rows of a CSV file with a line of column names, of which `required` must be there.
pub(super) fn table(
    file: &Path,
    required: &[&str],
    mut row: impl FnMut(&Fields<'_>) -> Result<Row, String>,
) -> Result<Vec<Row>, DatasetError> {
    let text = read(file)?;
    // Spreadsheets of some countries write semicolons.
    let first = text.lines().next().unwrap_or_default();
    let occurs = |delimiter: &u8| first.bytes().filter(|byte| byte == delimiter).count();
    let delimiter = [b'\t', b';', b','].into_iter().max_by_key(occurs);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter.unwrap_or(b','))
        .trim(csv::Trim::All)
        .flexible(true)
        .from_reader(text.as_bytes());
    let unreadable = |error: csv::Error| wrong(file, error.to_string());
    let header = reader.headers().map_err(unreadable)?;
    let columns: BTreeMap<String, usize> = header
        .iter()
        .map(str::to_ascii_lowercase)
        .zip(0..)
        .collect();
    if let Some(missing) = required.iter().find(|name| !columns.contains_key(**name)) {
        let reason = format!(
            "the column {missing} is missing: write the names of the columns into the first line, as {}",
            required.join(",")
        );
        return Err(wrong(file, reason));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, csv::Position::line);
        let fields = Fields {
            columns: &columns,
            record: &record,
        };
        let row = row(&fields).map_err(|reason| wrong(file, format!("line {line}: {reason}")));
        rows.push(row?);
    }
    Ok(rows)
}

fn read(file: &Path) -> Result<String, DatasetError> {
    let bytes =
        bounded_file::read(file, MOST_BYTES).map_err(|error| wrong(file, error.to_string()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| wrong(file, "it is not UTF-8 text: save it as UTF-8".into()))?;
    // Spreadsheets begin a file with a byte-order mark.
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

fn wrong(file: &Path, reason: String) -> DatasetError {
    DatasetError::List {
        path: file.to_path_buf(),
        reason,
    }
}

/// The data sets of a list: one for each category, in the order of their names. Paths are relative to `root`.
pub(super) fn datasets(
    rows: Vec<Row>,
    file: &Path,
    root: &Path,
    layout: Layout,
) -> Result<Vec<Dataset>, DatasetError> {
    if rows.is_empty() {
        return Err(wrong(file, "it lists no images".to_owned()));
    }
    let mut datasets: BTreeMap<Option<String>, (Dataset, Vec<Labelled>)> = BTreeMap::new();
    for row in rows {
        for name in [&row.defect, &row.category].into_iter().flatten() {
            check_name(name).map_err(|reason| wrong(file, reason))?;
        }
        let name = row.category.clone();
        let (dataset, tested) = datasets.entry(row.category).or_insert_with(|| {
            let name = name.unwrap_or_else(|| name_of(file));
            (Dataset::empty(name, root, layout), Vec::new())
        });
        let path = root.join(with_slashes(row.path));
        match (row.split, row.defect) {
            (Split::Test, defect) => tested.push(Labelled {
                path,
                defect,
                mask: row
                    .mask
                    .map(|mask| GroundTruth::of_mask(root.join(with_slashes(mask)))),
            }),
            (Split::Train, None) => dataset.good.push(path),
            (Split::Validation, None) => dataset.validation.push(path),
            (Split::Train | Split::Validation, Some(_)) => {
                dataset.passed_over.defective.push(path);
            }
        }
    }
    let finished = datasets.into_values().map(|(mut dataset, tested)| {
        dataset.good.sort();
        dataset.validation.sort();
        dataset.test = test_images(tested);
        dataset
    });
    Ok(finished.collect())
}

/// A path as Windows writes it, with the slashes of this system.
fn with_slashes(path: PathBuf) -> PathBuf {
    match path.to_str() {
        Some(text) if text.contains('\\') && !text.contains('/') => text.split('\\').collect(),
        _ => path,
    }
}

/// The name of a data set without a category: the file's, or its folder's if the file has the name of every manifest.
fn name_of(file: &Path) -> String {
    let is_usual = NAMES.iter().any(|name| file.ends_with(name));
    match file.parent() {
        Some(folder) if is_usual => Dataset::name_of(folder),
        _ => {
            let stem = file.file_stem().unwrap_or_default();
            stem.to_string_lossy().into_owned()
        }
    }
}

/// Names become parts of paths of results.
fn check_name(name: &str) -> Result<(), String> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if !name.contains(['/', '\\']) => Ok(()),
        _ => Err(format!(
            "{name:?} cannot be the name of a defect or a category: write a name without slashes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            let error = open(&file, &OpenSettings::default());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            error
        };
        for (text, wanted) in [
            ("", "the column path is missing"),
            ("path,split\n", "it lists no images"),
            ("file,split\na.png,train\n", "the column path is missing"),
            (
                "path,split\na.png,trian\n",
                "line 2: the split \"trian\" is unknown",
            ),
            (
                "path,split,label\na.png,train,\nb.png,test,\n",
                "line 3: a test image needs a label",
            ),
            ("path,split\n,train\n", "line 2: the field path is empty"),
            ("path,split,label\na.png,test,../x\n", "cannot be the name"),
            (
                "path,split,label,category\na.png,test,cut,..\n",
                "cannot be the name",
            ),
        ] {
            let found = error("list.csv", text);
            assert!(found.contains(wanted), "{found}");
        }
        let found = error(
            "list.jsonl",
            "{\"path\":\"a.png\",\"split\":\"train\"}\n{\"path\":3}\n",
        );
        assert!(found.contains("line 2"), "{found}");
        std::fs::write(folder.path().join("list.csv"), [0xFF, 0xFE]).unwrap();
        let error = open(&folder.path().join("list.csv"), &OpenSettings::default()).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }
}
