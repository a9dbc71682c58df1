//! Images that occur more than once: equal in every decoded pixel, whatever their files are called and however
//! they are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::summary::ImageSummary;
use super::{Finding, FindingKind, Labelled};
use crate::data::file_digest;

pub(super) fn find(images: &[(&Labelled<'_>, ImageSummary)]) -> Vec<Finding> {
    let mut same: BTreeMap<&str, Vec<&Labelled<'_>>> = BTreeMap::new();
    for (image, summary) in images {
        same.entry(&summary.picture).or_default().push(image);
    }
    let mut groups: Vec<_> = same.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_by_key(|group| group[0].path);
    groups.iter().map(|group| finding(group)).collect()
}

fn finding(group: &[&Labelled<'_>]) -> Finding {
    let paths: Vec<&Path> = group.iter().map(|image| image.path).collect();
    let labels: BTreeSet<_> = group.iter().map(|image| image.defect).collect();
    let parts: BTreeSet<_> = group.iter().map(|image| image.training).collect();
    let files = if same_bytes(&paths) {
        "the same file"
    } else {
        "the same pixels in different files"
    };
    let (kind, text) = if labels.len() > 1 {
        let names: Vec<_> = labels.iter().map(|label| label.unwrap_or("good")).collect();
        let text = format!("{files} as {}: one label is wrong", names.join(" and "));
        (FindingKind::Contradiction, text)
    } else if parts.len() > 1 {
        let text = format!("{files} to learn from and to test with: take it out of one part");
        (FindingKind::Leak, text)
    } else {
        let effect = if parts.contains(&true) {
            "training takes it once"
        } else {
            "a test counts it as often"
        };
        let text = format!("{files} {} times: {effect}", group.len());
        (FindingKind::Duplicate, text)
    };
    Finding::new(kind, text, &paths)
}

/// A file that cannot be read again is not the same.
fn same_bytes(paths: &[&Path]) -> bool {
    let digests: Result<BTreeSet<_>, _> = paths.iter().map(|path| file_digest(path)).collect();
    digests.is_ok_and(|digests| digests.len() == 1)
}
