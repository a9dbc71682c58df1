//! The files that an inspection writes about an image: their names, and how they are told from images.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The end of a heatmap's file name.
const HEATMAP: &str = "_heatmap.png";

/// The end of a map's file name.
const MAP: &str = "_map.tiff";

/// The files of one image's results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFiles {
    /// The heatmap, a PNG.
    pub heatmap: PathBuf,
    /// The anomaly map, a 32-bit float TIFF ([`map_file`](super::map_file)).
    pub map: PathBuf,
}

impl ResultFiles {
    /// The files of the results that are called `name`: the path of the results without an ending.
    pub fn named(name: &Path) -> Self {
        let with = |ending: &str| {
            let mut path = OsString::from(name);
            path.push(ending);
            PathBuf::from(path)
        };
        Self {
            heatmap: with(HEATMAP),
            map: with(MAP),
        }
    }

    /// Both files.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.heatmap, &self.map]
    }
}

/// What the results are called that a path is one file of, by the name alone: the path without the ending.
pub fn results_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let endings = [HEATMAP, MAP];
    let stem = endings
        .iter()
        .find_map(|ending| name.strip_suffix(ending))?;
    (!stem.is_empty()).then(|| path.with_file_name(stem))
}

/// Whether a file is a result of an inspection: its name is that of a heatmap or of a map, and the other file of the two lies beside it.
///
/// The name alone would tell too little: an image may be called `000_heatmap.png`.
pub fn is_result(path: &Path) -> bool {
    results_of(path).is_some_and(|results| {
        let files = ResultFiles::named(&results);
        files.paths().into_iter().all(Path::is_file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heatmap_and_its_map_are_results_and_an_image_of_such_a_name_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "a.png",
            "a_heatmap.png",
            "a_map.tiff",
            "b_heatmap.png",
            "_map.tiff",
            "c_map.tiff",
        ] {
            std::fs::write(at(name), b"").unwrap();
        }
        let results: Vec<_> = [
            "a.png",
            "a_heatmap.png",
            "a_map.tiff",
            "b_heatmap.png",
            "_map.tiff",
            "c_map.tiff",
        ]
        .into_iter()
        .filter(|name| is_result(&at(name)))
        .collect();
        assert_eq!(results, ["a_heatmap.png", "a_map.tiff"]);
        assert_eq!(
            ResultFiles::named(&at("x.y")).paths(),
            [&*at("x.y_heatmap.png"), &*at("x.y_map.tiff")]
        );
    }
}
