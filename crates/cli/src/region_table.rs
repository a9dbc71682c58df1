//! `--csv`: one line a region, for spreadsheets and machines.

use std::path::Path;

use anyhow::Context;
use pupilla_core::verdict::Verdict;
use pupilla_core::verdict::attribution::Why;
use pupilla_files::atomic_file::WriteError;
use pupilla_files::growing_file::{GrowingFile, part_of};

/// The columns. An image without regions has one line, its region's fields empty; `score` to `variance_share` are
/// the image's, what begins with `region_` the region's, and `unlike_training` is the image's. Pixels count from 0, the centroid from the
/// image's corner.
const COLUMNS: [&str; 22] = [
    "path",
    "score",
    "threshold",
    "defective",
    "error_share",
    "variance_share",
    "regions",
    "region",
    "left",
    "top",
    "width",
    "height",
    "area",
    "centroid_x",
    "centroid_y",
    "peak",
    "peak_x",
    "peak_y",
    "mean",
    "region_error_share",
    "region_variance_share",
    "unlike_training",
];

/// Lines of regions, in a file that grows image by image.
pub struct RegionTable {
    file: GrowingFile,
}

impl RegionTable {
    /// A table with its heading.
    pub fn begin(path: &Path) -> anyhow::Result<Self> {
        let mut heading = csv::Writer::from_writer(Vec::new());
        heading.write_record(COLUMNS)?;
        let heading = heading.into_inner().context("cannot write the heading")?;
        let mut file = GrowingFile::begin(path)?;
        file.append(&heading).inspect_err(|_| {
            // Nothing has begun: no file is left.
            let _ = std::fs::remove_file(part_of(path));
        })?;
        Ok(Self { file })
    }

    /// Adds an image and its regions. They are in the file when this returns.
    pub fn add(
        &mut self,
        path: &str,
        threshold: f32,
        verdict: &Verdict,
        unlike_training: Option<&[String]>,
    ) -> anyhow::Result<()> {
        let unlike = unlike_training.map_or_else(String::new, |reasons| reasons.join("; "));
        let mut lines = csv::Writer::from_writer(Vec::new());
        let mut image = vec![
            path.to_owned(),
            verdict.score.to_string(),
            threshold.to_string(),
            verdict.defective.to_string(),
        ];
        image.extend(shares(verdict.why.as_ref()));
        image.push(verdict.regions.len().to_string());
        if verdict.regions.is_empty() {
            image.resize(COLUMNS.len() - 1, String::new());
            image.push(unlike.clone());
            lines.write_record(&image)?;
        }
        for (index, explained) in verdict.regions.iter().enumerate() {
            let region = &explained.region;
            let bounds = region.bounds;
            let whole = [
                index + 1,
                bounds.left,
                bounds.top,
                bounds.width,
                bounds.height,
                region.area,
            ];
            let mut line = image.clone();
            line.extend(whole.map(|number| number.to_string()));
            line.extend(region.centroid.map(|number| format!("{number:.2}")));
            line.push(region.peak.to_string());
            line.extend(region.peak_at.map(|number| number.to_string()));
            line.push(region.mean.to_string());
            line.extend(shares(explained.why.as_ref()));
            line.push(unlike.clone());
            lines.write_record(&line)?;
        }
        let lines = lines.into_inner().context("cannot write the regions")?;
        Ok(self.file.append(&lines)?)
    }

    /// Gives the file its name.
    pub fn end(self) -> Result<(), WriteError> {
        self.file.end()
    }
}

/// Shares of regression error and predictive variance; empty where there is none.
fn shares(why: Option<&Why>) -> [String; 2] {
    ["regression_error", "predictive_variance"].map(|term| {
        let share = why.and_then(|why| why.terms.get(term)?.share);
        share.map_or_else(String::new, |share| format!("{share:.4}"))
    })
}
