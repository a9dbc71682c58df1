//! Images that are missing, that have no label, or that are passed over.

use std::path::{Path, PathBuf};

use super::{Finding, FindingKind};
use crate::data::{Dataset, Layout};

pub(super) fn find(dataset: &Dataset) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |kind, text: String, paths: &[PathBuf]| {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        findings.push(Finding::new(kind, text, &paths));
    };
    let passed_over = &dataset.passed_over;
    // A test part alone is enough to evaluate maps and models.
    if dataset.good.is_empty() && dataset.test.is_empty() {
        let text = "there is no image to learn from, and no labelled image to test with";
        let root = std::slice::from_ref(&dataset.root);
        found(FindingKind::NoImages, text.to_owned(), root);
    }
    if dataset.good.is_empty() && !dataset.test.is_empty() {
        let text = "there is no good image to learn from: training refuses this data set";
        found(FindingKind::NothingToLearn, text.to_owned(), &[]);
    }
    if dataset.is_called_bad() {
        let text = "the name of the folder says that its images are not good";
        let root = std::slice::from_ref(&dataset.root);
        found(FindingKind::CalledBad, text.to_owned(), root);
    }
    if !passed_over.unlabelled.is_empty() && dataset.layout != Layout::GoodImages {
        let text = "images without a label: put them into the folder of good images, or into the folder of their defect";
        found(
            FindingKind::NoLabel,
            text.to_owned(),
            &passed_over.unlabelled,
        );
    }
    let folders = passed_over
        .folders
        .iter()
        .filter(|folder| folder.images > 0);
    let folders: Vec<PathBuf> = folders.map(|folder| folder.path.clone()).collect();
    for (paths, text) in [
        (&folders, "folders with images that are not taken"),
        (
            &passed_over.unread_images,
            "images of formats that are not read: convert them to PNG",
        ),
        (
            &passed_over.label_images,
            "images whose names say that they are masks: they are not taken as images",
        ),
        (
            &passed_over.beside,
            "images beside the folders of images: they are not taken",
        ),
        (
            &passed_over.results,
            "images whose names say that they are results of an inspection: they are not taken as images",
        ),
        (
            &passed_over.defective,
            "defective images in the part to learn from: they are not learned",
        ),
    ] {
        if !paths.is_empty() {
            found(FindingKind::ImagesPassedOver, text.to_owned(), paths);
        }
    }
    findings
}
