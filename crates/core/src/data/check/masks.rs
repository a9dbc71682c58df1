//! Masks: whether they are where they should be, can be read, fit, and mark something.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::summary::ImageSummary;
use super::{Finding, FindingKind, Labelled};
use crate::data::mask::MaskError;
use crate::data::{Dataset, DatasetError, TwoMasks};

/// What is wrong with the places of the masks.
pub(super) fn misplaced(dataset: &Dataset) -> Vec<Finding> {
    let mut findings: Vec<Finding> = dataset.two_masks.iter().map(two_masks).collect();
    let missing: Vec<&Path> = dataset.without_mask().map(|test| &*test.path).collect();
    let with_mask = dataset.test.iter().filter(|test| test.mask.is_some());
    if !missing.is_empty() && with_mask.count() == 0 {
        let text = "no defective image has a mask: only images are measured, not pixels";
        findings.push(Finding::new(FindingKind::NoMasks, text.to_owned(), &[]));
    } else if !missing.is_empty() {
        let text = format!(
            "{} without a mask{}: their pixels are not measured",
            images(missing.len()),
            nearest(dataset)
        );
        findings.push(Finding::new(FindingKind::MissingMask, text, &missing));
    }
    let strays: Vec<&Path> = dataset
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

fn two_masks(two: &TwoMasks) -> Finding {
    let text = DatasetError::TwoMasks(two.clone()).to_string();
    Finding::new(
        FindingKind::TwoMasks,
        text,
        &[&two.image, &two.first, &two.second],
    )
}

/// A mask without an image whose name begins as that of an image without a mask.
fn nearest(dataset: &Dataset) -> String {
    let begins = |mask: &&PathBuf, image: &Path| {
        let (mask, image) = (mask.file_stem(), image.file_stem());
        mask.zip(image).is_some_and(|(mask, image)| {
            let (mask, image) = (mask.to_string_lossy(), image.to_string_lossy());
            let rest = mask.strip_prefix(&*image);
            rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
        })
    };
    let masks = &dataset.masks_without_image;
    let found = dataset.without_mask().find_map(|test| {
        let mask = masks.iter().find(|mask| begins(mask, &test.path))?;
        Some((mask, test.path.file_stem()?))
    });
    found.map_or_else(String::new, |(mask, stem)| {
        let mut name = stem.to_os_string();
        name.push("_mask.png");
        format!(" (is {} meant? Call it {})", mask.display(), name.display())
    })
}

/// What is wrong with the masks of readable images.
pub(super) fn find(read: &[(&Labelled<'_>, ImageSummary)], threshold: u8) -> Vec<Finding> {
    let with_mask: Vec<_> = read
        .iter()
        .filter_map(|(image, summary)| Some((*image, summary.size, image.mask?)))
        .collect();
    let masks: Vec<_> = with_mask
        .par_iter()
        .map(|&(image, size, truth)| truth.read_for(threshold, image.path, size))
        .collect();
    let mut findings = Vec::new();
    let (mut grey, mut most): (Vec<&Path>, Vec<&Path>) = Default::default();
    for (&(image, _, truth), mask) in with_mask.iter().zip(masks) {
        let files: Vec<&Path> = truth.files().iter().map(PathBuf::as_path).collect();
        let mut found = |kind, text: String| findings.push(Finding::new(kind, text, &files));
        let mask = match mask {
            Ok(mask) => mask,
            Err(error @ MaskError::Size { .. }) => {
                found(FindingKind::MaskSize, error.to_string());
                continue;
            }
            Err(error) => {
                found(FindingKind::UnreadableMask, error.to_string());
                continue;
            }
        };
        if mask.grey_pixels() > 0 {
            grey.extend(&files);
        }
        match (image.defect, mask.is_blank()) {
            (Some(_), _) if mask.lies_in_alpha() => {
                let text = "the marks lie in the alpha channel, which is not read: save the mask as grey values";
                found(FindingKind::MaskInAlpha, text.to_owned());
            }
            (Some(kind), true) => {
                let text = format!(
                    "a mask of {kind} without a pixel above {threshold}: its image counts as defective, its pixels as good"
                );
                found(FindingKind::BlankMask, text);
            }
            (None, false) => {
                let text = "the mask of a good image marks a defect: is the image good?";
                found(FindingKind::MaskOfGoodImage, text.to_owned());
            }
            (Some(_), false) if mask.marked_share() >= 1.0 => {
                let text =
                    "a mask that marks every pixel: is it a palette or a picture of the part?";
                found(FindingKind::MaskOfEverything, text.to_owned());
            }
            (Some(_), false) if mask.marked_share() > 0.5 => most.extend(&files),
            _ => {}
        }
    }
    if !most.is_empty() {
        let text = format!(
            "{} more than half of their image: are black and white exchanged?",
            marking(most.len())
        );
        findings.push(Finding::new(FindingKind::MostlyMarked, text, &most));
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

fn marking(masks: usize) -> String {
    if masks == 1 {
        "1 mask marks".to_owned()
    } else {
        format!("{masks} masks mark")
    }
}

fn images(images: usize) -> String {
    if images == 1 {
        "1 defective image".to_owned()
    } else {
        format!("{images} defective images")
    }
}

fn count(masks: usize) -> String {
    if masks == 1 {
        "1 mask".to_string()
    } else {
        format!("{masks} masks")
    }
}
