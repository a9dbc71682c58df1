//! Masks: whether they are where they should be, can be read, fit, and mark something.

use std::path::Path;

use rayon::prelude::*;

use super::summary::ImageSummary;
use super::{Finding, FindingKind, Labelled};
use crate::data::mask::{Mask, MaskError};
use crate::data::{DatasetError, Survey};

/// What is wrong with the places of the masks.
pub(super) fn misplaced(survey: &Survey) -> Vec<Finding> {
    let mut findings: Vec<Finding> = survey.problems.iter().map(problem).collect();
    let strays: Vec<&Path> = survey
        .masks_without_image
        .iter()
        .map(|path| &**path)
        .collect();
    if !strays.is_empty() {
        let text = format!("{} without an image: is a name wrong?", count(strays.len()));
        findings.push(Finding::new(FindingKind::MaskWithoutImage, text, &strays));
    }
    findings
}

fn problem(problem: &DatasetError) -> Finding {
    let text = problem.to_string();
    match problem {
        DatasetError::TwoMasks {
            image,
            first,
            second,
        } => Finding::new(FindingKind::TwoMasks, text, &[image, first, second]),
        DatasetError::NoMask { image, .. } => {
            Finding::new(FindingKind::MissingMask, text, &[image])
        }
        _ => Finding::new(FindingKind::MissingMask, text, &[]),
    }
}

/// What is wrong with the masks of readable images.
pub(super) fn find(images: &[(&Labelled<'_>, ImageSummary)], threshold: u8) -> Vec<Finding> {
    let with_mask: Vec<_> = images
        .iter()
        .filter_map(|(image, summary)| Some((*image, summary.size, image.mask?)))
        .collect();
    let read: Vec<_> = with_mask
        .par_iter()
        .map(|&(image, size, path)| {
            let mask = Mask::read_for(path, threshold, image.path, size)?;
            Ok((mask.is_blank(), mask.grey_pixels() > 0))
        })
        .collect();
    let mut findings = Vec::new();
    let mut grey: Vec<&Path> = Vec::new();
    for (&(image, _, path), read) in with_mask.iter().zip(read) {
        let mut found = |kind, text| findings.push(Finding::new(kind, text, &[path]));
        match read {
            Err(error @ MaskError::Size { .. }) => found(FindingKind::MaskSize, error.to_string()),
            Err(error) => found(FindingKind::UnreadableMask, error.to_string()),
            Ok((blank, has_grey)) => {
                if has_grey {
                    grey.push(path);
                }
                match (image.defect, blank) {
                    (Some(kind), true) => {
                        let text = format!(
                            "a mask of {kind} without a pixel above {threshold}: its image counts as \
                             defective, its pixels as good"
                        );
                        found(FindingKind::BlankMask, text);
                    }
                    (None, false) => {
                        let text = "the mask of a good image marks a defect: is the image good?";
                        found(FindingKind::MaskOfGoodImage, text.to_string());
                    }
                    _ => {}
                }
            }
        }
    }
    if !grey.is_empty() {
        let text = format!(
            "{} with grey levels: pixels above {threshold} (of 255) count as defective; state this \
             threshold with every figure",
            count(grey.len())
        );
        findings.push(Finding::new(FindingKind::GreyMasks, text, &grey));
    }
    findings
}

fn count(masks: usize) -> String {
    if masks == 1 {
        "1 mask".to_string()
    } else {
        format!("{masks} masks")
    }
}
