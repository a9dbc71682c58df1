//! Images that were taken in different ways: mixtures, unused bits, test images unlike the images to learn from.

use std::path::Path;

use super::summary::ImageSummary;
use super::{Finding, FindingKind, Labelled};
use crate::data::{Acquisition, Acquisitions};

pub(super) fn find(
    images: &[(&Labelled<'_>, ImageSummary)],
    told_bits: Option<u8>,
) -> Vec<Finding> {
    let taken: Vec<Acquisition> = images
        .iter()
        .filter(|(image, _)| image.training)
        .map(|(_, summary)| summary.acquisition)
        .collect();
    let Some(learned) = Acquisitions::of(&taken, told_bits) else {
        return Vec::new();
    };
    let mixed = learned.warnings().into_iter();
    let mut findings: Vec<Finding> = mixed
        .map(|text| Finding::new(FindingKind::Mixed, text, &[]))
        .collect();
    let unlike: Vec<(&Path, Vec<String>)> = images
        .iter()
        .filter(|(image, _)| !image.training)
        .map(|(image, summary)| (image.path, learned.unlike(&summary.acquisition)))
        .filter(|(_, reasons)| !reasons.is_empty())
        .collect();
    if let Some((_, reasons)) = unlike.first() {
        let text = format!(
            "test images unlike the images to learn from, the first: {}",
            reasons.join("; ")
        );
        let paths: Vec<&Path> = unlike.iter().map(|(path, _)| *path).collect();
        findings.push(Finding::new(FindingKind::UnlikeTraining, text, &paths));
    }
    findings
}
